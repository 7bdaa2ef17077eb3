//! Settings: what is set reaches llama-server exactly, can be read back, compared and undone.

use llamactl_protocol::options::{
    Settings, Told, Values, arguments, assignment, catalogue, find, text_of,
};
use llamactl_tests::http::Endpoint;
use llamactl_tests::{Home, TestModel};
use serde_json::{Value, json};
use std::fs;
use std::thread;

fn settings_of(home: &Home) -> Value {
    home.call("model.show", json!({ "model": "tiny" }))["settings"].take()
}

fn argv_of(home: &Home) -> Vec<String> {
    let line = home.call("model.args", json!({ "model": "tiny" }));
    serde_json::from_value(line["argv"].clone()).unwrap()
}

/// The server once it has told what it uses, which it is asked when it has become ready.
fn told_in_force(home: &Home) -> Value {
    let mut states = home.follow("server.follow", json!({ "model": "tiny" }));
    states.item_where(|it| !it["in_force"].is_null())["data"].take()
}

fn resolved(home: &Home, key: &str) -> Value {
    let group = find(key, None).unwrap().group.as_str();
    let shown = home.call("model.show", json!({ "model": "tiny", "group": group }));
    let all = shown["resolved"].as_array().unwrap();
    all.iter().find(|it| it["key"] == key).unwrap_or_else(|| panic!("{key} in {shown}")).clone()
}

/// Every key that llama-server is told by an argument, with a legal value.
fn told_by_argument() -> impl Iterator<Item = (&'static str, Value)> {
    catalogue()
        .filter(|setting| setting.refused.is_empty())
        .filter(|setting| matches!(setting.told, Told::Flag | Told::Repeated))
        .map(|setting| (setting.key, setting.check(&json!(setting.example)).unwrap()))
}

#[test]
fn every_key_is_read_back_as_it_was_set_and_stands_on_the_command_line() {
    let (home, _daemon) = Home::with_tiny();
    let bare = argv_of(&home);
    let mut rpc = home.connect();
    let mut seen = 0;
    for (key, value) in told_by_argument() {
        let typed = text_of(key, &value);
        rpc.call("model.set", json!({ "model": "tiny", "set": { key: typed } }));
        let back = rpc.call("model.show", json!({ "model": "tiny" }))["settings"].take();
        assert_eq!(back, json!({ key: value }), "{key}");
        let line = rpc.call("model.args", json!({ "model": "tiny" }));
        let argv: Vec<String> = serde_json::from_value(line["argv"].clone()).unwrap();
        let added: Vec<&String> = argv.iter().skip(bare.len()).collect();
        let expected = arguments::of(&find(key, None).unwrap(), &value, None);
        let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(added.len(), expected.len(), "{key}: {added:?}");
        // The build may know the flag by another of its names; what follows is the same.
        assert_eq!(added.get(1..), expected.iter().collect::<Vec<_>>().get(1..), "{key}");
        rpc.call("model.set", json!({ "model": "tiny", "unset": [key] }));
        seen += 1;
    }
    assert!(seen > 180, "{seen} keys");
    assert_eq!(argv_of(&home), bare, "nothing is left of what was taken back");
}

/// Settings that would get in each other's way, or make another kind of server of it: each is
/// tried in a run of its own, with a value that does something.
const ONE_BY_ONE: &[&str] = &[
    "agent=true",
    "device=none",
    "embedding=true",
    "json-schema={\"type\":\"object\"}",
    "mcp-servers-json={\"mcpServers\":{}}",
    "numa=distribute",
    "pooling=mean",
    "prio-batch=1",
    "prio=1",
    "rerank=true",
    "rpc=127.0.0.1:50052",
    "sampler-seq=kt",
    "sleep-idle-seconds=3600",
    "spec-default=true",
    "spec-draft-device=none",
    "spec-draft-prio-batch=1",
    "spec-draft-prio=1",
    "spec-type=ngram-simple",
    "split-mode=none",
    "tools-runtime=none",
    "tools=get_datetime",
    "ui-mcp-proxy=true",
];

/// Whether a setting is not for the run with all others: it names a file or a directory, or is
/// tried by itself.
fn is_apart(key: &str) -> bool {
    find(key, None).unwrap().takes_path()
        || ONE_BY_ONE.iter().any(|typed| typed.split('=').next() == Some(key))
}

