//! `event.*`

use super::page;
use crate::app::App;
use crate::rpc::{Emission, Peer, Service, Source};
use crate::store::{EventFilter, Registry};
use llamactl_protocol::Failure;
use llamactl_protocol::event::{Event, EventFollow, EventList, EventPage};
use llamactl_protocol::stream::Missed;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

pub(super) fn register(service: Service<App>) -> Service<App> {
    service.on(list).stream(follow)
}

async fn list(app: Arc<App>, _: Peer, list: EventList) -> Result<EventPage, Failure> {
    let limit = page::limit(list.limit, 500);
    let filter = EventFilter {
        after: list.after.unwrap_or(0),
        since_ms: list.since_ms,
        model_id: model_id(&app, list.model).await?,
        limit: limit + 1,
    };
    let (items, more) = page::cut(app.registry.events(filter).await?, limit);
    let next = items.last().filter(|_| more).map(|event| event.seq);
    Ok(EventPage { items, next })
}

async fn model_id(app: &App, model: Option<String>) -> Result<Option<i64>, Failure> {
    match model {
        Some(model) => Ok(Some(app.registry.model(&model).await?.id)),
        None => Ok(None),
    }
}

async fn follow(app: Arc<App>, _: Peer, follow: EventFollow) -> Result<Events, Failure> {
    let model_id = model_id(&app, follow.model).await?;
    // Subscribed before the range is read, so that an event between the two wakes the stream.
    let last_event = app.registry.last_event();
    let range = app.registry.event_range().await?;
    let (first, last) = range.unwrap_or((1, 0));
    let replay = follow.after.is_some() || follow.since_ms.is_some();
    let after = match (follow.after, replay) {
        (Some(after), _) => after.max(0),
        (None, true) => 0,
        // The last event is the state now.
        (None, false) => (last - 1).max(0),
    };
    // The cursor lies before what is kept: say so, and go on from there.
    let missed = (follow.after.is_some() && after < first - 1)
        .then(|| u64::try_from(first - 1 - after).unwrap_or(0));
    Ok(Events {
        registry: app.registry.clone(),
        last_event,
        filter: EventFilter { after, since_ms: follow.since_ms, model_id, limit: BATCH },
        snapshot_until: last,
        missed,
        queue: VecDeque::new(),
    })
}

/// Events read at a time.
const BATCH: u32 = 100;

/// Reads events from the registry in order, so that none is lost however slow the reader.
struct Events {
    registry: Registry,
    last_event: watch::Receiver<i64>,
    filter: EventFilter,
    /// Events up to here had happened when the stream was opened.
    snapshot_until: i64,
    missed: Option<u64>,
    queue: VecDeque<Event>,
}

impl Source for Events {
    type Item = Event;

    async fn next(&mut self) -> Emission<Event> {
        if let Some(items) = self.missed.take() {
            let missed = Missed { items: Some(items), bytes: None };
            return Emission::Missed { cursor: Some(self.filter.after.to_string()), missed };
        }
        loop {
            if let Some(event) = self.queue.pop_front() {
                let cursor = Some(event.seq.to_string());
                return if event.seq <= self.snapshot_until {
                    Emission::Snapshot { cursor, data: event }
                } else {
                    Emission::Change { cursor, data: event }
                };
            }
            // Marked as seen before reading: what is written meanwhile wakes us again.
            let seen = *self.last_event.borrow_and_update();
            match self.registry.events(self.filter).await {
                Ok(events) => {
                    let full = events.len() == BATCH as usize;
                    if let Some(last) = events.last() {
                        self.filter.after = last.seq;
                    } else if !full {
                        self.filter.after = self.filter.after.max(seen);
                    }
                    self.queue.extend(events);
                    if self.queue.is_empty() && self.last_event.changed().await.is_err() {
                        return Emission::done(Some(self.filter.after.to_string()));
                    }
                }
                Err(error) => {
                    return Emission::failed(Some(self.filter.after.to_string()), error.into());
                }
            }
        }
    }
}
