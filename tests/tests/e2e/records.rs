//! What a new daemon makes of records that are strange: damaged ones, times that a clock brought
//! about, a stop that was before the start. They are written while no daemon runs.

use llamactl_tests::{DEADLINE, Daemon, Home, eventually};
use serde_json::{Value, json};

const DAY_MS: i64 = 86_400_000;

fn server(home: &Home) -> Value {
    home.call("server.show", json!({ "model": "m" }))
}

/// A home whose model `m` was started, and whose daemon was killed since.
fn with_a_server_that_was_left() -> (Home, Daemon, Value) {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    home.cli(["start", "m"]).ok();
    let left = server(&home);
    daemon.kill();
    (home, daemon, left)
}

/// The run's record says nothing by which it can be taken over, and the daemon goes on: the server
/// is not between two states for ever, and its stop ends.
fn a_damaged_endpoint_is_got_over(endpoint: &str) {
    let (home, mut daemon, left) = with_a_server_that_was_left();
    let damage = format!("UPDATE runs SET endpoint = '{endpoint}' WHERE ended_at_ms IS NULL");
    assert_eq!(home.change_registry(&damage), 1);
    daemon.start_again();
    eventually(DEADLINE, "it is taken over or given up", || {
        ["ready", "stopped", "failed"].contains(&server(&home)["state"].as_str().unwrap())
    });
    // One process, whichever it is, and nobody is told that there is none.
    let shown = server(&home);
    let rests = shown["state"] == "stopped" || shown["state"] == "failed";
    eventually(DEADLINE, "what is shown is so", || home.llama_servers().is_empty() == rests);
    if rests {
        assert!(!shown["cause"]["message"].as_str().unwrap_or_default().is_empty(), "{shown}");
        home.cli(["start", "m"]).ok();
        assert_ne!(server(&home)["run"]["id"], left["run"]["id"]);
    }
    assert_eq!(home.llama_servers().len(), 1);
    assert!(daemon.terminate().success());
    assert!(home.llama_servers().is_empty());
    let said = daemon.stderr();
    assert!(!said.contains("could not be stopped"), "the stop waited for nothing: {said}");
}

#[test]
fn a_run_whose_endpoint_is_damaged_is_got_over() {
    a_damaged_endpoint_is_got_over(r#"{"url":"garbage","socket":null}"#);
}

#[test]
fn a_run_whose_endpoint_is_empty_is_got_over() {
    a_damaged_endpoint_is_got_over(r#"{"url":null,"socket":null}"#);
}

#[test]
fn a_run_whose_endpoint_is_no_json_is_got_over() {
    a_damaged_endpoint_is_got_over("garbage");
}

#[test]
fn a_stop_that_is_older_than_a_run_does_not_end_it_when_it_is_taken_over() {
    let (home, mut daemon, left) = with_a_server_that_was_left();
    // As for a model that somebody stopped once and that was started by no wish since.
    home.stop_was_wanted(60_000);
    daemon.start_again();
    let mut states = home.follow("server.follow", json!({ "model": "m" }));
    let taken_over = states.item_where(|it| it["state"] != "adopting");
    assert_eq!(taken_over["data"]["state"], "ready", "{taken_over}");
    let events = home.call("event.list", json!({ "model": "m", "kinds": ["server.stopping"] }));
    assert_eq!(events["items"], json!([]));
    assert_eq!(home.llama_servers()[0].pid, pid(&left));
    // One that is asked for now does end it.
    home.cli(["stop", "m"]).ok();
    assert!(home.llama_servers().is_empty());
}

#[test]
fn a_stop_that_is_younger_than_a_run_ends_it_when_it_is_taken_over() {
    let (home, mut daemon, _) = with_a_server_that_was_left();
    home.stop_was_wanted(-5_000);
    daemon.start_again();
    home.follow("server.follow", json!({ "model": "m" })).until_state("stopped");
    assert!(home.llama_servers().is_empty());
}

fn pid(server: &Value) -> u32 {
    u32::try_from(server["run"]["pid"].as_u64().unwrap()).unwrap()
}

/// The longest wait between two tries, a quarter more by chance.
const LONGEST_WAIT_MS: i64 = 75_000;

#[test]
fn a_back_off_that_the_clock_moved_into_tomorrow_is_waited_for_as_long_as_one_may_be() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    let path = home.fake_model("m", &json!({ "exit": { "code": 1 } }));
    home.call("server.start", json!({ "model": "m" }));
    home.follow("server.follow", json!({ "model": "m" })).until_state("backoff");
    daemon.kill();
    home.fake_behaviour(&path, &json!({}));
    // The clock was a day ahead when that was written.
    let ahead = "UPDATE runs SET restart_at_ms = restart_at_ms + ";
    assert_ne!(home.change_registry(&format!("{ahead}{DAY_MS} WHERE restart_at_ms NOT NULL")), 0);
    daemon.start_again();
    let mut states = home.follow("server.follow", json!({ "model": "m" }));
    let first = states.item();
    if first["data"]["state"] == "backoff" {
        let until_ms = first["data"]["restart_at_ms"].as_i64().unwrap();
        let wait_ms = until_ms - first["at_ms"].as_i64().unwrap();
        assert!(wait_ms <= LONGEST_WAIT_MS, "it waits for {wait_ms} ms");
    } else {
        states.until_state("ready");
    }
}
