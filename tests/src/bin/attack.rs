//! Clients of one user that do their worst: what that costs everybody else, and the daemon.
//!
//! ```text
//!   an attack ──▶ daemon ◀──── another client asks `daemon.ping` all the time: its longest wait
//!                   │          a daemon that nobody attacks ◀── the same: what the machine's load costs
//!                   ╰── polls of calls over 10 ms (`slow_calls`), the most memory it had
//! ```
//!
//! Times are only compared with those of the same seconds. What must hold on any machine fails the run:
//! no call holds a thread for 10 ms, and the daemon stays small and alive.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clap::Parser;
use llamactl_tests::{Daemon, Home, Refusal, Rpc};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The most memory that one user may bring the daemon to, in bytes.
const PEAK_BYTES: u64 = 80_000_000;

#[derive(Parser)]
struct Args {
    /// How long each attack lasts
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Print what is seen and fail on nothing: for a daemon of before
    #[arg(long)]
    only_look: bool,
    /// Only attacks with this in their name
    #[arg(long, default_value = "")]
    only: String,
}

/// What each of many connections says, over and over; `reads` what is answered.
struct Attack {
    name: &'static str,
    connections: usize,
    line: String,
    reads: bool,
}

fn request(method: &str, params: &Value) -> String {
    format!("{}\n", json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
}

fn attacks() -> Vec<Attack> {
    let attack = |name, connections, reads, method: &str, params: Value| Attack {
        name,
        connections,
        line: request(method, &params),
        reads,
    };
    let word = "c".repeat(1_000_000);
    let keys: Vec<String> = (0..60_000).map(|number| format!("key{number}")).collect();
    let names: Vec<String> = (0..110_000).map(|number| format!("n{number}")).collect();
    let numbers: Vec<u32> = vec![0; 500_000];
    vec![
        attack(
            "a key of 1 MB",
            3,
            true,
            "model.set",
            json!({ "model": "m", "set": { &*word: 1 } }),
        ),
        attack("a runtime of 1 MB", 60, true, "runtime.show", json!({ "name": word })),
        attack(
            "60,000 keys to unset",
            3,
            true,
            "model.set",
            json!({ "model": "m", "unset": keys }),
        ),
        attack(
            "the names of 110,000 to export",
            60,
            false,
            "model.export",
            json!({ "models": names }),
        ),
        attack(
            "a list of 500,000",
            40,
            false,
            "model.set",
            json!({ "model": "m", "set": { "temp": numbers } }),
        ),
        attack("rpc.discover, unread", 50, false, "rpc.discover", json!({})),
        attack("rpc.discover, read", 50, true, "rpc.discover", json!({})),
        attack("model.history, unread", 60, false, "model.history", json!({ "model": "m" })),
        attack("model.list", 50, true, "model.list", json!({ "limit": 200 })),
        attack("server.why", 50, true, "server.why", json!({ "model": "m" })),
    ]
}

fn main() {
    let args = Args::parse();
    let time = Duration::from_secs(args.seconds);
    let home = Home::with_fake_llama_server();
    let daemon = home.daemon();
    home.fake_model("m", &json!({}));
    let path = home.fake_model("other", &json!({}));
    let mut rpc = home.connect();
    for number in 0..300 {
        let name = format!("copy{number}");
        rpc.call("model.copy", json!({ "model": "other", "to": name, "path": path }));
        rpc.call(
            "model.set",
            json!({ "model": "m", "set": { "env.NOTE": format!("{number}").repeat(500) } }),
        );
    }
    drop(rpc);
    let bystander = Home::with_fake_llama_server();
    let _unharmed = bystander.daemon();
    let homes = [&home, &bystander];
    let quiet = worst_pings(homes, time, None);
    println!(
        "{:<34} {:>10} {:>10} {:>7} {:>6} {:>9}",
        "attack", "worst ping", "bystander", "ratio", "slow", "peak MB"
    );
    let mut failures = Vec::new();
    let line = |name: &str, [ping, other]: [Duration; 2]| {
        let status = home.call("daemon.status", json!({}));
        let slow = status["slow_calls"].as_u64().unwrap_or(0);
        let peak = daemon.peak_rss_bytes();
        let ratio = ping.as_secs_f64() / other.as_secs_f64();
        let [ping, other] = [ping, other].map(|ping| ping.as_secs_f64() * 1000.0);
        println!(
            "{name:<34} {ping:>7.1} ms {other:>7.1} ms {ratio:>6.1}x {slow:>6} {:>9.1}",
            mega(peak)
        );
        (slow, peak)
    };
    line("none", quiet);
    for attack in attacks().into_iter().filter(|attack| attack.name.contains(&args.only)) {
        let pings = worst_pings(homes, time, Some(&attack));
        let (slow, peak) = line(attack.name, pings);
        if slow > 0 {
            failures.push(format!("{}: calls held a thread for more than 10 ms", attack.name));
        }
        if peak > PEAK_BYTES {
            failures.push(format!("{}: the daemon took {:.1} MB", attack.name, mega(peak)));
        }
    }
    half_lines(&home, &daemon);
    let peak = daemon.peak_rss_bytes();
    println!("63 begun lines of 1 MB: peak {:.1} MB", mega(peak));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) && daemon.rss_bytes() > 20_000_000 {
        thread::sleep(Duration::from_millis(100));
    }
    println!(
        "afterwards {:.1} MB, {:.1} s later",
        mega(daemon.rss_bytes()),
        begun.elapsed().as_secs_f64()
    );
    let held = daemon.stderr().lines().filter(|line| line.contains("held everybody up")).count();
    failures.dedup();
    if held > 0 || !failures.is_empty() {
        println!("{}", daemon.stderr());
    }
    assert!(args.only_look || failures.is_empty(), "{failures:#?}");
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The longest that another client waits for an answer while it lasts: of the daemon in the first
/// home, which is attacked, and of the one in the second.
fn worst_pings(homes: [&Home; 2], time: Duration, attack: Option<&Attack>) -> [Duration; 2] {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let connections = attack.map_or(0, |attack| attack.connections);
        for _ in 0..connections {
            let (attack, over) = (attack.unwrap(), &over);
            scope.spawn(move || assail(homes[0], attack, over));
        }
        let pinging = homes.map(|home| {
            let mut rpc = home.connect();
            scope.spawn(move || {
                let (begun, mut worst) = (Instant::now(), Duration::ZERO);
                while begun.elapsed() < time {
                    let asked = Instant::now();
                    rpc.try_call("daemon.ping", json!({}))?;
                    worst = worst.max(asked.elapsed());
                    thread::sleep(Duration::from_millis(5));
                }
                Ok::<_, Refusal>(worst)
            })
        });
        let worst = pinging.map(|client| client.join().unwrap());
        over.store(true, Ordering::Relaxed);
        worst.map(|worst| worst.expect("the other client is refused"))
    })
}

