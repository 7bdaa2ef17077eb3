//! Looking at builds anew, and at what they take no more.

use super::entries::{Users, entry};
use super::resolve::{Place, known, look_anew};
use super::verdict::refusals;
use crate::store::registry::{NewRuntime, Registry, RuntimeRecord};
use llamactl_protocol::runtime::{RefusedSetting, RuntimeRefreshed};
use llamactl_protocol::{Actor, Failure, Kind, WirePath};

/// Looks at a runtime anew, or at all: what changed, and which models could not be started with it
/// any more.
///
/// # Errors
/// For one: what keeps it from being looked at. For all, that stands with each. The registry's.
pub async fn refresh(
    registry: &Registry,
    name: Option<&str>,
    by: &Actor,
) -> Result<Vec<RuntimeRefreshed>, Failure> {
    if let Some(name) = name {
        let place = Place::of(registry, Some(name)).await?;
        return Ok(vec![refresh_one(registry, place, by).await?]);
    }
    let mut all = Vec::new();
    for place in Place::all(registry).await? {
        let name = place.name.clone();
        all.push(match refresh_one(registry, place, by).await {
            Ok(refreshed) => refreshed,
            Err(problem) => {
                let mut runtime = entry(registry, &name).await?;
                runtime.problem = Some(problem);
                RuntimeRefreshed {
                    runtime,
                    changed: false,
                    old_version: None,
                    new_version: None,
                    gained: vec![],
                    lost: vec![],
                    refused: vec![],
                }
            }
        });
    }
    Ok(all)
}

async fn refresh_one(
    registry: &Registry,
    place: Place,
    by: &Actor,
) -> Result<RuntimeRefreshed, Failure> {
    let found = place.locate().await?;
    let known = known(registry, &found).await?;
    let known_id = known.as_ref().map(|(id, _)| *id);
    let before = match known {
        Some((_, build)) => Some(build),
        None => registry.last_runtime_at(WirePath(found.path.clone())).await?,
    };
    let lib_dirs = found.lib_dirs.clone();
    let looked = look_anew(registry, found, by).await;
    let (id, after) = match looked {
        Ok(looked) => looked,
        Err(problem) => {
            // The file is the same and runs no more: what it needs is gone. Whoever asks next sees it too.
            if let Some(id) = known_id.filter(|_| problem.kind == Kind::RuntimeRefused) {
                registry.forget_answers(id).await?;
            }
            return Err(place.lacking(problem));
        }
    };
    let lacking = |of: Option<&NewRuntime>, than: Option<&NewRuntime>| -> Vec<String> {
        let keys = |build: Option<&NewRuntime>| {
            let options = build.map(|build| build.options.as_slice()).unwrap_or_default();
            let present = options.iter().filter(|option| !option.removed);
            present.map(|option| option.key.clone()).collect::<Vec<String>>()
        };
        let has = keys(than);
        keys(of).into_iter().filter(|key| !has.contains(key)).collect()
    };
    let old = before.as_ref();
    let record = place.record(id, after, lib_dirs);
    let new = Some(&record.found);
    Ok(RuntimeRefreshed {
        changed: old != new,
        old_version: old.and_then(|build| build.version.clone()),
        new_version: record.found.version.clone(),
        // Nothing is gained by a build that was never seen before.
        gained: if old.is_some() { lacking(new, old) } else { vec![] },
        lost: lacking(old, new),
        refused: refused_by(registry, &record).await?,
        runtime: entry(registry, &record.name).await?,
    })
}

/// The settings of the models that use a runtime, those from the defaults among them, that its
/// build does not take.
///
/// # Errors
/// The registry's.
pub async fn refused_by(
    registry: &Registry,
    record: &RuntimeRecord,
) -> Result<Vec<RefusedSetting>, Failure> {
    let build = record.build();
    let users = Users::read(registry).await?;
    let mut refused = Vec::new();
    for (model, settings) in users.using(&record.name) {
        for (key, failure) in refusals(&build, &settings) {
            refused.push(RefusedSetting { model: model.to_owned(), key, failure });
        }
    }
    Ok(refused)
}
