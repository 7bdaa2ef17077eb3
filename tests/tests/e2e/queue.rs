//! The line of those that wait to load: who is next goes in as soon as a place is free, however it
//! became free.

use llamactl_tests::processes::Process;
use llamactl_tests::{DEADLINE, Home, Stream};
use serde_json::{Value, json};

/// A server that never gets ready, so that it loads until something ends it.
fn loads_for_ever() -> Value {
    json!({ "health": "never" })
}

fn states(home: &Home, model: &str) -> Stream {
    home.follow("server.follow", json!({ "model": model }))
}

/// Starts a model that is to be in this state then; its server.
fn start(home: &Home, model: &str, state: &str) -> Value {
    home.call("server.start", json!({ "model": model }));
    states(home, model).until_state(state)
}

/// Kills the process of a server that is loading, as a crash would; it is gone on return.
fn crash(loading: &Value) {
    let pid = u32::try_from(loading["run"]["pid"].as_u64().unwrap()).unwrap();
    let process = Process::open(pid).unwrap_or_else(|| panic!("it has no process: {loading}"));
    process.signal(rustix::process::Signal::KILL);
    assert!(process.wait(DEADLINE));
}

#[test]
fn a_crash_in_the_only_load_lets_the_next_in_line_go_in() {
    let home = Home::with_fake_llama_server();
    home.configure("max_loading = 1\n");
    let _daemon = home.daemon();
    home.fake_model("a", &loads_for_ever());
    home.fake_model("b", &json!({}));
    let a = start(&home, "a", "loading");
    let mut next = states(&home, "b");
    start(&home, "b", "queued");

    crash(&a);
    next.until_state("ready");
    // What crashed is tried again, behind the one that waited.
    let again = states(&home, "a").until_state("loading");
    assert_ne!(again["run"]["id"], a["run"]["id"]);
    home.cli(["stop", "--all"]).ok();
}

#[test]
fn one_that_waits_to_be_tried_again_keeps_nobody_from_loading() {
    let home = Home::with_fake_llama_server();
    home.configure("max_loading = 1\n");
    let _daemon = home.daemon();
    home.fake_model("a", &loads_for_ever());
    home.fake_model("b", &json!({}));
    let mut first = states(&home, "a");
    crash(&start(&home, "a", "loading"));
    // The second failure in a row is not tried again at once.
    let again = first.item_where(|it| it["state"] == "loading" && it["restarts"] == 1);
    let mut next = states(&home, "b");
    start(&home, "b", "queued");
    crash(&again["data"]);
    first.until_state("backoff");
    next.until_state("ready");
    first.item_where(|it| it["state"] == "loading" && it["restarts"] == 2);
    home.cli(["stop", "--all"]).ok();
}

#[test]
fn a_crash_in_one_of_two_loads_lets_the_next_in_line_go_in() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    for name in ["a", "b"] {
        home.fake_model(name, &loads_for_ever());
    }
    home.fake_model("c", &json!({}));
    let a = start(&home, "a", "loading");
    let b = start(&home, "b", "loading");
    let mut next = states(&home, "c");
    start(&home, "c", "queued");

    crash(&a);
    next.until_state("ready");
    let untouched = states(&home, "b").until_state("loading");
    assert_eq!(untouched["run"]["id"], b["run"]["id"]);
    states(&home, "a").until_state("loading");
    home.cli(["stop", "--all"]).ok();
}

#[test]
fn crashes_in_all_loads_leave_nobody_waiting_for_ever() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    for name in ["a", "b"] {
        home.fake_model(name, &loads_for_ever());
    }
    for name in ["c", "d"] {
        home.fake_model(name, &json!({}));
    }
    let loading = ["a", "b"].map(|name| start(&home, name, "loading"));
    let mut waiting = ["c", "d"].map(|name| {
        let states = states(&home, name);
        start(&home, name, "queued");
        states
    });
    loading.iter().for_each(crash);
    for states in &mut waiting {
        states.until_state("ready");
    }
    for name in ["a", "b"] {
        states(&home, name).until_state("loading");
    }
    home.cli(["stop", "--all"]).ok();
}

#[test]
fn nobody_who_waits_goes_in_when_the_daemon_stops() {
    // Whose turn comes first is a matter of chance.
    for _ in 0..6 {
        let home = Home::with_fake_llama_server();
        home.configure("max_loading = 1\n");
        let mut daemon = home.daemon();
        home.fake_model("a", &loads_for_ever());
        start(&home, "a", "loading");
        let waiting = ["b", "c", "d", "e", "f", "g", "h", "i"];
        for name in waiting {
            home.fake_model(name, &json!({}));
            start(&home, name, "queued");
        }
        assert!(daemon.terminate().success());
        for name in waiting {
            assert_eq!(home.runs_in_registry(name), 0, "{name} was started to be stopped");
        }
    }
}
