//! A command line of llama-server as somebody copied it from a shell, a script or a unit. Pure.
//!
//! ```text
//!   CUDA_VISIBLE_DEVICES=1 nohup ./llama-server -m ~/x.gguf -c 8192 > log 2>&1 &
//!   ╰── env.CUDA_VISIBLE_DEVICES          ╰── path      ╰── ctx-size
//! ```

mod shell;

use super::omissions::{Omissions, sentence};
use super::position::unreadable;
use super::spec::{ImportSpec, ModelSpec, SettingsSpec};
use llamactl_protocol::options::command_line::{self, Word};
use llamactl_protocol::options::{Build, Settings, VARIABLE_PREFIX, catalogue, find};
use llamactl_protocol::{Failure, WirePath, name};
use shell::Token;
use std::path::Path;

/// Programs that run another one, with the options of theirs that take a value.
const RUNNERS: &[(&str, &[&str])] = &[
    ("env", &["-u", "--unset", "-C", "--chdir", "-S"]),
    ("exec", &["-a"]),
    ("nohup", &[]),
    ("sudo", &["-u", "-g", "-C", "-D", "-h", "-p", "--user", "--group"]),
    ("doas", &["-u"]),
    ("nice", &["-n", "--adjustment"]),
    ("ionice", &["-c", "-n"]),
    ("setsid", &[]),
    ("stdbuf", &["-i", "-o", "-e"]),
    ("time", &[]),
    ("numactl", &[]),
    ("taskset", &[]),
    ("systemd-run", &["-p", "--property", "--unit", "-E", "--setenv"]),
    ("timeout", &["-s", "-k", "--signal", "--kill-after"]),
];

/// What a variable of llama-server's begins with when it switches an option off.
const NEGATED_VARIABLE: &str = "LLAMA_ARG_NO_";

/// Reads a command line. Relative paths are taken from `base`, `~` is `home`.
///
/// # Errors
/// `Kind::Unreadable` when it is no command line of llama-server, or names no file.
pub fn read(
    text: &str,
    build: Option<&Build>,
    base: &Path,
    home: Option<&Path>,
) -> Result<ImportSpec, Failure> {
    let tokens = shell::split(text, home)?;
    let mut spec = ImportSpec::default();
    let words = one_command(tokens, &mut spec.left_out);
    let (variables, arguments) = program(words, &mut spec.left_out)?;
    let mut settings = Settings::new();
    for (name, value) in variables {
        variable(&name, &value, build, base, &mut settings, &mut spec.left_out);
    }
    let (mut path, mut names) = (None, Vec::new());
    for word in command_line::read(&arguments, build, base) {
        match word {
            Word::Setting { key, .. } if key == "host" || key == "port" => {
                spec.left_out.add(format!("--{key}"), ADDRESS);
            }
            Word::Setting { key, value, .. } => command_line::collect(&mut settings, key, value),
            Word::Path(file) => path = Some(file),
            Word::Alias(alias) => names = alias.split(',').map(|it| it.trim().to_owned()).collect(),
            Word::Refused { flag, failure } => spec.left_out.refused(flag, &failure),
            Word::Unknown { flag, .. } if flag.starts_with('-') => {
                let reason = find(&flag, build).err().map(|failure| sentence(&failure));
                let reason = reason.unwrap_or_else(|| "it is no option of llama-server".to_owned());
                spec.left_out.add(flag, reason);
            }
            Word::Unknown { flag, .. } => {
                spec.left_out.add(flag, "it stands where an option should");
            }
        }
    }
    let path = path.ok_or_else(|| {
        unreadable("the command line names no model file", None)
            .hint("it needs -m FILE; llamactl downloads nothing, so fetch the file first")
    })?;
    names.retain(|name| !name.is_empty());
    let stem = crate::gguf::split::stem(path.as_path());
    let wanted = if names.is_empty() { stem } else { names.remove(0) };
    let name = name::from_text(&wanted).ok_or_else(|| {
        unreadable(format!("no name can be made of {wanted:?}"), None)
            .hint("add --alias NAME to the command line")
    })?;
    spec.models.push(ModelSpec {
        name,
        at: None,
        aliases: (!names.is_empty()).then_some(names),
        path: Some(path),
        settings: Some(SettingsSpec::merged(settings)),
        apart: true,
    });
    Ok(spec)
}

