//! Completion: what the shell may offer.
//!
//! ```text
//!   LLAMACTL_COMPLETE=zsh llamactl -- llamactl model set qw     the line up to the cursor
//!   qwen3:8b ─╴TAB╶─ ready, 8.2B Q4_K_M                         a word, and what it is
//!   ─╴TAB╶─ files ─╴TAB╶─ path=                                 files: the shell finds them, behind this
//! ```
//!
//! The scripts are in `commands/completions.*`. Names come from the daemon, settings from the
//! catalogue. It never starts a daemon, never takes longer than a person waits for a Tab, and says
//! nothing when it fails. Files are the shell's: it knows `~`, variables and quotes.

mod behind;

use crate::args::Cli;
use crate::connection::{AtOnce, Autostart, Daemon, Reach, Silence, Told, carry_out, within};
use crate::output::{stdout::stdout, units};
use crate::pages;
use crate::remote::{self, Host};
pub(crate) use behind::{methods, revisions_of};
use clap::CommandFactory as _;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, complete};
use llamactl_protocol::Failure;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{Group, Item, Setting, VARIABLE_PREFIX, Values, catalogue, find};
use llamactl_protocol::runtime::RuntimeEntry;
use llamactl_protocol::series::SERIES;
use llamactl_protocol::server::{Server, State};
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

/// The variable by which the shell's script asks. Not clap's `COMPLETE`, which may be set for
/// another reason.
pub(crate) const VARIABLE: &str = "LLAMACTL_COMPLETE";

/// How long the daemon may take to give names.
const LIMIT: Duration = Duration::from_millis(150);

/// The ids of candidates that stand for files; what is left of the word is what stands before them.
const FILES: [&str; 2] = ["files", "directories"];

/// Answers the shell, if it is the shell that asks.
pub(crate) fn answer_the_shell() -> Option<ExitCode> {
    std::env::var_os(VARIABLE)?;
    let mut words = std::env::args_os().skip(1);
    // A command that a person runs with the variable set is carried out.
    words.next().filter(|word| word == "--")?;
    let answered = answer(words.collect());
    // The shell may have gone; there is nobody to tell.
    Some(match stdout().write_all(&answered) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// What may stand in place of the last of these words, a line each.
fn answer(words: Vec<OsString>) -> Vec<u8> {
    let Some(last) = words.len().checked_sub(1) else { return Vec::new() };
    let is_begun = words.last().is_some_and(|word| !word.is_empty());
    let mut offered = match behind::of_llama_server(&words) {
        Some(offered) => offered,
        None => complete(&mut Cli::command(), words, last, None).unwrap_or_default(),
    };
    // Names and files are not to be looked for between options.
    let is_option =
        |candidate: &CompletionCandidate| candidate.get_value().as_bytes().starts_with(b"-");
    if !is_begun && !offered.iter().all(is_option) {
        offered.retain(|candidate| !is_option(candidate));
    }
    let mut lines = Vec::new();
    for candidate in &offered {
        let (value, id) = (candidate.get_value().as_bytes(), candidate.get_id());
        let files = id.and_then(|id| FILES.iter().find(|known| *known == id));
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.lines().next().unwrap_or_default();
        let line = match files {
            Some(files) => [b"", files.as_bytes(), value].join(&b'\t'),
            None => [value, help.as_bytes()].join(&b'\t'),
        };
        lines.extend(line);
        lines.push(b'\n');
    }
    lines
}

/// Completes paths of files of this machine.
pub(crate) fn files_here() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| files_unless_option(typed, FILES[0]))
}

/// Completes paths of files; of another machine, where that is named, none.
pub(crate) fn files() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| files_for(typed, FILES[0]))
}

/// Completes paths of directories, likewise.
pub(crate) fn directories() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| files_for(typed, FILES[1]))
}

/// Completes paths of files, and settings.
pub(crate) fn files_and_assignments() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let mut offered = assignments_for(typed);
        if offered.is_empty() || typed.is_empty() {
            offered.extend(files_for(typed, FILES[0]));
        }
        offered
    })
}

/// Stands for files of the daemon's machine, if that is this one.
fn files_for(typed: &OsStr, which: &str) -> Vec<CompletionCandidate> {
    match remote::typed() {
        Some(_) => Vec::new(),
        None => files_unless_option(typed, which),
    }
}

/// Stands for files, unless an option is being typed.
fn files_unless_option(typed: &OsStr, which: &str) -> Vec<CompletionCandidate> {
    let is_option = typed.as_bytes().starts_with(b"-");
    (!is_option).then(|| files_behind("", which)).into_iter().collect()
}

