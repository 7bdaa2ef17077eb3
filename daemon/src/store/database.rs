//! A SQLite database: opened, brought to this version, served by a writer and two readers.

use super::ballast::Ballast;
use super::place::Files;
use super::reader::{Reader, Slot};
use super::writer::{Desk, News, Writer};
use super::{DatabaseError, READ_ONLY, migrate};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags};
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
    /// Nothing can be written to it: its file, or the disk, may only be read.
    pub(super) is_read_only: bool,
}

impl Opened {
    /// Opens a database in a directory, making or upgrading it as needed, if it `is_ours`.
    ///
    /// # Errors
    /// [`MigrateError::Newer`](super::MigrateError::Newer) for one of a newer version, which is left
    /// untouched; whatever SQLite reports otherwise.
    pub(super) fn open<E: From<DatabaseError>>(
        schema: &'static Schema,
        dir: &Path,
        is_ours: impl FnOnce(&Connection) -> Result<(), E>,
    ) -> Result<Opened, E> {
        let path = schema.path(dir);
        let sqlite = DatabaseError::from;
        // Looked at before anything is written to it, be it only that it has a log.
        let looks = Connection::open(&path).map_err(sqlite)?;
        looks.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(sqlite)?;
        is_ours(&looks)?;
        drop(looks);
        let mut connection = to_write(&path).map_err(sqlite)?;
        migrate::run(&mut connection, &path, schema.migrations).map_err(DatabaseError::from)?;
        let is_read_only = connection.is_readonly(MAIN_DB).map_err(sqlite)?;
        Ok(Opened { schema, path, connection, is_read_only })
    }

    /// Starts the threads. `announce` runs on the writer's after each commit and before the answers
    /// of what was committed; `readers` are what others read with; `ballast` is what is left of the room
    /// that is kept, where some was needed to open it.
    ///
    /// # Errors
    /// [`DatabaseError::NoThread`], or what SQLite reports.
    pub(super) fn start(
        self,
        readers: impl IntoIterator<Item = Slot>,
        ballast: Option<Ballast>,
        announce: impl FnMut(&Connection, News) + Send + 'static,
    ) -> Result<Database, DatabaseError> {
        let Opened { schema, path, connection, is_read_only } = self;
        let unreadable = |error: std::io::Error| DatabaseError::Gone {
            path: path.clone(),
            why: error.to_string(),
        };
        let files = Some(Files::guarded(&path, &connection).map_err(unreadable)?);
        let ballast = ballast.or_else(|| path.parent().map(Ballast::in_directory));
        let reader = |purpose: &str| {
            let path = path.clone();
            Reader::start(format!("{}-{purpose}", schema.name), move || to_read(&path))
        };
        let (for_wire, for_daemon) = (reader("wire")?, reader("read")?);
        let readers = readers.into_iter().chain([for_wire.slot(), for_daemon.slot()]).collect();
        let open = move || {
            let connection = to_write(&path)?;
            let files = Files::guarded(&path, &connection).map_err(|error| {
                DatabaseError::Gone { path: path.clone(), why: error.to_string() }
            })?;
            Ok((connection, Some(files)))
        };
        let unwritable = is_read_only.then(|| READ_ONLY.to_owned());
        let desk = Desk { connection, files, open, announce, readers, ballast, unwritable };
        let writer = Writer::start(format!("{}-write", schema.name), desk)?;
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

/// Opens a database to be written.
///
/// # Errors
/// What SQLite reports.
pub(super) fn to_write(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: a commit survives power loss, not only a crash of the daemon.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The writer moves the log into the database itself, and so knows who wrote there.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", CACHE)?;
    // Only a read opens the write-ahead log, and it is to be known which file that is.
    migrate::version(&connection)?;
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
    connection.pragma_update(None, "cache_size", CACHE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// How much of the database a connection keeps in memory; negative counts in KiB. SQLite's own 2 MiB
/// each fill with pages that nobody reads again, by a flood of questions or by the events of a long
/// life, and the system keeps the file's pages as well.
const CACHE: i32 = -256;

/// How many statements a connection keeps prepared: more than there are of one database.
const STATEMENTS: usize = 128;
