//! What a new daemon makes of what it finds: servers that run, that died, that were about to be
//! started, and processes of ours that no record tells of.
//!
//! ```text
//!   /proc: our markers, before the first connection ─╮
//!   registry: open runs, what is desired ────────────┴▶ each model's task is touched, and recovers
//!     ─▶ all have looked ─▶ strays are judged ─▶ the arbiter admits ─▶ autostart
//! ```

use super::core::limits;
use super::core::machine::TERM;
use super::core::recovery;
use super::process::{Process, find_process, marked, marker};
use super::task::Command;
use super::{Context, Supervisor};
use crate::arbiter::ToArbiter;
use crate::clock::now_ms;
use crate::os::process::{ProcessId, Signal, booted_at_ms, group_of};
use crate::store::registry::{NewEvent, RunEnd, RunRecord};
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::daemon::Strays;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{Settings, layers};
use llamactl_protocol::{Actor, Failure};
use serde_json::json;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

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
    /// Makes the tasks of the models whose runs have no end, before the first connection is answered:
    /// from then on whoever asks is told of every server there may be. Bounded by their number; no
    /// build is asked.
    ///
    /// # Errors
    /// What the registry refuses.
    pub async fn look(&self) -> Result<(), Failure> {
        for run in self.context.registry.open_runs().await? {
            if let Some((written, _)) = self.context.written(run.model_id).await? {
                self.make_task(&written);
            }
        }
        Ok(())
    }

    /// Looks at every model that runs or is desired to, and goes on where the last daemon was cut
    /// off. Runs beside the socket: who touches a model first makes its task, and that looks.
    ///
    /// # Errors
    /// What the registry refuses. Whatever could be looked at is looked after then, and nothing
    /// more is admitted.
    pub async fn recover(&self, start: Start) -> Result<(), Failure> {
        let registry = &self.context.registry;
        let mut models: Vec<i64> = registry.desired_running().await?;
        let mut known: BTreeSet<i64> = models.iter().copied().collect();
        for run in registry.open_runs().await? {
            if known.insert(run.model_id) {
                models.push(run.model_id);
            }
        }
        let mut looking = Vec::new();
        for model_id in models {
            match registry.model_by_id(model_id).await? {
                Some(model) => looking.push(self.touch(&model).await?.recovered),
                None => self.leave_no_process(model_id).await?,
            }
        }
        for mut recovered in looking {
            // A task that ends without having looked has lost its model.
            let _ = recovered.wait_for(|recovered| *recovered).await;
        }
        self.end_strays().await?;
        let directory = self.context.servers_dir.clone();
        let removed = tokio::task::spawn_blocking(move || remove_dead_sockets(&directory)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "sockets of servers that are no more cannot be removed");
        }
        self.context.arbiter.tell(ToArbiter::Recovered).await;
        if start == Start::Fresh {
            self.autostart().await?;
        }
        Ok(())
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
            let message = "it ended while no daemon was running";
            let cause = Cause::new(CauseCode::Requested, message, now_ms());
            let event = NewEvent {
                at_ms: now_ms(),
                kind: EventKind::ServerStopped,
                model: Some((run.model_id, run.model.clone())),
                run_id: Some(run.id.clone()),
                by: Actor::Boot,
                message: format!("{}: {}", run.model, cause.message),
                details: Some(json!({ "to": "stopped", "cause": cause })),
            };
            let end =
                RunEnd { at_ms: cause.at_ms, cause, failures: 0, restarts: 0, restart_at_ms: None };
            // A full disk must not keep the daemon from starting; the next one tries again.
            if let Err(error) = self.context.registry.put_end(run.id, end, event).await {
                tracing::error!(%error, "cannot write off a run");
            }
        }
        Ok(())
    }

    /// Deals with marked processes that no task looks after, nor one of those started: what a server
    /// starts itself is its own business.
    async fn end_strays(&self) -> Result<(), Failure> {
        let pids = |pid: u32| i32::try_from(pid).ok();
        let known: Vec<i32> =
            self.context.running.borrow().iter().filter_map(|it| pids(it.pid)).collect();
        for (process, run_id) in self.found.iter() {
            let is_known = group_of(process.pid).is_none_or(|group| known.contains(&group));
            if is_known || known.contains(&process.pid) || !process.is_alive() {
                continue;
            }
            // A task that broke just now is about to take it over again.
            if self.looks_after(run_id) {
                continue;
            }
            let record = self.context.registry.run(run_id).await?;
            let model = match &record {
                Some(run) => self.context.registry.model_by_id(run.model_id).await?,
                None => None,
            };
            let adopts =
                self.context.config.strays == Strays::Adopt && self.context.config.keeps_servers();
            match (record, model) {
                (Some(run), Some(model)) if adopts && !self.has_process(model.id) => {
                    self.adopt_stray(run, &model, *process).await?;
                }
                (_, model) => self.end_stray(*process, run_id, model).await,
            }
        }
        Ok(())
    }

    /// Whether a task has this run, and the run no end.
    fn looks_after(&self, run_id: &str) -> bool {
        let runs = self.active().into_iter().filter_map(|server| server.run);
        runs.into_iter().any(|run| run.id == run_id && run.ended_at_ms.is_none())
    }

    fn has_process(&self, model_id: i64) -> bool {
        self.handle(model_id).is_some_and(|it| !it.published.borrow().state.is_settled_down())
    }

    /// Takes a stray over under its old run.
    async fn adopt_stray(
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
        self.touch(model).await?.ask(|reply| Command::Recover { reply }).await;
        Ok(())
    }

    async fn end_stray(&self, process: ProcessId, run_id: &str, model: Option<Model>) {
        let message = format!(
            "process {} is a server of ours that no record tells of: it is stopped",
            process.pid
        );
        tracing::warn!(pid = process.pid, run = run_id, "stopping a stray");
        let event = NewEvent {
            at_ms: now_ms(),
            kind: EventKind::ServerStray,
            model: model.map(|model| (model.id, model.name)),
            run_id: Some(run_id.to_owned()),
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
        let defaults = registry.defaults().await?.settings;
        let mut wanted = Vec::new();
        let mut after = None;
        loop {
            let page = registry.models(after.clone(), 200).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            for model in page {
                if !limits::autostart(&layers::effective(&defaults, &model.settings)) {
                    continue;
                }
                let desired = registry.desired(model.id).await?.map(|it| recovery::Desired {
                    state: it.desired.state,
                    at_ms: it.desired.at_ms,
                    restart_requested: it.restart_requested,
                });
                if recovery::starts_by_itself(desired, booted_at_ms()) {
                    wanted.push(model);
                }
            }
        }
        wanted.sort_by_key(|model| (model.file.size_bytes, model.id));
        for model in wanted {
            let started = self.start_server(&model, Settings::new(), Actor::Boot).await;
            if let Err(failure) = started {
                tracing::warn!("{} could not be started: {failure}", model.name);
            }
        }
        Ok(())
    }
}

