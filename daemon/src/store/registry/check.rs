//! Whether this program could take over a state directory's registry, tried on a copy.
//!
//! A program that is about to replace a daemon asks before anything is given up: a migration that
//! fails after the exec leaves no daemon, and the one before cannot come back.

use super::{REGISTRY, Registry, Result, StoreError, explained, identity};
use crate::store::copies;
use crate::store::database::{self, Schema};
use crate::store::place::beside;
use crate::store::{CopyError, DatabaseError, migrate};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

impl Registry {
    /// Looks the registry through, beside everything else that reads or writes it; what is wrong with it.
    ///
    /// # Errors
    /// That it took longer than this; what SQLite reports.
    pub async fn look_through(&self, limit: Duration) -> Result<Option<String>> {
        let copies = self.copies.clone();
        let looked = tokio::task::spawn_blocking(move || copies.look_through(limit)).await;
        let looked = looked.map_err(|_| StoreError::Panicked)?;
        looked.map_err(|error| explained(&self.dir, DatabaseError::from(error).into()))
    }
}

/// The newest copy of the registry in a state directory: when it was made, and what is wrong with it.
/// Blocks.
#[must_use]
pub fn newest_copy(state_dir: &Path) -> Option<(i64, PathBuf, Option<CopyError>)> {
    let (made_at_ms, path) = copies::all(&REGISTRY, state_dir).into_iter().next()?;
    let problem = copies::check(&path).err();
    Some((made_at_ms, path, problem))
}

/// When the registry in a state directory was written last. Blocks.
#[must_use]
pub fn registry_changed_at_ms(state_dir: &Path) -> Option<i64> {
    let path = REGISTRY.path(state_dir);
    let files = [beside(&path, "-wal"), path];
    let changed = files.iter().filter_map(|file| {
        let at = file.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(at.as_millis()).ok()
    });
    changed.max()
}

/// What a migration of a copy showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The version the registry has; 0 where there is none yet.
    pub from: usize,
    /// The version it would have.
    pub to: usize,
    /// How many models it holds afterwards.
    pub models: u64,
}

/// Brings a copy of a state directory's registry to this version and looks through it; where there is
/// nothing to change, through the registry itself. That is only read, and may be in use. Blocks for as
/// long as it takes; a copy needs as much room beside the registry as that has.
///
/// # Errors
/// [`MigrateError`](crate::store::MigrateError) as [`StoreError::Migrate`] for what would fail at the
/// upgrade; [`StoreError::Damaged`]; whatever SQLite reports.
pub fn try_migration(state_dir: &Path) -> Result<Report> {
    try_it(state_dir).map_err(|error| explained(state_dir, error))
}

fn try_it(state_dir: &Path) -> Result<Report> {
    let Schema { migrations, .. } = REGISTRY;
    let path = REGISTRY.path(state_dir);
    identity::before_opening(state_dir)?;
    let registry = path.exists().then(|| database::to_read(&path)).transpose()?;
    if let Some(there) = &registry {
        identity::is_ours(state_dir, there)?;
    }
    let found = registry.as_ref().map_or(Ok(0), migrate::version)?;
    let copy = Copy::in_place_of(&path);
    let mut connection = match registry {
        Some(registry) if found >= migrations.len() => registry,
        registry => {
            registry.map_or(Ok(()), |registry| migrate::copy_to(&registry, &copy.0))?;
            Connection::open(&copy.0)?
        }
    };
    connection.pragma_update(None, "foreign_keys", true)?;
    let from = migrate::run_uncopied(&mut connection, &path, migrations)
        .map_err(crate::store::DatabaseError::from)?;
    let problem: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if problem != "ok" {
        return Err(StoreError::Damaged(problem));
    }
    let mut orphans = connection.prepare("PRAGMA foreign_key_check")?;
    if let Some(row) = orphans.query([])?.next()? {
        let table: String = row.get(0)?;
        return Err(StoreError::Damaged(format!("a row of {table} refers to one that is gone")));
    }
    let count = "SELECT count(*) FROM model_names WHERE is_alias = 0";
    let models = connection.query_row(count, [], |row| row.get(0))?;
    Ok(Report { from, to: migrations.len(), models })
}

/// A file that is removed with what SQLite lays beside it.
struct Copy(PathBuf);

impl Copy {
    fn in_place_of(path: &Path) -> Copy {
        // The number of the process: two may try at once.
        let copy = Copy(path.with_extension(format!("db.check.{}", std::process::id())));
        copy.remove();
        copy
    }

    fn remove(&self) {
        for behind in ["", "-journal", "-wal", "-shm"] {
            let mut name = self.0.as_os_str().to_owned();
            name.push(behind);
            let _ = std::fs::remove_file(PathBuf::from(name));
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.remove();
    }
}
