//! Completion: what the shell may offer.
//!
//! The shell runs `llamactl` again with a variable set and the line typed so far. Names come from
//! the daemon, settings from the catalogue. It never starts a daemon, never takes longer than a
//! person waits for a Tab, and says nothing when it fails.

use crate::args::Cli;
use crate::connection::{Autostart, Daemon, Reach, Silence, Told};
use clap::CommandFactory as _;
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use llamactl_protocol::Failure;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::model::ModelList;
use llamactl_protocol::options::{Group, Item, Setting, Values, catalogue, find};
use llamactl_protocol::runtime::RuntimeList;
use llamactl_protocol::series::SERIES;
use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::Duration;

/// The variable by which the shell's script asks. Not clap's `COMPLETE`, which may be set for
/// another reason.
pub(crate) const VARIABLE: &str = "LLAMACTL_COMPLETE";

/// How long the daemon may take to give names.
const LIMIT: Duration = Duration::from_millis(150);

/// Answers the shell, if it is the shell that asks.
pub(crate) fn answer_the_shell() -> Option<ExitCode> {
    std::env::var_os(VARIABLE)?;
    let answered = CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref());
    match answered {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        Err(_) => Some(ExitCode::FAILURE),
    }
}

/// Completes names and aliases of models.
pub(crate) fn model_names() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| starting_with(typed, ask(names).unwrap_or_default()))
}

/// Completes names of runtimes.
pub(crate) fn runtime_names() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| starting_with(typed, ask(runtimes).unwrap_or_default()))
}

/// Completes names of series: a whole scope, then each of it.
pub(crate) fn series() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let mut scopes: Vec<&str> = SERIES.iter().map(|series| series.scope().as_str()).collect();
        scopes.dedup();
        let scopes = scopes.into_iter().map(|scope| (scope, format!("All series of {scope}")));
        scopes
            .chain(SERIES.iter().map(|series| (series.name, series.help.to_owned())))
            .filter(|(name, _)| begins(name, typed))
            .map(|(name, about)| CompletionCandidate::new(name).help(Some(about.into())))
            .collect()
    })
}

/// Completes kinds of events: a whole group, then each of it.
pub(crate) fn event_kinds() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| kinds_for(typed))
}

fn kinds_for(typed: &OsStr) -> Vec<CompletionCandidate> {
    let mut groups: Vec<&str> =
        EventKind::ALL.iter().filter_map(|(_, kind, _)| kind.split('.').next()).collect();
    groups.dedup();
    let groups = groups.into_iter().map(|group| (group, format!("All events of {group}")));
    groups
        .chain(EventKind::ALL.iter().map(|(_, kind, about)| (*kind, (*about).to_owned())))
        .filter(|(kind, _)| begins(kind, typed))
        .map(|(kind, about)| CompletionCandidate::new(kind).help(Some(about.into())))
        .collect()
}

/// Completes `key=value`.
pub(crate) fn assignments() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| assignments_for(typed))
}

/// Completes groups of settings.
pub(crate) fn setting_groups() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let groups = Group::ALL.iter().filter(|group| begins(group.as_str(), typed));
        groups
            .map(|group| CompletionCandidate::new(group.as_str()).help(Some(group.about().into())))
            .collect()
    })
}

/// Completes what help can be asked about: `settings`, then groups and keys.
pub(crate) fn help_topics() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let groups = Group::ALL.iter().map(|group| (group.as_str(), group.about()));
        let keys = catalogue().map(|setting| (setting.key, setting.help));
        std::iter::once(("settings", "The settings, by group"))
            .chain(groups)
            .chain(keys)
            .filter(|(topic, _)| begins(topic, typed))
            .map(|(topic, about)| CompletionCandidate::new(topic).help(Some(about.into())))
            .collect()
    })
}

/// Completes keys of settings.
pub(crate) fn setting_keys() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        settable()
            .filter(|setting| begins(setting.key, typed))
            .map(|setting| CompletionCandidate::new(setting.key).help(Some(setting.help.into())))
            .collect()
    })
}

/// The settings that can be set.
fn settable() -> impl Iterator<Item = &'static Setting<'static>> {
    catalogue().filter(|setting| setting.refused.is_empty())
}

