//! What findings are made of.

use crate::programs::OnPath;
use crate::systemd::Manager;
use llamactl_protocol::Failure;
use llamactl_protocol::daemon::{ConfigReport, DaemonReport, Hello};
use std::path::PathBuf;

/// What this command sees.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) daemon: DaemonIs,
    /// The socket's node, and the directory it lies in.
    pub(crate) socket: Option<Node>,
    /// What the configuration file says now; `None` where that is not this user's affair.
    pub(crate) config: Option<Result<ConfigReport, Failure>>,
    /// This program's version, and where it is.
    pub(crate) version: &'static str,
    pub(crate) own: PathBuf,
    pub(crate) on_path: OnPath,
    /// The units that are installed.
    pub(crate) units: Vec<Unit>,
    /// Whether the user's systemd outlives the last logout; `None` without a unit of the user's.
    pub(crate) lingers: Option<bool>,
    pub(crate) user: Option<String>,
}

/// How the daemon is.
#[derive(Debug)]
pub(crate) enum DaemonIs {
    /// It answers.
    There(Box<(Hello, DaemonReport)>),
    /// Somebody listens and does not answer.
    Silent(Failure),
    /// It may not be asked.
    Refused(Failure),
    /// None runs; whether somebody stopped it.
    Absent { was_stopped: bool },
}

/// A socket.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) dir_mode: u32,
    /// It is the machine's, which a group may use.
    pub(crate) is_the_machines: bool,
}

/// A unit of systemd.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) manager: Manager,
    pub(crate) path: PathBuf,
    pub(crate) is_enabled: bool,
    pub(crate) has_failed: bool,
    /// Whether it is what this version writes; `None` where it was not written by llamactl.
    pub(crate) is_as_written: Option<bool>,
}
