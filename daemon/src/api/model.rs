//! `model.*`

use super::registration::Caller;
use super::{page, resolved, running};
use crate::api::app::App;
use crate::models::{Layers, Outcome};
use crate::store::registry::ModelLayers;
use llamactl_protocol::Failure;
use llamactl_protocol::model::{
    Added, Changed, Model, ModelAdd, ModelAlias, ModelCopy, ModelDetail, ModelList, ModelPage,
    ModelRemove, ModelRename, ModelShow, Removed,
};
use llamactl_protocol::options::{Group, POLICY, Settings, secret};

pub(super) async fn add(app: &App, caller: Caller, add: ModelAdd) -> Result<Added, Failure> {
    let Outcome { now, changed, notes, .. } = app.models.add(add, caller.actor).await?;
    Ok(Added { model: shown(now), added: changed, notes })
}

pub(super) async fn list(app: &App, _: Caller, list: ModelList) -> Result<ModelPage, Failure> {
    let limit = page::limit(list.limit, 200);
    let (mut items, more) =
        page::cut(app.registry.models(list.after.map(Into::into), limit + 1).await?, limit);
    app.model_files.look_at(&mut items).await?;
    let next = items.last().filter(|_| more).map(|model: &Model| model.name.clone());
    Ok(ModelPage { items: items.into_iter().map(shown).collect(), next })
}

pub(super) async fn show(app: &App, _: Caller, show: ModelShow) -> Result<ModelDetail, Failure> {
    let group = show.group.as_deref().map(Group::find).transpose()?;
    // Read at one moment: no revision is shown with the settings of another.
    let ModelLayers { mut record, defaults, runtimes } =
        app.registry.model_layers(&show.model).await?;
    app.model_files.look_at(std::slice::from_mut(&mut record.model)).await?;
    let mut server = app.supervisor.server(&record.model).await?;
    running::complete(app, std::slice::from_mut(&mut server)).await;
    let resolved = if show.resolved || group.is_some() {
        let (defaults, model) = (defaults.settings, record.model.settings.clone());
        let layers = Layers { defaults, model, run: Settings::new() };
        Some(resolved::resolve(app, record.model.id, layers, &runtimes, &server, group).await?)
    } else {
        None
    };
    Ok(ModelDetail {
        model: shown(record.model),
        chat_template: record.chat_template,
        server,
        resolved,
    })
}

pub(super) async fn rename(
    app: &App,
    caller: Caller,
    rename: ModelRename,
) -> Result<Changed, Failure> {
    answer(app, app.models.rename(rename, caller.actor).await?).await
}

pub(super) async fn copy(app: &App, caller: Caller, copy: ModelCopy) -> Result<Added, Failure> {
    let model = app.models.copy(copy, caller.actor).await?;
    Ok(Added { model: shown(model), added: true, notes: vec![] })
}

pub(super) async fn alias(
    app: &App,
    caller: Caller,
    alias: ModelAlias,
) -> Result<Changed, Failure> {
    answer(app, app.models.alias(alias, caller.actor).await?).await
}

pub(super) async fn remove(
    app: &App,
    caller: Caller,
    remove: ModelRemove,
) -> Result<Removed, Failure> {
    let model = app.registry.model(&remove.model).await?;
    let removal = app.supervisor.remove(&model, remove.stop, caller.actor);
    let removed = app.models.releasing_secrets(removal).await?;
    Ok(Removed { id: removed.id, name: removed.name })
}

/// Tells the caller what became of a change, and whether a running server must be restarted for it.
pub(super) async fn answer(app: &App, outcome: Outcome<Model>) -> Result<Changed, Failure> {
    let Outcome { now: model, changed, changes, notes } = outcome;
    // The change is made: not knowing this must not make it look refused.
    let takes_effect_on_restart = is_behind(app, &model).await.unwrap_or(false);
    Ok(Changed { model: shown(model), changed, changes, takes_effect_on_restart, notes })
}

async fn is_behind(app: &App, model: &Model) -> Result<bool, Failure> {
    // One that nobody looks after does not run.
    let Some(server) = app.supervisor.known(model.id) else { return Ok(false) };
    let served = running::served(app, &[server]).await?;
    let waits = |key: &String| !POLICY.contains(&key.as_str());
    Ok(served.get(&model.id).is_some_and(|served| served.changed.iter().any(waits)))
}

/// A model as everybody may see it.
pub(super) fn shown(mut model: Model) -> Model {
    secret::mask(&mut model.settings);
    model
}
