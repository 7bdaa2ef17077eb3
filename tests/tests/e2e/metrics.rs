//! Metrics: the machine and the servers, as they are and as they change.

use llamactl_tests::http::Endpoint;
use llamactl_tests::{Home, TestModel};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_sample_knows_the_machine_and_says_null_where_it_does_not() {
    let home = Home::new();
    let daemon = home.daemon();
    let sample = home.cli(["metrics", "--json"]).ok().json();
    let host = &sample["host"];
    assert!(host["cpus"].as_u64().unwrap() > 0);
    let (total, available) = (&host["memory_total_bytes"], &host["memory_available_bytes"]);
    assert!(total.as_u64().unwrap() > available.as_u64().unwrap(), "{host}");
    assert!(sample["gpus"].is_null() || sample["gpus"].is_array(), "{sample}");
    assert_eq!(sample["servers"], json!([]));
    assert_eq!(sample["daemon"]["pid"], daemon.pid());
    assert!(sample["daemon"]["memory_anonymous_bytes"].as_u64().unwrap() > 0);
    home.cli(["gpus"]).ok();
}

#[test]
fn following_gives_every_sample_once_and_rates_from_the_second_on() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut samples = home.llamactl(["metrics", "--follow", "--json"]).spawn();
    let first = samples.json_line();
    assert_eq!(first["kind"], "snapshot");
    let seq = first["data"]["seq"].as_u64().unwrap();
    for expected in seq + 1..seq + 4 {
        let next = samples.json_line();
        assert_eq!(next["kind"], "change");
        assert_eq!(next["data"]["seq"], expected, "none is left out");
        let busy = next["data"]["host"]["cpu_busy_ratio"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&busy), "{busy}");
    }
    samples.signal(Signal::INT);
    samples.finish().code(130);
}

#[test]
fn a_daemon_that_stops_ends_the_stream() {
    let home = Home::new();
    let mut daemon = home.daemon();
    let mut samples = home.follow("metrics.follow", json!({}));
    samples.item();
    assert!(daemon.terminate().success());
    assert_eq!(samples.to_end().last().unwrap()["data"]["reason"], "daemon_stopping");
}

#[test]
fn a_server_is_seen_from_outside_and_from_inside() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.cli(["model", "add", home.model(TestModel::Tiny).to_str().unwrap()]).ok();
    home.cli(["start", "tiny"]).ok();
    let server = home.call("server.show", json!({ "model": "tiny" }));
    let mut samples = home.follow("metrics.follow", json!({}));
    let of_tiny = |sample: &serde_json::Value| sample["servers"][0].clone();
    let sample = samples.item_where(|it| of_tiny(it)["llama"]["slots"].is_u64());
    let tiny = of_tiny(&sample["data"]);
    assert_eq!(tiny["run_id"], server["run"]["id"]);
    assert_eq!(tiny["process"]["pid"], server["run"]["pid"]);
    assert!(tiny["process"]["memory_anonymous_bytes"].as_u64().unwrap() > 1_000_000, "{tiny}");
    assert_eq!(tiny["llama"]["slots_busy"], 0);

    let before = tiny["llama"]["generated_tokens_total"].as_u64().unwrap();
    let said = Endpoint::of(&server).chat("Who are you?", 32);
    let generated = said["usage"]["completion_tokens"].as_u64().unwrap();
    samples.item_where(|it| {
        of_tiny(it)["llama"]["generated_tokens_total"].as_u64() >= Some(before + generated)
    });
    let readings = home.cli(["metrics", "--model", "tiny"]).ok().stdout();
    assert!(readings.contains("server.cpu_seconds{model=tiny}"), "{readings}");
    assert!(!readings.contains("host."), "{readings}");
    home.cli(["model", "copy", "tiny", "tiny.2"]).ok();
    home.cli(["start", "tiny.2"]).ok();
    samples.item_where(|it| it["servers"].as_array().is_some_and(|all| all.len() == 2));
    let slots = home.cli(["metrics", "server.slots", "--model", "tiny"]).ok().lines();
    assert_eq!(slots.len(), 2, "a heading and one model: {slots:?}");
    home.cli(["stop", "tiny.2"]).ok();

    home.cli(["stop", "tiny"]).ok();
    samples.item_where(|it| it["servers"] == json!([]));
}

#[test]
fn series_have_names() {
    let home = Home::new();
    let _daemon = home.daemon();
    let names = home.cli(["metrics", "series"]).ok().stdout();
    for name in
        ["host.cpu_busy_ratio", "host.memory_available_bytes", "daemon.memory_anonymous_bytes"]
    {
        assert!(names.contains(name), "{names}");
        let reading = home.cli(["metrics", name]).ok().stdout();
        assert!(reading.contains(name) && reading.lines().count() <= 2, "{reading}");
    }
    let refused = home.cli(["metrics", "gpu.1", "--json"]).code(5).failure();
    assert_eq!(refused["kind"], "invalid_value");
}
