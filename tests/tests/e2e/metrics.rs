//! Metrics: the machine and the servers, as they are and as they change.

use llamactl_tests::http::Endpoint;
use llamactl_tests::mount::Mount;
use llamactl_tests::need;
use llamactl_tests::wait::eventually;
use llamactl_tests::{DEADLINE, Home, TestModel};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;

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

    samples.item_where(|it| it["host"]["filesystems"][0]["available_bytes"].is_u64());
    let rooms = home.cli(["metrics", "host.filesystem_available_bytes"]).ok().stdout();
    assert!(rooms.contains("{mount_point=/"), "{rooms}");

    let before = tiny["llama"]["generated_tokens_total"].as_u64().unwrap();
    let said = Endpoint::of(&server).chat("Who are you?", 32);
    let generated = said["usage"]["completion_tokens"].as_u64().unwrap();
    samples.item_where(|it| {
        of_tiny(it)["llama"]["generated_tokens_total"].as_u64() >= Some(before + generated)
    });
    let asked = ["metrics", "server.tokens_generated", "--since", "2m", "--stat", "sum", "--json"];
    let sum = |name: &str| -> f64 {
        let lines = home.llamactl(asked).args(["--model", name]).run().ok().json_lines();
        let value = |line: &Value| {
            line["values"][format!("server.tokens_generated{{model={name}}}")].as_f64()
        };
        lines.iter().filter_map(value).sum()
    };
    eventually(DEADLINE, "each token is counted once", || {
        sum("tiny") == (before + generated) as f64
    });
    let context = of_tiny(&home.call("metrics.sample", json!({})))["llama"].clone();
    assert!(context["context_used_tokens"].as_u64() >= Some(generated), "{context}");
    assert!(context["prompt_ms_total"].is_u64() && context["generation_ms_total"].is_u64());
    let text = home.cli(["metrics", "--prometheus"]).ok().stdout();
    assert!(text.contains("# TYPE llamactl_server_tokens_generated_total counter\n"), "{text}");
    assert!(text.contains("llamactl_server_slots{model=\"tiny\"} "), "{text}");
    let readings = home.cli(["metrics", "--model", "tiny"]).ok().stdout();
    assert!(readings.contains("server.cpu_seconds{model=tiny}"), "{readings}");
    assert!(!readings.contains("host."), "{readings}");
    home.cli(["model", "copy", "tiny", "tiny.2"]).ok();
    home.cli(["start", "tiny.2"]).ok();
    samples.item_where(|it| it["servers"].as_array().is_some_and(|all| all.len() == 2));
    let slots = home.cli(["metrics", "server.slots", "--model", "tiny"]).ok().lines();
    assert_eq!(slots.len(), 2, "a heading and one model: {slots:?}");
    home.cli(["stop", "tiny.2"]).ok();
    // A name is a label: what was measured keeps to the model.
    home.cli(["model", "rename", "tiny", "small"]).ok();
    assert_eq!(sum("small"), (before + generated) as f64);

    home.cli(["stop", "small"]).ok();
    samples.item_where(|it| it["servers"] == json!([]));
}