#[test]
fn llama_server_starts_with_each_of_the_others_alone() {
    let (home, _daemon) = Home::with_tiny();
    for typed in ONE_BY_ONE {
        home.cli(["start", "tiny", "--set", typed]).ok();
        let server = home.call("server.show", json!({ "model": "tiny" }));
        assert_eq!(server["state"], "ready", "{typed}: {server}");
        home.cli(["stop", "tiny"]).ok();
    }
}

#[test]
fn llama_server_starts_with_every_key_at_once_and_reports_what_is_in_force() {
    let (home, _daemon) = Home::with_tiny();
    let all: Settings = told_by_argument()
        .filter(|(key, _)| !is_apart(key))
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    assert!(all.len() > 140, "{} keys", all.len());
    home.call("model.set", json!({ "model": "tiny", "set": all }));
    home.cli(["start", "tiny"]).ok();

    let shown = home.call("model.show", json!({ "model": "tiny", "resolved": true }));
    let resolved = shown["resolved"].as_array().unwrap();
    let mut reported = 0;
    for one in resolved {
        let key = one["key"].as_str().unwrap();
        let Some(value) = all.get(key) else { continue };
        assert_eq!(one["value"], *value, "{key}");
        assert_eq!(one["source"], "model", "{key}");
        assert_eq!(one["in_force"], *value, "{key}");
        reported += usize::from(!find(key, None).unwrap().reported.is_empty());
    }
    assert!(reported >= 20, "llama-server itself reports {reported} of them");
    // /slots, through what ps shows.
    let server = told_in_force(&home);
    assert_eq!(server["in_force"]["slots"], all["parallel"]);
    let log = home.cli(["logs", "tiny"]).ok().stdout();
    assert!(log.contains("listening on"), "{log}");
    home.cli(["stop", "tiny"]).ok();
}

#[test]
fn a_wrong_key_value_choice_range_or_type_is_told_and_changes_nothing() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["model", "set", "tiny", "temp=0.5"]).ok();
    let before = home.call("model.show", json!({ "model": "tiny" }));
    for (assignment, kind, mentions) in [
        ("ctx-siz=1", "unknown_option", "ctx-size"),
        ("no-warmup=true", "unknown_option", "warmup=false"),
        ("ctx-size=1000000000", "invalid_value", "16777216"),
        ("batch-size=0", "invalid_value", "batch-size"),
        ("port=99999", "invalid_value", "65535"),
        ("cache-type-k=q4_2", "invalid_value", "q4_0"),
        ("temp=warm", "invalid_value", "a number"),
        ("jinja=perhaps", "invalid_value", "true or false"),
        ("top-p=1.5", "invalid_value", "from 0 to 1"),
        ("chat-template-kwargs=[1]", "invalid_value", "JSON object"),
        ("logit-bias=x+1", "invalid_value", "TOKEN"),
        ("tensor-split=a,b", "invalid_value", "tensor-split"),
        ("parallel=10000", "invalid_value", "256"),
        ("alias=x", "option_refused", "name"),
        ("metrics=true", "option_refused", "metrics"),
        ("log-file=/x", "option_refused", "llamactl logs"),
        ("hf-repo=a/b", "option_refused", "model add"),
        ("models-dir=/m", "option_refused", "models-dir"),
        ("env.LD_PRELOAD=/x", "option_refused", "LD_PRELOAD"),
        ("env.LLAMA_ARG_CTX_SIZE=1", "option_refused", "LLAMA_ARG"),
        ("extra-args=--frobnicate", "unknown_option", "--frobnicate"),
        ("extra-args=--temp warm", "invalid_value", "temp"),
        ("extra-args=--hf-repo a/b", "invalid_value", "hf-repo"),
        ("runtime=nonesuch", "runtime_not_found", "nonesuch"),
    ] {
        let code = if kind == "runtime_not_found" { 3 } else { 5 };
        let failure = home.cli(["--json", "model", "set", "tiny", "seed=9", assignment]).code(code);
        let failure = failure.failure();
        assert_eq!(failure["kind"], kind, "{assignment}: {failure}");
        assert!(failure.to_string().contains(mentions), "{assignment}: {failure}");
    }
    let after = home.call("model.show", json!({ "model": "tiny" }));
    assert_eq!(after["settings"], before["settings"]);
    assert_eq!(after["revision"], before["revision"]);
    // What would be right is told to scripts, too.
    let told = home.cli(["--json", "help", "settings", "ctx-size"]).ok().json();
    let range = json!({ "minimum": told["schema"]["minimum"], "key": told["key"] });
    assert_eq!(range, json!({ "minimum": 0, "key": "ctx-size" }), "{told}");
}

