//! Copies of a database: one a day, and one from before each migration.
//!
//! ```text
//!   first commit of a day ─▶ a thread of its own ─▶ written out ─▶ looked through ─▶ on disk ─▶ named
//!                                                      copies/NAME-2026-11-28.db: seven are kept
//! ```
//!
//! A copy has its name only when it is whole, so the last good one is never given up for one that is not.
//! It is due at a commit, so nothing wakes for it. It is made on a connection of its own: nobody waits.

use super::database::{Schema, to_read};
use super::place::{beside, sync_directory};
use super::reader::Slot;
use super::{DatabaseError, migrate};
use crate::clock::now_ms;
use crate::os::disk::{free_bytes, yield_to_others};
use rusqlite::Connection;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// So many of the daily ones are kept.
const KEEP: usize = 7;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// What did not work is tried again at a commit after this, or when what stood in the way of writing has
/// gone.
const RETRY_MS: i64 = 60 * 60 * 1000;

/// The copies of a database. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    schema: &'static Schema,
    dir: PathBuf,
    /// What they are made with: open only while one is made.
    slot: Slot,
    progress: Arc<Mutex<Progress>>,
}

#[derive(Debug, Default)]
struct Progress {
    /// No copy is due before.
    not_before_ms: i64,
    /// What the database was at when it was copied last.
    copied: Option<i64>,
    under_way: bool,
    /// If the one that is under way fails, it is tried again at once.
    again: bool,
    problem: Option<String>,
}

impl Copies {
    /// The copies in a state directory.
    pub(super) fn of(schema: &'static Schema, dir: &Path) -> Copies {
        let daily = daily(schema, dir);
        let last_ms = daily.first().map_or(i64::MIN, |(at_ms, _)| *at_ms);
        let not_before_ms = (last_ms.div_euclid(DAY_MS).saturating_add(1)).saturating_mul(DAY_MS);
        let progress = Progress { not_before_ms, ..Progress::default() };
        Copies {
            schema,
            dir: dir.to_owned(),
            slot: Slot::default(),
            progress: Arc::new(Mutex::new(progress)),
        }
    }

    /// What they are made with.
    pub(super) fn slot(&self) -> Slot {
        Arc::clone(&self.slot)
    }

    /// Makes one, beside everything else, if one is due; `at` is a number that rises with what is
    /// written, and one that failed is due where it `writes_again`. For after a commit.
    pub(super) fn keep(&self, at: i64, writes_again: bool) {
        let now_ms = now_ms();
        {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.again |= writes_again && progress.under_way;
            if writes_again && progress.problem.is_some() {
                progress.not_before_ms = now_ms;
            }
            if now_ms < progress.not_before_ms || progress.under_way || progress.copied == Some(at)
            {
                return;
            }
            progress.under_way = true;
        }
        let copies = self.clone();
        let make = move || {
            yield_to_others();
            copies.make(at, now_ms);
        };
        let name = format!("{}-copy", self.schema.name);
        if let Err(error) = thread::Builder::new().name(name).spawn(make) {
            self.done(at, now_ms, Err(error.into()));
        }
    }

    fn make(&self, at: i64, at_ms: i64) {
        while !self.done(at, at_ms, self.try_to_make(at_ms)) {}
    }

    /// Takes in what came of it; whether it is over.
    fn done(&self, at: i64, at_ms: i64, made: Result<(), CopyError>) -> bool {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut progress.again) && made.is_err() {
            return false;
        }
        progress.under_way = false;
        match made {
            Ok(()) => {
                progress.not_before_ms = (at_ms.div_euclid(DAY_MS) + 1) * DAY_MS;
                (progress.copied, progress.problem) = (Some(at), None);
            }
            Err(error) => {
                tracing::warn!(%error, "no copy of the registry was made today");
                progress.not_before_ms = at_ms + RETRY_MS;
                progress.problem = Some(error.to_string());
            }
        }
        true
    }

    fn try_to_make(&self, at_ms: i64) -> Result<(), CopyError> {
        let path = self.schema.path(&self.dir);
        let bytes = fs::metadata(&path)?.len();
        if free_bytes(&self.dir)? < bytes.saturating_mul(2) {
            return Err(CopyError::NoRoom);
        }
        let copies = directory(&self.dir);
        DirBuilder::new().recursive(true).mode(0o700).create(&copies)?;
        let mut held = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = held.insert(to_read(&path)?);
        let made = day(connection, at_ms).map_err(CopyError::Sqlite).and_then(|day| {
            let copy = copies.join(format!("{}-{day}.db", self.schema.name));
            write(connection, &copy)
        });
        *held = None;
        drop(held);
        made?;
        for (_, old) in daily(self.schema, &self.dir).into_iter().skip(KEEP) {
            fs::remove_file(old)?;
        }
        Ok(())
    }

    /// Copies the database to a file that is not there yet.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn copy_to(&self, file: &Path) -> Result<(), CopyError> {
        let mut held = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let made = write_new(held.insert(to_read(&self.schema.path(&self.dir))?), file);
        *held = None;
        made
    }

    /// Looks the database through beside everything else; what is wrong with it.
    ///
    /// # Errors
    /// That it took longer than this; what SQLite says.
    pub(super) fn look_through(&self, limit: Duration) -> Result<Option<String>, CopyError> {
        let mut held = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = held.insert(to_read(&self.schema.path(&self.dir))?);
        let end = Instant::now() + limit;
        connection.progress_handler(10_000, Some(move || Instant::now() >= end))?;
        let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        *held = None;
        Ok(Some(said?).filter(|said| said != "ok"))
    }

    /// Why no copy could be made today.
    pub(super) fn problem(&self) -> Option<String> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }
}

