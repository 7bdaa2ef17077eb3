//! `model.*`

use super::registration::Caller;
use super::{old_build, page, resolved, validation};
use crate::api::app::App;
use crate::models::{self, Layers};
use crate::store::registry::{NewModel, StoreError};
use crate::{gguf, library};
use llamactl_protocol::model::{
    Added, Changed, Model, ModelAdd, ModelAlias, ModelCopy, ModelDetail, ModelList, ModelPage,
    ModelRemove, ModelRename, ModelShow, Removed, SettingsChange,
};
use llamactl_protocol::options::{Group, Settings, rules, secret};
use llamactl_protocol::{Failure, Kind, WirePath, name};
use serde_json::json;
use std::path::Path;

pub(super) async fn add(app: &App, caller: Caller, add: ModelAdd) -> Result<Added, Failure> {
    rules::check_given(&add.settings)?;
    let change = SettingsChange { set: add.settings, ..SettingsChange::default() };
    let validated = validation::validate(&app.registry, &change, &Settings::new()).await?;
    if validated.checked.path.is_some() {
        return Err(Failure::new(Kind::InvalidValue, "the model's file is given already"));
    }
    let file = library::read(add.path).await?;
    let name = match add.name {
        Some(name) => name::check(name)?,
        None => default_name(file.path.as_path())?,
    };
    let mut notes = validated.checked.notes;
    if let Some(mmproj) = &file.file.mmproj {
        notes.push(format!("a projector lies beside it: {mmproj}"));
    }
    let path = file.path.clone();
    let settings = validated.checked.set;
    let away = models::put_away(app.registry.secrets(), settings.clone(), &Settings::new()).await?;
    let new = NewModel { name: name.clone(), file, settings: away.settings };
    let by = caller.actor;
    let added = app.registry.add_model(new, by).await;
    if added.is_err() {
        app.registry.secrets().remove(away.made).await;
    }
    match added {
        Ok(model) => Ok(Added { model: shown(model), added: true, notes }),
        Err(StoreError::NameTaken { name, by }) => {
            let there = app.registry.model(&name).await?;
            if there.name == name && same_file(there.path.clone(), path).await {
                let notes = if settings
                    .iter()
                    .all(|(key, value)| there.settings.get(key) == Some(value))
                {
                    vec![]
                } else {
                    vec![format!(
                        "its settings were left as they are; llamactl model set {name} changes them"
                    )]
                };
                return Ok(Added { model: shown(there), added: false, notes });
            }
            Err(name_taken(app, &name, &by).await)
        }
        Err(error) => Err(error.into()),
    }
}

fn default_name(path: &Path) -> Result<String, Failure> {
    let stem = gguf::split::stem(path);
    name::from_text(&stem).ok_or_else(|| {
        Failure::new(Kind::InvalidName, format!("no name can be made of {}", path.display()))
            .hint("give one with --name")
    })
}

async fn name_taken(app: &App, name: &str, by: &str) -> Failure {
    let message = if name == by {
        format!("there is a model {name} already, of another file")
    } else {
        format!("{name} is an alias of the model {by}")
    };
    let failure = Failure::new(Kind::NameTaken, message);
    match app.registry.free_name(name).await {
        Ok(Some(free)) => failure
            .hint(format!("give another name: --name {free}"))
            .details(json!({ "name": name, "taken_by": by, "free": free })),
        _ => failure,
    }
}

/// Whether two paths lead to one file, links resolved. A path that leads nowhere is only itself.
async fn same_file(a: WirePath, b: WirePath) -> bool {
    if a == b {
        return true;
    }
    let compare = move || match (a.as_path().canonicalize(), b.as_path().canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    };
    tokio::task::spawn_blocking(compare).await.unwrap_or(false)
}

pub(super) async fn list(app: &App, _: Caller, list: ModelList) -> Result<ModelPage, Failure> {
    let limit = page::limit(list.limit, 200);
    let (mut items, more) = page::cut(app.registry.models(list.after, limit + 1).await?, limit);
    app.models.look_at(&mut items).await?;
    let next = items.last().filter(|_| more).map(|model: &Model| model.name.clone());
    Ok(ModelPage { items: items.into_iter().map(shown).collect(), next })
}

