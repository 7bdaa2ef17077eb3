//! Runtimes as they are shown.

use super::probe::probe;
use super::resolve::{Place, broken, known, look};
use super::{SYSTEM, inspect::Found};
use crate::store::registry::{NewRuntime, Registry};
use llamactl_protocol::options::{Settings, layers, look_up, secret};
use llamactl_protocol::runtime::{RuntimeDetail, RuntimeEntry, RuntimeOption};
use llamactl_protocol::{Actor, Failure, WirePath};
use serde_json::Value;

/// All runtimes, the one found without being told first, then by name.
///
/// # Errors
/// The registry's.
pub async fn entries(registry: &Registry) -> Result<Vec<RuntimeEntry>, Failure> {
    let users = Users::read(registry).await?;
    let mut entries = Vec::new();
    for place in Place::all(registry).await? {
        entries.push(describe(registry, place, &users).await?.0);
    }
    Ok(entries)
}

/// All runtimes, each asked anew whether it answers, and for its devices; nothing of it is kept.
///
/// # Errors
/// The registry's.
pub async fn entries_asked(registry: &Registry) -> Result<Vec<RuntimeEntry>, Failure> {
    let users = Users::read(registry).await?;
    let mut entries = Vec::new();
    for place in Place::all(registry).await? {
        let (mut entry, _) = describe(registry, place.clone(), &users).await?;
        if let (Ok(found), None) = (place.locate().await, &entry.problem) {
            let probed = tokio::task::spawn_blocking(move || probe(found)).await;
            match probed.map_err(|error| broken(&error))? {
                Ok(build) => entry.devices = Some(build.devices),
                Err(problem) => entry.problem = Some(place.lacking(problem)),
            }
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The runtime of this name.
///
/// # Errors
/// [`llamactl_protocol::Kind::RuntimeNotFound`] for a name nobody gave; the registry's.
pub async fn entry(registry: &Registry, name: &str) -> Result<RuntimeEntry, Failure> {
    let place = Place::of(registry, Some(name)).await?;
    Ok(describe(registry, place, &Users::read(registry).await?).await?.0)
}

/// The same with all its options.
///
/// # Errors
/// As [`entry`].
pub async fn detail(registry: &Registry, name: &str) -> Result<RuntimeDetail, Failure> {
    let place = Place::of(registry, Some(name)).await?;
    let (runtime, build) = describe(registry, place, &Users::read(registry).await?).await?;
    let options = build.map(|build| build.options).unwrap_or_default();
    let known = |flag: &String| look_up(flag, None).is_ok();
    let options = options
        .into_iter()
        .map(|option| RuntimeOption { in_catalogue: option.flags.iter().any(known), option })
        .collect();
    Ok(RuntimeDetail { runtime, options })
}

/// Who uses which runtime.
pub(super) struct Users {
    default: String,
    defaults: Settings,
    models: Vec<(String, Settings)>,
}

impl Users {
    pub(super) async fn read(registry: &Registry) -> Result<Users, Failure> {
        let (defaults, models) = registry.all_settings().await?;
        let default = registry.default_runtime().await?;
        let default = default.map_or_else(|| SYSTEM.to_owned(), |named| named.name);
        Ok(Users { default, defaults, models })
    }

    /// The models whose own settings name it.
    fn naming(&self, name: &str) -> Vec<String> {
        let named = self.models.iter().filter(|(_, own)| named_in(own) == Some(name));
        named.map(|(model, _)| model.clone()).collect()
    }

    /// The models that use it, with the settings that hold for them.
    pub(super) fn using(&self, name: &str) -> impl Iterator<Item = (&str, Settings)> {
        self.models.iter().filter_map(move |(model, own)| {
            let settings = layers::effective(&self.defaults, own);
            let used = named_in(&settings).unwrap_or(&self.default);
            (used == name).then_some((model.as_str(), settings))
        })
    }
}

fn named_in(settings: &Settings) -> Option<&str> {
    settings.get("runtime").and_then(Value::as_str)
}

/// A runtime as it is shown, and its build. A build that was never looked at is looked at now; one
/// that was replaced is shown as it was, and said to have changed.
async fn describe(
    registry: &Registry,
    place: Place,
    users: &Users,
) -> Result<(RuntimeEntry, Option<NewRuntime>), Failure> {
    let located = place.locate().await;
    let is_there = located.is_ok();
    let seen = match located {
        Ok(found) => seen(registry, found).await?,
        Err(problem) => Seen { problem: Some(problem), ..before(registry, &place).await? },
    };
    let named = place.named.as_ref();
    let build = seen.build;
    let path = named
        .map(|named| named.path.clone())
        .or_else(|| build.as_ref().map(|build| build.path.clone()));
    let entry = RuntimeEntry {
        path: path.or(seen.path),
        version: build.as_ref().and_then(|build| build.version.clone()),
        is_default: users.default == place.name,
        found: is_there,
        problem: seen.problem,
        changed: seen.changed,
        reports_progress: build.as_ref().map(|build| build.reports_progress),
        options_total: build
            .as_ref()
            .map(|build| build.options.iter().filter(|option| !option.removed).count() as u64),
        devices: build.as_ref().map(|build| build.devices.clone()),
        environment: named.map(|named| secret::masked(&named.environment)).unwrap_or_default(),
        models: users.naming(&place.name),
        named_by_defaults: named_in(&users.defaults) == Some(&place.name),
        added_at_ms: named.map(|named| named.added_at_ms),
        revision: named.map(|named| named.revision),
        name: place.name,
    };
    Ok((entry, build))
}

/// What is known of the build behind a runtime.
#[derive(Default)]
struct Seen {
    path: Option<WirePath>,
    build: Option<NewRuntime>,
    changed: bool,
    problem: Option<Failure>,
}

async fn seen(registry: &Registry, found: Found) -> Result<Seen, Failure> {
    if let Some((_, build)) = known(registry, &found).await? {
        return Ok(Seen { build: Some(build), ..Seen::default() });
    }
    let path = WirePath(found.path.clone());
    let last = registry.last_runtime_at(path.clone()).await?;
    let is_it = |build: &NewRuntime| {
        let file = (build.inode, build.size_bytes, build.mtime_ns);
        file == (found.inode, found.size_bytes, found.mtime_ns)
    };
    // The same file with other libraries is asked, as one that is new.
    if let Some(build) = last.filter(|build| !is_it(build)) {
        return Ok(Seen { build: Some(build), changed: true, ..Seen::default() });
    }
    Ok(match look(registry, found, &Actor::Policy).await {
        Ok((_, build)) => Seen { build: Some(build), ..Seen::default() },
        Err(problem) => Seen { path: Some(path), problem: Some(problem), ..Seen::default() },
    })
}

/// What a runtime was that is not there now.
async fn before(registry: &Registry, place: &Place) -> Result<Seen, Failure> {
    let Some(named) = &place.named else { return Ok(Seen::default()) };
    Ok(Seen { build: registry.last_runtime_at(named.path.clone()).await?, ..Seen::default() })
}
