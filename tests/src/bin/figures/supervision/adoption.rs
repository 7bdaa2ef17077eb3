//! From the start of a daemon to all servers taken over, beside one that has none.

use crate::{Times, executable};
use llamactl_tests::{DEADLINE, Daemon, Home, Rpc};
use rusqlite::Connection;
use serde_json::json;
use std::thread;
use std::time::{Duration, Instant};

pub(super) const SERVERS: usize = 8;
pub(super) const TRIES: usize = 15;

const PACE: Duration = Duration::from_millis(1);

/// What was measured.
pub(super) struct Figures {
    /// A program that does nothing, and a commit to a database that is opened for it.
    pub(super) bare: Times,
    pub(super) floor: Times,
    pub(super) adoption: Times,
}

pub(super) fn measure() -> Figures {
    let (bare, home) = (Home::with_fake_llama_server(), Home::with_fake_llama_server());
    let (mut bare_daemon, mut daemon) = (bare.daemon(), home.daemon());
    for number in 0..SERVERS {
        let name = format!("m{number}");
        home.fake_model(&name, &json!({}));
        home.call("server.start", json!({ "model": name }));
    }
    let pids = until_ready(&home, SERVERS);
    let (mut least, mut floor, mut adoption) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..TRIES {
        least.push(no_op_and_commit(&bare, number));
        floor.push(started_anew(&bare, &mut bare_daemon, &[]));
        adoption.push(started_anew(&home, &mut daemon, &pids));
    }
    let of = |all| Times::of(all, 100);
    Figures { bare: of(least), floor: of(floor), adoption: of(adoption) }
}

fn no_op_and_commit(home: &Home, number: usize) -> Duration {
    let start = Instant::now();
    let no_op = executable("no-op");
    assert!(home.program(no_op, [""; 0]).command().status().unwrap().success());
    let database = Connection::open(home.path().join("bare.db")).unwrap();
    database
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS t (number INTEGER); INSERT INTO t VALUES ({number});"
        ))
        .unwrap();
    drop(database);
    start.elapsed()
}

/// Kills a daemon; how long the next one needs.
fn started_anew(home: &Home, daemon: &mut Daemon, pids: &[u64]) -> Duration {
    daemon.kill();
    let start = Instant::now();
    daemon.spawn_again();
    let found = until_ready(home, pids.len());
    let took = start.elapsed();
    assert_eq!(found, pids, "the same processes as before");
    took
}

/// Waits until a daemon answers and shows so many servers ready; their processes, by model.
fn until_ready(home: &Home, servers: usize) -> Vec<u64> {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Ok(mut rpc) = Rpc::try_connect(&home.socket()) {
            let page = rpc.call("server.list", json!({}));
            let all = page["items"].as_array().unwrap().iter();
            let ready = all.filter(|server| server["state"] == "ready");
            let pids: Vec<u64> =
                ready.map(|server| server["run"]["pid"].as_u64().unwrap()).collect();
            if pids.len() == servers {
                return pids;
            }
        }
        assert!(Instant::now() < end, "the servers are not ready");
        thread::sleep(PACE);
    }
}
