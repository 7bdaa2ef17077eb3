//! Who starts a daemon where none runs.
//!
//! ```text
//!   the user's unit is enabled, and its daemon would answer where this command asks ─▶ systemctl --user
//!   else the machine's unit is enabled ─▶ nobody but systemctl start llamactl
//!   else ─▶ this command
//! ```
//!
//! Where there is no unit nothing is run to find that out.

use super::{Manager, SOCKET_UNIT, UNIT, is_booted};
use llamactl_protocol::place;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where packages and people put units of the machine.
const SYSTEM_UNITS: &[&str] = &[
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// The same for units of every user.
const USER_UNITS: &[&str] =
    &["/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user"];
/// How long systemd may take to say whether a unit is enabled.
const LIMIT: Duration = Duration::from_secs(5);

/// Who starts a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starter {
    /// This command.
    Client,
    /// The user's systemd.
    UserUnit,
    /// The machine's systemd, when its administrator says so.
    SystemUnit,
}

/// Whether there is a unit by which systemd may listen for the machine's daemon.
pub(crate) fn has_socket_unit() -> bool {
    SYSTEM_UNITS.iter().any(|dir| Path::new(dir).join(SOCKET_UNIT).is_file())
}

/// Whether systemd listens for the machine's daemon, and starts it when somebody asks.
pub(crate) async fn listens() -> bool {
    has_socket_unit()
        && is_booted()
        && is_the_machines()
        && Manager::System.systemctl(["is-active", SOCKET_UNIT], LIMIT).await.is_ok()
}

/// Who starts a daemon where none runs; `user_socket` is where the user's own would listen.
pub(crate) async fn starter(user_socket: &Path) -> Starter {
    if !is_booted() {
        return Starter::Client;
    }
    if is_enabled(Manager::User).await && serves(user_socket).await {
        return Starter::UserUnit;
    }
    if is_the_machines() && is_enabled(Manager::System).await {
        return Starter::SystemUnit;
    }
    Starter::Client
}

/// Whether the machine's daemon is where it always is: a test that names another socket is not to find
/// what this machine really runs.
fn is_the_machines() -> bool {
    place::system_socket() == Path::new(place::SYSTEM_SOCKET)
}

/// The file of the unit that this manager reads, as it is found without asking it.
pub(crate) fn unit_file(manager: Manager) -> Option<PathBuf> {
    let places = match manager {
        Manager::System => SYSTEM_UNITS,
        Manager::User => USER_UNITS,
    };
    let own = own_unit_dir().filter(|_| manager == Manager::User);
    let files = own.into_iter().chain(places.iter().map(PathBuf::from)).map(|dir| dir.join(UNIT));
    files.into_iter().find(|file| file.is_file())
}

/// The directory of this user's own units.
pub(crate) fn own_unit_dir() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let named = named.filter(|dir| dir.is_absolute());
    let home = || std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    named.or_else(|| Some(home()?.join(".config"))).map(|dir| dir.join("systemd/user"))
}

/// Whether its unit starts with this manager.
pub(crate) async fn is_enabled(manager: Manager) -> bool {
    unit_file(manager).is_some()
        && manager.systemctl(["is-enabled", UNIT], LIMIT).await.is_ok_and(|said| {
            matches!(said.trim(), "enabled" | "enabled-runtime" | "linked" | "linked-runtime")
        })
}

/// Whether a daemon that the user's manager starts would listen at this socket: its environment is not
/// that of this command.
pub(crate) async fn serves(socket: &Path) -> bool {
    let environment = Manager::User.systemctl(["show-environment"], LIMIT).await;
    environment.is_ok_and(|environment| socket_of(&environment).is_some_and(|its| its == socket))
}

/// Where a daemon with this environment, in lines of `NAME=VALUE`, would listen.
fn socket_of(environment: &str) -> Option<PathBuf> {
    let value = |name: &str| {
        let line = environment.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.filter(|value| !value.is_empty()).map(PathBuf::from)
    };
    if let Some(socket) = value(place::SOCKET_VARIABLE) {
        return Some(socket);
    }
    let state_dir = value(place::STATE_DIR_VARIABLE)
        .or_else(|| Some(value("XDG_STATE_HOME")?.join("llamactl")))
        .or_else(|| Some(value("HOME")?.join(".local/state/llamactl")))?;
    Some(place::socket_in(&state_dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_of_the_users_manager_listens_where_its_environment_says() {
        let socket = |text: &str| socket_of(text).map(|path| path.display().to_string());
        let home = "LANG=C.UTF-8\nHOME=/home/ana\nXDG_RUNTIME_DIR=/run/user/1000\n";
        let usual = "/home/ana/.local/state/llamactl/run/llamactld.sock";
        assert_eq!(socket(home).as_deref(), Some(usual));
        let state = format!("{home}XDG_STATE_HOME=/s\n");
        assert_eq!(socket(&state).as_deref(), Some("/s/llamactl/run/llamactld.sock"));
        let named = format!("{state}LLAMACTL_STATE_DIR=/t\n");
        assert_eq!(socket(&named).as_deref(), Some("/t/run/llamactld.sock"));
        let exact = format!("{named}LLAMACTL_SOCKET=/x.sock\n");
        assert_eq!(socket(&exact).as_deref(), Some("/x.sock"));
        assert_eq!(socket("LANG=C\n"), None);
    }
}
