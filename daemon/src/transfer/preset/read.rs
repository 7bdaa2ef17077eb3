//! Reading a preset file.

use super::{GLOBAL, OFF, ON};
use crate::transfer::omissions::Omissions;
use crate::transfer::position::{At, unreadable};
use crate::transfer::spec::{ImportSpec, ModelSpec, SettingsSpec};
use llamactl_protocol::options::command_line::collect;
use llamactl_protocol::options::command_line::{self, Word};
use llamactl_protocol::options::{Build, Settings, catalogue};
use llamactl_protocol::{Failure, WirePath};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What llama-server's router does with a model, which is none of its server's options.
const OF_THE_ROUTER: &[(&str, &str)] = &[
    ("load-on-startup", "llamactl start NAME starts a server, and it stays wanted until stopped"),
    ("stop-timeout", "llamactl waits for answers under way and then stops a server for certain"),
    ("host", ADDRESS),
    ("port", ADDRESS),
];

const ADDRESS: &str = "the router ignores it too: each model listens on a socket of its own, and \
                       port=auto gives it a TCP port";

/// A section as it stands there.
#[derive(Default)]
struct Section {
    name: String,
    line: usize,
    /// By key; of one given twice the last counts.
    entries: BTreeMap<String, (usize, String)>,
    /// The keys in the order they first stood.
    order: Vec<String>,
}

impl Section {
    fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.order.iter().filter_map(|key| Some((key.as_str(), self.entries.get(key)?.1.as_str())))
    }
}

/// Reads a preset. Relative paths are taken from `base`.
///
/// # Errors
/// `Kind::Unreadable`, with the line.
pub fn read(text: &str, build: Option<&Build>, base: &Path) -> Result<ImportSpec, Failure> {
    let mut spec = ImportSpec::default();
    let sections = sections(text, &mut spec)?;
    let entry = |key: &str, value: &str| entry(key, value, build, base);
    let mut global = Settings::new();
    for section in sections.iter().filter(|section| section.name == GLOBAL) {
        for (key, value) in section.entries() {
            match entry(key, value) {
                Entry::Setting(key, value) => collect(&mut global, key, value),
                Entry::Path(_) | Entry::Aliases(_) => {
                    spec.left_out.add(key, "a model's own: it cannot hold for all models");
                }
                Entry::LeftOut(reason) => spec.left_out.add(key, reason),
            }
        }
    }
    for section in sections.iter().filter(|section| section.name != GLOBAL) {
        let mut model = ModelSpec {
            name: section.name.clone(),
            at: Some(At { line: section.line, column: 1 }),
            ..ModelSpec::default()
        };
        let mut own = Settings::new();
        let mut left_out = Omissions::default();
        for (key, value) in section.entries() {
            match entry(key, value) {
                Entry::Setting(key, value) => collect(&mut own, key, value),
                Entry::Path(path) => model.path = Some(path),
                Entry::Aliases(aliases) => model.aliases = Some(aliases),
                Entry::LeftOut(reason) => left_out.add(format!("{}: {key}", section.name), reason),
            }
        }
        spec.left_out.extend(left_out);
        if model.path.is_none() {
            let reason = "it names no file of this machine (model = PATH), and llamactl downloads \
                          nothing";
            spec.left_out.add(format!("the model {}", section.name), reason);
            continue;
        }
        let mut settings = global.clone();
        settings.extend(own);
        model.settings = Some(SettingsSpec::merged(settings));
        spec.models.push(model);
    }
    Ok(spec)
}

