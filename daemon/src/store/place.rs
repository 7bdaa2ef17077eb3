//! Whether the files of an open database are still in their place, and putting them back.
//!
//! ```text
//!   commit ─▶ stat: the same device and inode? ── yes ──▶ answer
//!                │ -wal gone          ─▶ checkpoint, open anew                       nothing is lost
//!                │ database gone      ─▶ written out beside, renamed, opened anew    nothing is lost
//!                │ another file there ─▶ changes are refused: somebody meant something
//!                ╰ other bytes in it  ─▶ the same, and our log is taken away from it
//! ```
//!
//! What was deleted lives on without a name for as long as it is open, and commits to it succeed; so it is
//! looked at after each commit and before its answer. By `stat` and never by opening: to close a second
//! descriptor of the same file would drop SQLite's locks. The old -wal must not lie beside what is put back:
//! SQLite would play its pages into it.
//!
//! Into the database itself only SQLite writes, when it moves its log there, and it says how much of that it
//! has moved. So a file that was written to while nothing was moved was written over by somebody else:
//! `cp other.db registry.db` keeps the inode. What it held is gone then but for the copies. Its time alone
//! says nothing: `touch` sets that.

use super::{DatabaseError, Intruder, migrate};
use crate::clock::now_ms;
use crate::os::disk::rename_without_replacing;
use crate::os::writes::Writes;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
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
        fs::metadata(path).map(|facts| Identity::in_facts(&facts))
    }

    fn in_facts(facts: &Metadata) -> Identity {
        Identity { device: facts.dev(), inode: facts.ino() }
    }
}

/// What a file held when it was looked at, as far as that can be told without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Contents {
    bytes: u64,
    modified: (i64, i64),
}

impl Contents {
    fn of(facts: &Metadata) -> Contents {
        Contents { bytes: facts.len(), modified: (facts.mtime(), facts.mtime_nsec()) }
    }
}

/// How many pages the write-ahead log has, and how many of them were moved into the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    log: u64,
    moved: u64,
    /// Changes when another program commits by way of SQLite, or begins the log anew.
    by_others: i64,
}

impl Progress {
    fn of(connection: &Connection) -> rusqlite::Result<Progress> {
        let by_others =
            connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        connection
            .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
            .query_row([], |row| Ok(Progress { log: row.get(1)?, moved: row.get(2)?, by_others }))
    }
}

/// How many bytes a log begins with, and each of its pages.
const LOG_HEADER: u64 = 32;
const PAGE_HEADER: u64 = 24;

/// The log is moved into the database when so many of its pages wait for that.
const LONGEST_LOG: u64 = 1000;

/// Where the files of an open database are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Where they belong.
    Whole,
    /// The database is; its write-ahead log is gone, or another file has its name.
    LogGone,
    /// Nothing lies in the place of the database.
    Gone,
    /// Something else does.
    Replaced(Intruder),
}

/// The files of an open database.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    /// Where the path led when it was opened: SQLite lays the log beside that.
    real: PathBuf,
    database: Identity,
    log: Identity,
    contents: Contents,
    /// `None` where the contents are not watched, or cannot be.
    writes: Option<Writes>,
    /// What SQLite had moved into it then; `None` where it does not say.
    progress: Option<Progress>,
}

