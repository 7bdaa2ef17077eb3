//! What the daemon does when there is nothing to do.

use crate::processor::Threads;
use llamactl_tests::{Daemon, Home, TestModel};
use rusqlite::{Connection, params};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::Duration;

pub(super) const SERVERS: u32 = 4;
pub(super) const OVER: Duration = Duration::from_secs(30);

/// What follows a start: the servers are asked for what is in force, looked at until they are quiet,
/// old logs are cleared, what only the start needed is given back.
const SETTLING: Duration = Duration::from_secs(16);
/// As large as the block of ten samples of four models.
const BLOCK_BYTES: usize = 900;

/// What was measured.
pub(super) struct Figures {
    /// After all of `alone`.
    pub(super) resident_bytes: u64,
    pub(super) alone: Rest,
    /// Beside `with_servers`: the least that reads and keeps as much, milliseconds of a processor a second.
    pub(super) floor_ms: f64,
    pub(super) with_servers: Rest,
}

/// What the daemon uses in a second.
pub(super) struct Rest {
    /// How often one of its threads woke.
    pub(super) wakeups: f64,
    pub(super) processor_ms: f64,
    /// Of that, of the threads that sample and store.
    pub(super) sampling_ms: f64,
}

impl std::fmt::Display for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:8.1} wakeups {:8.2} ms of a processor", self.wakeups, self.processor_ms)
    }
}

pub(super) fn measure() -> Figures {
    let home = Home::new();
    let daemon = home.daemon();
    let alone = of(&daemon);
    let resident_bytes = daemon.rss_bytes();
    let path = home.model(TestModel::Tiny);
    for number in 0..SERVERS {
        let name = format!("m{number}");
        home.call("model.add", json!({ "path": path, "name": name }));
        let _ = home.cli(["start", &name]).ok();
    }
    let listed = home.call("server.list", json!({}));
    let servers = listed["items"].as_array().unwrap().iter();
    let pids = servers.map(|server| server["run"]["pid"].as_u64().unwrap());
    let pids: Vec<u64> = pids.chain([daemon.pid().into()]).collect();
    let (floor, with_servers) = thread::scope(|scope| {
        let floor = scope.spawn(|| read_and_insert(&home, &pids));
        let with_servers = of(&daemon);
        (floor.join().unwrap(), with_servers)
    });
    Figures { resident_bytes, alone, floor_ms: floor, with_servers }
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// Reads the files of the machine and of these processes each second, kept open, and puts a block into a
/// database each tenth, for as long as the daemon is looked at: milliseconds of this thread in a second.
fn read_and_insert(home: &Home, pids: &[u64]) -> f64 {
    let of_host =
        ["stat", "meminfo", "loadavg", "diskstats", "net/dev", "uptime"].map(str::to_owned);
    let pressure = ["cpu", "memory", "io"].map(|name| format!("pressure/{name}"));
    let of_processes =
        pids.iter().flat_map(|pid| ["stat", "status", "io"].map(|file| format!("{pid}/{file}")));
    let names = of_host.into_iter().chain(pressure).chain(of_processes);
    let files = names.filter_map(|name| File::open(format!("/proc/{name}")).ok());
    let files: Vec<File> = files.collect();
    let database = Connection::open(home.path().join("bare.db")).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
             CREATE TABLE raw (at INTEGER PRIMARY KEY, block BLOB NOT NULL) STRICT;",
        )
        .unwrap();
    let (block, mut text) = (vec![7u8; BLOCK_BYTES], vec![0; 64 << 10]);
    let mut once = |second: u64| {
        for file in &files {
            let mut at = 0;
            while let Ok(read @ 1..) = file.read_at(&mut text, at) {
                at += read as u64;
            }
        }
        if second.is_multiple_of(10) {
            let mut insert = database.prepare_cached("INSERT INTO raw VALUES (?1, ?2)").unwrap();
            insert.execute(params![second.cast_signed(), block]).unwrap();
        }
    };
    once(0);
    thread::sleep(SETTLING);
    let before = thread_time();
    for second in 1..=OVER.as_secs() {
        thread::sleep(Duration::from_secs(1));
        once(second);
    }
    (thread_time() - before).as_secs_f64() * 1e3 / OVER.as_secs_f64()
}

fn of(daemon: &Daemon) -> Rest {
    thread::sleep(SETTLING);
    let before = Threads::of(daemon.pid());
    thread::sleep(OVER);
    let (spent, sampling) = (before.since(), before.since_of(&["sampler", "history"]));
    Rest {
        wakeups: spent.wakeups as f64 / OVER.as_secs_f64(),
        processor_ms: spent.processor_ms() / OVER.as_secs_f64(),
        sampling_ms: sampling.processor_ms() / OVER.as_secs_f64(),
    }
}
