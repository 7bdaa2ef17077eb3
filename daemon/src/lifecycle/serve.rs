//! One life of the daemon: its parts start, it serves until an order comes, its parts stop.
//!
//! ```text
//!   registry ─▶ supervisor ─▶ metrics ─▶ exporter ─▶ connections ─▶ socket ─▶ ready ─▶ servers ─▶ library scan
//!      ▲            ▲            ▲           ▲            ▲            ▲                  │
//!      ╰────────────┴──── stop, one after the other ──────┴────────────┴──── an order ◀───╯
//!                          │
//!                          ╰─▶ the process ends, or executes the program of now
//! ```
//!
//! Each part is started by one function here, which also says how it is stopped. A second signal ends
//! the process at once; the servers then stay, for the next daemon to take over.

use super::detach::Readiness;
use super::handover::{Handover, PendingStop};
use super::parts::Parts;
use super::prepare::{Prepared, make_private};
use super::program::Program;
use super::{notify, own_log, record, signals, watchdog};
use crate::api::Exposition;
use crate::api::app::{App, Beginning, Order, Places, StopSwitch};
use crate::checkup::OtherServers;
use crate::clock::now_ms;
use crate::config::Config;
use crate::exporter;
use crate::library::{self, Library, Request, Scan};
use crate::logs::watch::Watcher;
use crate::metrics::{self, Metrics};
use crate::models::{self, Feed, Models};
use crate::os::memory;
use crate::rpc::{self, Authority, Counters, Keeper, Limits, socket};
use crate::store::registry::{Registry, StoreError};
use crate::supervisor::{MARKER, Start, Supervisor};
use llamactl_protocol::daemon::MetricsConfig;
use llamactl_protocol::library::ScanItem;
use llamactl_protocol::place;
use llamactl_protocol::{Actor, Failure, Kind, WirePath};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// How many threads a daemon has that has begun to serve.
const THREADS: usize = 12;

/// Makes as many threads as a daemon needs and ends them: what makes them later does not say in words that
/// none could be made, and the runtime may wait for one for ever.
///
/// # Errors
/// [`Kind::IoFailed`]: there are too many already.
pub fn try_threads() -> Result<(), Failure> {
    let gate = Mutex::new(());
    let tried = thread::scope(|scope| {
        // All are there at once.
        let _closed = gate.lock();
        let pass = || drop(gate.lock());
        (0..THREADS).try_for_each(|_| thread::Builder::new().spawn_scoped(scope, pass).map(drop))
    });
    tried.map_err(|error| {
        Failure::new(Kind::IoFailed, format!("no thread could be made: {error}")).hint(
            "the user has too many processes, or too little memory: see `ulimit -u` and `ulimit -v`, or \
             LimitNPROC= and TasksMax= of the service",
        )
    })
}

/// Runs the daemon until it is told to stop. `readiness` is told when clients can connect.
///
/// # Errors
/// What kept it from starting, or from letting the next program take over.
pub fn run(prepared: Prepared, readiness: &mut Readiness) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("llamactld")
        .build()
        .map_err(|error| {
            Failure::new(Kind::IoFailed, format!("the daemon cannot start its threads: {error}"))
        })?;
    let outcome = runtime.block_on(serve(prepared, readiness));
    // A system call that hangs (a dead network mount, a driver) must not keep us from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome? {
        Ended::Stopped => Ok(()),
        Ended::Replaced { program, handover } => {
            let failure = program.execute(&handover);
            tracing::error!(%failure, "the daemon ends");
            Err(failure)
        }
    }
}

/// How a life of the daemon ended.
enum Ended {
    Stopped,
    /// The program of now is to go on with this.
    Replaced {
        program: Program,
        handover: Handover<OwnedFd>,
    },
}

