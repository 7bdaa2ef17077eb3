//! Mutated inputs: what a stranger's file or line says never ends the daemon and never takes it a second.
//!
//! ```text
//!   a sound input ─▶ some bytes flipped, cut, repeated, taken from another ─▶ target ─▶ under a second?
//!     gguf      the header of a model file            gguf::read_header, in this process
//!     imports   TOML, presets, pasted command lines, the old dashboard's JSON and database
//!     wire      JSON-RPC lines                        a real daemon, asked on its socket
//! ```
//!
//! Plain and deterministic, because libFuzzer wants a C++ compiler and an instrumented build of every
//! dependency for what the readers' own bounds make shallow: `--seed N` plays the same inputs again. The
//! input that fails is written to `target/fuzz-failure`.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clap::Parser;
use llamactl_tests::{Home, Rpc, TestModel, artifacts};
use llamactld::gguf::read_header;
use llamactld::transfer::{dashboard, document, pasted, preset};
use serde_json::json;
use std::fs;
use std::io::Cursor;
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
    let daemon = home.daemon();
    home.fake_model("m", &json!({}));
    let database = home.path().join("old.db");
    let mut wire = None;
    let base = Path::new("/tmp");
    let texts: Vec<Vec<u8>> = IMPORTS.iter().map(|text| text.as_bytes().to_vec()).collect();
    let mut header = fs::read(TestModel::Tiny.shared()).unwrap();
    header.truncate(64 << 10);
    let targets: Vec<Target<'_>> = vec![
        (
            "gguf",
            vec![header],
            Box::new(|input| {
                let _ = read_header(Cursor::new(input), input.len() as u64);
            }),
        ),
        (
            "imports",
            texts,
            Box::new(move |input| {
                let text = String::from_utf8_lossy(input);
                let _ = document::read(&text, base);
                let _ = preset::read(&text, None, base);
                let _ = pasted::read(&text, None, base, Some(base));
                let _ = dashboard::read_text(&text);
            }),
        ),
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

const IMPORTS: &[&str] = &[
    "# llamactl export 1\n[defaults]\nctx-size = 8192\n[runtimes.r]\npath = \"/l/llama-server\"\n\
     default = true\nenv = { X = \"1\" }\n[models.\"q:8b\"]\npath = \"/m/x.gguf\"\naliases = [\"q\"]\n\
     [models.\"q:8b\".settings]\ntemp = 0.7\napi-key = { secret = \"kept\" }\n\"env.A\" = \"1\"\n",
    "[*]\nctx-size = 4096\n[one]\nmodel = /m/x.gguf\nn-gpu-layers = 99\nLLAMA_ARG_THREADS = 4\n\
     load-on-startup = true\n",
    "CUDA_VISIBLE_DEVICES=1 nohup ./llama-server -m ~/x.gguf -c 8192 --lora \"a b\",c -ngl 99 \\\n \
     --host 0.0.0.0 --port 8080 --jinja > log.txt 2>&1 &\n",
    "{\"models\":[{\"name\":\"a\",\"path\":\"/m/a.gguf\",\"config\":{\"ctx_size\":4096}}]}",
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