fn assignments_for(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let candidate = |text: String, help: &str| {
        CompletionCandidate::new(text).help(Some(help.to_owned().into()))
    };
    let Some((key, value)) = typed.split_once('=') else {
        return settable()
            .filter(|setting| setting.key.starts_with(typed))
            .map(|setting| candidate(format!("{}=", setting.key), setting.help))
            .collect();
    };
    let Ok(setting) = find(key, None) else { return Vec::new() };
    // Of a list, the last of its values is being typed.
    let (before, value) = match setting.values {
        Values::List { separator, .. } => {
            value.rsplit_once(separator).map_or((String::new(), value), |(before, last)| {
                (format!("{before}{separator}"), last)
            })
        }
        _ => (String::new(), value),
    };
    let mut offered = offered_values(&setting);
    offered.extend(asked_values(&setting));
    offered
        .into_iter()
        .filter(|offered| offered.starts_with(value))
        .map(|offered| candidate(format!("{key}={before}{offered}"), setting.help))
        .collect()
}

/// Values worth offering for a setting.
fn offered_values(setting: &Setting<'_>) -> Vec<String> {
    let words = match setting.values {
        Values::Integer { words, .. } | Values::Choice(words) => words,
        Values::List { of: Item::Word(words), .. } => words,
        _ => llamactl_protocol::options::NO_WORDS,
    };
    let mut values: Vec<String> = words.iter().map(str::to_owned).collect();
    match setting.values {
        Values::Switch => values.extend(["true", "false"].map(str::to_owned)),
        // Their names are those there are, and no example's.
        Values::List { .. } | Values::Runtime => {}
        _ if !setting.example.is_empty() => values.push(setting.example.to_owned()),
        _ => {}
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// Values of a setting that the daemon knows.
fn asked_values(setting: &Setting<'_>) -> Vec<String> {
    let asked = match setting.values {
        Values::Runtime => ask(runtimes),
        Values::List { of: Item::Device, .. } => ask(devices),
        _ => None,
    };
    asked.unwrap_or_default()
}

async fn runtimes(daemon: &Daemon) -> Result<Vec<String>, Failure> {
    let page = daemon.call(&RuntimeList::default()).await?;
    Ok(page.items.into_iter().map(|runtime| runtime.name).collect())
}

/// The devices of all runtimes.
async fn devices(daemon: &Daemon) -> Result<Vec<String>, Failure> {
    let page = daemon.call(&RuntimeList::default()).await?;
    let devices = page.items.into_iter().filter_map(|runtime| runtime.devices).flatten();
    let mut names: Vec<String> = devices.map(|device| device.name).collect();
    names.push("none".to_owned());
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

async fn names(daemon: &Daemon) -> Result<Vec<String>, Failure> {
    let page = daemon.call(&ModelList { limit: Some(200), after: None }).await?;
    Ok(page
        .items
        .into_iter()
        .flat_map(|model| std::iter::once(model.name).chain(model.aliases))
        .collect())
}

/// Asks a daemon that runs already; `None` when there is none or it is slow.
fn ask(question: impl AsyncFnOnce(&Daemon) -> Result<Vec<String>, Failure>) -> Option<Vec<String>> {
    let socket = std::env::var_os(llamactl_protocol::place::SOCKET_VARIABLE);
    let reach = Reach {
        socket: socket.filter(|socket| !socket.is_empty()).map(Into::into),
        no_autostart: true,
        silence: Silence::usual(Told::Nobody),
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().ok()?;
    runtime.block_on(async {
        let answer = async {
            let daemon = reach.daemon(Autostart::Never).await?;
            daemon.quietly();
            question(&daemon).await
        };
        tokio::time::timeout(LIMIT, answer).await.ok()?.ok()
    })
}

fn starting_with(typed: &OsStr, words: Vec<String>) -> Vec<CompletionCandidate> {
    words.into_iter().filter(|word| begins(word, typed)).map(CompletionCandidate::new).collect()
}

fn begins(word: &str, typed: &OsStr) -> bool {
    typed.to_str().is_some_and(|typed| word.starts_with(typed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(typed: &str) -> Vec<String> {
        assignments_for(OsStr::new(typed))
            .iter()
            .map(|candidate| candidate.get_value().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn keys_then_values() {
        assert_eq!(offered("ctx-s"), ["ctx-size="]);
        assert_eq!(offered("port="), ["port=auto"]);
        assert_eq!(offered("gpu-layers=a"), ["gpu-layers=all", "gpu-layers=auto"]);
        assert_eq!(offered("").len(), settable().count());
        assert!(offered("nonsense=").is_empty());
    }
}