#[test]
fn llama_servers_own_spelling_is_read_all_or_nothing() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["model", "set", "tiny", "--", "-ngl", "99", "-c", "8192", "--no-warmup"]).ok();
    assert_eq!(settings_of(&home), json!({ "gpu-layers": 99, "ctx-size": 8192, "warmup": false }));
    assert!(argv_of(&home).join(" ").ends_with("--ctx-size 8192 --gpu-layers 99 --no-warmup"));
    let refused = home.cli(["--json", "model", "set", "tiny", "--", "-c", "1", "--frobnicate"]);
    assert!(refused.code(5).failure().to_string().contains("frobnicate"));
    assert_eq!(settings_of(&home)["ctx-size"], 8192);
    let dangling = home.cli(["--json", "model", "set", "tiny", "--", "-c"]).code(5).failure();
    assert!(dangling.to_string().contains("-c"), "{dangling}");
}

#[test]
fn defaults_hold_for_models_that_do_not_say_otherwise() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["defaults", "set", "ctx-size=2048", "threads=2"]).ok();
    home.cli(["model", "set", "tiny", "ctx-size=512"]).ok();
    let line = argv_of(&home).join(" ");
    assert!(line.contains("--ctx-size 512") && line.contains("--threads 2"), "{line}");
    assert_eq!(resolved(&home, "threads")["source"], "defaults");
    assert_eq!(resolved(&home, "ctx-size")["source"], "model");
    let unset = resolved(&home, "threads-batch");
    assert_eq!((&unset["source"], &unset["value"]), (&json!("llama_server"), &Value::Null));
    assert_eq!(home.cli(["defaults", "show"]).ok().lines(), ["ctx-size=2048", "threads=2"]);

    home.cli(["start", "tiny"]).ok();
    let told = home.cli(["defaults", "set", "threads=1"]).ok();
    assert!(told.stderr().contains("restart tiny"), "{}", told.stderr());
    let server = home.call("server.show", json!({ "model": "tiny" }));
    assert_eq!(server["pending"], json!(["threads"]));
    assert_eq!(resolved(&home, "threads")["in_force"], 2);

    home.cli(["defaults", "unset", "ctx-size", "threads"]).ok();
    assert_eq!(home.cli(["defaults", "show"]).ok().stdout(), "");
    // One port for all would clash, and a model may not contradict itself by a default.
    home.cli(["defaults", "set", "port=8101"]).code(5);
    home.cli(["model", "set", "tiny", "grammar=root ::= \"a\""]).ok();
    let clash = home.cli(["--json", "defaults", "set", "json-schema={}"]).code(5).failure();
    assert!(clash["message"].as_str().unwrap().contains("tiny"), "{clash}");
}

#[test]
fn a_running_server_keeps_its_settings_until_it_is_restarted() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["model", "set", "tiny", "ctx-size=512"]).ok();
    home.cli(["start", "tiny"]).ok();
    let said = home.cli(["model", "set", "tiny", "ctx-size=1024"]).ok();
    assert_eq!(said.stdout(), "tiny: ctx-size 512 → 1024 (revision 3)\n");
    assert!(said.stderr().contains("apply it: llamactl restart tiny"), "{}", said.stderr());
    let status = home.cli(["status", "tiny"]).ok().stdout();
    assert!(status.contains("pending  ctx-size 512 → 1024\n"), "{status}");
    let overview = home.cli(["status"]).ok().stdout();
    assert!(overview.contains("1 server waits for a restart: tiny"), "{overview}");
    let shown = home.cli(["model", "show", "tiny"]).ok().stdout();
    assert!(shown.contains("ctx-size=1024"), "{shown}");
    assert_eq!(resolved(&home, "ctx-size")["pending"], true);

    let said = home.cli(["model", "set", "tiny", "temp=0.25", "--restart"]).ok();
    assert!(!said.stderr().contains("apply it"), "{}", said.stderr());
    let server = home.call("server.show", json!({ "model": "tiny" }));
    assert_eq!((&server["state"], &server["pending"]), (&json!("ready"), &json!([])));
    assert_eq!(resolved(&home, "temp")["in_force"], 0.25);
    // Nothing to apply: nothing is restarted.
    let run = server["run"]["id"].clone();
    home.cli(["model", "set", "tiny", "temp=0.25", "--restart"]).ok();
    assert_eq!(home.call("server.show", json!({ "model": "tiny" }))["run"]["id"], run);
}

