//! `llamactl model set NAME key=value…`

use crate::args::more;
use crate::complete::{assignments, model_names};
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::settings;
use clap::Args;
use llamactl_protocol::model::{Changed, ModelSet};

/// Change settings of a model
///
/// Keys are llama-server's own long flags. A running server takes them on restart.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model set qwen3 ctx-size=16384 gpu-layers=all",
    "llamactl model set qwen3 port=auto && llamactl restart qwen3",
    "llamactl model set qwen3 extra-args='--temp 0.2 --jinja'";
    "0 done  2 not key=value  3 no such model  4 changed by somebody else  5 a setting refused  6 daemon unreachable"
))]
pub(crate) struct Set {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// Settings
    #[arg(required = true, value_name = "KEY=VALUE", allow_hyphen_values = false, add = assignments())]
    settings: Vec<String>,
    /// Change only if the model is still at this revision
    #[arg(long, value_name = "N")]
    if_revision: Option<i64>,
}

/// Changes settings.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Set) -> Outcome {
    let set = settings::parse(&args.settings)?;
    let daemon = reach.daemon(Autostart::Always).await?;
    let params = ModelSet { model: args.name, set, unset: vec![], if_revision: args.if_revision };
    let changed = daemon.call(&params).await?;
    tell(output, &changed)
}

/// Says what a change came to.
pub(crate) fn tell(output: &mut Output, changed: &Changed) -> Outcome {
    let name = &changed.model.name;
    if output.json {
        return output.json(changed);
    }
    if output.quiet {
        return output.names(changed.changed.then_some(name));
    }
    output.line(line(changed))?;
    if changed.takes_effect_on_restart {
        output.hint(&format!("its server still has the old settings: llamactl restart {name}"));
    }
    Ok(())
}

fn line(changed: &Changed) -> String {
    let Changed { model, changed, takes_effect_on_restart } = changed;
    match (changed, takes_effect_on_restart) {
        (false, _) => format!("{} was like this already", model.name),
        (true, false) => format!("{} changed (revision {})", model.name, model.revision),
        (true, true) => {
            format!("{} changed (revision {}); takes effect on restart", model.name, model.revision)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::model_list::tests::model;

    #[test]
    fn a_change_says_when_it_counts() {
        let told = |changed, takes_effect_on_restart| {
            line(&Changed { model: model("m"), changed, takes_effect_on_restart })
        };
        assert_eq!(told(true, false), "m changed (revision 3)");
        assert_eq!(told(true, true), "m changed (revision 3); takes effect on restart");
        assert_eq!(told(false, false), "m was like this already");
    }
}