const ADDRESS: &str = "each model listens on a socket of its own; llamactl model set NAME \
                       port=auto gives it a TCP port";

/// A variable before the command, and its value.
type Variable = (String, String);

/// A word of the line and the shell's variable in it that nobody knows.
type ShellWord = (String, Option<String>);

/// The words of the one command on the line that runs a llama-server, redirections left out.
fn one_command(tokens: Vec<Token>, left_out: &mut Omissions) -> Vec<ShellWord> {
    let mut commands: Vec<Vec<ShellWord>> = vec![vec![]];
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            Token::Word { text, unknown } => {
                if let Some(command) = commands.last_mut() {
                    command.push((text, unknown));
                }
            }
            Token::Redirection(sign) => {
                let target = tokens.next_if(|next| matches!(next, Token::Word { .. }));
                let target = match target {
                    Some(Token::Word { text, .. }) => format!(" {text}"),
                    _ => String::new(),
                };
                let reason = "llamactl keeps the logs itself: llamactl logs NAME shows them";
                left_out.add(format!("{sign}{target}"), reason);
            }
            Token::Separator => commands.push(vec![]),
        }
    }
    commands.retain(|command| !command.is_empty());
    let runs = |command: &Vec<ShellWord>| command.iter().any(|(word, _)| is_server(word));
    let of_server = commands.iter().position(runs).unwrap_or(0);
    let mut chosen = Vec::new();
    for (index, command) in commands.into_iter().enumerate() {
        if index == of_server {
            chosen = command;
        } else if let Some((first, _)) = command.first() {
            left_out.add(format!("the command {first} …"), "only llama-server's own is taken in");
        }
    }
    chosen
}

/// Whether a word is the name or path of a llama-server.
fn is_server(word: &str) -> bool {
    let file = word.rsplit('/').next().unwrap_or_default();
    ["llama-server", "llama-server.exe", "server"].contains(&file)
        || file.starts_with("llama-server-")
}

/// Takes off what stands before the arguments: variables, programs that run others, the program.
fn program(
    words: Vec<ShellWord>,
    left_out: &mut Omissions,
) -> Result<(Vec<Variable>, Vec<WirePath>), Failure> {
    let mut variables = Vec::new();
    let mut words = words.into_iter().peekable();
    // A unit's line begins so.
    if let Some((word, _)) = words.peek_mut() {
        for prefix in ["ExecStart=", "$ ", "# "] {
            if let Some(rest) = word.strip_prefix(prefix) {
                *word = rest.to_owned();
            }
        }
    }
    while let Some((word, unknown)) = words.next_if(|(word, _)| !word.starts_with('-')) {
        if let Some((name, value)) = assignment(&word) {
            match unknown {
                None => variables.push((name.to_owned(), value.to_owned())),
                Some(of_shell) => left_out.add(name, unexpanded(&of_shell)),
            }
            continue;
        }
        if is_server(&word) {
            break;
        }
        let file = word.rsplit('/').next().unwrap_or_default();
        let Some((runner, with_value)) = RUNNERS.iter().find(|(name, _)| *name == file) else {
            // Numbers and paths that belong to a runner, or a program under another name.
            if words.peek().is_none_or(|(next, _)| next.starts_with('-')) {
                break;
            }
            continue;
        };
        let keeps_silent = ["env", "exec", "nohup", "time", "setsid"].contains(runner);
        if !keeps_silent {
            left_out.add(*runner, "llamactl starts llama-server itself");
        }
        while let Some((option, _)) = words.next_if(|(word, _)| word.starts_with('-')) {
            if with_value.contains(&option.as_str()) {
                words.next();
            }
        }
    }
    let mut arguments: Vec<WirePath> = Vec::new();
    for (word, unknown) in words {
        match unknown {
            None => arguments.push(WirePath::from(word.as_str())),
            Some(of_shell) => {
                // The flag it is the value of goes with it.
                let flag = arguments.pop_if(|flag| flag.as_bytes().starts_with(b"-"));
                let what = flag.map_or_else(|| word.clone(), |flag| format!("{flag} {word}"));
                left_out.add(what, unexpanded(&of_shell));
            }
        }
    }
    if arguments.is_empty() {
        return Err(unreadable("this is no command line of llama-server", None)
            .hint("for example: llama-server -m /models/x.gguf -c 8192"));
    }
    Ok((variables, arguments))
}