/// A script that does not become the llama-server: what the server holds is what both hold.
#[test]
fn a_server_behind_a_script_is_measured_with_all_its_processes() {
    let home = Home::with_wrapped_llama_server();
    let _daemon = home.daemon();
    home.wrapped_model("m", TestModel::Tiny, &json!({}), r#""$real" "$@"; exit $?"#);
    home.cli(["start", "m"]).ok();
    let mut samples = home.follow("metrics.follow", json!({}));
    let sample = samples.item_where(|it| it["servers"][0]["llama"]["slots"].is_u64());
    let process = &sample["data"]["servers"][0]["process"];
    let pid = home.call("server.show", json!({ "model": "m" }))["run"]["pid"].clone();
    assert_eq!((&process["pid"], &process["pids"][0]), (&pid, &pid));
    assert_eq!(process["pids"].as_array().unwrap().len(), 2, "{process}");
    assert!(process["memory_anonymous_bytes"].as_u64() > Some(10 << 20), "{process}");
    assert!(process["threads"].as_u64() > Some(2), "{process}");
    home.cli(["stop", "m"]).ok();
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

/// What one line of `metrics --since --json` says of the machine's memory.
fn memory(line: &Value) -> Option<f64> {
    line["values"]["host.memory_available_bytes"].as_f64()
}

#[test]
fn what_was_measured_can_be_asked_for_and_the_last_second_is_in_it() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut samples = home.follow("metrics.follow", json!({}));
    (0..4).for_each(|_| drop(samples.item()));
    let name = "host.memory_available_bytes";
    let asked = ["metrics", name, "--since", "1m", "--step", "1s"];
    let lines = home.llamactl(asked).args(["--json"]).run().ok().json_lines();
    let known: Vec<&Value> = lines.iter().filter(|line| memory(line).is_some()).collect();
    assert!(known.len() >= 3, "{lines:?}");
    assert!(known.iter().all(|line| line["step_ms"] == 1000), "{lines:?}");
    let now = home.call("metrics.sample", json!({}))["at_ms"].as_i64().unwrap();
    let last = known.last().unwrap()["at_ms"].as_i64().unwrap();
    assert!(now - last < 3000, "{now} {last}");

    // The same as a drawing; what it cannot do it says.
    let plot = home.llamactl(asked).args(["--plot"]).env("LC_ALL", "C").run().ok().stdout();
    assert!(plot.starts_with(&format!("{name}  least ")) && plot.contains('*'), "{plot}");
    assert!(plot.is_ascii() && plot.lines().all(|line| line.len() <= 80), "{plot}");
    let refused = home.llamactl(asked).args(["--plot", "-f"]).run().code(2).stderr();
    assert!(refused.contains("llamactl top"), "{refused}");

    let csv = home.llamactl(asked).args(["--csv"]).run().ok().stdout();
    assert!(csv.starts_with(&format!("time,{name}\n")) && csv.contains("Z,"), "{csv}");
    let table = home.cli(asked).ok().stdout();
    assert!(table.starts_with("TIME") && table.lines().count() >= 4, "{table}");
    let counts = home.llamactl(asked).args(["--stat", "count", "--json"]).run().ok().json_lines();
    assert!(counts.iter().any(|line| memory(line) == Some(1.0)), "{counts:?}");

    let refused = |args: &[&str]| home.llamactl(args).args(["--json"]).run().code(5).failure();
    let sum = refused(&["metrics", name, "--since", "1m", "--stat", "sum"]);
    assert!(sum["message"].as_str().unwrap().contains("has no sum"), "{sum}");
    let live = refused(&["metrics", "host.cpus", "--since", "1m"]);
    assert!(live["message"].as_str().unwrap().contains("is not kept"), "{live}");
    let backwards = refused(&["metrics", name, "--since", "1m", "--until", "2m"]);
    assert!(backwards["message"].as_str().unwrap().contains("ends before"), "{backwards}");
    home.cli(["metrics", "--since", "1m", "--model", "nobody"]).code(3);
    home.cli(["metrics", "server", "--model", "nobody"]).code(3);
    let nothing = home.cli(["metrics", "gpu", "--gpu", "7"]).ok();
    assert_eq!(nothing.stdout(), "");
    assert!(nothing.stderr().contains("nothing of that is measured now"), "{}", nothing.stderr());
    // A series that has no data is no mistake.
    assert_eq!(home.cli(["metrics", "gpu", "--gpu", "7", "--since", "1m"]).ok().stdout(), "");
}

/// Fault 1 for metrics: what a SIGKILL takes is the open batch of ten seconds, and who follows is shown
/// the gap, each second once.
#[test]
fn a_kill_takes_ten_seconds_at_most_and_who_follows_sees_each_second_once() {
    let home = Home::new();
    let mut daemon = home.daemon();
    let name = "host.memory_available_bytes";
    let follow = ["metrics", name, "-f", "--since", "1m", "--interval", "1s", "--json"];
    let mut follower = home.llamactl(follow).spawn();
    let mut seen = Vec::new();
    while seen.iter().filter(|line| memory(line).is_some()).count() < 13 {
        seen.push(follower.json_line());
    }
    daemon.kill();
    let last_ms = seen.last().unwrap()["at_ms"].as_i64().unwrap();
    daemon.start_again();
    let before = seen.len();
    while seen[before..].iter().filter(|line| memory(line).is_some()).count() < 3 {
        seen.push(follower.json_line());
    }
    follower.signal(Signal::INT);
    follower.finish().code(130);
    let mut next = seen[0]["at_ms"].as_i64().unwrap();
    for line in &seen {
        assert_eq!(line["at_ms"].as_i64(), Some(next), "no second twice, none left out: {seen:?}");
        next += line["step_ms"].as_i64().unwrap();
    }
    let lines = home.cli(["metrics", name, "--since", "2m", "--step", "1s", "--json"]).ok();
    let kept = lines.json_lines().into_iter().filter(|line| memory(line).is_some());
    let kept: Vec<i64> = kept.map(|line| line["at_ms"].as_i64().unwrap()).collect();
    let before = kept.iter().filter(|at_ms| **at_ms <= last_ms).count();
    assert!(
        before > 0 && kept.iter().any(|at_ms| (last_ms - 10_000..=last_ms).contains(at_ms)),
        "{kept:?}"
    );
    let of_kept = |line: &Value| memory(line).map(|_| line["at_ms"].as_i64().unwrap());
    let lost = seen.iter().filter_map(of_kept).filter(|at_ms| !kept.contains(at_ms)).count();
    assert!(lost <= 10, "{lost} seconds are lost");
}

#[test]
fn twenty_requests_of_one_token_are_counted_although_a_quiet_server_is_looked_at_rarely() {
    let (home, _daemon) = Home::with_tiny();
    home.cli(["start", "tiny"]).ok();
    let endpoint = Endpoint::of(&home.call("server.show", json!({ "model": "tiny" })));
    let mut generated = 0;
    for _ in 0..20 {
        generated += endpoint.chat("Hi", 1)["usage"]["completion_tokens"].as_u64().unwrap();
    }
    assert_eq!(generated, 20);
    let asked = ["metrics", "server.tokens_generated", "--since", "5m", "--stat", "sum", "--json"];
    eventually(DEADLINE, "each is counted", || {
        let lines = home.cli(asked).ok().json_lines();
        let value = |it: &Value| it["values"]["server.tokens_generated{model=tiny}"].as_f64();
        lines.iter().filter_map(value).sum::<f64>() == 20.0
    });
}

/// No run here is long enough for a sample to see it.
#[test]
fn each_start_and_restart_of_quick_runs_is_counted_once_whatever_ends_the_daemon() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({ "exit": { "code": 1 } }));
    home.cli(["model", "set", "m", "restart-limit=2"]).ok();
    let is_failed = || home.call("server.show", json!({ "model": "m" }))["state"] == "failed";
    let told = || {
        let lines = home.cli(["metrics", "model.starts", "model.restarts", "--json"]).ok();
        let value = |line: Value| line["value"].as_f64();
        lines.json_lines().into_iter().map(value).collect::<Vec<_>>()
    };
    for time in [1.0, 2.0] {
        home.cli(["start", "m", "--no-wait"]).ok();
        eventually(DEADLINE, "it is given up", is_failed);
        // A restart in place takes what is in no batch yet along.
        home.cli(["daemon", "restart"]).ok();
        assert_eq!(told(), [Some(2.0 * time), Some(time)]);
    }
    daemon.kill();
    daemon.start_again();
    assert_eq!(told(), [Some(4.0), Some(2.0)]);
    let text = home.cli(["metrics", "--prometheus"]).ok().stdout();
    assert!(text.contains("\nllamactl_model_starts_total{model=\"m\"} 4\n"), "{text}");
    assert!(text.contains("\nllamactl_model_restarts_total{model=\"m\"} 2\n"), "{text}");
    let asked = ["metrics", "model", "--since", "5m", "--stat", "sum", "--step", "5m", "--json"];
    let lines = home.cli(asked).ok().json_lines();
    let sum = |name: &str| {
        let value = |line: &Value| line["values"][format!("model.{name}{{model=m}}")].as_f64();
        lines.iter().filter_map(value).sum::<f64>()
    };
    assert_eq!((sum("starts"), sum("restarts")), (4.0, 2.0), "{lines:?}");
}

