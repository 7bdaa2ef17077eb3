//! Kills the daemon at random instants, again and again, under a client that starts, stops and
//! changes things and another that listens to a model; and says what did not survive.
//!
//! ```text
//!   round:  wishes ──▶ daemon ◀── SIGKILL at a random instant (or `daemon.restart`)
//!             │          ╰─ llama-servers, real ones ──▶ generation: never cut, never stalled
//!             ▼                                    ╭──▶ follower: each event exactly once
//!           ledger of what was acknowledged        │
//!             ▼                                    │
//!           the next daemon: until all is as the ledger says, and as the OS has it
//! ```
//!
//! The choices follow from the seed, which is printed; the instants are the machine's. One
//! violation ends the loop, with what was done in its round, unless it is told to go on.
//!
//! Run it from a release build: `cargo build --release --workspace --bins && target/release/kill-loop`.

// A program that tests may stop at the first surprise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod call;
mod chance;
mod figures;
mod follower;
mod generation;
mod history;
mod ledger;
mod plan;
mod round;
mod wishes;
mod world;

use clap::Parser;
use figures::Figures;
use round::Loop;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[derive(Parser)]
#[command(about = "Kills llamactld at random instants and checks what must survive")]
struct Arguments {
    /// How often to kill it.
    #[arg(long, default_value_t = 200)]
    kills: u64,
    /// What the choices follow from; another one each time if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Every how many rounds the daemon is upgraded in place instead; 0: never.
    #[arg(long, default_value_t = 20)]
    upgrade_every: u64,
    /// Go on after a violation, and count them.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) ^ now.as_secs()
    });
    println!("{} kills, seed {seed}", arguments.kills);
    let began = Instant::now();
    let figures = Figures::default();
    let mut state = Loop::begin(&figures);
    let mut round = 0;
    while figures.kills.get() < arguments.kills {
        round += 1;
        let upgrade = arguments.upgrade_every > 0 && round % arguments.upgrade_every == 0;
        let violations = state.round(seed, round, upgrade);
        if violations.is_empty() {
            continue;
        }
        figures.violations.add(violations.len() as u64);
        println!("\nround {round}, kill {}:", figures.kills.get());
        for violation in &violations {
            println!("  {violation}");
        }
        if !arguments.keep_going {
            state.print_evidence();
            break;
        }
        for line in state.lines() {
            println!("    | {line}");
        }
        if !state.recover() {
            println!("  what is wrong does not mend itself");
            state.print_evidence();
            break;
        }
    }
    println!(
        "\nthe kill loop, seed {seed}, {round} rounds in {:.0} s",
        began.elapsed().as_secs_f64()
    );
    state.print_figures();
    if figures.violations.get() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
