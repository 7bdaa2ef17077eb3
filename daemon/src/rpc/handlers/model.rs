//! `model.*`

use super::{asker, page};
use crate::app::App;
use crate::gguf::{self, Facts, GgufError};
use crate::rpc::{Peer, Service};
use crate::store::{NewModel, StoreError};
use llamactl_protocol::model::{
    Added, Changed, CommandLine, Model, ModelAdd, ModelAlias, ModelArgs, ModelCopy, ModelDetail,
    ModelFile, ModelList, ModelPage, ModelRemove, ModelRename, ModelSet, ModelShow, Removed,
};
use llamactl_protocol::{Failure, Kind, WirePath, name, options};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) fn register(service: Service<App>) -> Service<App> {
    service.on(add).on(list).on(show).on(set).on(args).on(rename).on(copy).on(alias).on(remove)
}

async fn add(app: Arc<App>, peer: Peer, add: ModelAdd) -> Result<Added, Failure> {
    let settings = checked(add.settings)?;
    let facts = inspect(add.path).await?;
    let path = WirePath(main_part(&facts)?);
    let name = match add.name {
        Some(name) => valid(name)?,
        None => default_name(path.as_path())?,
    };
    let new = NewModel {
        name: name.clone(),
        file: model_file(&facts),
        chat_template: facts.chat_template.as_ref().map(|template| template.text.clone()),
        path: path.clone(),
        settings: settings.clone(),
    };
    app.supervisor.check(&new.settings)?;
    let mut notes = Vec::new();
    if let Some(mmproj) = &new.file.mmproj {
        notes.push(format!("a projector lies beside it: {mmproj}"));
    }
    match app.registry.add_model(new, asker::<ModelAdd>(&peer)).await {
        Ok(model) => Ok(Added { model, added: true, notes }),
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
                return Ok(Added { model: there, added: false, notes });
            }
            Err(name_taken(&app, &name, &by).await)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads a file's header away from the async threads: a slow disk must not hold up anyone else.
async fn inspect(path: WirePath) -> Result<Facts, Failure> {
    if !path.as_path().is_absolute() {
        return Err(Failure::new(Kind::InvalidValue, format!("the path {path} is not absolute")));
    }
    let facts = tokio::task::spawn_blocking(move || gguf::inspect(path.as_path()))
        .await
        .map_err(|_| Failure::new(Kind::Internal, "reading the model's header failed"))?
        .map_err(|error| gguf_failure(&error))?;
    match facts.kind {
        gguf::Kind::Model => Ok(facts),
        other => {
            let path = main_part(&facts)?;
            let path = path.display();
            let (what, hint) = match other {
                gguf::Kind::Projector => ("a projector (mmproj)", "add the model it belongs to"),
                gguf::Kind::Adapter => ("an adapter (LoRA)", "add the model it was made for"),
                _ => ("metadata without weights", "add a file that holds a model's weights"),
            };
            Err(Failure::new(Kind::NotAModel, format!("{path} is {what}, not a model"))
                .hint(hint)
                .details(json!({ "is": other.as_str() })))
        }
    }
}

/// The file to give to llama-server.
fn main_part(facts: &Facts) -> Result<PathBuf, Failure> {
    let part = facts.path().map(Path::to_owned);
    part.ok_or_else(|| Failure::new(Kind::Internal, "the model's header names no file"))
}

fn gguf_failure(error: &GgufError) -> Failure {
    let reason = error.kind();
    let kind = match reason {
        "file_not_found" => Kind::FileNotFound,
        "permission_denied" | "file_unreadable" => Kind::FileUnreadable,
        "not_a_file" => Kind::NotAFile,
        "not_gguf" | "file_empty" => Kind::NotGguf,
        "gguf_big_endian" | "gguf_version" => Kind::GgufVersion,
        "gguf_truncated" => Kind::GgufTruncated,
        "gguf_parts_missing" => Kind::SplitIncomplete,
        _ => Kind::GgufInvalid,
    };
    let failure = Failure::new(kind, error.to_string()).details(json!({ "reason": reason }));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn model_file(facts: &Facts) -> ModelFile {
    ModelFile {
        size_bytes: facts.file_bytes,
        parts: facts.parts.iter().map(|part| WirePath(part.path.clone())).collect(),
        mmproj: facts.mmproj.clone().map(WirePath),
        architecture: facts.architecture.clone(),
        title: facts.name.clone(),
        parameters: Some(facts.parameter_count),
        quantization: facts.quantization.clone(),
        context_length: facts.context_length_trained,
        layers: facts.block_count,
        heads: facts.head_count,
        kv_heads: facts.head_count_kv,
        embedding_length: facts.embedding_length,
        experts: facts.expert_count,
        vocabulary: facts.vocabulary_size,
        tokenizer: facts.tokenizer_model.clone(),
        has_chat_template: facts.chat_template.is_some(),
    }
}

fn default_name(path: &Path) -> Result<String, Failure> {
    let stem = gguf::split::stem(path);
    name::from_text(&stem).ok_or_else(|| {
        Failure::new(Kind::InvalidName, format!("no name can be made of {}", path.display()))
            .hint("give one with --name")
    })
}

fn valid(name: String) -> Result<String, Failure> {
    if name::is_valid(&name) {
        return Ok(name);
    }
    let failure =
        Failure::new(Kind::InvalidName, format!("{name:?} is not a name: {}", name::RULE));
    Err(match name::from_text(&name) {
        Some(near) => failure.hint(format!("{near} would do")),
        None => failure,
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

fn checked(settings: BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>, Failure> {
    settings
        .into_iter()
        .map(|(key, value)| {
            let setting = options::find(&key)?;
            Ok((setting.key.to_owned(), setting.check(&value)?))
        })
        .collect()
}

async fn list(app: Arc<App>, _: Peer, list: ModelList) -> Result<ModelPage, Failure> {
    let limit = page::limit(list.limit, 200);
    let (items, more) = page::cut(app.registry.models(list.after, limit + 1).await?, limit);
    let next = items.last().filter(|_| more).map(|model: &Model| model.name.clone());
    Ok(ModelPage { items, next })
}

async fn show(app: Arc<App>, _: Peer, show: ModelShow) -> Result<ModelDetail, Failure> {
    let record = app.registry.model_record(&show.model).await?;
    let server = app.supervisor.server(&record.model).await?;
    Ok(ModelDetail { model: record.model, chat_template: record.chat_template, server })
}

async fn set(app: Arc<App>, peer: Peer, set: ModelSet) -> Result<Changed, Failure> {
    let put = checked(set.set)?;
    let unset = set
        .unset
        .iter()
        .map(|key| options::find(key).map(|setting| setting.key.to_owned()))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(key) = unset.iter().find(|key| put.contains_key(*key)) {
        return Err(Failure::new(
            Kind::InvalidValue,
            format!("{key} cannot be set and unset at once"),
        ));
    }
    let by = asker::<ModelSet>(&peer);
    loop {
        // Some settings only make sense together, so the whole is checked before it is written;
        // the revision makes sure that it is this whole.
        let before = app.registry.model(&set.model).await?;
        let mut after = before.settings.clone();
        after.retain(|key, _| !unset.contains(key));
        after.extend(put.clone());
        app.supervisor.check(&after)?;
        let seen = set.if_revision.unwrap_or(before.revision);
        let changed = app
            .registry
            .change_settings(&set.model, put.clone(), unset.clone(), Some(seen), by.clone())
            .await;
        match changed {
            // Somebody else was faster; the caller did not ask to be told, so look again.
            Err(StoreError::RevisionConflict { .. }) if set.if_revision.is_none() => {}
            Err(error) => return Err(error.into()),
            Ok((model, changed)) => return finish(&app, model, changed).await,
        }
    }
}

async fn args(app: Arc<App>, _: Peer, args: ModelArgs) -> Result<CommandLine, Failure> {
    let model = app.registry.model(&args.model).await?;
    app.supervisor.command_line(&model).await
}

async fn rename(app: Arc<App>, peer: Peer, rename: ModelRename) -> Result<Changed, Failure> {
    let to = valid(rename.to)?;
    let by = asker::<ModelRename>(&peer);
    let (model, changed) = app.registry.rename_model(&rename.model, to, by).await?;
    finish(&app, model, changed).await
}

async fn copy(app: Arc<App>, peer: Peer, copy: ModelCopy) -> Result<Added, Failure> {
    let to = valid(copy.to)?;
    match app.registry.copy_model(&copy.model, to, asker::<ModelCopy>(&peer)).await {
        Ok(model) => Ok(Added { model, added: true, notes: vec![] }),
        Err(error) => Err(error.into()),
    }
}

async fn alias(app: Arc<App>, peer: Peer, alias: ModelAlias) -> Result<Changed, Failure> {
    let add = alias.add.into_iter().map(valid).collect::<Result<Vec<_>, _>>()?;
    let by = asker::<ModelAlias>(&peer);
    let model = app.registry.model(&alias.model).await?;
    if let Some(other) = alias.remove.iter().find(|name| !model.aliases.contains(name)) {
        return Err(Failure::new(
            Kind::ModelNotFound,
            format!("{other} is no alias of {}", model.name),
        )
        .details(json!({ "aliases": model.aliases })));
    }
    let (model, changed) = app.registry.change_aliases(&alias.model, add, alias.remove, by).await?;
    finish(&app, model, changed).await
}

async fn remove(app: Arc<App>, peer: Peer, remove: ModelRemove) -> Result<Removed, Failure> {
    let model = app.registry.model(&remove.model).await?;
    let by = asker::<ModelRemove>(&peer);
    let removed = app.supervisor.remove(&model, remove.stop, by).await?;
    Ok(Removed { id: removed.id, name: removed.name })
}

/// Tells the server's task of the change, and the caller whether it must be restarted.
async fn finish(app: &App, model: Model, changed: bool) -> Result<Changed, Failure> {
    if changed {
        app.supervisor.model_changed(&model).await;
    }
    // The change is made: not knowing this must not make it look refused.
    let run = app.registry.last_run(model.id).await.ok().flatten();
    let takes_effect_on_restart =
        run.is_some_and(|run| run.ended_at_ms.is_none() && run.settings != model.settings);
    Ok(Changed { model, changed, takes_effect_on_restart })
}