fn unexpanded(of_shell: &str) -> String {
    format!("only your shell knows what {of_shell} is: write its value")
}

/// `NAME=value`, as it stands before a command.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let starts = name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_');
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (starts && is_name).then_some((name, value))
}

/// A variable before the command: llama-server's own are settings, others its environment.
fn variable(
    name: &str,
    value: &str,
    build: Option<&Build>,
    base: &Path,
    settings: &mut Settings,
    left_out: &mut Omissions,
) {
    let of_setting = catalogue().find(|it| !it.variable.is_empty() && it.variable == name);
    let negated = name.strip_prefix(NEGATED_VARIABLE).map(|rest| format!("LLAMA_ARG_{rest}"));
    let of_negation = negated.and_then(|positive| {
        catalogue().find(|it| it.variable == positive && it.negations.iter().next().is_some())
    });
    if let Some(setting) = of_negation.filter(|_| of_setting.is_none()) {
        let on = !["0", "false", "off", "disabled"].contains(&value);
        settings.insert(setting.key.to_owned(), (!on).into());
        return;
    }
    let Some(setting) = of_setting else {
        let key = format!("{VARIABLE_PREFIX}{name}");
        let checked = find(&key, build).and_then(|setting| setting.check(&value.into()));
        match checked {
            Ok(value) => {
                settings.insert(key, value);
            }
            Err(failure) => left_out.refused(name, &failure),
        }
        return;
    };
    if setting.key == "host" || setting.key == "port" {
        return left_out.add(name, ADDRESS);
    }
    // A flag reads its value as llama-server does; a switch is read by its own kind.
    if !setting.takes_argument() {
        match find(setting.key, build).and_then(|setting| setting.check(&value.into())) {
            Ok(value) => {
                settings.insert(setting.key.to_owned(), value);
            }
            Err(failure) => left_out.refused(name, &failure),
        }
        return;
    }
    let arguments = [WirePath::from(setting.flag(build).as_str()), WirePath::from(value)];
    for word in command_line::read(&arguments, build, base) {
        match word {
            Word::Setting { key, value, .. } => {
                settings.insert(key, value);
            }
            Word::Refused { failure, .. } => left_out.refused(name, &failure),
            Word::Path(_) | Word::Alias(_) | Word::Unknown { .. } => {
                left_out.add(name, "give it as an argument instead");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn spec(line: &str) -> ImportSpec {
        read(line, None, Path::new("/w"), Some(Path::new("/home/me")))
            .unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn settings(spec: &ImportSpec) -> serde_json::Value {
        let given = &spec.models[0].settings.as_ref().unwrap().given;
        given.iter().map(|(key, given)| (key.clone(), given.value.clone())).collect()
    }

    fn left_out(spec: &ImportSpec) -> Vec<&str> {
        spec.left_out.list().iter().map(|it| it.what.as_str()).collect()
    }

    #[test]
    fn a_line_from_a_script() {
        let spec = spec(
            "CUDA_VISIBLE_DEVICES=1 LLAMA_ARG_CTX_SIZE=8192 LLAMA_ARG_NO_MMAP=1 nohup \\\n  \
             ./build/bin/llama-server -m ~/m/x-00001-of-00003.gguf \\\n -ngl 99 --no-jinja \
             --host 0.0.0.0 --port 8080 --api-key s3cret --nope 1 > log.txt 2>&1 &\n",
        );
        let model = &spec.models[0];
        assert_eq!(model.name, "x");
        assert_eq!(model.path, Some(WirePath::from("/home/me/m/x-00001-of-00003.gguf")));
        assert_eq!(
            settings(&spec),
            json!({
                "ctx-size": 8192, "mmap": false, "gpu-layers": 99, "jinja": false,
                "env.CUDA_VISIBLE_DEVICES": "1",
            })
        );
        assert_eq!(
            left_out(&spec),
            ["> log.txt", "2>&1", "--host", "--port", "--api-key", "--nope"]
        );
        assert!(!format!("{spec:?}").contains("s3cret"));
    }

    #[test]
    fn programs_that_run_it_are_stepped_over() {
        for line in [
            "sudo -u llama env X=1 /opt/llama-server -m /x.gguf -a n,o",
            "exec env -u Y X=1 llama-server -m /x.gguf --alias n,o",
            "X=1 taskset -c 0-3 nice -n 5 llama-server --alias=n,o --model=/x.gguf",
            "ExecStart=/usr/bin/env X=1 llama-server -m /x.gguf -a n,o",
            "cd /tmp && X=1 ./server -m /x.gguf -a n,o; echo done",
            "X=1 ./my-llama -m /x.gguf -a n,o",
        ] {
            let spec = spec(line);
            let model = &spec.models[0];
            assert_eq!((model.name.as_str(), &model.aliases), ("n", &Some(vec!["o".to_owned()])));
            assert_eq!(settings(&spec), json!({ "env.X": "1" }), "{line}");
        }
    }

    #[test]
    fn quotes_and_signs_are_the_shells() {
        let spec = spec(
            "llama-server -m 'a b.gguf' --grammar 'root ::= \"a\" | \"b\"' \
             --chat-template \"x;y & \\\"z\\\"\" -r a\\ b # a comment -c 5",
        );
        assert_eq!(spec.models[0].path, Some(WirePath::from("/w/a b.gguf")));
        assert_eq!(
            settings(&spec),
            json!({
                "grammar": "root ::= \"a\" | \"b\"", "chat-template": "x;y & \"z\"",
                "reverse-prompt": ["a b"],
            })
        );
    }

    #[test]
    fn what_only_the_shell_knows_is_left_out() {
        let spec = spec("llama-server -m $HOME/x.gguf -c $CTX --temp 1 --grammar '$x'");
        assert_eq!(spec.models[0].path, Some(WirePath::from("/home/me/x.gguf")));
        assert_eq!(settings(&spec), json!({ "temp": 1.0, "grammar": "$x" }));
        assert_eq!(left_out(&spec), ["-c $CTX"]);
    }

    #[test]
    fn what_is_no_such_line_is_said() {
        for line in ["", "llama-server", "llama-server -c 5", "echo hello", "llama-server -m 'x"] {
            let failure = read(line, None, Path::new("/w"), None).unwrap_err();
            assert_eq!(failure.kind, llamactl_protocol::Kind::Unreadable, "{line}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(line in "\\PC{0,80}") {
            let _ = read(&line, None, Path::new("/"), None);
        }

        #[test]
        fn nothing_that_looks_like_it_makes_it_panic(
            line in "([A-Z]{1,3}=|llama-server |-[mca] |--[a-z-]{1,9}[ =]|['\"\\\\$&;<>|~{}()]|[0-9a-z/]{1,4} |\n){0,20}",
        ) {
            let _ = read(&line, None, Path::new("/"), Some(Path::new("/h")));
        }
    }
}
