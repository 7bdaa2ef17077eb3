//! What is written of a model, as the daemon's registry would: the same rows, the same rules.

use llamactl_protocol::cause::Cause;
use llamactl_protocol::model::{Model, ModelFile};
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::{Desired, Endpoint};
use llamactl_protocol::{UnixMs, WirePath};
use llamactld::supervisor::core::driver::{LastRun, Record, RunFacts, State, Written};
use llamactld::supervisor::core::machine::RunId;
use serde_json::json;
use std::sync::Arc;

/// What is desired, as it is written.
#[derive(Clone, Debug)]
pub(crate) struct DesiredRow {
    pub(crate) desired: Desired,
    pub(crate) restart_requested: bool,
    pub(crate) overrides: Arc<Settings>,
    pub(crate) refusal: Option<Arc<Cause>>,
}

/// A run, as it is written.
#[derive(Clone, Debug)]
pub(crate) struct RunRow {
    pub(crate) id: RunId,
    revision: i64,
    settings: Arc<Settings>,
    overrides: Arc<Settings>,
    pub(crate) started_at_ms: UnixMs,
    /// Its process, and the boot in which it was made.
    pub(crate) process: Option<(u32, u64)>,
    pub(crate) ready_at_ms: Option<UnixMs>,
    load_ms: Option<u64>,
    pub(crate) ended_at_ms: Option<UnixMs>,
    cause: Option<Arc<Cause>>,
    pub(crate) failures: u32,
    restarts: u32,
    pub(crate) restart_at_ms: Option<UnixMs>,
}

/// All that is written of a model.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) model: Arc<Model>,
    pub(crate) desired: Option<DesiredRow>,
    pub(crate) last: Option<RunRow>,
    /// The model was taken out.
    pub(crate) removed: bool,
}

/// Where the models of the world listen.
pub(crate) fn endpoint(on_tcp: bool) -> Endpoint {
    match on_tcp {
        true => Endpoint { url: Some("http://127.0.0.1:9000".to_owned()), socket: None },
        false => Endpoint { url: None, socket: Some(WirePath("server.sock".into())) },
    }
}

impl Registry {
    pub(crate) fn new(id: i64, settings: Settings) -> Registry {
        let model = Model {
            id,
            name: id.to_string(),
            aliases: vec![],
            path: WirePath("model.gguf".into()),
            file: ModelFile::default(),
            file_state: None,
            settings,
            revision: 1,
            added_at_ms: 0,
            changed_at_ms: 0,
        };
        Registry { model: Arc::new(model), desired: None, last: None, removed: false }
    }

    /// The model gets other settings.
    pub(crate) fn set(&mut self, settings: Settings) {
        let model = &*self.model;
        self.model = Arc::new(Model { settings, revision: model.revision + 1, ..model.clone() });
    }

    /// Writes a record. `process`: which process is there, and the boot.
    pub(crate) fn write(&mut self, state: &State, record: &Record, process: Option<(u32, u64)>) {
        match record {
            Record::Desired { desired, restart_requested, overrides } => {
                self.desired = Some(DesiredRow {
                    desired: desired.clone(),
                    restart_requested: *restart_requested,
                    overrides: Arc::clone(overrides),
                    refusal: None,
                });
            }
            Record::Refusal { cause, .. } => {
                if let Some(desired) = &mut self.desired {
                    desired.refusal = Some(Arc::clone(cause));
                }
            }
            Record::Run { run, started_at_ms, failures, restarts, .. } => {
                let facts = state.run.as_ref();
                self.last = Some(RunRow {
                    id: run.clone(),
                    revision: facts.map_or(0, |facts| facts.revision),
                    settings: facts.map(|facts| Arc::clone(&facts.settings)).unwrap_or_default(),
                    overrides: facts.map(|facts| Arc::clone(&facts.overrides)).unwrap_or_default(),
                    started_at_ms: *started_at_ms,
                    process: None,
                    ready_at_ms: None,
                    load_ms: None,
                    ended_at_ms: None,
                    cause: None,
                    failures: *failures,
                    restarts: *restarts,
                    restart_at_ms: None,
                });
                if let Some(desired) = &mut self.desired {
                    (desired.restart_requested, desired.refusal) = (false, None);
                }
            }
            Record::Process(run) => {
                if let Some(row) = self.row(run) {
                    row.process = process;
                }
            }
            Record::Ready { run, at_ms, load_ms, .. } => {
                if let Some(row) = self.row(run).filter(|row| row.ready_at_ms.is_none()) {
                    (row.ready_at_ms, row.load_ms) = (Some(*at_ms), Some(*load_ms));
                }
            }
            Record::End { run, cause, failures, restarts, restart_at_ms, .. } => {
                if let Some(row) = self.row(run).filter(|row| row.ended_at_ms.is_none()) {
                    (row.ended_at_ms, row.cause) = (Some(cause.at_ms), Some(Arc::clone(cause)));
                    (row.failures, row.restarts) = (*failures, *restarts);
                    row.restart_at_ms = *restart_at_ms;
                }
            }
            Record::Event(_) => {}
            Record::Removal { .. } => self.removed = true,
        }
    }

    fn row(&mut self, run: &RunId) -> Option<&mut RunRow> {
        self.last.as_mut().filter(|row| row.id == *run)
    }

    /// What a new task reads, in this boot.
    pub(crate) fn read(&self, boot: u64, on_tcp: bool) -> Written {
        let row = self.desired.as_ref();
        Written {
            model: Arc::clone(&self.model),
            defaults: Arc::default(),
            desired: row.map(|row| row.desired.clone()),
            restart_requested: row.is_some_and(|row| row.restart_requested),
            overrides: row.map(|row| Arc::clone(&row.overrides)).unwrap_or_default(),
            refusal: row.and_then(|row| row.refusal.clone()),
            last: self.last.as_ref().map(|run| LastRun {
                facts: RunFacts {
                    is_of_this_boot: run.process.is_some_and(|(_, of)| of == boot),
                    pid: run.process.map(|(pid, _)| pid),
                    ready_at_ms: run.ready_at_ms,
                    load_ms: run.load_ms,
                    ended_at_ms: run.ended_at_ms,
                    settings: Arc::clone(&run.settings),
                    overrides: Arc::clone(&run.overrides),
                    ..RunFacts::planned(run.id.clone(), run.revision, run.started_at_ms)
                },
                endpoint: endpoint(on_tcp),
                cause: run.cause.clone(),
                failures: run.failures,
                restarts: run.restarts,
                restart_at_ms: run.restart_at_ms,
            }),
        }
    }
}

/// Any settings of how a server is looked after.
pub(crate) fn any_settings(rng: &mut fastrand::Rng) -> Settings {
    let restart = match rng.u8(0..8) {
        0 => "never",
        1 | 2 => "always",
        _ => "on-failure",
    };
    let one =
        |choices: &[u64], rng: &mut fastrand::Rng| json!(choices[rng.usize(0..choices.len())]);
    let mut settings = Settings::from([
        ("restart".to_owned(), json!(restart)),
        ("restart-limit".to_owned(), one(&[1, 2, 3, 5, 5, 5, 8], rng)),
        ("load-stall-timeout".to_owned(), one(&[1, 10, 60, 600], rng)),
        ("hang-timeout".to_owned(), one(&[0, 5, 20, 60, 120, 120], rng)),
        ("drain-timeout".to_owned(), one(&[0, 5, 5, 5, 30, 300], rng)),
        ("autostart".to_owned(), json!(rng.u8(0..4) == 0)),
    ]);
    if rng.u8(0..3) == 0 {
        settings.insert("port".to_owned(), json!(9000));
    }
    settings
}
