//! Lists, page after page.

use crate::connection::Daemon;
use llamactl_protocol::Failure;
use llamactl_protocol::event::{Event, EventList, EventPage};
use llamactl_protocol::metrics::{MetricsSample, Sample};
use llamactl_protocol::model::{Model, ModelList};
use llamactl_protocol::runtime::{RuntimeEntry, RuntimeList};
use llamactl_protocol::server::{OtherServer, Server, ServerList};
use llamactl_protocol::totals::{MetricsModels, ModelSample};
use llamactl_protocol::warning::Warning;

/// The largest page of models, servers or runtimes.
const PAGE: u32 = 200;
/// The largest page of events.
const EVENT_PAGE: u32 = 500;

/// All models, by name.
///
/// # Errors
/// The daemon's.
pub(crate) async fn models(daemon: &Daemon) -> Result<Vec<Model>, Failure> {
    let mut models = Vec::new();
    let mut after = None;
    loop {
        let page =
            daemon.call(&ModelList { after: after.map(Into::into), limit: Some(PAGE) }).await?;
        models.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(models);
        }
    }
}

/// How each model is, and what it did over all its runs, by name.
///
/// # Errors
/// The daemon's.
pub(crate) async fn model_samples(daemon: &Daemon) -> Result<Vec<ModelSample>, Failure> {
    let (mut models, mut after) = (Vec::new(), None);
    loop {
        let asked = MetricsModels { after: after.map(Into::into), limit: Some(PAGE) };
        let page = daemon.call(&asked).await?;
        models.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(models);
        }
    }
}

/// Servers, and what was told with them.
pub(crate) struct Servers {
    /// By model name.
    pub(crate) servers: Vec<Server>,
    /// What a person should know of the daemon.
    pub(crate) warnings: Vec<Warning>,
    /// llama-servers that no daemon started.
    pub(crate) others: Vec<OtherServer>,
    sample: Option<Sample>,
}

impl Servers {
    /// What was measured last. An older daemon does not tell it with its servers and is asked.
    pub(crate) async fn sample_or_asked(&mut self, daemon: &Daemon) -> Option<Sample> {
        match self.sample.take() {
            Some(sample) => Some(sample),
            None if self.servers.is_empty() => None,
            None => daemon.call(&MetricsSample {}).await.ok(),
        }
    }
}

/// The servers; with `all` also of models that are plainly stopped.
///
/// # Errors
/// The daemon's.
pub(crate) async fn servers(daemon: &Daemon, all: bool) -> Result<Servers, Failure> {
    let mut list =
        Servers { servers: Vec::new(), warnings: Vec::new(), others: Vec::new(), sample: None };
    let mut after = None;
    loop {
        let page = daemon
            .call(&ServerList { all, after: after.map(Into::into), limit: Some(PAGE) })
            .await?;
        list.servers.extend(page.items);
        list.warnings = page.warnings;
        list.sample = page.sample.or(list.sample);
        list.others.extend(page.other_servers);
        after = page.next;
        if after.is_none() {
            return Ok(list);
        }
    }
}

/// All runtimes, the one found without being told first.
///
/// # Errors
/// The daemon's.
pub(crate) async fn runtimes(daemon: &Daemon) -> Result<Vec<RuntimeEntry>, Failure> {
    let mut runtimes = Vec::new();
    let mut after = None;
    loop {
        let page =
            daemon.call(&RuntimeList { after: after.map(Into::into), limit: Some(PAGE) }).await?;
        runtimes.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(runtimes);
        }
    }
}

/// The next page of events; `query.after` moves on. `None` behind the last.
///
/// # Errors
/// The daemon's.
pub(crate) async fn events(
    daemon: &Daemon,
    query: &mut Option<EventList>,
) -> Result<Option<EventPage>, Failure> {
    let Some(params) = query else { return Ok(None) };
    params.limit = Some(EVENT_PAGE);
    let page = daemon.call(params).await?;
    match page.next {
        Some(next) => params.after = Some(next),
        None => *query = None,
    }
    Ok(Some(page))
}

/// The last so many events of those that `query` asks for, oldest first, and whether there are more.
///
/// # Errors
/// The daemon's.
pub(crate) async fn last_events(
    daemon: &Daemon,
    mut query: EventList,
    last: u32,
) -> Result<(Vec<Event>, bool), Failure> {
    let mut events = Vec::new();
    query.before = Some(i64::MAX);
    loop {
        let left = last.saturating_sub(u32::try_from(events.len()).unwrap_or(u32::MAX));
        if left == 0 {
            return Ok((events, true));
        }
        query.limit = Some(left.min(EVENT_PAGE));
        let mut page = daemon.call(&query).await?;
        page.items.append(&mut events);
        events = page.items;
        query.before = page.next;
        if query.before.is_none() {
            return Ok((events, false));
        }
    }
}
