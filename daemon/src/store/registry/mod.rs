//! The registry database: models, their settings and history, what is wanted of servers, runs, events.
//!
//! ```text
//!   supervisor ──▶ Registry ────────────────────▶ ╮ one change: its rows and its event together
//!   methods ─────▶ Registry.for_the_wire() ─────▶ ╯ one read: one moment
//!                      │
//!                      ╰─▶ last_event: told after the commit, before the answer
//! ```
//!
//! One file per subject, each with the functions of [`Registry`] on it. A change that people should
//! hear of writes its event in its own transaction: the events are also the feed of changes. What
//! grows is trimmed where it is written, a little at a time.

mod check;
mod defaults;
mod desired;
mod error;
mod events;
mod feed;
mod in_clear;
mod library;
mod models;
mod named_runtimes;
mod names;
mod revisions;
mod run_memory;
mod runs;
mod runtimes;
mod secrets;
mod snapshot;
#[cfg(test)]
mod tests;
mod transfer;

pub use check::{Report, try_migration};
pub use desired::DesiredRecord;
pub use error::{Result, StoreError};
pub use events::{EventBatch, EventFilter, NewEvent};
pub use feed::Changes;
pub use library::{FileStamp, variants};
pub use models::{ModelChange, ModelRecord, NewFile, NewModel};
pub use named_runtimes::NamedRuntime;
pub use run_memory::{MemoryMoment, RunMemory};
pub use runs::{RunEnd, RunRecord};
pub use runtimes::{NewRuntime, RuntimeFile, RuntimeRecord};
pub use secrets::Secrets;
pub use snapshot::{ModelLayers, ServedModel, StoredServer};
pub use transfer::{Everything, Import, ImportedChange, StoredRuntime};

use super::database::{Database, Opened, ReadFor, Schema};
use rusqlite::Connection;
use std::path::Path;
use tokio::sync::watch;
use uuid::Uuid;

/// The registry's file, threads and migrations.
static REGISTRY: Schema = Schema {
    name: "registry",
    migrations: &[
        include_str!("../../../../migrations/registry/0001_initial.sql"),
        include_str!("../../../../migrations/registry/0002_settings.sql"),
        include_str!("../../../../migrations/registry/0003_supervision.sql"),
        include_str!("../../../../migrations/registry/0004_one_trunk.sql"),
    ],
};

/// A handle to the registry. Clones share it.
#[derive(Clone, Debug)]
pub struct Registry {
    database: Database,
    reads: ReadFor,
    id: Uuid,
    secrets: Secrets,
    last_event: watch::Sender<i64>,
}

impl Registry {
    /// Opens the registry in a directory, making or upgrading it as needed. This handle reads for the
    /// daemon itself.
    ///
    /// # Errors
    /// [`MigrateError::Newer`](super::MigrateError::Newer) for a database of a newer version, which is
    /// left untouched; whatever SQLite reports otherwise.
    pub fn open(dir: &Path) -> Result<Registry> {
        let secrets = Secrets::open(dir).map_err(StoreError::Secrets)?;
        let opened = Opened::open(&REGISTRY, dir)?;
        let id = registry_id(&opened.connection)?;
        if let Err(error) = in_clear::put_apart(&opened.connection, dir, &secrets) {
            tracing::error!(%error, "secrets in clear could not be looked for, or put away");
        }
        let last_event = watch::Sender::new(events::last(&opened.connection)?);
        let told = last_event.clone();
        let database = opened.start(move |connection| match events::last(connection) {
            Ok(last) => {
                told.send_if_modified(|seen| std::mem::replace(seen, last) != last);
            }
            // What was written is kept; who follows hears of it with the next event.
            Err(error) => tracing::error!(%error, "cannot tell the number of the last event"),
        })?;
        Ok(Registry { database, reads: ReadFor::Daemon, id, secrets, last_event })
    }

    /// The same registry, read on the thread that serves clients: a long list of theirs delays no
    /// start of a server.
    #[must_use]
    pub fn for_the_wire(&self) -> Registry {
        Registry { reads: ReadFor::Wire, ..self.clone() }
    }

    /// The registry's own id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Where secrets are kept.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The number of the last event; changes when one is written.
    #[must_use]
    pub fn last_event(&self) -> watch::Receiver<i64> {
        self.last_event.subscribe()
    }

    /// Moves everything from the write-ahead log into the database file, so that the file alone is
    /// whole. For a clean stop; nothing is lost without it.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn checkpoint(&self) -> Result<()> {
        let checkpoint = self.database.writer().bare(|connection| {
            // Answers a row, and says there whether a reader was in the way: no matter.
            Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
        });
        Ok(checkpoint.await?)
    }

    /// Makes a change: on disk when this gives `Ok`, and not made when it gives `Err`. `change` may
    /// run twice, the first time in vain.
    async fn write<T, F>(&self, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T> + Send + 'static,
    {
        self.database.writer().change(change).await
    }

    /// Runs `query` on what the registry holds at one moment.
    async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.database.reader(self.reads).run(query).await
    }
}

fn registry_id(connection: &Connection) -> Result<Uuid> {
    connection.execute(
        "INSERT OR IGNORE INTO registry (key, value) VALUES ('id', ?1)",
        [Uuid::new_v4().to_string()],
    )?;
    let id: String =
        connection
            .query_row("SELECT value FROM registry WHERE key = 'id'", [], |row| row.get(0))?;
    Uuid::parse_str(&id).map_err(|_| StoreError::Sqlite(rusqlite::Error::InvalidQuery))
}
