//! Events: appended with the change they tell of, numbered, bounded.

use super::{RECORD, Registry, Result};
use crate::clock::now_ms;
use llamactl_protocol::Actor;
use llamactl_protocol::event::{Event, EventKind};
use llamactl_protocol::model::Model;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::Value;

/// How many events are kept.
const KEEP: i64 = 100_000;
/// Old events are deleted this many at a time, so that trimming is rare and short.
const TRIM_STEP: i64 = 1_000;

/// An event about to be written.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// When it happened, which may be long before it can be written.
    pub at_ms: i64,
    /// What happened: `model.added`, `server.ready`, …
    pub kind: EventKind,
    /// The model it concerns, and that model's name.
    pub model: Option<(i64, String)>,
    /// The run it concerns.
    pub run_id: Option<String>,
    /// The user, and the command, that asked for what happened; or the daemon itself.
    pub by: Actor,
    /// What happened, as one sentence for people.
    pub message: String,
    /// What programs want to know besides, by names that depend on the kind.
    pub details: Option<Value>,
}

impl NewEvent {
    /// An event about a model.
    #[must_use]
    pub fn of_model(kind: EventKind, model: &Model, by: &Actor, message: String) -> NewEvent {
        NewEvent {
            at_ms: now_ms(),
            kind,
            model: Some((model.id, model.name.clone())),
            run_id: None,
            by: by.clone(),
            message,
            details: None,
        }
    }

    /// An event about the daemon itself.
    #[must_use]
    pub fn of_daemon(kind: EventKind, by: &Actor, message: String) -> NewEvent {
        let (at_ms, by) = (now_ms(), by.clone());
        NewEvent { at_ms, kind, model: None, run_id: None, by, message, details: None }
    }
}

impl NewEvent {
    /// How much it is to be kept, about.
    pub(super) fn bytes(&self) -> usize {
        // Numbers and short words are counted as one.
        let details = self.details.as_ref().map_or(0, |details| details.to_string().len());
        RECORD + self.message.len() + details
    }
}

/// Which events to list.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only behind this number.
    pub after: i64,
    /// Only before this number, and the newest of them.
    pub before: Option<i64>,
    /// Only of this time or later.
    pub since_ms: Option<i64>,
    /// Only of this model.
    pub model_id: Option<i64>,
    /// Only of these kinds: `server.failed`, or `server` for all that begin so. Empty: of all.
    pub kinds: Vec<String>,
    /// At most this many.
    pub limit: u32,
}

/// Events as they were at one moment.
#[derive(Clone, Debug, Default)]
pub struct EventBatch {
    /// Those asked for, oldest first; newest first where only those before a number were.
    pub events: Vec<Event>,
    /// The number of the oldest event kept, whatever its kind; that of the next one where none is.
    pub first: i64,
    /// The number of the last event, whatever its kind; 0 before the first.
    pub last: i64,
}

/// Among so many events, the last, a name is looked for that no model has now.
const NAMED: u32 = 10_000;

impl Registry {
    /// Writes an event that belongs to no other change.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn append_event(&self, event: NewEvent) -> Result<()> {
        self.write_surely(event.bytes(), move |tx| append(tx, &event)).await
    }

    /// Events, oldest first, and what there is beside them.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn events(&self, filter: EventFilter) -> Result<EventBatch> {
        self.read(move |connection| list(connection, &filter)).await
    }

    /// The model that one of the last `NAMED` events tells of by a name, the latest that had it; it may
    /// be gone.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn model_of_events(&self, name: &str) -> Result<Option<i64>> {
        let name = name.to_owned();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT model_id FROM events
                 WHERE seq > (SELECT max(seq) FROM events) - ?2
                   AND model = ?1 AND model_id IS NOT NULL
                 ORDER BY seq DESC LIMIT 1",
            )?;
            Ok(statement.query_row(params![name, NAMED], |row| row.get(0)).optional()?)
        })
        .await
    }

    /// What last happened to a model, oldest first: at most `limit` events of it, and among them
    /// what happened to the daemon meanwhile.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn history_of_model(&self, model_id: i64, limit: u32) -> Result<Vec<Event>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT * FROM events WHERE model_id = ?1 ORDER BY seq DESC LIMIT ?2",
            )?;
            let rows = statement.query_map(params![model_id, limit], read_event)?;
            let mut events = rows.collect::<std::result::Result<Vec<_>, _>>()?;
            if let Some(oldest) = events.last().map(|event| event.seq) {
                let mut statement = connection.prepare_cached(
                    "SELECT * FROM events
                     WHERE seq > ?1 AND kind > 'daemon.' AND kind < 'daemon/'
                     ORDER BY seq DESC LIMIT ?2",
                )?;
                let rows = statement.query_map(params![oldest, limit], read_event)?;
                events.extend(rows.collect::<std::result::Result<Vec<_>, _>>()?);
            }
            events.sort_unstable_by_key(|event| event.seq);
            Ok(events)
        })
        .await
    }
}

