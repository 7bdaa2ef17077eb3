//! A command line of llama-server as somebody copied it from a shell, a script, a unit, a block of YAML
//! or a container's. Pure.
//!
//! ```text
//!   text ─┬─ unit ──────────────────────────────┐
//!         └─ shell ─ commands, variables put in ─┴▶ program ─▶ variables, arguments ─▶ one model
//!
//!   CUDA_VISIBLE_DEVICES=1 nohup ./llama-server -m ~/x.gguf -c 8192 > log 2>&1 &
//!   ╰── env.CUDA_VISIBLE_DEVICES          ╰── path      ╰── ctx-size
//! ```
//!
//! Where a word of the line is a llama-server, the arguments begin behind it. What is not taken is
//! listed with its reason, also where the whole fails.

mod container;
mod program;
mod shell;
mod unit;

use super::omissions::{Omissions, sentence};
use super::position::unreadable;
use super::spec::{ImportSpec, ModelSpec, SettingsSpec};
use llamactl_protocol::environment::names_secret;
use llamactl_protocol::options::command_line::{self, Word};
use llamactl_protocol::options::{Build, Settings, VARIABLE_PREFIX, catalogue, find, secret};
use llamactl_protocol::{Failure, WirePath, name};
use program::{Program, is_server};
use shell::{Expanded, Token, Variables};
use std::collections::BTreeSet;
use std::path::Path;

/// What a variable of llama-server's begins with when it switches an option off.
const NEGATED_VARIABLE: &str = "LLAMA_ARG_NO_";

/// How deep a command may stand in the quotes of others.
const MAX_DEPTH: usize = 3;

/// How many of the things that were left out a failure names.
const NAMED_OMISSIONS: usize = 8;

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
    let mut spec = ImportSpec::default();
    match read_into(&mut spec, text, build, base, home) {
        Ok(()) => Ok(spec),
        Err(failure) => {
            let left_out = spec.left_out.list().iter().take(NAMED_OMISSIONS);
            let said: Vec<String> =
                left_out.map(|it| format!("{} was left out: {}", it.what, it.reason)).collect();
            // One hint: an answer has room for two.
            Err(if said.is_empty() { failure } else { failure.hint(said.join("; ")) })
        }
    }
}

fn read_into(
    spec: &mut ImportSpec,
    text: &str,
    build: Option<&Build>,
    base: &Path,
    home: Option<&Path>,
) -> Result<(), Failure> {
    let left_out = &mut spec.left_out;
    let (program, base) = if unit::is_unit(text) {
        let unit = unit::read(text, home, left_out)?;
        let base = unit.directory.map_or_else(|| base.to_owned(), |there| base.join(there));
        (program::of(unit.variables, unit.words, left_out), base)
    } else {
        let text = without_key(text);
        let mut known = Variables::of_home(home);
        let command = one_command(&text, &mut known, left_out, 0)?;
        (program::of(command.exported, command.words, left_out), base.to_owned())
    };
    let Program { variables, arguments } = program;
    let mut model =
        Model { build, base: &base, settings: Settings::new(), path: None, names: vec![] };
    for (name, value) in variables {
        match value.unknown {
            None => model.variable(&name, &value.text, left_out),
            Some(of_shell) => left_out.add(name, unexpanded(&of_shell)),
        }
    }
    model.arguments(known_only(arguments, left_out), left_out);
    let Model { settings, path, mut names, .. } = model;
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
    Ok(())
}

const ADDRESS: &str = "each model listens on a socket of its own; llamactl model set NAME \
                       port=auto gives it a TCP port";

