//! Everything that can be refused, refused in the foreground: before the fork, the log and the first
//! thread.
//!
//! ```text
//!   what was handed over ─▶ configuration ─▶ state directory ─▶ socket and locks ─▶ Prepared
//! ```

use super::activation;
use super::handover::{Handover, PendingStop};
use super::lock;
use super::program::Program;
use crate::api::app::{Beginning, Places};
use crate::config;
use crate::lifecycle::args::Args;
use crate::os::descriptors::{close_on_exec_from, disable_core_dumps};
use crate::os::memory;
use crate::os::process::ProcessId;
use crate::os::signals::heed_all;
use crate::rpc::{self, Authority, socket};
use llamactl_protocol::daemon::ConfigReport;
use llamactl_protocol::place::{self, SYSTEM_SOCKET, SYSTEM_STATE_DIR};
use llamactl_protocol::{Failure, Kind};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// A daemon that may start: its directories, locks and socket are its own.
pub struct Prepared {
    pub(super) places: Places,
    pub(super) place: socket::Place,
    pub(super) bound: socket::Bound,
    pub(super) state_lock: File,
    pub(super) authority: Authority,
    pub(super) config: ConfigReport,
    pub(super) beginning: Beginning,
    pub(super) program: Program,
    /// In system mode the name of the group that may connect.
    pub(super) group: Option<String>,
    /// A stop was ordered while the program before this one could not obey any more.
    pub(super) pending_stop: Option<PendingStop>,
    /// What servers of the program before this one live by, by run.
    pub(super) lifelines: Vec<(String, OwnedFd)>,
    /// What the program before read the metrics out at.
    pub(super) metrics: Option<crate::exporter::Left<OwnedFd>>,
}

impl Prepared {
    /// The file to log to, when detached.
    #[must_use]
    pub fn log(&self) -> Option<&Path> {
        self.places.log.as_deref()
    }
}

/// Prepares the process and takes the socket. Starts no thread.
///
/// # Errors
/// Another daemon is running; the configuration is wrong; the state directory or the socket's place
/// is not fit.
pub fn prepare(args: &Args) -> Result<Prepared, Failure> {
    memory::share_heaps();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let program = Program::of_this_process();
    let (mut handed_over, activated) = prepare_process(args)?;
    let config = config::load(args.config.as_deref(), args.system)?;
    let uid = rustix::process::geteuid().as_raw();
    let state_dir = state_dir(args)?;
    make_private(&state_dir, uid)?;
    make_contents_private(&state_dir, uid)?;
    let (place, authority) = socket_place(args, &state_dir, uid)?;
    let stop = handed_over.as_ref().and_then(|left| left.stop);
    let lifelines = handed_over.as_mut().map(|left| std::mem::take(&mut left.lifelines));
    let metrics = handed_over.as_mut().and_then(|left| left.metrics.take());
    let (bound, state_lock) = match handed_over {
        Some(Handover { listener, lock, state_lock, node, from_manager, .. }) => {
            (socket::inherit(&place, listener, lock, node, from_manager)?, state_lock.into())
        }
        None => take_places(&place, &state_dir, activated.as_ref())?,
    };
    let log = args.detach.then(|| state_dir.join("log").join("llamactld.log"));
    Ok(Prepared {
        places: Places { state_dir, socket: place.path().to_owned(), log },
        place,
        bound,
        state_lock,
        authority,
        config,
        beginning: match (&args.inherit, args.started_by_client) {
            (Some(_), _) => Beginning::InPlace,
            (None, true) => Beginning::ByClient,
            (None, false) => Beginning::Asked,
        },
        program,
        group: args.system.then(|| args.group.clone()),
        pending_stop: stop,
        lifelines: lifelines.unwrap_or_default(),
        metrics,
    })
}

/// Where the daemon's things are to be.
pub(super) fn state_dir(args: &Args) -> Result<PathBuf, Failure> {
    absolute(match &args.state_dir {
        Some(dir) => dir.clone(),
        None if args.system => PathBuf::from(SYSTEM_STATE_DIR),
        None => place::state_dir()?,
    })
}

/// Settles what this process inherits and passes on; what the program before handed over, or else the
/// socket that the service manager listens on for us.
fn prepare_process(args: &Args) -> Result<(Option<Handover<OwnedFd>>, Option<OwnedFd>), Failure> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| Failure::new(Kind::IoFailed, format!("{what}: {error}"))
    };
    // Before everything is marked to be closed: what is not marked by then was left for us.
    let handed_over = args.inherit.as_ref().map(Handover::take).transpose();
    let handed_over = handed_over.map_err(failed("what the daemon before left is not there"))?;
    let activated = match handed_over {
        Some(_) => None,
        None => activation::take()?,
    };
    // What our parent left open is not for the servers.
    close_on_exec_from(3).map_err(failed("cannot close inherited files"))?;
    heed_all();
    // A dump of a server would hold its model and its users' prompts.
    disable_core_dumps().map_err(failed("cannot turn core dumps off"))?;
    Ok((handed_over, activated))
}

