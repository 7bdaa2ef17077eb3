//! What changed of models, defaults and runtimes behind a number: the events are the feed.
//!
//! ```text
//!   change + event ─ commit ─▶ last_event wakes ─▶ changes(cursor): what changed, and what is now
//! ```
//!
//! A change's event is written in its transaction and numbered there, so the order of the feed is
//! that of the commits, nobody can miss one, and a cursor outlives the daemon. Who reads slowly reads
//! later, and reads the latest.

use super::{Everything, Registry, Result, events, models, transfer};
use llamactl_protocol::event::EventKind;
use llamactl_protocol::model::Model;
use rusqlite::params;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A change that followers of the models must know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    /// The number of its event.
    pub seq: i64,
    /// The model that changed; `None` for the defaults and runtimes.
    pub model_id: Option<i64>,
    /// What changed of it.
    pub kind: EventKind,
}

/// What changed behind a cursor, and what the models that did are now.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The changes, oldest first.
    pub events: Vec<FeedEvent>,
    /// Those models as they are now; `None` is removed.
    pub models: BTreeMap<i64, Option<Model>>,
    /// The cursor to go on from: everything up to it was looked at.
    pub cursor: i64,
    /// Events behind the cursor asked for are kept no more: only a whole look at everything
    /// ([`Registry::everything`]) tells what changed.
    pub missed: bool,
}

/// So many events are looked at in one read; the next goes on behind them.
const AT_ONCE: u32 = 1_000;

impl Registry {
    /// What changed of models, defaults and runtimes behind the event `after`. There may be more
    /// while the cursor given back is below [`Registry::last_event`].
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn changes(&self, after: i64) -> Result<Changes> {
        self.read(move |connection| {
            let (first, last) = events::range(connection)?;
            // A number never given is of another registry.
            if after + 1 < first || after > last {
                return Ok(Changes { cursor: last, missed: true, ..Changes::default() });
            }
            let mut changes = Changes { cursor: after, ..Changes::default() };
            let mut statement = connection.prepare_cached(
                "SELECT seq, model_id, kind FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?;
            let mut rows = statement.query(params![after, AT_ONCE])?;
            while let Some(row) = rows.next()? {
                changes.cursor = row.get(0)?;
                let kind = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
                let kind = EventKind::from(kind);
                if kind.changes_a_model() {
                    changes.events.push(FeedEvent {
                        seq: changes.cursor,
                        model_id: row.get(1)?,
                        kind,
                    });
                }
            }
            for id in changes.events.iter().filter_map(|event| event.model_id) {
                if let Entry::Vacant(unread) = changes.models.entry(id) {
                    unread.insert(models::get(connection, id)?.map(|record| record.model));
                }
            }
            Ok(changes)
        })
        .await
    }

    /// Everything a follower begins with, and the cursor from which [`Registry::changes`] goes on.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn everything_and_cursor(&self) -> Result<(Everything, i64)> {
        self.read(|connection| {
            Ok((transfer::everything(connection)?, events::range(connection)?.1))
        })
        .await
    }
}
