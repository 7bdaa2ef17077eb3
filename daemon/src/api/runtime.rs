//! `runtime.*`

use super::page;
use super::registration::Caller;
use crate::api::app::App;
use crate::models::Outcome;
use crate::runtime::{self, SYSTEM};
use llamactl_protocol::Failure;
use llamactl_protocol::runtime::{
    RuntimeAdd, RuntimeAdded, RuntimeChanged, RuntimeDetail, RuntimeList, RuntimePage,
    RuntimeRefresh, RuntimeRemove, RuntimeRemoved, RuntimeSet, RuntimeShow, RuntimeUse,
    RuntimeUsed, RuntimesRefreshed,
};

pub(super) async fn add(
    app: &App,
    caller: Caller,
    add: RuntimeAdd,
) -> Result<RuntimeAdded, Failure> {
    let Outcome { now, changed, notes, .. } = app.models.add_runtime(add, caller.actor).await?;
    let runtime = runtime::entry(&app.registry, &now.name).await?;
    Ok(RuntimeAdded { runtime, added: changed, notes })
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
    let (record, changed) = app.models.use_runtime(&wanted.name, caller.actor).await?;
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
    let Outcome { now, changed, notes, .. } = app.models.change_runtime(set, caller.actor).await?;
    let runtime = runtime::entry(&app.registry, &now.name).await?;
    Ok(RuntimeChanged { runtime, changed, notes })
}

pub(super) async fn remove(
    app: &App,
    caller: Caller,
    remove: RuntimeRemove,
) -> Result<RuntimeRemoved, Failure> {
    let removed = app.models.remove_runtime(&remove.name, caller.actor).await?;
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
