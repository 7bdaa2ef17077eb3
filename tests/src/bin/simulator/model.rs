//! A model in the world: what is written of it, its process, the task that looks after it, and what
//! somebody may rely on.

use crate::account::Account;
use crate::process::{Luck, Ms, Process};
use crate::registry::{Registry, any_settings};
use crate::task::Task;
use llamactld::supervisor::core::driver::Explanation;
use llamactld::supervisor::core::machine::RunId;

/// What somebody may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing: there was a shutdown, or a refusal.
    Nothing,
    /// It gets no process.
    Rest,
    /// It runs, or failed since.
    Run {
        /// When that was accepted.
        since: Ms,
        /// Only a process made after this one will do.
        after_serial: u32,
    },
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) id: i64,
    pub(crate) on_tcp: bool,

    // The machine the daemon runs on.
    pub(crate) luck: Luck,
    pub(crate) process: Option<Process>,
    /// What a wrapper left when it ended, or a process that no record tells of.
    pub(crate) stray: Option<Process>,

    // What is written.
    pub(crate) registry: Registry,
    /// The boot in which it was written what is desired.
    pub(crate) desired_in_boot: u64,
    /// The disk was full when something of the last run was to be written.
    pub(crate) unwritten: bool,

    // The daemon's memory.
    pub(crate) task: Option<Task>,

    // What must hold.
    pub(crate) promise: Promise,
    /// The promise holds for as long as this daemon lives: it is not on disk.
    pub(crate) fragile: bool,
    pub(crate) account: Account,
    /// How the last process ended, by its run, as it can be found out.
    pub(crate) ended: Option<(RunId, Explanation)>,
}

impl Model {
    pub(crate) fn new(id: i64, rng: &mut fastrand::Rng) -> Model {
        Model {
            id,
            on_tcp: rng.bool(),
            luck: Luck::any(rng),
            process: None,
            stray: None,
            registry: Registry::new(id, any_settings(rng)),
            desired_in_boot: 0,
            unwritten: false,
            task: None,
            promise: Promise::Rest,
            fragile: false,
            account: Account::default(),
            ended: None,
        }
    }

    /// The daemon died: what it had in its memory is gone.
    pub(crate) fn forget(&mut self) {
        self.task = None;
        // Nobody is left to reap it but init.
        if self.process.as_ref().is_some_and(|process| process.ended.is_some()) {
            self.process = None;
        }
        if std::mem::take(&mut self.fragile) {
            self.promise = Promise::Nothing;
        }
    }
}
