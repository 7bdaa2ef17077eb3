//! Checking what is requested for as `model set` does: by the catalogue, by the build the model runs
//! on, and all together with the defaults below.

use super::import::blocking;
use super::locate::Locator;
use super::omissions::Omissions;
use super::position::placed;
use super::spec::{Given, ImportSpec, RuntimeSpec, SettingsSpec};
use crate::models::{self, Layers};
use crate::store::registry::{Registry, StoredRuntime};
use llamactl_protocol::options::{Build, Settings, find, layers, rules, secret};
use llamactl_protocol::{Failure, Kind, WirePath};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Builds, by the name settings give them; `None` is the default one.
pub(super) struct Builds<'a> {
    registry: &'a Registry,
    /// Runtimes that come in with the same import: nobody has looked at them yet.
    coming: BTreeSet<String>,
    /// That of them which models use that name no other.
    coming_default: Option<String>,
    known: BTreeMap<Option<String>, (Option<Build>, Option<String>)>,
}

impl<'a> Builds<'a> {
    /// `there` are the runtimes the registry has.
    pub(super) fn new(
        registry: &'a Registry,
        spec: &ImportSpec,
        there: &[StoredRuntime],
    ) -> Builds<'a> {
        let is_new = |runtime: &&RuntimeSpec| {
            let mut there = there.iter();
            !there.any(|it| it.name == runtime.name && it.path == runtime.path)
        };
        let coming: Vec<&RuntimeSpec> = spec.runtimes.iter().filter(is_new).collect();
        let default = coming.iter().find(|runtime| runtime.is_default);
        Builds {
            registry,
            coming_default: default.map(|runtime| runtime.name.clone()),
            coming: coming.iter().map(|runtime| runtime.name.clone()).collect(),
            known: BTreeMap::new(),
        }
    }

    /// The build that settings name, and why there is none to check by.
    pub(super) async fn of(
        &mut self,
        settings: &Settings,
    ) -> Result<(Option<Build>, Option<String>), Failure> {
        let name = settings.get(models::RUNTIME).and_then(Value::as_str).map(str::to_owned);
        if let Some(known) = self.known.get(&name) {
            return Ok(known.clone());
        }
        let only = settings.get(models::RUNTIME);
        let only: Settings =
            only.map(|value| (models::RUNTIME.to_owned(), value.clone())).into_iter().collect();
        let coming = match &name {
            Some(name) => self.coming.get(name),
            None => self.coming_default.as_ref(),
        };
        let found = match coming {
            // Looking at a build means running it: not before it is in.
            Some(name) => {
                let note = format!("not checked against {name}: it comes in with this import");
                (None, Some(note))
            }
            None => {
                let runtimes = self.registry.named_runtimes().await?;
                models::build_of(self.registry, &runtimes, &only).await?
            }
        };
        self.known.insert(name, found.clone());
        Ok(found)
    }
}

/// What the settings of one owner, a model or the defaults, are checked with.
pub(super) struct Owner<'a> {
    /// How messages call it.
    pub(super) name: &'a str,
    /// Whether it is the defaults for all models.
    pub(super) is_defaults: bool,
    /// What is refused fails the whole.
    pub(super) strict: bool,
    /// Where relative paths are taken from.
    pub(super) base: &'a Path,
    pub(super) locator: &'a Locator,
}

/// Settings that were checked.
#[derive(Debug, Default)]
pub(super) struct Validated {
    /// All settings afterwards; secrets as they were given, or as they are stored.
    pub(super) after: Settings,
    /// What the caller should know.
    pub(super) notes: Vec<String>,
}

