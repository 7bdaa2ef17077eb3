//! Events: appended with the change they tell of, numbered, bounded.

use super::{Registry, Result, now_ms};
use llamactl_protocol::event::Event;
use llamactl_protocol::model::Model;
use rusqlite::{Connection, params};
use serde_json::Value;

/// How many events are kept.
const KEEP: i64 = 100_000;
/// Old events are deleted this many at a time, so that trimming is rare and short.
const TRIM_STEP: i64 = 1_000;

/// An event about to be written.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// What happened: `model.added`, `server.ready`, …
    pub kind: &'static str,
    /// The model it concerns, and that model's name.
    pub model: Option<(i64, String)>,
    /// The run it concerns.
    pub run_id: Option<String>,
    /// Who asked.
    pub by: String,
    /// One sentence.
    pub message: String,
    /// Particulars.
    pub details: Option<Value>,
}

impl NewEvent {
    /// An event about a model.
    #[must_use]
    pub fn of_model(kind: &'static str, model: &Model, by: &str, message: String) -> NewEvent {
        NewEvent {
            kind,
            model: Some((model.id, model.name.clone())),
            run_id: None,
            by: by.to_owned(),
            message,
            details: None,
        }
    }

    /// An event about the daemon itself.
    #[must_use]
    pub fn of_daemon(kind: &'static str, by: &str, message: String) -> NewEvent {
        NewEvent { kind, model: None, run_id: None, by: by.to_owned(), message, details: None }
    }
}

/// Which events to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventFilter {
    /// Only behind this number.
    pub after: i64,
    /// Only of this time or later.
    pub since_ms: Option<i64>,
    /// Only of this model.
    pub model_id: Option<i64>,
    /// At most this many.
    pub limit: u32,
}

impl Registry {
    /// Writes an event that belongs to no other change.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn append_event(&self, event: NewEvent) -> Result<()> {
        self.write(move |tx| append(tx, event)).await
    }

    /// Events, oldest first.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn events(&self, filter: EventFilter) -> Result<Vec<Event>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT seq, at_ms, kind, model_id, model, run_id, by, message, details FROM events
                 WHERE seq > ?1 AND (?2 IS NULL OR at_ms >= ?2) AND (?3 IS NULL OR model_id = ?3)
                 ORDER BY seq LIMIT ?4",
            )?;
            let rows = statement.query_map(
                params![filter.after, filter.since_ms, filter.model_id, filter.limit],
                |row| {
                    let details: Option<String> = row.get(8)?;
                    Ok(Event {
                        seq: row.get(0)?,
                        at_ms: row.get(1)?,
                        kind: row.get(2)?,
                        model_id: row.get(3)?,
                        model: row.get(4)?,
                        run_id: row.get(5)?,
                        by: row.get(6)?,
                        message: row.get(7)?,
                        details: details.and_then(|text| serde_json::from_str(&text).ok()),
                    })
                },
            )?;
            Ok(rows.collect::<std::result::Result<_, _>>()?)
        })
        .await
    }

    /// The numbers of the oldest event kept and of the last; `None` when there is none.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn event_range(&self) -> Result<Option<(i64, i64)>> {
        self.read(|connection| {
            // Two subselects: SQLite finds one end of an index at a time, but scans it for both.
            let range = connection.query_row(
                "SELECT (SELECT min(seq) FROM events), (SELECT max(seq) FROM events)",
                [],
                |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)),
            )?;
            Ok(match range {
                (Some(first), Some(last)) => Some((first, last)),
                _ => None,
            })
        })
        .await
    }
}

pub(super) fn append(connection: &Connection, event: NewEvent) -> Result<()> {
    let (model_id, model) = event.model.unzip();
    connection
        .prepare_cached(
            "INSERT INTO events (at_ms, kind, model_id, model, run_id, by, message, details)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            now_ms(),
            event.kind,
            model_id,
            model,
            event.run_id,
            event.by,
            event.message,
            event.details.map(|details| details.to_string()),
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
