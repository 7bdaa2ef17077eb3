//! Whether the daemon grows: one server, restarted over and over.

use llamactl_tests::{Daemon, Home};
use serde_json::json;
use std::fs;

pub(super) const RESTARTS: usize = 2_000;
const LOOKS: [usize; 7] = [0, 100, SETTLED, 500, 1_000, 1_500, RESTARTS];

/// After so many restarts everything is in memory that is ever needed.
const SETTLED: usize = 200;
/// What the memory may grow by from then on.
const GROWTH_BYTES: u64 = 1 << 20;
/// Connections, logs and threads that come and go.
const PASSING: usize = 8;

/// What a daemon holds.
pub(super) struct Held {
    pub(super) anonymous_bytes: u64,
    pub(super) descriptors: usize,
    pub(super) threads: usize,
}

/// What it holds after so many restarts.
pub(super) fn measure() -> Vec<(usize, Held)> {
    let home = Home::with_fake_llama_server();
    let daemon = home.daemon();
    home.fake_model("m", &json!({}));
    let mut states = home.follow("server.follow", json!({ "model": "m" }));
    let mut rpc = home.connect();
    rpc.call("server.start", json!({ "model": "m" }));
    let mut run = states.until_state("ready")["run"]["id"].clone();
    let mut looks = Vec::new();
    for restarts in 0..=RESTARTS {
        if LOOKS.contains(&restarts) {
            looks.push((restarts, held(&daemon)));
        }
        if restarts % 10 == 0 {
            rpc.call("event.list", json!({ "limit": 100 }));
        }
        rpc.call("server.restart", json!({ "model": "m" }));
        let next = states.item_where(|it| it["state"] == "ready" && it["run"]["id"] != run);
        run = next["data"]["run"]["id"].clone();
    }
    rpc.call("server.stop", json!({ "model": "m" }));
    states.until_state("stopped");
    looks
}

/// Refuses a daemon that grew.
pub(super) fn check(looks: &[(usize, Held)]) {
    let settled = &looks.iter().find(|(restarts, _)| *restarts == SETTLED).unwrap().1;
    let last = &looks.last().unwrap().1;
    assert!(last.anonymous_bytes <= settled.anonymous_bytes + GROWTH_BYTES, "its memory grows");
    assert!(last.descriptors <= settled.descriptors + PASSING, "its descriptors grow");
    assert!(last.threads <= settled.threads + PASSING, "its threads grow");
}

fn held(daemon: &Daemon) -> Held {
    let count =
        |what: &str| fs::read_dir(format!("/proc/{}/{what}", daemon.pid())).unwrap().count();
    Held {
        anonymous_bytes: daemon.anonymous_bytes(),
        descriptors: count("fd"),
        threads: count("task"),
    }
}
