//! The command that asks, as the daemon is to remember it.
//!
//! It ends up in the history that everybody who may use the daemon can read. So it tells what was
//! done to what, and leaves out what was given: values of settings, prompts, JSON.

use std::ffi::OsString;
use std::path::Path;

/// What stands for something that was left out.
const LEFT_OUT: &str = "…";

/// Options of every command whose value stands behind them as a word of its own.
const WITH_VALUE: [&str; 3] = ["--host", "--socket", "--color"];

/// The command of these arguments, the program's own name first.
pub(super) fn told(arguments: impl IntoIterator<Item = OsString>) -> String {
    let mut words = arguments.into_iter().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned());
    let mut told = vec![program.unwrap_or_default()];
    let mut names = 0;
    let mut is_chat = false;
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(&word.as_str()) {
            // Where the daemon is reached is no part of what is done.
            words.next();
            continue;
        }
        if WITH_VALUE.iter().any(|option| word.split_once('=').is_some_and(|(it, _)| it == *option))
        {
            continue;
        }
        let is_option = word.starts_with('-');
        names += usize::from(!is_option);
        is_chat |= names == 1 && word == "run";
        // What follows the model's name is what is said to the model.
        if is_chat && names > 2 {
            told.push(LEFT_OUT.to_owned());
            break;
        }
        told.push(match word.split_once('=') {
            Some((key, _)) if is_plain(key) => format!("{key}={LEFT_OUT}"),
            None if is_plain(&word) => word,
            _ => LEFT_OUT.to_owned(),
        });
    }
    told.join(" ")
}

/// Whether a word is a name, an option or a path, and not a text or a document.
fn is_plain(word: &str) -> bool {
    let plain = |letter: char| letter.is_alphanumeric() || "-_./:@+,~".contains(letter);
    !word.is_empty() && word.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told_and_what_was_given_is_not() {
        let cases: &[(&[&str], &str)] = &[
            (
                &["/usr/bin/llamactl", "start", "qwen3:8b", "--no-wait"],
                "llamactl start qwen3:8b --no-wait",
            ),
            (
                &["llamactl", "model", "set", "m", "api-key=hunter2", "env.HF_TOKEN=a b", "temp=1"],
                "llamactl model set m api-key=… env.HF_TOKEN=… temp=…",
            ),
            (&["llamactl", "--json", "run", "m", "hello", "you"], "llamactl --json run m …"),
            (&["llamactl", "--host=", "daemon", "stop"], "llamactl daemon stop"),
            (&["llamactl", "--host", "box", "run", "m", "hello"], "llamactl run m …"),
            (&["llamactl", "--socket", "/s", "run", "m", "hello"], "llamactl run m …"),
            (
                &["llamactl", "rpc", "model.set", r#"{"set":{"api-key":"x"}}"#],
                "llamactl rpc model.set …",
            ),
            (&["llamactl", "model", "add", "a b.gguf", "x=y z/q=1"], "llamactl model add … x=…"),
            (&[], ""),
        ];
        for (arguments, expected) in cases {
            assert_eq!(told(arguments.iter().map(OsString::from)), *expected);
        }
    }
}
