//! What the daemon does when there is nothing to do.

use crate::processor::Threads;
use llamactl_tests::{Daemon, Home, TestModel};
use serde_json::json;
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
    let before = Threads::of(daemon.pid());
    thread::sleep(OVER);
    let spent = before.since();
    Rest {
        wakeups: spent.wakeups as f64 / OVER.as_secs_f64(),
        processor_ms: spent.processor_ms() / OVER.as_secs_f64(),
    }
}
