//! `llamactl model set NAME key=value…`

use crate::args::more;
use crate::commands::restart::last_event;
use crate::commands::start::{Patience, bring_up};
use crate::complete::{assignments, model_names};
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::{Outcome, Tally};
use crate::output::Output;
use crate::remote;
use crate::settings;
use clap::Args;
use llamactl_protocol::defaults::DefaultsShow;
use llamactl_protocol::model::{Changed, Difference, ModelSet, SettingsChange};
use llamactl_protocol::options::{POLICY, Settings, change};
use llamactl_protocol::prose::listed;
use llamactl_protocol::server::ServerRestart;
use llamactl_protocol::{Failure, Hint, WirePath};
use std::ffi::OsString;

/// Change a model's settings
///
/// Keys are llama-server's own long flags; llamactl help settings lists them. Either all are
/// changed or none. After -- they are in llama-server's own spelling. A secret is given as
/// KEY=@FILE, KEY=- (stdin) or KEY=? (a prompt). A running server takes changes on restart.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model set qwen3 ctx-size=16384 gpu-layers=all temp=0.7",
    "llamactl model set qwen3 -- -ngl 99 -c 16384 --temp 0.7",
    "llamactl model set qwen3 port=auto --restart",
    "llamactl model set qwen3 api-key=generate && llamactl model key qwen3",
    "llamactl model set qwen3 hf-token=@$HOME/.hf-token env.CUDA_VISIBLE_DEVICES=1";
    "0 done, 2 not key=value, 3 no such model, 4 changed by somebody else, 5 a setting refused, 6 daemon unreachable, 7 timed out or 8 the server failed, with --restart"
))]
pub(crate) struct Set {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    #[command(flatten)]
    settings: Assignments,
    /// Change only if the model is still at this revision
    #[arg(long, value_name = "N")]
    if_revision: Option<i64>,
    /// Restart its server, if it runs with other settings, and wait until it is ready
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    patience: Patience,
}

/// Settings as they are typed: `key=value…`, or llama-server's flags behind `--`.
#[derive(Args, Debug)]
pub(crate) struct Assignments {
    /// Settings
    #[arg(
        required_unless_present = "arguments",
        value_name = "KEY=VALUE",
        allow_hyphen_values = false,
        add = assignments()
    )]
    settings: Vec<OsString>,
    /// Settings in llama-server's own spelling
    #[arg(last = true, value_name = "LLAMA-SERVER-FLAG")]
    arguments: Vec<OsString>,
}

impl Assignments {
    /// The change they ask for.
    ///
    /// # Errors
    /// As [`settings::parse`].
    pub(crate) fn change(&self) -> Result<SettingsChange, Failure> {
        let arguments: Vec<WirePath> = self.arguments.iter().map(WirePath::from).collect();
        Ok(SettingsChange {
            set: settings::parse(&self.settings)?.into(),
            directory: if arguments.is_empty() { None } else { remote::base()? },
            arguments: arguments.into(),
            ..SettingsChange::default()
        })
    }
}

/// Changes a model's settings in one step and says whether a restart is needed.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Set) -> Outcome {
    let change = SettingsChange { if_revision: args.if_revision, ..args.settings.change()? };
    let daemon = reach.daemon(Autostart::Always).await?;
    let changed = daemon.call(&ModelSet { model: args.name.into(), change }).await?;
    let is_open = output.for_people() && opens_a_port(&daemon, &changed).await?;
    if !args.restart {
        tell(output, &changed)?;
        if is_open {
            tell_it_is_open(output, &changed.model.name);
        }
        return Ok(());
    }
    let restarts = changed.takes_effect_on_restart;
    tell_change(output, &Changed { takes_effect_on_restart: false, ..changed.clone() })?;
    if restarts {
        return restart(output, &daemon, changed.model.name, &args.patience).await;
    }
    Ok(())
}

