//! Where a daemon lives: the rules by which daemon and client find the same socket.
//!
//! ```text
//!   user mode     <state dir>/run/llamactld.sock      0600 in a 0700 directory
//!   system mode   /run/llamactl/llamactld.sock        0660 in a 0750 directory of the group
//! ```
//!
//! `XDG_RUNTIME_DIR` plays no part: it is absent in cron and sudo, and vanishes at logout while
//! the daemon and its servers live on.

use crate::{Failure, Kind};
use directories::ProjectDirs;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Names the daemon's configuration file.
pub const CONFIG_VARIABLE: &str = "LLAMACTL_CONFIG";
/// The configuration file of a daemon in system mode.
pub const SYSTEM_CONFIG: &str = "/etc/llamactl/llamactld.toml";
/// Names another state directory.
pub const STATE_DIR_VARIABLE: &str = "LLAMACTL_STATE_DIR";
/// Names the socket, for daemon and client.
pub const SOCKET_VARIABLE: &str = "LLAMACTL_SOCKET";
/// Forbids the client to start a daemon.
pub const NO_AUTOSTART_VARIABLE: &str = "LLAMACTL_NO_AUTOSTART";
/// Names the machine whose daemon a client asks.
pub const HOST_VARIABLE: &str = "LLAMACTL_HOST";
/// Names the llama-server to run.
pub const LLAMA_SERVER_VARIABLE: &str = "LLAMACTL_LLAMA_SERVER";

/// Names the ports that `port=auto` may take, `FIRST-LAST`; 8101-8999 when unset.
pub const PORTS_VARIABLE: &str = "LLAMACTL_PORTS";

/// Names the system socket a client falls back to. For tests, which must not find a daemon that
/// this machine really runs.
pub const SYSTEM_SOCKET_VARIABLE: &str = "LLAMACTL_SYSTEM_SOCKET";

/// The socket of a daemon in system mode.
pub const SYSTEM_SOCKET: &str = "/run/llamactl/llamactld.sock";
/// The state directory of a daemon in system mode.
pub const SYSTEM_STATE_DIR: &str = "/var/lib/llamactl";

/// The list of users.
const USERS: &str = "/etc/passwd";

/// The longest path a Unix socket can have on Linux, in bytes.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// The user's state directory: `$LLAMACTL_STATE_DIR`, else `$XDG_STATE_HOME/llamactl`, else
/// `~/.local/state/llamactl`. It need not exist.
///
/// # Errors
/// [`Kind::InvalidValue`] when `$LLAMACTL_STATE_DIR` is not absolute, [`Kind::IoFailed`] when
/// nothing says where the user's home is.
pub fn state_dir() -> Result<PathBuf, Failure> {
    if let Some(dir) = env::var_os(STATE_DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
        let dir = PathBuf::from(dir);
        if dir.is_absolute() {
            return Ok(dir);
        }
        return Err(Failure::new(
            Kind::InvalidValue,
            format!("{STATE_DIR_VARIABLE} is {}, which is not an absolute path", dir.display()),
        ));
    }
    directory(ProjectDirs::state_dir, "XDG_STATE_HOME", ".local/state").ok_or_else(|| {
        Failure::new(Kind::IoFailed, "no home directory: HOME is not an absolute path")
            .hint(format!("set HOME, or {STATE_DIR_VARIABLE} to an absolute path"))
    })
}

/// The directory of the user's configuration: `$XDG_CONFIG_HOME/llamactl`, else `~/.config/llamactl`.
/// `None` where nothing says where the user's home is. It need not exist.
#[must_use]
pub fn config_dir() -> Option<PathBuf> {
    directory(|dirs| Some(dirs.config_dir()), "XDG_CONFIG_HOME", ".config")
}

/// A directory of ours, as `directories` has it; where nothing says `HOME`, the same by our own look:
/// libc, which it would ask, loads libraries to find out, and a static program dies of them.
fn directory(
    of: impl Fn(&ProjectDirs) -> Option<&Path>,
    variable: &str,
    below_home: &str,
) -> Option<PathBuf> {
    let dir = if env::var_os("HOME").is_some_and(|home| !home.is_empty()) {
        of(&ProjectDirs::from("", "", "llamactl")?).map(Path::to_owned)
    } else {
        // One that is not absolute counts as unset, as the specification of these directories has it.
        let named = env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute());
        let dir = named.or_else(|| Some(listed_home()?.join(below_home)));
        dir.map(|dir| dir.join("llamactl"))
    };
    // A relative HOME means another place to every program that reads it.
    dir.filter(|dir| dir.is_absolute())
}

/// The home that the list of users, or a directory service, has for whoever runs this.
fn listed_home() -> Option<PathBuf> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let uid =
        status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?;
    let listed = || home_in(&fs::read(USERS).ok()?, uid);
    let asked =
        || home_in(&Command::new("getent").args(["passwd", uid]).output().ok()?.stdout, uid);
    listed().or_else(asked)
}

/// The home of the user with this number in lines as those of `/etc/passwd`.
fn home_in(users: &[u8], uid: &str) -> Option<PathBuf> {
    users.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':').skip(2);
        let is_the_user = fields.next() == Some(uid.as_bytes());
        let home = fields.nth(2).filter(|home| is_the_user && !home.is_empty())?;
        Some(OsStr::from_bytes(home).into())
    })
}

/// The system socket a client falls back to.
#[must_use]
pub fn system_socket() -> PathBuf {
    let named = env::var_os(SYSTEM_SOCKET_VARIABLE).filter(|path| !path.is_empty());
    named.map_or_else(|| PathBuf::from(SYSTEM_SOCKET), PathBuf::from)
}

/// The run directory below a state directory: the daemon's socket, its lock, its servers' sockets.
#[must_use]
pub fn run_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("run")
}

/// The socket of the daemon whose state lies in `state_dir`.
#[must_use]
pub fn socket_in(state_dir: &Path) -> PathBuf {
    run_dir(state_dir).join("llamactld.sock")
}

/// The lock beside a socket; its daemon writes its process id into it.
#[must_use]
pub fn lock_of(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// The socket that a lock lies beside; `None` where that is no name of a lock.
#[must_use]
pub fn locked_by(lock: &Path) -> Option<PathBuf> {
    let is_lock = lock.extension().is_some_and(|it| it == "lock");
    is_lock.then(|| lock.with_extension(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_that_of_the_users_own_line() {
        let users = b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:10::/home/ann:/bin/sh\nold:x:7\n+\nben:x:8:8:::\n";
        assert_eq!(home_in(users, "1000"), Some("/home/ann".into()));
        for none in ["10", "7", "8", "9", ""] {
            assert_eq!(home_in(users, none), None, "{none}");
        }
    }
}
