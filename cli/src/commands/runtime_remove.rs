//! `llamactl runtime remove NAME…`

use super::model_remove::tell;
use crate::args::more;
use crate::complete::runtime_names;
use crate::connection::{Autostart, Reach};
use crate::exit::{Outcome, Quit, Tally};
use crate::output::Output;
use clap::Args;
use llamactl_protocol::runtime::RuntimeRemove;

/// Remove builds; their files stay
///
/// The files stay, and servers that run on them run on. One that a model, the defaults or
/// everything that names no other uses is refused.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl runtime remove cuda",
    "llamactl runtime remove b10433 b10434";
    "0 done, 3 no such runtime, 4 something uses it, 5 it cannot be removed, 6 daemon unreachable"
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
        let removed = daemon.call(&RuntimeRemove { name: name.into() }).await;
        let Some(removed) = tally.take(output, removed.map_err(Quit::from))? else { continue };
        tell(output, &removed.name, &removed)?;
    }
    tally.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::{Failure, Hint, Kind};

    #[test]
    fn what_was_removed_and_what_was_not() {
        let refused = Failure::new(Kind::RuntimeInUse, "qwen3 uses the runtime b10434").hint(
            Hint::run("let it use another", ["llamactl", "model", "unset", "qwen3", "runtime"]),
        );
        assert_screen("runtime-remove", |output| {
            tell(output, "b10433", &())?;
            scene::told(output, refused.clone())
        });
    }
}