#[test]
fn following_by_columns_begins_with_what_was_and_goes_on_in_steps() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut samples = home.follow("metrics.follow", json!({}));
    (0..4).for_each(|_| drop(samples.item()));
    let asked = json!({ "series": ["host.load1", "daemon"], "replay_ms": 600_000 });
    let mut rows = home.follow("metrics.follow", asked);
    let first = rows.item();
    assert_eq!(first["kind"], "snapshot");
    let columns = &first["data"];
    let names: Vec<&str> =
        columns["series"].as_array().unwrap().iter().filter_map(|it| it["name"].as_str()).collect();
    assert_eq!(names[0], "host.load1");
    assert!(names[1..].iter().all(|name| name.starts_with("daemon.")), "{names:?}");
    let count = columns["count"].as_u64().unwrap();
    assert!(count >= 3, "{first}");
    let mut next = columns["start_at_ms"].as_u64().unwrap() + count * 1000;
    for _ in 0..2 {
        let row = rows.item();
        assert_eq!((&row["kind"], row["data"]["at_ms"].as_u64()), (&json!("change"), Some(next)));
        assert_eq!(row["data"]["values"].as_array().unwrap().len(), names.len());
        next += 1000;
    }
    let mut thin =
        home.follow("metrics.follow", json!({ "series": ["host"], "interval_ms": 2000 }));
    let step = thin.item()["data"]["step_ms"].as_u64();
    let row = thin.item_where(|it| it["values"].is_array());
    assert_eq!((step, row["data"]["at_ms"].as_u64().unwrap() % 2000), (Some(2000), 0));
    // A cursor of nobody: how much is missing is not known, and it goes on from now.
    let mut lost = home.follow("metrics.follow", json!({ "after": (9u64 << 40).to_string() }));
    assert_eq!(lost.item()["kind"], "missed");
    assert_eq!(lost.item()["kind"], "snapshot");
}

