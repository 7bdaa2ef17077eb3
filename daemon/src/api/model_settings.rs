//! `model.set`, `model.args`, `model.key`: a model's settings and what comes of them.

use super::model::{finish, shown};
use super::registration::Caller;
use super::validation;
use crate::api::app::App;
use crate::library;
use crate::models::{self, Layers};
use crate::store::registry::{ModelChange, StoreError};
use llamactl_protocol::model::{
    Changed, CommandLine, Key, ModelArgs, ModelKey, ModelSet, SettingsChange,
};
use llamactl_protocol::options::{Settings, rules};
use llamactl_protocol::{Actor, Failure, Hint, Kind};

pub(super) async fn set(app: &App, caller: Caller, set: ModelSet) -> Result<Changed, Failure> {
    rules::check_given(&set.change.set)?;
    change(app, &set.model, &set.change, None, caller.actor).await
}

/// Changes settings and, where `path` is among them, the file. `what` says what the change is,
/// where its parts do not.
pub(super) async fn change(
    app: &App,
    reference: &str,
    change: &SettingsChange,
    what: Option<String>,
    by: Actor,
) -> Result<Changed, Failure> {
    loop {
        // Some settings only make sense together, so the whole is checked before it is written;
        // the revision makes sure that it is this whole.
        let before = app.registry.model(reference).await?;
        let validated = validation::validate(&app.registry, change, &before.settings).await?;
        let file = match validated.checked.path.clone() {
            Some(path) => Some(library::read(path).await?),
            None => None,
        };
        let secrets = app.registry.secrets();
        let away = models::put_away(secrets, validated.checked.set, &validated.before).await?;
        let stored = ModelChange {
            set: away.settings,
            unset: validated.checked.unset,
            file,
            what: what.clone(),
        };
        let seen = change.if_revision.unwrap_or(before.revision);
        let changed = app.registry.change_model(reference, stored, Some(seen), by.clone()).await;
        if changed.is_err() {
            secrets.remove(away.made).await;
        }
        match changed {
            // Somebody else was faster; the caller did not ask to be told, so look again.
            Err(StoreError::RevisionConflict { .. }) if change.if_revision.is_none() => {}
            Err(error) => return Err(error.into()),
            Ok((model, changed)) => {
                return finish(app, model, changed, validated.checked.notes).await;
            }
        }
    }
}

pub(super) async fn args(app: &App, _: Caller, args: ModelArgs) -> Result<CommandLine, Failure> {
    let model = app.registry.model(&args.model).await?;
    app.supervisor.command_line(&model).await
}

pub(super) async fn key(app: &App, _: Caller, key: ModelKey) -> Result<Key, Failure> {
    let model = app.registry.model(&key.model).await?;
    let settings = Layers::of(&app.registry, &model, Settings::new()).await?.effective();
    let secrets = app.registry.secrets().clone();
    let read = tokio::task::spawn_blocking(move || models::key_of(&secrets, &settings)).await;
    let read = read.map_err(|_| Failure::new(Kind::Internal, "reading the key failed"))??;
    let name = shown(model).name;
    read.map(|key| Key { key }).ok_or_else(|| {
        Failure::new(Kind::KeyNotSet, format!("{name} asks its clients for no key"))
            .hint(Hint::run("make one", ["llamactl", "model", "set", &name, "api-key=generate"]))
    })
}
