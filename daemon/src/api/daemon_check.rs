//! `daemon.check`: the facts that the rooms have, as findings.

use super::daemon::warnings;
use super::registration::Caller;
use super::{running, sampling_stopped};
use crate::api::app::App;
use crate::checkup::{self, Machine, ModelFacts, RegistryIs};
use crate::clock::now_ms;
use crate::models::{check_before_start, named_in, unreadable};
use crate::runtime;
use crate::store::registry::{EventFilter, StoreError};
use crate::supervisor::MARKER;
use llamactl_protocol::doctor::{Checked, DaemonCheck, Finding, sort};
use llamactl_protocol::metrics::Sample;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{Settings, layers};
use llamactl_protocol::server::Server;
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long the registry may be looked through.
const REGISTRY_LIMIT: Duration = Duration::from_secs(5);
/// How long the builds may take to answer: one that hangs is ended after a third of it.
const RUNTIMES_LIMIT: Duration = Duration::from_secs(35);
/// What is looked at of the models, so that a dead network disk holds nothing up.
const FILES_LIMIT: Duration = Duration::from_secs(5);
/// So many models are looked at.
const MAX_MODELS: u32 = 2000;
/// What a server keeps prompts in where nobody says otherwise: `--cache-ram` of b10434.
const CACHE_MEBIBYTES: i64 = 8192;

/// One at a time: each runs all builds there are.
static TURN: Semaphore = Semaphore::const_new(1);

pub(super) async fn check(app: &App, _: Caller, _: DaemonCheck) -> Result<Checked, Failure> {
    let _turn = TURN.acquire().await;
    let mut checked = Checked::default();
    let state_dir = app.places.state_dir.clone();
    let registry = registry(app).await;
    let state = spawn_blocking(move || checkup::state(&state_dir, registry));
    match timeout(FILES_LIMIT, state).await {
        Ok(Ok(state)) => {
            let (findings, unknown) = checkup::of_state(&state);
            checked.findings.extend(findings);
            checked.not_checked.extend(unknown);
        }
        _ => checked.not_checked.push(did_not_answer("the disk of the state directory")),
    }
    let machine = machine(app, &mut checked.not_checked).await?;
    checked.findings.extend(checkup::of_machine(&machine));
    checked.findings.extend(warnings(app).iter().map(Finding::from));
    let mut servers = app.supervisor.active();
    running::complete(app, &mut servers).await;
    checked.findings.extend(servers.iter().flat_map(of_server));
    sort(&mut checked.findings);
    Ok(checked)
}

fn did_not_answer(what: &str) -> String {
    format!("{what} did not answer in time")
}

/// What is known of a server as warnings; what is only worth knowing stands with the server.
fn of_server(server: &Server) -> impl Iterator<Item = Finding> {
    let worse = server
        .warnings
        .iter()
        .filter(|warning| warning.level == llamactl_protocol::warning::Level::Warning);
    worse.map(|warning| {
        let finding = Finding::from(warning).of(&server.model);
        Finding { message: format!("{}: {}", server.model, finding.message), ..finding }
    })
}

async fn registry(app: &App) -> RegistryIs {
    let damaged = |problem: String| {
        let keep = ["llamactl", "daemon", "stop", "--keep-servers"];
        let failure =
            Failure::new(Kind::StoreFailed, format!("the registry is damaged: {problem}"))
                .hint(Hint::run("end the daemon; its servers stay", keep))
                .hint(Hint::run(
                    "go back to the newest good copy",
                    ["llamactl", "daemon", "restore"],
                ));
        RegistryIs::Damaged(failure)
    };
    match app.registry.look_through(REGISTRY_LIMIT).await {
        Ok(None) => RegistryIs::Whole,
        Ok(Some(problem)) => damaged(problem),
        Err(error @ StoreError::Unusable { .. }) => RegistryIs::Damaged(error.into()),
        Err(error) => RegistryIs::Unknown(format!("the registry was not looked through: {error}")),
    }
}

