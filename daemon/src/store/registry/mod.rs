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

mod bounds;
mod check;
mod defaults;
mod desired;
mod error;
mod events;
mod feed;
mod identity;
mod in_clear;
mod library;
mod memo;
mod models;
mod named_runtimes;
mod names;
mod restore;
mod revisions;
mod run_memory;
mod runs;
mod runtimes;
mod secrets;
mod snapshot;
#[cfg(test)]
mod tests;
mod transfer;

pub use check::{Report, newest_copy, registry_changed_at_ms, try_migration};
pub use desired::DesiredRecord;
pub use error::{Result, StoreError, save_it, ways_out};
pub use events::{EventBatch, EventFilter, NewEvent};
pub use feed::Changes;
pub use library::{FileStamp, variants};
pub use memo::Memo;
pub use models::{ModelChange, ModelRecord, NewFile, NewModel};
pub use named_runtimes::NamedRuntime;
pub use restore::{Restored, restore};
pub use run_memory::{MemoryMoment, RunMemory};
pub use runs::{RunEnd, RunFile, RunRecord};
pub use runtimes::{FilesOfRun, NewRuntime, RuntimeFile, RuntimeRecord};
pub use secrets::Secrets;
pub use snapshot::{ModelLayers, ServedModel, StoredServer};
pub use transfer::{Everything, Import, ImportedChange, StoredRuntime};

use super::ballast::{Ballast, is_disk_full};
use super::copies::{self, Copies};
use super::database::{Database, Opened, ReadFor, Schema};
use super::writer::News;
use super::{DatabaseError, Health, Intruder, MayPass, Obstacle};
use llamactl_protocol::Actor;
use llamactl_protocol::event::EventKind;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;
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
        include_str!("../../../../migrations/registry/0005_builds_and_files.sql"),
        include_str!("../../../../migrations/registry/0006_libraries.sql"),
    ],
};

/// A handle to the registry. Clones share it.
#[derive(Clone, Debug)]
pub struct Registry {
    database: Database,
    reads: ReadFor,
    id: Uuid,
    dir: PathBuf,
    copies: Copies,
    secrets: Secrets,
    last_event: watch::Sender<i64>,
    files_of_runs: Memo<String, FilesOfRun>,
}

impl Registry {
    /// Opens the registry in a directory, making or upgrading it as needed. This handle reads for the
    /// daemon itself.
    ///
    /// # Errors
    /// [`MigrateError::Newer`](super::MigrateError::Newer) for a database of a newer version, which is
    /// left untouched; [`StoreError::Unusable`] where there is none, or a damaged one, though there was
    /// one; whatever SQLite reports otherwise.
    pub fn open(dir: &Path) -> Result<Registry> {
        let mut opened = Registry::try_open(dir, None);
        // SQLite needs some room even to read.
        if opened.as_ref().is_err_and(MayPass::may_pass)
            && let Some(ballast) = Ballast::released_in(dir)
        {
            opened = Registry::try_open(dir, Some(ballast));
        }
        opened.map_err(|error| match error.obstacle() {
            Some(Obstacle::Unwritable(_)) if is_disk_full(dir) => {
                DatabaseError::from(Obstacle::DiskFull).into()
            }
            _ => explained(dir, error),
        })
    }

    /// The same, where the room that was kept may have been given away already.
    fn try_open(dir: &Path, ballast: Option<Ballast>) -> Result<Registry> {
        identity::before_opening(dir)?;
        let opened = Opened::open(&REGISTRY, dir, |connection| identity::is_ours(dir, connection))?;
        let secrets = Secrets::open(dir).map_err(StoreError::Secrets)?;
        let id = match opened.is_read_only {
            true => {
                tracing::error!("the registry may only be read: changes are refused");
                let no_id = || StoreError::Damaged("it has no id".to_owned());
                identity::id_in(&opened.connection)?.ok_or_else(no_id)?
            }
            false => tidy(dir, &opened.connection, &secrets)?,
        };
        let last_event = watch::Sender::new(events::last(&opened.connection)?);
        let told = last_event.clone();
        let copies = Copies::of(&REGISTRY, dir);
        let kept = copies.clone();
        let database = opened.start([copies.slot()], ballast, move |connection, news| {
            if let Err(error) = announce(connection, news, &told, &kept) {
                // What was written is kept; who follows hears of it with the next event.
                tracing::error!(%error, "what was written could not be told");
            }
        })?;
        let (reads, dir) = (ReadFor::Daemon, dir.to_owned());
        let files_of_runs = Memo::default();
        Ok(Registry { database, reads, id, dir, copies, secrets, last_event, files_of_runs })
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

    /// The longest that one transaction held up all others since the registry was opened.
    #[must_use]
    pub fn longest_write(&self) -> Duration {
        self.database.writer().longest()
    }

    /// How the registry is kept.
    #[must_use]
    pub fn health(&self) -> Health {
        self.database.writer().health()
    }

    /// The newest copy, with when it was made. Blocks.
    #[must_use]
    pub fn newest_copy(&self) -> Option<(i64, PathBuf)> {
        copies::all(&REGISTRY, &self.dir).into_iter().next()
    }

    /// Why no copy could be made today.
    #[must_use]
    pub fn copy_problem(&self) -> Option<String> {
        self.copies.problem()
    }

    /// Looks whether the registry's files are in their place, and puts them back.
    pub async fn look(&self) {
        self.database.writer().look().await;
    }

    /// Puts the open registry back into its place, where another file lies; where that is then.
    ///
    /// # Errors
    /// [`StoreError::InPlace`]; [`StoreError::Gone`] with what stood in the way.
    pub async fn put_back(&self) -> Result<PathBuf> {
        Ok(self.database.writer().put_back().await?)
    }

    /// Copies the registry as it is to a file that is not there yet, and looks the copy through.
    ///
    /// # Errors
    /// [`StoreError::Copy`]; what SQLite reports.
    pub async fn back_up(&self, file: PathBuf) -> Result<()> {
        let health = self.health();
        if let Some(by @ Intruder::Contents) = health.replaced {
            return Err(StoreError::Replaced { path: REGISTRY.path(&self.dir), by });
        }
        if health.gone.is_some() || health.replaced.is_some() {
            // Only who has it open can read it.
            let write = move |connection: &Connection| Ok(copies::write_new(connection, &file)?);
            return Ok(self.database.writer().bare(write).await?);
        }
        let copies = self.copies.clone();
        let made = tokio::task::spawn_blocking(move || copies.copy_to(&file)).await;
        made.map_err(|_| StoreError::Panicked)?.map_err(|error| DatabaseError::from(error).into())
    }

    /// Moves everything from the write-ahead log into the database file, so that the file alone is
    /// whole. For a clean stop; nothing is lost without it.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn checkpoint(&self) -> Result<()> {
        if let Some(by @ Intruder::Contents) = self.health().replaced {
            return Err(StoreError::Replaced { path: REGISTRY.path(&self.dir), by });
        }
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
        let made = self.database.writer().change(change).await;
        made.map_err(|error| self.refused(error))
    }

