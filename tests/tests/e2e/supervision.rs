//! What the supervisor does by itself: turns, boots, devices, and mending its own tasks.

use llamactl_tests::{DEADLINE, Home, Rpc, TestModel, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;

const NO_ARGUMENTS: [&str; 0] = [];

fn server(home: &Home, model: &str) -> Value {
    home.call("server.show", json!({ "model": model }))
}

fn kinds(home: &Home, model: &str) -> Vec<String> {
    let events = home.call("event.list", json!({ "model": model, "limit": 500 }));
    let items = events["items"].as_array().unwrap().iter();
    items.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn as_many_load_at_once_as_may_and_the_others_wait_their_turn() {
    let home = Home::with_fake_llama_server();
    home.configure("max_loading = 1\n");
    let _daemon = home.daemon();
    for name in ["a", "b", "c"] {
        home.fake_model(name, &json!({ "health": "never" }));
    }
    home.call("server.start", json!({ "model": "a" }));
    home.follow("server.follow", json!({ "model": "a" })).until_state("loading");
    for (name, position) in [("b", 1), ("c", 2)] {
        home.call("server.start", json!({ "model": name }));
        let waits = home.follow("server.follow", json!({ "model": name })).until_state("queued");
        assert_eq!(waits["queue"], json!({ "reason": "loads", "position": position, "limit": 1 }));
        assert_eq!(waits["run"]["pid"], Value::Null);
    }
    assert_eq!(home.llama_servers().len(), 1);
    assert!(home.cli(["ps"]).ok().stdout().contains("queued"));

    // Who leaves the line makes the others move up, and who loads no more lets the next one in.
    home.cli(["stop", "b"]).ok();
    let mut last = home.follow("server.follow", json!({ "model": "c" }));
    last.item_where(|it| it["queue"]["position"] == 1);
    home.cli(["stop", "a"]).ok();
    last.until_state("loading");
    assert_eq!(home.llama_servers().len(), 1);
    assert!(kinds(&home, "c").contains(&"server.queued".to_owned()));
    home.cli(["stop", "--all"]).ok();
}

#[test]
fn autostart_is_for_a_start_of_the_daemon_that_somebody_asked_for() {
    let home = Home::new().with_autostart();
    let path = home.model(TestModel::Tiny);
    home.cli(["model", "add", path.to_str().unwrap(), "--name", "m"]).ok();
    home.cli(["model", "set", "m", "autostart=on"]).ok();
    home.cli(["daemon", "stop"]).ok();

    // A command that needs a daemon starts nothing else.
    home.cli(["model", "set", "m", "ctx-size=512"]).ok();
    assert_eq!(server(&home, "m")["state"], "stopped");
    home.cli(["daemon", "stop"]).ok();

    home.cli(["daemon", "start"]).ok();
    let ready = home.follow("server.follow", json!({ "model": "m" })).until_state("ready");
    assert_eq!(ready["desired"]["by"], json!({ "kind": "boot" }));

    // What somebody stopped since the boot stays stopped.
    home.cli(["stop", "m"]).ok();
    home.cli(["daemon", "stop"]).ok();
    home.cli(["daemon", "start"]).ok();
    assert_eq!(server(&home, "m")["state"], "stopped");
    home.cli(["daemon", "stop"]).ok();
}

#[test]
fn one_that_was_to_use_a_gpu_and_does_not_is_said_to_be_on_the_cpu() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["start", "tiny"]).ok();
    let plain = server(&home, "tiny");
    assert_eq!((&plain["on_cpu"], &plain["device"]), (&Value::Null, &json!("cpu")));
    home.cli(["stop", "tiny"]).ok();

    home.cli(["model", "set", "tiny", "gpu-layers=99"]).ok();
    home.cli(["start", "tiny"]).ok();
    let shown = server(&home, "tiny");
    assert_eq!((&shown["state"], &shown["on_cpu"]), (&json!("ready"), &json!(true)));
    let warnings = shown["warnings"].as_array().unwrap();
    assert_eq!(warnings[0]["code"], "on_cpu", "{shown}");
    assert!(kinds(&home, "tiny").contains(&"server.on_cpu".to_owned()));
    assert!(home.cli(["ps"]).ok().stdout().contains("it runs on the CPU although"));
    assert!(home.cli(["why", "tiny"]).ok().stdout().contains("CPU"));
}