#[test]
fn what_is_not_set_can_be_taken_back_and_what_nobody_knows_cannot() {
    let (home, _daemon) = Home::with_tiny();
    let first = home.cli(["model", "diff", "tiny"]).ok();
    assert_eq!(first.stdout(), "");
    assert!(first.stderr().contains("was not changed since it was added"), "{}", first.stderr());
    home.cli(["model", "unset", "tiny", "ctx-size"]).ok();
    let unknown = home.cli(["--json", "model", "unset", "tiny", "ctx-sise"]).code(5).failure();
    assert_eq!(unknown["kind"], "unknown_option", "{unknown}");
}

#[test]
fn settings_of_one_run_end_with_it() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["model", "set", "tiny", "ctx-size=512"]).ok();
    home.cli(["start", "tiny", "--set", "ctx-size=1024", "--set", "temp=0.125"]).ok();
    let server = told_in_force(&home);
    assert_eq!(server["overrides"], json!({ "ctx-size": 1024, "temp": 0.125 }));
    assert_eq!(server["in_force"]["context_tokens"], 1024);
    assert_eq!(server["pending"], json!([]));
    assert_eq!(resolved(&home, "temp")["source"], "run");
    assert_eq!(settings_of(&home), json!({ "ctx-size": 512 }), "the model is as it was");
    assert!(
        home.cli(["status", "tiny"]).ok().stdout().contains("for this run only: ctx-size=1024")
    );

    // It runs already: with these it is done, with others it is refused, and says what to do.
    home.cli(["start", "tiny"]).ok();
    home.cli(["start", "tiny", "--set", "ctx-size=1024", "--set", "temp=0.125"]).ok();
    let other = home.cli(["start", "tiny", "--set", "temp=1"]).code(4);
    assert!(other.stderr().contains("llamactl restart tiny --set"), "{}", other.stderr());
    home.cli(["restart", "tiny"]).ok();
    let server = told_in_force(&home);
    assert!(server.get("overrides").is_none(), "{server}");
    assert_eq!(server["in_force"]["context_tokens"], 512);
    home.cli(["--json", "start", "tiny", "--set", "path=/x.gguf"]).code(5);
}

#[test]
fn each_change_is_a_revision_that_can_be_compared_and_undone() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["model", "set", "tiny", "ctx-size=512", "temp=0.5"]).ok();
    home.cli(["model", "set", "tiny", "temp=0.9"]).ok();
    home.cli(["model", "unset", "tiny", "ctx-size"]).ok();
    let history = home.cli(["model", "history", "tiny", "--json"]).ok().json_lines();
    let what: Vec<&str> = history.iter().map(|it| it["what"].as_str().unwrap()).collect();
    assert_eq!(what[..3], ["ctx-size 512 → default", "temp 0.5 → 0.9", "ctx-size=512, temp=0.5"]);
    assert!(what[3].starts_with("added from"), "{what:?}");
    // The command that asked, without the values it gave.
    assert_eq!(history[0]["by"]["command"], "llamactl model unset tiny ctx-size", "{history:?}");
    assert_eq!(history[1]["by"]["command"], "llamactl model set tiny temp=…", "{history:?}");
    let added = history[3]["by"]["command"].as_str().unwrap();
    assert!(added.starts_with("llamactl model add /"), "{history:?}");

    assert_eq!(home.cli(["model", "diff", "tiny"]).ok().lines(), ["-ctx-size=512"]);
    assert_eq!(
        home.cli(["model", "diff", "tiny", "2"]).ok().lines(),
        ["-ctx-size=512", "-temp=0.5", "+temp=0.9"]
    );
    assert_eq!(home.cli(["model", "diff", "tiny", "4", "4"]).ok().stdout(), "");

    home.cli(["model", "rollback", "tiny"]).ok();
    assert_eq!(settings_of(&home), json!({ "ctx-size": 512, "temp": 0.9 }));
    home.cli(["model", "rollback", "tiny", "2"]).ok();
    assert_eq!(settings_of(&home), json!({ "ctx-size": 512, "temp": 0.5 }));
    let newest = home.cli(["model", "history", "tiny", "-n", "1", "--json"]).ok().json();
    assert_eq!((&newest["revision"], &newest["settings"]), (&json!(6), &settings_of(&home)));
    assert_eq!(
        home.cli(["--json", "model", "rollback", "tiny", "77"]).code(3).failure_kind(),
        "revision_not_found"
    );
}

