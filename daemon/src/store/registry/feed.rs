//! What changed of models, defaults and runtimes behind a number: the events are the feed.
//!
//! ```text
//!   change + event ─ commit ─▶ last_event wakes ─▶ changes(cursor): what changed, and what is now
//! ```
//!
//! A change's event is written in its transaction and numbered there, so the order of the feed is
//! that of the commits, nobody can miss one, and a cursor outlives the daemon. Who reads slowly reads
//! later, and reads the latest.

use super::{NamedRuntime, Registry, Result, defaults, events, models, named_runtimes};
use llamactl_protocol::defaults::Defaults;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::model::Model;
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What changed behind a cursor, as it is now, read at one moment.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The models that changed, by id; `None` is removed.
    pub models: BTreeMap<i64, Option<Model>>,
    /// The defaults for all models, if they changed.
    pub defaults: Option<Defaults>,
    /// All named runtimes, if any of them changed.
    pub runtimes: Option<Vec<NamedRuntime>>,
    /// It is everything there is, so a model that is not among `models` was removed: there was no
    /// cursor, or what is behind it is kept no more.
    pub is_whole: bool,
    /// The cursor to go on from: everything up to it was looked at.
    pub cursor: i64,
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Changes { models, defaults, runtimes, is_whole, .. } = self;
        !is_whole && models.is_empty() && defaults.is_none() && runtimes.is_none()
    }
}

/// So many events are looked at in one read; the next goes on behind them.
const AT_ONCE: u32 = 1_000;

impl Registry {
    /// What changed of models, defaults and runtimes behind the event `after`; everything without
    /// one. There may be more while the cursor given back is below [`Registry::last_event`].
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn changes(&self, after: Option<i64>) -> Result<Changes> {
        self.read(move |connection| {
            let (first, last) = events::range(connection)?;
            // A number never given is of another registry.
            match after.filter(|after| (first - 1..=last).contains(after)) {
                Some(after) => changes(connection, after),
                None => everything(connection, last),
            }
        })
        .await
    }
}

fn everything(connection: &Connection, cursor: i64) -> Result<Changes> {
    let all = models::page(connection, "", u32::MAX)?;
    Ok(Changes {
        models: all.into_iter().map(|model| (model.id, Some(model))).collect(),
        defaults: Some(defaults::get(connection)?),
        runtimes: Some(named_runtimes::all(connection)?),
        is_whole: true,
        cursor,
    })
}

fn changes(connection: &Connection, after: i64) -> Result<Changes> {
    let mut changes = Changes { cursor: after, ..Changes::default() };
    let mut statement = connection.prepare_cached(
        "SELECT seq, model_id, kind FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = statement.query(params![after, AT_ONCE])?;
    while let Some(row) = rows.next()? {
        changes.cursor = row.get(0)?;
        let kind = EventKind::from(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?);
        if !kind.changes_a_model() {
            continue;
        }
        if let Some(id) = row.get(1)? {
            if let Entry::Vacant(unread) = changes.models.entry(id) {
                unread.insert(models::get(connection, id)?.map(|record| record.model));
            }
        } else if kind == EventKind::DefaultsSet {
            changes.defaults = Some(defaults::get(connection)?);
        } else {
            changes.runtimes = Some(named_runtimes::all(connection)?);
        }
    }
    Ok(changes)
}
