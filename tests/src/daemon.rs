//! A `llamactld` in the foreground.

use crate::cli::Invocation;
use crate::home::{Problems, STOP_DEADLINE};
use crate::processes::Process;
use crate::wait::remaining;
use crate::{DEADLINE, Rpc, eventually};
use rustix::process::Signal;
use std::fs::{self, File, OpenOptions};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A running daemon, or one that was stopped and can be started again. Dropping it ends it as
/// SIGTERM does, and the test fails if it does not end well.
pub struct Daemon {
    command: Invocation,
    socket: PathBuf,
    stderr: PathBuf,
    problems: Problems,
    child: Option<Child>,
}

impl Daemon {
    pub(crate) fn start(
        command: Invocation,
        socket: PathBuf,
        stderr: PathBuf,
        problems: &Problems,
    ) -> Daemon {
        let problems = problems.clone();
        let mut daemon = Daemon { command, socket, stderr, problems, child: None };
        daemon.start_again();
        daemon
    }

    /// Starts it once more, after [`Daemon::kill`] or [`Daemon::terminate`], and waits until it
    /// answers.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn start_again(&mut self) {
        self.spawn_again();
        if let Err(status) = self.until_it_answers() {
            panic!("the daemon ended with {status} instead of listening");
        }
    }

    /// Starts it once more as [`Daemon::start_again`] does, and waits for nothing.
    ///
    /// # Panics
    /// When it runs already.
    pub fn spawn_again(&mut self) {
        assert!(self.child.is_none(), "the daemon runs");
        let log = self.open_log();
        let mut command = self.command.command();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// The status it ended with instead.
    ///
    /// # Panics
    /// When it does neither in time.
    pub fn until_it_answers(&mut self) -> Result<(), ExitStatus> {
        let end = Instant::now() + DEADLINE;
        while !self.answers() {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                self.child = None;
                return Err(status);
            }
            let _ = remaining(end, "the daemon to listen");
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Whether somebody answers on the socket. That it takes connections is not enough: they wait
    /// in the kernel until the daemon is ready to serve, and to catch signals.
    fn answers(&self) -> bool {
        Rpc::try_connect(&self.socket)
            .and_then(|mut rpc| {
                rpc.send_bytes(b"{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"daemon.ping\"}\n")?;
                Ok(rpc.line_within(DEADLINE).flatten().is_some())
            })
            .unwrap_or(false)
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// Kills it without a warning and waits until it is gone. Its servers live on: the test must
    /// start a daemon again, or end them.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// When it has not ended after half a minute.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it has not ended after half a minute.
    pub fn wait(&mut self) -> ExitStatus {
        assert!(self.process().wait(STOP_DEADLINE), "the daemon did not end");
        self.child.take().expect("the daemon runs").wait().unwrap()
    }

    /// Its resident memory, in bytes.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Its memory that is of no file, in bytes.
    #[must_use]
    pub fn anonymous_bytes(&self) -> u64 {
        self.status_bytes("RssAnon:")
    }

    /// The most resident memory it ever had, in bytes.
    #[must_use]
    pub fn peak_rss_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Everything it has written to its stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    fn process(&self) -> Process {
        let pid = self.pid();
        Process::open(pid).unwrap_or_else(|| panic!("the daemon, process {pid}, has ended"))
    }

    fn open_log(&self) -> File {
        OpenOptions::new().create(true).append(true).open(&self.stderr).unwrap()
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a known field");
        let kilobytes: u64 = line.trim_end_matches("kB").trim().parse().expect("a number of kB");
        kilobytes * 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let problem = match (child.try_wait().unwrap(), Process::open(child.id())) {
            (Some(status), _) => Some(format!("the daemon had ended by itself with {status}")),
            (None, None) => None,
            (None, Some(process)) => {
                process.signal(Signal::TERM);
                if process.wait(STOP_DEADLINE) {
                    let status = child.wait().unwrap();
                    (!status.success()).then(|| format!("the daemon ended with {status}"))
                } else {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    Some("the daemon did not end on SIGTERM and was killed".to_owned())
                }
            }
        };
        self.problems.lock().unwrap().extend(problem);
    }
}

/// Waits until nothing answers on `socket` any more, as after a stop that was asked for.
///
/// # Panics
/// When something still does after the deadline.
pub fn until_gone(socket: &std::path::Path) {
    eventually(DEADLINE, "nothing answers on the socket", || UnixStream::connect(socket).is_err());
}
