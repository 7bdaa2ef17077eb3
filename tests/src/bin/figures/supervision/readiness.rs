//! From the moment a server is ready to the moment the daemon's clients know.

use crate::Times;
use llamactl_tests::http::Endpoint;
use llamactl_tests::{DEADLINE, Home, Rpc, Stream};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

pub(super) const TRIES: usize = 100;

/// How often the server is asked from outside: what is seen there is up to so much too late, and a
/// daemon that is faster than that is shown as having needed no time.
pub(super) const PACE: Duration = Duration::from_micros(500);

/// What was measured, by how much the build says of itself.
pub(super) struct Figures {
    pub(super) reporting: Times,
    /// Without child mode: it says so in its log alone.
    pub(super) logging: Times,
}

pub(super) fn measure() -> Figures {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let path = home.fake_model("m", &json!({}));
    let mut bench = Bench {
        rpc: home.connect(),
        states: home.follow("server.follow", json!({ "model": "m" })),
        home: &home,
        path,
    };
    let of = |all: Vec<Duration>| Times::of(all, 99);
    let mut times = [vec![], vec![]];
    for number in 0..TRIES {
        for (kind, times) in times.iter_mut().enumerate() {
            // From 50 to 400 ms, in no step with the daemon's own pace.
            let load_ms = 50 + (number * 97 + kind * 31) % 350;
            let says = json!({ "load_ms": load_ms, "progress": kind == 0 });
            times.push(bench.once(&says));
        }
    }
    let [reporting, logging] = times.map(of);
    Figures { reporting, logging }
}

struct Bench<'a> {
    home: &'a Home,
    path: PathBuf,
    rpc: Rpc,
    states: Stream,
}

impl Bench<'_> {
    fn once(&mut self, behaviour: &Value) -> Duration {
        self.home.fake_behaviour(&self.path, behaviour);
        self.rpc.call("server.start", json!({ "model": "m" }));
        let started = self.states.item_where(|it| it["endpoint"]["socket"].is_string());
        let endpoint = Endpoint::of(&started["data"]);
        let asking = thread::spawn(move || first_healthy(&endpoint));
        if started["data"]["state"] != "ready" {
            self.states.until_state("ready");
        }
        let shown = Instant::now();
        let healthy = asking.join().unwrap();
        self.rpc.call("server.stop", json!({ "model": "m" }));
        self.states.until_state("stopped");
        shown.saturating_duration_since(healthy)
    }
}

/// Asks until the answer is 200; when that came.
fn first_healthy(endpoint: &Endpoint) -> Instant {
    let end = Instant::now() + DEADLINE;
    loop {
        let answer = endpoint.get("/health");
        let now = Instant::now();
        if answer.is_ok_and(|answer| answer.status == 200) {
            return now;
        }
        assert!(now < end, "the server does not become ready");
        thread::sleep(PACE);
    }
}
