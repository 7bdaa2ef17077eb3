//! One daemon per home: how it comes and how it goes.

use llamactl_tests::daemon::until_gone;
use llamactl_tests::llama::fake_signals;
use llamactl_tests::{DEADLINE, Home, eventually};
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::thread;

#[test]
fn ten_commands_at_once_start_one_daemon_and_all_are_answered() {
    let home = Home::new().with_autostart();
    thread::scope(|scope| {
        let commands: Vec<_> =
            (0..10).map(|_| scope.spawn(|| home.cli(["model", "list", "--json"]).ok())).collect();
        for command in commands {
            let output = command.join().unwrap();
            assert_eq!(output.stdout(), "", "an empty list prints nothing");
        }
    });
    assert_eq!(home.daemon_pids().len(), 1);
}

#[test]
fn the_command_that_starts_the_daemon_says_so_once() {
    let home = Home::new().with_autostart();
    let first = home.cli(["model", "list"]).ok();
    let pids = home.daemon_pids();
    assert_eq!(pids.len(), 1);
    assert!(first.stderr().contains(&pids[0].to_string()), "{}", first.stderr());
    assert_eq!(first.stderr().lines().count(), 1, "{}", first.stderr());
    assert_eq!(home.cli(["model", "list"]).ok().stderr(), "");
}

#[test]
fn without_autostart_nothing_is_started() {
    let home = Home::new().with_autostart();
    for arguments in [["--no-autostart", "model", "list"], ["model", "list", "--no-autostart"]] {
        home.cli(arguments).code(6);
    }
    home.llamactl(["model", "list"]).env("LLAMACTL_NO_AUTOSTART", "1").run().code(6);
    home.cli(["daemon", "status"]).code(6);
    assert!(home.daemon_pids().is_empty());
}

#[test]
fn after_a_stop_only_what_changes_something_starts_the_daemon() {
    let home = Home::new().with_autostart();
    home.cli(["model", "list"]).ok();
    home.cli(["daemon", "stop"]).ok();
    assert!(home.daemon_pids().is_empty());
    for looking in [&["model", "list"][..], &["ps"], &["status"], &["stop", "--all"]] {
        home.cli(looking).code(6);
    }
    assert!(home.daemon_pids().is_empty());
    let model = home.model(llamactl_tests::TestModel::Tiny);
    home.cli(["model", "add", model.to_str().unwrap()]).ok();
    assert_eq!(home.daemon_pids().len(), 1);
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["tiny"]);
}

#[test]
fn start_status_and_stop_from_the_command_line() {
    let home = Home::new();
    home.cli(["daemon", "status"]).code(6);
    home.cli(["daemon", "start"]).ok();
    let status = home.cli(["daemon", "status", "--json"]).ok().json();
    assert_eq!(json!(home.daemon_pids()), json!([status["pid"]]));
    // Started again it is the same one.
    home.cli(["daemon", "start"]).ok();
    assert_eq!(json!(home.daemon_pids()), json!([status["pid"]]));
    home.cli(["daemon", "stop"]).ok();
    assert!(home.daemon_pids().is_empty(), "stop returns when the daemon is gone");
    until_gone(&home.socket());
}

#[test]
fn a_signal_to_end_is_a_clean_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        let mut daemon = home.daemon();
        daemon.signal(signal);
        assert_eq!(daemon.wait().code(), Some(0), "{signal:?}");
    }
}

#[test]
fn a_stopping_daemon_stops_its_servers_first() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    let model = home.fake_model("slow", &json!({ "stop_ms": 300 }));
    home.cli(["start", "slow"]).ok();
    assert_eq!(home.llama_servers().len(), 1);
    assert!(daemon.terminate().success());
    assert!(home.llama_servers().is_empty());
    // One SIGTERM was enough and it was given the time it took.
    assert_eq!(fs::read_to_string(fake_signals(&model)).unwrap(), "TERM\n");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    let model = home.fake_model("deaf", &json!({ "ignore_term": true }));
    home.cli(["start", "deaf"]).ok();
    daemon.signal(Signal::TERM);
    let signals = || fs::read_to_string(fake_signals(&model)).unwrap_or_default();
    eventually(DEADLINE, "the server is told to end", || signals() == "TERM\n");
    daemon.signal(Signal::TERM);
    daemon.wait();
    // It did not wait for its patience with the server to run out: that would have shown as more
    // signals before the last one, which cannot be caught.
    assert_eq!(signals(), "TERM\n");
    // What it could not see end is found by the next one, and ends there.
    daemon.start_again();
    home.fake_behaviour(&model, &json!({}));
    home.cli(["stop", "deaf"]).ok();
    assert!(home.llama_servers().is_empty());
}
