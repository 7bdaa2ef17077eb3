//! A stop that waits for requests at work asks for them no oftener than llama-server bears.

use llamactl_tests::http::Endpoint;
use llamactl_tests::{DEADLINE, Home, eventually, llama};
use serde_json::{Value, json};
use std::fs;
use std::thread;

/// How long the stop waits.
const DRAIN_SECONDS: usize = 6;

/// `/slots` is asked every two seconds at most; one more for each end of the time.
const MOST_LOOKS: usize = DRAIN_SECONDS / 2 + 2;

#[test]
fn while_it_drains_a_server_is_asked_for_its_slots_as_rarely_as_ever() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    // An answer that takes longer than the stop waits.
    let path = home.fake_model("m", &json!({ "tokens_per_second": 1.0, "note_requests": true }));
    home.call("model.set", json!({ "model": "m", "set": { "drain-timeout": DRAIN_SECONDS } }));
    home.cli(["start", "m"]).ok();
    let ready = home.call("server.show", json!({ "model": "m" }));
    let looks = || {
        let noted = fs::read_to_string(llama::fake_requests(&path)).unwrap_or_default();
        noted.lines().filter(|path| *path == "/slots").count()
    };
    let client = thread::spawn(move || {
        let talk = json!({ "messages": [], "max_tokens": 1000, "stream": true });
        Endpoint::of(&ready).post("/v1/chat/completions", &talk)
    });
    eventually(DEADLINE, "it is at work", || {
        let shown = home.call("server.show", json!({ "model": "m" }));
        let slots = Endpoint::of(&shown).get("/slots").unwrap().json();
        slots.as_array().unwrap().iter().any(|slot| slot["is_processing"] == true)
    });
    let before = looks();
    let stopped = home.llamactl(["stop", "m"]).run().ok().stdout();
    let during = looks() - before;
    assert!(during <= MOST_LOOKS, "asked {during} times: {stopped}");
    let cut: Value = home.call("server.show", json!({ "model": "m" }));
    assert!(cut["cause"]["message"].as_str().unwrap().contains("1 request was cut off"), "{cut}");
    // It ended with its server.
    let _ = client.join().unwrap();
}

#[test]
fn a_stop_waits_no_longer_than_the_request_that_is_at_work() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    home.fake_model("m", &json!({ "tokens_per_second": 4.0 }));
    home.call("model.set", json!({ "model": "m", "set": { "drain-timeout": 600 } }));
    home.cli(["start", "m"]).ok();
    let ready = home.call("server.show", json!({ "model": "m" }));
    let client = thread::spawn(move || {
        let talk = json!({ "messages": [], "max_tokens": 12 });
        Endpoint::of(&ready).post("/v1/chat/completions", &talk)
    });
    eventually(DEADLINE, "it is at work", || {
        let shown = home.call("server.show", json!({ "model": "m" }));
        let slots = Endpoint::of(&shown).get("/slots").unwrap().json();
        slots.as_array().unwrap().iter().any(|slot| slot["is_processing"] == true)
    });
    home.cli(["stop", "m"]).ok();
    let stopped = home.call("server.show", json!({ "model": "m" }));
    assert_eq!(client.join().unwrap().unwrap().status, 200, "nothing was cut: {stopped}");
}
