//! Logs of servers: complete, in order, across everything that happens to the daemon.

use llamactl_tests::http::Endpoint;
use llamactl_tests::{Home, TestModel};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn the_log_of_a_real_server() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.cli(["model", "add", home.model(TestModel::Tiny).to_str().unwrap()]).ok();
    home.cli(["start", "tiny"]).ok();
    let log = home.cli(["logs", "tiny", "-n", "1000"]).ok();
    assert!(log.stdout().contains("listening on"), "{}", log.stdout());
    assert_eq!(
        home.cli(["logs", "tiny", "-n", "1"]).ok().lines(),
        log.lines()[log.lines().len() - 1..]
    );
    assert_eq!(home.cli(["logs", "tiny", "-n", "0"]).ok().stdout(), "");

    let mut follower = home.llamactl(["logs", "tiny", "--follow", "-n", "1"]).spawn();
    let server = home.call("server.show", json!({ "model": "tiny" }));
    follower.line().expect("the last line there was");
    let _ = Endpoint::of(&server).chat("Who are you?", 16);
    follower.line_where(|line| line.contains("eval time") || line.contains("stop processing"));
    follower.signal(Signal::INT);
    follower.finish().code(130);

    let mut lines = home.cli(["logs", "tiny", "--json", "-n", "5"]).ok().json_lines();
    lines.retain(|item| item["kind"] != "end");
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines.iter().all(|item| item["data"]["run_id"] == server["run"]["id"]), "{lines:?}");
    // The log stays when the server is gone.
    home.cli(["stop", "tiny"]).ok();
    assert!(home.cli(["logs", "tiny", "-n", "1000"]).ok().stdout().contains("listening on"));
    home.cli(["logs", "absent"]).code(3);
}

#[test]
fn a_log_goes_on_with_the_next_run() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let path = home.fake_model("m", &json!({ "stderr": ["first life"] }));
    home.cli(["start", "m"]).ok();
    let mut follower = home.llamactl(["logs", "m", "-f", "-n", "100"]).spawn();
    follower.line_where(|line| line == "first life");
    home.fake_behaviour(&path, &json!({ "stderr": ["second life"] }));
    home.cli(["restart", "m"]).ok();
    follower.line_where(|line| line == "second life");
}

/// The numbers of the `flood N` lines of a `log.follow` stream, up to `last`.
fn flood_numbers(items: &mut impl Iterator<Item = Value>, last: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    for item in items {
        assert_ne!(item["kind"], "missed", "{item}");
        let text = item["data"]["text"].as_str().unwrap_or_default();
        if let Some(number) = text.strip_prefix("flood ") {
            numbers.push(number.parse().unwrap());
            if numbers.last() == Some(&last) {
                break;
            }
        }
    }
    numbers
}

#[test]
fn a_killed_daemon_loses_no_line_and_doubles_none() {
    const LINES: u64 = 3000;
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    let flood = json!({ "flood": { "lines": LINES, "lines_per_second": 1000 } });
    home.fake_model("m", &flood);
    home.cli(["start", "m"]).ok();

    let mut stream = home.follow("log.follow", json!({ "model": "m" }));
    let mut cursor = Value::Null;
    let mut first = std::iter::from_fn(|| {
        let item = stream.next_item()?;
        cursor = item["cursor"].clone();
        Some(item)
    });
    let before = flood_numbers(&mut first, 500);
    // The server goes on writing while nobody reads.
    daemon.kill();
    daemon.start_again();
    let mut stream = home.follow("log.follow", json!({ "model": "m", "after": cursor }));
    let after = flood_numbers(&mut std::iter::from_fn(|| stream.next_item()), LINES - 1);
    let all: Vec<u64> = before.into_iter().chain(after).collect();
    assert_eq!(all, (0..LINES).collect::<Vec<_>>());
}

#[test]
fn lines_of_any_length_and_bytes_of_any_kind() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let long = "x".repeat(200_000);
    let behaviour =
        json!({ "stderr": [long], "stderr_hex": ["666f6f20ff fe20626172".replace(' ', "")] });
    home.fake_model("m", &behaviour);
    home.cli(["start", "m"]).ok();
    // JSON is text, and says what was no text.
    let mut stream = home.follow("log.follow", json!({ "model": "m", "follow": false }));
    let items = stream.to_end();
    assert_eq!(items.last().unwrap()["data"]["reason"], "done");
    let texts: Vec<&str> = items.iter().filter_map(|item| item["data"]["text"].as_str()).collect();
    assert!(texts.contains(&"foo \u{fffd}\u{fffd} bar"), "{texts:?}");
    let pieces: Vec<&str> = texts.iter().copied().filter(|text| text.starts_with("xx")).collect();
    assert!(pieces.len() > 1 && pieces.concat() == long, "{} pieces", pieces.len());
    assert!(pieces.iter().all(|piece| piece.len() <= 64 * 1024));
}

#[test]
fn what_goes_to_stdout_is_kept_apart() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    home.fake_model("m", &json!({ "stdout": ["to stdout"], "stderr": ["to stderr"] }));
    home.cli(["start", "m"]).ok();
    let stderr = home.cli(["logs", "m"]).ok().stdout();
    let stdout = home.cli(["logs", "m", "--stdout"]).ok().stdout();
    assert!(stderr.contains("to stderr") && !stderr.contains("to stdout"), "{stderr}");
    assert!(stdout.contains("to stdout") && !stdout.contains("to stderr"), "{stdout}");
}