/// The events of a filter.
pub(super) fn list(connection: &Connection, filter: &EventFilter) -> Result<EventBatch> {
    let (first, last) = range(connection)?;
    let from = match filter.since_ms {
        Some(since_ms) => first_since(connection, first, last, since_ms)?,
        None => first,
    };
    let after = filter.after.max(from - 1);
    let since_ms = filter.since_ms.unwrap_or(i64::MIN);
    let mut of_all = connection
        .prepare_cached("SELECT * FROM events WHERE seq > ?1 AND at_ms >= ?2 ORDER BY seq")?;
    let mut of_model = connection.prepare_cached(
        "SELECT * FROM events
         WHERE model_id = ?3 AND seq > ?1 AND at_ms >= ?2 ORDER BY seq",
    )?;
    let mut back_of_all = connection.prepare_cached(
        "SELECT * FROM events WHERE seq > ?1 AND at_ms >= ?2 AND seq < ?3 ORDER BY seq DESC",
    )?;
    let mut back_of_model = connection.prepare_cached(
        "SELECT * FROM events
         WHERE model_id = ?3 AND seq > ?1 AND at_ms >= ?2 AND seq < ?4 ORDER BY seq DESC",
    )?;
    let mut rows = match (filter.model_id, filter.before) {
        (None, None) => of_all.query(params![after, since_ms])?,
        (Some(model_id), None) => of_model.query(params![after, since_ms, model_id])?,
        (None, Some(before)) => back_of_all.query(params![after, since_ms, before])?,
        (Some(model_id), Some(before)) => {
            back_of_model.query(params![after, since_ms, model_id, before])?
        }
    };
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let mut events = Vec::new();
    while events.len() < limit
        && let Some(row) = rows.next()?
    {
        // Here and not in SQL: there it takes ten times as long, and many may wait for it.
        let kind = row.get_ref("kind")?.as_str().map_err(rusqlite::Error::from)?;
        if filter.kinds.is_empty() || filter.kinds.iter().any(|asked| is_of(kind, asked)) {
            events.push(read_event(row)?);
        }
    }
    Ok(EventBatch { events, first, last })
}

/// The number of the first event of a time or later, found in some twenty looks: numbers rise with
/// time. Where the clock was set back, events before that which bear later times may be passed over.
fn first_since(connection: &Connection, first: i64, last: i64, since_ms: i64) -> Result<i64> {
    let mut statement = connection
        .prepare_cached("SELECT at_ms FROM events WHERE seq >= ?1 ORDER BY seq LIMIT 1")?;
    let (mut from, mut until) = (first, last + 1);
    while from < until {
        let middle = from + (until - from) / 2;
        let at_ms: Option<i64> = statement.query_row([middle], |row| row.get(0)).optional()?;
        if at_ms.is_some_and(|at_ms| at_ms < since_ms) {
            from = middle + 1;
        } else {
            until = middle;
        }
    }
    Ok(from)
}

fn read_event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let details: Option<String> = row.get("details")?;
    Ok(Event {
        seq: row.get("seq")?,
        at_ms: row.get("at_ms")?,
        kind: row.get_ref("kind")?.as_str()?.into(),
        model_id: row.get("model_id")?,
        model: row.get("model")?,
        run_id: row.get("run_id")?,
        by: Actor::from_text(row.get_ref("by")?.as_str()?),
        message: row.get("message")?,
        details: details.and_then(|text| serde_json::from_str(&text).ok()),
    })
}

/// Whether a kind is the one asked for or below it: `server.failed` is of `server`.
fn is_of(kind: &str, asked: &str) -> bool {
    kind.strip_prefix(asked).is_some_and(|below| below.is_empty() || below.starts_with('.'))
}

/// The numbers of the oldest event kept and of the last; `(last + 1, last)` where none is kept.
pub(super) fn range(connection: &Connection) -> Result<(i64, i64)> {
    // Two subselects: SQLite finds one end of an index at a time, but scans it for both. The last
    // number ever given counts also where the event itself is gone.
    let (first, last) = connection
        .prepare_cached(
            "SELECT (SELECT min(seq) FROM events),
                    (SELECT seq FROM sqlite_sequence WHERE name = 'events')",
        )?
        .query_row([], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)))?;
    let last = last.unwrap_or(0);
    Ok((first.unwrap_or(last + 1), last))
}

pub(super) fn append(connection: &Connection, event: &NewEvent) -> Result<()> {
    let (model_id, model) = event.model.as_ref().map(|(id, name)| (id, name)).unzip();
    connection
        .prepare_cached(
            "INSERT INTO events (at_ms, kind, model_id, model, run_id, by, message, details)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            event.at_ms,
            event.kind.as_str(),
            model_id,
            model,
            event.run_id,
            event.by.to_text(),
            event.message,
            event.details.as_ref().map(Value::to_string),
        ])?;
    let seq = connection.last_insert_rowid();
    if seq % TRIM_STEP == 0 {
        connection.execute("DELETE FROM events WHERE seq <= ?1", [seq - KEEP])?;
    }
    Ok(())
}

/// The number of the last event ever written, 0 before the first.
pub(super) fn last(connection: &Connection) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM events")?
        .query_row([], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_of_itself_and_of_what_it_begins_with() {
        for (kind, asked, expected) in [
            ("server.failed", "server", true),
            ("server.failed", "server.failed", true),
            ("serverx.failed", "server", false),
            ("server", "server.failed", false),
            ("server.failed", "server.fail", false),
            ("server", "server", true),
        ] {
            assert_eq!(is_of(kind, asked), expected, "{kind} of {asked}");
        }
    }
}