/// A text without the `cmd: |` or `command: >` of the YAML it was copied from.
fn without_key(text: &str) -> String {
    let begin = text.len() - text.trim_start().len();
    let rest = text.get(begin..).unwrap_or_default();
    let (line, behind) = rest.split_once('\n').unwrap_or((rest, ""));
    let line = line.strip_prefix("- ").unwrap_or(line);
    let Some(value) = ["cmd:", "command:"].iter().find_map(|key| line.strip_prefix(key)) else {
        return text.to_owned();
    };
    let value = value.trim();
    let is_sign = value.starts_with(['|', '>'])
        && value.bytes().skip(1).all(|byte| b"+-0123456789".contains(&byte));
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    let value = match (is_sign, inner('"').or_else(|| inner('\''))) {
        (true, _) => "",
        (false, Some(inner)) => inner,
        (false, None) => value,
    };
    format!("{value}\n{behind}")
}

/// A command, with what was exported to it.
#[derive(Default)]
struct Command {
    exported: Vec<(String, Expanded)>,
    words: Vec<Expanded>,
}

/// The words of the one command of a text that runs a llama-server. What the commands before it set is
/// put in, redirections are left out.
fn one_command(
    text: &str,
    known: &mut Variables,
    left_out: &mut Omissions,
    depth: usize,
) -> Result<Command, Failure> {
    let mut commands: Vec<Command> = Vec::new();
    let mut exported = BTreeSet::new();
    let tokens = shell::split(text)?;
    for tokens in tokens.split(|token| *token == Token::Separator) {
        if tokens.is_empty() || sets_variables(tokens, known, &mut exported) {
            continue;
        }
        let mut words = Vec::new();
        let mut tokens = tokens.iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                // Nothing is split behind `NAME=`.
                Token::Word(word) if word.assignment().is_some() => {
                    words.push(known.expand_whole(word));
                }
                Token::Word(word) => words.extend(known.expand(word)),
                Token::Redirection(sign) => {
                    let target = tokens.next_if(|next| matches!(next, Token::Word(_)));
                    let target = match target {
                        Some(Token::Word(word)) => format!(" {}", known.expand_whole(word).text),
                        _ => String::new(),
                    };
                    let reason = "llamactl keeps the logs itself: llamactl logs NAME shows them";
                    left_out.add(format!("{sign}{target}"), reason);
                }
                Token::Array(..) | Token::Separator => {}
            }
        }
        let value = |name: &String| Some((name.clone(), known.value(name)?));
        let exported = exported.iter().filter_map(value).collect();
        commands.push(Command { exported, words });
    }
    let runs = |command: &Command| program::server_at(&command.words).is_some();
    let of_server = commands.iter().position(runs);
    if of_server.is_none()
        && depth < MAX_DEPTH
        && let Some((runner, inner)) = in_quotes(&commands)
    {
        left_out.add(runner, "llamactl starts llama-server itself");
        return one_command(&inner, known, left_out, depth + 1);
    }
    let has_options = |it: &Command| it.words.iter().any(|word| word.text.starts_with('-'));
    let chosen = of_server.or_else(|| commands.iter().position(has_options)).unwrap_or(0);
    let mut command = Command::default();
    for (index, other) in commands.into_iter().enumerate() {
        if index == chosen {
            command = other;
        } else if let Some(first) = other.words.first() {
            let what = format!("the command {} …", first.text);
            left_out.add(what, "only llama-server's own is taken in");
        }
    }
    Ok(command)
}

/// Whether a command sets variables and does nothing else; then they are known from here on.
fn sets_variables(
    tokens: &[Token],
    known: &mut Variables,
    exported: &mut BTreeSet<String>,
) -> bool {
    let exports = |token: &Token| match token {
        Token::Word(word) => word.plain().is_some_and(|it| ["export", "set", "$env"].contains(&it)),
        _ => false,
    };
    let is_export = tokens.first().is_some_and(exports);
    let rest = tokens.get(usize::from(is_export)..).unwrap_or_default();
    let sets = |token: &Token| match token {
        Token::Array(..) => true,
        Token::Word(word) => {
            word.assignment().is_some() || (is_export && word.plain().is_some_and(shell::is_name))
        }
        _ => false,
    };
    if rest.is_empty() || !rest.iter().all(sets) {
        return false;
    }
    for token in rest {
        let name = match token {
            Token::Array(name, words) => {
                let values = words.iter().flat_map(|word| known.expand(word));
                let values = values.map(|it| it.text).collect();
                known.set_array(name, values);
                name.clone()
            }
            Token::Word(word) => match word.assignment() {
                Some((name, value)) => {
                    let value = known.expand_whole(&value);
                    known.set(name, value);
                    name.to_owned()
                }
                None => word.plain().unwrap_or_default().to_owned(),
            },
            _ => continue,
        };
        if is_export {
            exported.insert(name);
        }
    }
    true
}

