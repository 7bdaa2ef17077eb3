//! From a run that was decided to its process, or back from a process to its run.

use super::ending::{End, cause_of};
use super::{Event, Happening, Live, ServerTask, new_run_id};
use crate::clock::now_ms;
use crate::failpoint;
use crate::llama::Client;
use crate::logs::classify::{Exit, Retry, classify_spawn_error};
use crate::store::registry::{Demand, RunRecord};
use crate::supervisor::core::machine::RunId;
use crate::supervisor::core::restart::{Curable, Ended};
use crate::supervisor::core::warning;
use crate::supervisor::observe::Observers;
use crate::supervisor::process::{Output, Process, marker};
use crate::supervisor::{Plan, command_line, status};
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::event::EventKind;
use llamactl_protocol::server::{Desired, DesiredState};
use llamactl_protocol::warning::Warning;
use llamactl_protocol::{Actor, Failure, Kind};
use std::time::Instant;

/// Why there is no process, and whether another try may help.
pub(super) struct NotMade {
    pub(super) cause: Cause,
    pub(super) curable: Curable,
}

impl NotMade {
    fn by_failure(failure: &Failure) -> NotMade {
        let curable = match failure.kind {
            Kind::Internal | Kind::IoFailed | Kind::StoreFailed => Curable::Yes,
            _ => Curable::No,
        };
        NotMade { cause: status::cause_of_failure(failure), curable }
    }

    fn by_system(error: &std::io::Error) -> NotMade {
        let verdict = classify_spawn_error(error.raw_os_error());
        let curable = if verdict.retry == Retry::No { Curable::No } else { Curable::Yes };
        NotMade { cause: cause_of(verdict, Exit::Unknown), curable }
    }

    /// Something is in the way: another port is another way, where one may be taken.
    fn in_the_way(cause: Cause, plan: &Plan) -> NotMade {
        let curable = if plan.may_listen_elsewhere() { Curable::Once } else { Curable::No };
        NotMade { cause, curable }
    }
}

impl ServerTask {
    /// Writes the run, then makes its process; what follows when that fails.
    pub(super) async fn spawn_run(&mut self, run: RunId) -> Option<Happening> {
        let made = match self.prepare(&run).await {
            Ok((plan, record)) => self.make(plan, record).await,
            Err(failure) => Err(NotMade::by_failure(&failure)),
        };
        match made {
            Ok(live) => {
                self.server.run = Some(status::run(&live.record));
                self.server.warnings = live_warnings(&live.record);
                self.live = Some(live);
                self.show_device();
                self.announce_running();
                self.publish();
                let (context, model_id) = (self.context.clone(), self.model.id);
                self.context.tasks.spawn(async move { context.clear_old_logs(model_id).await });
                None
            }
            Err(NotMade { cause, curable }) => {
                tracing::warn!(model = self.model.name, cause = cause.message, "could not start");
                let message =
                    format!("{} could not be started: {}", self.model.name, cause.message);
                let ended = Ended { curable, clean: false };
                let end = End { run, cause, message, stopped_by: None };
                let event = Event::SpawnFailed { ended, next: new_run_id() };
                Some(Happening { event, end: Some(end) })
            }
        }
    }

    async fn prepare(&mut self, run: &RunId) -> Result<(Plan, RunRecord), Failure> {
        // The settings of now, not those of when the start was asked for.
        if let Some(model) = self.context.registry.model_by_id(self.model.id).await? {
            self.model = model;
        }
        let plan = self.context.plan(&self.model, self.overrides.clone()).await?;
        self.defaults.clone_from(&plan.layers.defaults);
        let record = RunRecord {
            id: run.clone(),
            model_id: self.model.id,
            model: self.model.name.clone(),
            revision: self.model.revision,
            settings: plan.layers.standing(),
            overrides: plan.layers.run.clone(),
            runtime_id: plan.runtime.id,
            argv: plan.line.argv.clone(),
            environment: plan.line.environment.clone(),
            endpoint: plan.endpoint.clone(),
            started_by: self.by.clone(),
            demand: Some(match self.by {
                Actor::Boot => Demand::Boot,
                Actor::Policy => Demand::Policy,
                _ => Demand::Person,
            }),
            started_at_ms: now_ms(),
            pid: None,
            start_ticks: None,
            boot_id: None,
            ready_at_ms: None,
            load_ms: None,
            ended_at_ms: None,
            cause: None,
            failures: self.life.streak.failures,
            restarts: self.life.streak.restarts,
            restart_at_ms: None,
            executable: None,
        };
        let message = match self.life.streak.restarts {
            0 => format!("{} is being started", self.model.name),
            restarts => format!("{} is being started again ({restarts})", self.model.name),
        };
        let event = self.event(EventKind::ServerStarting, Some(run), message, None);
        match self.context.registry.add_run(record.clone(), event).await {
            Ok(()) => {}
            // What ran before runs again, written or not: a full disk must not stop a server.
            Err(error) => {
                let failure = Failure::from(error);
                if failure.kind != Kind::DiskFull || self.by != Actor::Policy {
                    return Err(failure);
                }
                tracing::error!(model = self.model.name, "a restart could not be written");
            }
        }
        self.server.endpoint = Some(plan.endpoint.clone());
        Ok((plan, record))
    }

