//! A SQLite database: opened, brought to this version, served by a writer and two readers.

use super::reader::Reader;
use super::writer::Writer;
use super::{DatabaseError, migrate};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A kind of database of ours.
#[derive(Debug)]
pub(super) struct Schema {
    /// What it is called: `NAME.db` is its file, `NAME-write` the name of its writer's thread. Threads
    /// keep 15 bytes of their name.
    pub(super) name: &'static str,
    /// Its migrations in order, as SQL. One that has landed is never edited.
    pub(super) migrations: &'static [&'static str],
}

impl Schema {
    /// Where such a database lies in a state directory.
    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.db", self.name))
    }
}

/// Whom a read is for. Each has a reader of its own, so that a long list of the one never delays
/// a start of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadFor {
    /// Calls of clients: lists, exports, streams.
    Wire,
    /// The daemon's own work: starting, adopting and ending servers.
    Daemon,
}

/// A database that was opened and brought to this version, before its threads begin.
pub(super) struct Opened {
    schema: &'static Schema,
    path: PathBuf,
    /// The connection that will be the writer's.
    pub(super) connection: Connection,
}

impl Opened {
    /// Opens a database in a directory, making or upgrading it as needed.
    ///
    /// # Errors
    /// [`MigrateError::Newer`](super::MigrateError::Newer) for one of a newer version, which is left
    /// untouched; whatever SQLite reports otherwise.
    pub(super) fn open(schema: &'static Schema, dir: &Path) -> Result<Opened, DatabaseError> {
        let path = schema.path(dir);
        let mut connection = to_write(&path)?;
        migrate::run(&mut connection, &path, schema.migrations)?;
        Ok(Opened { schema, path, connection })
    }

    /// Starts the threads. `announce` runs on the writer's after each commit and before the answers
    /// of what was committed.
    ///
    /// # Errors
    /// [`DatabaseError::NoThread`], or what SQLite reports.
    pub(super) fn start(
        self,
        announce: impl FnMut(&Connection) + Send + 'static,
    ) -> Result<Database, DatabaseError> {
        let Opened { schema, path, connection } = self;
        let reader = |purpose: &str| {
            let path = path.clone();
            Reader::start(format!("{}-{purpose}", schema.name), move || to_read(&path))
        };
        let (for_wire, for_daemon) = (reader("wire")?, reader("read")?);
        let open = move || Ok(to_write(&path)?);
        let writer = Writer::start(format!("{}-write", schema.name), connection, open, announce)?;
        Ok(Database { writer, for_wire, for_daemon })
    }
}

/// A handle to a database. Clones share it; it closes when the last is dropped.
#[derive(Clone, Debug)]
pub(super) struct Database {
    writer: Writer,
    for_wire: Reader,
    for_daemon: Reader,
}

impl Database {
    /// Where changes go.
    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Where reads of this purpose go.
    pub(super) fn reader(&self, purpose: ReadFor) -> &Reader {
        match purpose {
            ReadFor::Wire => &self.for_wire,
            ReadFor::Daemon => &self.for_daemon,
        }
    }
}

/// How long another program may hold the database's lock before a call fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

fn to_write(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: a commit survives power loss, not only a crash of the daemon.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Opens a database only to read it.
///
/// # Errors
/// What SQLite reports.
pub(super) fn to_read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// How many statements a connection keeps prepared: more than there are of one database.
const STATEMENTS: usize = 128;