fn sections(text: &str, spec: &mut ImportSpec) -> Result<Vec<Section>, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut sections: Vec<Section> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut current: Option<usize> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        // A comment begins anywhere: llama-server knows no way around it.
        let cut = line.find([';', '#']).map(|at| line.split_at(at));
        let (line, comment) = cut.unwrap_or((line, ""));
        if line.contains('=')
            && line.ends_with(|it: char| !it.is_whitespace() && it != '=')
            && !comment.is_empty()
        {
            spec.notes.push(format!(
                "line {number}: {comment:?} is a comment to llama-server, and no part of the value"
            ));
        }
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let at = Some(At { line: number, column: 1 });
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').map(str::trim).filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| unreadable("this is no [name] of a section", at))?;
            current = Some(open(name, number, &mut sections, &mut seen, spec));
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(unreadable("this is neither a [section], a key = value nor a comment", at));
        };
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() {
            return Err(unreadable("there is no key before the =", at));
        }
        // The version of the format stands before all sections.
        if current.is_none() && key == "version" {
            continue;
        }
        // llama-server takes what stands before all sections for a model of this name.
        let section =
            current.unwrap_or_else(|| open("default", number, &mut sections, &mut seen, spec));
        current = Some(section);
        if let Some(section) = sections.get_mut(section) {
            if !section.entries.contains_key(key) {
                section.order.push(key.to_owned());
            }
            section.entries.insert(key.to_owned(), (number, value.to_owned()));
        }
    }
    Ok(sections)
}

/// Begins a section; one of the same name before it no longer counts.
fn open(
    name: &str,
    line: usize,
    sections: &mut Vec<Section>,
    seen: &mut BTreeMap<String, usize>,
    spec: &mut ImportSpec,
) -> usize {
    let new = Section { name: name.to_owned(), line, ..Section::default() };
    if let Some(there) = seen.get(name) {
        spec.notes.push(format!("line {line}: [{name}] again: only this one counts"));
        if let Some(section) = sections.get_mut(*there) {
            *section = new;
        }
        return *there;
    }
    seen.insert(name.to_owned(), sections.len());
    sections.push(new);
    sections.len() - 1
}

/// What a key with its value says.
enum Entry {
    Setting(String, Value),
    Path(WirePath),
    Aliases(Vec<String>),
    LeftOut(String),
}

fn entry(key: &str, value: &str, build: Option<&Build>, base: &Path) -> Entry {
    if let Some((_, reason)) = OF_THE_ROUTER.iter().find(|(name, _)| *name == key) {
        return Entry::LeftOut((*reason).to_owned());
    }
    let of_variable = catalogue().find(|it| !it.variable.is_empty() && it.variable == key);
    let flags = match of_variable {
        Some(setting) => vec![setting.flag(build)],
        None => vec![format!("--{key}"), format!("-{key}")],
    };
    let arguments = |flag: &String| [WirePath::from(flag.as_str()), WirePath::from(value)];
    for flag in &flags {
        let words = command_line::read(&arguments(flag), build, base);
        // A flag that takes no value leaves the value over.
        let over = words.len() > 1;
        match words.into_iter().next() {
            None | Some(Word::Unknown { .. }) => {}
            Some(Word::Setting { key, value: Value::Bool(on), .. }) if over => {
                return match (ON.contains(&value), OFF.contains(&value)) {
                    (true, _) => Entry::Setting(key, Value::Bool(on)),
                    (_, true) => Entry::Setting(key, Value::Bool(!on)),
                    _ => Entry::LeftOut(format!(
                        "llama-server takes {value:?} for on: write on or off"
                    )),
                };
            }
            Some(Word::Setting { key, value, .. }) => return Entry::Setting(key, value),
            Some(Word::Path(path)) => return Entry::Path(path),
            Some(Word::Alias(names)) => {
                let names = names.split(',').map(|name| name.trim().to_owned());
                return Entry::Aliases(names.filter(|name| !name.is_empty()).collect());
            }
            Some(Word::Refused { failure, .. }) => {
                return Entry::LeftOut(crate::transfer::omissions::sentence(&failure));
            }
        }
    }
    let known = llamactl_protocol::options::find(key, build).err();
    let reason = known.map_or_else(
        || "llama-server does not know this key in a preset".to_owned(),
        |failure| crate::transfer::omissions::sentence(&failure),
    );
    Entry::LeftOut(reason)
}
