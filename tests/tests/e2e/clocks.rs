//! Time that does not pass as it should: clocks that are set, machines that sleep.

use llamactl_tests::processes::Process;
use llamactl_tests::set_clock::SetClock;
use llamactl_tests::wait::eventually;
use llamactl_tests::{DEADLINE, Home};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// How many rows each second around a time has, where it has any.
fn rows(home: &Home, at_ms: i64, around_ms: i64) -> Vec<Option<f64>> {
    let columns = home.call(
        "metrics.query",
        json!({
            "series": ["host.memory_available_bytes"],
            "from_ms": at_ms - around_ms,
            "until_ms": at_ms + around_ms,
            "step_ms": 1000,
            "stat": "count",
        }),
    );
    let column = columns["series"][0]["values"].as_array().cloned().unwrap_or_default();
    column.iter().map(|rows| rows.as_f64().filter(|rows| *rows > 0.0)).collect()
}

fn count(rows: &[Option<f64>]) -> f64 {
    rows.iter().flatten().sum()
}

fn samples_taken(home: &Home) -> f64 {
    home.call("metrics.sample", json!({}))["seq"].as_f64().unwrap()
}

fn server(home: &Home, model: &str) -> Value {
    home.call("server.show", json!({ "model": model }))
}

/// 16
#[test]
fn a_clock_that_is_set_loses_no_row_and_neither_ends_a_server_nor_holds_up_a_restart() {
    let home = Home::with_fake_llama_server();
    let clock = SetClock::of(&home);
    let _daemon = home.daemon_by(clock.under(home.llamactld([""; 0])));
    home.fake_model("m", &json!({}));
    home.fake_model("ends", &json!({ "exit": { "code": 1 } }));
    home.cli(["model", "set", "ends", "restart-limit=3"]).ok();
    home.cli(["start", "m"]).ok();
    let run = server(&home, "m")["run"]["id"].clone();
    let year = 365 * 86_400;
    for ahead_s in [-3600, year, 1000 - now_ms() / 1000, 0] {
        clock.set(ahead_s);
        let has_rows = || count(&rows(&home, now_ms() + ahead_s * 1000, 5000)) >= 2.0;
        eventually(DEADLINE, "there are rows by the clock of now", has_rows);
        // One restart at once, and one after a second.
        home.cli(["start", "ends", "--no-wait"]).ok();
        eventually(DEADLINE, "it is given up", || server(&home, "ends")["state"] == "failed");
        assert_eq!(server(&home, "ends")["restarts"], 2);
        let still = server(&home, "m");
        assert_eq!((&still["state"], &still["run"]["id"]), (&json!("ready"), &run));
    }
    let before = samples_taken(&home);
    let kept = count(&rows(&home, now_ms(), 300_000));
    assert!((before..=samples_taken(&home)).contains(&kept), "{kept} rows of {before} samples");
}

/// 17
#[test]
fn sleep_is_one_gap_without_a_burst_behind_it_and_nobody_is_taken_to_hang() {
    let home = Home::with_fake_llama_server();
    let daemon = home.daemon();
    home.fake_model("m", &json!({}));
    home.cli(["model", "set", "m", "hang-timeout=2"]).ok();
    home.cli(["start", "m"]).ok();
    let before = server(&home, "m");
    let pid = u32::try_from(before["run"]["pid"].as_u64().unwrap()).unwrap();
    let process = Process::open(pid).unwrap();
    eventually(DEADLINE, "it measures", || count(&rows(&home, now_ms(), 60_000)) >= 2.0);
    daemon.signal(Signal::STOP);
    process.signal(Signal::STOP);
    // Nothing tells of time that passes while nothing happens.
    thread::sleep(Duration::from_secs(4));
    process.signal(Signal::CONT);
    daemon.signal(Signal::CONT);
    let woken = samples_taken(&home);
    eventually(DEADLINE, "it goes on measuring", || samples_taken(&home) >= woken + 3.0);
    let rows = rows(&home, now_ms(), 60_000);
    let first = rows.iter().position(Option::is_some).unwrap();
    let last = rows.iter().rposition(Option::is_some).unwrap();
    let gaps = rows[first..=last].split(Option::is_some).filter(|gap| gap.len() > 1).count();
    assert_eq!(gaps, 1, "{rows:?}");
    assert!(rows.iter().flatten().all(|rows| *rows <= 2.0), "{rows:?}");
    let after = server(&home, "m");
    assert_eq!((&after["state"], &after["run"]["id"]), (&json!("ready"), &before["run"]["id"]));
}
