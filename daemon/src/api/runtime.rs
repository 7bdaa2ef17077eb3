//! `runtime.*`

use super::page;
use super::registration::Caller;
use crate::api::app::App;
use crate::runtime::{self, SYSTEM};
use llamactl_protocol::options::VARIABLE_PREFIX;
use llamactl_protocol::runtime::{
    RuntimeAdd, RuntimeAdded, RuntimeChanged, RuntimeDetail, RuntimeList, RuntimePage,
    RuntimeRefresh, RuntimeRemove, RuntimeRemoved, RuntimeSet, RuntimeShow, RuntimeUse,
    RuntimeUsed, RuntimesRefreshed,
};
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::json;

pub(super) async fn add(
    app: &App,
    caller: Caller,
    add: RuntimeAdd,
) -> Result<RuntimeAdded, Failure> {
    let by = caller.actor;
    let asked = add.environment.clone();
    let (named, added) =
        runtime::add(&app.registry, add.path, add.name, add.environment, &by).await?;
    let mut notes = Vec::new();
    if !added && asked.iter().any(|(name, value)| named.environment.get(name) != Some(value)) {
        let name = &named.name;
        notes.push(format!(
            "its environment was left as it is; llamactl runtime set {name} changes it"
        ));
    }
    Ok(RuntimeAdded { runtime: runtime::entry(&app.registry, &named.name).await?, added, notes })
}

pub(super) async fn list(app: &App, _: Caller, list: RuntimeList) -> Result<RuntimePage, Failure> {
    let limit = page::limit(list.limit, 200);
    let mut entries = runtime::entries(&app.registry).await?;
    match list.after.as_deref() {
        None => {}
        // The first stands outside the order of names.
        Some(SYSTEM) => entries.retain(|entry| entry.name != SYSTEM),
        Some(after) => {
            entries.retain(|entry| entry.name != SYSTEM && entry.name.as_str() > after);
        }
    }
    let (items, more) = page::cut(entries, limit);
    let next = items.last().filter(|_| more).map(|entry| entry.name.clone());
    Ok(RuntimePage { items, next })
}

pub(super) async fn show(
    app: &App,
    _: Caller,
    show: RuntimeShow,
) -> Result<RuntimeDetail, Failure> {
    runtime::detail(&app.registry, &show.name).await
}

pub(super) async fn choose(
    app: &App,
    caller: Caller,
    wanted: RuntimeUse,
) -> Result<RuntimeUsed, Failure> {
    let by = caller.actor;
    let is_system = wanted.name == SYSTEM;
    // One that cannot be used is not made the default; the way back is always open.
    let record = match runtime::resolve(&app.registry, Some(&wanted.name)).await {
        Ok(record) => Some(record),
        Err(_) if is_system => None,
        Err(failure) => return Err(failure),
    };
    let name = (!is_system).then(|| wanted.name.clone());
    let changed = app.registry.use_runtime(name, by).await?;
    let refused = match &record {
        Some(record) => runtime::refused_by(&app.registry, record).await?,
        None => vec![],
    };
    let runtime = runtime::entry(&app.registry, &wanted.name).await?;
    Ok(RuntimeUsed { runtime, changed, refused })
}

pub(super) async fn set(
    app: &App,
    caller: Caller,
    set: RuntimeSet,
) -> Result<RuntimeChanged, Failure> {
    let put = set
        .set
        .into_iter()
        .map(|(key, value)| Ok((variable(&key)?.to_owned(), value)))
        .collect::<Result<_, Failure>>()?;
    let put = runtime::variables(put)?;
    let unset = set
        .unset
        .iter()
        .map(|key| variable(key).map(str::to_owned))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = unset.iter().find(|name| put.contains_key(*name)) {
        let message = format!("{VARIABLE_PREFIX}{name} cannot be set and unset at once");
        return Err(Failure::new(Kind::InvalidValue, message));
    }
    if set.name == SYSTEM {
        return Err(Failure::new(
            Kind::InvalidValue,
            format!("{SYSTEM} is found without being told, and has no settings"),
        )
        .hint(Hint::run(
            "give its llama-server a name first",
            ["llamactl", "runtime", "add", "PATH", "--name", "NAME"],
        )));
    }
    let by = caller.actor;
    let (named, changed) = app.registry.change_runtime(&set.name, put, unset, None, by).await?;
    let runtime = runtime::entry(&app.registry, &named.name).await?;
    Ok(RuntimeChanged { runtime, changed })
}

/// The variable a key means.
fn variable(key: &str) -> Result<&str, Failure> {
    key.strip_prefix(VARIABLE_PREFIX).ok_or_else(|| {
        Failure::new(Kind::UnknownOption, format!("a runtime has no setting {key:?}"))
            .hint("it has variables for its servers: env.NAME=VALUE")
            .details(json!({ "key": key }))
    })
}

pub(super) async fn remove(
    app: &App,
    caller: Caller,
    remove: RuntimeRemove,
) -> Result<RuntimeRemoved, Failure> {
    if remove.name == SYSTEM {
        return Err(Failure::new(
            Kind::InvalidValue,
            format!("{SYSTEM} is found without being told and cannot be removed"),
        )
        .hint(Hint::run("make another the default", ["llamactl", "runtime", "use", "NAME"])));
    }
    let by = caller.actor;
    let removed = app.registry.remove_runtime(&remove.name, by).await?;
    Ok(RuntimeRemoved { name: removed.name, path: removed.path })
}

pub(super) async fn refresh(
    app: &App,
    caller: Caller,
    refresh: RuntimeRefresh,
) -> Result<RuntimesRefreshed, Failure> {
    let by = caller.actor;
    let items = runtime::refresh(&app.registry, refresh.name.as_deref(), &by).await?;
    Ok(RuntimesRefreshed { items })
}
