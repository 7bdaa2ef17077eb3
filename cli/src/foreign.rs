//! Command lines that cannot be: what is wrong with them, and what was probably meant.
//!
//! People bring verbs from other programs. Nothing is done for one; the hint is the command here,
//! whole, with the caller's own words. A command that merely sounds like it is never named.

use crate::args::Cli;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Error, Parser as _};
use llamactl_protocol::options::nearest;
use llamactl_protocol::prose::{clause, listed};
use llamactl_protocol::{Failure, Hint, Kind};

/// What is wrong with this command line, as a failure like any other. `words` are its arguments.
pub(crate) fn failure(error: &Error, words: &[String]) -> Failure {
    let (path, rest) = command_of(words);
    let mut help = vec!["llamactl".to_owned(), "help".to_owned()];
    help.extend(path.iter().cloned());
    let usage = Hint::run("how it is used", help);
    let of = |kind| error.get(kind).map(told).unwrap_or_default();
    match error.kind() {
        ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument if is_for_all(&path, words) => {
            let text = "for all models: llamactl model list -q | xargs -r llamactl start";
            Failure::new(Kind::Usage, "start takes the names of models").hint(text)
        }
        ErrorKind::InvalidSubcommand => {
            let verb = of(ContextKind::InvalidSubcommand);
            let name = [path.join(" "), verb.clone()].join(" ");
            let failure = Failure::new(Kind::Usage, format!("there is no command {}", name.trim()));
            let meant = match path.first() {
                None => meant(&verb, &rest),
                Some(noun) => of_noun(noun, &verb, &rest),
            };
            let near = near(&path, &verb).filter(|_| meant.is_empty()).map(|near| {
                let words = words.iter().map(|word| if *word == verb { &near } else { word });
                let argv = ["llamactl".to_owned()].into_iter().chain(words.cloned());
                Hint::run(format!("did you mean {near}?"), argv)
            });
            // A hint names nothing that would be refused in its turn.
            let is_one = |hint: &Hint| Cli::try_parse_from(&hint.argv).is_ok();
            let hints: Vec<Hint> = meant.into_iter().chain(near).filter(is_one).collect();
            match hints.is_empty() {
                true => failure.hint(Hint { text: "see which there are".into(), ..usage }),
                false => hints.into_iter().fold(failure, Failure::hint),
            }
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Failure::new(Kind::Usage, "a command is missing").hint(usage)
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = of(ContextKind::InvalidArg);
            if missing == "KEY=VALUE" {
                let settings = Hint::run("what can be set", ["llamactl", "help", "settings"]);
                return Failure::new(Kind::Usage, "a setting is missing: KEY=VALUE").hint(settings);
            }
            let is = if missing.contains(" and ") { "are" } else { "is" };
            Failure::new(Kind::Usage, format!("{missing} {is} missing")).hint(usage)
        }
        ErrorKind::UnknownArgument => {
            let name = of(ContextKind::InvalidArg);
            let what = if name.starts_with('-') { "option" } else { "place for" };
            let failure = Failure::new(Kind::Usage, format!("there is no {what} {name}"));
            match of(ContextKind::SuggestedArg) {
                suggested if suggested.is_empty() => failure.hint(usage),
                suggested => {
                    let right =
                        words.iter().map(|word| if *word == name { &suggested } else { word });
                    let argv = ["llamactl".to_owned()].into_iter().chain(right.cloned());
                    let near = Hint::run(format!("did you mean {suggested}?"), argv);
                    match Cli::try_parse_from(&near.argv) {
                        Ok(_) => failure.hint(near).hint(usage),
                        Err(_) => failure.hint(usage),
                    }
                }
            }
        }
        _ => {
            // Up to the blank line: what is missing stands on lines of its own.
            let text = error.render().to_string();
            let lines = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
            let message = lines.collect::<Vec<_>>().join(" ");
            Failure::new(Kind::Usage, clause(message.trim_start_matches("error: "))).hint(usage)
        }
    }
}

/// A value of clap's, without the brackets around names.
fn told(value: &ContextValue) -> String {
    let bare = |text: &String| {
        let text = text.trim_end_matches("...");
        text.trim_start_matches(['<', '[']).trim_end_matches(['>', ']']).to_owned()
    };
    match value {
        ContextValue::String(text) => bare(text),
        ContextValue::Strings(texts) => listed(&texts.iter().map(bare).collect::<Vec<_>>()),
        _ => String::new(),
    }
}