#[test]
fn another_file_is_read_anew_and_can_be_gone_back_from() {
    let (home, _daemon) = Home::with_tiny();
    let other = home.own_model(TestModel::Tiny, "other.gguf");
    let first = home.call("model.show", json!({ "model": "tiny" }));
    home.cli(["model", "set", "tiny", &format!("path={}", other.display()), "temp=0.5"]).ok();
    let shown = home.call("model.show", json!({ "model": "tiny" }));
    assert_eq!(shown["path"], json!(other));
    assert_eq!(shown["file"]["parts"], json!([other]));
    home.cli(["model", "rollback", "tiny"]).ok();
    assert_eq!(home.call("model.show", json!({ "model": "tiny" }))["path"], first["path"]);

    let junk = home.path().join("junk.gguf");
    fs::write(&junk, "no model").unwrap();
    for (bad, code, kind) in [
        (&*format!("path={}", junk.display()), 5, "not_gguf"),
        ("path=/nonexistent.gguf", 3, "file_not_found"),
    ] {
        let refused = home.cli(["--json", "model", "set", "tiny", "temp=1", bad]).code(code);
        assert_eq!(refused.failure_kind(), kind, "{bad}");
    }
    assert_eq!(settings_of(&home), json!({}));
    home.cli(["model", "set", "tiny", "temp=0.5"]).ok();
    home.cli(["model", "copy", "tiny", "twin", "--path", other.to_str().unwrap()]).ok();
    let twin = home.call("model.show", json!({ "model": "twin" }));
    assert_eq!((&twin["path"], &twin["settings"]), (&json!(other), &json!({ "temp": 0.5 })));
}

#[test]
fn variables_reach_the_process_and_a_listener_for_others_needs_a_key() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["model", "set", "tiny", "env.SOME_VARIABLE=a b"]).ok();
    home.cli(["start", "tiny"]).ok();
    let process = &home.llama_servers()[0];
    assert_eq!(process.variable("SOME_VARIABLE").as_deref(), Some("a b"));
    home.cli(["stop", "tiny"]).ok();

    let open = home.cli(["--json", "model", "set", "tiny", "host=0.0.0.0", "port=auto"]).code(5);
    assert!(open.failure()["commands"][0][4] == "api-key=generate");
    let acts = home.cli(["--json", "model", "set", "tiny", "tools=all", "port=auto"]).code(5);
    assert!(acts.failure().to_string().contains("api-key"));
    let trusted = home.cli(["model", "set", "tiny", "rpc=127.0.0.1:50052"]).ok();
    assert!(trusted.stderr().contains("trusted"), "{}", trusted.stderr());
}

#[test]
fn a_page_of_the_web_is_kept_out_and_a_setting_wins_over_that() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["model", "set", "tiny", "port=auto"]).ok();
    assert!(argv_of(&home).join(" ").contains("--cors-origins localhost"));
    home.cli(["model", "set", "tiny", "cors-origins=https://a.example"]).ok();
    let line = argv_of(&home).join(" ");
    assert!(line.contains("--cors-origins https://a.example"), "{line}");
    assert_eq!(line.matches("--cors-origins").count(), 1, "{line}");
}

