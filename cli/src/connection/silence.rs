//! A daemon that does not answer: how long it is waited for, which process it is, what to do.
//!
//! ```text
//!   1 s ─▶ "waiting for the daemon (pid N)" ─▶ the limit ─▶ a failure with the commands that help
//! ```

use super::at_once::before_a_runtime;
use super::{PAUSE, Place};
use crate::output::{awaited, units};
use llamactl_protocol::{Failure, Hint, Kind, place};
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

/// How long a daemon may take to say hello. It does nothing for it, so a daemon that does not
/// answer by then hangs.
const LIMIT: Duration = Duration::from_secs(15);
/// How long it is waited for without a word.
const NOTICE: Duration = Duration::from_secs(1);

/// Who is told that the daemon is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nobody.
    #[default]
    Nobody,
    /// A person who looks at stderr, for as long as it lasts.
    Terminal,
    /// Whoever reads stderr: the command is about the daemon.
    Everybody,
}

/// How long a daemon is waited for that does not answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    /// For how long; absent: for the usual time.
    limit: Option<Duration>,
    /// From when the limit counts; absent: from each wait.
    since: Option<Instant>,
    /// How the command fails that waited in vain.
    kind: Kind,
    told: Told,
}

impl Silence {
    /// That of a command that needs the daemon for something else.
    pub(crate) fn usual(told: Told) -> Silence {
        Silence { limit: None, since: None, kind: Kind::DaemonUnreachable, told }
    }

    /// That of a command about the daemon, whose waits count together.
    pub(super) fn of_daemon_command(self, limit: Option<Duration>, kind: Kind) -> Silence {
        let told = if self.told == Told::Nobody { Told::Nobody } else { Told::Everybody };
        Silence { limit, since: Some(Instant::now()), kind, told }
    }

    /// The same with another limit than the usual, unless one was given.
    pub(super) fn or(self, usual: Duration) -> Silence {
        Silence { limit: self.limit.or(Some(usual)), ..self }
    }

    fn limit(&self) -> Duration {
        self.limit.unwrap_or(LIMIT)
    }

    /// When the present wait is over.
    pub(super) fn end(&self) -> Instant {
        self.since.unwrap_or_else(Instant::now) + self.limit()
    }

    /// Waits for the daemon to do something.
    ///
    /// # Errors
    /// That it does not answer.
    pub(super) async fn wait<T>(
        &self,
        listener: &Listener,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut work = pin!(work);
        if let Some(done) = before_a_runtime(work.as_mut()).await {
            return Ok(done);
        }
        let end = self.end();
        let left = || end.saturating_duration_since(Instant::now());
        if let Ok(done) = timeout(NOTICE.min(left()), &mut work).await {
            return Ok(done);
        }
        let notice = (self.told != Told::Nobody && !left().is_zero()).then(|| {
            let who = listener.process().map(|it| format!(" (pid {})", it.pid));
            let what = format!("waiting for the daemon{}", who.unwrap_or_default());
            awaited(&what, self.told == Told::Everybody)
        });
        let done = timeout(left(), work).await;
        drop(notice);
        done.map_err(|_| self.in_vain(listener))
    }

    /// Waits for an answer that may take long for this reason, as long as it takes.
    pub(super) async fn told_if_long<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Some(done) = before_a_runtime(work.as_mut()).await {
            return done;
        }
        if let Ok(done) = timeout(NOTICE, &mut work).await {
            return done;
        }
        let told = (self.told != Told::Nobody).then(|| awaited(what, self.told == Told::Everybody));
        let done = work.await;
        drop(told);
        done
    }

    /// Connects; a full accept queue is waited for.
    ///
    /// # Errors
    /// As the system says; [`io::ErrorKind::WouldBlock`] where the queue stayed full.
    pub(super) async fn connect(&self, path: &Path) -> io::Result<UnixStream> {
        let is_full = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        match UnixStream::connect(path).await {
            Err(error) if is_full(&error) => {}
            result => return result,
        }
        let drained = async {
            loop {
                match UnixStream::connect(path).await {
                    Err(error) if is_full(&error) => sleep(PAUSE).await,
                    result => return result,
                }
            }
        };
        let drained = self.wait(&Listener::at(path), drained).await;
        drained.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
    }

    /// The daemon that listens there was waited for in vain.
    pub(super) fn in_vain(&self, listener: &Listener) -> Failure {
        let process = listener.process();
        let who = match &process {
            Some(process) => format!("(pid {})", process.pid),
            None => listener.place.to_string(),
        };
        let suspended = process.as_ref().is_some_and(|process| process.is_suspended);
        let why = if suspended { "; it is stopped (SIGSTOP)" } else { "" };
        let limit = units::duration(u64::try_from(self.limit().as_millis()).unwrap_or(u64::MAX));
        let message = format!("the daemon {who} has not answered for {limit}{why}");
        let failure = Failure::new(self.kind, message);
        let Some(process) = process else {
            return failure.hint("it may hang or be suspended; its servers are not affected");
        };
        let failure = failure.details(json!({ "pid": process.pid }));
        let failure = match suspended {
            true => failure.hint(Hint::run("let it go on", process.kill("-CONT"))),
            false => failure,
        };
        let end = "end it; its servers stay, unless on_daemon_exit = \"stop\"";
        failure.hint(Hint::run(end, process.kill("-9")))
    }
}

/// Who takes connections at a socket.
pub(super) struct Listener {
    pub(super) place: Place,
    /// The process that began to listen, as the kernel says; another one may have the socket now.
    pub(super) peer: Option<i32>,
}

impl Listener {
    /// Whoever listens at a path.
    pub(super) fn at(path: &Path) -> Listener {
        Listener { place: Place::Here(path.to_owned()), peer: None }
    }

    /// The daemon's process: the kernel says it, or else the lock beside the socket.
    fn process(&self) -> Option<Process> {
        let Place::Here(socket) = &self.place else { return None };
        let lock = || fs::read_to_string(place::lock_of(socket)).ok()?.trim().parse().ok();
        self.peer.and_then(Process::of_daemon).or_else(|| Process::of_daemon(lock()?))
    }
}

/// A process that is a llamactld.
struct Process {
    pid: i32,
    /// Somebody suspended it.
    is_suspended: bool,
    is_ours: bool,
}

impl Process {
    fn of_daemon(pid: i32) -> Option<Process> {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let arguments = fs::read(dir.join("cmdline")).ok()?;
        let program = OsStr::from_bytes(arguments.split(|byte| *byte == 0).next()?);
        if Path::new(program).file_name()? != "llamactld" {
            return None;
        }
        // `pid (name) state …`, and the name may hold anything.
        let stat = fs::read_to_string(dir.join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        let uid = rustix::process::geteuid().as_raw();
        let is_ours = uid == 0 || fs::metadata(dir).is_ok_and(|dir| dir.uid() == uid);
        Some(Process { pid, is_suspended: state == Some('T'), is_ours })
    }

    /// The command that sends it a signal.
    fn kill(&self, signal: &str) -> Vec<String> {
        let sudo = (!self.is_ours).then_some("sudo");
        let pid = self.pid.to_string();
        sudo.into_iter().chain(["kill", signal, &pid]).map(str::to_owned).collect()
    }
}
