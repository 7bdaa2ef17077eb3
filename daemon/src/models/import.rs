//! Putting a whole import in.

use super::Models;
use super::secrets::NewSecrets;
use crate::store::registry::{Everything, Import, StoreError};
use llamactl_protocol::options::Settings;
use llamactl_protocol::{Actor, Failure, Kind};
use std::collections::BTreeMap;

impl Models {
    /// Carries out an import that was planned from `seen`: all of it, or nothing.
    ///
    /// # Errors
    /// [`llamactl_protocol::Kind::RevisionConflict`] when somebody else changed the registry since;
    /// what the disk refuses.
    pub async fn import(
        &self,
        mut import: Import,
        seen: &Everything,
        by: Actor,
    ) -> Result<(), Failure> {
        let mut secrets = NewSecrets::of(&self.registry);
        for (settings, before) in settings_in(&mut import, seen) {
            *settings = secrets.put_away(std::mem::take(settings), before).await?;
        }
        let registry = self.registry.clone();
        // On its own: it has steps, and whoever asked for it may hang up between two.
        let importing =
            async move { secrets.settle(registry.import(import, by).await, |()| true).await };
        let done = tokio::spawn(importing).await;
        let done = done.map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
        done.map_err(|error| match error {
            // The plan knew of nobody who has it, so somebody else took it meanwhile.
            StoreError::NameTaken { .. } => Failure::from(error).hint("look again and retry"),
            error => error.into(),
        })
    }
}

/// No settings at all.
static NONE: Settings = Settings::new();

/// All settings of an import, each with what they were before.
fn settings_in<'a>(
    import: &'a mut Import,
    seen: &'a Everything,
) -> Vec<(&'a mut Settings, &'a Settings)> {
    let before: BTreeMap<i64, &Settings> =
        seen.models.iter().map(|model| (model.id, &model.settings)).collect();
    let defaults = import.defaults.iter_mut().map(|it| (it, &seen.defaults.settings));
    let runtimes = import.runtimes.iter_mut().map(|it| (&mut it.environment, &NONE));
    let added = import.added.iter_mut().map(|(new, _)| (&mut new.settings, &NONE));
    let changed = import.changed.iter_mut().map(|it| {
        let before = before.get(&it.id).copied().unwrap_or(&NONE);
        (&mut it.change.set, before)
    });
    defaults.chain(runtimes).chain(added).chain(changed).collect()
}
