//! Going to the background.
//!
//! ```text
//!   llamactld --detach ── fork ─▶ waits for the word of its grandchild ─▶ exit 0, or its message
//!                           ╰─ setsid, fork ─▶ the daemon ── "ready" or why not ──▶ pipe
//! ```
//!
//! The daemonize crate is unmaintained (RUSTSEC-2025-0069). The unsoundness reported against it is
//! in `privileged_action`, which changes the type of the builder by `transmute`; nothing here
//! uses it. What is used is fork, setsid, fork and three dup2, called before any thread exists.

use daemonize::{Daemonize, Outcome};
use llamactl_protocol::{Failure, Kind};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};

/// Which of the two processes this is now.
pub enum Side {
    /// The one that was started: what the other one said.
    Parent(Result<(), Failure>),
    /// The daemon, and whom it tells when it is ready.
    Daemon(Readiness),
}

/// The readiness pipe: tells the process that waits in the foreground how the start went. Dropping it without a word
/// says that the start failed.
pub struct Readiness(Option<PipeWriter>);

impl Readiness {
    /// For a daemon in the foreground, where nobody waits.
    #[must_use]
    pub fn nobody() -> Readiness {
        Readiness(None)
    }

    /// The start went well, or failed with this.
    pub fn tell(&mut self, failure: Option<&Failure>) {
        let Some(mut pipe) = self.0.take() else { return };
        let text = match failure {
            None => READY.to_owned(),
            Some(failure) => serde_json::to_string(failure).unwrap_or_default(),
        };
        // Whoever waited may have been interrupted; the daemon does not care.
        let _ = pipe.write_all(text.as_bytes());
    }
}

const READY: &str = "ready";

/// Forks. Must be called before any thread exists.
///
/// # Errors
/// What the system refuses, in the process that was started.
pub fn detach() -> Result<Side, Failure> {
    let (read, write) = io::pipe().map_err(|error| io_failed(&error))?;
    match Daemonize::new().working_directory("/").umask(0o077).execute() {
        Outcome::Parent(Ok(_)) => {
            drop(write);
            Ok(Side::Parent(listen(read)))
        }
        Outcome::Child(Ok(_)) => Ok(Side::Daemon(Readiness(Some(write)))),
        Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => Err(Failure::new(
            Kind::IoFailed,
            format!("the daemon could not go to the background: {error}"),
        )),
    }
}

fn listen(mut read: PipeReader) -> Result<(), Failure> {
    let mut said = String::new();
    let heard = read.read_to_string(&mut said);
    match (heard, said.as_str()) {
        (Ok(_), READY) => Ok(()),
        (Ok(_), said) => Err(serde_json::from_str(said).unwrap_or_else(|_| {
            Failure::new(Kind::Internal, "the daemon ended before it was ready")
                .hint("see its log: log/llamactld.log in the state directory")
        })),
        (Err(error), _) => Err(io_failed(&error)),
    }
}

fn io_failed(error: &io::Error) -> Failure {
    Failure::new(Kind::IoFailed, format!("the daemon could not go to the background: {error}"))
}