/// 4, for metrics: what cannot be written waits, which is said, and is written when there is room.
#[test]
fn a_full_disk_is_said_and_what_was_measured_meanwhile_is_written_when_there_is_room() {
    need!("root", "mount");
    let home = Home::new();
    fs::create_dir_all(home.state_dir().parent().unwrap()).unwrap();
    let disk = Mount::small(home.state_dir(), 12);
    let mut daemon = home.daemon();
    let has_warning = || {
        let warnings = home.call("daemon.status", json!({}))["warnings"].clone();
        warnings.as_array().unwrap().iter().any(|it| it["code"] == "history_unwritten")
    };
    disk.fill();
    eventually(DEADLINE, "it is said", has_warning);
    disk.free();
    eventually(DEADLINE, "it is written", || !has_warning());
    assert_eq!(home.call("daemon.status", json!({}))["history"]["samples_lost"], 0);
    daemon.terminate();
    daemon.start_again();
    let asked = ["metrics", "host.memory_available_bytes", "--since", "5m", "--step", "1s"];
    let lines = home.llamactl(asked).args(["--json"]).run().ok().json_lines();
    let known: Vec<bool> = lines.iter().map(|line| memory(line).is_some()).collect();
    let unknown = known.iter().filter(|known| !**known).count();
    assert!(known.len() > 10 && unknown <= 5, "{known:?}");
    drop(daemon);
}

#[test]
fn a_damaged_history_is_set_aside_and_said_and_the_daemon_goes_on() {
    let home = Home::new();
    let mut daemon = home.daemon();
    home.call("metrics.sample", json!({}));
    daemon.terminate();
    let file = home.state_dir().join("metrics.db");
    fs::write(&file, [b'x'; 9000]).unwrap();
    daemon.start_again();
    let events = || home.call("event.list", json!({ "kinds": ["metrics"] }))["items"].clone();
    eventually(DEADLINE, "it is said", || events()[0]["kind"] == "metrics.set_aside");
    let report = home.call("daemon.status", json!({}));
    assert_eq!(report["warnings"][0]["code"], "history_set_aside", "{report}");
    let aside = report["history"]["set_aside"].as_str().unwrap();
    assert_eq!(fs::read(aside).unwrap(), [b'x'; 9000]);
    let said = home.cli(["daemon", "status"]).ok().stdout();
    assert!(said.contains("another was begun"), "{said}");
    home.cli(["metrics", "host", "--since", "1m"]).ok();
    daemon.terminate();
    daemon.start_again();
    assert_eq!(home.call("daemon.status", json!({}))["warnings"], json!([]));
}
