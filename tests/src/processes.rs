//! Processes of this machine: found by what marks them, held by a descriptor so that a number
//! used again by another process does no harm.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A process that was alive when it was looked at.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its arguments, the executable first.
    pub command: Vec<String>,
    pidfd: OwnedFd,
}

impl Process {
    /// The process of this number; `None` when there is none, or only a dead one that nobody has
    /// waited for.
    #[must_use]
    pub fn open(pid: u32) -> Option<Process> {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = command
            .split(|&byte| byte == 0)
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect();
        let process = Process { pid, command, pidfd };
        process.is_alive().then_some(process)
    }

    /// The file name of its executable.
    #[must_use]
    pub fn name(&self) -> String {
        let executable = fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
        executable.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The process that started it, or took it over.
    #[must_use]
    pub fn parent(&self) -> Option<u32> {
        // The name, in parentheses, may hold anything; the fields behind it are numbers.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    }

    /// A variable of the environment it was started with.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
        environment.split(|&byte| byte == 0).find_map(|entry| {
            let entry = String::from_utf8_lossy(entry);
            let (key, value) = entry.split_once('=')?;
            (key == name).then(|| value.to_owned())
        })
    }

    /// Whether it has not ended yet. A dead process nobody has waited for has ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.wait(Duration::ZERO)
    }

    /// Waits until it has ended; `false` when it is still there after `timeout`.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).expect("a timeout of a test fits");
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        loop {
            match poll(&mut polled, Some(&timeout)) {
                Ok(ready) => return ready == 1,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("poll: {error}"),
            }
        }
    }

    /// Sends a signal. A process that has ended gets none; one that shall stop has stopped.
    pub fn signal(&self, signal: Signal) {
        // The only failure is that it ended.
        let _ = pidfd_send_signal(&self.pidfd, signal);
        // One thread takes the signal, and until it has its turn the others go on working.
        while signal == Signal::STOP && !self.wait(Duration::from_millis(1)) && !self.has_stopped()
        {
        }
    }

    /// Whether each of its threads stands still for a signal.
    fn has_stopped(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten();
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(')').is_none_or(|(_, fields)| fields.starts_with(" T"))
        })
    }

    /// Its arguments, each ended by a NUL byte.
    #[must_use]
    pub fn command_line(&self) -> Vec<u8> {
        fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default()
    }

    /// Whether `text` is in its arguments or in the environment it was started with.
    #[must_use]
    pub fn mentions(&self, text: &[u8]) -> bool {
        ["cmdline", "environ"].iter().any(|file| {
            fs::read(format!("/proc/{}/{file}", self.pid))
                .is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text))
        })
    }
}

/// Every living process besides this one that knows the directory `home`: its path is in the
/// arguments or in the environment.
#[must_use]
pub fn of_home(home: &Path) -> Vec<Process> {
    let home = home.as_os_str().as_bytes();
    all().filter(|process| process.mentions(home)).collect()
}

/// Every living process started by the process `pid`.
#[must_use]
pub fn children_of(pid: u32) -> Vec<Process> {
    all().filter(|process| process.parent() == Some(pid)).collect()
}

fn all() -> impl Iterator<Item = Process> {
    let directories = fs::read_dir("/proc").expect("/proc is there");
    directories
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid: &u32| pid != std::process::id())
        .filter_map(Process::open)
}

/// The sockets below `dir` that somebody listens on.
#[must_use]
pub fn listening_sockets(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(listening_sockets(&path));
        } else if kind.is_socket() && UnixStream::connect(&path).is_ok() {
            found.push(path);
        }
    }
    found
}