/// One connection of an attack, and the next when that one is closed.
fn assail(home: &Home, attack: &Attack, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let Ok(mut rpc) = Rpc::try_connect(&home.socket()) else { return };
        rpc.set_write_timeout(Duration::from_millis(200));
        while !over.load(Ordering::Relaxed) {
            if rpc.send_bytes(attack.line.as_bytes()).is_err() {
                // It takes no more: that is as far as this one gets.
                thread::sleep(Duration::from_millis(50));
                if !attack.reads {
                    while !over.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_millis(50));
                    }
                }
                break;
            }
            if attack.reads
                && rpc.line_within(Duration::from_secs(2)).is_none_or(|line| line.is_none())
            {
                break;
            }
        }
    }
}

/// Many lines that are begun and never end.
fn half_lines(home: &Home, daemon: &Daemon) {
    let begun: Vec<_> = (0..63)
        .filter_map(|_| {
            let mut rpc = Rpc::try_connect(&home.socket()).ok()?;
            rpc.set_write_timeout(Duration::from_millis(100));
            let _ = rpc.send_bytes(&vec![b' '; (1 << 20) - 10]);
            Some(rpc)
        })
        .collect();
    println!("with {} begun lines: {:.1} MB", begun.len(), mega(daemon.rss_bytes()));
}
