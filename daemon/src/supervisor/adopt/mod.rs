//! What a new daemon makes of what it finds: servers that run, that died, that were about to be
//! started, and processes of ours that no record tells of.
//!
//! ```text
//!   registry: wishes, last runs ─╮
//!   /proc: pid, start, marker ───┴▶ recovery::decide ─▶ a task per model, or a record written off
//!   /proc: our marker, no record ─▶ strays: taken over, or stopped
//! ```

use super::machine::TERM;
use super::process::{Process, find_process, marked, marker};
use super::recovery::{self, LastRun, Next, Recovery};
use super::task::Beginning;
use super::{Context, Supervisor, limits, status};
use crate::clock::now_ms;
use crate::models::Layers;
use crate::os::process::{ProcessId, Signal, booted_at_ms, group_of};
use crate::store::registry::{DesiredRecord, NewEvent, RunEnd, RunRecord};
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::daemon::Strays;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::Server;
use llamactl_protocol::{Actor, Failure};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch;

/// Who starts the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The boot, a service manager or a person: models with `autostart` are started.
    Fresh,
    /// A client that needed a daemon: nothing is started that did not run.
    Quiet,
    /// The daemon before, which executed this program in its place.
    InPlace,
}

impl Supervisor {
    /// Looks at every model that runs or is wanted to: takes over what an earlier daemon left running,
    /// goes on with what it had begun, and writes off what ended while there was no daemon.
    ///
    /// # Errors
    /// What the registry refuses.
    pub async fn take_over(&self, start: Start) -> Result<(), Failure> {
        let registry = &self.context.registry;
        let mut models: BTreeSet<i64> = registry.desired_running().await?.into_iter().collect();
        for run in registry.open_runs().await? {
            models.insert(run.model_id);
        }
        // Before anything is started: what is started now is no stray.
        let ours = marker(&self.context.registry.id(), "");
        let found = tokio::task::spawn_blocking(move || marked(&ours)).await.unwrap_or_default();
        // Servers that were to end with their daemon are made anew, where they have not ended.
        let renew = !self.context.config.keeps_servers() && start != Start::InPlace;
        let mut known = Vec::new();
        for model_id in models {
            match registry.model_by_id(model_id).await? {
                Some(model) => known.extend(self.recover(&model, renew, None).await?),
                None => self.leave_no_process(model_id).await?,
            }
        }
        self.end_strays(found, &known).await?;
        if start == Start::Fresh {
            self.autostart().await?;
        }
        Ok(())
    }

    /// Starts the task of a model from what is written and found; the process it takes over, if it
    /// does. `published` are those who watch it already, where a task of it broke.
    pub(super) async fn recover(
        &self,
        model: &Model,
        renew: bool,
        published: Option<watch::Sender<Server>>,
    ) -> Result<Option<i32>, Failure> {
        let registry = &self.context.registry;
        let wish = registry.desired(model.id).await?;
        let last = registry.last_run(model.id).await?;
        let process = match &last {
            Some(run) if run.ended_at_ms.is_none() => self.context.find(run).await,
            _ => None,
        };
        let pid = process.as_ref().map(|process| process.id().pid);
        let known = last.as_ref().map(|run| LastRun {
            started_at_ms: run.started_at_ms,
            was_made: run.pid.is_some(),
            ended_at_ms: run.ended_at_ms,
            restart_at_ms: run.restart_at_ms,
        });
        let wanted = wish.as_ref().map(wanted);
        let booted_at_ms = self.context.booted_at_ms(last.as_ref(), wanted);
        let recovery = recovery::decide(wanted, known, process.is_some(), booted_at_ms);
        tracing::debug!(model = model.name, ?recovery, "found");
        let mut unbegun = None;
        let beginning = match (recovery, last, process) {
            (Recovery::Adopt(next), Some(run), Some(process)) => {
                let renew = renew || next == Next::Renew;
                Beginning::Adopt { run: Box::new(run), process, renew }
            }
            (Recovery::Died, Some(run), _) => Beginning::Died(Box::new(run)),
            (Recovery::Resume(at_ms), Some(run), _) => {
                let after = u64::try_from(at_ms.saturating_sub(now_ms())).unwrap_or(0);
                let after = Duration::from_millis(after);
                Beginning::Resume { last: Box::new(run), after }
            }
            (Recovery::Ended, Some(run), _) => {
                self.write_off(run, ended_unwatched(wanted.as_ref()), None).await;
                Beginning::AtRest
            }
            (Recovery::Start, last, _) => {
                if let Some(run) = last.filter(|run| run.ended_at_ms.is_none()) {
                    // This daemon may be cut off before it begins, too.
                    self.write_off(run, unbegun_cause(), Some(now_ms())).await;
                }
                unbegun.clone_from(&wish);
                Beginning::AtRest
            }
            _ => Beginning::AtRest,
        };
        self.start_task(model, wish, beginning, published).await?;
        if let Some(DesiredRecord { desired, overrides, .. }) = unbegun
            && let Err(failure) = self.start_server(model, overrides, desired.by).await
        {
            tracing::warn!(model = model.name, %failure, "could not start what was wanted");
        }
        Ok(pid)
    }

