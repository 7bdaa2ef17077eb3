//! `daemon.*`

use super::registration::Caller;
use super::sampling_stopped;
use crate::api::app::App;
use crate::clock::now_ms;
use crate::metrics::history::Health;
use crate::runtime;
use crate::store::registry::{save_it, ways_out};
use llamactl_protocol::daemon::{
    BackedUp, DaemonBackup, DaemonHello, DaemonPing, DaemonReport, DaemonRestart, DaemonRestore,
    DaemonStatus, DaemonStop, Hello, HistoryReport, Pong, PutBack, RegistryReport, RestartBegun,
    Runtime, StopBegun,
};
use llamactl_protocol::warning::{Warning, WarningCode};
use llamactl_protocol::{Failure, Kind, PROTOCOL, WirePath};
use std::sync::Arc;

/// Things a client may want to know before asking.
const CAPABILITIES: &[&str] =
    &["adopt", "event.follow", "log.follow", "metrics.follow", "restart", "server.follow"];

pub(super) async fn hello(app: &App, caller: Caller, hello: DaemonHello) -> Result<Hello, Failure> {
    if let Some(theirs) = hello.protocol
        && theirs != PROTOCOL
    {
        tracing::info!(caller = %caller.actor, theirs, ours = PROTOCOL, "a client speaks another protocol");
    }
    if let Some(command) = &hello.command {
        caller.introduce(command);
    }
    Ok(Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
        pid: std::process::id(),
        uid: rustix::process::geteuid().as_raw(),
        started_at_ms: app.started_at_ms,
        state_dir: WirePath(app.places.state_dir.clone()),
        registry_id: app.registry.id().to_string(),
        access: caller.access,
        capabilities: CAPABILITIES.iter().map(|name| (*name).to_owned()).collect(),
    })
}

pub(super) async fn ping(_: &App, _: Caller, ping: DaemonPing) -> Result<Pong, Failure> {
    Ok(Pong { n: ping.n, at_ms: now_ms() })
}

pub(super) async fn status(app: &App, _: Caller, _: DaemonStatus) -> Result<DaemonReport, Failure> {
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
        slow_calls: app.counters.slow_calls(),
        log_lines_lost: (app.log_lines_lost)(),
        memory_bytes: memory
            .memory_anonymous_bytes
            .zip(memory.memory_file_bytes)
            .and_then(|(anonymous, file)| anonymous.checked_add(file)),
        registry: Some(registry_report(app).await),
        history: {
            let Health { size_bytes, samples_lost, set_aside, .. } = history_health(app);
            let set_aside = set_aside.map(|(path, _)| WirePath(path));
            Some(HistoryReport { size_bytes, samples_lost, set_aside })
        },
        warnings: {
            let mut warnings = warnings(app);
            warnings.extend(app.registry.copy_problem().map(|why| {
                let message = format!("no copy of the registry was made today: {why}");
                Warning::new(WarningCode::NoCopy, message)
            }));
            warnings
        },
        other_servers: app.other_servers.now().await,
    })
}

async fn registry_report(app: &App) -> RegistryReport {
    let registry = app.registry.clone();
    let newest = tokio::task::spawn_blocking(move || registry.newest_copy()).await;
    let (copied_at_ms, copy) = newest.ok().flatten().unzip();
    RegistryReport {
        longest_write_ms: u64::try_from(app.registry.longest_write().as_millis())
            .unwrap_or(u64::MAX),
        waiting_records: app.registry.health().waiting as u64,
        copy: copy.map(WirePath),
        copied_at_ms,
    }
}