pub(super) async fn show(app: &App, _: Caller, show: ModelShow) -> Result<ModelDetail, Failure> {
    let group = show.group.as_deref().map(Group::find).transpose()?;
    let mut record = app.registry.model_record(&show.model).await?;
    app.models.look_at(std::slice::from_mut(&mut record.model)).await?;
    let mut server = app.supervisor.server(&record.model).await?;
    old_build::warn(app, std::slice::from_mut(&mut server)).await;
    let resolved = if show.resolved || group.is_some() {
        Some(resolved::resolve(app, &record.model, &server, group).await?)
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
    let to = name::check(rename.to)?;
    let by = caller.actor;
    let (model, changed) = app.registry.rename_model(&rename.model, to, by).await?;
    finish(app, model, changed, vec![]).await
}

pub(super) async fn copy(app: &App, caller: Caller, copy: ModelCopy) -> Result<Added, Failure> {
    let to = name::check(copy.to)?;
    // Nothing is read from a disk for a model that is not there.
    app.registry.model(&copy.model).await?;
    let file = match copy.path {
        Some(path) => Some(library::read(path).await?),
        None => None,
    };
    match app.registry.copy_model(&copy.model, to, file, caller.actor).await {
        Ok(model) => Ok(Added { model: shown(model), added: true, notes: vec![] }),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn alias(
    app: &App,
    caller: Caller,
    alias: ModelAlias,
) -> Result<Changed, Failure> {
    let add = alias.add.into_iter().map(name::check).collect::<Result<Vec<_>, _>>()?;
    let by = caller.actor;
    let model = app.registry.model(&alias.model).await?;
    if let Some(other) = alias.remove.iter().find(|name| !model.aliases.contains(name)) {
        return Err(Failure::new(
            Kind::ModelNotFound,
            format!("{other} is no alias of {}", model.name),
        )
        .details(json!({ "aliases": model.aliases })));
    }
    let (model, changed) = app.registry.change_aliases(&alias.model, add, alias.remove, by).await?;
    finish(app, model, changed, vec![]).await
}

pub(super) async fn remove(
    app: &App,
    caller: Caller,
    remove: ModelRemove,
) -> Result<Removed, Failure> {
    let model = app.registry.model(&remove.model).await?;
    let by = caller.actor;
    let used_before = app.registry.used_secrets().await?;
    let removed = app.supervisor.remove(&model, remove.stop, by).await?;
    // Only what this model alone used: another request may be keeping a secret just now.
    let used = app.registry.used_secrets().await?;
    app.registry.secrets().remove(used_before.difference(&used).cloned().collect()).await;
    Ok(Removed { id: removed.id, name: removed.name })
}

/// Tells the server's task of the change, and the caller whether it must be restarted.
pub(super) async fn finish(
    app: &App,
    model: Model,
    changed: bool,
    notes: Vec<String>,
) -> Result<Changed, Failure> {
    if changed {
        app.supervisor.model_changed(&model).await;
    }
    // The change is made: not knowing this must not make it look refused.
    let takes_effect_on_restart = differs_from_running(app, &model).await.unwrap_or(false);
    Ok(Changed { model: shown(model), changed, takes_effect_on_restart, notes })
}

/// Whether a running server has other settings than the model has now.
pub(super) async fn differs_from_running(app: &App, model: &Model) -> Result<bool, Failure> {
    let Some(run) = app.registry.last_run(model.id).await?.filter(|run| run.ended_at_ms.is_none())
    else {
        return Ok(false);
    };
    let now = Layers::of(&app.registry, model, Settings::new()).await?.standing();
    Ok(run.settings != now)
}

/// A model as everybody may see it.
pub(super) fn shown(model: Model) -> Model {
    Model { settings: secret::masked(&model.settings), ..model }
}
