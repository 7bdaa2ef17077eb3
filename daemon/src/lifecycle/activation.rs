//! A socket that the service manager listens on for us (`sd_listen_fds(3)`).
//!
//! ```text
//!   LISTEN_PID is ours, LISTEN_FDS=1 ─▶ descriptor 3 ─▶ rpc::socket::take_from_manager
//! ```
//!
//! The next program in this process must not take what the variables once meant: `program` drops them
//! when it executes one. No server inherits them.

use crate::os::descriptors::inherited;
use llamactl_protocol::{Failure, Kind};
use std::os::fd::OwnedFd;

/// The variables that a service manager tells of sockets by.
pub(super) const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
/// The first descriptor that a service manager passes.
const FIRST: i32 = 3;

/// The socket that was passed to this process, if one was. To be called before what is inherited is
/// marked to be closed.
///
/// # Errors
/// [`Kind::IoFailed`]: more than one was passed, or none is open.
pub(super) fn take() -> Result<Option<OwnedFd>, Failure> {
    let variable = |name| std::env::var(name).ok();
    let passed = passed(variable("LISTEN_PID"), variable("LISTEN_FDS"), std::process::id());
    let refused = |why: String| {
        Failure::new(Kind::IoFailed, format!("the service manager's socket: {why}"))
            .hint("llamactl.socket has one ListenStream= and no other sockets")
    };
    match passed {
        0 => Ok(None),
        1 => inherited(FIRST).map(Some).map_err(|error| refused(error.to_string())),
        n => Err(refused(format!("it passed {n}, and one is used"))),
    }
}

/// How many descriptors were passed to the process `own`.
fn passed(pid: Option<String>, count: Option<String>, own: u32) -> u32 {
    let is_ours = pid.and_then(|pid| pid.parse().ok()) == Some(own);
    count.filter(|_| is_ours).and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_passed_to_this_very_process_counts() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(passed(text("7"), text("1"), 7), 1);
        assert_eq!(passed(text("7"), text("3"), 7), 3);
        for (pid, count) in [
            (text("8"), text("1")),
            (None, text("1")),
            (text("7"), None),
            (text("7"), text("-1")),
            (text("x"), text("1")),
            (text("7"), text("")),
        ] {
            assert_eq!(passed(pid, count, 7), 0);
        }
    }
}
