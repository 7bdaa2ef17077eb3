//! `llamactl model remove NAME…`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::{Outcome, Quit, Tally};
use crate::output::Output;
use clap::Args;
use llamactl_protocol::model::ModelRemove;

/// Take models out of the registry
///
/// The files stay. A model whose server runs is refused unless --stop is given.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model remove qwen3",
    "llamactl model remove a b --stop";
    "0 done  3 no such model  4 its server runs  6 daemon unreachable"
))]
pub(crate) struct Remove {
    /// Models, by name or alias
    #[arg(required = true, value_name = "NAME", add = model_names())]
    names: Vec<String>,
    /// Stop the server first
    #[arg(long)]
    stop: bool,
}

/// Takes each model out of the registry; its files stay.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Remove) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let mut tally = Tally::default();
    for model in args.names {
        let removed = daemon.call(&ModelRemove { model, stop: args.stop }).await;
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
