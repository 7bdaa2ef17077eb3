//! Checking a change of settings against everything it must agree with.

use crate::models::{self, Checked, Layers};
use crate::store::registry::Registry;
use llamactl_protocol::Failure;
use llamactl_protocol::model::SettingsChange;
use llamactl_protocol::options::Settings;
use serde_json::Value;

/// A change that the catalogue, the build and the defaults agree with.
pub(super) struct Validated {
    pub(super) checked: Checked,
    /// The model's own settings as they were.
    pub(super) before: Settings,
}

/// Checks a change of a model's own settings, which are `before` now: each by the catalogue and by
/// the build the model will run on, then all together with the defaults below them.
pub(super) async fn validate(
    registry: &Registry,
    change: &SettingsChange,
    before: &Settings,
) -> Result<Validated, Failure> {
    let defaults = registry.defaults().await?.settings;
    let (build, note) =
        models::build_of(registry, &runtime_after(change, before, &defaults)).await?;
    let mut checked = models::check(change, build.as_ref())?;
    let after = checked.applied_to(before);
    let layers = Layers { defaults, model: after, run: Settings::new() };
    layers.check()?;
    if let Some(build) = &build {
        models::accepted(build, &checked.set)?;
        // On another build, what was set before must be right too.
        if checked.set.contains_key(models::RUNTIME) {
            models::accepted(build, &layers.effective())?;
        }
    }
    let files = checked.set.clone();
    let missing = tokio::task::spawn_blocking(move || models::check_files(&files)).await;
    checked.notes.extend(missing.unwrap_or_default());
    checked.notes.extend(note.filter(|_| !checked.set.is_empty()));
    Ok(Validated { checked, before: before.clone() })
}

/// The settings that name the runtime after a change: only that key matters.
fn runtime_after(change: &SettingsChange, before: &Settings, defaults: &Settings) -> Settings {
    let key = models::RUNTIME;
    let own = || before.get(key).filter(|_| !change.unset.iter().any(|unset| unset == key));
    let value: Option<&Value> = change.set.get(key).or_else(own).or_else(|| defaults.get(key));
    value.map(|value| (key.to_owned(), value.clone())).into_iter().collect()
}
