//! The process of a run: made, or found again.

use super::command_line::{self, CommandLine, MARKER, PROGRESS_VARIABLE};
use super::core::driver::of_verdict;
use super::core::restart::Curable;
use super::plan::NotMade;
use crate::clock::now_ms;
use crate::logs::classify::{Exit, Retry, classify_spawn_error};
use crate::logs::file::{RunLog, Stream};
use crate::os::process::{self, Pidfd, ProcessId, Signal};
use crate::os::stdin::{self_held_pipe, write_to};
use crate::store::registry::{RunRecord, Secrets};
use llamactl_protocol::cause::CauseCode;
use llamactl_protocol::{Failure, Kind, WirePath};
use std::fs::File;
use std::io::{self, PipeReader};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A process we look after: our child, or one an earlier daemon started.
#[derive(Debug)]
pub(super) struct Process {
    id: ProcessId,
    pidfd: Pidfd,
    /// It prints its progress, and reads its stdin.
    reports_progress: bool,
}

/// Where a process writes.
#[derive(Debug)]
pub(super) struct Output {
    stdout: File,
    stderr: File,
}

impl Output {
    /// Makes the log files of a run.
    ///
    /// # Errors
    /// Why they cannot be made.
    pub(super) async fn create(log: RunLog) -> Result<Output, NotMade> {
        let create = move || {
            let create = |stream| {
                log.create(stream).map_err(|error| {
                    let path = log.path(stream);
                    let message = format!("its log {} cannot be made: {error}", path.display());
                    NotMade::by_failure(&Failure::new(Kind::IoFailed, message))
                })
            };
            Ok(Output { stdout: create(Stream::Stdout)?, stderr: create(Stream::Stderr)? })
        };
        match tokio::task::spawn_blocking(create).await {
            Ok(output) => output,
            Err(error) => {
                Err(NotMade::by_failure(&Failure::new(Kind::Internal, error.to_string())))
            }
        }
    }
}

/// How long the status of an adopted process is asked for after its end: its new parent may take
/// that long to reap it.
const STRANGER_STATUS_WAIT: Duration = Duration::from_millis(700);

impl Process {
    /// Makes the process of a run. Its output goes to the run's log files, so that neither a slow
    /// daemon nor a dead one can block it.
    ///
    /// # Errors
    /// As the system says; nothing is left running then.
    pub(super) async fn spawn(
        line: &CommandLine,
        secrets: Secrets,
        marker: String,
        output: Output,
        reports_progress: bool,
        lifeline: io::Result<Option<PipeReader>>,
    ) -> io::Result<Process> {
        let line = line.clone();
        // Opening files and exec can take long on a slow disk.
        let child = tokio::task::spawn_blocking(move || {
            let (executable, arguments) =
                line.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            // With progress lines on, a build reads commands from stdin and takes its end for an
            // order to exit: this stdin never ends, or with the daemon. Others get none.
            let stdin = match (reports_progress, lifeline?) {
                (true, Some(lifeline)) => Stdio::from(lifeline),
                (true, None) => Stdio::from(self_held_pipe().map_err(|error| {
                    io::Error::other(format!("its input cannot be made in /proc: {error}"))
                })?),
                (false, _) => Stdio::null(),
            };
            let variables = line
                .variables(|id| secrets.read(id))
                .map_err(|failure| io::Error::other(failure.message))?;
            Command::new(executable.as_path())
                .args(arguments.iter().map(|argument| argument.as_path().as_os_str()))
                .env_clear()
                .envs(command_line::inherited(std::env::vars_os()))
                .envs(&variables)
                .env(MARKER, marker)
                .current_dir("/")
                .stdin(stdin)
                .stdout(output.stdout)
                .stderr(output.stderr)
                // Its own group: Ctrl-C at our terminal is not for it, and a kill reaches all of it.
                .process_group(0)
                .spawn()
        })
        .await
        .map_err(io::Error::other)??;
        Process::of_child(child, reports_progress)
    }

