//! Why there is no socket, in words a person can act on.

use llamactl_protocol::place::MAX_SOCKET_PATH_BYTES;
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::json;
use std::io;
use std::path::PathBuf;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A Unix socket's path is short.
    #[error("the socket path {} has {bytes} bytes; {MAX_SOCKET_PATH_BYTES} is the most a Unix socket can have", path.display())]
    PathTooLong {
        /// The socket's path, as it was given.
        path: PathBuf,
        /// The path's length in bytes.
        bytes: usize,
    },
    /// It would depend on where the daemon was started.
    #[error("the socket path {} is not absolute", .0.display())]
    NotAbsolute(PathBuf),
    /// There is something else where the directory should be.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The directory could be another one the next time.
    #[error("{} is a symbolic link; the socket's directory must be a real one", .0.display())]
    SymbolicLink(PathBuf),
    /// The directory or the lock file is another user's.
    #[error("{} belongs to uid {owner}, not to this daemon (uid {ours})", path.display())]
    NotOurs {
        /// The directory or file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        ours: u32,
    },
    /// Others could reach into the directory.
    #[error("{} has mode {mode:03o} and lets others in; the socket needs a directory they cannot {deed}", path.display())]
    OpenDirectory {
        /// The directory that the socket was to lie in.
        path: PathBuf,
        /// The directory's permission bits, as `chmod` takes them.
        mode: u32,
        /// What others must not be able to do.
        deed: &'static str,
        /// The mode it should have.
        wanted: u32,
    },
    /// The directory of system mode has another group.
    #[error("{} belongs to group {group}, and the socket is for group {wanted}", path.display())]
    OtherGroup {
        /// The directory that the socket was to lie in.
        path: PathBuf,
        /// The group id that the directory has.
        group: u32,
        /// The group id that the socket is to have.
        wanted: u32,
    },
    /// One daemon is enough.
    #[error("llamactld already runs here{}", with_pid(*pid))]
    AlreadyRunning {
        /// Its process id, where the lock file tells it.
        pid: Option<u32>,
    },
    /// Somebody listens there who does not hold the lock.
    #[error("another program{} answers on {}", with_pid(*pid), path.display())]
    OtherProgram {
        /// The socket's path.
        path: PathBuf,
        /// Its process id, where the kernel tells it.
        pid: Option<u32>,
    },
    /// Something else lies where the lock file should be.
    #[error("{} is not a plain file", .0.display())]
    NotAFile(PathBuf),
    /// A file that no daemon wrote lies where the lock file should be.
    #[error("{} is in the way: the socket's lock would be there, and it is no daemon's lock", .0.display())]
    NotALock(PathBuf),
    /// A file lies where the node should be.
    #[error("{} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The program before left something else than its socket.
    #[error("the socket {} cannot be taken over: {why}", path.display())]
    NotInherited {
        /// The socket's path.
        path: PathBuf,
        /// What is wrong with what was left.
        why: &'static str,
    },
    /// The service manager passed something else than this socket.
    #[error("the socket {} of the service manager cannot be used: {why}", path.display())]
    NotOfManager {
        /// The socket's path.
        path: PathBuf,
        /// What is wrong with what was passed.
        why: &'static str,
    },
    /// Only the service manager can make its socket again.
    #[error("the socket {} of the service manager was removed; the daemon is reached again after: systemctl stop llamactl.socket; systemctl restart llamactl", .0.display())]
    ManagersIsGone(PathBuf),
    /// The system refused.
    #[error("cannot {deed} {}: {source}", path.display())]
    Io {
        /// What was tried.
        deed: &'static str,
        /// The file or directory that it failed with.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn with_pid(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        let kind = match &error {
            SocketError::PathTooLong { .. } | SocketError::NotAbsolute(_) => Kind::InvalidValue,
            SocketError::AlreadyRunning { .. } => Kind::AlreadyRunning,
            _ => Kind::IoFailed,
        };
        let failure = Failure::new(kind, error.to_string());
        match error {
            SocketError::PathTooLong { .. } => {
                failure.hint("name a shorter one with --socket, or a shorter state directory")
            }
            SocketError::NotAbsolute(_) => failure.hint("write it from / on"),
            SocketError::NotADirectory(_)
            | SocketError::SymbolicLink(_)
            | SocketError::NotOurs { .. } => {
                failure.hint("name a directory of your own with --socket")
            }
            SocketError::OpenDirectory { path, wanted, .. } => {
                let mode = format!("{wanted:o}");
                failure.hint(Hint::run("set its mode", ["chmod", &mode, &path.to_string_lossy()]))
            }
            SocketError::OtherGroup { path, wanted, .. } => {
                let group = wanted.to_string();
                failure.hint(Hint::run("set its group", ["chgrp", &group, &path.to_string_lossy()]))
            }
            SocketError::AlreadyRunning { pid } => failure
                .hint(Hint::run("use it, or stop it first", ["llamactl", "daemon", "stop"]))
                .details(json!({ "pid": pid })),
            SocketError::OtherProgram { pid, .. } => failure
                .hint("end that program, or name another socket with --socket")
                .details(json!({ "pid": pid })),
            SocketError::NotASocket(_) | SocketError::NotAFile(_) | SocketError::NotALock(_) => {
                failure.hint("move it away, or name another path with --socket")
            }
            SocketError::NotInherited { .. } => {
                failure.hint("--inherit is for one daemon to start the next; leave it out")
            }
            SocketError::NotOfManager { .. } => failure.hint(Hint::run(
                "the unit of that socket is not as it was shipped: look at it",
                ["systemctl", "cat", "llamactl.socket"],
            )),
            SocketError::ManagersIsGone(_) | SocketError::Io { .. } => failure,
        }
    }
}
