//! The registry database: models, their settings and history, wishes, runs, events.
//!
//! ```text
//!   handlers, supervisor ──▶ Registry ──write──▶ writer thread ── registry.db (WAL, FULL)
//!                                    ╰──read───▶ reader thread ──╯
//! ```
//!
//! * Nothing outside this folder opens a database of ours.
//! * A write is one transaction and is on disk when its future resolves. Events written in it are
//!   announced after the commit, never before.
//! * Queries only: who may do what, and when, is decided elsewhere.

mod defaults;
mod events;
mod library;
mod migrate;
mod models;
mod named_runtimes;
mod names;
mod revisions;
mod runs;
mod runtimes;
mod secrets;
#[cfg(test)]
mod tests;
mod transfer;
mod wishes;

pub use events::{EventBatch, EventFilter, NewEvent};
pub use library::{FileStamp, variants};
pub use migrate::MigrateError;
pub use models::{ModelChange, ModelRecord, NewFile, NewModel};
pub use named_runtimes::NamedRuntime;
pub use runs::{RunEnd, RunRecord};
pub use runtimes::{NewRuntime, RuntimeFile, RuntimeRecord};
pub use secrets::Secrets;
pub use transfer::{Everything, Import, ImportDone, ImportedChange, StoredRuntime};
pub use wishes::WishRecord;

use super::worker::Worker;
use llamactl_protocol::{Failure, Kind};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// Why the registry could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("the registry database could not be used")]
    Sqlite(#[from] rusqlite::Error),
    /// A JSON column holds something else.
    #[error("the registry database holds something unreadable")]
    Json(#[from] serde_json::Error),
    /// The database is from elsewhen.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The name belongs to another model.
    #[error("the name {name} is taken, by the model {by}")]
    NameTaken {
        /// The name.
        name: String,
        /// The model that has it as its name or alias.
        by: String,
    },
    /// There is no such model (any more).
    #[error("there is no model {0}")]
    ModelNotFound(String),
    /// The model has changed since the caller looked.
    #[error("the model {model} is at revision {found}, not {expected}")]
    RevisionConflict {
        /// Its name.
        model: String,
        /// What the caller saw.
        expected: i64,
        /// What it is.
        found: i64,
    },
    /// Somebody else changed what a change was made from.
    #[error("somebody else changed {0} meanwhile: nothing was done")]
    Overtaken(String),
    /// The directory of secrets cannot be used.
    #[error("the directory of secrets cannot be used: {0}")]
    Secrets(std::io::Error),
    /// No runtime has this name.
    #[error("there is no runtime {0}")]
    RuntimeNotFound(String),
    /// The runtime cannot be taken out while it is used.
    #[error("the runtime {name} is used: {by}")]
    RuntimeInUse {
        /// Its name.
        name: String,
        /// Who names it.
        by: String,
        /// The models whose settings do.
        models: Vec<String>,
    },
    /// The database's thread is gone.
    #[error("the registry is closed")]
    Closed,
}

/// What a query gives.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let message = error.to_string();
        match error {
            StoreError::NameTaken { .. } => Failure::new(Kind::NameTaken, message),
            StoreError::ModelNotFound(_) => Failure::new(Kind::ModelNotFound, message)
                .hint("llamactl model list shows the models there are"),
            StoreError::RuntimeNotFound(_) => Failure::new(Kind::RuntimeNotFound, message)
                .hint("llamactl runtime list shows the runtimes there are"),
            StoreError::RuntimeInUse { models, .. } => Failure::new(Kind::RuntimeInUse, message)
                .hint(
                    "give its users another first: llamactl model set NAME runtime=OTHER, \
                     llamactl defaults unset runtime, llamactl runtime use OTHER",
                )
                .details(json!({ "models": models })),
            StoreError::RevisionConflict { .. } => Failure::new(Kind::RevisionConflict, message)
                .hint("somebody else changed it first: look at it again and retry"),
            StoreError::Overtaken(_) => {
                Failure::new(Kind::RevisionConflict, message).hint("look again and retry")
            }
            StoreError::Sqlite(rusqlite::Error::SqliteFailure(error, _))
                if error.code == rusqlite::ErrorCode::DiskFull =>
            {
                Failure::new(Kind::DiskFull, "the disk is full: nothing was changed")
                    .hint("free some space where the state directory lies and try again")
            }
            StoreError::Sqlite(source) => {
                Failure::new(Kind::StoreFailed, format!("{message}: {source}"))
            }
            StoreError::Json(source) => {
                Failure::new(Kind::StoreFailed, format!("{message}: {source}"))
            }
            StoreError::Migrate(_) => Failure::new(Kind::StoreFailed, message),
            StoreError::Secrets(_) | StoreError::Closed => Failure::new(Kind::StoreFailed, message),
        }
    }
}

/// A handle to the registry. Clones share it.
#[derive(Clone, Debug)]
pub struct Registry {
    writer: Worker,
    reader: Worker,
    id: Uuid,
    secrets: Secrets,
    last_event: watch::Sender<i64>,
}

impl Registry {
    /// Opens the registry in a directory, making or upgrading it as needed.
    ///
    /// # Errors
    /// [`MigrateError::Newer`] for a database of a newer version, which is left untouched;
    /// whatever SQLite reports otherwise.
    pub fn open(dir: &Path) -> Result<Registry> {
        let path = dir.join("registry.db");
        let secrets = Secrets::open(dir).map_err(StoreError::Secrets)?;
        let mut writer = open_writer(&path)?;
        migrate::run(&mut writer, &path)?;
        let id = registry_id(&mut writer)?;
        let last_event = events::last(&writer)?;
        let reader = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        reader.busy_timeout(BUSY_TIMEOUT)?;
        Ok(Registry {
            writer: Worker::start("registry-writer", writer),
            reader: Worker::start("registry-reader", reader),
            id,
            secrets,
            last_event: watch::Sender::new(last_event),
        })
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
        self.writer
            .run(|connection| {
                // Answers a row, and says there whether a reader was in the way: no matter.
                Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
            })
            .await
    }

    /// Runs `change` as one transaction. It is on disk when this returns `Ok`, and has not
    /// happened when it returns `Err`.
    async fn write<T, F>(&self, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    {
        let last_event = self.last_event.clone();
        self.writer
            .run(move |connection| {
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let value = change(&transaction)?;
                let last = events::last(&transaction)?;
                transaction.commit()?;
                last_event.send_if_modified(|seen| std::mem::replace(seen, last) != last);
                Ok(value)
            })
            .await
    }

    /// Runs `query` on the read-only connection.
    async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.reader.run(move |connection| query(connection)).await
    }
}

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

fn open_writer(path: &PathBuf) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: a commit survives power loss, not only a crash of the daemon.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

fn registry_id(connection: &mut Connection) -> Result<Uuid> {
    connection.execute(
        "INSERT OR IGNORE INTO registry (key, value) VALUES ('id', ?1)",
        [Uuid::new_v4().to_string()],
    )?;
    let id: String =
        connection
            .query_row("SELECT value FROM registry WHERE key = 'id'", [], |row| row.get(0))?;
    Uuid::parse_str(&id).map_err(|_| StoreError::Sqlite(rusqlite::Error::InvalidQuery))
}