/// 47
#[test]
fn a_task_that_breaks_is_replaced_and_nobody_else_notices() {
    let home = Home::new();
    let mut daemon = home.daemon();
    for (name, model) in [("a", TestModel::Tiny), ("b", TestModel::NeverStop)] {
        home.call("model.add", json!({ "path": home.model(model), "name": name }));
        home.cli(["start", name]).ok();
    }
    let (a, b) = (server(&home, "a"), server(&home, "b"));
    daemon.kill();

    let breaks = home.llamactld(NO_ARGUMENTS).env("LLAMACTL_FAILPOINTS", "command=panic*1");
    let broken = breaks.spawn();
    eventually(DEADLINE, "the daemon listens", || Rpc::try_connect(&home.socket()).is_ok());
    let mut seen = home.follow("server.follow", json!({ "model": "a" }));
    seen.until_state("ready");
    // The task of `a` panics at its next command; the caller is told that it was not done.
    home.connect().try_call("server.stop", json!({ "model": "a" })).unwrap_err();
    // Who watches goes on watching, and sees the process taken over.
    let again = seen.item_where(|it| it["state"] == "ready" && it["cause"]["code"] == "adopted");
    assert_eq!(again["data"]["run"]["pid"], a["run"]["pid"]);
    assert_eq!(server(&home, "b")["run"]["pid"], b["run"]["pid"]);
    home.cli(["stop", "--all"]).ok();
    home.cli(["daemon", "stop"]).ok();
    assert!(broken.finish().status.success());
}

#[test]
fn servers_end_with_their_daemon_where_that_is_wanted() {
    let home = Home::new();
    home.configure("on_daemon_exit = \"stop\"\n");
    let mut daemon = home.daemon();
    home.call("model.add", json!({ "path": home.model(TestModel::Tiny), "name": "m" }));
    home.cli(["start", "m"]).ok();
    let before = server(&home, "m");
    // A daemon that is replaced in place has not ended, however often that is done.
    for _ in 0..3 {
        home.cli(["daemon", "restart"]).ok();
        let mut seen = home.follow("server.follow", json!({ "model": "m" }));
        assert_eq!(seen.until_state("ready")["run"]["pid"], before["run"]["pid"]);
    }

    daemon.kill();
    eventually(DEADLINE, "the server ends too", || home.llama_servers().is_empty());
    // It was wanted and nobody stopped it.
    daemon.start_again();
    let after = home.follow("server.follow", json!({ "model": "m" })).until_state("ready");
    assert_ne!(after["run"]["id"], before["run"]["id"]);
}

#[test]
fn settings_that_are_for_the_supervisor_hold_at_once() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.call("model.add", json!({ "path": home.model(TestModel::Tiny), "name": "m" }));
    home.cli(["start", "m"]).ok();
    home.cli(["model", "set", "m", "restart=never", "hang-timeout=30"]).ok();
    assert_eq!(server(&home, "m")["pending"], json!([]));
    let mut seen = home.follow("server.follow", json!({ "model": "m" }));
    home.llama_servers()[0].signal(Signal::KILL);
    let failed = seen.until_state("failed");
    assert_eq!(failed["cause"]["code"], "killed");
    assert_eq!(failed["restarts"], 0);
}

/// 74: a shell makes what it starts in the background ignore some signals; a server must not.
#[test]
fn a_server_heeds_signals_that_the_daemon_was_started_to_ignore() {
    let home = Home::with_fake_llama_server();
    let daemon = llamactl_tests::artifacts::llamactld();
    let script = format!("trap '' QUIT USR1 USR2; exec '{}'", daemon.display());
    let started = home.program("/bin/sh", ["-c", &script]).spawn();
    eventually(DEADLINE, "the daemon listens", || Rpc::try_connect(&home.socket()).is_ok());
    home.fake_model("m", &json!({}));
    home.cli(["start", "m"]).ok();
    let pid = server(&home, "m")["run"]["pid"].clone();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    for signal in [Signal::QUIT, Signal::USR1, Signal::USR2] {
        assert_eq!(ignored & (1 << (signal.as_raw() - 1)), 0, "{signal:?} of {ignored:x}");
    }
    home.cli(["daemon", "stop"]).ok();
    assert!(started.finish().status.success());
}
