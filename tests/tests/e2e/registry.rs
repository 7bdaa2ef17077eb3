//! The registry of models: what is acknowledged is there, whatever happens.

use llamactl_tests::{Home, Rpc, TestModel};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn add_list_and_show() {
    let home = Home::new();
    let _daemon = home.daemon();
    assert_eq!(home.cli(["model", "list"]).ok().stdout(), "");
    let path = home.model(TestModel::Tiny);
    let added = home.cli(["--json", "model", "add", path.to_str().unwrap()]).ok().json();
    assert_eq!((&added["added"], &added["model"]["name"]), (&json!(true), &json!("tiny")));

    let again = home.cli(["--json", "model", "add", path.to_str().unwrap()]).ok().json();
    assert_eq!(again["added"], false, "the same file under the same name is there already");
    assert_eq!(again["model"]["id"], added["model"]["id"]);

    let list = home.cli(["model", "list", "--json"]).ok().json();
    assert_eq!((&list["name"], &list["path"]), (&json!("tiny"), &json!(path)));
    let shown = home.cli(["model", "show", "tiny", "--json"]).ok().json();
    assert_eq!(shown["file"]["architecture"], "llama");
    assert_eq!(shown["file"]["context_length"], 32_768);
    assert_eq!(shown["file"]["size_bytes"], path.metadata().unwrap().len());
    assert_eq!(shown["server"]["state"], "stopped");
    assert!(shown["chat_template"].as_str().unwrap().contains("im_start"));

    let table = home.cli(["model", "list"]).ok().lines();
    assert_eq!(table.len(), 2, "a header and a row: {table:?}");
    assert!(table[0].contains("NAME") && table[1].contains("tiny"), "{table:?}");
}

#[test]
fn the_names_people_use() {
    let (home, _daemon) = Home::with_tiny();
    for name in ["qwen3:8b-q4", "a/b:c", "unsloth/Qwen3-8B:Q4_K_M"] {
        home.cli(["model", "copy", "tiny", name]).ok();
        assert_eq!(home.cli(["model", "show", name, "--json"]).ok().json()["name"], name);
        home.cli(["model", "args", name]).ok();
        home.cli(["model", "remove", name]).ok();
    }
    for name in ["", "-x", "a,b", "a b", "\u{1b}[31m", "é"] {
        let refused = home.cli(["--json", "model", "copy", "tiny", "--", name]).code(5);
        assert_eq!(refused.failure_kind(), "invalid_name", "{name:?}");
    }
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["tiny"]);
}

#[test]
fn a_model_answers_to_its_name_its_aliases_and_its_id() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["model", "alias", "tiny", "small", "s:1"]).ok();
    let id = home.cli(["model", "show", "s:1", "--json"]).ok().json()["id"].clone();
    for name in ["tiny", "small", "s:1", &id.to_string()] {
        assert_eq!(home.cli(["model", "show", name, "--json"]).ok().json()["id"], id, "{name}");
    }
    // Names and aliases are unique together.
    home.cli(["model", "copy", "tiny", "twin"]).ok();
    let twice = home.cli(["--json", "model", "alias", "twin", "small"]).code(4);
    assert_eq!(twice.failure_kind(), "name_taken");
    let twice = home.cli(["--json", "model", "rename", "twin", "s:1"]).code(4);
    assert_eq!(twice.failure_kind(), "name_taken");
    home.cli(["model", "alias", "tiny", "--remove", "small"]).ok();
    home.cli(["model", "show", "small"]).code(3);
    home.cli(["model", "rename", "twin", "small"]).ok();
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["small", "tiny"]);
}

#[test]
fn a_rename_keeps_the_id_and_an_id_is_never_used_again() {
    let (home, _daemon) = Home::with_tiny();
    let id = home.cli(["model", "show", "tiny", "--json"]).ok().json()["id"].clone();
    home.cli(["model", "rename", "tiny", "other"]).ok();
    home.cli(["model", "show", "tiny"]).code(3);
    assert_eq!(home.cli(["model", "show", "other", "--json"]).ok().json()["id"], id);
    let path = home.model(TestModel::Tiny);
    home.cli(["model", "remove", "other"]).ok();
    assert!(path.is_file(), "the file stays");
    let added = home.cli(["--json", "model", "add", path.to_str().unwrap()]).ok().json();
    assert!(added["model"]["id"].as_i64() > id.as_i64(), "{added} {id}");
}