/// Why a copy was not made.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It might fill the disk.
    #[error("there is not twice its room on the disk")]
    NoRoom,
    /// There is a file of that name.
    #[error("there is a file of that name already")]
    IsThere,
    /// What was written is not whole.
    #[error("the copy is damaged: {0}")]
    Damaged(String),
    /// SQLite refused.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn day(connection: &Connection, at_ms: i64) -> rusqlite::Result<String> {
    connection.query_row("SELECT date(?1, 'unixepoch')", [at_ms / 1000], |row| row.get(0))
}

/// Writes a database out under a name that it has only when it is whole; one that has it is replaced then.
///
/// # Errors
/// Why there is no new one.
pub(super) fn write(connection: &Connection, copy: &Path) -> Result<(), CopyError> {
    let unfinished = beside(copy, ".new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let write = || {
        migrate::copy_to(connection, &unfinished)?;
        check(&unfinished)?;
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, copy)?;
        Ok(sync_directory(copy)?)
    };
    write().inspect_err(|_: &CopyError| {
        let _ = fs::remove_file(&unfinished);
    })
}

/// The same for a name that nothing has.
///
/// # Errors
/// [`CopyError::IsThere`]; why there is no copy.
pub(super) fn write_new(connection: &Connection, copy: &Path) -> Result<(), CopyError> {
    match fs::symlink_metadata(copy) {
        Ok(_) => Err(CopyError::IsThere),
        Err(_) => write(connection, copy),
    }
}

/// Looks all of a database through.
///
/// # Errors
/// [`CopyError::Damaged`] with the first thing that is wrong; what SQLite says.
pub(super) fn check(file: &Path) -> Result<(), CopyError> {
    let problem: String =
        to_read(file)?.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if problem == "ok" { Ok(()) } else { Err(CopyError::Damaged(problem)) }
}

/// All copies there are, the newest first, each with when it was made.
pub(super) fn all(schema: &Schema, dir: &Path) -> Vec<(i64, PathBuf)> {
    let before = format!("{}.db.v", schema.name);
    let is_version = |name: &str| {
        name.strip_prefix(&before)
            .is_some_and(|version| version.bytes().all(|it| it.is_ascii_digit()))
    };
    let mut all = named(dir, is_version);
    all.extend(daily(schema, dir));
    newest_first(all)
}

fn daily(schema: &Schema, dir: &Path) -> Vec<(i64, PathBuf)> {
    let before = format!("{}-", schema.name);
    let is_daily = |name: &str| {
        let day = name.strip_prefix(&before).and_then(|rest| rest.strip_suffix(".db"));
        day.is_some_and(|day| day.bytes().all(|it| it.is_ascii_digit() || it == b'-'))
    };
    newest_first(named(&directory(dir), is_daily))
}

fn newest_first(mut copies: Vec<(i64, PathBuf)>) -> Vec<(i64, PathBuf)> {
    copies.sort_by(|a, b| b.cmp(a));
    copies
}

fn named(dir: &Path, is_one: impl Fn(&str) -> bool) -> Vec<(i64, PathBuf)> {
    let Ok(entries) = fs::read_dir(dir) else { return vec![] };
    let found = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&is_one));
    let dated = found.filter_map(|entry| {
        let at = entry.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some((i64::try_from(at.as_millis()).ok()?, entry.path()))
    });
    dated.collect()
}

fn directory(dir: &Path) -> PathBuf {
    dir.join("copies")
}

impl From<CopyError> for DatabaseError {
    fn from(error: CopyError) -> DatabaseError {
        match error {
            CopyError::Sqlite(error) => error.into(),
            error => DatabaseError::Copy(error),
        }
    }
}
