//! `llamactl runtime use NAME`

use super::runtime_refresh::tell_refused;
use crate::args::more;
use crate::complete::runtime_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::runtime::{RuntimeUse, RuntimeUsed};

/// Make a build the default
///
/// Running servers change over on restart. system goes back to the llama-server that is found
/// without being told.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl runtime use cuda",
    "llamactl runtime use system";
    "0 done, 3 no such runtime, 5 it cannot be used, 6 daemon unreachable"
))]
pub(crate) struct Use {
    /// A runtime
    #[arg(add = runtime_names())]
    name: String,
}

/// Makes a runtime the default.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Use) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let used = daemon.call(&RuntimeUse { name: args.name.into() }).await?;
    tell(output, &used)
}

fn tell(output: &mut Output, used: &RuntimeUsed) -> Outcome {
    if output.json {
        return output.json(used);
    }
    let name = &used.runtime.name;
    if output.quiet {
        return output.names(used.changed.then_some(name));
    }
    output.told(if used.changed {
        format!("{name} is the default now; servers that run take it on restart")
    } else {
        format!("{name} was the default already")
    })?;
    tell_refused(output, name, &used.refused);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::runtime_list::tests::runtime;
    use super::*;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::runtime::RefusedSetting;
    use llamactl_protocol::{Failure, Kind};

    #[test]
    fn which_is_the_default_and_whom_it_does_not_serve() {
        let refused = RefusedSetting {
            model: "qwen3-8b".into(),
            key: "gamma".into(),
            failure: Failure::new(Kind::UnknownOption, "b10434 has no such option"),
        };
        let with = |changed, refused| RuntimeUsed { runtime: runtime("cuda"), changed, refused };
        assert_screen("runtime-use", |output| {
            tell(output, &with(true, vec![refused.clone()]))?;
            tell(output, &with(false, vec![]))
        });
    }
}