/// Stands for the files whose paths may follow this part of the word.
fn files_behind(before: &str, which: &str) -> CompletionCandidate {
    CompletionCandidate::new(before).id(Some(which.to_owned()))
}

/// Completes names and aliases of models.
pub(crate) fn model_names() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| named(typed, ask(models)))
}

/// Completes names of models whose servers run, or are to.
pub(crate) fn running_models() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| named(typed, ask(running)))
}

/// Completes names of runtimes.
pub(crate) fn runtime_names() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| named(typed, ask(runtimes)))
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
        CompletionCandidate::new(text).help((!help.is_empty()).then(|| help.to_owned().into()))
    };
    let Some((key, value)) = typed.split_once('=') else {
        let variable = (VARIABLE_PREFIX.to_owned(), "A variable of the server's environment");
        return settable()
            .map(|setting| (format!("{}=", setting.key), setting.help))
            .chain(std::iter::once(variable))
            .filter(|(key, _)| key.starts_with(typed))
            .map(|(key, help)| candidate(key, help))
            .collect();
    };
    let Ok(setting) = find(key, None) else { return Vec::new() };
    if value.starts_with('@') && (setting.is_secret() || key.starts_with(VARIABLE_PREFIX)) {
        return vec![files_behind(&format!("{key}=@"), FILES[0])];
    }
    // Of a list, the last of its values is being typed.
    let (before, value) = match setting.values {
        Values::List { separator, .. } => {
            value.rsplit_once(separator).map_or((String::new(), value), |(before, last)| {
                (format!("{before}{separator}"), last)
            })
        }
        _ => (String::new(), value),
    };
    if setting.takes_path() && remote::typed().is_some() {
        return Vec::new();
    }
    if setting.takes_path() {
        let is_directory = matches!(setting.values, Values::Directory);
        return vec![files_behind(&format!("{key}={before}"), FILES[usize::from(is_directory)])];
    }
    let mut offered = offered_values(&setting);
    offered.extend(asked_values(&setting).unwrap_or_default());
    offered
        .into_iter()
        .filter(|(offered, _)| offered.starts_with(value))
        .map(|(offered, help)| candidate(format!("{key}={before}{offered}"), &help))
        .collect()
}

/// A word, and what it is.
type Word = (String, String);

/// Values worth offering for a setting.
fn offered_values(setting: &Setting<'_>) -> Vec<Word> {
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
    values.into_iter().map(|value| (value, setting.help.to_owned())).collect()
}

/// Values of a setting that the daemon knows.
fn asked_values(setting: &Setting<'_>) -> Option<Vec<Word>> {
    match setting.values {
        Values::Runtime => ask(runtimes),
        Values::List { of: Item::Device, .. } => ask(devices),
        _ => None,
    }
}

async fn runtimes(daemon: &Daemon) -> Result<Vec<Word>, Failure> {
    let about = |runtime: &RuntimeEntry| {
        let default = runtime.is_default.then(|| "the default".to_owned());
        listed([runtime.version.clone(), default])
    };
    let runtimes = pages::runtimes(daemon).await?;
    Ok(runtimes.into_iter().map(|runtime| (runtime.name.clone(), about(&runtime))).collect())
}

/// The devices of all runtimes.
async fn devices(daemon: &Daemon) -> Result<Vec<Word>, Failure> {
    let runtimes = pages::runtimes(daemon).await?;
    let devices = runtimes.into_iter().filter_map(|runtime| runtime.devices).flatten();
    let mut words: Vec<Word> = devices.map(|device| (device.name, device.description)).collect();
    words.push(("none".to_owned(), "Nothing is offloaded".to_owned()));
    words.sort_unstable();
    words.dedup_by(|one, other| one.0 == other.0);
    Ok(words)
}

async fn models(daemon: &Daemon) -> Result<Vec<Word>, Failure> {
    let (models, servers) = tokio::join!(pages::models(daemon), pages::servers(daemon, true));
    let servers = servers.map(|list| list.servers).unwrap_or_default();
    Ok(models?.iter().flat_map(|model| words_of(model, &servers)).collect())
}

async fn running(daemon: &Daemon) -> Result<Vec<Word>, Failure> {
    let (models, servers) = tokio::join!(pages::models(daemon), pages::servers(daemon, false));
    let mut servers = servers?.servers;
    servers.retain(|server| !matches!(server.state, State::Stopped | State::Failed));
    let runs = |model: &&Model| servers.iter().any(|server| server.model_id == model.id);
    Ok(models?.iter().filter(runs).flat_map(|model| words_of(model, &servers)).collect())
}