impl Files {
    /// The files that a connection has just opened, and read from.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn of(path: &Path, connection: &Connection) -> io::Result<Files> {
        let real = path.canonicalize()?;
        let facts = fs::metadata(path)?;
        let (database, contents) = (Identity::in_facts(&facts), Contents::of(&facts));
        let log = Identity::of(&beside(&real, "-wal"))?;
        let progress = Progress::of(connection).ok();
        let (path, writes) = (path.to_owned(), None);
        Ok(Files { path, real, database, log, contents, writes, progress })
    }

    /// The same of a database into which nobody else may write.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn guarded(path: &Path, connection: &Connection) -> io::Result<Files> {
        let writes = Writes::to(path)
            .inspect_err(|error| tracing::debug!(%error, "the registry's times are gone by"));
        Ok(Files { writes: writes.ok(), ..Files::of(path, connection)? })
    }

    /// Where they are now.
    pub(super) fn look(&mut self, connection: Option<&Connection>) -> Place {
        let Ok(facts) = fs::metadata(&self.path) else { return Place::Gone };
        if Identity::in_facts(&facts) != self.database {
            return Place::Replaced(Intruder::File);
        }
        let was_written = match &self.writes {
            Some(writes) => writes.any(),
            None => Contents::of(&facts) != self.contents,
        };
        if was_written && !self.has_moved(&facts, connection) {
            return Place::Replaced(Intruder::Contents);
        }
        match Identity::of(&beside(&self.real, "-wal")) {
            Ok(log) if log == self.log => Place::Whole,
            _ => Place::LogGone,
        }
    }

    /// Whether SQLite, here or in another program, may have written what is new in the database.
    fn has_moved(&mut self, facts: &Metadata, connection: Option<&Connection>) -> bool {
        let now = connection.and_then(|connection| Progress::of(connection).ok());
        let has_moved = match (self.progress, now) {
            (Some(before), Some(now)) if now.by_others != before.by_others => true,
            // A log that is shorter was begun anew, which it is when all of it was moved.
            (Some(before), Some(now)) if now.log < before.log => {
                before.moved < before.log || now.moved > 0
            }
            (Some(before), Some(now)) => now.moved > before.moved,
            _ => true,
        };
        if has_moved {
            (self.contents, self.progress) = (Contents::of(facts), now);
        }
        has_moved
    }

    /// Moves the log into the database where it has become long. Files that are where they belong.
    ///
    /// # Errors
    /// What SQLite or the file system says.
    pub(super) fn shorten_log(&mut self, connection: &Connection) -> Result<(), DatabaseError> {
        let progress = Progress::of(connection)?;
        if progress.log.saturating_sub(progress.moved) < LONGEST_LOG {
            self.progress = Some(progress);
            return Ok(());
        }
        let moved =
            connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()));
        // Also where it did not come to its end.
        self.own_contents(connection).map_err(|error| self.gone(&error.to_string()))?;
        Ok(moved?)
    }

    /// Takes what the database holds now for what this program wrote.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn own_contents(&mut self, connection: &Connection) -> io::Result<()> {
        self.contents = Contents::of(&fs::metadata(&self.path)?);
        let _ = self.writes.as_ref().map(Writes::any);
        self.progress = Progress::of(connection).ok();
        Ok(())
    }

    /// Takes the log away from a database that holds something else now: its pages would be played into it.
    /// Whoever has it open goes on with it.
    ///
    /// # Errors
    /// What SQLite or the file system says.
    pub(super) fn leave_log(&self, connection: &Connection) -> Result<(), DatabaseError> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let left = self.clear_log().and_then(|()| fs::remove_file(beside(&self.real, "-shm")));
        left.map_err(|error| self.gone(&error.to_string()))
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

    /// Cuts off what lies in the log behind its last commit. What was written but could not be flushed was
    /// answered as not made, and whoever opens the log first after this program's end would play it.
    ///
    /// # Errors
    /// What SQLite or the file system says.
    pub(super) fn cut_log(&self, connection: &Connection) -> Result<(), DatabaseError> {
        let page: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let bytes = LOG_HEADER + Progress::of(connection)?.log * (PAGE_HEADER + page);
        // SQLite holds no locks on it, so that to open and close it gives none up.
        let log = File::options().write(true).open(beside(&self.real, "-wal"));
        let cut = log.and_then(|log| match log.metadata()?.len() > bytes {
            true => log.set_len(bytes),
            false => Ok(()),
        });
        cut.map_err(|error| self.gone(&error.to_string()))
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

    pub(super) fn replaced(&self, by: Intruder) -> DatabaseError {
        DatabaseError::Replaced { path: self.path.clone(), by }
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
