//! `llamactl model history NAME`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::table::{Cell, Column, Table};
use crate::output::time::{Clock, now_ms};
use clap::Args;
use llamactl_protocol::model::{ModelHistory, Revision};

/// List the changes made to a model, newest first
///
/// Each change is a revision: when, who, and what it changed.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model history qwen3",
    "llamactl model history qwen3 -n 5",
    "llamactl model history qwen3 --json | jq -r 'select(.revision == 3) | .settings'";
    "0 done, 3 no such model, 6 daemon unreachable"
))]
pub(crate) struct History {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// At most this many
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
}

/// Prints the revisions of a model, page by page until there are enough.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: History) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let wanted = args.limit.unwrap_or(usize::MAX);
    let mut revisions = Vec::new();
    let mut before = None;
    while revisions.len() < wanted {
        let history = ModelHistory { model: args.name.clone().into(), before, limit: Some(200) };
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
    let now_ms = output.at_terminal().then(now_ms);
    output.table(&table(&revisions, &Clock::local(), now_ms))
}

/// `now_ms` where a moment of today is to be short.
fn table(revisions: &[Revision], clock: &Clock, now_ms: Option<i64>) -> Table {
    let mut table = Table::new([
        Column::number("REVISION", 0),
        Column::word("WHEN", 0),
        Column::prose("WHAT", 0),
        Column::text("BY", 1),
    ]);
    for revision in revisions {
        table.row([
            Cell::from(revision.revision.to_string()),
            Cell::from(match now_ms {
                Some(now_ms) => clock.of_day(revision.at_ms, now_ms),
                None => clock.full(revision.at_ms),
            }),
            Cell::from(&revision.what),
            // What was done stands in WHAT already.
            Cell::from(match now_ms {
                Some(_) => revision.by.user(),
                None => revision.by.to_string(),
            }),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_screen};

    #[test]
    fn the_newest_comes_first() {
        let revision = |revision: i64, command: &str, what: &str| Revision {
            revision,
            at_ms: NOW_MS - 3_600_000 * (10 - revision),
            by: scene::anna(command),
            what: what.into(),
            name: "qwen3-8b".into(),
            aliases: vec![],
            path: "/m.gguf".into(),
            settings: Default::default(),
        };
        let revisions = [
            revision(3, "llamactl model set qwen3-8b ctx-size=8192", "ctx-size=8192"),
            revision(2, "llamactl model set qwen3-8b port=auto temp=", "port=auto, temp unset"),
            revision(1, "llamactl model add /home/anna/models/qwen3-8b.gguf", ""),
        ];
        assert_screen("model-history", |output| {
            let now_ms = output.at_terminal().then_some(NOW_MS);
            output.table(&table(&revisions, &Clock::utc(), now_ms))
        });
    }
}
