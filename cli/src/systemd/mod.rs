//! systemd, where it runs this machine: asked and told by `systemctl`, never by its bus.
//!
//! ```text
//!   files     units as they are written, and whether their programs may be run so
//!   jobs      what a unit is stopped for: `daemon stop --for-unit`
//!   starter   who starts a daemon where none runs: this command, a unit of the user's, the machine's
//! ```

pub(crate) mod files;
mod jobs;
mod starter;

pub(crate) use jobs::is_restarted;
pub(crate) use starter::{
    Starter, has_socket_unit, is_enabled, listens, own_unit_dir, serves, starter, unit_file,
};

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tokio::time::timeout;

/// The unit of the daemon, in each manager.
pub(crate) const UNIT: &str = "llamactl.service";
/// The socket of the machine's daemon that systemd may listen on before it runs.
pub(crate) const SOCKET_UNIT: &str = "llamactl.socket";

/// Which systemd: the machine's, or the one of this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    /// The machine's.
    System,
    /// The user's.
    User,
}

impl Manager {
    /// The one that runs this command for a unit: only a user's says which process it is.
    pub(crate) fn of_this_unit() -> Manager {
        if std::env::var_os("MANAGERPID").is_some() { Manager::User } else { Manager::System }
    }

    /// What stands behind `systemctl` and `journalctl` for it.
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Manager::System => &[],
            Manager::User => &["--user"],
        }
    }

    /// `systemctl --user start llamactl`, as a person types it.
    pub(crate) fn typed(self, program: &str, rest: &[&str]) -> Vec<String> {
        let words = [program].into_iter().chain(self.options().iter().copied());
        words.chain(rest.iter().copied()).map(str::to_owned).collect()
    }

    /// Runs `systemctl` for this manager; what it said on stdout.
    ///
    /// # Errors
    /// What it said on stderr, or that it cannot be run or does not end in time.
    pub(crate) async fn systemctl<A: AsRef<OsStr>>(
        self,
        arguments: impl IntoIterator<Item = A>,
        limit: Duration,
    ) -> Result<String, String> {
        let mut command = Command::new("systemctl");
        command.args(self.options()).args(["--no-pager", "--no-ask-password"]).args(arguments);
        said_by(command, limit).await
    }
}

/// Runs a program that comes with systemd; what it said on stdout.
///
/// # Errors
/// What it said on stderr, or that it cannot be run or does not end in time.
pub(crate) async fn said_by(mut command: Command, limit: Duration) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    if let Some(directory) = runtime_directory() {
        command.env("XDG_RUNTIME_DIR", directory);
    }
    command.stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output());
    match timeout(limit, ran).await {
        Ok(Ok(Ok(Output { status, stdout, .. }))) if status.success() => {
            Ok(String::from_utf8_lossy(&stdout).into_owned())
        }
        Ok(Ok(Ok(Output { status, stderr, .. }))) => {
            let stderr = String::from_utf8_lossy(&stderr);
            let said = stderr.lines().map(str::trim).find(|line| !line.is_empty());
            Err(said.map_or_else(|| format!("{name} ended with {status}"), str::to_owned))
        }
        Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("there is no {name}"))
        }
        Ok(Ok(Err(error))) => Err(format!("{name} cannot be run: {error}")),
        Ok(Err(error)) => Err(format!("{name}: {error}")),
        Err(_) => Err(format!("{name} did not end within {} s", limit.as_secs())),
    }
}

/// Where the user's manager listens, where cron and sudo do not say it.
fn runtime_directory() -> Option<PathBuf> {
    if std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| !dir.is_empty()) {
        return None;
    }
    let uid = rustix::process::geteuid().as_raw();
    Some(PathBuf::from(format!("/run/user/{uid}"))).filter(|dir| dir.is_dir())
}

/// Whether systemd runs this machine (sd_booted(3)).
pub(crate) fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}
