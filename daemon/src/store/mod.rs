//! The databases: SQLite on threads of its own, and the registry on it.
//!
//! ```text
//!   Database ──write──▶ writer    jobs that wait share a transaction, a savepoint each
//!            ├─read───▶ reader of the wire     lists, exports        each job sees one moment
//!            ╰─read───▶ reader of the daemon   starts, adoption
//! ```
//!
//! What is written is kept: after each commit it is looked whether the files are still in their place
//! (`place`), what must not be lost waits for room on a full disk (`writer`, `ballast`).
//!
//! What is generic (this folder) knows no table. A database is a `database::Schema`, and a
//! folder with one file per subject whose functions hand closures to it. Nothing outside this folder
//! opens a database of ours, and nothing inside decides what is done.

mod ballast;
mod copies;
mod database;
pub mod metrics;
mod migrate;
mod place;
mod reader;
pub mod registry;
mod writer;

pub use copies::CopyError;
pub use migrate::MigrateError;

use rusqlite::ffi;
use std::fmt;
use std::path::PathBuf;

/// Why a database could not do something, whatever is kept in it.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite refused: a full disk, a lock held by another program, a damaged file.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// It could not be brought to this program's version.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The closure panicked. What it had written was rolled back.
    #[error("a query of the database panicked")]
    Panicked,
    /// Its thread has ended: the daemon is stopping.
    #[error("the database is closed")]
    Closed,
    /// Its file was deleted, and could not be put back.
    #[error("{path} was deleted, and cannot be put back: {why}", path = path.display())]
    Gone {
        /// Where the file was.
        path: PathBuf,
        /// What stood in the way.
        why: String,
    },
    /// Something else lies where it was.
    #[error("{by} {path}", path = path.display())]
    Replaced {
        /// Where the file was.
        path: PathBuf,
        /// What.
        by: Intruder,
    },
    /// It is where it belongs: there is nothing to be put back.
    #[error("the database is in its place")]
    InPlace,
    /// A copy of it could not be made, or is damaged.
    #[error("there is no copy: {0}")]
    Copy(CopyError),
    /// The machine gave no thread for it.
    #[error("no thread could be made for the database: {0}")]
    NoThread(#[source] std::io::Error),
}

/// What a person should know of how a database is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The disk was full at the last try.
    pub disk_full: bool,
    /// Why nothing could be written at the last try, though the disk has room: a file or a file system
    /// that may only be read, or a disk that fails.
    pub unwritable: Option<String>,
    /// Its file was deleted, and why it could not be put back.
    pub gone: Option<String>,
    /// What else lies in its place.
    pub replaced: Option<Intruder>,
    /// How many records wait to be written.
    pub waiting: usize,
}

/// What lies in the place of an open database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intruder {
    /// Another file.
    File,
    /// The same file, into which somebody else wrote. What it held is gone.
    Contents,
}

impl fmt::Display for Intruder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Intruder::File => "another file lies in the place of the registry",
            Intruder::Contents => "another program wrote over the registry",
        })
    }
}

/// What stands in the way of a change and may pass without anybody changing what is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Obstacle {
    DiskFull,
    /// Nothing can be written, and why.
    Unwritable(String),
    /// A lock of another program, or what became of the files.
    Other,
}

/// As SQLite says it.
impl From<Obstacle> for DatabaseError {
    fn from(obstacle: Obstacle) -> DatabaseError {
        let (code, why) = match obstacle {
            Obstacle::DiskFull => (ffi::SQLITE_FULL, None),
            Obstacle::Unwritable(why) => (ffi::SQLITE_IOERR, Some(why)),
            Obstacle::Other => (ffi::SQLITE_BUSY, None),
        };
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), why).into()
    }
}

/// Whether what stood in the way of a change may pass.
trait MayPass {
    fn obstacle(&self) -> Option<Obstacle>;

    fn may_pass(&self) -> bool {
        self.obstacle().is_some()
    }

    fn is_disk_full(&self) -> bool {
        self.obstacle() == Some(Obstacle::DiskFull)
    }
}

impl MayPass for rusqlite::Error {
    fn obstacle(&self) -> Option<Obstacle> {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, ReadOnly, SystemIoFailure,
        };
        match self.sqlite_error_code()? {
            DiskFull => Some(Obstacle::DiskFull),
            ReadOnly => Some(Obstacle::Unwritable(READ_ONLY.to_owned())),
            CannotOpen | SystemIoFailure => Some(Obstacle::Unwritable(self.to_string())),
            DatabaseBusy | DatabaseLocked => Some(Obstacle::Other),
            _ => None,
        }
    }
}

/// Why nothing can be written to a file that may only be read.
const READ_ONLY: &str = "its file, or what that lies on, may only be read";

impl MayPass for DatabaseError {
    fn obstacle(&self) -> Option<Obstacle> {
        match self {
            DatabaseError::Sqlite(error) => error.obstacle(),
            DatabaseError::Gone { .. } | DatabaseError::Replaced { .. } => Some(Obstacle::Other),
            DatabaseError::Migrate(_)
            | DatabaseError::Panicked
            | DatabaseError::InPlace
            | DatabaseError::Copy(_)
            | DatabaseError::Closed
            | DatabaseError::NoThread(_) => None,
        }
    }
}
