//! Mutated inputs to a real daemon: what a stranger sends never ends it and never takes it a second.
//!
//! ```text
//!   a sound input ─▶ some bytes flipped, cut, repeated, taken from another ─▶ target ─▶ under a second?
//!     wire       JSON-RPC lines
//!     exporter   requests for the metrics, by HTTP
//!     database   the old dashboard's, read in this process
//! ```
//!
//! Plain and deterministic: `--seed N` plays the same inputs again. What only reads bytes is searched
//! with libFuzzer instead, by coverage: `fuzz/`. The input that fails is written to
//! `target/fuzz-failure`.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clap::Parser;
use llamactl_tests::{DEADLINE, Home, Rpc, artifacts, eventually};
use llamactld::transfer::dashboard;
use serde_json::json;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// No input may take longer.
const LIMIT: Duration = Duration::from_secs(1);

#[derive(Parser)]
struct Args {
    /// How long to go on, all targets together
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where to begin
    #[arg(long)]
    seed: Option<u64>,
}

/// One kind of input: its name, sound ones, and what is done with a mutated one.
type Target<'a> = (&'a str, Vec<Vec<u8>>, Box<dyn FnMut(&[u8]) + 'a>);

fn main() {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let home = Home::with_fake_llama_server();
    let exporter = home.path().join("metrics.sock");
    home.configure(&format!("[metrics]\nlisten = {exporter:?}\n"));
    let daemon = home.daemon();
    // It listens a moment after the daemon answers.
    eventually(DEADLINE, "the metrics can be read", || exporter.exists());
    home.fake_model("m", &json!({}));
    let database = home.path().join("old.db");
    let mut wire = None;
    let targets: Vec<Target<'_>> = vec![
        (
            "database",
            vec![dashboard_database(&home)],
            Box::new(|input| {
                fs::write(&database, input).unwrap();
                let _ = dashboard::read(&database);
            }),
        ),
        (
            "wire",
            LINES.iter().map(|line| line.as_bytes().to_vec()).collect(),
            Box::new(|input| {
                ask(&mut wire, &home, input);
            }),
        ),
        (
            "exporter",
            REQUESTS.iter().map(|request| request.as_bytes().to_vec()).collect(),
            Box::new(|input| read_metrics(&exporter, input)),
        ),
    ];
    let each = Duration::from_secs(args.seconds) / u32::try_from(targets.len()).unwrap();
    for (name, sound, mut target) in targets {
        let mut random = fastrand::Rng::with_seed(seed);
        let (begun, mut count, mut longest) = (Instant::now(), 0_u64, Duration::ZERO);
        while begun.elapsed() < each {
            let input = mutated(&sound, &mut random);
            let at = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| target(&input)));
            let took = at.elapsed();
            longest = longest.max(took);
            count += 1;
            if outcome.is_err() || took > LIMIT {
                let kept = artifacts::target_dir().join("fuzz-failure");
                fs::write(&kept, &input).unwrap();
                panic!("{name}: input {count} of seed {seed} took {took:?}: {}", kept.display());
            }
        }
        println!("{name}: {count} inputs, the longest took {} ms", longest.as_millis());
    }
    let status = home.call("daemon.status", json!({}));
    assert_eq!(status["pid"], daemon.pid(), "the daemon lives");
}

/// Sends a line to the daemon and waits until it has dealt with it.
fn ask(wire: &mut Option<Rpc>, home: &Home, line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    // What is meant to end the daemon, or to look through the disk.
    if ["daemon.", "scan", "\n"].iter().any(|word| text.contains(word)) {
        return;
    }
    let rpc = wire.get_or_insert_with(|| home.connect());
    let is_gone = rpc.send_bytes(line).and_then(|()| rpc.send_bytes(b"\n")).is_err();
    let ping = "{\"jsonrpc\":\"2.0\",\"id\":\"ping\",\"method\":\"model.list\",\"params\":{}}\n";
    if is_gone || rpc.send_bytes(ping.as_bytes()).is_err() {
        *wire = None;
        return;
    }
    loop {
        match rpc.line() {
            Some(line) if line.contains("\"id\":\"ping\"") => return,
            Some(_) => {}
            // It closes on who does not speak its language.
            None => return *wire = None,
        }
    }
}

/// Sends a request for the metrics, and reads what is said to it.
fn read_metrics(exporter: &Path, request: &[u8]) {
    let mut stream = UnixStream::connect(exporter).unwrap();
    // It may close before it has read everything.
    let _ = stream.write_all(request);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// A sound input with a few things done to it.
fn mutated(sound: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = random.choice(sound).unwrap().clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=input.len());
        let end = (at + random.usize(0..64)).min(input.len());
        match random.u8(0..7) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 => input.insert(at, random.u8(..)),
            3 => input.get_mut(at..end).into_iter().flatten().for_each(|it| *it = random.u8(..)),
            4 => input.get_mut(at..end).into_iter().flatten().for_each(|it| *it = 0xff),
            5 => {
                let piece = input[at..end].to_vec();
                let again = random.usize(1..200);
                drop(input.splice(at..at, piece.repeat(again)));
            }
            _ => {
                let other = random.choice(sound).unwrap();
                let from = random.usize(0..=other.len());
                drop(input.splice(at.., other[from..].iter().copied()));
            }
        }
    }
    input.truncate(256 << 10);
    input
}

/// A database as the old dashboard kept it.
fn dashboard_database(home: &Home) -> Vec<u8> {
    let path = home.path().join("sound.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT, path TEXT, config TEXT);
             INSERT INTO models VALUES (1, 'a', '/m/a.gguf', '{\"ctx_size\":4096}');
             INSERT INTO models VALUES (2, 'b', '/m/b.gguf', '{\"temperature\":0.5}');",
        )
        .unwrap();
    drop(database);
    fs::read(path).unwrap()
}

const REQUESTS: &[&str] = &[
    "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n",
    "HEAD / HTTP/1.0\r\n\r\n",
    "POST /metrics HTTP/1.1\r\nHost: [::1]:9750\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 18446744073709551615\r\nExpect: 100-continue\r\n\r\n",
];

const LINES: &[&str] = &[
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"model.show\",\"params\":{\"model\":\"m\",\"resolved\":true}}",
    "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"model.set\",\"params\":{\"model\":\"m\",\"set\":{\"temp\":0.5,\
     \"ctx-size\":512,\"env.A\":{\"secret_text\":\"x\"}},\"unset\":[\"c\"],\"if_revision\":1}}",
    "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"model.import\",\"params\":{\"source\":{\"text\":\"[models.x]\"},\
     \"dry_run\":true}}",
    "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"event.list\",\"params\":{\"model\":\"m\",\"kinds\":[\"a\"]}}",
    "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"runtime.add\",\"params\":{\"path\":\"/x\",\"name\":\"b\",\
     \"environment\":{\"X\":\"1\"}}}",
    "{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"server.follow\",\"params\":{\"model\":\"m\"}}",
    "[{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"model.list\"},{\"jsonrpc\":\"2.0\",\"method\":\"model.list\"}]",
    "{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"model.alias\",\"params\":{\"model\":\"m\",\"add\":[\"a\"]}}",
];