/// The command that these words begin with, and what follows the first word that is none.
fn command_of(words: &[String]) -> (Vec<String>, Vec<String>) {
    let mut command = Cli::command();
    command.build();
    let mut path = Vec::new();
    let mut bare = words.iter().filter(|word| !word.starts_with('-'));
    for word in bare.by_ref() {
        match command.find_subcommand(word).cloned() {
            Some(found) => command = found,
            None => return (path, bare.cloned().collect()),
        }
        path.push(word.clone());
    }
    (path, vec![])
}

fn is_for_all(path: &[String], words: &[String]) -> bool {
    path == ["start"] && words.iter().any(|word| word == "--all")
}

/// The command below these that is meant by a slip of one letter, or two that changed places: one that
/// merely sounds like it might act.
pub(crate) fn near(path: &[String], verb: &str) -> Option<String> {
    let mut command = Cli::command();
    for word in path {
        command = command.find_subcommand(word)?.clone();
    }
    let names = command.get_subcommands().filter(|it| !it.is_hide_set());
    let names: Vec<&str> = names.flat_map(|it| it.get_name_and_visible_aliases()).collect();
    nearest(verb, &names).filter(|near| is_slip(verb, near)).map(str::to_owned)
}

/// Whether two words differ by one letter, or by two that changed places.
fn is_slip(typed: &str, meant: &str) -> bool {
    let (mut typed, mut meant): (Vec<char>, Vec<char>) =
        (typed.chars().collect(), meant.chars().collect());
    for _ in 0..2 {
        while !typed.is_empty() && typed.last() == meant.last() {
            typed.pop();
            meant.pop();
        }
        typed.reverse();
        meant.reverse();
    }
    let swapped: Vec<char> = typed.iter().rev().copied().collect();
    (typed.len() <= 1 && meant.len() <= 1) || (typed.len() == 2 && swapped == meant)
}

/// The same for what stands behind a noun: it may be a verb without one, or of the same from elsewhere.
fn of_noun(noun: &str, verb: &str, rest: &[String]) -> Vec<Hint> {
    if Cli::command().find_subcommand(verb).is_some() {
        let argv = ["llamactl", verb].into_iter().map(str::to_owned).chain(rest.iter().cloned());
        return vec![Hint::run("it is", argv)];
    }
    let mut meant = meant(verb, rest);
    meant.retain(|hint| hint.argv.get(1).is_some_and(|word| word == noun));
    meant
}

/// What a verb from elsewhere is called here, with the words that followed it.
fn meant(verb: &str, rest: &[String]) -> Vec<Hint> {
    let with = |text: &str, command: &[&str], stand_in: &str| {
        let words = ["llamactl"].iter().chain(command).map(|word| (*word).to_owned());
        let stand_in = (rest.is_empty() && !stand_in.is_empty()).then(|| stand_in.to_owned());
        Hint::run(text, words.chain(rest.iter().cloned()).chain(stand_in))
    };
    let bare =
        |text: &str, command: &[&str]| Hint::run(text, ["llamactl"].iter().chain(command).copied());
    let name = rest.first().map_or("NAME", String::as_str);
    let set = |setting: &str| vec![bare("it is", &["model", "set", name, setting])];
    match verb {
        "list" | "ls" => {
            vec![bare("models", &["model", "list"]), bare("servers", &["ps"])]
        }
        "rm" | "remove" | "delete" => vec![with("it is", &["model", "remove"], "NAME")],
        "add" | "create" | "register" => vec![with("it is", &["model", "add"], "FILE")],
        "set" | "unset" => {
            let stand_in = if verb == "set" { "KEY=VALUE" } else { "KEY" };
            let mut hint = with("it is", &["model", verb], "NAME");
            hint.argv.extend((rest.len() < 2).then(|| stand_in.to_owned()));
            vec![hint]
        }
        "edit" | "verify" => vec![with("it is", &["model", verb], "NAME")],
        "scan" | "export" => vec![with("it is", &["model", verb], "")],
        "import" => vec![with("it is", &["model", verb], "FILE")],
        "show" | "inspect" | "info" | "describe" => vec![
            bare("its file and settings", &["model", "show", name]),
            bare("its server", &["status", name]),
        ],
        "get" | "config" | "settings" | "options" => vec![
            bare("those of a model", &["model", "show", name, "--resolved"]),
            bare("all there are", &["help", "settings"]),
        ],
        "pull" | "download" => {
            vec![bare("fetch the file yourself, then", &["model", "add", "FILE"])]
        }
        "cp" | "mv" | "rename" => {
            let command = if verb == "cp" { "copy" } else { "rename" };
            let mut hint = with("it is", &["model", command], "NAME");
            hint.argv.extend((rest.len() < 2).then(|| "NEW".to_owned()));
            vec![hint]
        }
        "use" => vec![with("it is", &["runtime", "use"], "RUNTIME")],
        "update" => vec![bare("add the new build", &["runtime", "add", "FILE"])],
        "serve" | "load" | "up" => vec![with("it is", &["start"], "NAME")],
        "unload" | "down" | "kill" => vec![with("it is", &["stop"], "NAME")],
        "reload" => vec![with("it is", &["restart"], "NAME")],
        "enable" => set("autostart=on"),
        "disable" => set("autostart=off"),
        "chat" | "ask" | "exec" => vec![with("it is", &["run"], "NAME")],
        "journal" | "log" | "tail" => vec![with("it is", &["logs"], "NAME")],
        "stats" | "monitor" => {
            vec![bare("at a terminal", &["top"]), bare("as lines", &["metrics", "-f"])]
        }
        "devices" | "nvidia-smi" => vec![bare("it is", &["gpus"])],
        "models" => vec![bare("it is", &["model", "list"])],
        "servers" => vec![bare("it is", &["ps"])],
        "runtimes" | "builds" => vec![bare("it is", &["runtime", "list"])],
        "check" | "health" | "diagnose" => vec![bare("it is", &["doctor"])],
        "install" | "upgrade" => vec![
            bare("a llama-server", &["runtime", "add", "FILE"]),
            bare("the daemon, as a unit", &["daemon", "install"]),
        ],
        _ => behind_a_noun(verb, rest),
    }
}

