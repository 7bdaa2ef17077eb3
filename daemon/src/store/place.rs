//! Whether the files of an open database are still in their place, and putting them back.
//!
//! ```text
//!   commit ─▶ stat: the same device and inode? ── yes ──▶ answer
//!                │ -wal gone          ─▶ checkpoint, open anew                       nothing is lost
//!                │ database gone      ─▶ written out beside, renamed, opened anew    nothing is lost
//!                ╰ another file there ─▶ changes are refused: somebody meant something
//! ```
//!
//! What was deleted lives on without a name for as long as it is open, and commits to it succeed; so it is
//! looked at after each commit and before its answer. By `stat` and never by opening: to close a second
//! descriptor of the same file would drop SQLite's locks. The old -wal must not lie beside what is put back:
//! SQLite would play its pages into it.

use super::{DatabaseError, migrate};
use crate::clock::now_ms;
use crate::os::disk::rename_without_replacing;
use rusqlite::Connection;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Which file it is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Identity> {
        let facts = fs::metadata(path)?;
        Ok(Identity { device: facts.dev(), inode: facts.ino() })
    }
}

/// Where the files of an open database are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Where they belong.
    Whole,
    /// The database is; its write-ahead log is gone, or another file has its name.
    LogGone,
    /// Nothing lies in the place of the database.
    Gone,
    /// Another file does.
    Replaced,
}

/// The files of an open database.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    /// Where the path led when it was opened: SQLite lays the log beside that.
    real: PathBuf,
    database: Identity,
    log: Identity,
}

impl Files {
    /// The files that a connection has just opened, and read from.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn of(path: &Path) -> io::Result<Files> {
        let real = path.canonicalize()?;
        let (database, log) = (Identity::of(path)?, Identity::of(&beside(&real, "-wal"))?);
        Ok(Files { path: path.to_owned(), real, database, log })
    }

    /// Where they are now.
    pub(super) fn look(&self) -> Place {
        match Identity::of(&self.path) {
            Ok(database) if database == self.database => {}
            Ok(_) => return Place::Replaced,
            Err(_) => return Place::Gone,
        }
        match Identity::of(&beside(&self.real, "-wal")) {
            Ok(log) if log == self.log => Place::Whole,
            _ => Place::LogGone,
        }
    }

    /// Empties the write-ahead log, which may have no name, into the database, which has its own.
    ///
    /// # Errors
    /// What SQLite says; [`DatabaseError::Gone`] where somebody else reads.
    pub(super) fn empty_log(&self, connection: &Connection) -> Result<(), DatabaseError> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: bool = connection.query_row(checkpoint, [], |row| row.get(0))?;
        match busy {
            true => Err(self.gone("another program reads it")),
            false => Ok(()),
        }
    }

    /// Makes room for a new log where another file has its name.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn clear_log(&self) -> io::Result<()> {
        let log = beside(&self.real, "-wal");
        match Identity::of(&log) {
            Ok(_) => fs::rename(&log, beside(&self.path, &format!("{}-wal", aside()))),
            Err(_) => Ok(()),
        }
    }

    /// Writes the open database out and puts that into its place, where nothing may lie. It must be opened
    /// anew then.
    ///
    /// # Errors
    /// [`DatabaseError::Gone`] with the reason; nothing is in its place then.
    pub(super) fn put_back(&self, connection: &Connection) -> Result<(), DatabaseError> {
        let rescue = beside(&self.path, RESCUE);
        let put_back = || {
            let _ = fs::remove_file(&rescue);
            migrate::copy_to(connection, &rescue).map_err(io::Error::other)?;
            File::open(&rescue)?.sync_all()?;
            for behind in ["-wal", "-shm"] {
                match fs::remove_file(beside(&self.real, behind)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            rename_without_replacing(&rescue, &self.path)?;
            sync_directory(&self.path)
        };
        put_back().map_err(|error| {
            let _ = fs::remove_file(&rescue);
            self.gone(&error.to_string())
        })
    }

    /// Moves what lies in the place of the database out of it; where it is now.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn move_aside(&self) -> io::Result<PathBuf> {
        move_aside(&self.path)
    }

    pub(super) fn gone(&self, why: &str) -> DatabaseError {
        DatabaseError::Gone { path: self.path.clone(), why: why.to_owned() }
    }

    pub(super) fn replaced(&self) -> DatabaseError {
        DatabaseError::Replaced { path: self.path.clone() }
    }
}

/// What an open database is written out as before it is put into its place.
pub(super) const RESCUE: &str = ".rescue";

/// What lay in the place of a database is called so from then on.
fn aside() -> String {
    format!(".aside-{}", now_ms())
}

/// Moves a database out of its place with what SQLite lays beside it, which belongs to it and to nothing
/// else; where it is now, if there was one.
///
/// # Errors
/// What the file system says.
pub(super) fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = beside(path, &aside());
    for behind in ["-shm", "-wal", ""] {
        match fs::rename(beside(path, behind), beside(&aside, behind)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

/// The path with something behind its name.
pub(super) fn beside(path: &Path, behind: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(behind);
    name.into()
}

/// Makes the names in a file's directory last.
///
/// # Errors
/// What the file system says.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
