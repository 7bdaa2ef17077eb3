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
const REGISTRY: &[&str] = &[
    include_str!("../../../../migrations/registry/0001_initial.sql"),
    include_str!("../../../../migrations/registry/0002_settings.sql"),
    include_str!("../../../../migrations/registry/0003_supervision.sql"),
];

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

    /// What the first version wrote: a model with a setting, a run and a build.
    const FIRST: &str = r#"
        INSERT INTO models VALUES (3, CAST('/m.gguf' AS BLOB),
            '{"size_bytes":7,"parts":[],"has_chat_template":false}', 'template', 2, 10, 20);
        INSERT INTO model_names VALUES ('m', 3, 0), ('alias', 3, 1);
        INSERT INTO model_settings VALUES (3, 'ctx-size', '4096');
        INSERT INTO model_revisions VALUES
            (3, 1, 10, 'model.add', 'm', '[]', CAST('/m.gguf' AS BLOB), '{}'),
            (3, 2, 20, 'model.set', 'm', '["alias"]', CAST('/m.gguf' AS BLOB), '{"ctx-size":4096}');
        INSERT INTO runtimes VALUES (1, CAST('/llama-server' AS BLOB), 1, 2, 3, 'v', 1, '["model"]', 4);
        INSERT INTO runs (id, model_id, model, revision, settings, runtime_id, argv, environment,
                          endpoint, wanted_by, started_at_ms)
        VALUES ('r', 3, 'm', 2, '{"ctx-size":4096}', 1, '["/llama-server"]', '{"A":"1"}',
                '{"url":null,"socket":"/s"}', 'boot', 30);
    "#;

    #[tokio::test]
    async fn what_the_first_version_wrote_is_there_after_the_upgrade() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(REGISTRY[0]).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute_batch(FIRST).unwrap();
        drop(old);

        let registry = crate::store::registry::Registry::open(dir.path()).unwrap();

        let model = registry.model("alias").await.unwrap();
        assert_eq!((model.id, model.name.as_str(), model.revision), (3, "m", 2));
        assert_eq!(model.settings["ctx-size"], 4096);
        assert_eq!(model.file.size_bytes, 7);
        let revisions = registry.revisions(3, None, 10).await.unwrap();
        assert_eq!(revisions.iter().map(|it| it.what.as_str()).collect::<Vec<_>>(), ["", ""]);
        let run = registry.last_run(3).await.unwrap().unwrap();
        assert_eq!((run.settings, run.overrides.len()), (model.settings, 0));
        assert_eq!(run.environment["A"], "1");
        // A build the first version looked at is looked at again: it did not keep the options.
        let known = registry.known_runtime(run.argv[0].clone(), 1, 2, 3).await.unwrap();
        assert!(known.is_none(), "{known:?}");
        assert!(dir.path().join("registry.db.v1").is_file(), "a copy is kept");
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
