//! Logs of servers: complete, in order, across everything that happens to the daemon.

use llamactl_tests::http::Endpoint;
use llamactl_tests::wait::eventually;
use llamactl_tests::{DEADLINE, Home, TestModel};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

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
        numbers.extend(texts(&item).filter_map(flood_number));
        if numbers.last() == Some(&last) {
            break;
        }
    }
    numbers
}

fn texts(item: &Value) -> impl Iterator<Item = &str> {
    let lines = item["data"]["lines"].as_array().into_iter().flatten();
    lines.map(|line| line["text"].as_str().unwrap())
}

fn flood_number(text: &str) -> Option<u64> {
    text.strip_prefix("flood ")?.split(' ').next()?.parse().ok()
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
    let mut before = Vec::new();
    while before.last() < Some(&500) {
        let item = stream.next_item().unwrap();
        before.extend(texts(&item).filter_map(flood_number));
        cursor = item["cursor"].clone();
    }
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
    let texts: Vec<&str> = items.iter().flat_map(texts).collect();
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

#[test]
fn a_follower_lives_through_a_restart_and_the_death_of_its_daemon() {
    const LINES: u64 = 4000;
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    let flood = json!({ "flood": { "lines": LINES, "lines_per_second": 1000 } });
    home.fake_model("m", &flood);
    home.cli(["start", "m"]).ok();
    let mut logs = home.llamactl(["logs", "m", "-f"]).spawn();
    let mut metrics = home.llamactl(["metrics", "-f", "--json"]).spawn();
    metrics.json_line();
    let mut numbers = Vec::new();
    let mut up_to = |logs: &mut llamactl_tests::cli::Follower, last: u64| {
        while numbers.last() < Some(&last) {
            numbers.extend(flood_number(&logs.line().expect("it goes on")));
        }
    };
    up_to(&mut logs, 500);
    home.cli(["daemon", "restart"]).ok();
    up_to(&mut logs, 1500);
    daemon.kill();
    daemon.start_again();
    up_to(&mut logs, LINES - 1);
    assert_eq!(numbers, (0..LINES).collect::<Vec<_>>());
    // What was not measured is a gap, once for each daemon.
    for _ in 0..2 {
        metrics.line_where(|line| line.contains("\"missed\""));
        assert!(metrics.json_line()["data"]["at_ms"].is_i64());
    }
    for follower in [logs, metrics] {
        follower.signal(Signal::INT);
        follower.finish().code(130);
    }
}

#[test]
fn lines_are_asked_for_by_level_time_and_expression_and_of_several_models() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let said = |second: u64, who: &str| {
        json!({ "stderr": [
            format!("0.0{second}.000.000 I srv {who}: fine"),
            format!("0.0{}.000.000 W srv {who}: odd (one)", second + 2),
            format!("0.0{}.000.000 E srv {who}: bad", second + 4),
        ] })
    };
    home.fake_model("a", &said(1, "a"));
    home.fake_model("b", &said(2, "b"));
    home.cli(["start", "a", "b"]).ok();
    let lines = |arguments: &[&str]| -> Vec<String> {
        let lines = home.cli(["logs"].iter().chain(arguments)).ok().lines();
        lines
            .into_iter()
            .filter(|line| line.contains("srv a:") || line.contains("srv b:"))
            .collect()
    };
    let of = |name: &str, second: u64, level: char, what: &str| {
        format!("{name} │ 0.0{second}.000.000 {level} srv {name}: {what}")
    };
    // Servers that start together: their times differ by less than a second.
    assert_eq!(
        lines(&["a", "b", "--level", "warning"]),
        [
            of("a", 3, 'W', "odd (one)"),
            of("b", 4, 'W', "odd (one)"),
            of("a", 5, 'E', "bad"),
            of("b", 6, 'E', "bad")
        ]
    );
    assert_eq!(lines(&["a", "--grep", r"\(one\)|bad", "-n", "1"]), ["0.05.000.000 E srv a: bad"]);
    assert_eq!(lines(&["a", "--until", "1h", "-n", "1"]), [""; 0]);
    assert_eq!(lines(&["a", "--since", "1h", "-n", "1", "--grep", "srv a"]).len(), 1);
    let refused = home.cli(["logs", "a", "--grep", "("]).code(5).stderr();
    assert!(refused.contains("no regular expression"), "{refused}");

    let bad = home.cli(["logs", "a", "--grep", "bad", "--json"]).ok().json_lines();
    let run = home.call("server.show", json!({ "model": "a" }))["run"].clone();
    let line = &bad[0]["data"];
    assert_eq!((&line["level"], &line["model"]), (&json!("error"), &json!("a")));
    let since_start = line["at_ms"].as_i64().unwrap() - run["started_at_ms"].as_i64().unwrap();
    assert_eq!(since_start, 5000);
    // Its cursor leads behind it.
    let behind =
        json!({ "model": "a", "after": bad[0]["cursor"], "follow": false, "grep": "srv a" });
    assert_eq!(home.follow("log.follow", behind).to_end().len(), 1);
    // New lines of both are followed, each behind its model's name.
    let mut both = home.llamactl(["logs", "a", "b", "-f", "--grep", "bad|new"]).spawn();
    both.line_where(|line| line.starts_with("b │") && line.ends_with("bad"));
    home.fake_behaviour(&home.path().join("models/a.gguf"), &json!({ "stderr": ["new"] }));
    home.cli(["restart", "a"]).ok();
    both.line_where(|line| line == "a │ new");
}

