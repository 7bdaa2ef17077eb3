//! How much a client may say, and what one user's may cost another: refused with the bound, and nothing is
//! changed.

use llamactl_tests::user::{NOBODY, act_as_member};
use llamactl_tests::{Home, Rpc, TestModel, need};
use serde_json::{Map, Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

fn texts(count: usize, of: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(of).collect()
}

fn variables(count: usize) -> Value {
    let entries = (0..count).map(|number| (format!("env.V{number}"), json!("1")));
    Value::Object(entries.collect::<Map<_, _>>())
}

/// What the daemon knows, and the number of its last event.
fn known(home: &Home) -> Value {
    let events = home.call("event.list", json!({ "limit": 1 }));
    let model = home.call("model.show", json!({ "model": "m" }));
    let runtimes = home.call("runtime.list", json!({}));
    json!([events["last_seq"], model, runtimes, home.call("defaults.show", json!({}))])
}

#[test]
fn what_is_too_long_is_refused_with_its_bound_and_changes_nothing() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let path = home.model(TestModel::Tiny);
    home.call("model.add", json!({ "path": path, "name": "m" }));
    let before = known(&home);
    let (name, word, key) = ("n".repeat(129), "n".repeat(900_000), "k".repeat(65));
    let many = texts(1001, |number| format!("env.V{number}"));
    for (method, params, bound) in [
        ("model.show", json!({ "model": name }), "128"),
        ("model.add", json!({ "path": path, "name": name }), "128"),
        ("model.rename", json!({ "model": "m", "to": name }), "128"),
        ("model.copy", json!({ "model": "m", "to": name }), "128"),
        ("model.alias", json!({ "model": "m", "add": [name] }), "128"),
        ("model.alias", json!({ "model": "m", "add": texts(65, |n| format!("a{n}")) }), "64"),
        ("model.set", json!({ "model": "m", "set": { key.as_str(): 1 } }), "64"),
        ("model.set", json!({ "model": "m", "set": variables(1001) }), "1000"),
        ("model.set", json!({ "model": "m", "unset": many }), "1000"),
        ("model.set", json!({ "model": "m", "set": { "temp": vec![0; 20_001] } }), "20000"),
        ("defaults.set", json!({ "set": { key.as_str(): 1 } }), "64"),
        ("model.export", json!({ "models": texts(1001, |_| "m".to_owned()) }), "1000"),
        ("server.start", json!({ "model": "m", "set": variables(1001) }), "1000"),
        ("runtime.show", json!({ "name": word }), "128"),
        ("runtime.set", json!({ "name": "r", "set": { key.as_str(): "1" } }), "64"),
        ("model.show", json!({ "model": "m", "k".repeat(257): 1 }), "256"),
    ] {
        let mut rpc = home.connect();
        rpc.send(method, params);
        // With the call's id, or without one where the line was not even read as a call.
        let answer = rpc.message();
        let (said, kind) = (answer["error"].to_string(), &answer["error"]["data"]["kind"]);
        let kinds = ["invalid_params", "too_many_values", "invalid_request"];
        assert!(kinds.iter().any(|it| kind == it), "{answer}");
        assert!(said.contains(bound) && said.len() < 500, "{answer}");
    }
    assert_eq!(known(&home), before);
    // What one call may not give, many may not either.
    let mut rpc = home.connect();
    rpc.call("model.alias", json!({ "model": "m", "add": texts(64, |n| format!("a{n}")) }));
    rpc.call("model.set", json!({ "model": "m", "set": variables(1000) }));
    let before = known(&home);
    let refusals = [
        rpc.try_call("model.alias", json!({ "model": "m", "add": ["one-more"] })),
        rpc.try_call("model.set", json!({ "model": "m", "set": { "env.ONE_MORE": "1" } })),
    ];
    for (refusal, bound) in refusals.into_iter().zip(["64", "1000"]) {
        let refusal = refusal.unwrap_err();
        assert!(refusal.message.replace(',', "").contains(bound), "{}", refusal.message);
    }
    assert_eq!(known(&home), before);
    assert!(home.call("daemon.status", json!({}))["slow_calls"].is_u64());
}

#[test]
fn another_users_calls_are_answered_while_one_takes_all_it_may() {
    need!("root");
    const GROUP: u32 = 1;
    let home = Home::with_fake_llama_server();
    let (state_dir, socket) = (home.state_dir(), home.socket());
    let command = home
        .llamactld(["--system", "--group", "daemon"])
        .env("LLAMACTL_STATE_DIR", &state_dir)
        .env("LLAMACTL_SOCKET", &socket);
    let daemon = home.daemon_by(command);
    for dir in state_dir.ancestors().take_while(|dir| *dir != home.path()) {
        fs::set_permissions(dir, Permissions::from_mode(0o711)).unwrap();
    }
    home.call("model.add", json!({ "path": home.model(TestModel::Tiny), "name": "m" }));
    let before = daemon.rss_bytes();
    // Every connection that user may have, each with more calls than are answered unread.
    let crowd: Vec<Rpc> = act_as_member(NOBODY, &[GROUP], || {
        let flood = || {
            let mut rpc = Rpc::connect(&socket);
            for _ in 0..16 {
                rpc.send("rpc.discover", json!({}));
            }
            rpc
        };
        (0..64).map(|_| flood()).collect()
    });
    let refused = act_as_member(NOBODY, &[GROUP], || Rpc::connect(&socket).refusal());
    assert_eq!(refused.kind, "too_many_connections");
    let mut rpc = home.connect();
    for number in 0..20 {
        assert_eq!(rpc.call("daemon.ping", json!({ "n": number }))["n"], number);
        assert_eq!(rpc.call("model.list", json!({}))["items"][0]["name"], "m");
        let set = json!({ "model": "m", "set": { "ctx-size": 1000 + number } });
        rpc.call("model.set", set);
    }
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["m"]);
    let grown = daemon.peak_rss_bytes().saturating_sub(before);
    assert!(grown < 80_000_000, "{grown}");
    drop(crowd);
}
