//! One program of the daemon takes over from another, in the same process.
//!
//! ```text
//!   old: try the new one out ─▶ answer, end streams, close databases ─▶ exec ─╮
//!                                      pid, listener, lock, children stay      │
//!   new: --inherit=… ─▶ take the descriptors ─▶ are they what they should be? ◀╯
//! ```
//!
//! The descriptors' numbers travel in an argument: no server inherits it, and there is nothing to
//! take out of the environment again. Clients that connect meanwhile wait in the listener's queue.

use super::own_log;
use crate::os::descriptors::{close_on_exec_from, keep_on_exec};
use crate::os::signals::ignore_hang_up;
use llamactl_protocol::{Failure, Kind};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

const ARGUMENT: &str = "--inherit=";
/// How long a program may take to say which version it is.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);
/// What is read of what it says.
const MAX_SAID_BYTES: u64 = 64 << 10;

/// What one program leaves to the next: numbers of open descriptors, and which socket they serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inheritance {
    /// The socket that listens.
    pub listener: RawFd,
    /// The lock beside the socket.
    pub lock: RawFd,
    /// The lock on the state directory.
    pub state_lock: RawFd,
    /// Device and inode of the socket's node.
    pub node: (u64, u64),
    /// An order to stop that came when there was no way back: to be obeyed first of all.
    pub stop: Option<LateStop>,
}

/// An order to stop that came while the daemon was being replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateStop {
    /// Leave the servers running.
    pub keep_servers: bool,
    /// Somebody asked for it by name, so it shall stay stopped.
    pub on_purpose: bool,
}

impl Inheritance {
    fn argument(&self) -> OsString {
        let Inheritance { listener, lock, state_lock, node: (device, inode), stop } = self;
        let stop = match stop {
            None => "no",
            Some(LateStop { keep_servers: false, on_purpose: false }) => "stop",
            Some(LateStop { keep_servers: true, on_purpose: false }) => "keep",
            Some(LateStop { keep_servers: false, on_purpose: true }) => "stop-for-good",
            Some(LateStop { keep_servers: true, on_purpose: true }) => "keep-for-good",
        };
        format!("{ARGUMENT}{listener},{lock},{state_lock},{device},{inode},{stop}").into()
    }
}

impl FromStr for Inheritance {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let mut fields = text.split(',');
            let inheritance = Inheritance {
                listener: fields.next()?.parse().ok()?,
                lock: fields.next()?.parse().ok()?,
                state_lock: fields.next()?.parse().ok()?,
                node: (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?),
                stop: match fields.next()? {
                    "no" => None,
                    "stop" => Some(LateStop { keep_servers: false, on_purpose: false }),
                    "keep" => Some(LateStop { keep_servers: true, on_purpose: false }),
                    "stop-for-good" => Some(LateStop { keep_servers: false, on_purpose: true }),
                    "keep-for-good" => Some(LateStop { keep_servers: true, on_purpose: true }),
                    _ => return None,
                },
            };
            fields.next().is_none().then_some(inheritance)
        };
        read().ok_or("not what one daemon leaves to the next")
    }
}

/// The daemon's program, where it was started from: the file there may be another by now.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    /// Where it was started, which relative paths in its arguments are relative to.
    directory: Option<PathBuf>,
}

impl Program {
    /// The program this process was started from. To be asked early, before its file is replaced
    /// and before the directory is left.
    #[must_use]
    pub fn of_this_process() -> Program {
        let arguments = std::env::args_os().skip(1);
        let is_own = |argument: &OsString| !argument.as_bytes().starts_with(ARGUMENT.as_bytes());
        Program {
            path: started_from(),
            arguments: arguments.filter(is_own).collect(),
            directory: std::env::current_dir().ok(),
        }
    }

    /// Runs the file that is there now, to see whether it is a llamactld that would start with our
    /// arguments and the configuration of now; its version. Blocks, at most twice
    /// `TRIAL_LIMIT`.
    ///
    /// # Errors
    /// [`Kind::IoFailed`] with what is wrong with it; [`Kind::InvalidValue`] with what it says is
    /// wrong with the configuration.
    pub fn try_out(&self) -> Result<String, Failure> {
        let path = self.path.display();
        let refused = |kind, why: String| {
            Failure::new(kind, format!("{path} cannot take over: {why}"))
                .hint("the daemon goes on as it was; put a working llamactld there and try again")
        };
        let broken = |why| refused(Kind::IoFailed, why);
        let version = self.ask(&[OsString::from("--version")]).map_err(broken)?;
        let version = match (version.success, version.text.trim().strip_prefix("llamactld ")) {
            (true, Some(version)) => version.to_owned(),
            (true, None) => return Err(broken("it does not say that it is llamactld".to_owned())),
            (false, _) => return Err(broken(format!("--version failed: {}", version.said()))),
        };
        let mut arguments = self.arguments.clone();
        arguments.push("--check-config".into());
        let checked = self.ask(&arguments).map_err(broken)?;
        match checked.success {
            true => Ok(version),
            false => Err(refused(Kind::InvalidValue, checked.said().to_owned())),
        }
    }

