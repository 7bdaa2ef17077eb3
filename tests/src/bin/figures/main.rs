//! Measures what the project promises, each figure beside a floor measured in the same run.
//!
//! Absolute times say little on a shared machine; the ratio to the floor does. What is promised of them is in
//! `llamactl_tests::specification`: a part that misses a promise is measured again, and where it does each time
//! this fails. A daemon that grows with use fails too.
//!
//! Run it from a release build: `cargo build --release --workspace --bins && target/release/figures`,
//! with the name of a part for that one alone. `--write` writes what was measured into `SPECIFICATION.md`;
//! `--break NAME` makes a promise a thousand times as strict, to see it found.

// A measuring program may stop at the first surprise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
// Statistics are shown to three digits; nothing is computed from them.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod commands;
mod history;
mod latency;
mod logs;
mod processor;
mod registry;
mod rescan;
mod soak;
mod stream;
mod supervision;

use llamactl_tests::specification::{self, MEASURED, Measured, ROUNDS};
use llamactl_tests::{Daemon, Home, Remote, TestModel, artifacts};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// What is measured together: its name, and what measures it.
type Part = (&'static str, fn(&mut Measured));

/// The parts that can be asked for by name; without a name it is all of them.
const PARTS: [Part; 12] = [
    ("sizes", sizes),
    ("commands", commands::print),
    ("daemon", daemon),
    ("logs", logs),
    ("stream", stream),
    ("history", history::print),
    ("respawn", supervision::respawn),
    ("readiness", supervision::readiness),
    ("adoption", supervision::adoption),
    ("rest", supervision::rest),
    ("remote", remote),
    ("soak", soak),
];

fn main() -> ExitCode {
    let mut asked: Vec<String> = std::env::args().skip(1).collect();
    let to_write = asked.iter().position(|it| it == "--write").map(|at| asked.remove(at));
    let broken = asked.iter().position(|it| it == "--break");
    let mut measured =
        Measured::with_broken(broken.map(|at| asked.drain(at..=at + 1).next_back().unwrap()));
    for (name, part) in PARTS {
        if !asked.is_empty() && !asked.iter().any(|it| it == name) {
            continue;
        }
        let before = measured.broken().len();
        for round in 1..=ROUNDS {
            part(&mut measured);
            if measured.broken().len() <= before {
                break;
            }
            println!("\n{name}: a promise was missed in round {round} of {ROUNDS}");
        }
    }
    println!("\nwhat is promised\n{}", measured.table());
    if to_write.is_some() {
        write(&measured);
    }
    for promise in measured.broken() {
        println!("{}: {}: not as promised", promise.name, promise.what);
    }
    ExitCode::from(u8::from(!measured.broken().is_empty()))
}

/// Writes the page with what was measured.
fn write(measured: &Measured) {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = text("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let machine = format!(
        "On {} processors ({}), Linux {}.",
        std::thread::available_parallelism().unwrap(),
        model.map_or("unknown", |(_, name)| name),
        text("/proc/sys/kernel/osrelease").trim()
    );
    let page = specification::page() + &measured.markdown(&machine);
    assert!(page.contains(MEASURED));
    fs::write(artifacts::checkout().join("SPECIFICATION.md"), page).unwrap();
}

/// The daemon and its clients, apart from what it supervises.
fn daemon(measured: &mut Measured) {
    let home = Home::new();
    let model = home.model(TestModel::Tiny);
    let daemon = home.daemon();

    println!("\nmemory of the daemon (resident)");
    println!("  idle, no model               {}", resident(&daemon));
    home.call("model.add", json!({ "path": model, "name": "m" }));
    let _ = home.cli(["start", "m"]).ok();
    println!("  one model running            {}", resident(&daemon));

    println!("\none small call on an open connection, p50 (p99) of 20000, beside a bare echo");
    let echo = latency::of_echo();
    let ping = latency::of_ping(&home.socket());
    println!("  echo over a Unix socket      {echo}");
    println!("  daemon.ping                  {ping}  {:.2} x", ping.p50 / echo.p50);
    measured.note("ping-far", ping.p50 / echo.p50);
    let echo = processor::on_one(None, latency::of_echo);
    let ping = processor::on_one(Some(daemon.pid()), || latency::of_ping(&home.socket()));
    println!("  echo, on one processor       {echo}");
    println!("  daemon.ping, on the same     {ping}  {:.2} x", ping.p50 / echo.p50);
    measured.note("ping", ping.p50 / echo.p50);

    println!(
        "\na rescan of 1000 GGUF files, p50 (p90) of 50, beside reading the directories and a stat each"
    );
    let (walk, rescan) = rescan::measure();
    println!("  bare walk                    {walk}");
    println!("  scan.follow, nothing changed {rescan}  {:.2} x", rescan.p50 / walk.p50);
    measured.note("rescan", rescan.p50 / walk.p50);

    println!(
        "\n{} models with {} settings each, p50 (p90), beside the bare SQLite statements",
        registry::MODELS,
        registry::SETTINGS
    );
    let registry::Figures { bare_list, list, list_ms, servers_ms, bare_set, set } =
        registry::measure();
    println!("  SELECTs of all, page by page {bare_list}");
    println!("  model.list, all pages        {list}  {:.2} x", list.p50 / bare_list.p50);
    println!("  ... time of the daemon       {list_ms:8.1} ms");
    println!("  server.list, time of the same{servers_ms:8.1} ms");
    println!("  one transaction              {bare_set}");
    println!("  model.set of one key         {set}  {:.2} x", set.p50 / bare_set.p50);
    measured.note("model-list", list.p50 / bare_list.p50);
    measured.note("model-set", set.p50 / bare_set.p50);
    let _ = home.cli(["stop", "m"]).ok();
}

/// What it takes to follow a log.
fn logs(measured: &mut Measured) {
    println!(
        "\na line of a log to who follows it, p50 (p99) of 2000, beside a bare reader with inotify"
    );
    let logs::Figures { floor, follow, costs } = logs::measure();
    println!("  inotify and a read           {floor}");
    println!("  log.follow                   {follow}  {:.2} x", follow.p50 / floor.p50);
    measured.note("log-line", follow.p50 / floor.p50);
    println!("\nthe daemon's time for a line and follower, of a burst of 200000");
    for (followers, microseconds) in costs {
        println!("  {followers:>2} at once                   {microseconds:8.2} us");
    }
}

/// How fast a stream is.
fn stream(measured: &mut Measured) {
    let stream::Figures { floor, stream, line_bytes } = stream::measure();
    println!(
        "\n{} messages of {line_bytes} bytes to one reader, beside a program that writes each",
        stream::MESSAGES
    );
    println!("  a write each                 {floor:8.0} a second");
    println!("  a stream                     {stream:8.0} a second  {:.2} x", stream / floor);
    measured.note("stream", stream / floor);
}

/// How long a command about another machine takes once a connection is there.
fn remote(measured: &mut Measured) {
    println!(
        "\nwall time of a command through ssh, p50 (p90) of 200, over a connection that is there, beside"
    );
    println!("a command there that does nothing");
    if !Path::new(llamactl_tests::remote::SSHD).is_file() {
        println!("  no sshd on this machine");
        return;
    }
    let remote = Remote::new(Home::new());
    let _daemon = remote.far.daemon();
    let ssh = remote.near.path().join("bin/ssh");
    let control = remote.control_path();
    // The command first: it makes the connection.
    let runs = [
        (executable("llamactl"), vec!["--host", "ssh://box", "ps"]),
        (ssh, vec!["-o", &control, "-T", "box", "true"]),
    ];
    let taken = commands::measure(&remote.near, &runs);
    let (ps, floor) = (&taken[0].times, &taken[1].times);
    println!("  ssh box true                 {floor}");
    println!("  llamactl --host box ps       {ps}  {:.2} x", ps.p50 / floor.p50);
    measured.note("remote", ps.p50 / floor.p50);
}

fn sizes(measured: &mut Measured) {
    println!("sizes of the executables");
    for (promise, name) in [("size-cli", "llamactl"), ("size-daemon", "llamactld")] {
        let bytes = executable(name).metadata().unwrap().len();
        println!("  {name:<28} {}", mebibytes(bytes));
        measured.note(promise, bytes as f64 / 1e6);
    }
}

fn executable(name: &str) -> PathBuf {
    artifacts::profile_dir().join(name)
}

fn resident(daemon: &Daemon) -> String {
    let anonymous = mebibytes(daemon.anonymous_bytes());
    format!("{}, of it anonymous {anonymous}", mebibytes(daemon.rss_bytes()))
}

/// Whether anything grows with use.
fn soak(_: &mut Measured) {
    println!(
        "\n{} restarts of a server, a hundred events asked for after each tenth, fake llama-server",
        soak::RESTARTS
    );
    let looks = soak::measure();
    for (restarts, soak::Held { anonymous_bytes, descriptors, threads }) in &looks {
        println!(
            "  after {restarts:>5}                  {} anonymous, {descriptors:>3} descriptors, \
             {threads:>3} threads",
            mebibytes(*anonymous_bytes)
        );
    }
    soak::check(&looks);
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Times of many tries.
pub struct Times {
    /// The median, in microseconds.
    pub p50: f64,
    /// A high percentile, in microseconds.
    pub high: f64,
}

impl Times {
    /// The median and the percentile `high` of some times.
    fn of(mut all: Vec<Duration>, high: usize) -> Times {
        all.sort();
        let at = |percent: usize| {
            all[(all.len() * percent / 100).min(all.len() - 1)].as_secs_f64() * 1e6
        };
        Times { p50: at(50), high: at(high) }
    }

    /// In milliseconds, for what takes some.
    fn ms(&self) -> String {
        format!("{:8.2} ms ({:.2})", self.p50 / 1e3, self.high / 1e3)
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:8.1} us ({:.1})", self.p50, self.high)
    }
}
