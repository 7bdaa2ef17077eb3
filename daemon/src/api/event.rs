//! `event.*`

use super::page;
use super::registration::{Caller, Emission, Source};
use crate::api::app::App;
use crate::store::registry::{EventBatch, EventFilter, Registry};
use llamactl_protocol::event::{Event, EventFollow, EventList, EventPage};
use llamactl_protocol::stream::Missed;
use llamactl_protocol::{Failure, Kind};
use std::collections::VecDeque;
use tokio::sync::watch;

pub(super) async fn list(app: &App, _: Caller, list: EventList) -> Result<EventPage, Failure> {
    let limit = page::limit(list.limit, 500);
    let filter = EventFilter {
        after: list.after.unwrap_or(0),
        before: list.before,
        since_ms: list.since_ms,
        model_id: model_id(app, list.model.as_deref()).await?,
        kinds: kinds(list.kinds.into())?,
        limit: limit + 1,
    };
    let batch = app.registry.events(filter).await?;
    let missed = list.after.and_then(|after| trimmed(after, batch.first));
    // What is left out is the end of it, on either way.
    let (mut items, more) = page::cut(batch.events, limit);
    let next = items.last().filter(|_| more).map(|event| event.seq);
    if list.before.is_some() {
        items.reverse();
    }
    Ok(EventPage { items, next, last: batch.last, missed })
}

async fn model_id(app: &App, model: Option<&str>) -> Result<Option<i64>, Failure> {
    let Some(name) = model else { return Ok(None) };
    match app.registry.model(name).await {
        Ok(model) => Ok(Some(model.id)),
        // Who took it out is what its name is asked for.
        Err(unknown) => match app.registry.model_of_events(name).await? {
            Some(id) => Ok(Some(id)),
            None => Err(unknown.into()),
        },
    }
}

/// The kinds asked for, each without the `.*` that people put behind it.
fn kinds(mut kinds: Vec<String>) -> Result<Vec<String>, Failure> {
    for kind in &mut kinds {
        let stem = kind.trim_end_matches('*').trim_end_matches('.').len();
        kind.truncate(stem);
    }
    if kinds.iter().any(String::is_empty) {
        return Err(Failure::new(Kind::InvalidValue, "a kind of event has a name")
            .hint("server.failed, or server for all of a server; no kind at all for every event"));
    }
    Ok(kinds)
}

/// How many events behind `after` are kept no more, where any are.
fn trimmed(after: i64, first: i64) -> Option<u64> {
    let trimmed = u64::try_from(first - 1 - after.max(0)).unwrap_or(0);
    (trimmed > 0).then_some(trimmed)
}

pub(super) async fn follow(app: &App, _: Caller, follow: EventFollow) -> Result<Events, Failure> {
    let model_id = model_id(app, follow.model.as_deref()).await?;
    let kinds = kinds(follow.kinds.into())?;
    // Subscribed before the registry is read, so that an event between the two wakes the stream.
    let last_event = app.registry.last_event();
    let EventBatch { last, .. } = app.registry.events(EventFilter::default()).await?;
    let (after, foreign) = match (follow.after, follow.since_ms) {
        // This registry has not given that number yet: it is another's.
        (Some(after), _) if after > last => (last, true),
        (Some(after), _) => (after.max(0), false),
        (None, Some(_)) => (0, false),
        // The last event is the state now.
        (None, None) => ((last - 1).max(0), false),
    };
    Ok(Events {
        registry: app.registry.clone(),
        last_event,
        filter: EventFilter {
            after,
            before: None,
            since_ms: follow.since_ms,
            model_id,
            kinds,
            limit: BATCH,
        },
        snapshot_until: last,
        // Who asks by time does not ask for what was before.
        counts: follow.after.is_some(),
        foreign,
        queue: VecDeque::new(),
    })
}

/// Events read at a time.
const BATCH: u32 = 100;

/// Reads events from the registry in order, so that none is lost however slow the reader; what was
/// trimmed before it could be read is counted.
pub(super) struct Events {
    registry: Registry,
    last_event: watch::Receiver<i64>,
    filter: EventFilter,
    /// Events up to here had happened when the stream was opened.
    snapshot_until: i64,
    /// Everything behind `filter.after` is wanted: what of it is gone is missed.
    counts: bool,
    /// The cursor asked for is not of this registry: nobody knows how much is missing.
    foreign: bool,
    queue: VecDeque<Event>,
}

impl Events {
    fn missed(&self, items: Option<u64>) -> Emission<Event> {
        let missed = Missed { items, bytes: None };
        Emission::Missed { cursor: Some(self.filter.after.to_string()), missed }
    }
}

impl Source for Events {
    type Item = Event;

    async fn next(&mut self) -> Emission<Event> {
        if std::mem::take(&mut self.foreign) {
            return self.missed(None);
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
            self.last_event.mark_unchanged();
            let batch = match self.registry.events(self.filter.clone()).await {
                Ok(batch) => batch,
                Err(error) => {
                    return Emission::failed(Some(self.filter.after.to_string()), error.into());
                }
            };
            let trimmed = trimmed(self.filter.after, batch.first).filter(|_| self.counts);
            self.counts = true;
            if trimmed.is_some() {
                self.filter.after = batch.first - 1;
                return self.missed(trimmed);
            }
            if let Some(last) = batch.events.last() {
                self.filter.after = last.seq;
                self.queue.extend(batch.events);
            } else {
                // Nothing up to here was asked for.
                self.filter.after = self.filter.after.max(batch.last);
                if self.last_event.changed().await.is_err() {
                    return Emission::done(Some(self.filter.after.to_string()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_counted() {
        assert_eq!(trimmed(5, 6), None);
        assert_eq!(trimmed(5, 10), Some(4));
        assert_eq!(trimmed(i64::MIN, 4), Some(3));
        assert_eq!(trimmed(100, 4), None);
    }

    #[test]
    fn a_kind_may_be_asked_for_with_a_star() {
        let asked = ["server", "server.", "server.*", "server.failed"].map(str::to_owned);
        assert_eq!(
            kinds(asked.to_vec()),
            Ok(["server", "server", "server", "server.failed"].map(str::to_owned).to_vec())
        );
        for refused in [vec!["*".to_owned()], vec![String::new()]] {
            assert_eq!(kinds(refused).unwrap_err().kind, Kind::InvalidValue);
        }
    }
}