#[test]
fn after_a_crash_the_run_that_crashed_comes_first() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let path = home.fake_model("m", &json!({ "stderr": ["one", "the reason"] }));
    home.cli(["start", "m"]).ok();
    let first = home.call("server.show", json!({ "model": "m" }))["run"]["pid"].clone();
    home.fake_behaviour(&path, &json!({ "stderr": ["again"] }));
    home.llama_servers()[0].signal(Signal::KILL);
    let mut states = home.follow("server.follow", json!({}));
    states.item_where(|item| {
        let text = item.to_string();
        text.contains("\"ready\"") && !text.contains(&format!("\"pid\":{first},"))
    });
    let lines = home.cli(["logs", "m"]).ok().lines();
    let place = |text: &str| lines.iter().position(|line| line == text);
    assert!(place("the reason").unwrap() < place("again").unwrap(), "{lines:?}");
    // A start by a person begins anew.
    home.cli(["restart", "m"]).ok();
    assert!(!home.cli(["logs", "m"]).ok().stdout().contains("the reason"));
}

#[test]
fn logs_are_cleared_and_the_server_writes_on() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    home.fake_model("m", &json!({ "stderr": ["old"] }));
    home.cli(["start", "m"]).ok();
    home.cli(["restart", "m"]).ok();
    let log = stderr_log(&home);
    assert!(home.cli(["logs", "clear", "m"]).ok().stdout().starts_with("cleared the logs of m: "));
    assert_eq!(home.cli(["logs", "m"]).ok().stdout(), "");
    let logs = fs::read_dir(home.state_dir().join("logs")).unwrap();
    let names: Vec<_> = logs.map(|entry| entry.unwrap().path()).collect();
    assert!(
        names.iter().all(|path| path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(log.file_name().unwrap().to_str().unwrap().split('.').next().unwrap())),
        "{names:?}"
    );
    let mut follower = home.llamactl(["logs", "m", "-f"]).spawn();
    fs::File::options().append(true).open(&log).unwrap().set_len(0).unwrap();
    use std::io::Write as _;
    fs::File::options().append(true).open(&log).unwrap().write_all(b"new\n").unwrap();
    follower.line_where(|line| line == "new");
}

#[test]
fn a_log_of_json_lines_is_read_where_it_is() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    // Without progress reports the line in its log alone tells that it listens.
    home.fake_model("m", &json!({ "progress": false, "stderr": ["past the logger"] }));
    home.cli(["model", "set", "m", "log-jsonl=true"]).ok();
    home.cli(["start", "m"]).ok();
    let lines = home.cli(["logs", "m", "--json", "--level", "info"]).ok().json_lines();
    let line =
        &lines.iter().find(|line| line.to_string().contains("listening on")).unwrap()["data"];
    assert_eq!((&line["level"], &line["stream"]), (&json!("info"), &json!("stdout")));
    assert!(line["message"].as_str().unwrap().starts_with("srv  llama_server: listening on"));
    assert!(line["text"].as_str().unwrap().starts_with('{') && line["at_ms"].is_i64(), "{line}");
    assert!(!home.cli(["logs", "m"]).ok().stdout().contains("past the logger"));
    let terminal = home.llamactl(["logs", "m", "-n", "1"]).run_at_terminal(200).ok().stdout();
    assert!(terminal.starts_with("srv  llama_server: listening on"), "{terminal}");
}

