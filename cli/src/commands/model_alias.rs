//! `llamactl model alias NAME [ADD…]`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::model::{Changed, Model, ModelAlias, ModelShow};

/// List, add or remove a model's aliases
///
/// Without names to add or remove it shows those there are.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model alias qwen3 default gpt-4o",
    "llamactl model alias qwen3 --remove gpt-4o",
    "llamactl model alias qwen3";
    "0 done, 3 no such model, 4 a name is taken, 5 no possible name, 6 daemon unreachable"
))]
pub(crate) struct Alias {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// Names to add
    #[arg(value_name = "ADD")]
    add: Vec<String>,
    /// A name to take away
    #[arg(long, value_name = "ALIAS", add = model_names())]
    remove: Vec<String>,
}

/// Shows or changes aliases.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Alias) -> Outcome {
    let Alias { name, add, remove } = args;
    if add.is_empty() && remove.is_empty() {
        let daemon = reach.daemon(Autostart::UnlessStopped).await?;
        let detail = daemon.call(&ModelShow { model: name.into(), ..ModelShow::default() }).await?;
        return show(output, &detail.model);
    }
    let daemon = reach.daemon(Autostart::Always).await?;
    let changed = daemon
        .call(&ModelAlias { model: name.into(), add: add.into(), remove: remove.into() })
        .await?;
    tell(output, &changed)
}

fn show(output: &mut Output, model: &Model) -> Outcome {
    if output.json { output.json(model) } else { output.names(&model.aliases) }
}

fn tell(output: &mut Output, changed: &Changed) -> Outcome {
    if output.json {
        output.json(changed)
    } else if output.quiet {
        output.names(&changed.model.aliases)
    } else {
        output.line(line(&changed.model))
    }
}

fn line(model: &Model) -> String {
    match model.aliases.as_slice() {
        [] => format!("{} has no aliases", model.name),
        aliases => format!("{} is also {}", model.name, aliases.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn the_names_there_are_and_what_became_of_them() {
        let with = |aliases: &[&str]| {
            let mut model = scene::model("qwen3");
            model.aliases = aliases.iter().map(|&alias| alias.to_owned()).collect();
            Changed {
                model,
                changed: true,
                changes: vec![],
                takes_effect_on_restart: false,
                notes: vec![],
            }
        };
        let (some, none) = (with(&["default", "gpt-4o"]), with(&[]));
        assert_screen("model-alias", |output| {
            show(output, &some.model)?;
            tell(output, &some)?;
            tell(output, &none)
        });
    }
}
