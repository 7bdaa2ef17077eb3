//! A model in the world: its process, what is written of it, and what the daemon has in its memory.

use crate::account::Account;
use crate::process::{Luck, Ms, NEVER, Process};
use llamactld::supervisor::core::limits::Limits;
use llamactld::supervisor::core::machine::{Life, RunId};
use llamactld::supervisor::core::recovery::{LastRun, Wanted};
use llamactld::supervisor::core::restart::Mode;
use std::time::Duration;

/// A run, as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) run: RunId,
    pub(crate) last: LastRun,
    /// Which process it got; the daemon knows nothing of this number.
    pub(crate) serial: Option<u64>,
    pub(crate) ready_at: Option<Ms>,
    /// Failures in a row: before the run from its beginning on, with its own from its end on.
    pub(crate) failures: u32,
    pub(crate) restarts: u32,
    /// It ended, and nobody had asked for that.
    pub(crate) failed: bool,
}

/// What somebody may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing: there was a shutdown, or it is there on demand.
    Nothing,
    /// It gets no process.
    Rest,
    /// It runs, or failed since.
    Run {
        /// When that was accepted.
        since: Ms,
        /// Only a process made after this one will do.
        after_serial: u64,
        /// A daemon that dies forgets it: a demand.
        fragile: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) autostart: bool,

    // The machine the daemon runs on.
    pub(crate) luck: Luck,
    pub(crate) process: Option<Process>,
    /// What a wrapper left when it ended.
    pub(crate) stray: Option<Process>,

    // What is written.
    pub(crate) wanted: Option<Wanted>,
    pub(crate) last: Option<Record>,

    // The daemon's memory.
    pub(crate) life: Life,
    pub(crate) timer: Ms,
    /// The next look at `/health` that will see something new.
    pub(crate) look: Ms,
    /// When the end of the process is noticed.
    pub(crate) exit: Ms,
    /// From when on it may go in, if it is its turn.
    pub(crate) enter: Ms,
    /// When the watch for hanging began.
    pub(crate) watched_from: Ms,
    /// The process is no child of this daemon.
    pub(crate) adopted: bool,

    // What must hold.
    pub(crate) promise: Promise,
    pub(crate) account: Account,
    /// A stop under way is over by then, or stuck.
    pub(crate) stopped_by: Ms,
}

impl Model {
    pub(crate) fn new(id: i64, rng: &mut fastrand::Rng) -> Model {
        Model {
            id,
            name: id.to_string(),
            limits: any_limits(rng),
            autostart: rng.u8(0..4) == 0,
            luck: Luck::any(rng),
            process: None,
            stray: None,
            wanted: None,
            last: None,
            life: Life::default(),
            timer: NEVER,
            look: NEVER,
            exit: NEVER,
            enter: NEVER,
            watched_from: NEVER,
            adopted: false,
            promise: Promise::Rest,
            account: Account::default(),
            stopped_by: NEVER,
        }
    }

    /// The daemon died: what it had in its memory is gone.
    pub(crate) fn forget(&mut self) {
        self.life = Life::default();
        (self.timer, self.look, self.exit, self.enter) = (NEVER, NEVER, NEVER, NEVER);
        (self.watched_from, self.stopped_by) = (NEVER, NEVER);
        // Nobody is left to reap it but init.
        if self.process.as_ref().is_some_and(|process| process.ended.is_some()) {
            self.process = None;
        }
        if matches!(self.promise, Promise::Run { fragile: true, .. }) {
            self.promise = Promise::Nothing;
        }
    }
}

pub(crate) fn any_limits(rng: &mut fastrand::Rng) -> Limits {
    let seconds = |choices: &[u64], rng: &mut fastrand::Rng| {
        Duration::from_secs(choices[rng.usize(0..choices.len())])
    };
    Limits {
        restart: match rng.u8(0..8) {
            0 => Mode::Never,
            1 | 2 => Mode::Always,
            _ => Mode::OnFailure,
        },
        restart_limit: [1, 2, 3, 5, 5, 5, 8][rng.usize(0..7)],
        stall: seconds(&[1, 10, 60, 600], rng),
        hang: (rng.u8(0..6) != 0).then(|| seconds(&[5, 20, 60, 120, 120], rng)),
        drain: seconds(&[0, 5, 5, 5, 30, 300], rng),
    }
}