/// What the server of the home writes its log to.
fn stderr_log(home: &Home) -> PathBuf {
    fs::read_link(format!("/proc/{}/fd/2", server_pid(home))).unwrap()
}

fn server_pid(home: &Home) -> u64 {
    let servers = home.call("server.list", json!({}));
    servers["items"][0]["run"]["pid"].as_u64().unwrap()
}

/// How much disk the output takes that a process writes to, wherever it is.
fn blocks_bytes(pid: u64) -> u64 {
    fs::metadata(format!("/proc/{pid}/fd/2")).unwrap().blocks() * 512
}

/// How far a process has written.
fn written_bytes(pid: u64) -> u64 {
    fs::metadata(format!("/proc/{pid}/fd/2")).unwrap().len()
}

const MIB: u64 = 1 << 20;

#[test]
fn a_log_is_bounded_and_shown_whatever_becomes_of_its_file() {
    type Deed = fn(&Path);
    let deeds: [(&str, Deed, &str); 3] = [
        ("deleted", |log| fs::remove_file(log).unwrap(), "was deleted"),
        ("renamed", |log| fs::rename(log, log.with_extension("log.1")).unwrap(), "was moved"),
        (
            "its directory removed",
            |log| fs::remove_dir_all(log.parent().unwrap()).unwrap(),
            "was deleted",
        ),
    ];
    thread::scope(|scope| {
        for (deed, act, said) in deeds {
            scope.spawn(move || {
                let home = Home::with_fake_llama_server();
                let mut daemon = home.daemon();
                let flood = json!({
                    "lines": 1_200_000, "lines_per_second": 100_000, "line_bytes": 100,
                    "lines_per_write": 500
                });
                home.fake_model("m", &json!({ "flood": flood }));
                home.cli(["start", "m"]).ok();
                let pid = server_pid(&home);
                act(&stderr_log(&home));
                let warned = home.cli(["logs", "m", "-n", "1"]).ok();
                assert!(warned.stderr().contains(said), "{deed}: {}", warned.stderr());
                eventually(DEADLINE, "the log was longer than it may be", || {
                    written_bytes(pid) > 60 * MIB
                });
                assert!(blocks_bytes(pid) < 48 * MIB, "{deed}: {}", blocks_bytes(pid));
                // Another daemon finds it where it is.
                daemon.kill();
                daemon.start_again();
                eventually(DEADLINE, "all was written", || written_bytes(pid) >= 120_000_000);
                eventually(DEADLINE, "it is bounded", || blocks_bytes(pid) < 40 * MIB);
                let last = home.cli(["logs", "m", "-n", "1"]).ok();
                assert_eq!(flood_number(&last.stdout()), Some(1_199_999), "{deed}");
                home.cli(["stop", "m"]).ok();
                let after = home.cli(["logs", "m"]).ok();
                assert!(after.stderr().contains("is gone"), "{deed}: {}", after.stderr());
            });
        }
    });
}

#[test]
fn the_daemons_own_log_is_made_again() {
    let home = Home::with_fake_llama_server();
    home.cli(["daemon", "start"]).ok();
    let log = home.state_dir().join("log").join("llamactld.log");
    fs::remove_dir_all(log.parent().unwrap()).unwrap();
    home.fake_model("m", &json!({}));
    home.cli(["start", "m"]).ok();
    eventually(DEADLINE, "there is a log", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("server"))
    });
    home.cli(["daemon", "stop"]).ok();
}

