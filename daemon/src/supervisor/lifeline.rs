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
use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The writing ends, by run.
#[derive(Debug)]
pub(super) struct Lifelines {
    wanted: bool,
    held: Mutex<HashMap<RunId, PipeWriter>>,
}

impl Lifelines {
    /// With `wanted` false there are none: servers outlive the daemon.
    pub(super) fn new(wanted: bool) -> Lifelines {
        Lifelines { wanted, held: Mutex::default() }
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

    /// Copies of the writing ends, for the program that this process executes next.
    pub(super) fn copies(&self) -> Vec<OwnedFd> {
        self.held().values().filter_map(|writer| writer.as_fd().try_clone_to_owned().ok()).collect()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<RunId, PipeWriter>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
