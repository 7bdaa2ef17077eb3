//! `llamactl defaults set key=value…`

use super::model_set::Assignments;
use super::model_set::what;
use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::Hint;
use llamactl_protocol::defaults::{DefaultsChanged, DefaultsSet};
use llamactl_protocol::model::SettingsChange;

/// Change settings for all models
///
/// They hold for every model that does not set the same key itself.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl defaults set ctx-size=8192 port=auto",
    "llamactl defaults set -- -ngl 99 -fa on";
    "0 done, 2 not key=value, 4 changed by somebody else, 5 a setting refused, 6 daemon unreachable"
))]
pub(crate) struct Set {
    #[command(flatten)]
    settings: Assignments,
    /// Change only if the defaults are still at this revision
    #[arg(long, value_name = "N")]
    if_revision: Option<i64>,
}

/// Changes the settings for all models in one step and says whose server must be restarted.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Set) -> Outcome {
    let change = SettingsChange { if_revision: args.if_revision, ..args.settings.change()? };
    let daemon = reach.daemon(Autostart::Always).await?;
    let changed = daemon.call(&DefaultsSet { change }).await?;
    tell(output, &changed)
}

/// Says what a change came to.
pub(crate) fn tell(output: &mut Output, changed: &DefaultsChanged) -> Outcome {
    if output.json {
        return output.json(changed);
    }
    if output.quiet {
        return Ok(());
    }
    output.line(match changed.changed {
        true => {
            let what = what(&changed.changes);
            format!("defaults: {what} (revision {})", changed.defaults.revision)
        }
        false => format!("defaults: nothing to change (revision {})", changed.defaults.revision),
    })?;
    changed.notes.iter().for_each(|note| output.note(note.as_str()));
    let waiting = &changed.takes_effect_on_restart;
    if !waiting.is_empty() {
        let argv = ["llamactl", "restart"].map(str::to_owned).into_iter();
        let hint = "apply it to the servers that run";
        output.hint(&Hint::run(hint, argv.chain(waiting.iter().cloned())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::defaults::Defaults;
    use llamactl_protocol::model::Difference;

    #[test]
    fn whose_server_must_be_restarted_is_said() {
        let with = |changed, takes_effect_on_restart: &[&str]| DefaultsChanged {
            defaults: Defaults { revision: 4, ..Defaults::default() },
            changed,
            changes: vec![Difference { key: "threads".into(), from: None, to: Some(8.into()) }],
            takes_effect_on_restart: takes_effect_on_restart
                .iter()
                .map(ToString::to_string)
                .collect(),
            notes: vec![],
        };
        assert_screen("defaults-set", |output| {
            tell(output, &with(true, &[]))?;
            tell(output, &with(false, &[]))?;
            tell(output, &with(true, &["gemma", "qwen3-8b"]))
        });
    }
}
