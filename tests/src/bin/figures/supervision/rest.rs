//! What the daemon does when there is nothing to do.

use llamactl_tests::{Daemon, Home, TestModel};
use serde_json::json;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::thread;
use std::time::Duration;

pub(super) const SERVERS: u32 = 3;
pub(super) const OVER: Duration = Duration::from_secs(30);

/// What follows a start: the servers are asked for what is in force, looked at until they are quiet,
/// old logs are cleared.
const SETTLING: Duration = Duration::from_secs(10);

/// What was measured.
pub(super) struct Figures {
    pub(super) alone: Rest,
    pub(super) with_servers: Rest,
}

/// What the daemon uses in a second.
pub(super) struct Rest {
    /// How often one of its threads woke.
    pub(super) wakeups: f64,
    processor_ms: f64,
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
    let path = home.model(TestModel::Tiny);
    for number in 0..SERVERS {
        let name = format!("m{number}");
        home.call("model.add", json!({ "path": path, "name": name }));
        let _ = home.cli(["start", &name]).ok();
    }
    let with_servers = of(&daemon);
    Figures { alone, with_servers }
}

fn of(daemon: &Daemon) -> Rest {
    thread::sleep(SETTLING);
    let before = threads(daemon.pid());
    thread::sleep(OVER);
    let (mut processor_ns, mut wakeups) = (0, 0);
    for (thread, after) in threads(daemon.pid()) {
        // A thread that is new began at nothing; one that ended meanwhile is not counted.
        let before = before.get(&thread).copied().unwrap_or_default();
        processor_ns += after.processor_ns - before.processor_ns;
        wakeups += after.wakeups - before.wakeups;
    }
    Rest {
        wakeups: wakeups as f64 / OVER.as_secs_f64(),
        processor_ms: processor_ns as f64 / 1e6 / OVER.as_secs_f64(),
    }
}

/// What a thread has used so far.
#[derive(Clone, Copy, Default)]
struct Spent {
    processor_ns: u64,
    wakeups: u64,
}

/// The threads of a process, by number.
fn threads(pid: u32) -> HashMap<OsString, Spent> {
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    let spent = |thread: &Path| {
        let read = |file: &str| std::fs::read_to_string(thread.join(file)).unwrap_or_default();
        let status = read("status");
        let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        Spent {
            processor_ns: number(read("schedstat").split_whitespace().next()),
            wakeups: number(waits.map(str::trim)),
        }
    };
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|thread| thread.unwrap())
        .map(|thread| (thread.file_name(), spent(&thread.path())))
        .collect()
}