/// A command that another one is given as one word, `bash -c "llama-server …"`; with that one's name.
fn in_quotes(commands: &[Command]) -> Option<(String, String)> {
    commands.iter().find_map(|command| {
        let inner = command.words.iter().find(|word| {
            word.text.contains(char::is_whitespace)
                && word.text.split([' ', '\n', '\t', ';', '&', '|', '\'', '"']).any(is_server)
        })?;
        Some((command.words.first()?.text.clone(), inner.text.clone()))
    })
}

fn unexpanded(of_shell: &str) -> String {
    format!("only your shell knows what {of_shell} is: write its value")
}

/// The arguments that are known; the option whose value one is that is not goes with it.
fn known_only(arguments: Vec<Expanded>, left_out: &mut Omissions) -> Vec<WirePath> {
    let mut known: Vec<WirePath> = Vec::new();
    for Expanded { text, unknown } in arguments {
        match unknown {
            None => known.push(WirePath::from(text.as_str())),
            Some(of_shell) => {
                let flag = known.pop_if(|flag| flag.as_bytes().starts_with(b"-"));
                let what = flag.map_or_else(|| text.clone(), |flag| format!("{flag} {text}"));
                left_out.add(what, unexpanded(&of_shell));
            }
        }
    }
    known
}

/// What the command line says of its model.
struct Model<'a> {
    build: Option<&'a Build>,
    base: &'a Path,
    settings: Settings,
    path: Option<WirePath>,
    names: Vec<String>,
}

