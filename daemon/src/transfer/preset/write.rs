//! Writing a preset file.

use super::GLOBAL;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::command_line::{self, Word};
use llamactl_protocol::options::{Build, Setting, Settings, Told, Values, find, text};
use llamactl_protocol::{WirePath, options};
use serde_json::Value;
use std::path::Path;

/// A piece of a preset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The preset, as an INI text.
    pub text: String,
    /// What could not be told.
    pub notes: Vec<String>,
}

/// The beginning: what holds for all models.
#[must_use]
pub fn write_defaults(defaults: &Settings, build: Option<&Build>) -> Exported {
    let mut exported = Exported {
        text: "; for llama-server --models-preset; written by llamactl\nversion = 1\n".to_owned(),
        notes: vec![],
    };
    if !defaults.is_empty() {
        exported.text.push_str(&format!("\n[{GLOBAL}]\n"));
        write_settings(&mut exported, "defaults", defaults, build);
    }
    exported
}

/// A model, its secrets shown.
#[must_use]
pub fn write_model(model: &Model, build: Option<&Build>) -> Exported {
    let mut exported = Exported::default();
    let name = &model.name;
    let path = model.path.as_path().to_str().filter(|path| fits(path));
    let Some(path) = path else {
        let why = "a preset cannot hold the path of its file";
        exported.text = format!("\n; the model {name} is left out: {why}\n");
        exported.notes.push(format!("{name} is left out: {why} ({})", model.path));
        return exported;
    };
    exported.text = format!("\n[{name}]\nmodel = {path}\n");
    if !model.aliases.is_empty() {
        exported.text.push_str(&format!("alias = {}\n", model.aliases.join(",")));
    }
    write_settings(&mut exported, name, &model.settings, build);
    exported
}

fn write_settings(
    exported: &mut Exported,
    whose: &str,
    settings: &Settings,
    build: Option<&Build>,
) {
    let (settings, unknown) = with_extra(settings, build);
    for (key, value) in &settings {
        match entry(key, value, build) {
            Ok((name, value)) => exported.text.push_str(&format!("{name} = {value}\n")),
            Err(why) => {
                exported.text.push_str(&format!("; {key} is not here: {why}\n"));
                exported.notes.push(format!("{whose}: {key} is not in the preset: {why}"));
            }
        }
    }
    for flag in unknown {
        let why = "what is not known of it cannot be told";
        exported.text.push_str(&format!("; {flag} of extra-args is not here: {why}\n"));
        exported.notes.push(format!("{whose}: {flag} of extra-args is not in the preset: {why}"));
    }
}

/// The settings with those that `extra-args` holds, which stand behind them on a command line; and
/// the flags in it that are none.
fn with_extra(settings: &Settings, build: Option<&Build>) -> (Settings, Vec<String>) {
    let mut all = settings.clone();
    let extra = all.remove("extra-args");
    let items = extra.as_ref().and_then(Value::as_array).into_iter().flatten();
    let arguments: Vec<WirePath> = items.filter_map(Value::as_str).map(WirePath::from).collect();
    let mut unknown = Vec::new();
    for word in command_line::read(&arguments, build, Path::new("/")) {
        match word {
            Word::Setting { key, value, .. } => command_line::collect(&mut all, key, value),
            Word::Refused { flag, .. } | Word::Unknown { flag, .. } => unknown.push(flag),
            Word::Path(_) | Word::Alias(_) => {}
        }
    }
    (all, unknown)
}

/// The key and value of a setting, or why a preset cannot hold it.
fn entry(key: &str, value: &Value, build: Option<&Build>) -> Result<(String, String), String> {
    let setting = find(key, build).map_err(|_| "llama-server has no such option".to_owned())?;
    if setting.is_secret() || options::secret::is_secret(value) {
        return Err("a secret is not written down; give it to llama-server yourself".to_owned());
    }
    if key.starts_with(options::VARIABLE_PREFIX) {
        return Err("a preset knows no variables; set it where llama-server is started".to_owned());
    }
    match setting.told {
        Told::Flag | Told::Repeated => {}
        Told::Environment(_) | Told::Own => {
            return Err("it is llamactl's own and no option of llama-server".to_owned());
        }
    }
    if setting.takes_two_arguments() {
        return Err("llama-server takes no option with two values from a preset".to_owned());
    }
    // Objects are paths that are no text.
    let is_odd = |value: &Value| value.is_object();
    let odd = is_odd(value) || value.as_array().is_some_and(|items| items.iter().any(is_odd));
    let text = value_text(&setting, value).ok_or("llama-server takes it only once there")?;
    if odd || !fits(&text) {
        return Err("a preset cannot hold a value with ; or # or of several lines".to_owned());
    }
    Ok((setting.flag(build).trim_start_matches('-').to_owned(), text))
}

fn value_text(setting: &Setting<'_>, value: &Value) -> Option<String> {
    match (&setting.values, value) {
        (Values::List { separator, .. }, Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(text).collect();
            match (setting.told, items.as_slice()) {
                (Told::Repeated, [one]) => Some(one.clone()),
                (Told::Repeated, _) => None,
                _ => Some(items.join(&separator.to_string())),
            }
        }
        (_, value) => Some(text(value)),
    }
}

/// Whether llama-server reads this value as it is written.
fn fits(value: &str) -> bool {
    !value.contains([';', '#', '\n', '\r', '\0']) && value.trim() == value
}