/// What a person should know of the daemon wherever he looks.
pub(super) fn warnings(app: &App) -> Vec<Warning> {
    let health = app.registry.health();
    let path = app.places.state_dir.join("registry.db");
    let mut warnings = Vec::new();
    if let Some(by) = health.replaced {
        let message = format!("{by} {}: changes are refused", path.display());
        let ways = ways_out(by).into_iter().map(|hint| hint.argv);
        warnings.push(
            ways.fold(Warning::new(WarningCode::RegistryReplaced, message), Warning::command),
        );
    }
    if let Some(why) = &health.gone {
        let message = format!(
            "the registry {} was deleted and cannot be put back ({why}): changes are refused",
            path.display()
        );
        let warning = Warning::new(WarningCode::RegistryGone, message);
        warnings.push(warning.command(save_it().argv));
    }
    if let Some(why) = &health.unwritable {
        let path = path.display();
        let message = format!("the registry {path} cannot be written ({why}): changes are refused");
        let warning = Warning::new(WarningCode::RegistryUnwritable, message);
        warnings.push(warning.command(save_it().argv));
    }
    let waiting = match health.waiting {
        0 => None,
        1 => Some("one record of what happened is".to_owned()),
        n => Some(format!("{n} records of what happened are")),
    };
    match (health.disk_full, waiting) {
        (true, waiting) => {
            let waiting = waiting.map(|what| format!(", and {what} not written yet"));
            let dir = app.places.state_dir.display();
            let message = format!(
                "the disk of {dir} is full: changes are refused{}",
                waiting.unwrap_or_default()
            );
            warnings.push(Warning::new(WarningCode::DiskFull, message));
        }
        (false, Some(waiting)) => {
            let message = format!("{waiting} not written yet");
            warnings.push(Warning::new(WarningCode::NotRecorded, message));
        }
        (false, None) => {}
    }
    let history = history_health(app);
    if let Some(why) = history.problem {
        let lost = match history.samples_lost {
            0 => String::new(),
            lost => format!("; {lost} samples were dropped"),
        };
        let message = format!("the history of metrics cannot be written ({why}){lost}");
        warnings.push(Warning::new(WarningCode::HistoryUnwritten, message));
    }
    if let (Some(why), Some(address)) =
        (&*app.metrics_problem.borrow(), &app.config.config.metrics.listen)
    {
        let message = format!("the metrics cannot be read at {address}: {why}");
        warnings.push(Warning::new(WarningCode::MetricsNotServed, message));
    }
    if let Some((path, _)) = history.set_aside {
        let message = format!(
            "the history of metrics was damaged; it lies at {} and another was begun",
            path.display()
        );
        warnings.push(Warning::new(WarningCode::HistorySetAside, message));
    }
    warnings
}

pub(super) fn history_health(app: &App) -> Health {
    app.metrics.history().health().borrow().clone()
}

pub(super) async fn backup(
    app: &App,
    _: Caller,
    backup: DaemonBackup,
) -> Result<BackedUp, Failure> {
    let path = backup.path;
    if !path.as_path().is_absolute() {
        return Err(Failure::new(Kind::InvalidValue, format!("the path {path} is not absolute")));
    }
    app.registry.back_up(path.0.clone()).await?;
    let file = path.0.clone();
    let facts = tokio::task::spawn_blocking(move || file.metadata()).await;
    let size_bytes = facts.ok().and_then(Result::ok).map_or(0, |facts| facts.len());
    Ok(BackedUp { path, size_bytes })
}

pub(super) async fn restore(app: &App, _: Caller, _: DaemonRestore) -> Result<PutBack, Failure> {
    Ok(PutBack { aside: WirePath(app.registry.put_back().await?) })
}

pub(super) async fn stop(
    app: &App,
    caller: Caller,
    stop: DaemonStop,
) -> Result<StopBegun, Failure> {
    let servers = app.supervisor.close().await;
    app.stop.order(stop.keep_servers, true, caller.actor);
    let servers = if stop.keep_servers { 0 } else { servers as u64 };
    Ok(StopBegun { pid: std::process::id(), servers })
}

pub(super) async fn restart(
    app: &App,
    caller: Caller,
    _: DaemonRestart,
) -> Result<RestartBegun, Failure> {
    let try_out = Arc::clone(&app.try_new_program);
    let tried = tokio::task::spawn_blocking(move || try_out()).await;
    let tried = tried.map_err(|error| Failure::new(Kind::Internal, error.to_string()))??;
    app.stop.restart(caller.actor, tried.version.clone());
    if app.stop.stopping().is_some() {
        return Err(Failure::new(Kind::Stopping, "the daemon is stopping"));
    }
    Ok(RestartBegun {
        pid: std::process::id(),
        started_at_ms: app.started_at_ms,
        version: tried.version,
        registry_copy: tried.registry_copy.map(WirePath),
    })
}