    /// A model that is gone has no server.
    async fn leave_no_process(&self, model_id: i64) -> Result<(), Failure> {
        for run in self.context.registry.open_runs().await? {
            if run.model_id != model_id {
                continue;
            }
            if let Some(process) = self.context.find(&run).await {
                tracing::warn!(run = run.id, "killing the server of a model that is gone");
                process.kill();
            }
            self.write_off(run, ended_unwatched(None), None).await;
        }
        Ok(())
    }

    /// Ends the record of a run whose process is not there any more.
    async fn write_off(&self, run: RunRecord, cause: Cause, restart_at_ms: Option<i64>) {
        let event = NewEvent {
            kind: EventKind::ServerStopped,
            model: Some((run.model_id, run.model.clone())),
            run_id: Some(run.id.clone()),
            by: Actor::Boot,
            message: format!("{}: {}", run.model, cause.message),
            details: serde_json::to_value(&cause)
                .ok()
                .map(|cause| serde_json::json!({ "to": "stopped", "cause": cause })),
        };
        let end = RunEnd { at_ms: cause.at_ms, cause, failures: 0, restarts: 0, restart_at_ms };
        // A full disk must not keep the daemon from starting; the next one tries again.
        if let Err(error) = self.context.registry.put_end(run.id, end, event).await {
            tracing::error!(%error, "cannot write off a run");
        }
    }

    /// Deals with processes of ours that are not `known`, nor started by one that is: what a server
    /// starts itself is its own business.
    async fn end_strays(
        &self,
        found: Vec<(ProcessId, String)>,
        known: &[i32],
    ) -> Result<(), Failure> {
        for (process, run_id) in found {
            let is_known = group_of(process.pid).is_none_or(|group| known.contains(&group));
            if is_known || known.contains(&process.pid) || !process.is_alive() {
                continue;
            }
            let record = self.context.registry.run(&run_id).await?;
            let model = match &record {
                Some(run) => self.context.registry.model_by_id(run.model_id).await?,
                None => None,
            };
            let adopts =
                self.context.config.strays == Strays::Adopt && self.context.config.keeps_servers();
            match (record, model) {
                (Some(run), Some(model)) if adopts && !self.has_process(model.id) => {
                    self.take_over_stray(run, &model, process).await?;
                }
                (_, model) => self.end_stray(process, run_id, model).await,
            }
        }
        Ok(())
    }

    /// Takes a stray over under its old run.
    async fn take_over_stray(
        &self,
        run: RunRecord,
        model: &Model,
        process: ProcessId,
    ) -> Result<(), Failure> {
        let message = format!(
            "process {} is a server of {} that was taken for ended: taken over",
            process.pid, model.name
        );
        let event = NewEvent {
            run_id: Some(run.id.clone()),
            ..NewEvent::of_model(EventKind::ServerStray, model, &Actor::Boot, message)
        };
        let pid = u32::try_from(process.pid).unwrap_or_default();
        let boot_id = self.context.boot_id.clone();
        let registry = &self.context.registry;
        registry.reopen_run(run.id, pid, process.start_ticks, boot_id, event).await?;
        let published = self.forget(model.id);
        self.recover(model, false, published).await.map(drop)
    }

    async fn end_stray(&self, process: ProcessId, run_id: String, model: Option<Model>) {
        let message = format!(
            "process {} is a server of ours that no record tells of: it is stopped",
            process.pid
        );
        tracing::warn!(pid = process.pid, run = run_id, "stopping a stray");
        let event = NewEvent {
            kind: EventKind::ServerStray,
            model: model.map(|model| (model.id, model.name)),
            run_id: Some(run_id),
            by: Actor::Boot,
            message,
            details: None,
        };
        if let Err(error) = self.context.registry.append_event(event).await {
            tracing::error!(%error, "cannot write of a stray");
        }
        self.context.tasks.spawn(end_politely(process));
    }