#[test]
fn settings_are_set_together_or_not_at_all() {
    let (home, _daemon) = Home::with_tiny();
    let settings = || home.cli(["model", "show", "tiny", "--json"]).ok().json()["settings"].take();
    home.cli(["model", "set", "tiny", "ctx-size=4096", "port=8101"]).ok();
    assert_eq!(settings(), json!({ "ctx-size": 4096, "port": 8101 }));

    let bad = home.cli(["--json", "model", "set", "tiny", "ctx-size=512", "port=eighty"]).code(5);
    let failure = bad.failure();
    assert_eq!(failure["kind"], "invalid_value");
    assert!(failure["message"].as_str().unwrap().contains("port"), "{failure}");
    assert_eq!(settings()["ctx-size"], 4096, "all or none");

    let unknown = home.cli(["--json", "model", "set", "tiny", "ctx-siz=1"]).code(5).failure();
    assert_eq!(unknown["kind"], "unknown_option");
    assert!(unknown["hint"].as_str().unwrap().contains("ctx-size"), "{unknown}");

    home.cli(["model", "unset", "tiny", "port"]).ok();
    assert_eq!(settings(), json!({ "ctx-size": 4096 }));
    // The old names are the same settings.
    home.cli(["model", "set", "tiny", "n-gpu-layers=0"]).ok();
    assert_eq!(settings(), json!({ "ctx-size": 4096, "gpu-layers": 0 }));
}

#[test]
fn what_is_set_is_on_the_command_line_and_what_is_not_is_not() {
    let (home, _daemon) = Home::with_tiny();
    let argv = || {
        let line = home.cli(["model", "args", "tiny", "--json"]).ok().json();
        let argv: Vec<String> = serde_json::from_value(line["argv"].clone()).unwrap();
        argv
    };
    let bare = argv();
    for flag in ["--ctx-size", "-c", "--gpu-layers", "-ngl", "--parallel", "-np"] {
        assert!(!bare.iter().any(|argument| argument == flag), "nobody set {flag}: {bare:?}");
    }
    let _ =
        home.cli(["model", "set", "tiny", "ctx-size=1024", "extra-args=--temp 0.2 --seed 7"]).ok();
    let line = argv().join(" ");
    assert!(line.contains("--ctx-size 1024"), "{line}");
    assert!(line.contains("--temp 0.2 --seed 7"), "{line}");
}

#[test]
fn exit_statuses() {
    let (home, _daemon) = Home::with_tiny();
    for (expected, arguments) in [
        (2, &["model", "nonsense"][..]),
        (2, &["model", "show"]),
        (3, &["model", "show", "absent"]),
        (3, &["model", "set", "absent", "port=1"]),
        (3, &["start", "absent"]),
        (3, &["model", "remove", "absent"]),
        (4, &["model", "copy", "tiny", "tiny"]),
        (5, &["model", "set", "tiny", "port=0"]),
        (0, &["model", "list"]),
        (0, &["--help"]),
    ] {
        let output = home.cli(arguments).code(expected);
        if expected > 0 {
            assert_eq!(output.stdout(), "", "{arguments:?}: stdout holds only what was asked for");
            assert_ne!(output.stderr(), "", "{arguments:?}");
        }
    }
    let missing = home.cli(["--json", "model", "show", "absent"]).code(3).failure();
    assert_eq!(missing["kind"], "model_not_found");
    assert!(missing["message"].as_str().unwrap().contains("absent"), "{missing}");
}

#[test]
fn a_lost_update_is_refused() {
    let (home, _daemon) = Home::with_tiny();
    let seen = home.call("model.show", json!({ "model": "tiny" }))["revision"].clone();
    let mut rpc = home.connect();
    let change =
        |port: u32| json!({ "model": "tiny", "set": { "port": port }, "if_revision": seen });
    let first = rpc.call("model.set", change(8101));
    assert_ne!(first["model"]["revision"], seen);
    rpc.expect_refusal("model.set", change(8102), "revision_conflict");
    assert_eq!(rpc.call("model.show", json!({ "model": "tiny" }))["settings"]["port"], 8101);
}

#[test]
fn one_connections_changes_run_in_the_order_they_were_sent() {
    let (home, _daemon) = Home::with_tiny();
    let mut rpc = home.connect();
    // Sent without waiting: each depends on the one before.
    let mut ids = vec![rpc.send("model.rename", json!({ "model": "tiny", "to": "n0" }))];
    for step in 0..20 {
        let (from, to) = (format!("n{step}"), format!("n{}", step + 1));
        ids.push(rpc.send("model.rename", json!({ "model": from, "to": to })));
    }
    let seen = rpc.send("model.list", json!({}));
    for id in ids {
        rpc.answer(id).unwrap();
    }
    assert_eq!(rpc.answer(seen).unwrap()["items"][0]["name"], "n20");
}

