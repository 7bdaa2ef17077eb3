//! Brings a database to this program's version.
//!
//! `PRAGMA user_version` counts the migrations that ran. Each runs in a transaction of its own
//! together with the count, so a crash leaves the old version or the new one, never something
//! between. Before an existing database is changed a copy is kept beside it.
//!
//! Hand-written because the helper crates lag behind rusqlite and this is all there is to it.

use rusqlite::{Connection, TransactionBehavior};
use std::path::{Path, PathBuf};

/// Every migration of the registry, in order. A landed one is never edited.
const REGISTRY: &[&str] = &[include_str!("../../../migrations/registry/0001_initial.sql")];

/// Why a database could not be brought to this version.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database was written by a newer program. It was not touched.
    #[error(
        "{path} is version {found}, written by a newer llamactld; this one knows versions up to {known}"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The newest this program knows.
        known: usize,
    },
    /// SQLite refused.
    #[error("the database {path} could not be brought to version {version}: {source}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// The version that failed.
        version: usize,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), MigrateError> {
    let failed =
        |version| move |source| MigrateError::Sqlite { path: path.to_owned(), version, source };
    let found: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        .map(|version| version as usize)
        .map_err(failed(0))?;
    if found > REGISTRY.len() {
        return Err(MigrateError::Newer { path: path.to_owned(), found, known: REGISTRY.len() });
    }
    if 0 < found && found < REGISTRY.len() {
        let copy = path.with_extension(format!("db.v{found}"));
        let copy = copy.to_string_lossy().into_owned();
        let _ = std::fs::remove_file(&copy);
        connection.execute("VACUUM INTO ?1", [copy]).map_err(failed(found))?;
    }
    for (index, sql) in REGISTRY.iter().enumerate().skip(found) {
        let version = index + 1;
        let mut migrate = || {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "user_version", version as u64)?;
            transaction.commit()
        };
        migrate().map_err(failed(version))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_database_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.db");
        let newer = Connection::open(&path).unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
        newer.execute_batch("CREATE TABLE future (x)").unwrap();
        drop(newer);
        let before = std::fs::read(&path).unwrap();

        let refused = run(&mut Connection::open(&path).unwrap(), &path).unwrap_err();

        assert!(matches!(refused, MigrateError::Newer { found: 99, .. }), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn running_twice_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.db");
        let mut connection = Connection::open(&path).unwrap();
        run(&mut connection, &path).unwrap();
        run(&mut connection, &path).unwrap();
        let version: usize = connection
            .pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
            .unwrap() as usize;
        assert_eq!(version, REGISTRY.len());
    }
}
