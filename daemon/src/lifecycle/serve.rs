//! One life of the daemon: prepare, serve, stop.
//!
//! ```text
//!   prepare (may fail in the foreground) ─▶ open registry ─▶ take over servers ─▶ listen
//!     ─▶ … ─▶ order or signal ─┬▶ stop: stop servers ─▶ end streams ─▶ close
//!                              ╰▶ restart: end streams ─▶ close ─▶ execute the program of now
//! ```
//!
//! A second signal ends it at once; the servers then stay, for the next daemon to take over.

use super::{own_log, service_manager, state_lock, watchdog};
use crate::api::app::{App, Beginning, Order, Places, StopOrder, StopSwitch};
use crate::clock::now_ms;
use crate::config;
use crate::library::{self, Library, Request};
use crate::lifecycle::args::Args;
use crate::lifecycle::detach::Herald;
use crate::lifecycle::handover::{Inheritance, LateStop, Program, number};
use crate::logs::watch::Watcher;
use crate::metrics::{self, Metrics};
use crate::models;
use crate::os::descriptors::{close_on_exec_from, disable_core_dumps, inherited};
use crate::os::process::ProcessId;
use crate::os::signals::heed_ignored;
use crate::rpc::{self, Authority, Counters, Keeper, Limits, socket};
use crate::store::registry::{NewEvent, Registry};
use crate::supervisor::{Start, Supervisor};
use llamactl_protocol::daemon::ConfigReport;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::library::ScanItem;
use llamactl_protocol::place::{self, SYSTEM_SOCKET, SYSTEM_STATE_DIR};
use llamactl_protocol::{Actor, Failure, Kind};
use std::fs::{self, File};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Everything that is refused in the foreground is settled: directories, lock, socket.
pub struct Ready {
    places: Places,
    place: socket::Place,
    bound: socket::Bound,
    state_lock: File,
    authority: Authority,
    config: ConfigReport,
    beginning: Beginning,
    program: Program,
    /// A stop was ordered while the program before this one could not obey any more.
    late_stop: Option<LateStop>,
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
        let program = Program::of_this_process();
        // Before everything is marked to be closed: what is not marked by then was left for us.
        let left = args.inherit.as_ref().map(Estate::take).transpose();
        let left =
            left.map_err(|error| failed("what the daemon before left is not there", &error))?;
        // What our parent left open is not for the servers.
        close_on_exec_from(3).map_err(|error| failed("cannot close inherited files", &error))?;
        heed_ignored();
        // A dump of a server would hold its model and its users' prompts.
        disable_core_dumps().map_err(|error| failed("cannot turn core dumps off", &error))?;