async fn serve(prepared: Prepared, readiness: &mut Readiness) -> Result<Ended, Failure> {
    let Prepared { places, place, bound, state_lock, authority, config, .. } = prepared;
    let Prepared { beginning, program, pending_stop, lifelines, group, metrics: left, .. } =
        prepared;
    let socket::Bound { listener, mut guard } = bound;
    // The lock was taken before the fork, by another process than this.
    if let Err(error) = guard.sign() {
        tracing::warn!(%error, "the lock file does not name this process");
    }
    // First of all: from here on a signal is an order and not the end.
    let stop = StopSwitch::default();
    signals::obey(&stop, &program, places.state_dir.clone(), places.log.is_none())?;
    if let Some(PendingStop { keep_servers, on_purpose }) = pending_stop {
        // Who that was the program before did not hand over.
        let user = "somebody, during the restart".to_owned();
        stop.order(keep_servers, on_purpose, Actor::Client { user, command: None });
    }
    let _watchdog = watchdog::start().inspect_err(|error| {
        tracing::warn!(%error, "nobody watches whether the daemon stands still");
    });

    let mut parts = Parts::default();
    let registry = start_registry(&mut parts, &places, beginning).await?;
    let servers_dir = servers_dir(&places)?;
    let supervisor = start_supervisor(
        &mut parts,
        &registry,
        &places,
        servers_dir.clone(),
        config.config.clone(),
        lifelines,
        start_of(beginning),
    )
    .await;
    start_feed(&mut parts, &registry, &supervisor);
    let metrics =
        start_metrics(&mut parts, &registry, &supervisor, &places, &config.config.metrics)?;
    let caches = library::places::caches(|name| std::env::var_os(name));
    let library = Library::new(registry.for_the_wire(), caches);
    let counters = Arc::new(Counters::default());
    let access = metrics_access(&config.config.metrics, group);
    let (problem, metrics_problem) = watch::channel(None);
    let app = Arc::new(App {
        registry: registry.for_the_wire(),
        models: Models::new(registry.for_the_wire()),
        model_files: library.clone(),
        supervisor: supervisor.clone(),
        metrics,
        counters: Arc::clone(&counters),
        places: places.clone(),
        config,
        try_new_program: {
            let (program, state_dir) = (program.clone(), places.state_dir.clone());
            Arc::new(move || program.try_out(&state_dir))
        },
        metrics_problem,
        log_lines_lost: own_log::lines_lost,
        other_servers: OtherServers::new(MARKER),
        started_at_ms: now_ms(),
        stop: stop.clone(),
    });
    let _ = fs::remove_file(places.stopped_mark());
    // What listens where nothing is to be read any more is closed.
    let left = left.and_then(exporter::Listener::take);
    let metrics_left =
        access.map(|access| start_exporter(&mut parts, access, left, Arc::clone(&app), problem));
    let renewed = start_connections(&mut parts, app, authority, counters, listener);
    let state = (places.state_dir.clone(), start_keeping(&mut parts, &registry));
    let guard = start_socket(&mut parts, Keeper { place, guard, servers_dir, renewed, state });
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, pid = std::process::id(), socket = %places.socket.display(), "ready");
    readiness.tell(None);
    notify::tell("READY=1");
    start_servers(&mut parts, &registry, &supervisor, start_of(beginning));
    start_library_scan(&mut parts, library);
    let rest = tokio::spawn(rest_after_start());

    let order = stop.ordered().await;
    rest.abort();
    begin_to_end(&order, &places, &supervisor).await;
    let is_restart = matches!(order, Order::Restart { .. });
    parts.stop(order).await;
    let guard = guard.await.map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
    if is_restart {
        let mut handover = hand_over(&guard, &state_lock, &stop, &supervisor)?;
        if let Some(left) = metrics_left {
            handover.metrics = left.await.ok();
        }
        return Ok(Ended::Replaced { program, handover });
    }
    if let Err(error) = guard.release() {
        tracing::warn!(%error, "cannot remove the socket");
    }
    tracing::info!("stopped");
    Ok(Ended::Stopped)
}

/// The registry: the last part to stop.
async fn start_registry(
    parts: &mut Parts,
    places: &Places,
    beginning: Beginning,
) -> Result<Registry, Failure> {
    let registry = Registry::open(&places.state_dir)?;
    models::remove_unused(&registry).await;
    record::start(&registry, beginning).await;
    let opened = registry.clone();
    parts.started("registry", |_| async move {
        // The last chance of what waits for room.
        opened.look().await;
        if let Err(error) = opened.checkpoint().await {
            tracing::warn!(%error, "cannot tidy the registry");
        }
    });
    Ok(registry)
}