#[test]
fn what_is_typed_is_what_is_shown() {
    let (home, _daemon) = Home::with_tiny();
    for typed in ["extra-args=--threads-http 2 --cpu-range '0-1'", "logit-bias=15+1,16-2.5"] {
        home.cli(["model", "set", "tiny", typed]).ok();
        let (key, _) = typed.split_once('=').unwrap();
        let shown = assignment(key, &settings_of(&home)[key]);
        home.cli(["model", "set", "tiny", &shown]).ok();
        assert_eq!(assignment(key, &settings_of(&home)[key]), shown);
    }
    assert!(matches!(find("logit-bias", None).unwrap().values, Values::List { .. }));
    let endpoint = home.cli(["start", "tiny", "--json"]).ok().json();
    assert!(Endpoint::of(&endpoint).get("/health").unwrap().json()["status"] == "ok");
}

/// How often a model is changed while it is looked at.
const ROUNDS: i64 = 200;

/// Each change is one revision, so the value of a model that was changed tells its revision.
#[test]
fn a_revision_is_never_shown_with_the_settings_of_another() {
    let (home, _daemon) = Home::with_tiny();
    let first = home.call("model.show", json!({ "model": "tiny" }))["revision"].as_i64().unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rpc = home.connect();
            for value in 1..=ROUNDS {
                rpc.call(
                    "model.set",
                    json!({ "model": "tiny", "set": { "drain-timeout": value } }),
                );
            }
        });
        let mut rpc = home.connect();
        let mut looks = 0;
        while !writer.is_finished() || looks == 0 {
            looks += 1;
            let params = json!({ "model": "tiny", "resolved": true });
            let shown = rpc.call("model.show", params);
            let own = shown["settings"]["drain-timeout"].as_i64().unwrap_or(0);
            assert_eq!(own, shown["revision"].as_i64().unwrap() - first);
            let all = shown["resolved"].as_array().unwrap();
            let resolved = all.iter().find(|it| it["key"] == "drain-timeout");
            assert_eq!(resolved.and_then(|it| it["value"].as_i64()).unwrap_or(0), own);
        }
    });
}

#[test]
fn what_was_set_is_pending_from_the_moment_it_is_acknowledged() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    home.fake_model("m", &json!({}));
    home.cli(["start", "m"]).ok();
    let (mut one, mut other) = (home.connect(), home.connect());
    let m = json!({ "model": "m" });
    for round in 0..ROUNDS {
        one.call("model.set", json!({ "model": "m", "set": { "seed": round } }));
        let reader = if round % 2 == 0 { &mut one } else { &mut other };
        let shown = reader.call("server.show", m.clone());
        assert_eq!(shown["pending"], json!(["seed"]), "round {round}");
        one.call("model.set", json!({ "model": "m", "unset": ["seed"] }));
        let reader = if round % 2 == 0 { &mut one } else { &mut other };
        let listed = reader.call("server.list", json!({}))["items"][0].take();
        assert_eq!(listed["pending"], json!([]), "round {round}");
        one.call(
            "defaults.set",
            json!({ "set": { "temp": 0.5 + f64::from(i32::try_from(round).unwrap()) / 1e3 } }),
        );
        let detail = other.call("model.show", m.clone());
        assert_eq!(detail["server"]["pending"], json!(["temp"]), "round {round}");
        one.call("defaults.set", json!({ "unset": ["temp"] }));
        one.call("model.rename", json!({ "model": "m", "to": "n" }));
        let listed = other.call("server.list", json!({}))["items"][0].take();
        assert_eq!((&listed["model"], &listed["pending"]), (&json!("n"), &json!([])));
        one.call("model.rename", json!({ "model": "n", "to": "m" }));
    }
}

#[test]
fn many_who_change_one_model_at_once_are_all_served() {
    const WRITERS: usize = 16;
    const CHANGES: usize = 10;
    let (home, _daemon) = Home::with_tiny();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut rpc = home.connect();
            scope.spawn(move || {
                for change in 0..CHANGES {
                    let set = json!({ format!("env.V{writer}"): change.to_string() });
                    rpc.call("model.set", json!({ "model": "tiny", "set": set }));
                }
            });
        }
    });
    let shown = home.call("model.show", json!({ "model": "tiny" }));
    assert_eq!(shown["revision"], json!(1 + WRITERS * CHANGES));
    let last = json!((CHANGES - 1).to_string());
    assert!((0..WRITERS).all(|writer| shown["settings"][format!("env.V{writer}")] == last));
}