        let config = config::load(args.config.as_deref(), args.system)?;
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
        let (bound, state_lock) = match left {
            Some(Estate { listener, lock, state_lock, node }) => {
                (socket::inherit(&place, listener, lock, node)?, state_lock)
            }
            None => {
                let bound = once_free(|| socket::bind(&place).map_err(Failure::from))?;
                match once_free(|| state_lock::take(&state_dir)) {
                    Ok(lock) => (bound, lock),
                    Err(failure) => {
                        // Nobody shall wait at a socket that nobody serves.
                        let _ = bound.claim.release();
                        return Err(failure);
                    }
                }
            }
        };
        let log = args.detach.then(|| state_dir.join("log").join("llamactld.log"));
        let places = Places { state_dir, socket: path, log };
        let beginning = match (&args.inherit, args.started_by_client) {
            (Some(_), _) => Beginning::InPlace,
            (None, true) => Beginning::ByClient,
            (None, false) => Beginning::Asked,
        };
        let late_stop = args.inherit.as_ref().and_then(|left| left.stop);
        let ready = Ready {
            places,
            place,
            bound,
            state_lock,
            authority,
            config,
            beginning,
            program,
            late_stop,
        };
        Ok(ready)
    }

    /// The file to log to, when detached.
    #[must_use]
    pub fn log(&self) -> Option<&Path> {
        self.places.log.as_deref()
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

/// What the program before left open.
struct Estate {
    listener: OwnedFd,
    lock: OwnedFd,
    state_lock: File,
    node: (u64, u64),
}

impl Estate {
    fn take(left: &Inheritance) -> io::Result<Estate> {
        Ok(Estate {
            listener: inherited(left.listener)?,
            lock: inherited(left.lock)?,
            state_lock: inherited(left.state_lock)?.into(),
            node: left.node,
        })
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
    match outcome? {
        Ended::Stopped => Ok(()),
        Ended::Replaced(succession) => Err(succession.carry_out()),
    }
}

/// How a life of the daemon ended.
enum Ended {
    Stopped,
    Replaced(Succession),
}

/// What the program of now gets from this one.
struct Succession {
    program: Program,
    claim: socket::Claim,
    state_lock: File,
    stop: StopSwitch,
    /// What servers live by that end with the daemon.
    lifelines: Vec<OwnedFd>,
}

impl Succession {
    /// Executes the program of now. Returns only when that fails.
    fn carry_out(self) -> Failure {
        let Some((listener, lock, node)) = self.claim.estate() else {
            return Failure::new(Kind::Internal, "there is no listener to hand on");
        };
        let mut kept = vec![listener, lock, self.state_lock.as_fd()];
        kept.extend(self.lifelines.iter().map(OwnedFd::as_fd));
        let inheritance = Inheritance {
            listener: number(listener),
            lock: number(lock),
            state_lock: number(self.state_lock.as_fd()),
            node,
            stop: self.stop.stopping().map(|order| LateStop {
                keep_servers: order.keep_servers,
                on_purpose: order.on_purpose,
            }),
        };
        let failure = self.program.execute(&inheritance, &kept);
        tracing::error!(%failure, "the daemon ends");
        failure
    }
}

async fn serve(ready: Ready, herald: &mut Herald) -> Result<Ended, Failure> {
    let Ready { places, place, bound, state_lock, authority, config, beginning, program, .. } =
        ready;
    let socket::Bound { listener, mut claim } = bound;
    // The lock was taken before the fork, by another process than this.
    if let Err(error) = claim.sign() {
        tracing::warn!(%error, "the lock file does not name this process");
    }
    // First of all: from here on a signal is an order and not the end.
    let stop = StopSwitch::default();
    obey_signals(&stop, &program, places.log.is_none())?;
    if let Some(LateStop { keep_servers, on_purpose }) = ready.late_stop {
        // Who that was the program before did not hand over.
        let user = "somebody, during the restart".to_owned();
        stop.order(keep_servers, on_purpose, Actor::Client { user, command: None });
    }
    let _watchdog = watchdog::start().inspect_err(|error| {
        tracing::warn!(%error, "nobody watches whether the daemon stands still");
    });
    let started_at_ms = now_ms();
    let version = env!("CARGO_PKG_VERSION");
    let registry = Registry::open(&places.state_dir)?;
    models::remove_unused(&registry).await;
    record_start(&registry, beginning).await;
    let servers_dir = place::run_dir(&places.state_dir).join("servers");
    make_private(&servers_dir, rustix::process::geteuid().as_raw())?;
    let supervisor = Supervisor::start(
        registry.clone(),
        Watcher::start(),
        &places.state_dir,
        servers_dir.clone(),
        config.config.clone(),
        match beginning {
            Beginning::Asked => Start::Fresh,
            Beginning::ByClient => Start::Quiet,
            Beginning::InPlace => Start::InPlace,
        },
    )
    .await?;
    let caches = library::places::caches(|name| std::env::var_os(name));
    let library = Library::new(registry.for_the_wire(), caches);
    let sampling = CancellationToken::new();
    let metrics =
        metrics::spawn(&metrics::Settings::default(), supervisor.running(), sampling.clone());
    tokio::spawn(weigh_servers(metrics.clone(), supervisor.clone()));
    let counters = Arc::new(Counters::default());
    let mark = places.stopped_mark();
    let _ = fs::remove_file(&mark);
    let app = Arc::new(App {
        registry: registry.for_the_wire(),
        models: library.clone(),
        supervisor: supervisor.clone(),
        metrics,
        counters: Arc::clone(&counters),
        places: places.clone(),
        config,
        try_new_program: {
            let program = program.clone();
            Arc::new(move || program.try_out())
        },
        started_at_ms,
        stop: stop.clone(),
    });
    let deadline = std::env::var(rpc::TEST_MESSAGE_DEADLINE_VARIABLE).ok();
    let server = rpc::Server {
        routes: crate::api::routes(app),
        authority,
        limits: Limits::with_test_deadline(deadline.as_deref()),
        counters,
    };
    let closing = CancellationToken::new();
    let (renewed, new_listeners) = mpsc::channel(1);
    let serving = tokio::spawn(server.serve(listener, new_listeners, closing.clone()));
    let leaving = CancellationToken::new();
    let keeper = Keeper { place, claim, servers_dir, renewed };
    let keeping = tokio::spawn(keeper.run(leaving.clone()));
    tracing::info!(version, pid = std::process::id(), socket = %places.socket.display(), "ready");
    herald.tell(None);
    service_manager::tell("READY=1");
    let looking = tokio::spawn(look_through_library(library));

    let order = stop.ordered().await;
    looking.abort();
    leaving.cancel();
    let claim = keeping.await;
    let mut claim = claim.map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
    match &order {
        Order::Stop(order) => {
            tracing::info!(by = %order.by, keep_servers = order.keep_servers, "stopping");
            service_manager::tell("STOPPING=1");
            if order.on_purpose
                && let Err(error) = fs::write(&mark, b"")
            {
                tracing::warn!(%error, "cannot leave the mark that says the daemon was stopped");
            }
            supervisor.close();
            // Servers first, while clients can still watch them stop.
            if !order.keep_servers {
                supervisor.stop_all(&order.by).await;
            }
            record_stop(&registry, order).await;
            claim.close();
        }
        Order::Restart { by, version } => {
            tracing::info!(%by, version, "letting the program of now take over");
            record_restart(&registry, by, version).await;
        }
    }
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
    if let Order::Restart { .. } = order {
        let lifelines = supervisor.lifelines();
        return Ok(Ended::Replaced(Succession { program, claim, state_lock, stop, lifelines }));
    }
    if let Err(error) = claim.release() {
        tracing::warn!(%error, "cannot remove the socket");
    }
    tracing::info!("stopped");
    Ok(Ended::Stopped)
}

/// Registers what is new in the remembered directories since the last time.
async fn look_through_library(library: Library) {
    let request = Request { remembered: true, add: true, ..Request::default() };
    let mut scan = library.scan(request, Actor::Policy);
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

/// Tells the supervisor what its servers hold on GPUs, until sampling stops.
async fn weigh_servers(metrics: Metrics, supervisor: Supervisor) {
    let Ok((_, mut samples)) = metrics.subscribe().await else { return };
    loop {
        match samples.recv().await {
            Ok(sample) => supervisor.weigh(&sample),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

async fn record_start(registry: &Registry, beginning: Beginning) {
    let (by, how) = match beginning {
        Beginning::Asked => (Actor::Boot, "started"),
        // A client of the daemon's own user: another's is not given a daemon.
        Beginning::ByClient => {
            let user = format!("uid {}", rustix::process::getuid().as_raw());
            (Actor::Client { user, command: None }, "started")
        }
        Beginning::InPlace => (Actor::Policy, "took over"),
    };
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    let message = format!("llamactld {version} {how}, pid {pid}");
    record(registry, NewEvent::of_daemon(EventKind::DaemonStarted, &by, message)).await;
}

async fn record_restart(registry: &Registry, by: &Actor, version: &str) {
    let message = format!("llamactld {version} takes over: {by}; its servers go on");
    record(registry, NewEvent::of_daemon(EventKind::DaemonRestarted, by, message)).await;
}

async fn record_stop(registry: &Registry, order: &StopOrder) {
    let what = if order.keep_servers { "; its servers go on" } else { "" };
    let message = format!("llamactld stopped: {}{what}", order.by);
    record(registry, NewEvent::of_daemon(EventKind::DaemonStopped, &order.by, message)).await;
}

/// A full disk must not keep the daemon from starting and ending: servers may have to be stopped.
async fn record(registry: &Registry, event: NewEvent) {
    let kind = event.kind.clone();
    if let Err(error) = registry.append_event(event).await {
        tracing::error!(%kind, %error, "cannot record what happens to the daemon");
    }
}

/// The first TERM or INT is an order to stop, the second ends the process. HUP is an order to let
/// the program of now take over; but to a daemon whose log goes to a terminal it says that the
/// terminal was closed, which stops it.
fn obey_signals(stop: &StopSwitch, program: &Program, in_foreground: bool) -> Result<(), Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(Kind::IoFailed, format!("the daemon cannot receive signals: {error}"))
        })
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let at_terminal = in_foreground && io::stderr().is_terminal();
    let (stop, program) = (stop.clone(), program.clone());
    tokio::spawn(async move {
        let mut signals = 0;
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hang_up.recv() => {
                    if at_terminal {
                        "SIGHUP"
                    } else {
                        reload(&stop, &program).await;
                        continue;
                    }
                }
            };
            signals += 1;
            if signals > 1 {
                tracing::warn!(
                    name,
                    "a second signal: ending at once; servers that still run are left to the next daemon"
                );
                own_log::flush();
                std::process::exit(1);
            }
            stop.order(false, false, Actor::Signal { signal: name.to_owned() });
        }
    });
    Ok(())
}

/// What SIGHUP asks for.
async fn reload(stop: &StopSwitch, program: &Program) {
    let trial = program.clone();
    match tokio::task::spawn_blocking(move || trial.try_out()).await {
        Ok(Ok(version)) => stop.restart(Actor::Signal { signal: "SIGHUP".to_owned() }, version),
        Ok(Err(failure)) => tracing::error!(%failure, "SIGHUP: the daemon goes on as it was"),
        Err(error) => tracing::error!(%error, "SIGHUP: the daemon goes on as it was"),
    }
}