    async fn make(&self, plan: Plan, mut record: RunRecord) -> Result<Live, NotMade> {
        let started = Instant::now();
        let log = self.context.log_of(&record.id).map_err(|error| NotMade::by_system(&error))?;
        plan.clear_way().await.map_err(|cause| NotMade::in_the_way(cause, &plan))?;
        let key = self.context.key_of(plan.layers.effective()).await;
        let key = key.map_err(|failure| NotMade::by_failure(&failure))?;
        let output = Output::create(log.clone())
            .await
            .map_err(|cause| NotMade { cause, curable: Curable::Yes })?;
        let marker = marker(&self.context.registry.id(), &record.id);
        let process = Process::spawn(
            &plan.line,
            self.context.registry.secrets().clone(),
            marker,
            output,
            plan.runtime.found.reports_progress,
            self.context.lifelines.for_run(&record.id),
        )
        .await
        .map_err(|error| NotMade::by_system(&error))?;
        failpoint::hit("spawned");
        let id = process.id();
        self.write_process(&mut record, &process).await;
        let observers = Observers::start(
            &self.context.watcher,
            &log,
            Client::new(plan.target, key, record.pid),
            id.pid,
            command_line::may_sleep(&record.argv),
            false,
        );
        let has_devices = Some(!plan.runtime.found.devices.is_empty());
        Ok(Live { started, ..Live::new(record, process, observers, log, has_devices) })
    }

    /// Writes which process a run is.
    async fn write_process(&self, record: &mut RunRecord, process: &Process) {
        let id = process.id();
        record.pid = u32::try_from(id.pid).ok();
        record.start_ticks = Some(id.start_ticks);
        record.boot_id.clone_from(&self.context.boot_id);
        let Some(pid) = record.pid else { return };
        let (run, ticks, boot) = (record.id.clone(), record.start_ticks, record.boot_id.clone());
        self.keep(self.context.registry.put_process(run, pid, ticks, boot).await);
    }

    /// Takes over a process that an earlier daemon made.
    pub(super) async fn adopt(&mut self, mut record: RunRecord, process: Process, renew: bool) {
        if record.pid.is_none() {
            // The earlier daemon was cut off between making it and writing that down.
            self.write_process(&mut record, &process).await;
        }
        let (Some(client), Ok(log)) =
            (self.context.client_of(&record).await, self.context.log_of(&record.id))
        else {
            tracing::error!(
                run = record.id,
                "a server cannot be taken over: its record is damaged"
            );
            return;
        };
        let pid = process.id().pid;
        let may_sleep = command_line::may_sleep(&record.argv);
        let observers = Observers::start(&self.context.watcher, &log, client, pid, may_sleep, true);
        let build = self.context.registry.runtime(record.runtime_id).await.ok().flatten();
        self.restore_streak(&record);
        self.server.run = Some(status::run(&record));
        self.server.endpoint = Some(record.endpoint.clone());
        self.server.warnings = live_warnings(&record);
        self.server.cause = Some(status::cause(CauseCode::Adopted, "found running and taken over"));
        let (run, was_ready) = (record.id.clone(), record.ready_at_ms.is_some());
        let has_devices = build.map(|build| !build.devices.is_empty());
        let live = Live::new(record, process, observers, log, has_devices);
        self.live = Some(Live { was_adopted: true, ..live });
        self.show_device();
        self.context.admission().take(self.model.id, &self.model.name);
        self.announce_running();
        self.happen(Event::Adopt { run: run.clone(), was_ready }.into()).await;
        let message = format!("{} was found running and taken over", self.model.name);
        let event = self.event(EventKind::ServerAdopted, Some(&run), message, None);
        self.keep(self.context.registry.append_event(event).await);
        // What the earlier daemon had accepted and not begun.
        let Some(Desired { state, by, .. }) = self.server.desired.clone() else { return };
        if state == DesiredState::Stopped {
            self.by = by;
            self.happen(Event::Stop.into()).await;
        } else if renew {
            self.by = by;
            self.happen(Event::Restart(new_run_id()).into()).await;
        }
    }
}

/// What a person should know of a server from its start on.
fn live_warnings(record: &RunRecord) -> Vec<Warning> {
    let is_open = record.endpoint.url.is_some()
        && !command_line::asks_for_key(&record.argv, &record.environment);
    is_open.then(|| warning::no_api_key(&record.model)).into_iter().collect()
}
