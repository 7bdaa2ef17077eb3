//! What earlier versions wrote is there after the upgrade.

use super::*;
use crate::store::MigrateError;
use llamactl_protocol::options::secret;
use llamactl_protocol::server::DesiredState;

/// A registry as version `version` made it, with rows.
fn written_by(version: usize, dir: &Path, rows: &str) -> Connection {
    let old = Connection::open(REGISTRY.path(dir)).unwrap();
    for migration in &REGISTRY.migrations[..version] {
        old.execute_batch(migration).unwrap();
    }
    old.pragma_update(None, "user_version", version as u64).unwrap();
    old.pragma_update(None, "foreign_keys", true).unwrap();
    old.execute_batch(rows).unwrap();
    old
}

/// How many rows each table has.
fn counts(connection: &Connection) -> BTreeMap<String, i64> {
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut tables = connection.prepare(names).unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    tables
        .map(|table| {
            let table = table.unwrap();
            let count = format!("SELECT count(*) FROM {table}");
            let count = connection.query_row(&count, [], |row| row.get(0)).unwrap();
            (table, count)
        })
        .collect()
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
    drop(written_by(1, dir.path(), FIRST));

    let registry = Registry::open(dir.path()).unwrap();

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
    let known = registry.known_runtime(run.argv[0].clone(), 1, 2, 3, String::new()).await.unwrap();
    assert!(known.is_none(), "{known:?}");
    assert!(dir.path().join("registry.db.v1").is_file(), "a copy is kept");
}

/// What the third version wrote, something in every table: three models, of which one runs, one is to
/// be made anew and one is what only a simulator could write; three builds, two of them named.
const THIRD: &str = r#"
    INSERT INTO registry VALUES ('id', '5f1b7a52-5d6f-4a27-9a51-0c7c3a2f9a11');
    INSERT INTO models VALUES
        (1, CAST('/a.gguf' AS BLOB), '{"size_bytes":7,"parts":[],"has_chat_template":false}', NULL,
         1, 10, 10, NULL),
        (2, CAST('/b.gguf' AS BLOB), '{"size_bytes":7,"parts":[],"has_chat_template":false}', NULL,
         1, 10, 10, NULL),
        (3, CAST('/c.gguf' AS BLOB), '{"size_bytes":7,"parts":[],"has_chat_template":false}', 'x',
         2, 10, 20, '[{"device":1,"inode":2,"size_bytes":7,"mtime_ns":3}]');
    INSERT INTO model_names VALUES ('a', 1, 0), ('b', 2, 0), ('c', 3, 0), ('see', 3, 1);
    INSERT INTO model_settings VALUES (3, 'ctx-size', '4096'),
        (3, 'api-key', '{"secret_ref":"0e0c1d52-73a5-43ac-8a52-d8d1f7f7d6a1"}');
    INSERT INTO model_revisions VALUES
        (1, 1, 10, 'model.add', 'a', '[]', CAST('/a.gguf' AS BLOB), '{}', 'added'),
        (3, 1, 10, 'model.add', 'c', '[]', CAST('/c.gguf' AS BLOB), '{}', 'added'),
        (3, 2, 20, 'model.set', 'c', '["see"]', CAST('/c.gguf' AS BLOB), '{"ctx-size":4096}', 'set');
    INSERT INTO wishes VALUES
        (1, 'running', 'server.restart by uid 0, pid 1', 40, 1, '{"temp":0.5}'),
        (2, 'on_demand', 'policy', 41, 0, '{}'),
        (3, 'stopped', 'server.stop by uid 0, pid 2', 42, 0, '{}');
    INSERT INTO runtimes VALUES
        (1, CAST('/s1' AS BLOB), 1, 2, 3, 'v1', 1, '["model"]', 4, '[]', '[]'),
        (2, CAST('/s2' AS BLOB), 1, 2, 3, 'v2', 1, '["model"]', 4, '[]', '[]'),
        (3, CAST('/s3' AS BLOB), 1, 2, 3, 'v3', 0, '["model"]', 4, NULL, NULL);
    INSERT INTO named_runtimes VALUES
        (1, 'one', CAST('/s1' AS BLOB), '{}', 1, 5), (2, 'two', CAST('/s2' AS BLOB), '{"A":"1"}', 0, 6);
    INSERT INTO runs (id, model_id, model, revision, settings, runtime_id, argv, environment,
                      endpoint, wanted_by, started_at_ms, ended_at_ms, cause, failures, restart_at_ms)
    VALUES ('r1', 1, 'a', 1, '{}', 1, '["/s1"]', '{}', '{"url":null,"socket":"/s"}', 'boot', 30,
            NULL, NULL, 0, NULL),
           ('r2', 3, 'c', 2, '{}', 2, '["/s2"]', '{}', '{"url":null,"socket":"/s"}', 'policy', 31, 32,
            '{"code":"crashed","message":"it crashed","hint":null,"evidence":[],"exit_code":1,
              "signal":null,"at_ms":32}', 2, 99);
    INSERT INTO events (at_ms, kind, model_id, model, run_id, by, message, details) VALUES
        (10, 'model.added', 1, 'a', NULL, 'model.add', 'a was added', NULL),
        (30, 'server.starting', 1, 'a', 'r1', 'boot', 'a is being started', '{"to":"starting"}');
    INSERT INTO defaults VALUES ('temp', '0.7');
    INSERT INTO default_revisions VALUES (1, 7, 'defaults.set', 'temp=0.7', '{"temp":0.7}');
    INSERT INTO headers VALUES (1, 2, 7, 3, '{}', 8);
    INSERT INTO library_dirs VALUES (CAST('/models' AS BLOB), 9);
