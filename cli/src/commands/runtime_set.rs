//! `llamactl runtime set NAME env.NAME=value…`

use crate::args::more;
use crate::complete::runtime_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::settings;
use clap::Args;
use llamactl_protocol::runtime::{RuntimeChanged, RuntimeSet};

/// Set environment variables of a build's servers
///
/// They hold for every model that uses the runtime; running servers take them on restart.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl runtime set cuda env.CUDA_VISIBLE_DEVICES=0,1",
    "llamactl runtime set vulkan env.GGML_VK_VISIBLE_DEVICES=0";
    "0 done, 2 not env.NAME=VALUE, 3 no such runtime, 4 changed by somebody else, 5 a variable refused, 6 daemon unreachable"
))]
pub(crate) struct Set {
    /// A runtime
    #[arg(add = runtime_names())]
    name: String,
    /// Variables
    #[arg(required = true, value_name = "env.NAME=VALUE", allow_hyphen_values = false)]
    settings: Vec<String>,
    /// Change only if the runtime is still at this revision
    #[arg(long, value_name = "N")]
    if_revision: Option<i64>,
}

/// Sets variables for the servers of a runtime.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Set) -> Outcome {
    let set = settings::parse(&args.settings)?;
    let daemon = reach.daemon(Autostart::Always).await?;
    let params = RuntimeSet {
        name: args.name.into(),
        set: set.into(),
        unset: Default::default(),
        if_revision: args.if_revision,
    };
    let changed = daemon.call(&params).await?;
    tell(output, &changed)
}

/// Says what a change came to.
pub(crate) fn tell(output: &mut Output, changed: &RuntimeChanged) -> Outcome {
    let name = &changed.runtime.name;
    changed.notes.iter().for_each(|note| output.note(note.as_str()));
    if output.json {
        return output.json(changed);
    }
    if output.quiet {
        return output.names(changed.changed.then_some(name));
    }
    output.line(if changed.changed {
        format!("{name} changed; its servers take it on restart")
    } else {
        format!("{name} was like this already")
    })
}

#[cfg(test)]
mod tests {
    use super::super::runtime_list::tests::runtime;
    use super::*;
    use crate::output::screen::assert_screen;

    #[test]
    fn what_a_change_came_to() {
        let with = |changed| RuntimeChanged { runtime: runtime("cuda"), changed, notes: vec![] };
        assert_screen("runtime-set", |output| {
            tell(output, &with(true))?;
            tell(output, &with(false))
        });
    }
}
