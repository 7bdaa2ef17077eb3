//! One life of the daemon: prepare, serve, stop.
//!
//! ```text
//!   prepare (may fail in the foreground) ─▶ open registry ─▶ take over servers ─▶ listen
//!     ─▶ … ─▶ order or signal ─▶ stop servers ─▶ end streams ─▶ close
//! ```
//!
//! A second signal ends it at once; the servers then stay, for the next daemon to take over.

use crate::app::{App, Places, StopOrder, StopSwitch};
use crate::args::Args;
use crate::detach::Herald;
use crate::library::{self, Library, Request};
use crate::logs::watch::Watcher;
use crate::metrics;
use crate::os::descriptors::{close_on_exec_from, disable_core_dumps};
use crate::rpc::{self, Authority, Counters, Limits, socket};
use crate::settings;
use crate::store::{NewEvent, Registry, now_ms};
use crate::supervisor::Supervisor;
use llamactl_protocol::library::ScanItem;
use llamactl_protocol::place::{self, SYSTEM_SOCKET, SYSTEM_STATE_DIR};
use llamactl_protocol::{Failure, Kind};
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Everything that is refused in the foreground is settled: directories, lock, socket.
pub struct Ready {
    places: Places,
    bound: socket::Bound,
    authority: Authority,
}

impl Ready {
    /// Prepares the process and takes the socket. Starts no thread.
    ///
    /// # Errors
    /// Another daemon is running; the state directory or the socket's place is not fit.
    pub fn prepare(args: &Args) -> Result<Ready, Failure> {
        let failed = |what: &str, error: &std::io::Error| {
            Failure::new(Kind::IoFailed, format!("{what}: {error}"))
        };
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        // What our parent left open is not for the servers.
        close_on_exec_from(3).map_err(|error| failed("cannot close inherited files", &error))?;
        // A dump of a server would hold its model and its users' prompts.
        disable_core_dumps().map_err(|error| failed("cannot turn core dumps off", &error))?;

        let uid = rustix::process::geteuid().as_raw();
        let state_dir = absolute(match &args.state_dir {
            Some(dir) => dir.clone(),
            None if args.system => PathBuf::from(SYSTEM_STATE_DIR),
            None => place::state_dir()?,
        })?;
        make_private(&state_dir, uid)?;
        let path = absolute(match &args.socket {
            Some(path) => path.clone(),
            None if args.system => PathBuf::from(SYSTEM_SOCKET),
            None => place::socket_in(&state_dir),
        })?;
        let (place, authority) = if args.system {
            let gid = rpc::group_id(&args.group)?;
            (socket::Place::System { path: path.clone(), gid }, Authority::system(uid, gid))
        } else if args.socket.is_some() {
            (socket::Place::Given(path.clone()), Authority::user(uid))
        } else {
            (socket::Place::User(path.clone()), Authority::user(uid))
        };
        let bound = socket::bind(&place)?;
        let log = args.detach.then(|| state_dir.join("log").join("llamactld.log"));
        Ok(Ready { places: Places { state_dir, socket: path, log }, bound, authority })
    }

