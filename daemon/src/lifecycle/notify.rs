//! Telling the service manager how the daemon is, where there is one that listens (`sd_notify`).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Sends a state such as `READY=1`. Nobody listens, or it cannot be told: no matter.
pub(super) fn tell(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    let told = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not hold the daemon up.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = told {
        tracing::debug!(%error, state, "the service manager cannot be told");
    }
}

/// How often it wants to hear that the daemon is alive, halved for safety; `None` when it does not.
#[must_use]
pub(super) fn period() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let micros = number("WATCHDOG_USEC").filter(|micros| for_us && *micros > 0)?;
    Some(Duration::from_micros(micros / 2))
}

#[cfg(test)]
mod tests {
    use crate::lifecycle::watchdog;
    use crate::supervisor::LONGEST_STOP;
    use std::time::Duration;

    /// The seconds that a unit gives a key.
    fn seconds(unit: &str, key: &str) -> Duration {
        let value = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        Duration::from_secs(value.unwrap().parse().unwrap())
    }

    #[test]
    fn the_units_wait_longer_than_the_daemon_takes() {
        for unit in [
            include_str!("../../../packaging/systemd/system/llamactl.service"),
            include_str!("../../../packaging/systemd/user/llamactl.service"),
        ] {
            // Streams, tasks, the registry and the runtime have seconds each beside the servers.
            let rest = Duration::from_secs(30);
            assert!(seconds(unit, "TimeoutStopSec") > LONGEST_STOP + rest);
            // Ours looks closer and says why, so it is to be first.
            assert!(seconds(unit, "WatchdogSec") > watchdog::LIMIT);
        }
    }
}
