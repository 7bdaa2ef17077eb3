//! How long it takes to list many models and to change one, beside the bare SQLite statements on a
//! copy of the same database.

use super::Times;
use super::processor::Threads;
use llamactl_protocol::options::catalogue;
use llamactl_tests::{Home, Rpc, TestModel};
use rusqlite::{Connection, params};
use serde_json::{Map, Value, json};
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) const MODELS: usize = 2_000;
pub(super) const SETTINGS: usize = 30;
const LISTS: usize = 20;
const CHANGES: usize = 200;

/// What was measured, each beside its floor.
pub(super) struct Figures {
    pub(super) bare_list: Times,
    pub(super) list: Times,
    /// The daemon's time for one listing of all models, and of all servers, in milliseconds.
    pub(super) list_ms: f64,
    pub(super) servers_ms: f64,
    pub(super) bare_set: Times,
    pub(super) set: Times,
}

/// Fills a registry and measures it.
pub(super) fn measure() -> Figures {
    let home = Home::without_llama_server();
    let daemon = home.daemon();
    let mut rpc = home.connect();
    fill(&home, &mut rpc);
    let copy = home.path().join("copy.db");
    let registry = Connection::open(home.state_dir().join("registry.db")).unwrap();
    registry.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    drop(registry);
    let database = open(&copy);

    let bare_list = (0..LISTS).map(|_| timed(|| bare_list(&database))).collect();
    let before = Threads::of(daemon.pid());
    let list = (0..LISTS).map(|_| timed(|| all(&mut rpc, "model.list", json!({})))).collect();
    let list_ms = before.since().processor_ms() / LISTS as f64;
    let before = Threads::of(daemon.pid());
    (0..LISTS).for_each(|_| all(&mut rpc, "server.list", json!({ "all": true })));
    let servers_ms = before.since().processor_ms() / LISTS as f64;
    let bare_set = (0..CHANGES).map(|at| timed(|| bare_set(&database, at))).collect();
    let set = (0..CHANGES).map(|at| timed(|| set(&mut rpc, at))).collect();
    fs::remove_file(copy).unwrap();
    Figures {
        bare_list: Times::of(bare_list, 90),
        list: Times::of(list, 90),
        list_ms,
        servers_ms,
        bare_set: Times::of(bare_set, 90),
        set: Times::of(set, 90),
    }
}

fn fill(home: &Home, rpc: &mut Rpc) {
    let plain = catalogue().filter(|setting| {
        setting.refused.is_empty()
            && !setting.is_own()
            && !setting.takes_path()
            && !setting.is_secret()
    });
    let settings: Map<String, Value> = plain
        // One of these excludes the others.
        .filter(|setting| !["grammar", "json-schema"].contains(&setting.key))
        .take(SETTINGS)
        .map(|setting| (setting.key.to_owned(), json!(setting.example)))
        .collect();
    let path = home.model(TestModel::Tiny);
    rpc.call("model.add", json!({ "path": path, "name": "m0000", "settings": settings }));
    for number in 1..MODELS {
        rpc.call("model.copy", json!({ "model": "m0000", "to": format!("m{number:04}") }));
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// All of a list, page after page, as `llamactl model list` and `llamactl ps -a` ask for them.
fn all(rpc: &mut Rpc, method: &str, mut query: Value) {
    let (mut after, mut seen) = (Value::Null, 0);
    query["limit"] = json!(200);
    loop {
        if !after.is_null() {
            query["after"] = after;
        }
        let mut page = rpc.call(method, query.clone());
        seen += page["items"].as_array().unwrap().len();
        after = page["next"].take();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(seen, MODELS);
}

fn set(rpc: &mut Rpc, at: usize) {
    let seed = json!({ "model": format!("m{at:04}"), "set": { "seed": at } });
    assert_eq!(rpc.call("model.set", seed)["changed"], true);
}

fn open(path: &Path) -> Connection {
    let database = Connection::open(path).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.pragma_update(None, "synchronous", "FULL").unwrap();
    database.pragma_update(None, "foreign_keys", true).unwrap();
    database
}

/// One statement for each page, each model with its settings as one text.
fn bare_list(database: &Connection) {
    let mut models = database
        .prepare_cached(
            "SELECT own.name, models.path, models.file, models.revision,
                    (SELECT json_group_object(key, json(value)) FROM model_settings
                     WHERE model_id = models.id) AS settings
             FROM model_names AS own JOIN models ON models.id = own.model_id
             WHERE own.is_alias = 0 AND own.name > ?1 ORDER BY own.name LIMIT 200",
        )
        .unwrap();
    let (mut after, mut seen) = (String::new(), 0);
    loop {
        let before = seen;
        let mut rows = models.query([&after]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            after = row.get("name").unwrap();
            black_box(row.get::<_, String>("file").unwrap());
            black_box(row.get::<_, String>("settings").unwrap());
            seen += 1;
        }
        if seen == before {
            break;
        }
    }
    assert_eq!(seen, MODELS);
}

/// One transaction, on disk when it returns: the setting, the model's revision, the event.
fn bare_set(database: &Connection, at: usize) {
    let transaction = database.unchecked_transaction().unwrap();
    let id = i64::try_from(at + 1).unwrap();
    let execute = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        transaction.prepare_cached(sql).unwrap().execute(values).unwrap();
    };
    execute(
        "INSERT INTO model_settings (model_id, key, value) VALUES (?1, 'seed', ?2)
         ON CONFLICT (model_id, key) DO UPDATE SET value = excluded.value",
        params![id, at.to_string()],
    );
    execute("UPDATE models SET revision = revision + 1 WHERE id = ?1", params![id]);
    execute(
        "INSERT INTO model_revisions (model_id, revision, at_ms, by, what, name, aliases, path, settings)
         SELECT model_id, revision + 1, at_ms, by, what, name, aliases, path, settings
         FROM model_revisions WHERE model_id = ?1 ORDER BY revision DESC LIMIT 1",
        params![id],
    );
    execute(
        "INSERT INTO events (at_ms, kind, model_id, by, message) VALUES (0, 'model.set', ?1, 'x', 'seed')",
        params![id],
    );
    transaction.commit().unwrap();
}