    /// The same for a record of about so many bytes that must be written in the end: where the disk is in
    /// its way it gives the error and is written later, before anything newer.
    async fn write_surely<T, F>(&self, bytes: usize, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T> + Send + 'static,
    {
        let made = self.database.writer().vital(bytes, change).await;
        made.map_err(|error| self.refused(error))
    }

    /// Runs `query` on what the registry holds at one moment.
    async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let read = self.database.reader(self.reads).run(query).await;
        read.map_err(|error| self.explained(error))
    }

    /// The error of a change, with what is wrong with the file or the disk where something is.
    fn refused(&self, error: StoreError) -> StoreError {
        match error.obstacle() {
            Some(Obstacle::Unwritable(why)) => {
                StoreError::Unwritable { path: REGISTRY.path(&self.dir), why }
            }
            _ => self.explained(error),
        }
    }

    /// An error, with what is wrong with the file where something is.
    fn explained(&self, error: StoreError) -> StoreError {
        match self.health().replaced {
            // What is read then is in part ours and in part what was written over it.
            Some(by @ Intruder::Contents) if damage(&error).is_some() => {
                StoreError::Replaced { path: REGISTRY.path(&self.dir), by }
            }
            _ => explained(&self.dir, error),
        }
    }
}

/// What is done first to a registry that is opened; whose it is.
fn tidy(dir: &Path, connection: &Connection, secrets: &Secrets) -> Result<Uuid> {
    let id = registry_id(connection)?;
    if let Err(error) = in_clear::put_apart(connection, dir, secrets) {
        tracing::error!(%error, "secrets in clear could not be looked for, or put away");
    }
    if let Err(error) = identity::remember(dir, id) {
        tracing::warn!(%error, "whose registry this is cannot be written down beside it");
    }
    match models::remove_all_nameless(connection)? {
        0 => {}
        models => tracing::info!(models, "an import that was cut off is taken back"),
    }
    Ok(id)
}

/// How much a record takes that is to be kept, besides what it says.
const RECORD: usize = 512;

/// Tells of what was committed, and keeps a copy of it now and then. For the writer's thread.
fn announce(
    connection: &Connection,
    news: News,
    told: &watch::Sender<i64>,
    copies: &Copies,
) -> Result<()> {
    let event = |kind, message| {
        events::append(connection, &events::NewEvent::of_daemon(kind, &Actor::Policy, message))
    };
    if news.restored {
        let message = "the registry's file was deleted, and put back: nothing is lost";
        event(EventKind::RegistryRestored, message.to_owned())?;
    }
    if news.lost > 0 {
        let message = format!("{} records could not be written: the disk was full", news.lost);
        event(EventKind::RegistryUnwritten, message)?;
    }
    let last = events::last(connection)?;
    told.send_if_modified(|seen| std::mem::replace(seen, last) != last);
    // A copy of a registry that holds nothing yet would be the only one of its day. What a person gave
    // counts, be it no model, and so does that everything was removed.
    let holds_any = "SELECT EXISTS (SELECT 1 FROM model_names)
                         OR EXISTS (SELECT 1 FROM default_revisions)
                         OR EXISTS (SELECT 1 FROM named_runtimes)
                         OR EXISTS (SELECT 1 FROM library_dirs)";
    if connection.prepare_cached(holds_any)?.query_row([], |row| row.get(0))? {
        copies.keep(last, news.writes_again);
    }
    Ok(())
}

/// An error with the way back, where it says that the registry is damaged.
fn explained(dir: &Path, error: StoreError) -> StoreError {
    match damage(&error) {
        Some(source) => {
            let path = REGISTRY.path(dir);
            identity::unusable(dir, format!("the registry {} is damaged: {source}", path.display()))
        }
        None => error,
    }
}

/// What SQLite says of a damaged file.
fn damage(error: &StoreError) -> Option<&rusqlite::Error> {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let (StoreError::Sqlite(source)
    | StoreError::Migrate(super::MigrateError::Sqlite { source, .. })) = error
    else {
        return None;
    };
    matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase)).then_some(source)
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
