//! The daemon's program: what lies where it was started from, tried out and executed in place.
//!
//! ```text
//!   --version ─▶ --check-config ─▶ --check-state DIR ─▶ answer, end streams, close databases ─▶ exec
//!       ╰──────────────┴────────────────┴─▶ refused: the daemon goes on as it was
//! ```
//!
//! Clients that connect meanwhile wait in the listener's queue.

use super::activation::VARIABLES;
use super::check_state::StateReport;
use super::handover::{ARGUMENT, Handover};
use super::own_log;
use crate::api::app::Trial;
use crate::os::descriptors::close_on_exec_from;
use crate::os::signals::ignore_hang_up;
use llamactl_protocol::{Failure, Hint, Kind};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The exit status by which clap refuses an argument that a program does not know.
const USED_WRONGLY: i32 = 2;
/// How long a program may take to say which version it is.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);
/// What is read of what it says.
const MAX_SAID_BYTES: u64 = 64 << 10;

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
    /// arguments, the configuration of now and the registry in this state directory. Blocks, at
    /// most three times `TRIAL_LIMIT`.
    ///
    /// # Errors
    /// [`Kind::IoFailed`] with what is wrong with it; [`Kind::InvalidValue`] with what it says is
    /// wrong with the configuration.
    pub fn try_out(&self, state_dir: &Path) -> Result<Trial, Failure> {
        let path = self.path.display();
        let refused = |kind, why: String| {
            Failure::new(kind, format!("{path} cannot take over: {why}"))
                .hint("the daemon goes on as it was; put a working llamactld there and try again")
        };
        let broken = |why| refused(Kind::IoFailed, why);
        let version = self.ask(&[OsString::from("--version")]).map_err(broken)?;
        let version =
            match (version.status.success(), version.text.trim().strip_prefix("llamactld ")) {
                (true, Some(version)) => version.to_owned(),
                (true, None) => {
                    return Err(broken("it does not say that it is llamactld".to_owned()));
                }
                (false, _) => return Err(broken(format!("--version failed: {}", version.said()))),
            };
        let mut arguments = self.arguments.clone();
        arguments.push("--check-config".into());
        let checked = self.ask(&arguments).map_err(broken)?;
        if !checked.status.success() {
            let failure = refused(Kind::InvalidValue, checked.said());
            let mend = "the daemon goes on as it was; correct that, and see that nothing is left";
            let check = ["llamactl", "daemon", "check-config"];
            return Err(Failure { hints: Hint::run(mend, check).into(), ..failure });
        }
        let state = self.ask(&["--check-state".into(), state_dir.into()]).map_err(broken)?;
        match serde_json::from_str::<StateReport>(state.text.trim()) {
            Ok(report) if state.status.success() => {
                Ok(Trial { version, registry_copy: report.copy })
            }
            // It would not understand what it is handed over, nor, as far as can be told, the registry.
            _ if state.status.code() == Some(USED_WRONGLY) => {
                let why = format!("it is older (llamactld {version}) than the registry here");
                let back = "to go back, put the copy registry.db.vN of its time in the place of \
                            registry.db, registry.db-wal and registry.db-shm, and start it, after";
                let stop = ["llamactl", "daemon", "stop", "--keep-servers"];
                Err(broken(why).hint(Hint::run(back, stop)))
            }
            _ => Err(broken(state.said())),
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
        let reader = move || {
            let mut said = Vec::new();
            // What came until an error is what there is to show.
            let _ = read.take(MAX_SAID_BYTES).read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        };
        let reader = thread::Builder::new().spawn(reader).map_err(cannot)?;
        let mut child = command.spawn().map_err(cannot)?;
        drop(command); // or our own ends of the pipe would keep it open
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
        Ok(Answer { status, text })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        without_sockets(&mut command);
        if let Some(directory) = self.directory.as_ref().filter(|it| it.is_dir()) {
            command.current_dir(directory);
        }
        command
    }

    /// Replaces this process's program by the one that is there now. Where that fails after all, by
    /// the one this process runs, whose file lives on without a name. Does not return, unless
    /// neither can be executed.
    pub(super) fn execute(&self, handover: &Handover<OwnedFd>) -> Failure {
        ignore_hang_up();
        // Libraries may have opened something without the mark.
        let offered = close_on_exec_from(3).and_then(|()| handover.offer());
        let offered = offered.inspect_err(|error| {
            tracing::error!(%error, "what the next program needs cannot be handed over");
        });
        own_log::flush();
        // Without it the next program starts as after a kill, and finds the servers by their marks.
        let arguments = || self.arguments.iter().chain(offered.as_ref().ok());
        let error = self.command().arg0(&self.path).args(arguments()).exec();
        tracing::error!(%error, path = %self.path.display(), "the new program cannot be executed");
        let mut own = Command::new("/proc/self/exe");
        without_sockets(&mut own);
        let error = own.arg0(&self.path).args(arguments()).exec();
        let why =
            format!("neither {} nor the old program can be executed: {error}", self.path.display());
        Failure::new(Kind::IoFailed, why).hint(Hint::run(
            "the servers run on; start a daemon that takes them over",
            ["llamactl", "daemon", "start"],
        ))
    }
}

/// What the service manager passed once is not what has its number by now.
fn without_sockets(command: &mut Command) {
    VARIABLES.iter().for_each(|name| {
        command.env_remove(name);
    });
}

/// What a program answered.
struct Answer {
    status: ExitStatus,
    text: String,
}

impl Answer {
    /// Why it failed: its first words, else how it ended.
    fn said(&self) -> String {
        let first = self.text.lines().map(str::trim).find(|line| !line.is_empty());
        match first {
            Some(line) => line.trim_start_matches("llamactld: ").to_owned(),
            None => self.status.to_string(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

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
        const GOOD: &str = "[ \"$1\" != --check-state ] && echo llamactld 9.8.7 && exit 0; ";
        let state_dir = Path::new("/state");
        let state = |report: &str| script(&format!("{GOOD} [ $2 = /state ] && {report}"));
        let (_dir, good) = state("echo '{\"from\":3,\"to\":4,\"copy\":\"/c\",\"more\":1}'");
        let trial = good.try_out(state_dir).unwrap();
        assert_eq!((trial.version.as_str(), trial.registry_copy), ("9.8.7", Some("/c".into())));
        for (report, why) in [
            ("echo 'error: unexpected argument' >&2; exit 2", "it is older (llamactld 9.8.7)"),
            ("echo 'llamactld: too new' >&2; exit 1", "cannot take over: too new"),
            ("echo what", "cannot take over: what"),
        ] {
            let (_dir, program) = state(report);
            let failure = program.try_out(state_dir).unwrap_err();
            assert!(failure.message.contains(why), "{failure:?}");
        }
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
            let failure = program.try_out(state_dir).unwrap_err();
            assert!(failure.kind == kind && failure.message.contains(why), "{failure:?}");
        }
        let (dir, gone) = script("");
        drop(dir);
        assert!(gone.try_out(state_dir).unwrap_err().message.contains("it is not there"));
    }
}