/// A follower's account of a flood: each line is the next one, or that many bytes were missed.
fn follow_flood(home: &Home, lines: u64, line_bytes: u64) -> (u64, u64) {
    let mut stream = home.follow("log.follow", json!({ "model": "m", "grep": "^flood" }));
    let (mut next, mut seen, mut missed_bytes) = (0, 0, 0);
    // On a machine with much to do the flood may have begun before it follows.
    let (mut first, mut end) = (0, 0);
    while next < lines {
        let item = stream.next_item().expect("it goes on");
        if item["kind"] == "missed" {
            if end > 0 {
                missed_bytes += item["data"]["bytes"].as_u64().unwrap();
            }
            continue;
        }
        for line in item["data"]["lines"].as_array().unwrap() {
            let number = flood_number(line["text"].as_str().unwrap()).unwrap();
            assert!(number >= next, "{number} comes behind {next}");
            let behind = line["end"].as_u64().unwrap();
            if end > 0 {
                assert_eq!(behind - end, (number + 1 - next) * line_bytes, "{number}");
            } else {
                first = number;
            }
            (next, seen, end) = (number + 1, seen + 1, behind);
        }
    }
    let lost = lines - first - seen;
    assert!(missed_bytes >= lost * line_bytes, "{missed_bytes} for {lost}");
    // No more than was lost, but for what stood before the flood and the line at the edge.
    assert!(missed_bytes <= (lost + 1) * line_bytes + 4096, "{missed_bytes}");
    (seen, missed_bytes)
}

#[test]
fn half_a_million_lines_a_second_through_forty_rotations_are_all_there_or_counted() {
    const LINES: u64 = 2_100_000;
    const LINE_BYTES: u64 = 100;
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let flood = json!({
        "lines": LINES, "lines_per_second": 500_000, "line_bytes": LINE_BYTES,
        "lines_per_write": 500
    });
    home.fake_model("m", &json!({ "flood": flood }));
    home.cli(["start", "m"]).ok();
    let pid = server_pid(&home);
    thread::scope(|scope| {
        let followers: Vec<_> =
            (0..2).map(|_| scope.spawn(|| follow_flood(&home, LINES, LINE_BYTES))).collect();
        let mut most_bytes = 0;
        while written_bytes(pid) < LINES * LINE_BYTES {
            most_bytes = most_bytes.max(blocks_bytes(pid));
            thread::yield_now();
        }
        // What is kept, what is freed at once, and what comes between two looks.
        assert!(most_bytes < 128 * MIB, "{} MiB", most_bytes / MIB);
        for follower in followers {
            let (seen, missed_bytes) = follower.join().unwrap();
            println!("{seen} lines seen, {} MiB missed", missed_bytes / MIB);
        }
    });
    eventually(DEADLINE, "forty times four MiB are freed", || {
        written_bytes(pid) - blocks_bytes(pid) > 160 * MIB
    });
}

#[test]
fn a_hundred_followers_of_which_ten_stand_still_get_every_line() {
    const LINES: u64 = 20_000;
    let home = Home::with_fake_llama_server();
    let daemon = home.daemon();
    let flood = json!({ "lines": LINES, "lines_per_second": 10_000, "line_bytes": 200 });
    home.fake_model("m", &json!({ "flood": flood }));
    // Ten processes that are stopped, and ninety streams over nine connections.
    let arguments = ["logs", "m", "-f", "--json"];
    let still: Vec<_> = (0..10).map(|_| home.llamactl(arguments).spawn()).collect();
    let open = |_| {
        let mut connection = home.connect();
        for _ in 0..10 {
            connection.call("log.follow", json!({ "model": "m" }));
        }
        connection
    };
    let connections: Vec<_> = (0..9).map(open).collect();
    still.iter().for_each(|follower| follower.signal(Signal::STOP));
    home.cli(["start", "m"]).ok();
    thread::scope(|scope| {
        for mut connection in connections {
            scope.spawn(move || {
                let mut next = std::collections::HashMap::<u64, u64>::new();
                while next.len() < 10 || next.values().any(|next| *next < LINES) {
                    let message = connection.message();
                    let next = next
                        .entry(message["params"]["subscription"].as_u64().unwrap())
                        .or_default();
                    let item = &message["params"]["result"];
                    assert_ne!(item["kind"], "missed");
                    for number in texts(item).filter_map(flood_number) {
                        assert_eq!(number, *next);
                        *next += 1;
                    }
                }
            });
        }
    });
    assert!(daemon.peak_rss_bytes() < 120 * MIB, "{} MiB", daemon.peak_rss_bytes() / MIB);
    // Those who stood still get what they stood still for.
    for mut follower in still {
        follower.signal(Signal::CONT);
        let mut next = 0;
        while next < LINES {
            let line = follower.json_line();
            assert_ne!(line["kind"], "missed");
            if let Some(number) = line["data"]["text"].as_str().and_then(flood_number) {
                assert_eq!(number, next);
                next += 1;
            }
        }
        follower.signal(Signal::INT);
        follower.finish().code(130);
    }
}