/// Checks the settings of one owner, which has `before` now and `defaults` below it.
pub(super) async fn validate(
    owner: &Owner<'_>,
    requested: Option<&SettingsSpec>,
    before: &Settings,
    defaults: &Settings,
    builds: &mut Builds<'_>,
    left_out: &mut Omissions,
) -> Result<Validated, Failure> {
    let mut validated = Validated { after: before.clone(), notes: vec![] };
    let Some(requested) = requested else { return Ok(validated) };
    if requested.exact {
        validated.after.clear();
    }
    let refuse = |key: &str, given: Option<&Given>, failure: Failure, left: &mut Omissions| {
        if owner.strict {
            let message = format!("{}: {}", owner.name, failure.message);
            let failure = Failure { message, ..with_key(failure, key) };
            return Err(placed(failure, given.and_then(|given| given.at)));
        }
        left.refused(format!("{}: {key}", owner.name), &failure);
        Ok(())
    };
    // The build decides what else is known, so it comes first.
    let runtime = requested.given.get(models::RUNTIME).map(|given| given.value.clone());
    let runtime = runtime.or_else(|| validated.after.get(models::RUNTIME).cloned());
    let runtime = runtime.or_else(|| defaults.get(models::RUNTIME).cloned());
    let mut naming: Settings =
        runtime.map(|value| (models::RUNTIME.to_owned(), value)).into_iter().collect();
    let is_asked = !requested.given.keys().all(|key| models::needs_no_build(key));
    let found = if is_asked { builds.of(&naming).await } else { Ok((None, None)) };
    let (build, note) = match found {
        Ok(found) => found,
        Err(failure) => {
            let given = requested.given.get(models::RUNTIME);
            refuse(models::RUNTIME, given, failure, left_out)?;
            naming.clear();
            builds.of(&naming).await?
        }
    };
    let is_dropped = |key: &str| key == models::RUNTIME && naming.is_empty();
    let mut keys: BTreeMap<String, &str> = BTreeMap::new();
    for (name, given) in &requested.given {
        if is_dropped(name) {
            continue;
        }
        match one(owner, name, given, build.as_ref(), before) {
            Ok(One::Setting(key, value)) => {
                if keys.insert(key.clone(), name).is_some() {
                    let message = format!("{key} is given twice, under two of its names");
                    let failure = Failure::new(Kind::InvalidValue, message);
                    refuse(&key, Some(given), failure, left_out)?;
                    continue;
                }
                validated.after.insert(key, value);
            }
            Ok(One::SecretMissing(key)) => {
                validated.notes.push(format!(
                    "{key} is a secret that this machine does not have: give it again, {key}=@FILE"
                ));
            }
            Err(failure) => refuse(name, Some(given), failure, left_out)?,
        }
    }
    // What only makes sense together, and files that are none. Each round leaves out one setting, so
    // it ends.
    let (set, missing) = loop {
        let layers = Layers {
            defaults: if owner.is_defaults { Settings::new() } else { defaults.clone() },
            model: validated.after.clone(),
            run: Settings::new(),
        };
        let set: Settings = keys
            .keys()
            .filter_map(|key| Some((key.clone(), validated.after.get(key)?.clone())))
            .collect();
        let named = set.clone();
        let failure = match layers.check() {
            Ok(()) => match blocking(move || models::check_files(&models::named_in(&named, None)))
                .await?
            {
                Ok(missing) => break (set, missing),
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        let key = together(&failure, &keys).or_else(|| keys.keys().next_back().cloned());
        let name = key.as_ref().and_then(|key| keys.get(key)).copied();
        refuse(
            key.as_deref().unwrap_or("settings"),
            name.and_then(|name| requested.given.get(name)),
            failure.clone(),
            left_out,
        )?;
        let Some(key) = key else { return Err(failure) };
        keys.remove(&key);
        match before.get(&key).filter(|_| !requested.exact) {
            Some(value) => validated.after.insert(key, value.clone()),
            None => validated.after.remove(&key),
        };
    };
    if let Some(build) = build.as_ref().filter(|_| set.contains_key(models::RUNTIME)) {
        // On another build, what was set before must be right too.
        let all = layers::over(defaults, &validated.after);
        if let Err(failure) = models::accepted(build, &all) {
            validated.notes.push(super::omissions::sentence(&failure));
        }
    }
    validated.notes.extend(rules::notes(&set));
    validated.notes.extend(note.filter(|_| !set.is_empty()));
    validated.notes.extend(missing);
    Ok(validated)
}

/// Of the settings a refusal names, the last one that came in: the one to do without.
fn together(failure: &Failure, keys: &BTreeMap<String, &str>) -> Option<String> {
    let details = failure.details.as_ref()?;
    let named = details.get("keys")?.as_array()?;
    let mut named = named.iter().filter_map(Value::as_str);
    named.rfind(|key| keys.contains_key(*key)).map(str::to_owned)
}

fn with_key(failure: Failure, key: &str) -> Failure {
    let mut details = match failure.details {
        Some(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    details.entry("key").or_insert_with(|| json!(key));
    Failure { details: Some(Value::Object(details)), ..failure }
}

enum One {
    Setting(String, Value),
    /// A secret is said to be kept, and is not.
    SecretMissing(String),
}

fn one(
    owner: &Owner<'_>,
    name: &str,
    given: &Given,
    build: Option<&Build>,
    before: &Settings,
) -> Result<One, Failure> {
    let setting = find(name, build)?;
    if setting.key == "path" {
        let message = "path is no setting among the others";
        return Err(Failure::new(Kind::InvalidValue, message).hint(if owner.is_defaults {
            "each model has a file of its own"
        } else {
            "it stands beside the settings"
        }));
    }
    if secret::is_shown(&given.value) {
        let key = setting.key.to_owned();
        let stored = before.get(&key).filter(|value| secret::id_of(value).is_some());
        return Ok(match stored {
            Some(stored) => One::Setting(key, stored.clone()),
            None => One::SecretMissing(key),
        });
    }
    // A reference to a file of secrets is nothing anybody can give.
    if secret::id_of(&given.value).is_some() {
        return Err(Failure::new(Kind::InvalidValue, "this names no secret of this machine"));
    }
    let value = if setting.takes_path() {
        owner.locator.mapped_value(absolute(&given.value, owner.base))
    } else {
        given.value.clone()
    };
    let value = setting.check(&value)?;
    if owner.is_defaults {
        rules::check_default(setting.key, &value)?;
    }
    if let Some(build) = build {
        let set = Settings::from([(setting.key.to_owned(), value.clone())]);
        models::accepted(build, &set)?;
    }
    Ok(One::Setting(setting.key.to_owned(), value))
}

/// Relative paths as they are meant where the text lay.
fn absolute(value: &Value, base: &Path) -> Value {
    match value {
        Value::String(text) if !text.is_empty() && !text.starts_with('/') => {
            json!(WirePath(base.join(text)))
        }
        Value::Array(items) => items.iter().map(|item| absolute(item, base)).collect(),
        other => other.clone(),
    }
}