/// The name of a model with what it is, and its aliases.
fn words_of(model: &Model, servers: &[Server]) -> Vec<Word> {
    let server = servers.iter().find(|server| server.model_id == model.id);
    let file = [model.file.parameters.map(units::count), model.file.quantization.clone()];
    let file: Vec<String> = file.into_iter().flatten().collect();
    let file = (!file.is_empty()).then(|| file.join(" "));
    let about = listed([server.map(|server| server.state.as_str().to_owned()), file]);
    let aliases =
        model.aliases.iter().map(|alias| (alias.clone(), format!("alias of {}", model.name)));
    std::iter::once((model.name.clone(), about)).chain(aliases).collect()
}

/// What is known of a word.
fn listed<const N: usize>(facts: [Option<String>; N]) -> String {
    facts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Asks a daemon that runs already; `None` when there is none or it is slow.
fn ask(question: impl AsyncFnOnce(&Daemon) -> Result<Vec<Word>, Failure>) -> Option<Vec<Word>> {
    let socket = std::env::var_os(llamactl_protocol::place::SOCKET_VARIABLE);
    let host = match remote::typed() {
        Some(typed) => Some(Host::of(typed.to_str()?, true).ok()?.hurried()),
        None => None,
    };
    let reach = Reach {
        host: host.map(Rc::new),
        socket: socket.filter(|socket| !socket.is_empty()).map(Into::into),
        no_autostart: true,
        silence: Silence::usual(Told::Nobody),
        at_once: AtOnce::default(),
    };
    let answer = async {
        let daemon = reach.daemon(Autostart::Never).await?;
        daemon.quietly();
        question(&daemon).await
    };
    carry_out(&reach.at_once, within(LIMIT, answer)).ok()??.ok()
}

fn named(typed: &OsStr, words: Option<Vec<Word>>) -> Vec<CompletionCandidate> {
    words
        .unwrap_or_default()
        .into_iter()
        .filter(|(word, _)| begins(word, typed))
        .map(|(word, about)| {
            CompletionCandidate::new(word).help((!about.is_empty()).then(|| about.into()))
        })
        .collect()
}

fn begins(word: &str, typed: &OsStr) -> bool {
    typed.to_str().is_some_and(|typed| word.starts_with(typed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueHint;

    fn offered(typed: &str) -> Vec<String> {
        assignments_for(OsStr::new(typed))
            .iter()
            .map(|candidate| candidate.get_value().to_string_lossy().into_owned())
            .collect()
    }

    fn answered(line: &str) -> String {
        String::from_utf8(answer(line.split(' ').map(OsString::from).collect())).unwrap()
    }

    #[test]
    fn keys_then_values() {
        assert_eq!(offered("ctx-s"), ["ctx-size="]);
        assert_eq!(offered("env"), ["env."]);
        assert_eq!(offered("port="), ["port=auto"]);
        assert_eq!(offered("gpu-layers=a"), ["gpu-layers=all", "gpu-layers=auto"]);
        assert_eq!(offered("").len(), settable().count() + 1);
        assert!(offered("nonsense=").is_empty());
    }

    #[test]
    fn files_are_left_to_the_shell_with_what_stands_before_them() {
        assert_eq!(answered("llamactl model add ~/m"), "\tfiles\t\n");
        assert_eq!(answered("llamactl model scan "), "\tdirectories\t\n");
        assert!(answered("llamactl model scan --ad").starts_with("--add\t"));
        assert_eq!(answered("llamactl model copy a b --path=x"), "\tfiles\t--path=\n");
        assert_eq!(answered("llamactl model set m path=~/x"), "\tfiles\tpath=\n");
        assert_eq!(answered("llamactl model set m lora=a,b"), "\tfiles\tlora=a,\n");
        assert_eq!(answered("llamactl model set m api-key=@k"), "\tfiles\tapi-key=@\n");
        assert_eq!(
            answered("llamactl model add m.gguf ctx-si"),
            "ctx-size=\tContext size, which the slots share; 0 takes the model's own\n"
        );
    }

    #[test]
    fn every_path_is_completed_by_the_shell() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let is_path = matches!(
                    argument.get_value_hint(),
                    ValueHint::AnyPath
                        | ValueHint::FilePath
                        | ValueHint::DirPath
                        | ValueHint::ExecutablePath
                );
                let completer = argument.get::<ArgValueCompleter>();
                assert!(!is_path || completer.is_some(), "{}: {argument}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        check(&command);
    }
}
