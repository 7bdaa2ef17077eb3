//! One daemon per state directory, whatever sockets they were given and whatever becomes of those.
//!
//! The lock is on the directory itself: it is there as long as the directory is, and deleting what
//! lies in it takes nothing away.

use llamactl_protocol::place::{lock_of, socket_in};
use llamactl_protocol::{Failure, Hint, Kind};
use std::fs::{self, File, TryLockError};
use std::path::Path;

/// Takes the lock; it holds while the file is open, here or in a process that inherits it.
///
/// # Errors
/// [`Kind::AlreadyRunning`] when another daemon has it.
pub(super) fn take(state_dir: &Path) -> Result<File, Failure> {
    let failed = |error: std::io::Error| {
        let what = format!("the state directory {} cannot be locked: {error}", state_dir.display());
        Failure::new(Kind::IoFailed, what)
    };
    let directory = File::open(state_dir).map_err(failed)?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::Error(error)) => Err(failed(error)),
        Err(TryLockError::WouldBlock) => {
            // It wrote its pid beside its socket, unless that is elsewhere.
            let lock = fs::read_to_string(lock_of(&socket_in(state_dir)));
            let pid: Option<u32> = lock.ok().and_then(|text| text.trim().parse().ok());
            let who = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            let why = format!("llamactld already runs{who} on {}", state_dir.display());
            Err(Failure::new(Kind::AlreadyRunning, why)
                .hint(Hint::run("use it, or stop it first", ["llamactl", "daemon", "stop"]))
                .details(serde_json::json!({ "pid": pid })))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_daemon_whatever_is_deleted_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        fs::create_dir(&run).unwrap();
        fs::write(run.join("llamactld.sock.lock"), "77\n").unwrap();
        let held = take(dir.path()).unwrap();
        let refused = take(dir.path()).unwrap_err();
        assert!(refused.message.contains("pid 77"), "{refused}");
        fs::remove_dir_all(run).unwrap();
        assert_eq!(take(dir.path()).unwrap_err().kind, Kind::AlreadyRunning);
        drop(held);
        take(dir.path()).unwrap();
    }
}