async fn machine(app: &App, not_checked: &mut Vec<String>) -> Result<Machine, Failure> {
    let sample = app.metrics.latest().await.map_err(sampling_stopped)?;
    let newest = EventFilter { before: Some(i64::MAX), limit: 1, ..EventFilter::default() };
    let recorded_at_ms = app.registry.events(newest).await?.events.first().map(|it| it.at_ms);
    let runtimes = match timeout(RUNTIMES_LIMIT, runtime::entries_asked(&app.registry)).await {
        Ok(runtimes) => runtimes?,
        Err(_) => {
            not_checked.push(did_not_answer("the runtimes"));
            vec![]
        }
    };
    let known = known_processes(app, &sample);
    let mark = format!("{}/", app.registry.id());
    let looked = spawn_blocking(move || {
        let strangers = checkup::strangers(&known, (MARKER, &mark));
        (checkup::limits(), strangers, checkup::nvidia_cards(Path::new("/sys")), replaced_program())
    });
    let ((descriptors, locked_bytes), strangers, nvidia_cards, replaced_program) =
        looked.await.map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
    let gpus = sample.gpus.as_deref().unwrap_or_default();
    let host = &sample.host;
    Ok(Machine {
        now_ms: now_ms(),
        recorded_at_ms,
        replaced_program,
        memory_bytes: [host.memory_total_bytes, host.memory_limit_bytes]
            .into_iter()
            .flatten()
            .min(),
        gpus: sample.gpus.as_ref().map(Vec::len),
        nvidia_cards,
        // Those of others are known by their address on the bus.
        nvidia_told: gpus.iter().filter(|gpu| gpu.uuid.starts_with("GPU-")).count(),
        descriptors,
        locked_bytes,
        runtimes,
        models: models(app, not_checked).await?,
        strangers,
    })
}

/// The daemon's own file, where another lies in its place, or none.
fn replaced_program() -> Option<PathBuf> {
    let own = fs::read_link("/proc/self/exe").ok()?;
    let text = own.to_str()?;
    text.strip_suffix(" (deleted)").map(PathBuf::from)
}

fn known_processes(app: &App, sample: &Sample) -> BTreeSet<i32> {
    let sampled = sample.servers.iter().flat_map(|server| server.process.pids.clone());
    let running = app.supervisor.running().borrow().iter().map(|it| it.pid).collect::<Vec<_>>();
    sampled.chain(running).filter_map(|pid| i32::try_from(pid).ok()).collect()
}

async fn models(app: &App, not_checked: &mut Vec<String>) -> Result<Vec<ModelFacts>, Failure> {
    let mut models = app.registry.models(None, MAX_MODELS).await?;
    app.model_files.look_at(&mut models).await?;
    let defaults = app.registry.defaults().await?.settings;
    let active = app.supervisor.active();
    let runs = |model: &Model| {
        active.iter().any(|it| it.model_id == model.id && !it.state.is_settled_down())
    };
    let known: Vec<(Model, Settings, bool)> = models
        .into_iter()
        .map(|model| {
            let settings = layers::effective(&defaults, &model.settings);
            let is_wanted = runs(&model) || settings.get("autostart") == Some(&Value::Bool(true));
            (model, settings, is_wanted)
        })
        .collect();
    let look = move || known.iter().map(model_facts).collect::<Vec<_>>();
    match timeout(FILES_LIMIT, spawn_blocking(look)).await {
        Ok(Ok(models)) => Ok(models),
        _ => {
            not_checked.push(did_not_answer("the files of models"));
            Ok(vec![])
        }
    }
}

fn model_facts((model, settings, is_wanted): &(Model, Settings, bool)) -> ModelFacts {
    let problem = match check_before_start(model, &named_in(settings, None)) {
        Ok(files) => files.missing,
        Err(failure) => Some(failure),
    };
    let path = model.path.as_path();
    let is_denied =
        || File::open(path).is_err_and(|it| it.kind() == io::ErrorKind::PermissionDenied);
    let problem = problem.or_else(|| is_denied().then(|| unreadable(path)));
    let mebibytes = settings.get("cache-ram").and_then(Value::as_i64).unwrap_or(CACHE_MEBIBYTES);
    let load_mode = settings.get("load-mode").and_then(Value::as_str).unwrap_or_default();
    ModelFacts {
        name: model.name.clone(),
        size_bytes: model.file.size_bytes,
        state: model.file_state,
        problem,
        is_wanted: *is_wanted,
        cache_bytes: u64::try_from(mebibytes).ok().map(|it| it.saturating_mul(1 << 20)),
        is_locked: load_mode.contains("mlock") || settings.get("mlock") == Some(&Value::Bool(true)),
    }
}