/// The directory of the servers' sockets.
fn servers_dir(places: &Places) -> Result<PathBuf, Failure> {
    let servers_dir = place::run_dir(&places.state_dir).join("servers");
    make_private(&servers_dir, rustix::process::geteuid().as_raw())?;
    Ok(servers_dir)
}

/// The supervisor. Its servers are a part of their own: stopping this one leaves them alone.
async fn start_supervisor(
    parts: &mut Parts,
    registry: &Registry,
    places: &Places,
    servers_dir: PathBuf,
    config: Config,
    lifelines: Vec<(String, OwnedFd)>,
    start: Start,
) -> Supervisor {
    let supervisor = Supervisor::new(
        registry.clone(),
        Watcher::start(),
        &places.state_dir,
        servers_dir,
        config,
        lifelines,
        start,
    )
    .await;
    if let Err(failure) = supervisor.look().await {
        tracing::error!(%failure, "the servers that ran before are not known yet");
    }
    let started = supervisor.clone();
    parts.started("supervisor", |_| async move { started.end().await });
    supervisor
}

/// The news of models and defaults for the supervisor. It begins before a server's task reads its
/// model, so that no change falls between.
fn start_feed(parts: &mut Parts, registry: &Registry, supervisor: &Supervisor) {
    let following = tokio::spawn(follow_models(Feed::from_now(registry), supervisor.clone()));
    parts.started("model feed", |_| async move { following.abort() });
}

/// How the supervisor goes on from what an earlier daemon left.
fn start_of(beginning: Beginning) -> Start {
    match beginning {
        Beginning::Asked => Start::Fresh,
        Beginning::ByClient => Start::Quiet,
        Beginning::InPlace => Start::InPlace,
    }
}

/// The sampling loop, what the supervisor takes from it, and what is kept of it.
fn start_metrics(
    parts: &mut Parts,
    registry: &Registry,
    supervisor: &Supervisor,
    places: &Places,
    config: &MetricsConfig,
) -> Result<Metrics, Failure> {
    let kept = metrics::history::Settings {
        dir: places.state_dir.clone(),
        size_bytes: config.history_bytes.get(),
    };
    let (told, directories) = watch::channel(vec![places.state_dir.clone()]);
    tokio::spawn(follow_directories(registry.clone(), told));
    let (servers, starts) = (supervisor.running(), supervisor.starts());
    let started = metrics::start(kept, metrics::Watched { servers, starts, directories });
    let (metrics, sampling) = started.map_err(|error| {
        Failure::new(Kind::IoFailed, format!("the daemon cannot start its threads: {error}"))
    })?;
    tokio::spawn(record_gpu_memory(metrics.clone(), supervisor.clone()));
    tokio::spawn(record::history(metrics.history().health(), registry.clone()));
    let supervisor = supervisor.clone();
    parts.started("metrics", |_| async move {
        // A start that was admitted before may still be made, and is counted.
        supervisor.end().await;
        sampling.end().await;
    });
    Ok(metrics)
}

/// Those who connect. Stopping ends streams and flushes what was said; where a new listener goes.
fn start_connections(
    parts: &mut Parts,
    app: Arc<App>,
    authority: Authority,
    counters: Arc<Counters>,
    listener: UnixListener,
) -> mpsc::Sender<UnixListener> {
    let deadline = std::env::var(rpc::TEST_MESSAGE_DEADLINE_VARIABLE).ok();
    let server = rpc::Server {
        routes: crate::api::routes(&app),
        authority,
        limits: Limits::with_test_deadline(deadline.as_deref()),
        counters,
    };
    let closing = CancellationToken::new();
    let (renewed, new_listeners) = mpsc::channel(1);
    let serving = tokio::spawn(server.serve(listener, new_listeners, closing.clone()));
    parts.started("connections", |_| async move {
        closing.cancel();
        match serving.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the listener failed"),
            Err(error) => tracing::error!(%error, "the listener failed"),
        }
    });
    renewed
}

/// Where the metrics may be read, and by whom, where that is configured.
fn metrics_access(config: &MetricsConfig, group: Option<String>) -> Option<exporter::Access> {
    let address = config.listen.clone()?;
    Some(exporter::Access { address, group: config.listen_group.clone().or(group) })
}

