use super::*;
use crate::transfer::spec::ModelSpec;
use rusqlite::Connection;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;

/// The tables of the first version, as far as a test looks at them.
const FIRST: &str = "
    CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
        status TEXT NOT NULL, model_path TEXT, hf_repo TEXT, ctx_size INTEGER DEFAULT 0,
        batch_size INTEGER DEFAULT 2048, threads INTEGER DEFAULT -1,
        cont_batching INTEGER DEFAULT 0, created_at INTEGER, updated_at INTEGER);
    CREATE TABLE model_sampling_config (id INTEGER PRIMARY KEY, model_id INTEGER NOT NULL,
        temperature REAL DEFAULT 0.8, top_p REAL DEFAULT 0.9, ignore_eos INTEGER DEFAULT 1,
        mirostat_lr REAL DEFAULT 0.1, created_at INTEGER, updated_at INTEGER);
    CREATE TABLE model_memory_config (id INTEGER PRIMARY KEY, model_id INTEGER NOT NULL,
        mmap INTEGER DEFAULT 0, mlock INTEGER DEFAULT 0, created_at INTEGER, updated_at INTEGER);
    CREATE TABLE model_server_config (id INTEGER PRIMARY KEY, host TEXT DEFAULT '127.0.0.1',
        port INTEGER DEFAULT 8080, timeout INTEGER DEFAULT 600, slots_enabled INTEGER DEFAULT 0,
        api_key TEXT, created_at INTEGER, updated_at INTEGER);
    CREATE TABLE metrics_history (id INTEGER PRIMARY KEY, cpu_usage REAL);
    CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at INTEGER);
    CREATE VIEW sneaky AS SELECT 1 AS id;
    INSERT INTO metadata VALUES ('db_version', '2.0', 0);
    INSERT INTO metrics_history (cpu_usage) VALUES (1.0), (2.0);";

fn database(statements: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    let path = dir.path().join("data/llama-dashboard.db");
    let connection = Connection::open(&path).unwrap();
    for statement in statements {
        connection.execute_batch(statement).unwrap();
    }
    (dir, path)
}

fn settings(model: &ModelSpec) -> Value {
    let given = &model.settings.as_ref().unwrap().given;
    given.iter().map(|(key, given)| (key.clone(), given.value.clone())).collect()
}

fn left_out(spec: &ImportSpec) -> BTreeMap<String, u64> {
    spec.left_out.list().iter().map(|it| (it.what.clone(), it.count)).collect()
}

#[test]
fn the_first_version() {
    let (dir, path) = database(&[
        FIRST,
        "INSERT INTO models (name, type, status, model_path, ctx_size, created_at) VALUES
            ('qwen', 'llama', 'running', '/m/q.gguf', 8192, 1),
            ('qwen', 'llama', 'stopped', 'models/r.gguf', 0, 2),
            ('My Model!', 'llama', 'stopped', '/m/s.gguf', 'much', 3);
         INSERT INTO models (name, type, status, hf_repo) VALUES ('far', 'llama', 'stopped', 'a/b');
         INSERT INTO model_sampling_config (model_id, temperature, updated_at) VALUES
            (1, 0.1, 1), (1, 0.2, 5), (1, 0.3, 4), (77, 0.4, 1);
         INSERT INTO model_memory_config (model_id, mlock) VALUES (2, 1);
         INSERT INTO model_server_config (timeout, api_key) VALUES (30, 's3cret');",
    ]);
    let spec = read(&path).unwrap();
    let names: Vec<&str> = spec.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["qwen", "qwen-2", "My-Model"]);
    assert_eq!(settings(&spec.models[0]), json!({ "ctx-size": 8192, "temp": 0.2 }));
    assert_eq!(settings(&spec.models[1]), json!({ "load-mode": "mlock" }));
    assert_eq!(settings(&spec.models[2]), json!({}));
    let base = dir.path().canonicalize().unwrap();
    let relative = spec.models[1].path.clone().unwrap().0;
    assert!(relative.ends_with("models/r.gguf") && relative.starts_with(&base));
    let defaults = spec.defaults.as_ref().unwrap();
    assert_eq!(defaults.given["timeout"].value, json!(30));
    assert_eq!(
        defaults.given["api-key"].value,
        llamactl_protocol::options::secret::given("s3cret")
    );
    let left = left_out(&spec);
    assert_eq!(left["rows of model_sampling_config"], 2);
    assert_eq!(left["model_sampling_config"], 1, "{left:?}");
    assert_eq!(left["rows of metrics_history"], 2);
    assert_eq!(left["models.status"], 3);
    assert_eq!(left["the model far"], 1);
    assert_eq!(left["My-Model: models.ctx_size"], 1, "{left:?}");
    assert!(!left.keys().any(|what| what.contains("sneaky")));
    assert_eq!(fs::read_dir(dir.path().join("data")).unwrap().count(), 1, "nothing beside it");
}

