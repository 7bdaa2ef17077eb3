//! Plays many histories of servers against a model of the world, and looks after every step
//! whether what must hold does.
//!
//! ```text
//!   seed ─▶ a seed per history ─▶ history: clients, processes, kills, clocks, disks
//!                                    │
//!                                    ▼
//!   the daemon's own: driver ◀─ execute ─▶ hands of the simulator ─▶ world ─▶ invariants
//!                     ledger ◀── messages, late; orders, late and only the latest
//! ```
//!
//! There is no driver here: a server's state is changed by the daemon's executor alone, which is
//! lent hands that are always ready. A history that goes wrong is played again by its seed alone,
//! and tells every step: `simulator --history SEED`.
//!
//! Random numbers come from `fastrand`: small, seeded, and the same on every machine.

// What it says is what it is for.
#![allow(clippy::print_stdout)]

mod account;
mod arbiter;
mod asks;
mod counts;
mod ending;
mod hands;
mod history;
mod invariants;
mod model;
mod planted;
mod process;
mod recovery;
mod registry;
mod task;
mod world;

use clap::{Parser, ValueEnum as _};
use counts::Counts;
use planted::Bug;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Play histories of servers against a model of the world
#[derive(Parser)]
#[command(name = "simulator")]
struct Args {
    /// How many histories
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    histories: u64,

    /// Where the randomness comes from; a random one by itself
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// How much happens in a history before it is left to come to rest
    #[arg(long, default_value_t = 60, value_name = "N")]
    steps: u32,

    /// Plant a bug
    #[arg(long, value_enum, value_name = "NAME")]
    plant: Option<Bug>,

    /// Play one history by its own seed, and tell every step
    #[arg(long, value_name = "SEED")]
    history: Option<u64>,

    /// Plant each bug in turn, and fail unless each is caught
    #[arg(long)]
    check_plants: bool,
}

/// Each planted bug is caught within so many histories.
const HISTORIES_PER_PLANT: u64 = 100_000;

/// A history that went wrong.
struct Wrong {
    index: u64,
    seed: u64,
    violation: history::Violation,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(seed) = args.history {
        let (_, outcome) = history::play(seed, args.steps, args.plant, true);
        return match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(violation) => {
                println!("step {}: {}", violation.step, violation.what);
                ExitCode::FAILURE
            }
        };
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    if args.check_plants {
        return check_plants(seed, args.steps);
    }
    let began = Instant::now();
    let (counts, wrong) = play_all(seed, args.histories, args.steps, args.plant);
    if let Some(wrong) = wrong {
        println!("{}", told(&wrong, args.plant, args.steps));
        return ExitCode::FAILURE;
    }
    println!(
        "{} histories in {:.1} s, all as they must be",
        args.histories,
        began.elapsed().as_secs_f64()
    );
    println!("{counts}");
    ExitCode::SUCCESS
}

fn told(wrong: &Wrong, plant: Option<Bug>, steps: u32) -> String {
    let Wrong { seed, violation, .. } = wrong;
    let plant = plant.map(|bug| format!(" --plant {}", bug.name())).unwrap_or_default();
    format!(
        "history {seed}, step {}: {}\nevery step: simulator{plant} --steps {steps} --history {seed}",
        violation.step, violation.what
    )
}

fn check_plants(seed: u64, steps: u32) -> ExitCode {
    let mut missed = 0;
    for bug in Bug::value_variants() {
        match play_all(seed, HISTORIES_PER_PLANT, steps, Some(*bug)).1 {
            Some(Wrong { index, violation, .. }) => {
                println!("{:<24} caught in history {index}: {}", bug.name(), violation.what);
            }
            None => {
                println!("{:<24} NOT CAUGHT in {HISTORIES_PER_PLANT} histories", bug.name());
                missed += 1;
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays the histories of a seed on all processors; the first that goes wrong, if one does.
fn play_all(seed: u64, histories: u64, steps: u32, bug: Option<Bug>) -> (Counts, Option<Wrong>) {
    let end = AtomicU64::new(histories);
    let next = AtomicU64::new(0);
    let results = Mutex::new((Counts::default(), None::<Wrong>));
    let work = || {
        let mut counts = Counts::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= end.load(Ordering::Relaxed) {
                break;
            }
            let own = seed_of(seed, index);
            let (played, outcome) = history::play(own, steps, bug, false);
            counts.add(&played);
            if let Err(violation) = outcome {
                // Those before it are still played, so the answer is the same every time.
                end.fetch_min(index, Ordering::Relaxed);
                let mut results = lock(&results);
                if results.1.as_ref().is_none_or(|wrong| wrong.index > index) {
                    results.1 = Some(Wrong { index, seed: own, violation });
                }
            }
        }
        lock(&results).0.add(&counts);
    };
    std::thread::scope(|scope| {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..count {
            scope.spawn(work);
        }
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A history's own seed.
fn seed_of(seed: u64, index: u64) -> u64 {
    fastrand::Rng::with_seed(seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..)
}