/// Where Prometheus reads the metrics. At a restart what listens comes out.
fn start_exporter(
    parts: &mut Parts,
    access: exporter::Access,
    left: Option<exporter::Listener>,
    app: Arc<App>,
    problem: watch::Sender<Option<String>>,
) -> oneshot::Receiver<exporter::Left<OwnedFd>> {
    let closing = CancellationToken::new();
    let exposition = Exposition::start(app);
    let serving = exporter::run(access, left, exposition, problem, closing.clone());
    let serving = tokio::spawn(serving);
    let (give, to_leave) = oneshot::channel();
    parts.started("exporter", |order| async move {
        closing.cancel();
        match serving.await {
            // Whoever connects during a restart waits for the next program.
            Ok(Some(listener)) if matches!(*order, Order::Restart { .. }) => {
                match listener.leave() {
                    Ok(left) => drop(give.send(left)),
                    Err(error) => tracing::warn!(%error, "metrics cannot be read for a moment"),
                }
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the exporter failed"),
        }
    });
    to_leave
}

/// Looks after the registry's files whenever it is told that something in their directory changed.
fn start_keeping(parts: &mut Parts, registry: &Registry) -> Arc<Notify> {
    let changed = Arc::new(Notify::new());
    let (told, registry) = (Arc::clone(&changed), registry.clone());
    let keeping = tokio::spawn(async move {
        loop {
            told.notified().await;
            registry.look().await;
        }
    });
    parts.started("registry's place", |_| async move { keeping.abort() });
    changed
}

/// The socket in its place. What is held of it when it has stopped comes out.
fn start_socket(parts: &mut Parts, keeper: Keeper) -> oneshot::Receiver<socket::SocketGuard> {
    let leaving = CancellationToken::new();
    let (give, guard) = oneshot::channel();
    let keeping = tokio::spawn(keeper.run(leaving.clone()));
    parts.started("socket", |order| async move {
        leaving.cancel();
        let Ok(mut guard) = keeping.await else { return };
        // Whoever connects during a restart waits for the next program.
        if matches!(*order, Order::Stop(_)) {
            guard.close();
        }
        let _ = give.send(guard);
    });
    guard
}

/// The servers: what ran is looked at and what is to run is started, beside the socket. They are
/// stopped, where that was ordered, while clients can still watch.
fn start_servers(parts: &mut Parts, registry: &Registry, supervisor: &Supervisor, start: Start) {
    let (registry, supervisor) = (registry.clone(), supervisor.clone());
    let recovering = tokio::spawn({
        let supervisor = supervisor.clone();
        async move {
            if let Err(failure) = supervisor.recover(start).await {
                tracing::error!(%failure, "what ran before could not be looked at");
            }
        }
    });
    parts.started("servers", |order| async move {
        recovering.abort();
        match &*order {
            Order::Stop(order) => {
                if !order.keep_servers {
                    supervisor.stop_all(&order.by).await;
                }
                record::stop(&registry, order).await;
            }
            Order::Restart { by, version } => record::restart(&registry, by, version).await,
        }
    });
}

/// A look through the remembered directories, which nobody waits for.
fn start_library_scan(parts: &mut Parts, library: Library) {
    let scan = tokio::spawn(look_through_library(library));
    parts.started("library scan", |_| async move { scan.abort() });
}

/// How long after its start a daemon has done what only a start does, and has written history once.
const AT_REST: Duration = Duration::from_secs(15);

/// Gives back what only the start needed.
async fn rest_after_start() {
    tokio::time::sleep(AT_REST).await;
    let _ = tokio::task::spawn_blocking(memory::give_back).await;
}

/// What is said and done at once when the daemon is to end.
async fn begin_to_end(order: &Order, places: &Places, supervisor: &Supervisor) {
    // Before anything else: from here on nothing is admitted, so that no end of ours looks to the
    // arbiter like room for somebody.
    supervisor.close().await;
    match order {
        Order::Stop(order) => {
            tracing::info!(by = %order.by, keep_servers = order.keep_servers, "stopping");
            notify::tell("STOPPING=1");
            if order.on_purpose
                && let Err(error) = fs::write(places.stopped_mark(), b"")
            {
                tracing::warn!(%error, "cannot leave the mark that says the daemon was stopped");
            }
        }
        Order::Restart { by, version } => {
            tracing::info!(%by, version, "letting the program of now take over");
        }
    }
}

/// What the program of now gets from this one.
fn hand_over(
    guard: &socket::SocketGuard,
    state_lock: &File,
    stop: &StopSwitch,
    supervisor: &Supervisor,
) -> Result<Handover<OwnedFd>, Failure> {
    let nothing = || Failure::new(Kind::Internal, "there is no listener to hand over");
    let (listener, lock, node) = guard.for_handover().ok_or_else(nothing)?;
    let copies = || {
        let (listener, lock) = (listener.try_clone_to_owned()?, lock.try_clone_to_owned()?);
        Ok(Handover::new(listener, lock, state_lock.as_fd().try_clone_to_owned()?, node))
    };
    let mut handover = copies().map_err(|error: std::io::Error| {
        Failure::new(Kind::IoFailed, format!("the listener cannot be handed over: {error}"))
    })?;
    handover.stop = stop.stopping().map(|order| PendingStop {
        keep_servers: order.keep_servers,
        on_purpose: order.on_purpose,
    });
    handover.lifelines = supervisor.lifelines();
    handover.from_manager = guard.is_from_manager();
    Ok(handover)
}

/// Registers what is new in the remembered directories since the last time.
async fn look_through_library(library: Library) {
    let request = Request { remembered: true, add: true, follow: true, ..Request::default() };
    tell_of(library.scan(request, Actor::Policy)).await;
    // What has moved within a cache: nothing else of a cache is registered without being asked for.
    let request = Request { caches: true, follow: true, ..Request::default() };
    tell_of(library.scan(request, Actor::Policy)).await;
}

async fn tell_of(mut scan: Scan) {
    loop {
        match scan.next().await {
            Ok(Some(ScanItem::Done(summary))) if summary.found + summary.skipped > 0 => {
                tracing::info!(
                    found = summary.found,
                    added = summary.added,
                    moved = summary.moved,
                    skipped = summary.skipped,
                    elapsed_ms = summary.elapsed_ms,
                    "looked for models"
                );
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "models cannot be looked for");
                return;
            }
        }
    }
}

