//! Why a server is as it is, told of real ones.

use llamactl_tests::{Home, TestModel};
use rustix::process::Signal;
use serde_json::{Value, json};

fn why(home: &Home) -> Value {
    home.call("server.why", json!({ "model": "m" }))
}

fn summary(why: &Value) -> &str {
    why["summary"].as_str().unwrap()
}

fn kinds(why: &Value) -> Vec<&str> {
    why["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

#[test]
fn a_model_that_is_not_whole_says_so_and_what_to_do() {
    let home = Home::new();
    let _daemon = home.daemon();
    let path = home.own_model(TestModel::Tiny, "m.gguf");
    home.call("model.add", json!({ "path": path, "name": "m" }));
    assert_eq!(summary(&why(&home)), "It was never started.");
    home.cli(["why", "m"]).ok();

    let whole = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(whole / 2).unwrap();
    home.cli(["start", "m"]).code(8);

    let told = why(&home);
    assert!(summary(&told).starts_with("The model file is incomplete."), "{told}");
    assert_eq!((&told["failures"], &told["server"]["state"]), (&json!(1), &json!("failed")));
    assert!(told["next"].as_str().unwrap().starts_with("It is not started again"), "{told}");
    assert!(!told["hints"].as_array().unwrap().is_empty(), "{told}");
    assert_eq!(told["evidence"], told["server"]["cause"]["evidence"]);
    assert_eq!(told["remarks"][0], "Its file was changed after it was added.", "{told}");
    assert!(told["hints"].to_string().contains("\"verify\""), "{told}");
    assert_eq!(kinds(&told).first(), Some(&"model.added"));
    assert_eq!(kinds(&told).last(), Some(&"server.failed"));

    let shown = home.cli(["why", "m"]).ok().stdout();
    assert!(shown.starts_with("× m: failed ") && shown.contains(summary(&told)), "{shown}");
    assert!(shown.contains("start it: llamactl start m"), "{shown}");
    assert_eq!(home.cli(["why", "m", "--json"]).ok().json()["server"], told["server"]);
    home.cli(["why", "absent"]).code(3);
}

#[test]
fn a_server_that_was_killed_and_one_that_was_stopped() {
    let home = Home::new();
    let mut daemon = home.daemon();
    home.call("model.add", json!({ "path": home.model(TestModel::Tiny), "name": "m" }));
    // What is told of is the failure, and not what policy made of it.
    let _ = home
        .connect()
        .try_call("model.set", json!({ "model": "m", "set": { "restart": "never" } }));
    home.cli(["start", "m"]).ok();
    let ready = why(&home);
    assert!(summary(&ready) == "It answers requests.", "{ready}");
    assert_eq!(ready["by"]["command"], "llamactl start m", "{ready}");
    assert_eq!((&ready["next"], &ready["failures"]), (&Value::Null, &json!(0)));

    // A new daemon knows the story and its own part in it.
    daemon.kill();
    daemon.start_again();
    home.follow("server.follow", json!({ "model": "m" })).until_state("ready");
    let adopted = why(&home);
    assert!(adopted["remarks"].to_string().contains("adopted by this daemon"), "{adopted}");
    assert_eq!(adopted["by"]["command"], "llamactl start m", "{adopted}");
    assert!(kinds(&adopted).contains(&"daemon.started"), "{adopted}");

    home.cli(["stop", "m"]).ok();
    let stopped = why(&home);
    assert!(summary(&stopped).starts_with("Stopped by "), "{stopped}");
    assert_eq!(stopped["by"]["command"], "llamactl stop m", "{stopped}");
    assert_eq!(stopped["next"], Value::Null);

    home.cli(["start", "m"]).ok();
    let mut states = home.follow("server.follow", json!({ "model": "m" }));
    states.until_state("ready");
    home.llama_servers()[0].signal(Signal::KILL);
    states.item_where(|server| server["cause"]["code"] == "killed");
    let killed = why(&home);
    assert!(summary(&killed).contains("SIGKILL"), "{killed}");
    assert_eq!(killed["failures"], 1);
    assert_eq!(killed["by"]["command"], "llamactl start m", "who wanted it to run: {killed}");
    // Of a program that says no command the method and the model are one.
    home.call("server.stop", json!({ "model": "m" }));
    assert_eq!(why(&home)["by"]["command"], "server.stop m");
    let shown = home.cli(["why", "m"]).ok().stdout();
    assert!(shown.contains("server.failed"), "{shown}");
}

/// A home with a model `m` that talks until it is stopped, ready, with an answer under way.
fn talking() -> (Home, llamactl_tests::Daemon, llamactl_tests::Follower) {
    let home = Home::new();
    let daemon = home.daemon();
    home.call("model.add", json!({ "path": home.model(TestModel::NeverStop), "name": "m" }));
    home.cli(["start", "m"]).ok();
    let run = home.llamactl(["run", "m", "Go on.", "--max-tokens", "30000"]).spawn();
    home.follow("metrics.follow", json!({}))
        .item_where(|sample| sample["servers"][0]["llama"]["slots_busy"] == 1);
    (home, daemon, run)
}

#[test]
fn idle_is_ready_with_nothing_at_work() {
    let (home, _daemon, run) = talking();
    let busy = home.cli(["wait", "m", "--for", "idle", "--timeout", "0"]).code(7);
    assert!(busy.stderr().contains("m is not idle: it is ready"), "{}", busy.stderr());
    home.cli(["wait", "m", "--timeout", "0"]).ok();

    let waiting = home.llamactl(["wait", "m", "--for", "idle"]).spawn();
    run.signal(Signal::INT);
    run.finish().code(130);
    assert_eq!(waiting.finish().ok().stdout(), "m is idle\n");
    home.cli(["wait", "m", "--for", "idle", "--timeout", "0"]).ok();
}

#[test]
fn several_are_waited_for_and_the_first_failure_decides() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    home.fake_model("a", &json!({ "load_ms": 200 }));
    home.fake_model("b", &json!({ "load_ms": 300 }));
    home.cli(["start", "--no-wait", "a", "b"]).ok();
    assert_eq!(home.cli(["wait", "-q", "a", "b"]).ok().lines(), ["a", "b"]);
    home.cli(["stop", "b"]).ok();
    // Stopped and not wanted: it will not be ready. The other one still is.
    let told = home.cli(["wait", "-q", "b", "absent", "a"]).code(8);
    assert_eq!(told.lines(), ["a"]);
    for goal in ["ready", "idle", "failed"] {
        home.cli(["wait", "b", "--for", goal]).code(8);
    }
    assert_eq!(home.cli(["wait", "b", "--for", "stopped"]).ok().stdout(), "b stopped\n");
}

#[test]
fn of_a_stopped_one_it_is_said_that_a_start_would_fail() {
    let home = Home::new();
    let _daemon = home.daemon();
    let path = home.own_model(TestModel::Tiny, "m.gguf");
    home.call("model.add", json!({ "path": path, "name": "m" }));
    assert_eq!(why(&home)["next"], Value::Null);
    std::fs::remove_file(path).unwrap();
    let told = why(&home);
    let next = told["next"].as_str().unwrap();
    assert!(next.starts_with("A start would fail now: "), "{told}");
    assert!(!told["hints"].as_array().unwrap().is_empty(), "{told}");
}

#[test]
fn what_a_stop_took_is_said() {
    let (home, _daemon, run) = talking();
    let stopped = home.cli(["stop", "m"]).ok().stdout();
    assert!(stopped.starts_with("m stopped (") && stopped.contains("; "), "{stopped}");
    drop(run);
    // Nothing was at work: nothing is said of it.
    home.cli(["start", "m"]).ok();
    let stopped = home.cli(["stop", "m"]).ok().stdout();
    assert!(stopped.starts_with("m stopped (") && !stopped.contains(';'), "{stopped}");
}

#[test]
fn what_a_restart_took_is_said() {
    let (home, _daemon, run) = talking();
    let restarted = home.cli(["restart", "m"]).ok();
    let lines = restarted.lines();
    assert!(lines[0].starts_with("m stopped ("), "{lines:?}");
    assert!(lines[1].starts_with("m ready"), "{lines:?}");
    drop(run);
}
