//! `llamactl runtime remove NAME…`

use crate::args::more;
use crate::complete::runtime_names;
use crate::connection::{Autostart, Reach};
use crate::exit::{Outcome, Quit, Tally};
use crate::output::Output;
use clap::Args;
use llamactl_protocol::runtime::RuntimeRemove;

/// Take runtimes out of the registry
///
/// The files stay, and servers that run on them run on. One that a model, the defaults or
/// everything that names no other uses is refused.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl runtime remove cuda",
    "llamactl runtime remove b10433 b10434";
    "0 done  3 no such runtime  4 something uses it  5 it cannot be removed  6 daemon unreachable"
))]
pub(crate) struct Remove {
    /// Runtimes
    #[arg(required = true, value_name = "NAME", add = runtime_names())]
    names: Vec<String>,
}

/// Takes each runtime out of the registry; its files stay.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Remove) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let mut tally = Tally::default();
    for name in args.names {
        let removed = daemon.call(&RuntimeRemove { name }).await;
        let Some(removed) = tally.take(output, removed.map_err(Quit::from))? else { continue };
        if output.json {
            output.json(&removed)?;
        } else if output.quiet {
            output.names([&removed.name])?;
        } else {
            output.line(format!("removed {}", removed.name))?;
        }
    }
    tally.end()
}
