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
mod migrate;
mod place;
mod reader;
pub mod registry;
mod writer;

pub use copies::CopyError;
pub use migrate::MigrateError;

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
    /// Another file lies where it was.
    #[error("another file lies in the place of {path}", path = path.display())]
    Replaced {
        /// Where the file was.
        path: PathBuf,
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
    /// Its file was deleted, and why it could not be put back.
    pub gone: Option<String>,
    /// Another file lies in its place.
    pub replaced: bool,
    /// How many records wait to be written.
    pub waiting: usize,
}

/// Whether what stood in the way of a change may pass without anybody changing it.
trait MayPass {
    fn may_pass(&self) -> bool;
    fn is_disk_full(&self) -> bool;
}

impl MayPass for rusqlite::Error {
    fn may_pass(&self) -> bool {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, ReadOnly, SystemIoFailure,
        };
        let codes = [CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, ReadOnly, SystemIoFailure];
        self.sqlite_error_code().is_some_and(|code| codes.contains(&code))
    }

    fn is_disk_full(&self) -> bool {
        self.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
    }
}

impl MayPass for DatabaseError {
    fn may_pass(&self) -> bool {
        match self {
            DatabaseError::Sqlite(error) => error.may_pass(),
            DatabaseError::Gone { .. } | DatabaseError::Replaced { .. } => true,
            DatabaseError::Migrate(_)
            | DatabaseError::Panicked
            | DatabaseError::InPlace
            | DatabaseError::Copy(_)
            | DatabaseError::Closed
            | DatabaseError::NoThread(_) => false,
        }
    }

    fn is_disk_full(&self) -> bool {
        matches!(self, DatabaseError::Sqlite(error) if error.is_disk_full())
    }
}