impl Model<'_> {
    fn arguments(&mut self, arguments: Vec<WirePath>, left_out: &mut Omissions) {
        for word in command_line::read(&arguments, self.build, self.base) {
            match word {
                Word::Setting { key, .. } if key == "host" || key == "port" => {
                    left_out.add(format!("--{key}"), ADDRESS);
                }
                Word::Setting { key, value, .. } => {
                    command_line::collect(&mut self.settings, key, value);
                }
                Word::Path(file) => self.path = Some(file),
                Word::Alias(alias) => self.name(&alias),
                Word::Refused { flag, failure } => left_out.refused(flag, &failure),
                Word::Unknown { flag, .. } if flag.starts_with('-') => {
                    let reason = find(&flag, self.build).err().map(|failure| sentence(&failure));
                    let reason =
                        reason.unwrap_or_else(|| "it is no option of llama-server".to_owned());
                    left_out.add(flag, reason);
                }
                Word::Unknown { flag, .. } => {
                    left_out.add(flag, "it stands where an option should");
                }
            }
        }
    }

    fn name(&mut self, alias: &str) {
        self.names = alias.split(',').map(|it| it.trim().to_owned()).collect();
    }

    /// A variable before the command: llama-server's own are settings, others its environment.
    fn variable(&mut self, name: &str, value: &str, left_out: &mut Omissions) {
        let of_setting = catalogue().find(|it| !it.variable.is_empty() && it.variable == name);
        let negated = name.strip_prefix(NEGATED_VARIABLE).map(|rest| format!("LLAMA_ARG_{rest}"));
        let of_negation = negated.and_then(|positive| {
            catalogue().find(|it| it.variable == positive && it.negations.iter().next().is_some())
        });
        if let Some(setting) = of_negation.filter(|_| of_setting.is_none()) {
            let on = !["0", "false", "off", "disabled"].contains(&value);
            self.settings.insert(setting.key.to_owned(), (!on).into());
            return;
        }
        let checked = |key: &str, value: &serde_json::Value| {
            find(key, self.build).and_then(|setting| setting.check(value))
        };
        let Some(setting) = of_setting else {
            let key = format!("{VARIABLE_PREFIX}{name}");
            // What its name says to be a secret is kept as one.
            let value = if names_secret(name) { secret::given(value) } else { value.into() };
            match checked(&key, &value) {
                Ok(value) => {
                    self.settings.insert(key, value);
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
            match checked(setting.key, &value.into()) {
                Ok(value) => {
                    self.settings.insert(setting.key.to_owned(), value);
                }
                Err(failure) => left_out.refused(name, &failure),
            }
            return;
        }
        let flag = setting.flag(self.build);
        let arguments = [WirePath::from(flag.as_str()), WirePath::from(value)];
        for word in command_line::read(&arguments, self.build, self.base) {
            match word {
                Word::Setting { key, value, .. } => {
                    self.settings.insert(key, value);
                }
                Word::Path(file) => self.path = Some(file),
                Word::Alias(alias) => self.name(&alias),
                Word::Refused { failure, .. } => left_out.refused(name, &failure),
                Word::Unknown { .. } => left_out.add(name, "give it as an argument instead"),
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

    /// A line, the settings that come of it, and what is left out.
    fn taken(line: &str, expected: serde_json::Value, omissions: &[&str]) -> ImportSpec {
        let spec = spec(line);
        assert_eq!(settings(&spec), expected, "{line}");
        assert_eq!(left_out(&spec), omissions, "{line}");
        spec
    }

    #[test]
    fn the_arguments_begin_behind_the_llama_server() {
        for (line, omissions) in [
            ("srun -p gpu -c 8 llama-server -m /x.gguf -t 8", ["srun"].as_slice()),
            ("conda run -n 512 llama-server -m /x.gguf -t 8", &["conda"]),
            ("numactl -C 0-7 -m 0 llama-server -m /x.gguf -t 8", &["numactl"]),
            ("timeout 10 /opt/llama-server -m /x.gguf -t 8", &["timeout"]),
            ("llama serve -m /x.gguf -t 8", &[]),
            ("systemd-run --unit llama-server llama-server -m /x.gguf -t 8", &["systemd-run"]),
            (
                "bash -lc 'cd /m && exec llama-server -m /x.gguf -t 8'",
                &["bash", "the command cd …"],
            ),
            ("tmux new -d \"llama-server -m /x.gguf -t 8\"", &["tmux"]),
            ("ssh h \"bash -c 'llama-server -m /x.gguf -t 8'\"", &["ssh", "bash"]),
        ] {
            let spec = taken(line, json!({ "threads": 8 }), omissions);
            assert_eq!(spec.models[0].path, Some(WirePath::from("/x.gguf")), "{line}");
        }
    }

    #[test]
    fn what_is_for_a_container_is_not_for_the_server() {
        let spec = taken(
            "docker run --rm -it --gpus all -v /m:/models -e LLAMA_ARG_CTX_SIZE=4096 -e X=1 \
             -p 8080:8080 --name llama-server ghcr.io/ggml-org/llama.cpp:server-cuda \
             -m /models/a/y.gguf --lora=/models/l.gguf -ngl 99",
            json!({ "ctx-size": 4096, "env.X": "1", "lora": ["/m/l.gguf"], "gpu-layers": 99 }),
            &["docker", "--gpus all", "-p 8080:8080"],
        );
        assert_eq!(spec.models[0].path, Some(WirePath::from("/m/a/y.gguf")));
        let spec = taken(
            "podman run --mount type=bind,src=/m,dst=/models -v cache:/c image --server -m /models/y",
            json!({}),
            &["podman", "the volume cache:/c"],
        );
        assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y")));
    }

    #[test]
    fn a_script_knows_what_it_sets() {
        let spec = taken(
            "#!/bin/bash\nset -e\nMODEL=/m/y.gguf\nCTX=4096 ARGS=\"-ngl 99 -fa\"\n\
             MORE=(--temp 0.5 -r 'a b')\nexport CUDA_VISIBLE_DEVICES=1 OTHER=$CTX\n\
             exec ./llama-server -m \"$MODEL\" -c ${CTX} -t ${THREADS:-4} $ARGS \"${MORE[@]}\" \
             --top-k $K \"$@\"",
            json!({
                "ctx-size": 4096, "threads": 4, "gpu-layers": 99, "flash-attn": "on", "temp": 0.5,
                "reverse-prompt": ["a b"], "env.CUDA_VISIBLE_DEVICES": "1", "env.OTHER": "4096",
            }),
            &["the command set …", "--top-k $K", "$@"],
        );
        assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y.gguf")));
        let spec = super::read("llama-server -m $MODEL -c 5", None, Path::new("/"), None);
        let failure = spec.unwrap_err();
        assert!(failure.hints.lines().any(|it| it.contains("$MODEL")), "{failure:?}");
    }

    #[test]
    fn variables_may_say_all() {
        let spec = spec(
            "LLAMA_ARG_MODEL=/m/y.gguf LLAMA_ARG_ALIAS=n LLAMA_ARG_N_GPU_LAYERS=-1 llama-server",
        );
        assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y.gguf")));
        assert_eq!(
            (spec.models[0].name.as_str(), settings(&spec)),
            ("n", json!({ "gpu-layers": "auto" }))
        );
    }

    #[test]
    fn a_variable_whose_name_says_that_it_is_a_secret_is_kept_as_one() {
        let spec = spec("OPENAI_API_KEY=s3cret llama-server -m /m/y.gguf");
        assert_eq!(settings(&spec), json!({ "env.OPENAI_API_KEY": secret::given("s3cret") }));
    }

    #[test]
    fn lines_go_on_as_their_shells_have_it() {
        for line in [
            "llama-server\n  --model /m/y.gguf\n  --ctx-size 4096\n",
            "cmd: |\n  llama-server\n  --model /m/y.gguf\n  --ctx-size 4096\n",
            "command: >-\n  -m /m/y.gguf\n  -c 4096\n",
            "cmd: \"llama-server -m /m/y.gguf -c 4096\"",
            "llama-server `\n  -m /m/y.gguf `\r\n  -c 4096\r\n",
            "llama-server.exe ^\n -m /m/y.gguf ^\n -c 4096",
        ] {
            let spec = taken(line, json!({ "ctx-size": 4096 }), &[]);
            assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y.gguf")), "{line}");
        }
        let spec = spec(r"C:\llama\llama-server.exe -m C:\models\y.gguf -c 5");
        assert!(spec.models[0].path.as_ref().unwrap().to_string().ends_with(r"C:\models\y.gguf"));
    }

    #[test]
    fn a_unit_has_its_environment() {
        let spec = taken(
            "[Unit]\nDescription=x\n[Service]\nEnvironment=CUDA_VISIBLE_DEVICES=1\n\
             Environment=\"LLAMA_ARG_CTX_SIZE=4096\" M=/m/y.gguf\nWorkingDirectory=/srv\n\
             ExecStart=-/usr/bin/llama-server -m ${M} --lora l.gguf --log-file %i.log \\\n  -ngl 99 \\\n \
             --slot-save-path %h/s --chat-template 100%%;x\nRestart=always\n[Install]\nWantedBy=x\n",
            json!({
                "ctx-size": 4096, "env.CUDA_VISIBLE_DEVICES": "1", "env.M": "/m/y.gguf",
                "lora": ["/srv/l.gguf"], "gpu-layers": 99, "slot-save-path": "/home/me/s",
                "chat-template": "100%;x",
            }),
            &["Restart=always", "--log-file %i.log"],
        );
        assert_eq!(spec.models[0].path, Some(WirePath::from("/m/y.gguf")));
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
