//! The databases: SQLite on threads of its own, and the registry on it.
//!
//! ```text
//!   Database ──write──▶ writer    jobs that wait share a transaction, a savepoint each
//!            ├─read───▶ reader of the wire     lists, exports        each job sees one moment
//!            ╰─read───▶ reader of the daemon   starts, adoption
//! ```
//!
//! What is generic (this folder) knows no table. A database is a `database::Schema`, and a
//! folder with one file per subject whose functions hand closures to it. Nothing outside this folder
//! opens a database of ours, and nothing inside decides what is done.

mod database;
mod migrate;
mod reader;
pub mod registry;
mod writer;

pub use migrate::MigrateError;

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
    /// The machine gave no thread for it.
    #[error("no thread could be made for the database: {0}")]
    NoThread(#[source] std::io::Error),
}
