//! Whether what lies in a state directory is its registry.
//!
//! ```text
//!   registry.id ── the registry's UUID, outside of it ──╮
//!   secrets, logs, copies ── it is no new directory ────┼─▶ open it, make a new one, or refuse
//!   registry.db ── gone, empty, of somebody else ───────╯
//! ```
//!
//! An empty file is what a power loss leaves of a registry. To begin anew over it would hide that, and
//! what was lost, for ever.

use super::{REGISTRY, Result, StoreError};
use crate::store::copies;
use crate::store::place::{RESCUE, beside, sync_directory};
use llamactl_protocol::{Hint, place};
use rusqlite::{Connection, OptionalExtension as _};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use uuid::Uuid;

fn id_file(dir: &Path) -> PathBuf {
    dir.join("registry.id")
}

/// Whose registry a directory holds; `None` where that was never written down.
fn known(dir: &Path) -> Option<Uuid> {
    fs::read_to_string(id_file(dir)).ok().and_then(|text| Uuid::parse_str(text.trim()).ok())
}

/// Writes down whose registry a directory holds, where that is not known yet.
///
/// # Errors
/// What the file system says.
pub(super) fn remember(dir: &Path, id: Uuid) -> io::Result<()> {
    if known(dir) == Some(id) {
        return Ok(());
    }
    let (file, unfinished) = (id_file(dir), dir.join("registry.id.new"));
    let mut written = File::create(&unfinished)?;
    writeln!(written, "{id}")?;
    written.sync_all()?;
    fs::rename(&unfinished, &file)?;
    sync_directory(&file)
}

/// Looks at a directory before its registry is opened.
///
/// # Errors
/// [`StoreError::Unusable`] where something of a registry lies there, but no registry.
pub(super) fn before_opening(dir: &Path) -> Result<()> {
    let path = REGISTRY.path(dir);
    let rescue = beside(&path, RESCUE);
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    if is_there(&rescue) {
        let problem = format!(
            "a daemon was ended while it put its registry back: {} lies there",
            rescue.display()
        );
        return Err(unusable(dir, problem));
    }
    let has_some =
        |name: &str| fs::read_dir(dir.join(name)).is_ok_and(|mut entries| entries.next().is_some());
    let has_log = is_there(&beside(&path, "-wal"));
    let is_new = || {
        known(dir).is_none()
            && !is_there(&id_file(dir))
            && !has_some("secrets")
            && !has_some("logs")
            && copies::all(&REGISTRY, dir).is_empty()
    };
    let what = match fs::metadata(&path) {
        Ok(facts) if facts.len() > 0 || is_new() => return Ok(()),
        Ok(_) => "empty",
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Ok(()),
        Err(_) if !has_log && is_new() => return Ok(()),
        Err(_) => "gone",
    };
    let problem =
        format!("the registry {} is {what}, and its directory is not new", path.display());
    Err(unusable(dir, problem))
}

/// Looks at a database before anything is changed in it: whether it is a registry, and the directory's own.
///
/// # Errors
/// [`StoreError::Unusable`]; what SQLite reports.
pub(super) fn is_ours(dir: &Path, connection: &Connection) -> Result<()> {
    let foreign = |what: &str| {
        let path = REGISTRY.path(dir);
        unusable(dir, format!("{} is {what}", path.display()))
    };
    let known = known(dir);
    let has = |name: &str| {
        let count = "SELECT count(*) FROM sqlite_schema WHERE name = ?1 OR ?1 = ''";
        connection.query_row(count, [name], |row| row.get::<_, i64>(0))
    };
    if has("")? == 0 {
        return match known {
            Some(_) => Err(foreign("a database without anything in it, and no registry")),
            None => Ok(()),
        };
    }
    if has("registry")? == 0 {
        return Err(foreign("another program's database, and no registry"));
    }
    let id = id_in(connection)?;
    match (known, id) {
        (Some(known), Some(id)) if known != id => {
            Err(foreign("the registry of another state directory"))
        }
        _ => Ok(()),
    }
}

/// The UUID in a registry.
pub(super) fn id_in(connection: &Connection) -> Result<Option<Uuid>> {
    let id: Option<String> = connection
        .query_row("SELECT value FROM registry WHERE key = 'id'", [], |row| row.get(0))
        .optional()?;
    Ok(id.and_then(|id| Uuid::parse_str(&id).ok()))
}

/// What is wrong with the registry of a directory, with the way back.
pub(super) fn unusable(dir: &Path, problem: String) -> StoreError {
    StoreError::Unusable { problem, ways: ways_back(dir) }
}

/// How one gets out of it where a registry cannot be used.
fn ways_back(dir: &Path) -> Vec<Hint> {
    let restore = |what: String, file: &Path| {
        let mut command = vec!["llamactl".to_owned(), "daemon".to_owned(), "restore".to_owned()];
        if place::state_dir().ok().as_deref() != Some(dir) {
            command.extend(["--state-dir".to_owned(), dir.display().to_string()]);
        }
        command.push(file.display().to_string());
        Hint::run(what, command)
    };
    let path = REGISTRY.path(dir);
    let rescue = beside(&path, RESCUE);
    let mut ways = Vec::new();
    if rescue.exists() {
        ways.push(restore("take what it wrote, if that is whole".to_owned(), &rescue));
    }
    match copies::all(&REGISTRY, dir).first() {
        Some((_, copy)) => ways.push(restore("go back to the newest copy".to_owned(), copy)),
        None if ways.is_empty() => ways.push(Hint::to(format!(
            "there is no copy; to begin anew, move {} away: models are lost, and servers that run \
             are found as strays",
            dir.display()
        ))),
        None => {}
    }
    ways
}