/// Where the socket is to be, and who may do what there.
fn socket_place(
    args: &Args,
    state_dir: &Path,
    uid: u32,
) -> Result<(socket::Place, Authority), Failure> {
    if args.system {
        let path = args.socket.clone().unwrap_or_else(|| PathBuf::from(SYSTEM_SOCKET));
        let gid = rpc::group_id(&args.group)?;
        let place = socket::Place::System { path: absolute(path)?, gid };
        return Ok((place, Authority::system(uid, gid)));
    }
    let place = match &args.socket {
        Some(path) => socket::Place::Given(absolute(path.clone())?),
        None => socket::Place::User(absolute(place::socket_in(state_dir))?),
    };
    Ok((place, Authority::user(uid)))
}

/// Takes the socket and the state directory, which must both be free.
fn take_places(
    place: &socket::Place,
    state_dir: &Path,
    activated: Option<&OwnedFd>,
) -> Result<(socket::Bound, File), Failure> {
    let take = || match activated {
        Some(listener) => {
            let copy = listener.try_clone().map_err(|source| {
                let path = place.path().to_owned();
                socket::SocketError::Io { deed: "keep", path, source }
            })?;
            socket::take_from_manager(place, copy)
        }
        None => socket::bind(place),
    };
    let bound = once_free(|| take().map_err(Failure::from))?;
    match once_free(|| lock::take(state_dir)) {
        Ok(lock) => Ok((bound, lock)),
        Err(failure) => {
            // Nobody shall wait at a socket that nobody serves.
            let _ = bound.guard.release();
            Err(failure)
        }
    }
}

/// How long a lock may outlive the daemon that held it.
const LAST_HOLD: Duration = Duration::from_secs(2);

/// Takes a lock. Where the daemon that has it is dead, a server that it was about to make when it
/// was killed still holds it, between its fork and its exec: then it is free in a moment.
fn once_free<T>(take: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    let until = Instant::now() + LAST_HOLD;
    loop {
        match take() {
            Err(failure) if failure.kind == Kind::AlreadyRunning && Instant::now() < until => {
                let holder = failure.details.as_ref().and_then(|details| details["pid"].as_i64());
                let holder = holder.and_then(|pid| i32::try_from(pid).ok());
                // Who holds it without saying so is not waited for.
                if holder.is_none_or(|pid| ProcessId::of(pid).is_some_and(|it| it.is_alive())) {
                    return Err(failure);
                }
                thread::sleep(Duration::from_millis(10));
            }
            taken => return taken,
        }
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(&path).map_err(|error| {
        Failure::new(Kind::IoFailed, format!("cannot find {}: {error}", path.display()))
    })
}

/// Makes a directory that is ours alone, or sees to it that an existing one is.
pub(super) fn make_private(dir: &Path, uid: u32) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            Kind::IoFailed,
            format!("the directory {} cannot be used: {error}", dir.display()),
        )
        .hint("name another one with --state-dir or LLAMACTL_STATE_DIR")
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let facts = fs::metadata(dir).map_err(failed)?;
    if facts.uid() != uid {
        return Err(Failure::new(
            Kind::IoFailed,
            format!(
                "the directory {} belongs to uid {}, not to uid {uid}",
                dir.display(),
                facts.uid()
            ),
        )
        .hint("run the daemon as its owner, or name another directory with --state-dir"));
    }
    if facts.mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// Sees to it that what lies in a state directory is ours alone too, whatever became of its mode: the
/// directory's own is not the only guard. A link of the owner's to another place is left, and what it leads
/// to is held to the same.
fn make_contents_private(state_dir: &Path, uid: u32) -> Result<(), Failure> {
    for dir in ["secrets", "logs", "log"] {
        make_private(&state_dir.join(dir), uid)?;
    }
    let files =
        ["registry", "metrics"].map(|it| ["", "-wal", "-shm"].map(|end| format!("{it}.db{end}")));
    for file in files.iter().flatten() {
        let file = state_dir.join(file);
        // Looked at and never opened: to close it again would give up SQLite's locks.
        let Ok(facts) = fs::symlink_metadata(&file) else { continue };
        if facts.is_file() && facts.mode() & 0o077 != 0 {
            let shown = file.display();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).map_err(|error| {
                let message =
                    format!("others may read {shown}, and that cannot be changed: {error}");
                Failure::new(Kind::IoFailed, message)
            })?;
            tracing::warn!(file = %shown, "others could read it: its mode is 600 again");
        }
    }
    Ok(())
}
