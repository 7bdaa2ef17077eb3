//! `llamactl model rollback NAME [REVISION]`

use super::model_set::tell;
use crate::args::more;
use crate::complete::{model_names, revisions_of};
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::model::ModelRollback;

/// Restore an earlier revision of a model
///
/// Settings and file become what they were; name and aliases stay. Without a number the last
/// change is undone. This is a change like any other: a second rollback undoes it.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model rollback qwen3",
    "llamactl model history qwen3 && llamactl model rollback qwen3 3";
    "0 done, 3 no such model or revision, 4 changed by somebody else, 5 a setting refused by the present build, 6 daemon unreachable"
))]
pub(crate) struct Rollback {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// The revision; absent: the one before the present
    #[arg(add = revisions_of("rollback"))]
    revision: Option<i64>,
    /// Change only if the model is still at this revision
    #[arg(long, value_name = "N")]
    if_revision: Option<i64>,
}

/// Rolls a model back.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Rollback) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let params =
        ModelRollback { model: args.name.into(), to: args.revision, if_revision: args.if_revision };
    let changed = daemon.call(&params).await?;
    tell(output, &changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::model::Changed;

    #[test]
    fn what_going_back_came_to() {
        let with = |takes_effect_on_restart| Changed {
            changes: vec![],
            model: scene::model("qwen3"),
            changed: true,
            takes_effect_on_restart,
            notes: vec![],
        };
        assert_screen("model-rollback", |output| {
            tell(output, &with(false))?;
            tell(output, &with(true))
        });
    }
}
