//! A command line of llama-server as somebody copied it from a shell, a script, a unit, a block of YAML
//! or a container's, or what Ollama and KoboldCpp write instead of one. Pure.
//!
//! ```text
//!   text ─┬─ unit ──────────────────────────────┐
//!         ├─ compose and the like ─ lines ─╮    │
//!         ├─ Modelfile, .kcpps ────────────┼────┼──▶ arguments that do the same
//!         └─ shell ─ commands, variables put in ─┴▶ program ─▶ variables, arguments ─▶ one model
//!
//!   CUDA_VISIBLE_DEVICES=1 nohup ./llama-server -m ~/x.gguf -c 8192 > log 2>&1 &
//!   ╰── env.CUDA_VISIBLE_DEVICES          ╰── path      ╰── ctx-size
//! ```
//!
//! Where a word of the line is a llama-server, the arguments begin behind it. What is not taken is
//! listed with its reason, also where the whole fails.

mod container;
mod kcpps;
mod modelfile;
mod program;
mod script;
mod shell;
mod unit;
mod yaml;

pub(super) use kcpps::is_one as is_kcpps;
pub(super) use modelfile::is_one as is_modelfile;
pub(super) use unit::is_unit;
pub(super) use yaml::is_one as is_yaml;

use super::omissions::{Omissions, sentence};
use super::position::unreadable;
use super::spec::{ImportSpec, ModelSpec, SettingsSpec};
use llamactl_protocol::environment::names_secret;
use llamactl_protocol::options::command_line::{self, Word};
use llamactl_protocol::options::{Build, Settings, VARIABLE_PREFIX, catalogue, find, secret};
use llamactl_protocol::{Failure, Hint, WirePath, name};
use program::Program;
use script::Command;
use shell::{Expanded, Variables};
use std::path::Path;

/// Flags that name what llama-server fetches.
const FETCHED: &[&str] =
    &["-hf", "-hfr", "--hf-repo", "-mu", "--model-url", "-dr", "--docker-repo"];

/// What a variable of llama-server's begins with when it switches an option off.
const NEGATED_VARIABLE: &str = "LLAMA_ARG_NO_";

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
    let of_another_program = match (is_modelfile(text), is_kcpps(text)) {
        (true, _) => Some(modelfile::arguments(text, home, left_out)?),
        (_, true) => Some(kcpps::arguments(text, left_out)?),
        _ => None,
    };
    if let Some(arguments) = of_another_program {
        let program = Program { arguments, ..Program::default() };
        spec.models.push(model(program, build, base, left_out)?);
        return Ok(());
    }
    let mut known = Variables::of_home(home);
    let commands = if is_unit(text) {
        let unit = unit::read(text, home, left_out)?;
        let base = unit.directory.map_or_else(|| base.to_owned(), |there| base.join(there));
        let words = unit.words.as_slice();
        match script::in_quotes(std::iter::once(words))
            .filter(|_| program::server_at(words).is_none())
        {
            Some((runner, inner)) => {
                left_out.add(runner, "llamactl starts llama-server itself");
                let mut commands = script::commands(&inner, &mut known, &base, left_out)?;
                commands.iter_mut().for_each(|it| it.exported.extend(unit.variables.clone()));
                commands
            }
            None => vec![Command { exported: unit.variables, words: unit.words, base }],
        }
    } else {
        let lines = yaml::lines(text, left_out).unwrap_or_else(|| vec![text.to_owned()]);
        let mut commands = Vec::new();
        for line in lines {
            commands.extend(script::commands(&line, &mut known.clone(), base, left_out)?);
        }
        commands
    };
    let is_one = commands.len() == 1;
    let mut refused = None;
    for command in commands {
        let Command { exported, words, base } = command;
        let program = program::of(exported, words, left_out);
        match model(program, build, &base, left_out) {
            Ok(model) => spec.models.push(model),
            Err(failure) if is_one => return Err(failure),
            Err(failure) => {
                left_out.refused("a command of several", &failure);
                refused = Some(failure);
            }
        }
    }
    match refused {
        Some(failure) if spec.models.is_empty() => Err(failure),
        _ => Ok(()),
    }
}

/// The model that a llama-server is run for.
fn model(
    Program { variables, arguments }: Program,
    build: Option<&Build>,
    base: &Path,
    left_out: &mut Omissions,
) -> Result<ModelSpec, Failure> {
    let (settings, path, names, is_fetched) = (Settings::new(), None, vec![], false);
    let mut model = Model { build, base, settings, path, names, is_fetched };
    for (name, value) in variables {
        match value.unknown {
            None => model.variable(&name, &value.text, left_out),
            Some(of_shell) => left_out.add(name, unexpanded(&of_shell)),
        }
    }
    model.arguments(known_only(arguments, left_out), left_out);
    let Model { settings, path, mut names, is_fetched, .. } = model;
    let path = path.ok_or_else(|| {
        let failure = unreadable("the command line names no model file", None);
        match is_fetched {
            true => failure.hint(Hint::run(
                "it names what llama-server fetches, which llamactl does not; register what was \
                 fetched before",
                ["llamactl", "model", "scan", "--add"],
            )),
            false => failure
                .hint("it needs -m FILE; llamactl downloads nothing, so fetch the file first"),
        }
    })?;
    names.retain(|name| !name.is_empty());
    let stem = crate::gguf::split::stem(path.as_path());
    // A path of Windows is one name here.
    let stem = stem.rsplit('\\').next().unwrap_or_default().to_owned();
    let wanted = if names.is_empty() { stem } else { names.remove(0) };
    let name = name::from_text(&wanted).ok_or_else(|| {
        unreadable(format!("no name can be made of {wanted:?}"), None)
            .hint("add --alias NAME to the command line")
    })?;
    Ok(ModelSpec {
        name,
        at: None,
        aliases: (!names.is_empty()).then_some(names),
        path: Some(path),
        settings: Some(SettingsSpec::merged(settings)),
        apart: true,
    })
}

const ADDRESS: &str = "each model listens on a socket of its own; llamactl model set NAME \
                       port=auto gives it a TCP port";

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
    /// Whether it names what llama-server is to fetch.
    is_fetched: bool,
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
                Word::Refused { flag, failure } => {
                    self.is_fetched |= FETCHED.contains(&flag.as_str());
                    left_out.refused(flag, &failure);
                }
                // Between a program and its arguments, for programs before it.
                Word::Unknown { flag, .. } if flag == "--" => {}
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
        if setting.is_secret() {
            self.settings.insert(setting.key.to_owned(), secret::given(value));
            return;
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
mod tests;