"#;

#[tokio::test]
async fn what_the_third_version_wrote_is_there_after_the_upgrade() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = counts(&written_by(3, dir.path(), THIRD));
    assert!(before.values().all(|count| *count > 0), "{before:?}");

    let tried = try_migration(dir.path()).unwrap();
    assert_eq!(tried, Report { from: 3, to: REGISTRY.migrations.len(), models: 3 });
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing of the trial is left");

    let registry = Registry::open(dir.path()).unwrap();
    let database = Connection::open(REGISTRY.path(dir.path())).unwrap();
    let mut orphans = database.prepare("PRAGMA foreign_key_check").unwrap();
    assert!(orphans.query([]).unwrap().next().unwrap().is_none());
    // What could only be started by a request has no row; everything else is there.
    let desired = before.remove("wishes").unwrap() - 1;
    before.insert("desired".to_owned(), desired);
    // That no secret lies in clear any more is written too.
    *before.get_mut("registry").unwrap() += 1;
    assert_eq!(counts(&database), before);

    assert_eq!(registry.id().to_string(), "5f1b7a52-5d6f-4a27-9a51-0c7c3a2f9a11");
    let server = registry.stored_server(1).await.unwrap().unwrap();
    let wanted = server.desired.unwrap();
    assert_eq!(
        (wanted.desired.state, wanted.desired.at_ms, wanted.restart_requested),
        (DesiredState::Running, 40, true)
    );
    assert_eq!((wanted.overrides["temp"].as_f64(), wanted.refusal), (Some(0.5), None));
    let run = server.last_run.unwrap();
    assert_eq!((run.id.as_str(), run.ended_at_ms, run.demand), ("r1", None, None));
    assert_eq!(registry.desired(2).await.unwrap(), None);
    assert_eq!(registry.desired(3).await.unwrap().unwrap().desired.state, DesiredState::Stopped);
    let back_off = registry.last_run(3).await.unwrap().unwrap();
    assert_eq!((back_off.failures, back_off.restart_at_ms), (2, Some(99)));
    let named = registry.named_runtimes().await.unwrap();
    assert_eq!(named.iter().map(|it| it.revision).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(named[1].environment["A"], "1");
    let copy = Connection::open(dir.path().join("registry.db.v3")).unwrap();
    assert_eq!(counts(&copy)["wishes"], 3, "a copy is kept");
}

#[test]
fn a_registry_of_this_version_is_looked_through_without_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let path = REGISTRY.path(dir.path());
    // Nothing can be written where a copy would be.
    let in_the_way = path.with_extension(format!("db.check.{}", std::process::id()));
    std::fs::create_dir(in_the_way).unwrap();
    let version = REGISTRY.migrations.len();
    let report = Report { from: version, to: version, models: 0 };
    assert_eq!(try_migration(dir.path()).unwrap(), report);
    drop(registry);
    // And what is wrong with it is found all the same.
    let database = Connection::open(path).unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    database.execute_batch("INSERT INTO model_settings VALUES (77, 'temp', '1')").unwrap();
    let refused = try_migration(dir.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged(_)), "{refused}");
}

#[test]
fn an_upgrade_that_would_fail_is_known_before() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(try_migration(dir.path()).unwrap().from, 0);
    let in_the_way = "CREATE TABLE desired (x)";
    let old = written_by(3, dir.path(), in_the_way);
    let refused = try_migration(dir.path()).unwrap_err();
    assert!(
        matches!(refused, StoreError::Migrate(MigrateError::Sqlite { version: 4, .. })),
        "{refused}"
    );
    old.pragma_update(None, "user_version", 99).unwrap();
    let refused = try_migration(dir.path()).unwrap_err();
    assert!(
        matches!(refused, StoreError::Migrate(MigrateError::Newer { found: 99, .. })),
        "{refused}"
    );
}

#[tokio::test]
async fn a_secret_that_a_version_before_kept_in_clear_goes_into_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let canary = "canary-7f3a";
    let old = written_by(3, dir.path(), THIRD);
    let clear = format!(r#"{{"A":"1","TOK":{{"secret_text":"{canary}"}}}}"#);
    old.execute("UPDATE runs SET environment = ?1", [&clear]).unwrap();
    old.execute(
        "INSERT INTO named_runtimes (name, path, environment, added_at_ms)
         VALUES ('rt', CAST('/llama-server' AS BLOB), ?1, 1)",
        [&clear],
    )
    .unwrap();
    drop(old);

    let registry = Registry::open(dir.path()).unwrap();

    let runtime = registry.named_runtime("rt").await.unwrap().unwrap();
    let id = secret::id_of(&runtime.environment["TOK"]).unwrap();
    assert_eq!(registry.secrets().read(id).unwrap(), canary);
    assert_eq!(runtime.environment["A"], "1");
    let run = registry.last_run(3).await.unwrap().unwrap();
    assert_eq!(secret::id_of(&run.environment["TOK"]), Some(id));
    let holds = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
    };
    let files: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let copy = dir.path().join("registry.db.v3");
    assert!(files.contains(&copy), "{files:?}");
    for file in files.iter().filter(|path| path.is_file()) {
        assert!(!holds(file), "{}", file.display());
    }
    drop(registry);
    // It is done once.
    Registry::open(dir.path()).unwrap();
}
