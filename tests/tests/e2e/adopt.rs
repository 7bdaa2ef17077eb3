//! Servers outlive their daemon, and the next one takes them over.

use llamactl_tests::{DEADLINE, Home, TestModel, eventually, http::Endpoint};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_server_outlives_a_killed_daemon_and_is_taken_over() {
    let home = Home::new();
    let path = home.model(TestModel::Tiny);
    let mut daemon = home.daemon();
    home.call("model.add", json!({ "path": path, "name": "m" }));
    let _ = home.cli(["start", "m"]).ok();
    let before = home.call("server.show", json!({ "model": "m" }));

    daemon.kill();
    let endpoint = Endpoint::of(&before);
    assert_eq!(endpoint.get("/health").unwrap().status, 200, "it answers without a daemon");
    daemon.start_again();

    let after = home.follow("server.follow", json!({ "model": "m" })).until_state("ready");
    assert_eq!(after["run"]["id"], before["run"]["id"]);
    assert_eq!(after["run"]["pid"], before["run"]["pid"]);
    assert_eq!(after["run"]["ready_at_ms"], before["run"]["ready_at_ms"]);
    assert_eq!(after["since_ms"], before["run"]["ready_at_ms"]);
    assert_eq!(home.llama_servers().len(), 1);

    let _ = home.cli(["stop", "m"]).ok();
    assert!(home.llama_servers().is_empty(), "an adopted server can be stopped");
}

#[test]
fn a_server_that_ended_meanwhile_is_written_off() {
    let home = Home::new();
    let path = home.model(TestModel::Tiny);
    let mut daemon = home.daemon();
    home.call("model.add", json!({ "path": path, "name": "m" }));
    let _ = home.cli(["start", "m"]).ok();
    let before = home.call("server.show", json!({ "model": "m" }));
    let server = home.llama_servers().remove(0);

    daemon.kill();
    server.signal(Signal::KILL);
    assert!(server.wait(DEADLINE));
    daemon.start_again();

    // Nobody had asked for its end, so it is started again.
    let mut states = home.follow("server.follow", json!({ "model": "m" }));
    let again = states.until_state("ready");
    assert_ne!(again["run"]["id"], before["run"]["id"]);
    assert_eq!((&again["restarts"], home.llama_servers().len()), (&json!(1), 1));
    let told = home.call("event.list", json!({ "model": "m" }));
    let told = told["items"].as_array().unwrap().iter();
    let end = told.clone().find(|it| it["kind"] == "server.backoff").expect("its end is told");
    assert_eq!(end["run_id"], before["run"]["id"]);
    assert_eq!(end["details"]["cause"]["code"], "ended_unwatched", "{end}");

    // With restart=never it is left as it is.
    home.cli(["model", "set", "m", "restart=never"]).ok();
    let server = home.llama_servers().remove(0);
    daemon.kill();
    server.signal(Signal::KILL);
    assert!(server.wait(DEADLINE));
    daemon.start_again();
    let mut states = home.follow("server.follow", json!({ "model": "m" }));
    let left = states.until_state("failed");
    assert_eq!(left["cause"]["code"], "ended_unwatched", "{left}");
}

#[test]
fn an_adopted_servers_end_is_seen() {
    let home = Home::new();
    let path = home.model(TestModel::Tiny);
    let mut daemon = home.daemon();
    home.call("model.add", json!({ "path": path, "name": "m" }));
    let _ = home.cli(["start", "m"]).ok();
    daemon.kill();
    daemon.start_again();
    let mut states = home.follow("server.follow", json!({ "model": "m" }));
    states.until_state("ready");

    home.llama_servers()[0].signal(Signal::KILL);

    let again = states.item_where(|it| it["restarts"] == 1);
    let cause = &again["data"]["cause"];
    assert!(["killed", "exit_unknown"].contains(&cause["code"].as_str().unwrap()), "{again}");
    states.until_state("ready");
}

#[test]
fn keep_servers_leaves_them_and_a_plain_stop_does_not() {
    let home = Home::new();
    let path = home.model(TestModel::Tiny);
    let mut daemon = home.daemon();
    home.call("model.add", json!({ "path": path, "name": "m" }));
    let _ = home.cli(["start", "m"]).ok();

    // Wanted once more although it runs: that is no wish left to fulfil after a stop.
    let _ = home.cli(["start", "m"]).ok();

    home.call("daemon.stop", json!({ "keep_servers": true }));
    assert!(daemon.wait().success());
    assert_eq!(home.llama_servers().len(), 1);
    daemon.start_again();
    home.follow("server.follow", json!({ "model": "m" })).until_state("ready");

    home.call("daemon.stop", json!({}));
    assert!(daemon.wait().success());
    eventually(DEADLINE, "the server ends", || home.llama_servers().is_empty());
    daemon.start_again();
    let after = home.call("server.show", json!({ "model": "m" }));
    assert_eq!(after["state"], "stopped");
    assert_eq!(after["desired"]["state"], "running", "what is wanted stays written");
}

#[test]
fn a_wish_that_was_not_begun_is_fulfilled_by_the_next_daemon() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    let mut rpc = home.connect();
    // Ten tries to be killed between the wish and the run; whichever it was, the wish holds.
    for _ in 0..10 {
        let id = rpc.send("server.start", json!({ "model": "m" }));
        let accepted = rpc.answer(id);
        daemon.kill();
        daemon.start_again();
        if accepted.is_ok() {
            home.follow("server.follow", json!({ "model": "m" })).until_state("ready");
        }
        assert!(home.llama_servers().len() <= 1);
        let _ = home.cli(["stop", "m"]).ok();
        rpc = home.connect();
    }
}

#[test]
fn a_restart_that_was_done_is_not_done_again_by_the_next_daemon() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    let _ = home.cli(["start", "m"]).ok();
    let first = home.call("server.show", json!({ "model": "m" }));
    let _ = home.cli(["restart", "m"]).ok();
    let second = home.call("server.show", json!({ "model": "m" }));
    assert_ne!(first["run"]["id"], second["run"]["id"]);

    daemon.kill();
    daemon.start_again();

    let mut states = home.follow("server.follow", json!({ "model": "m" }));
    assert_eq!(states.until_state("ready")["run"]["id"], second["run"]["id"]);
    // A renewal would have begun before it was ready again.
    let events = home.call("event.list", json!({ "model": "m", "kinds": ["server.stopping"] }));
    assert_eq!(events["items"].as_array().unwrap().len(), 1, "{events}");
}

#[test]
fn a_start_during_a_stop_is_kept_by_the_next_daemon() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    // Slow to end, so that the daemon is killed in the middle; it ends with 0, as it was asked to,
    // and the policy alone would leave it.
    home.fake_model("m", &json!({ "stop_ms": 1500 }));
    let _ = home.cli(["start", "m"]).ok();
    let first = home.call("server.show", json!({ "model": "m" }));
    let mut states = home.follow("server.follow", json!({ "model": "m" }));
    home.call("server.stop", json!({ "model": "m" }));
    states.until_state("stopping");
    home.call("server.start", json!({ "model": "m" }));

    daemon.kill();
    daemon.start_again();

    let mut states = home.follow("server.follow", json!({ "model": "m" }));
    let second =
        states.item_where(|it| it["state"] == "ready" && it["run"]["id"] != first["run"]["id"]);
    assert_eq!(second["data"]["restarts"], 0, "asked for, not the policy's: {second}");
    assert_eq!(home.llama_servers().len(), 1);
}