    fn of_child(mut child: Child, reports_progress: bool) -> io::Result<Process> {
        let pid = child.id().cast_signed();
        // Not reaped yet, so the pid is its own even if it has ended already.
        let opened = Pidfd::open(pid);
        match (ProcessId::of(pid), opened) {
            (Some(id), Ok(pidfd)) => {
                // Reaped by its handle, as those are that an earlier program of this process made.
                Ok(Process { id, pidfd, reports_progress })
            }
            (_, opened) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(opened.err().unwrap_or_else(|| io::Error::other("/proc does not tell of it")))
            }
        }
    }

    /// Takes over a process that [`find_process`] found; `None` when it has gone meanwhile.
    pub(super) fn adopt(id: ProcessId, run: &RunRecord) -> Option<Process> {
        let pidfd = id.open().ok().flatten()?;
        let reports_progress = run.environment.contains_key(PROGRESS_VARIABLE);
        Some(Process { id, pidfd, reports_progress })
    }

    pub(super) fn id(&self) -> ProcessId {
        self.id
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        match self.pidfd.signal(Signal::TERM) {
            Ok(true) => {}
            // Gone: from here on its number may be another's.
            Ok(false) => return,
            Err(error) => tracing::warn!(pid = self.id.pid, %error, "could not send TERM"),
        }
        // A build that reports progress has a thread waiting at its stdin, and at a TERM waits for
        // that thread, for ever (measured: 3 of 3 idle ones needed a second TERM, none with this
        // line). The line alone does not end a busy one, so the signal still leads.
        if self.reports_progress
            && let Err(error) = write_to(self.id.pid, b"cmd_router_to_child:exit\n")
        {
            tracing::debug!(pid = self.id.pid, %error, "could not release a server's stdin");
        }
    }

    /// Kills it and everything in its group.
    pub(super) fn kill(&self) {
        let killed = self.pidfd.signal(Signal::KILL).and_then(|there| match there {
            true => process::signal_group(self.id.pid, Signal::KILL),
            false => Ok(false),
        });
        if let Err(error) = killed {
            tracing::warn!(pid = self.id.pid, %error, "could not send KILL");
        }
    }

    /// Waits for its end. May be dropped and called again.
    pub(super) async fn exited(&self) {
        if let Err(error) = self.pidfd.exited().await {
            tracing::error!(pid = self.id.pid, %error, "cannot wait for a process");
            // Nothing will ever be seen of it; the stop ladder still ends in KILL.
            std::future::pending::<()>().await;
        }
    }

    /// Takes leave of a process that has [`Process::exited`]: kills what is left of our child's
    /// group, reaps it, and says how it ended. Ours is also what this process started before it
    /// executed another program in place. Any other was reaped by its parent, so its group's number
    /// may be another's already and is left alone.
    pub(super) async fn reap(self) -> Exit {
        if self.pidfd.child_status(false).is_none() {
            return self.stranger_status().await;
        }
        // Before the reaping, while its zombie keeps the number from being given away.
        let _ = process::signal_group(self.id.pid, Signal::KILL);
        self.pidfd.child_status(true).map_or(Exit::Unknown, exit_of)
    }

    async fn stranger_status(&self) -> Exit {
        let ask = async {
            loop {
                if let Some(status) = process::exit_status_of_stranger(&self.pidfd) {
                    return exit_of(status);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(STRANGER_STATUS_WAIT, ask).await.unwrap_or(Exit::Unknown)
    }
}

/// The process of a run that an earlier daemon started, if it is still there for certain: same
/// boot, same pid with the same start time, the run's own marker in its environment, and the same
/// executable as when it was ready (which may have been replaced or removed since). Blocks.
pub(super) fn find_process(run: &RunRecord, marker: &str) -> Option<ProcessId> {
    let is_marked = |id: &ProcessId| {
        let executes = process::executable(id.pid).map(WirePath);
        let is_another = run.executable.as_ref().zip(executes).is_some_and(|(was, is)| *was != is);
        process::environ_has(id.pid, MARKER, marker) == Some(true) && !is_another
    };
    match (run.pid, run.start_ticks) {
        (Some(pid), Some(start_ticks)) if process::boot_id().ok() == run.boot_id => {
            let id = ProcessId { pid: pid.cast_signed(), start_ticks };
            (id.is_alive() && is_marked(&id)).then_some(id)
        }
        (Some(_), _) => None,
        // The daemon died between making the process and writing it down.
        (None, _) => process::all().find(is_marked),
    }
}

/// Why the system did not make a process.
pub(super) fn not_made(error: &io::Error) -> NotMade {
    let mut verdict = classify_spawn_error(error.raw_os_error());
    if verdict.code == CauseCode::SpawnFailed {
        verdict.message = format!("llama-server could not be started: {error}.");
    }
    let curable = if verdict.retry == Retry::No { Curable::No } else { Curable::Yes };
    NotMade { cause: Box::new(of_verdict(verdict, Exit::Unknown, now_ms())), curable }
}

/// How it ended, in our words.
pub(super) fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

/// A run's marker.
pub(super) fn marker(registry_id: &uuid::Uuid, run_id: &str) -> String {
    format!("{registry_id}/{run_id}")
}

/// The living processes that bear a marker beginning so, with what follows in it. Blocks.
pub(super) fn marked(beginning: &str) -> Vec<(ProcessId, String)> {
    process::all()
        .filter_map(|id| {
            let marker = process::environ_value(id.pid, MARKER)?;
            let rest = marker.strip_prefix(beginning)?.to_owned();
            id.is_alive().then_some((id, rest))
        })
        .collect()
}