/// The commands of this name that stand behind a noun; without what they need, how they are used.
fn behind_a_noun(verb: &str, rest: &[String]) -> Vec<Hint> {
    let command = Cli::command();
    let nouns = command.get_subcommands().filter(|noun| noun.find_subcommand(verb).is_some());
    let hint = |noun: &clap::Command| {
        let words = ["llamactl", noun.get_name(), verb].map(str::to_owned);
        let whole = Hint::run("it is", words.into_iter().chain(rest.iter().cloned()));
        match Cli::try_parse_from(&whole.argv) {
            Ok(_) => whole,
            Err(_) => Hint::run("how it is used", ["llamactl", "help", noun.get_name(), verb]),
        }
    };
    nouns.map(hint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    fn refused(line: &str) -> Failure {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let line = ["llamactl".to_owned()].into_iter().chain(words.clone());
        failure(&Cli::try_parse_from(line).unwrap_err(), &words)
    }

    #[test]
    fn a_verb_from_elsewhere_is_led_to_the_command_here_and_that_is_one() {
        let verbs = "list ls rm remove delete add create register set unset edit scan verify export \
                     import show inspect info describe get config settings options pull download cp \
                     mv rename use update serve load up unload down kill reload enable disable chat \
                     ask exec journal log tail stats monitor devices nvidia-smi models servers builds check \
                     install upgrade backup restore report key history rollback";
        for verb in verbs.split_whitespace() {
            for line in [verb.to_owned(), format!("{verb} qwen3")] {
                let failure = refused(&line);
                assert_eq!(failure.message, format!("there is no command {verb}"));
                assert!(!failure.hints.is_empty(), "{line}");
                for hint in &failure.hints.0 {
                    assert!(Cli::try_parse_from(&hint.argv).is_ok(), "{line}: {hint}");
                }
            }
        }
    }

    #[test]
    fn a_word_that_merely_sounds_like_a_command_is_led_nowhere() {
        for line in
            "quantize x|push x|login|restrat|stpo|complete|gateway status|requests|plan qwen3|\
                     model push x|model login|daemon complete|runtime quantize|ps --xyzzy"
                .split('|')
        {
            let failure = refused(line);
            for hint in &failure.hints.0 {
                assert!(Cli::try_parse_from(&hint.argv).is_ok(), "{line}: {hint}");
            }
            let said = failure.hints.0.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert!(!said.iter().any(|it| it.contains("did you mean")), "{line}: {said:?}");
        }
        for (typed, meant) in [("strat q", "start q"), ("stauts", "status"), ("logss q", "logs q")]
        {
            let told = refused(typed).hints.0.first().map(ToString::to_string).unwrap_or_default();
            assert!(told.contains(meant), "{typed}: {told}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_command_line() {
        assert_screen("usage", |output| {
            for line in [
                "set qwen3 temp=1",
                "serve qwen3",
                "frobnicate",
                "model frobnicate",
                "modle list --json",
                "stauts qwen3",
                "runtime lst",
                "model delete qwen3",
                "model start qwen3",
                "start",
                "start --all",
                "model set qwen3",
                "restore",
                "quantize x",
                "ps --al",
                "ps x",
                "wait qwen3 --for nothing",
                "start qwen3 --timeout soon",
            ] {
                output.line(format!("$ llamactl {line}"))?;
                let _ = scene::told(output, refused(line));
            }
            Ok(())
        });
    }
}
