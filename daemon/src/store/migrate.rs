//! Brings a database to this program's version.
//!
//! `PRAGMA user_version` counts the migrations that ran. Each runs in a transaction of its own
//! together with the count, so a crash leaves the old version or the new one, never something
//! between. Before an existing database is changed a copy is kept beside it, and looked
//! through: `NAME.db.vN` of version N.
//!
//! Hand-written because the helper crates lag behind rusqlite and this is all there is to it.

use super::copies::{self, CopyError};
use rusqlite::{Connection, TransactionBehavior};
use std::path::{Path, PathBuf};

/// Why a database could not be brought to this version.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database was written by a newer program. It was not touched.
    #[error(
        "{path} is version {found}, written by a newer llamactld; this one knows versions up to {known}"
    )]
    Newer {
        /// The path of the database file.
        path: PathBuf,
        /// The version of the schema that the file has.
        found: usize,
        /// The newest this program knows.
        known: usize,
    },
    /// No copy could be kept of it, so it was not touched.
    #[error("no copy could be kept at {path} before an upgrade: {source}")]
    Copy {
        /// Where the copy was to be.
        path: PathBuf,
        /// What went wrong.
        source: Box<CopyError>,
    },
    /// SQLite refused a step of the migration, which is undone.
    #[error("the database {path} could not be brought to version {version}: {source}")]
    Sqlite {
        /// The path of the database file.
        path: PathBuf,
        /// The version that failed.
        version: usize,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Brings a database to the version of `migrations`; the version it had.
///
/// # Errors
/// [`MigrateError`]; the database is at the version of the last migration that worked.
pub(super) fn run(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<usize, MigrateError> {
    let found = version(connection).map_err(failed(path, 0))?;
    if 0 < found && found < migrations.len() {
        let copy = path.with_extension(format!("db.v{found}"));
        copies::write(connection, &copy)
            .map_err(|source| MigrateError::Copy { path: copy, source: Box::new(source) })?;
    }
    run_uncopied(connection, path, migrations)
}

/// The same, but keeps no copy of what was.
///
/// # Errors
/// [`MigrateError`].
pub(super) fn run_uncopied(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<usize, MigrateError> {
    let found = version(connection).map_err(failed(path, 0))?;
    if found > migrations.len() {
        return Err(MigrateError::Newer { path: path.to_owned(), found, known: migrations.len() });
    }
    for (version, sql) in (1..).zip(migrations).skip(found) {
        let mut migrate = || {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "user_version", version as u64)?;
            transaction.commit()
        };
        migrate().map_err(failed(path, version))?;
    }
    Ok(found)
}

fn failed(path: &Path, version: usize) -> impl FnOnce(rusqlite::Error) -> MigrateError {
    move |source| MigrateError::Sqlite { path: path.to_owned(), version, source }
}

/// How many migrations ran on a database.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version =
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))?;
    Ok(version as usize)
}

/// Writes the database as it is to a new file.
///
/// # Errors
/// What SQLite reports; among others where the file is there already.
pub(super) fn copy_to(connection: &Connection, file: &Path) -> rusqlite::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    // Paths need not be UTF-8; SQLite takes the bytes.
    let name = rusqlite::types::ValueRef::Text(file.as_os_str().as_bytes());
    connection.execute("VACUUM INTO ?1", [rusqlite::types::ToSqlOutput::Borrowed(name)]).map(drop)
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

        let refused = run(&mut Connection::open(&path).unwrap(), &path, TWO).unwrap_err();

        assert!(matches!(refused, MigrateError::Newer { found: 99, .. }), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    const TWO: &[&str] = &["CREATE TABLE a (x)", "CREATE TABLE b (x)"];

    #[test]
    fn running_twice_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.db");
        let mut connection = Connection::open(&path).unwrap();
        assert_eq!(run(&mut connection, &path, TWO).unwrap(), 0);
        assert_eq!(run(&mut connection, &path, TWO).unwrap(), 2);
        assert_eq!(version(&connection).unwrap(), 2);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a new one needs no copy");
    }

    #[test]
    fn the_last_copy_stays_until_there_is_a_whole_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.db");
        let copy = dir.path().join("registry.db.v1");
        let mut connection = Connection::open(&path).unwrap();
        run(&mut connection, &path, &TWO[..1]).unwrap();
        std::fs::write(&copy, "the copy of before").unwrap();
        // Nothing can be written where the new copy would be.
        let in_the_way = dir.path().join("registry.db.v1.new");
        std::fs::create_dir(&in_the_way).unwrap();

        let refused = run(&mut connection, &path, TWO).unwrap_err();
        assert!(matches!(refused, MigrateError::Copy { .. }), "{refused}");
        assert_eq!(std::fs::read(&copy).unwrap(), b"the copy of before");
        assert_eq!(version(&connection).unwrap(), 1);

        std::fs::remove_dir(&in_the_way).unwrap();
        std::fs::write(&in_the_way, "left by a daemon that was killed").unwrap();
        run(&mut connection, &path, TWO).unwrap();
        assert_eq!(version(&Connection::open(&copy).unwrap()).unwrap(), 1);
        assert!(!in_the_way.exists());
    }
}