impl Context {
    /// The processes that bear our marker, with the run it names.
    pub(super) async fn marked(&self) -> Vec<(ProcessId, String)> {
        let ours = marker(&self.registry.id(), "");
        tokio::task::spawn_blocking(move || marked(&ours)).await.unwrap_or_default()
    }

    /// The process of a run, if it is there for certain.
    pub(super) async fn find(&self, run: &RunRecord) -> Option<Process> {
        let marker = marker(&self.registry.id(), &run.id);
        let id = {
            let run = run.clone();
            tokio::task::spawn_blocking(move || find_process(&run, &marker)).await.ok()??
        };
        Process::adopt(id, run)
    }

    /// Kills what a server that ended has left behind: processes that bear its marker. Every process
    /// there is must be looked at for that, so it is done a moment later, when the next run is made:
    /// but `at_once`, and waited for, where one of them stands in that run's way.
    pub(super) async fn end_leftovers(&self, marker: String, at_once: bool) {
        let stopping = self.stopping.clone();
        let end = async move {
            if !at_once {
                let _ = tokio::time::timeout(LEFTOVERS_AFTER, stopping.cancelled()).await;
            }
            let found = tokio::task::spawn_blocking(move || marked(&marker)).await;
            for (id, _) in found.unwrap_or_default() {
                if let Ok(Some(process)) = id.open() {
                    tracing::warn!(pid = id.pid, "killing what a server left behind");
                    if process.signal(Signal::KILL).is_ok() {
                        let _ = tokio::time::timeout(TERM, process.exited()).await;
                    }
                }
            }
        };
        let ending = self.tasks.spawn(end);
        if at_once {
            let _ = ending.await;
        }
    }
}

/// How long after the end of a server its leftovers are looked for.
const LEFTOVERS_AFTER: Duration = Duration::from_secs(1);

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

/// Removes the sockets that nobody listens on: llama-server leaves its own behind when it is killed. Only
/// while nothing is admitted, because one that is just being made refuses too. Blocks.
fn remove_dead_sockets(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_socket() {
            continue;
        }
        let path = entry.path();
        let answer = std::os::unix::net::UnixStream::connect(&path);
        if answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
