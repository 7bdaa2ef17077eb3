//! Servers that are to die with their daemon: `on_daemon_exit = "stop"`.
//!
//! ```text
//!   daemon ── writing end ══ pipe ══ stdin ── llama-server in child mode
//!     dies: the kernel closes it     reads the end of its stdin, and exits
//! ```
//!
//! Only builds that report their progress read their stdin (measured: gone 4 ms after the daemon
//! was killed when idle, and at the end of a load). Any other build stays, and is stopped by the
//! next daemon. A daemon that executes a new program in place takes the writing ends along.

use super::machine::RunId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether the other end is open: the server lives.
fn has_reader(writer: &PipeWriter) -> bool {
    let mut polled = [PollFd::new(writer, PollFlags::empty())];
    let asked = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    asked.is_err() || !polled.iter().any(|it| it.revents().contains(PollFlags::ERR))
}

/// The writing ends, by run.
#[derive(Debug)]
pub(super) struct Lifelines {
    wanted: bool,
    held: Mutex<HashMap<RunId, PipeWriter>>,
}

impl Lifelines {
    /// With `wanted` false no more are made: servers outlive the daemon. Those that the program
    /// before handed over are held on to either way, because their servers end with them.
    pub(super) fn new(wanted: bool, handed_over: Vec<(RunId, OwnedFd)>) -> Lifelines {
        let held = handed_over.into_iter().map(|(run, writer)| (run, writer.into())).collect();
        Lifelines { wanted, held: Mutex::new(held) }
    }

    /// A standard input for a run's process that ends when the daemon does; `None` where servers
    /// are to outlive it.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn for_run(&self, run: &RunId) -> io::Result<Option<PipeReader>> {
        if !self.wanted {
            return Ok(None);
        }
        let (reader, writer) = io::pipe()?;
        self.held().insert(run.clone(), writer);
        Ok(Some(reader))
    }

    /// The run is over.
    pub(super) fn cut(&self, run: &RunId) {
        self.held().remove(run);
    }

    /// Copies of the writing ends by run, for the program that this process executes next.
    pub(super) fn copies(&self) -> Vec<(RunId, OwnedFd)> {
        let held = self.held();
        let copy = |(run, writer): (&RunId, &PipeWriter)| {
            Some((run.clone(), writer.as_fd().try_clone_to_owned().ok()?))
        };
        held.iter().filter(|(_, writer)| has_reader(writer)).filter_map(copy).collect()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<RunId, PipeWriter>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_lives_by_is_handed_over() {
        let lifelines = Lifelines::new(true, Vec::new());
        let alive = lifelines.for_run(&"alive".to_owned()).unwrap().unwrap();
        drop(lifelines.for_run(&"dead".to_owned()).unwrap());
        let handed_over = lifelines.copies();
        let runs: Vec<&str> = handed_over.iter().map(|(run, _)| run.as_str()).collect();
        assert_eq!(runs, ["alive"]);
        // The next program makes none of its own, and keeps what is there.
        let next = Lifelines::new(false, handed_over);
        drop(lifelines);
        assert!(next.for_run(&"new".to_owned()).unwrap().is_none());
        assert_eq!(next.copies().len(), 1);
        drop(alive);
        assert!(next.copies().is_empty());
    }
}
