//! `llamactl model remove NAME…`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::{Outcome, Quit, Tally};
use crate::output::Output;
use clap::Args;
use llamactl_protocol::model::ModelRemove;
use llamactl_protocol::{Failure, Hint, Kind};
use serde::Serialize;

/// Remove models; their files stay
///
/// The files stay. A model whose server runs is refused unless --stop is given.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model remove qwen3",
    "llamactl model remove a b --stop";
    "0 done, 3 no such model, 4 its server runs, 6 daemon unreachable"
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
        let remove = ModelRemove { model: model.clone().into(), stop: args.stop };
        let removed = daemon.call(&remove).await.map_err(|failure| refused(failure, &model));
        let Some(removed) = tally.take(output, removed.map_err(Quit::from))? else { continue };
        tell(output, &removed.name, &removed)?;
    }
    tally.end()
}

/// Of one that runs: the command that does both.
fn refused(failure: Failure, model: &str) -> Failure {
    if failure.kind != Kind::ModelRunning {
        return failure;
    }
    let both = ["llamactl", "model", "remove", model, "--stop"];
    Failure { hints: Hint::run("stop it first", both).into(), ..failure }
}

/// Says that something of this name is gone.
pub(crate) fn tell(output: &mut Output, name: &str, removed: &impl Serialize) -> Outcome {
    if output.json {
        output.json(removed)
    } else if output.quiet {
        output.names([name])
    } else {
        output.line(format!("removed {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn what_was_removed_and_what_was_not() {
        let running = Failure::new(Kind::ModelRunning, "the server of tiny is ready")
            .hint(Hint::run("stop it first", ["llamactl", "stop", "tiny"]));
        let refused = refused(running, "tiny");
        assert_screen("model-remove", |output| {
            tell(output, "qwen3", &())?;
            scene::told(output, refused.clone())
        });
    }
}