    /// The file to log to, when detached.
    #[must_use]
    pub fn log(&self) -> Option<&Path> {
        self.places.log.as_deref()
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(&path).map_err(|error| {
        Failure::new(Kind::IoFailed, format!("cannot find {}: {error}", path.display()))
    })
}

/// Makes a directory that is ours alone, or sees to it that an existing one is.
fn make_private(dir: &Path, uid: u32) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            Kind::IoFailed,
            format!("the state directory {} cannot be used: {error}", dir.display()),
        )
        .hint("name another one with --state-dir or LLAMACTL_STATE_DIR")
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let facts = fs::metadata(dir).map_err(failed)?;
    if facts.uid() != uid {
        return Err(Failure::new(
            Kind::IoFailed,
            format!(
                "the state directory {} belongs to uid {}, not to uid {uid}",
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

/// Runs the daemon until it is told to stop. `herald` is told when clients can connect.
///
/// # Errors
/// What kept it from starting.
pub fn run(ready: Ready, herald: &mut Herald) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("llamactld")
        .build()
        .map_err(|error| {
            Failure::new(Kind::IoFailed, format!("the daemon cannot start its threads: {error}"))
        })?;
    let outcome = runtime.block_on(serve(ready, herald));
    // A system call that hangs (a dead network mount, a driver) must not keep us from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(ready: Ready, herald: &mut Herald) -> Result<(), Failure> {
    let Ready { places, bound, authority } = ready;
    let socket::Bound { listener, mut claim } = bound;
    // The lock was taken before the fork, by another process than this.
    if let Err(error) = claim.sign() {
        tracing::warn!(%error, "the lock file does not name this process");
    }
    // First of all: from here on a signal is an order and not the end.
    let stop = StopSwitch::default();
    obey_signals(&stop)?;
    let started_at_ms = now_ms();
    let version = env!("CARGO_PKG_VERSION");
    let registry = Registry::open(&places.state_dir)?;
    settings::remove_unused(&registry).await;
    let started = format!("llamactld {version} started, pid {}", std::process::id());
    // A full disk must not keep the daemon from starting: servers may have to be stopped.
    let event = NewEvent::of_daemon("daemon.started", "boot", started);
    if let Err(error) = registry.append_event(event).await {
        tracing::error!(%error, "cannot record the start");
    }
    let servers_dir = place::run_dir(&places.state_dir).join("servers");
    make_private(&servers_dir, rustix::process::geteuid().as_raw())?;
    let supervisor =
        Supervisor::start(registry.clone(), Watcher::start(), &places.state_dir, servers_dir)
            .await?;
    let caches = library::places::caches(|name| std::env::var_os(name));
    let library = Library::new(registry.clone(), caches);
    let sampling = CancellationToken::new();
    let metrics =
        metrics::spawn(&metrics::Settings::default(), supervisor.running(), sampling.clone());
    let counters = Arc::new(Counters::default());
    let mark = places.stopped_mark();
    let _ = fs::remove_file(&mark);
    let app = Arc::new(App {
        registry: registry.clone(),
        models: library.clone(),
        supervisor: supervisor.clone(),
        metrics,
        counters: Arc::clone(&counters),
        places: places.clone(),
        started_at_ms,
        stop: stop.clone(),
    });
    let deadline = std::env::var(rpc::TEST_MESSAGE_DEADLINE_VARIABLE).ok();
    let server = rpc::Server {
        routes: rpc::handlers::service(app).into_routes(),
        authority,
        limits: Limits::with_test_deadline(deadline.as_deref()),
        counters,
    };
    let closing = CancellationToken::new();
    let serving = tokio::spawn(server.serve(listener, closing.clone()));
    tracing::info!(version, pid = std::process::id(), socket = %places.socket.display(), "ready");
    herald.tell(None);
    let looking = tokio::spawn(look_through_library(library));

    let order = stop.ordered().await;
    tracing::info!(by = order.by, keep_servers = order.keep_servers, "stopping");
    if order.on_purpose
        && let Err(error) = fs::write(&mark, b"")
    {
        tracing::warn!(%error, "cannot leave the mark that says the daemon was stopped");
    }
    looking.abort();
    supervisor.close();
    // Servers first, while clients can still watch them stop.
    if !order.keep_servers {
        supervisor.stop_all(&order.by).await;
    }
    record_stop(&registry, &order).await;
    // Streams are told before their sources go.
    closing.cancel();
    match serving.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the listener failed"),
        Err(error) => tracing::error!(%error, "the listener failed"),
    }
    sampling.cancel();
    supervisor.end().await;
    if let Err(error) = registry.checkpoint().await {
        tracing::warn!(%error, "cannot tidy the registry");
    }
    if let Err(error) = claim.release() {
        tracing::warn!(%error, "cannot remove the socket");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Registers what is new in the remembered directories since the last time.
async fn look_through_library(library: Library) {
    let request = Request { remembered: true, add: true, ..Request::default() };
    let mut scan = library.scan(request, "the scan at start".to_owned());
    loop {
        match scan.next().await {
            Ok(Some(ScanItem::Done(summary))) if summary.found + summary.skipped > 0 => {
                tracing::info!(
                    found = summary.found,
                    added = summary.added,
                    skipped = summary.skipped,
                    elapsed_ms = summary.elapsed_ms,
                    "looked through the remembered directories"
                );
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the remembered directories cannot be looked through");
                return;
            }
        }
    }
}

async fn record_stop(registry: &Registry, order: &StopOrder) {
    let what = if order.keep_servers { "; its servers go on" } else { "" };
    let message = format!("llamactld stopped: {}{what}", order.by);
    let event = NewEvent::of_daemon("daemon.stopped", &order.by, message);
    if let Err(error) = registry.append_event(event).await {
        tracing::warn!(%error, "cannot record the stop");
    }
}

/// The first TERM or INT (or HUP: the terminal was closed) is an order to stop, the second ends
/// the process.
fn obey_signals(stop: &StopSwitch) -> Result<(), Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(Kind::IoFailed, format!("the daemon cannot receive signals: {error}"))
        })
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut signals = 0;
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hang_up.recv() => "SIGHUP",
            };
            signals += 1;
            if signals > 1 {
                tracing::warn!(
                    name,
                    "a second signal: ending at once; servers that still run are left to the next daemon"
                );
                std::process::exit(1);
            }
            stop.order(false, false, name.to_owned());
        }
    });
    Ok(())
}
