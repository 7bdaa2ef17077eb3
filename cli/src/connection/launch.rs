//! Starting `llamactld`, detached, and waiting until it answers.
//!
//! The daemon outlives the terminal, so it gets nothing of it: no standard streams, `/` as its
//! directory, and of the environment only what it needs.

use super::Silence;
use llamactl_protocol::environment::is_inherited;
use llamactl_protocol::{Failure, Hint, Hints, Kind};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::json;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The exit status by which `llamactld` says that another daemon was first.
const LOST_THE_RACE: i32 = 4;
/// How long `llamactld --detach` may take: it waits for its own daemon and bounds that itself.
pub(super) const LAUNCH_LIMIT: Duration = Duration::from_secs(60);

/// How a launch ended well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Launched {
    /// This daemon answers.
    Ours,
    /// Another one was first.
    Theirs,
}

/// Starts the daemon. `by_client` says that a command needed it, rather than a person asking for
/// it; `socket` names another socket than the user's own.
///
/// # Errors
/// [`Kind::DaemonUnreachable`] with what the daemon said.
pub(super) async fn launch(
    by_client: bool,
    socket: Option<&Path>,
    silence: &Silence,
) -> Result<Launched, Failure> {
    let program = program();
    let failed = |why: String| {
        Failure::new(Kind::DaemonUnreachable, format!("the daemon could not be started: {why}"))
    };
    let said = memfd_create("llamactld-stderr", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|error| failed(error.to_string()))?;
    let stderr = said.try_clone().map_err(|error| failed(error.to_string()))?;

    let mut command = Command::new(&program);
    command.arg("--detach");
    if by_client {
        command.arg("--started-by-client");
    }
    command
        .current_dir("/")
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_inherited)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    if let Some(socket) = socket {
        command.env(llamactl_protocol::place::SOCKET_VARIABLE, socket);
    }
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => failed("llamactld was not found".to_owned())
            .hint("it belongs beside llamactl, or in a directory of PATH"),
        _ => failed(format!("{}: {error}", program.display())),
    })?;

    let deadline = silence.or(LAUNCH_LIMIT).end();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return judge(status, said, failed),
            Ok(None) if Instant::now() < deadline => sleep(Duration::from_millis(5)).await,
            Ok(None) => {
                return Err(failed("no answer in time".to_owned()).hint(Hint::run(
                    "it may still come up: see whether it answers",
                    ["llamactl", "daemon", "status"],
                )));
            }
            Err(error) => return Err(failed(error.to_string())),
        }
    }
}

/// Runs the installed `llamactld` for something it does without serving anybody; what it printed.
///
/// # Errors
/// What it refused, in its words; [`Kind::DaemonUnreachable`] where there is no `llamactld`.
pub(crate) async fn ask_program(arguments: Vec<OsString>) -> Result<String, Failure> {
    let program = program();
    let mut command = Command::new(&program);
    command.args(arguments).stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    let ran = ran.map_err(io::Error::other).and_then(|ran| ran).map_err(|error| {
        let why = format!("{} cannot be run: {error}", program.display());
        Failure::new(Kind::DaemonUnreachable, why)
            .hint("it belongs beside llamactl, or in a directory of PATH")
    })?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    let first = said.lines().next().unwrap_or("llamactld said nothing");
    // Its exit status is that of the kind.
    let kind = match ran.status.code() {
        Some(LOST_THE_RACE) => Kind::AlreadyRunning,
        Some(5) => Kind::InvalidValue,
        _ => Kind::StoreFailed,
    };
    let failure = Failure::new(kind, first.trim_start_matches("llamactld: "));
    Err(Failure { hints: hints_in(&said), ..failure })
}

/// What llamactld says to do about a failure, in what it printed.
fn hints_in(said: &str) -> Hints {
    said.lines().filter_map(|line| line.strip_prefix("hint: ")).map(Hint::to).collect()
}

fn judge(
    status: ExitStatus,
    said: File,
    failed: impl Fn(String) -> Failure,
) -> Result<Launched, Failure> {
    match status.code() {
        Some(0) => return Ok(Launched::Ours),
        Some(LOST_THE_RACE) => return Ok(Launched::Theirs),
        _ => {}
    }
    let said = read_back(said);
    let mut lines = said.lines().filter(|line| !line.trim().is_empty());
    let Some(first) = lines.next() else {
        return Err(failed(format!("llamactld ended with {status}")));
    };
    let failure = failed(first.trim_start_matches("llamactld: ").to_owned());
    let evidence: Vec<&str> = lines.filter(|line| !line.starts_with("hint: ")).take(20).collect();
    let failure = Failure { hints: hints_in(&said), ..failure };
    Err(if evidence.is_empty() {
        failure
    } else {
        failure.details(json!({ "evidence": evidence }))
    })
}

/// What was written into the file, at most 64 KiB of it.
fn read_back(mut file: File) -> String {
    let mut bytes = Vec::new();
    let read =
        file.seek(SeekFrom::Start(0)).and_then(|_| file.take(64 << 10).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// The `llamactld` beside this executable; else the one on `PATH`.
fn program() -> PathBuf {
    std::env::current_exe()
        .and_then(|own| own.canonicalize())
        .ok()
        .and_then(|own| Some(own.parent()?.join("llamactld")))
        .filter(|beside| beside.is_file())
        .unwrap_or_else(|| PathBuf::from(OsString::from("llamactld")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::process::ExitStatusExt as _;

    fn judged(code: i32, said: &str) -> Result<Launched, Failure> {
        let mut file = File::from(memfd_create("said", MemfdFlags::CLOEXEC).unwrap());
        file.write_all(said.as_bytes()).unwrap();
        let failed = |why| Failure::new(Kind::DaemonUnreachable, why);
        judge(ExitStatus::from_raw(code << 8), file, failed)
    }

    #[test]
    fn the_daemons_own_words_are_the_reason() {
        assert_eq!(judged(0, ""), Ok(Launched::Ours));
        assert_eq!(judged(4, "llamactld: another daemon runs"), Ok(Launched::Theirs));
        let failure = judged(1, "llamactld: no space\nhint: free some\nat /x\n").unwrap_err();
        assert_eq!(failure.message, "no space");
        assert_eq!(failure.hints, Hint::to("free some").into());
        assert_eq!(failure.details, Some(json!({ "evidence": ["at /x"] })));
        assert!(judged(1, "").unwrap_err().message.contains("exit status: 1"));
    }
}