/// Whether it has a port from now on and asks for no key, where that was set just now.
async fn opens_a_port(daemon: &Daemon, changed: &Changed) -> Result<bool, Failure> {
    let is_set = |change: &Difference| change.key == "port" && change.to.is_some();
    let asks = |settings: &Settings| KEYS.iter().any(|key| settings.contains_key(*key));
    if !changed.changes.iter().any(is_set) || asks(&changed.model.settings) {
        return Ok(false);
    }
    Ok(!asks(&daemon.call(&DefaultsShow {}).await?.settings))
}

/// The settings of which one makes a server ask for a key.
const KEYS: [&str; 2] = ["api-key", "api-key-file"];

fn tell_it_is_open(output: &Output, name: &str) {
    output.note("no API key: every program on this machine can use the port");
    let generate = ["llamactl", "model", "set", name, "api-key=generate"];
    output.hint(&Hint::run("ask for one", generate));
}

async fn restart(
    output: &mut Output,
    daemon: &Daemon,
    model: String,
    patience: &Patience,
) -> Outcome {
    let deadline = patience.deadline();
    let stopped_after = last_event(daemon).await;
    let accepted =
        daemon.call(&ServerRestart { model: model.into(), set: Default::default() }).await?;
    let mut tally = Tally::default();
    bring_up(output, daemon, vec![accepted], patience, deadline, stopped_after, &mut tally).await?;
    tally.end()
}

/// Says what a change came to, and that a running server waits for a restart.
pub(crate) fn tell(output: &mut Output, changed: &Changed) -> Outcome {
    tell_change(output, changed)?;
    if changed.takes_effect_on_restart && output.for_people() {
        let name = &changed.model.name;
        let keys = changed.changes.iter().map(|change| change.key.as_str());
        let (now, later): (Vec<&str>, Vec<&str>) = keys.partition(|key| POLICY.contains(key));
        if !now.is_empty() && !later.is_empty() {
            let applies = if now.len() == 1 { "applies" } else { "apply" };
            let (now, later) = (listed(&now), listed(&later));
            output.note(format!("{now} {applies} now, {later} after a restart"));
        }
        output.hint(&Hint::run("apply it", ["llamactl", "restart", name]));
    }
    Ok(())
}

fn tell_change(output: &mut Output, changed: &Changed) -> Outcome {
    let name = &changed.model.name;
    if output.json {
        return output.json(changed);
    }
    if output.quiet {
        return output.names(changed.changed.then_some(name));
    }
    output.prose(0, line(changed))?;
    output.flush()?;
    changed.notes.iter().for_each(|note| output.note(note.as_str()));
    Ok(())
}

fn line(changed: &Changed) -> String {
    let Changed { model, changed, changes, .. } = changed;
    let what = match (changed, changes.as_slice()) {
        (false, _) => "nothing to change".to_owned(),
        (true, []) => "changed".to_owned(),
        (true, changes) => what(changes),
    };
    format!("{}: {what} (revision {})", model.name, model.revision)
}

/// `ctx-size 4096 → 8192, temp=0.7`
pub(super) fn what(changes: &[Difference]) -> String {
    let words = changes.iter().map(|it| change(&it.key, it.from.as_ref(), it.to.as_ref()));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;
    use serde_json::{Value, json};

    #[test]
    fn a_change_says_when_it_counts() {
        let with = |changed, takes_effect_on_restart, notes| Changed {
            model: scene::model("qwen3-8b"),
            changed,
            changes: vec![
                difference("ctx-size", Some(json!(8192)), Some(json!(16384))),
                difference("restart", None, Some(json!("always"))),
                difference("port", Some(json!("auto")), None),
                difference("autostart", None, Some(json!(true))),
            ],
            takes_effect_on_restart,
            notes,
        };
        let note = "the file /home/anna/chat.jinja is not there yet".to_owned();
        assert_screen("model-set", |output| {
            tell(output, &with(true, false, vec![note.clone()]))?;
            tell(output, &with(false, false, vec![]))?;
            tell(output, &with(true, true, vec![]))
        });
    }

    fn difference(key: &str, from: Option<Value>, to: Option<Value>) -> Difference {
        Difference { key: key.into(), from, to }
    }
}
