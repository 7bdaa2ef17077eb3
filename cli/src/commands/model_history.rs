//! `llamactl model history NAME`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::table::{Align, Cell, Column, Table};
use crate::output::time::Clock;
use clap::Args;
use llamactl_protocol::model::{ModelHistory, Revision};

/// List the changes of a model, newest first
///
/// Each change is a revision: when, who, and what it changed.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model history qwen3",
    "llamactl model history qwen3 -n 5",
    "llamactl model history qwen3 --json | jq -r 'select(.revision == 3) | .settings'";
    "0 done  3 no such model  6 daemon unreachable"
))]
pub(crate) struct History {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// At most this many
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
}

/// Lists revisions.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: History) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let wanted = args.limit.unwrap_or(usize::MAX);
    let mut revisions = Vec::new();
    let mut before = None;
    while revisions.len() < wanted {
        let history = ModelHistory { model: args.name.clone(), before, limit: Some(200) };
        let page = daemon.call(&history).await?;
        revisions.extend(page.items);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    revisions.truncate(wanted);
    if output.json {
        return output.json_lines(&revisions);
    }
    if output.quiet {
        return output.names(revisions.iter().map(|revision| revision.revision.to_string()));
    }
    output.table(&table(&revisions, &Clock::local()))
}

fn table(revisions: &[Revision], clock: &Clock) -> Table {
    let mut table = Table::new([
        Column("REVISION", Align::Right),
        Column("WHEN", Align::Left),
        Column("WHAT", Align::Left),
        Column("WHO", Align::Left),
    ]);
    for revision in revisions {
        table.row([
            Cell::from(revision.revision.to_string()),
            Cell::from(clock.full(revision.at_ms)),
            Cell::from(&revision.what),
            Cell::from(revision.by.to_string()),
        ]);
    }
    table
}
