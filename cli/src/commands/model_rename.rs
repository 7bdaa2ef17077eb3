//! `llamactl model rename NAME NEW`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::model::{Changed, ModelRename};

/// Rename a model
///
/// Its settings, logs and history stay.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model rename qwen3 qwen3:8b";
    "0 done, 3 no such model, 4 the name is taken, 5 no possible name, 6 daemon unreachable"
))]
pub(crate) struct Rename {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// The new name
    new: String,
}

/// Renames a model.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Rename) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let changed =
        daemon.call(&ModelRename { model: args.name.clone().into(), to: args.new.into() }).await?;
    tell(output, &args.name, &changed)
}

fn tell(output: &mut Output, before: &str, changed: &Changed) -> Outcome {
    let name = &changed.model.name;
    if output.json {
        output.json(changed)
    } else if output.quiet {
        output.names([name])
    } else if changed.changed {
        output.told(format!("{before} is now {name}"))
    } else {
        output.told(format!("{name} has this name already"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn what_a_model_is_called_now() {
        let with = |changed| Changed {
            changes: vec![],
            model: scene::model("qwen3:8b"),
            changed,
            takes_effect_on_restart: false,
            notes: vec![],
        };
        assert_screen("model-rename", |output| {
            tell(output, "qwen3", &with(true))?;
            tell(output, "qwen3:8b", &with(false))
        });
    }
}
