//! Secrets that a version before wrote into the registry itself: variables of runtimes. They go into
//! files of their own, and their text out of the database and the copies kept beside it.
//!
//! A registry is looked through once; a row of it says so. Text that was replaced stays in free pages
//! and in the log until both are written anew.

use super::{REGISTRY, Result, Secrets, StoreError};
use llamactl_protocol::options::{Settings, secret};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The key of the row that says so.
const LOOKED_THROUGH: &str = "secrets_apart";

/// Where such a variable may be: what finds the rows, and what puts one back.
const PLACES: &[[&str; 2]] = &[
    [
        "SELECT name, environment FROM named_runtimes WHERE environment LIKE '%secret_text%'",
        "UPDATE named_runtimes SET environment = ?2 WHERE name = ?1",
    ],
    [
        "SELECT id, environment FROM runs WHERE environment LIKE '%secret_text%'",
        "UPDATE runs SET environment = ?2 WHERE id = ?1",
    ],
];

/// Puts what lies in clear away, in the registry of a state directory and in its copies.
///
/// # Errors
/// What SQLite or the directory of secrets reports: the next start tries again.
pub(super) fn put_apart(connection: &Connection, dir: &Path, secrets: &Secrets) -> Result<()> {
    let done = connection
        .query_row("SELECT 1 FROM registry WHERE key = ?1", [LOOKED_THROUGH], |_| Ok(()))
        .optional()?;
    if done.is_some() {
        return Ok(());
    }
    let mut ids = BTreeMap::new();
    clean(connection, secrets, &mut ids)?;
    for copy in copies(dir).map_err(StoreError::Secrets)? {
        let copied = Connection::open(&copy)?;
        clean(&copied, secrets, &mut ids)?;
    }
    connection.execute("INSERT INTO registry (key, value) VALUES (?1, '1')", [LOOKED_THROUGH])?;
    Ok(())
}

/// Puts a reference in the place of each text, and leaves no trace of the text. `ids`: those of the texts
/// that were put away, so that a copy refers to the same.
fn clean(
    connection: &Connection,
    secrets: &Secrets,
    ids: &mut BTreeMap<String, String>,
) -> Result<()> {
    let mut changed = false;
    for [find, put_back] in PLACES {
        // A copy may be of a version that had no such table.
        let Ok(mut statement) = connection.prepare(find) else { continue };
        let found = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for (row, environment) in found {
            let mut environment: Settings = serde_json::from_str(&environment)?;
            for value in environment.values_mut() {
                let Some(text) = secret::text_of(value).map(str::to_owned) else { continue };
                let id = match ids.get(&text) {
                    Some(id) => id.clone(),
                    None => secrets.put(&text).map_err(|failure| {
                        StoreError::Secrets(io::Error::other(failure.message))
                    })?,
                };
                *value = secret::stored(&id);
                ids.insert(text, id);
            }
            connection.execute(put_back, params![row, serde_json::to_string(&environment)?])?;
            changed = true;
        }
    }
    if changed {
        connection.execute_batch("VACUUM")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        tracing::warn!("secrets of runtimes that a version before kept in clear lie in files now");
    }
    Ok(())
}

/// The copies that were kept before migrations.
fn copies(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let prefix = format!("{}.db.v", REGISTRY.name);
    let mut copies = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let version = name.to_string_lossy().strip_prefix(&prefix).map(str::to_owned);
        let is_version = version.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
        if is_version && entry.file_type()?.is_file() {
            copies.push(entry.path());
        }
    }
    Ok(copies)
}