/// How long the feed waits before it asks a registry again that could not be read.
const FEED_PAUSE: Duration = Duration::from_secs(1);

/// Tells the supervisor of every model and of the defaults as they change.
async fn follow_models(mut feed: Feed, supervisor: Supervisor) {
    loop {
        match feed.next().await {
            Ok(changes) => supervisor.follow(changes),
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "servers do not hear of changed models");
                tokio::time::sleep(FEED_PAUSE).await;
            }
        }
    }
}

/// Tells of the directories that models lie in, whenever models change, until sampling stops.
async fn follow_directories(registry: Registry, directories: watch::Sender<Vec<PathBuf>>) {
    let Some(own) = directories.borrow().first().cloned() else { return };
    let mut feed = Feed::from_now(&registry);
    while !directories.is_closed() {
        if let Ok(paths) = registry.model_paths().await {
            let dir = |(_, path): &(String, WirePath)| Some(path.as_path().parent()?.to_owned());
            let all: BTreeSet<PathBuf> =
                paths.iter().filter_map(dir).chain([own.clone()]).collect();
            let all: Vec<PathBuf> = all.into_iter().collect();
            directories.send_if_modified(|known| {
                let is_news = *known != all;
                *known = all;
                is_news
            });
        }
        match feed.next().await {
            Ok(_) => {}
            Err(StoreError::Closed) => return,
            Err(_) => tokio::time::sleep(FEED_PAUSE).await,
        }
    }
}

/// Tells the supervisor what its servers hold on GPUs whenever that changes, until sampling stops.
async fn record_gpu_memory(metrics: Metrics, supervisor: Supervisor) {
    let mut held = metrics.gpu_memory();
    while held.changed().await.is_ok() {
        let now = held.borrow_and_update().clone();
        for held in now {
            supervisor.record_gpu_memory(held).await;
        }
    }
}
