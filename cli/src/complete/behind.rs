//! What is offered for a word depends on those before it: revisions of the model that is named, and
//! llama-server's own arguments behind `--`.

use super::{Word, ask, asked_values, files_behind, listed, named, offered_values, settable};
use crate::args::Cli;
use crate::connection::Daemon;
use crate::output::time::Clock;
use crate::remote;
use clap::{Arg, CommandFactory as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use llamactl_protocol::Failure;
use llamactl_protocol::model::ModelHistory;
use llamactl_protocol::options::{Setting, Values, find};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};

/// So many revisions are offered, the newest.
const REVISIONS: u32 = 50;

/// Completes revisions of the model that is named behind this verb, the newest first.
pub(crate) fn revisions_of(verb: &'static str) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let words = std::env::args_os().skip_while(|word| word != verb).skip(1);
        let mut names = words.filter(|word| !word.as_encoded_bytes().starts_with(b"-"));
        let model = names.next().and_then(|word| word.into_string().ok()).unwrap_or_default();
        named(typed, ask(async |daemon| revisions(daemon, model).await))
    })
}

async fn revisions(daemon: &Daemon, model: String) -> Result<Vec<Word>, Failure> {
    let history = ModelHistory { model: model.into(), before: None, limit: Some(REVISIONS) };
    let clock = Clock::local();
    let page = daemon.call(&history).await?;
    let word = |it: llamactl_protocol::model::Revision| {
        let what = Some(it.what).filter(|what| !what.is_empty());
        (it.revision.to_string(), listed([Some(clock.full(it.at_ms)), what]))
    };
    Ok(page.items.into_iter().map(word).collect())
}

/// Completes methods of the daemon's API, as the daemon that runs has them.
pub(crate) fn methods() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| named(typed, ask(discovered)))
}

async fn discovered(daemon: &Daemon) -> Result<Vec<Word>, Failure> {
    let described = daemon.call_raw("rpc.discover", &json!({})).await?;
    let text = |method: &Value, key: &str| method[key].as_str().unwrap_or_default().to_owned();
    let methods = described["methods"].as_array().into_iter().flatten();
    let words = methods.map(|method| (text(method, "name"), text(method, "summary")));
    // A stream ends with its connection, which is this command's.
    Ok(words.filter(|(name, _)| !name.ends_with(".unfollow")).collect())
}

/// What may stand in place of the last of these words, where `--` is before it and what follows that is
/// llama-server's.
pub(super) fn of_llama_server(words: &[OsString]) -> Option<Vec<CompletionCandidate>> {
    let (typed, before) = words.split_last()?;
    let at = before.iter().position(|word| word == "--")?;
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    for word in before.get(..at)? {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    command.get_arguments().any(Arg::is_last_set).then_some(())?;
    let typed = typed.to_str()?;
    // The value of the flag before, if that takes one.
    let flag = before.get(at + 1..)?.last().and_then(|flag| flag.to_str());
    let is_flag = |flag: &&str| flag.starts_with('-');
    let of_flag = flag.filter(is_flag).and_then(|flag| find(flag, None).ok());
    Some(match of_flag.filter(Setting::takes_argument) {
        Some(setting) if setting.takes_path() => match remote::typed() {
            Some(_) => vec![],
            None => vec![files_behind(
                "",
                super::FILES[usize::from(matches!(setting.values, Values::Directory))],
            )],
        },
        Some(setting) => {
            let mut values = offered_values(&setting);
            values.extend(asked_values(&setting).unwrap_or_default());
            named(OsStr::new(typed), Some(values))
        }
        None => named(OsStr::new(typed), Some(flags().collect())),
    })
}

/// llama-server's flags, and those that switch one off.
fn flags() -> impl Iterator<Item = Word> {
    settable().filter(|setting| !setting.is_own()).flat_map(|setting| {
        let off = setting.negations.iter().filter(|it| it.starts_with("--")).map(str::to_owned);
        let words = std::iter::once(format!("--{}", setting.key)).chain(off);
        words.map(|word| (word, setting.help.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(line: &str) -> Option<Vec<String>> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let text = |it: &CompletionCandidate| it.get_value().to_string_lossy().into_owned();
        Some(of_llama_server(&words)?.iter().map(text).collect())
    }

    #[test]
    fn behind_two_dashes_stand_flags_and_their_values() {
        let said = |words: &[&str]| Some(words.iter().map(|&it| it.to_owned()).collect::<Vec<_>>());
        assert_eq!(offered("llamactl model set m -- --ctx-s"), said(&["--ctx-size"]));
        assert_eq!(offered("llamactl model set m temp=1 -- --no-mma"), said(&["--no-mmap"]));
        assert_eq!(offered("llamactl --json defaults set -- -fa of"), said(&["off"]));
        assert_eq!(offered("llamactl model set m -- -c 8192 --flash-attn a"), said(&["auto"]));
        assert_eq!(
            offered("llamactl model set m -- --lora x"),
            said(&[""]),
            "files are the shell's"
        );
        assert_eq!(
            offered("llamactl model set m -- --autos"),
            said(&[]),
            "llamactl's own has no flag"
        );
        for other in ["llamactl start -- q", "llamactl model set m --", "llamactl", ""] {
            assert_eq!(offered(other), None, "{other}");
        }
    }
}
