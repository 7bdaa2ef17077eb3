//! `daemon.*`

use super::{asker, sampling_stopped};
use crate::api::app::App;
use crate::clock::now_ms;
use crate::rpc::{Peer, Service};
use crate::runtime;
use llamactl_protocol::daemon::{
    DaemonHello, DaemonPing, DaemonReport, DaemonRestart, DaemonStatus, DaemonStop, Hello, Pong,
    RestartBegun, Runtime, StopBegun,
};
use llamactl_protocol::{Failure, Kind, PROTOCOL, WirePath};
use std::sync::Arc;

/// Things a client may want to know before asking.
const CAPABILITIES: &[&str] =
    &["adopt", "event.follow", "log.follow", "metrics.follow", "restart", "server.follow"];

pub(super) fn register(service: Service<App>) -> Service<App> {
    service.on(hello).on(ping).on(status).on(stop).on(restart)
}

async fn hello(app: Arc<App>, peer: Peer, hello: DaemonHello) -> Result<Hello, Failure> {
    if let Some(theirs) = hello.protocol
        && theirs != PROTOCOL
    {
        let peer = peer.label();
        tracing::info!(peer, theirs, ours = PROTOCOL, "a client speaks another protocol");
    }
    Ok(Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
        pid: std::process::id(),
        uid: rustix::process::geteuid().as_raw(),
        started_at_ms: app.started_at_ms,
        state_dir: WirePath(app.places.state_dir.clone()),
        registry_id: app.registry.id().to_string(),
        access: peer.access,
        capabilities: CAPABILITIES.iter().map(|name| (*name).to_owned()).collect(),
    })
}

async fn ping(_: Arc<App>, _: Peer, ping: DaemonPing) -> Result<Pong, Failure> {
    Ok(Pong { n: ping.n, at_ms: now_ms() })
}

async fn status(app: Arc<App>, _: Peer, _: DaemonStatus) -> Result<DaemonReport, Failure> {
    let (runtime, problem) = match runtime::resolve(&app.registry, None).await {
        Ok(record) => (
            Some(Runtime {
                id: record.id,
                name: record.name,
                path: record.found.path,
                version: record.found.version,
                reports_progress: record.found.reports_progress,
            }),
            None,
        ),
        Err(failure) => (None, Some(failure.message)),
    };
    let active = app.supervisor.active();
    let memory = app.metrics.latest().await.map_err(sampling_stopped)?.daemon.clone();
    Ok(DaemonReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at_ms: app.started_at_ms,
        socket: WirePath(app.places.socket.clone()),
        state_dir: WirePath(app.places.state_dir.clone()),
        log: app.places.log.clone().map(WirePath),
        config: Some(app.config.clone()),
        models: app.registry.count_models().await?,
        servers_active: active.iter().filter(|server| !server.state.is_settled_down()).count()
            as u64,
        runtime,
        runtime_problem: problem,
        connections: app.counters.open(),
        connections_refused_total: app.counters.refused_total(),
        memory_bytes: memory
            .memory_anonymous_bytes
            .zip(memory.memory_file_bytes)
            .and_then(|(anonymous, file)| anonymous.checked_add(file)),
    })
}

async fn stop(app: Arc<App>, peer: Peer, stop: DaemonStop) -> Result<StopBegun, Failure> {
    let servers = app.supervisor.close();
    app.stop.order(stop.keep_servers, true, asker::<DaemonStop>(&peer));
    let servers = if stop.keep_servers { 0 } else { servers as u64 };
    Ok(StopBegun { pid: std::process::id(), servers })
}

async fn restart(app: Arc<App>, peer: Peer, _: DaemonRestart) -> Result<RestartBegun, Failure> {
    let program = app.program.clone();
    let tried = tokio::task::spawn_blocking(move || program.try_out()).await;
    let version = tried.map_err(|error| Failure::new(Kind::Internal, error.to_string()))??;
    app.stop.restart(asker::<DaemonRestart>(&peer), version.clone());
    if app.stop.stopping().is_some() {
        return Err(Failure::new(Kind::Stopping, "the daemon is stopping"));
    }
    Ok(RestartBegun { pid: std::process::id(), started_at_ms: app.started_at_ms, version })
}