#[test]
fn the_second_version_renamed_columns() {
    let second = FIRST.replace("mirostat_lr", "mirostat_eta").replace(
        "hf_repo TEXT",
        "hf_repo TEXT, file_size_bytes INTEGER, fit_params_available INTEGER DEFAULT 0",
    );
    let (_dir, path) = database(&[
        &second,
        "CREATE TABLE model_fit_params (id INTEGER PRIMARY KEY, model_id INTEGER UNIQUE);
         INSERT INTO model_fit_params (model_id) VALUES (1);
         INSERT INTO models (name, type, status, model_path, file_size_bytes)
            VALUES ('a', 'llama', 'stopped', '/a.gguf', 5);
         INSERT INTO model_sampling_config (model_id, mirostat_eta) VALUES (1, 0.5);",
    ]);
    let spec = read(&path).unwrap();
    assert_eq!(settings(&spec.models[0]), json!({ "mirostat-lr": 0.5 }));
    let left = left_out(&spec);
    assert_eq!(left["models.file_size_bytes"], 1);
    assert_eq!(left["rows of model_fit_params"], 1);
}

#[test]
fn the_third_version() {
    let (_dir, path) = database(&[
        "CREATE TABLE models (id TEXT PRIMARY KEY, name TEXT, type TEXT DEFAULT 'llama',
            status TEXT DEFAULT 'idle', parameters TEXT DEFAULT '{}', model_path TEXT,
            file_size INTEGER DEFAULT 0, params TEXT, ctx_size INTEGER DEFAULT 4096,
            batch_size INTEGER DEFAULT 512, threads INTEGER DEFAULT 4,
            favorite INTEGER DEFAULT 0, created_at INTEGER, updated_at INTEGER);
         CREATE TABLE router_config (key TEXT PRIMARY KEY, value TEXT, updated_at INTEGER);
         CREATE TABLE logs (id TEXT, message TEXT);
         INSERT INTO models (id, name, model_path, parameters, favorite, params)
            VALUES ('model_1_x', 'a', '/a.gguf', '{\"temp\": 0.3, \"n_draft\": 5, \"c\": 9}', 1, '7B'),
                   ('model_2_x', 'b', '/b.gguf', 'junk', 0, NULL);
         UPDATE models SET ctx_size = 2048 WHERE name = 'b';
         INSERT INTO router_config VALUES ('ctxSize', '8192', 0), ('threads', '4', 0),
            ('gpuLayers', '99', 0), ('port', '9000', 0), ('modelsPath', '\"/m\"', 0);
         INSERT INTO logs VALUES ('1', 'x');",
    ]);
    let spec = read(&path).unwrap();
    assert_eq!(settings(&spec.models[0]), json!({ "temp": 0.3, "ctx-size": 9 }));
    assert_eq!(settings(&spec.models[1]), json!({ "ctx-size": 2048 }));
    let defaults = spec.defaults.as_ref().unwrap();
    let given: Vec<&str> = defaults.given.keys().map(String::as_str).collect();
    assert_eq!(given, ["ctx-size", "gpu-layers"]);
    let left = left_out(&spec);
    for what in [
        "a: models.parameters: n_draft",
        "b: models.parameters",
        "models.favorite",
        "models.params",
        "router_config.port",
        "router_config.modelsPath",
        "rows of logs",
    ] {
        assert_eq!(left.get(what), Some(&1), "{what}: {left:?}");
    }
}

