//! `defaults.*`

use super::model::differs_from_running;
use super::registration::Caller;
use crate::api::app::App;
use crate::models::{self, Layers};
use crate::store::registry::StoreError;
use llamactl_protocol::defaults::{Defaults, DefaultsChanged, DefaultsSet, DefaultsShow};
use llamactl_protocol::options::{Settings, rules, secret};
use llamactl_protocol::{Failure, Kind};

pub(super) async fn show(app: &App, _: Caller, _: DefaultsShow) -> Result<Defaults, Failure> {
    Ok(shown(app.registry.defaults().await?))
}

pub(super) async fn set(
    app: &App,
    caller: Caller,
    set: DefaultsSet,
) -> Result<DefaultsChanged, Failure> {
    let change = set.change;
    rules::check_given(&change.set)?;
    let by = caller.actor;
    loop {
        let before = app.registry.defaults().await?;
        let (build, note) = models::build_of(&app.registry, &before.settings).await?;
        let checked = models::check(&change, build.as_ref())?;
        if checked.path.is_some() {
            return Err(Failure::new(
                Kind::InvalidValue,
                "each model has a file of its own: path cannot be a default",
            ));
        }
        checked.set.iter().try_for_each(|(key, value)| rules::check_default(key, value))?;
        if let Some(build) = &build {
            models::accepted(build, &checked.set)?;
        }
        let after = checked.applied_to(&before.settings);
        check_models(app, &after).await?;
        let secrets = app.registry.secrets();
        let away = models::put_away(secrets, checked.set, &before.settings).await?;
        let seen = change.if_revision.unwrap_or(before.revision);
        let changed = app
            .registry
            .change_defaults(away.settings, checked.unset, Some(seen), by.clone())
            .await;
        if changed.is_err() {
            secrets.remove(away.made).await;
        }
        match changed {
            Err(StoreError::RevisionConflict { .. }) if change.if_revision.is_none() => {}
            Err(error) => return Err(error.into()),
            Ok((defaults, changed)) => {
                if changed {
                    app.supervisor.defaults_changed(&defaults.settings).await;
                }
                let mut notes = checked.notes;
                notes.extend(note.filter(|_| !change.set.is_empty()));
                let takes_effect_on_restart = waiting(app).await?;
                let defaults = shown(defaults);
                return Ok(DefaultsChanged { defaults, changed, takes_effect_on_restart, notes });
            }
        }
    }
}

/// Refuses defaults that make a model's settings contradict themselves.
async fn check_models(app: &App, defaults: &Settings) -> Result<(), Failure> {
    rules::check(defaults)?;
    let mut after = None;
    loop {
        let page = app.registry.models(after, 500).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.name.clone());
        for model in page {
            let layers =
                Layers { defaults: defaults.clone(), model: model.settings, run: Settings::new() };
            layers.check().map_err(|failure| Failure {
                message: format!("with the model {}: {}", model.name, failure.message),
                ..failure
            })?;
        }
    }
}

/// The models whose running servers have other settings than a restart would give them.
async fn waiting(app: &App) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for server in app.supervisor.active() {
        let Some(model) = app.registry.model_by_id(server.model_id).await? else { continue };
        if differs_from_running(app, &model).await? {
            names.push(model.name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn shown(defaults: Defaults) -> Defaults {
    Defaults { settings: secret::masked(&defaults.settings), ..defaults }
}