    fn ask(&self, arguments: &[OsString]) -> Result<Answer, String> {
        let cannot = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => "it is not there".to_owned(),
            _ => format!("it cannot be run: {error}"),
        };
        let (read, write) = io::pipe().map_err(cannot)?;
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null());
        command.stdout(write.try_clone().map_err(cannot)?).stderr(write);
        let mut child = command.spawn().map_err(cannot)?;
        drop(command); // or our own ends of the pipe would keep it open
        let reader = thread::spawn(move || {
            let mut said = Vec::new();
            // What came until an error is what there is to show.
            let _ = read.take(MAX_SAID_BYTES).read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        let end = Instant::now() + TRIAL_LIMIT;
        let status = loop {
            match child.try_wait().map_err(cannot)? {
                Some(status) => break status,
                None if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
                None => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("no answer within {} s", TRIAL_LIMIT.as_secs()));
                }
            }
        };
        let text = reader.join().unwrap_or_default();
        Ok(Answer { success: status.success(), text, ending: status.to_string() })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if let Some(directory) = self.directory.as_ref().filter(|it| it.is_dir()) {
            command.current_dir(directory);
        }
        command
    }

    /// Replaces this process's program by the one that is there now. Where that fails after all, by
    /// the one this process runs, whose file lives on without a name. Does not return, unless
    /// neither can be executed.
    pub fn execute(&self, inheritance: &Inheritance, kept: &[BorrowedFd<'_>]) -> Failure {
        ignore_hang_up();
        // Libraries may have opened something without the mark.
        let prepared = close_on_exec_from(3).and_then(|()| kept.iter().try_for_each(keep_on_exec));
        if let Err(error) = prepared {
            tracing::error!(%error, "the listener cannot be handed on");
        }
        own_log::flush();
        let arguments = || self.arguments.iter().cloned().chain([inheritance.argument()]);
        let error = self.command().arg0(&self.path).args(arguments()).exec();
        tracing::error!(%error, path = %self.path.display(), "the new program cannot be executed");
        let error = Command::new("/proc/self/exe").arg0(&self.path).args(arguments()).exec();
        let why =
            format!("neither {} nor the old program can be executed: {error}", self.path.display());
        Failure::new(Kind::IoFailed, why)
            .hint("the servers run on: llamactl daemon start starts a daemon that takes them over")
    }
}

/// What a program answered.
struct Answer {
    success: bool,
    text: String,
    ending: String,
}

impl Answer {
    /// Why it failed: its first words, else how it ended.
    fn said(&self) -> &str {
        let first = self.text.lines().map(str::trim).find(|line| !line.is_empty());
        first.map_or(&self.ending, |line| line.trim_start_matches("llamactld: "))
    }
}

/// Where this process's executable was found: by the name it was called by, which may be a link
/// that an upgrade points elsewhere, where that leads to the file that runs.
fn started_from() -> PathBuf {
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let own = identity(Path::new("/proc/self/exe"));
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let candidates: Vec<PathBuf> = match called.components().count() {
        1 if !called.is_absolute() => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).map(|dir| dir.join(&called)).collect()
        }
        _ => vec![called],
    };
    candidates
        .iter()
        .filter_map(|path| std::path::absolute(path).ok())
        .find(|path| own.is_some() && identity(path) == own)
        .unwrap_or_else(|| without_mark(fs::read_link("/proc/self/exe").unwrap_or_default()))
}

/// The path of an executable without the kernel's mark that its file was removed.
fn without_mark(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(name) => PathBuf::from(OsString::from_vec(name.to_owned())),
        None => path,
    }
}

/// The number of a descriptor, to be written into an [`Inheritance`].
#[must_use]
pub fn number(descriptor: BorrowedFd<'_>) -> RawFd {
    descriptor.as_raw_fd()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_left_to_the_next_reads_the_same() {
        let orders = [(false, false), (false, true), (true, false), (true, true)]
            .map(|(keep_servers, on_purpose)| Some(LateStop { keep_servers, on_purpose }));
        for stop in [None].into_iter().chain(orders) {
            let left = Inheritance { listener: 7, lock: 8, state_lock: 9, node: (1, 2), stop };
            let text = left.argument().into_string().unwrap();
            assert_eq!(text.strip_prefix(ARGUMENT).unwrap().parse(), Ok(left));
        }
        for nonsense in ["", "7", "7,8,9,1,2", "7,8,9,1,2,no,4", "a,8,9,1,2,no", "7,8,9,1,2,x"] {
            assert!(nonsense.parse::<Inheritance>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn the_mark_of_a_removed_file_is_no_part_of_its_name() {
        assert_eq!(without_mark("/a/b (deleted)".into()), Path::new("/a/b"));
        assert_eq!(without_mark("/a/b".into()), Path::new("/a/b"));
    }

    fn script(text: &str) -> (tempfile::TempDir, Program) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("llamactld");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let program = Program { path, arguments: vec!["--x".into()], directory: None };
        (dir, program)
    }

    #[test]
    fn only_a_working_llamactld_passes_the_trial() {
        let (_dir, good) = script("echo llamactld 9.8.7");
        assert_eq!(good.try_out().unwrap(), "9.8.7");
        for (text, kind, why) in [
            ("exit 3", Kind::IoFailed, "--version failed: exit status: 3"),
            ("echo broken >&2; exit 1", Kind::IoFailed, "--version failed: broken"),
            ("echo llama-server 1", Kind::IoFailed, "does not say that it is llamactld"),
            (
                "[ \"$1\" = --version ] && echo llamactld 9 && exit 0; [ \"$1$2\" = \
                 --x--check-config ] && echo 'llamactld: x.toml:1: no'; exit 5",
                Kind::InvalidValue,
                "cannot take over: x.toml:1: no",
            ),
        ] {
            let (_dir, program) = script(text);
            let failure = program.try_out().unwrap_err();
            assert!(failure.kind == kind && failure.message.contains(why), "{failure:?}");
        }
        let (dir, gone) = script("");
        drop(dir);
        assert!(gone.try_out().unwrap_err().message.contains("it is not there"));
    }
}