#[test]
fn long_lists_come_in_pages_and_the_command_joins_them() {
    let (home, _daemon) = Home::with_tiny();
    let mut rpc = home.connect();
    for number in 0..450 {
        rpc.call("model.copy", json!({ "model": "tiny", "to": format!("m{number:03}") }));
    }
    let page = rpc.call("model.list", json!({ "limit": 200 }));
    assert_eq!(page["items"].as_array().unwrap().len(), 200);
    assert_eq!(page["next"], "m199");
    let names = home.cli(["model", "list", "-q"]).ok().lines();
    assert_eq!(names.len(), 451);
    assert!(names.is_sorted());
}

/// What a model is called, and its `ctx-size`.
type Models = BTreeMap<String, Option<i64>>;

#[derive(Clone, Debug)]
enum Change {
    Add(String),
    Rename(String, String),
    Set(String, i64),
    Remove(String),
}

impl Change {
    /// The next change of an endless sequence that keeps the registry small.
    fn nth(number: usize) -> Change {
        let name = |number: usize| format!("m{number}");
        match number % 5 {
            0 => Change::Add(name(number)),
            1 => Change::Set(name(number - 1), i64::try_from(number).unwrap()),
            2 => Change::Rename(name(number - 2), format!("r{}", number - 2)),
            3 if number > 60 => Change::Remove(format!("r{}", number - 63)),
            _ => Change::Add(name(number)),
        }
    }

    fn request(&self, path: &str) -> (&'static str, Value) {
        match self {
            Change::Add(name) => ("model.add", json!({ "path": path, "name": name })),
            Change::Rename(from, to) => ("model.rename", json!({ "model": from, "to": to })),
            Change::Set(name, size) => {
                ("model.set", json!({ "model": name, "set": { "ctx-size": size } }))
            }
            Change::Remove(name) => ("model.remove", json!({ "model": name })),
        }
    }

    fn apply(&self, models: &mut Models) {
        match self {
            Change::Add(name) => {
                models.insert(name.clone(), None);
            }
            Change::Rename(from, to) => {
                if let Some(size) = models.remove(from) {
                    models.insert(to.clone(), size);
                }
            }
            Change::Set(name, size) => {
                models.insert(name.clone(), Some(*size));
            }
            Change::Remove(name) => {
                models.remove(name);
            }
        }
    }
}

fn stored(home: &Home) -> Models {
    let mut models = Models::new();
    let mut rpc = home.connect();
    let mut after = Value::Null;
    loop {
        let page = rpc.call("model.list", json!({ "limit": 200, "after": after }));
        for model in page["items"].as_array().unwrap() {
            let size = model["settings"]["ctx-size"].as_i64();
            models.insert(model["name"].as_str().unwrap().to_owned(), size);
        }
        after = page["next"].clone();
        if after.is_null() {
            return models;
        }
    }
}

/// Makes changes one after the other until the daemon is gone. Gives the number of the change that
/// was not acknowledged.
fn change_until_killed(mut rpc: Rpc, path: &str, from: usize, acknowledged: &AtomicUsize) -> usize {
    for number in from.. {
        let (method, params) = Change::nth(number).request(path);
        let request = json!({ "jsonrpc": "2.0", "id": number, "method": method, "params": params });
        if rpc.send_bytes(format!("{request}\n").as_bytes()).is_err() {
            return number;
        }
        let Some(line) = rpc.line() else { return number };
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer.get("result").is_some(), "{request}: {line}");
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    unreachable!("the changes have no end")
}

#[test]
fn sigkill_loses_nothing_that_was_acknowledged() {
    let home = Home::new();
    let mut daemon = home.daemon();
    let path = home.model(TestModel::Tiny);
    let path = path.to_str().unwrap();
    let mut expected = Models::new();
    let mut next = 0;
    for round in 0..50_usize {
        let acknowledged = AtomicUsize::new(0);
        let rpc = home.connect();
        let unacknowledged = thread::scope(|scope| {
            let changing = scope.spawn(|| change_until_killed(rpc, path, next, &acknowledged));
            // Some changes in, at another point of a change each round.
            while acknowledged.load(Ordering::SeqCst) < 1 + round % 7 {
                assert!(!changing.is_finished(), "the daemon went away by itself");
                thread::yield_now();
            }
            let offset = u64::try_from(round * 37 % 50).unwrap() * 20;
            thread::sleep(Duration::from_micros(offset));
            daemon.kill();
            changing.join().unwrap()
        });
        daemon.start_again();
        for number in next..unacknowledged {
            Change::nth(number).apply(&mut expected);
        }
        let mut with_last = expected.clone();
        Change::nth(unacknowledged).apply(&mut with_last);
        let found = stored(&home);
        // The change in flight is there whole, or not at all.
        next = if found == with_last {
            expected = with_last;
            unacknowledged + 1
        } else {
            assert_eq!(found, expected, "round {round}: {:?}", Change::nth(unacknowledged));
            unacknowledged
        };
    }
    assert!(next > 50, "{next} changes in 50 rounds");
}
