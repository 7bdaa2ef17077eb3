//! A server's task that panics: told as what it is, replaced, and not over and over.

use llamactl_tests::{DEADLINE, Daemon, Home, eventually};
use rustix::process::Signal;
use serde_json::json;
use std::thread;
use std::time::{Duration, Instant};

const NO_ARGUMENTS: [&str; 0] = [];

/// What the daemon writes each time it panics on purpose.
const ON_PURPOSE: &str = "act=Panic";

/// More than a few tries in a few seconds.
const MOST_PANICS: usize = 20;

#[test]
fn a_task_that_breaks_is_not_told_as_a_model_that_is_not_there() {
    let home = Home::with_fake_llama_server();
    let breaks = home.llamactld(NO_ARGUMENTS).env("LLAMACTL_FAILPOINTS", "command=panic*2");
    let _daemon = home.daemon_by(breaks);
    home.fake_model("m", &json!({}));
    let said = home.cli(["start", "m"]).code(1).stderr();
    assert!(!said.contains("there is no model"), "{said}");
    let failure = home.cli(["--json", "stop", "m"]).code(1).failure();
    assert_eq!(failure["kind"], "internal", "{failure}");
    // The task that takes its place does what it is asked.
    home.cli(["start", "m"]).ok();
}

#[test]
fn a_removal_that_breaks_is_not_told_as_a_model_that_is_not_there() {
    let home = Home::with_fake_llama_server();
    let breaks = home.llamactld(NO_ARGUMENTS).env("LLAMACTL_FAILPOINTS", "command=panic*1");
    let _daemon = home.daemon_by(breaks);
    home.fake_model("m", &json!({}));
    let failure = home.cli(["--json", "model", "remove", "m"]).code(1).failure();
    assert_eq!(failure["kind"], "internal", "{failure}");
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["m"]);
    home.cli(["model", "remove", "m"]).ok();
}

/// What was wanted and not begun makes a task that panics as soon as it is there; so does the next.
#[test]
fn a_task_that_breaks_again_and_again_is_replaced_at_a_bounded_pace() {
    let home = Home::with_fake_llama_server();
    home.configure("max_loading = 1\n");
    let mut daemon = home.daemon();
    home.fake_model("first", &json!({ "health": "never" }));
    home.fake_model("m", &json!({}));
    for (model, state) in [("first", "loading"), ("m", "queued")] {
        home.call("server.start", json!({ "model": model }));
        home.follow("server.follow", json!({ "model": model })).until_state(state);
    }
    daemon.kill();
    let first = home.llama_servers().remove(0);
    first.signal(Signal::KILL);
    assert!(first.wait(DEADLINE));

    let breaks = home.llamactld(NO_ARGUMENTS).env("LLAMACTL_FAILPOINTS", "begin=panic");
    let mut broken = home.daemon_by(breaks);
    let panics = |daemon: &Daemon| daemon.stderr().matches(ON_PURPOSE).count();
    eventually(DEADLINE, "a task breaks", || panics(&broken) > 0);
    // A pace can only be seen over time: in so long, one without bound comes to thousands.
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end && panics(&broken) < MOST_PANICS {
        thread::sleep(Duration::from_millis(50));
    }
    // Nobody else is held up by it.
    home.call("daemon.ping", json!({}));
    let seen = panics(&broken);
    broken.kill();
    assert!(seen < MOST_PANICS, "replaced {seen} times");
}