    /// Starts the models that are to be started at boot: the small ones first, so that as many as
    /// possible answer soon.
    async fn autostart(&self) -> Result<(), Failure> {
        let registry = &self.context.registry;
        let mut wanted = Vec::new();
        let mut after = None;
        loop {
            let page = registry.models(after.clone(), 200).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            for model in page {
                let layers = Layers::of(registry, &model, Settings::new()).await?;
                let wish = registry.desired(model.id).await?.as_ref().map(self::wanted);
                if limits::autostart(&layers.effective())
                    && recovery::starts_by_itself(wish, booted_at_ms())
                {
                    wanted.push(model);
                }
            }
        }
        wanted.sort_by_key(|model| (model.file.size_bytes, model.id));
        for model in wanted {
            let started = self.start_server(&model, Settings::new(), Actor::Boot).await;
            if let Err(failure) = started {
                let message = format!("{} could not be started: {failure}", model.name);
                tracing::warn!("{message}");
                let event =
                    NewEvent::of_model(EventKind::ServerFailed, &model, &Actor::Boot, message);
                if let Err(error) = registry.append_event(event).await {
                    tracing::error!(%error, "cannot write of a start that failed");
                }
            }
        }
        Ok(())
    }
}

fn wanted(wish: &DesiredRecord) -> recovery::Wanted {
    recovery::Wanted {
        state: wish.desired.state,
        at_ms: wish.desired.at_ms,
        renew: wish.restart_requested,
    }
}

fn ended_unwatched(wanted: Option<&recovery::Wanted>) -> Cause {
    let before_boot = wanted.is_some_and(|wanted| wanted.at_ms < booted_at_ms());
    let message = if before_boot {
        "the machine was started anew"
    } else {
        "it ended while no daemon was running"
    };
    status::cause(CauseCode::Requested, message.to_owned())
}

fn unbegun_cause() -> Cause {
    let message = "the daemon was cut off before it had done what was asked".to_owned();
    status::cause(CauseCode::NeverMade, message)
}

impl Context {
    /// The process of a run, if it is there for certain.
    async fn find(&self, run: &RunRecord) -> Option<Process> {
        let marker = marker(&self.registry.id(), &run.id);
        let id = {
            let run = run.clone();
            tokio::task::spawn_blocking(move || find_process(&run, &marker)).await.ok()??
        };
        Process::adopt(id, run)
    }

    /// When this boot began, as far as a model's records go: the clock may have been set since, and
    /// what bears the id of this boot is of this boot.
    fn booted_at_ms(&self, last: Option<&RunRecord>, wanted: Option<recovery::Wanted>) -> i64 {
        let booted = booted_at_ms();
        let of_this_boot = last.filter(|run| run.boot_id.is_some() && run.boot_id == self.boot_id);
        of_this_boot.map_or(booted, |run| {
            booted.min(run.started_at_ms).min(wanted.map_or(i64::MAX, |wanted| wanted.at_ms))
        })
    }

    /// Kills what a server that ended has left behind: processes that bear its marker. They are
    /// looked for beside everything else, for a restart does not wait.
    pub(super) fn end_leftovers(&self, marker: String) {
        self.tasks.spawn(async move {
            let found = tokio::task::spawn_blocking(move || marked(&marker)).await;
            for (id, _) in found.unwrap_or_default() {
                if let Ok(Some(process)) = id.open() {
                    tracing::warn!(pid = id.pid, "killing what a server left behind");
                    let _ = process.signal(Signal::KILL);
                }
            }
        });
    }
}

/// TERM, TERM, KILL, each with time to obey.
async fn end_politely(id: ProcessId) {
    let Ok(Some(process)) = id.open() else { return };
    for signal in [Signal::TERM, Signal::TERM, Signal::KILL] {
        if process.signal(signal).is_ok_and(|there| !there) {
            return;
        }
        if tokio::time::timeout(TERM, process.exited()).await.is_ok() {
            let _ = process.child_status(true);
            return;
        }
    }
    tracing::error!(pid = id.pid, "a stray does not end even when killed");
}