#[test]
fn the_files_beside_it() {
    let (dir, _) = database(&[
        FIRST,
        "INSERT INTO models (name, type, status, model_path)
            VALUES ('a', 'llama', 'stopped', '/a.gguf');",
    ]);
    fs::create_dir_all(dir.path().join("src/config")).unwrap();
    fs::write(
        dir.path().join("llama-server-config.json"),
        "{\"host\": \"localhost\", \"port\": 8134, \"basePath\": \"/models\", \"ctx_size\": 4096,
          \"batch_size\": 512, \"gpu_layers\": 20}",
    )
    .unwrap();
    fs::write(dir.path().join("app-config.json"), "{\"maxConcurrentModels\": 3}").unwrap();
    fs::write(
        dir.path().join("src/config/model-templates.json"),
        "{\"default_model\": null, \"model_templates\":
          {\"a\": \"llama-2\", \"b\": \"chatml\", \"c\": \"alpaca\"}}",
    )
    .unwrap();
    let spec = read(dir.path()).unwrap();
    assert_eq!(settings(&spec.models[0]), json!({ "chat-template": "llama2" }));
    assert_eq!((spec.models[1].name.as_str(), &spec.models[1].path), ("b", &None));
    let defaults = spec.defaults.as_ref().unwrap();
    let given: Vec<_> = defaults.given.iter().map(|(key, it)| (key.as_str(), &it.value)).collect();
    assert_eq!(given, [("ctx-size", &json!(4096)), ("gpu-layers", &json!(20))]);
    let left = left_out(&spec);
    assert!(left.contains_key("app-config.json: maxConcurrentModels"));
    assert!(left.contains_key("model-templates.json: c"));
    assert!(read(&dir.path().join("src")).is_err());
}

#[test]
fn what_was_written_last_is_read_and_nothing_is_left_beside_it() {
    let (dir, path) = database(&["PRAGMA journal_mode = WAL;", FIRST]);
    // A connection that stays open keeps its log.
    let writing = Connection::open(&path).unwrap();
    writing
        .execute_batch(
            "INSERT INTO models (name, type, status, model_path)
             VALUES ('late', 'llama', 'stopped', '/l.gguf');",
        )
        .unwrap();
    let files = || {
        let names = fs::read_dir(dir.path().join("data")).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = files();
    assert_eq!(before.len(), 3, "{before:?}");
    assert_eq!(read(&path).unwrap().models[0].name, "late");
    assert_eq!(files(), before);
}

#[test]
fn what_is_damaged_or_made_to_hurt_is_refused_in_time() {
    let (dir, path) = database(&[FIRST]);
    let whole = fs::read(&path).unwrap();
    for cut in [17, 100, 4096, whole.len() / 2] {
        let broken = dir.path().join("broken.db");
        fs::write(&broken, &whole[..cut]).unwrap();
        let _ = read(&broken);
        let mut noise = whole.clone();
        noise.iter_mut().skip(100 + cut).step_by(7).for_each(|byte| *byte ^= 0x5a);
        fs::write(&broken, noise).unwrap();
        let _ = read(&broken);
    }
    // A view in a table's place is no table.
    let (_dir, path) = database(&["CREATE VIEW models AS
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id FROM n;"]);
    assert!(read(&path).unwrap_err().message.contains("no table of models"));
    // Values of other kinds than the columns were meant for.
    let (_dir, path) = database(&["CREATE TABLE models (id, name, model_path, ctx_size, threads);
        INSERT INTO models VALUES (x'00', 'a', '/a.gguf', x'ff', 'four'), (NULL, 5, 6, 7, 8);"]);
    let spec = read(&path).unwrap();
    assert_eq!((spec.models.len(), settings(&spec.models[0])), (1, json!({})));
}

#[test]
fn a_column_whose_name_is_no_text_is_read_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute_batch("CREATE TABLE models (id, name, path, config)").unwrap();
    database.execute_batch("INSERT INTO models VALUES (1, 'a', '/a.gguf', '{}')").unwrap();
    drop(database);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|it| it == b"config").unwrap();
    bytes[at] = 0xff;
    std::fs::write(&path, bytes).unwrap();
    // Whatever comes of it, it does not panic.
    let _ = read(&path);
}
