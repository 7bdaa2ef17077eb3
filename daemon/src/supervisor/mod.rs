//! llama-server processes: one task owns each server's life.
//!
//! ```text
//!   api ──commands──▶ ServerTask (one per model) ──signals──▶ llama-server
//!       ◀──watch────       │  core::driver: pure
//!                          ├─ store: what is desired, runs, events
//!                          ├─ arbiter: who may load and run
//!                          ├─ observe: /health, progress lines, log
//!                          ╰─ metrics: the list of running processes
//! ```
//!
//! Invariants:
//! * Only a server's own task makes or signals its process.
//! * What is desired is written before it is done, a run before its process is made.
//! * A process outlives the daemon: its output goes to files, its stdin never ends. The next
//!   daemon finds it by its record and its marker.
//! * A task is made in one way only: by recovering its model, at the first touch or in its turn. So
//!   whoever comes first adopts, and a start never makes a second process.

mod adopt;
mod command_line;
pub mod core;
mod endpoint;
mod lifeline;
mod observe;
mod plan;
mod process;
mod records;
mod task;
#[cfg(test)]
mod tests;

pub use adopt::Start;
pub use command_line::MARKER;
pub use observe::LOG_KEEP_BYTES;
pub use task::Accepted;

use self::core::driver::Written;
use self::core::machine::{self, Moment};
use crate::arbiter::{Arbiter, Bounds, ToArbiter};
use crate::config::Config;
use crate::llama::{self, ReportedSettings};
use crate::logs::file::RunLog;
use crate::logs::watch::Watcher;
use crate::metrics::{GpuMemory, RunningServer, Starts};
use crate::os::process::{ProcessId, boot_id};
use crate::store::registry::{Changes, Registry, StoreError};
use futures_util::FutureExt as _;
use lifeline::Lifelines;
use llamactl_protocol::model::{CommandLine as WireCommandLine, Model};
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::{Server, State};
use llamactl_protocol::{Actor, Failure, Kind};
use plan::{Checked, Kept};
use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use task::{Command, Planned, ServerTask};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Logs are kept of this many runs of a model.
pub const LOGS_OF_RUNS: u32 = 10;

/// Of how many runs logs are looked for when their model is removed: more than can have any.
const RUNS_OF_REMOVED: u32 = 2 * LOGS_OF_RUNS;

/// What all server tasks share.
struct Context {
    registry: Registry,
    watcher: Watcher,
    logs_dir: PathBuf,
    servers_dir: PathBuf,
    boot_id: Option<String>,
    running: watch::Sender<Vec<RunningServer>>,
    /// How often servers are started, for the metrics.
    starts: Starts,
    /// Counts changes of any server, for whoever follows all of them.
    changes: watch::Sender<u64>,
    /// The defaults for all models as they were changed last.
    defaults: watch::Sender<Arc<Settings>>,
    tasks: TaskTracker,
    arbiter: Arbiter,
    lifelines: Lifelines,
    config: Config,
    epoch: Instant,
    /// Servers that were to end with the daemon before, and did not, are made anew.
    replace: bool,
    /// No more starts: the daemon is stopping.
    stopping: CancellationToken,
    /// Tasks end and leave their processes alone.
    abandon: CancellationToken,
}

/// A handle to all servers. Clones share it.
#[derive(Clone)]
pub struct Supervisor {
    context: Arc<Context>,
    servers: Arc<Mutex<HashMap<i64, Handle>>>,
    /// Marked processes that were there before the first connection was answered.
    found: Arc<Vec<(ProcessId, String)>>,
}

#[derive(Clone)]
struct Handle {
    commands: mpsc::Sender<Command>,
    /// Kept, so that who watches goes on watching if the task breaks and another takes its place.
    published: watch::Sender<Server>,
    /// The model as it was changed last; the task begins with what is written of it.
    model: watch::Sender<Arc<Model>>,
    /// The plan of the last start.
    kept: Arc<Kept>,
    /// True once the task has looked whether a process is there.
    recovered: watch::Receiver<bool>,
}

impl Handle {
    /// What the task answers; `None` where it has ended, or broke, before it did.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answered(&self.commands, answer).await
    }
}

/// The answer to what was sent to a task. What is sent in the instant in which the task ends lies in its
/// queue for as long as anybody has a handle, and the reply with it.
async fn answered<T>(
    commands: &mpsc::Sender<Command>,
    mut answer: oneshot::Receiver<T>,
) -> Option<T> {
    tokio::select! {
        biased;
        answer = &mut answer => answer.ok(),
        () = commands.closed() => answer.try_recv().ok(),
    }
}

impl Context {
    /// Now, on the clock of the state machine: from long after its beginning, so that what was
    /// before this daemon has a place too.
    fn now(&self) -> Moment {
        Duration::from_secs(10 * 366 * 86_400) + self.epoch.elapsed()
    }

    fn log_of(&self, run_id: &str) -> io::Result<RunLog> {
        RunLog::new(&self.logs_dir, run_id)
    }

    /// Deletes the logs of a model's older runs.
    async fn clear_old_logs(&self, model_id: i64) {
        let runs = match self.registry.runs_of(model_id, 100).await {
            Ok(runs) => runs,
            Err(error) => return tracing::warn!(%error, "cannot list old runs"),
        };
        self.delete_logs(runs.into_iter().skip(LOGS_OF_RUNS as usize).collect()).await;
    }

    async fn delete_logs(&self, runs: Vec<String>) {
        let logs: Vec<RunLog> = runs.iter().filter_map(|run| self.log_of(run).ok()).collect();
        let delete = move || {
            for log in logs {
                if let Err(error) = log.remove() {
                    tracing::warn!(?log, %error, "cannot delete logs");
                }
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(delete).await {
            tracing::error!(%error, "deleting logs");
        }
    }
}

/// The wait before a task that broke is replaced; each after it is twice as long.
const FIRST_RESPAWN: Duration = Duration::from_millis(100);
/// No such wait is longer.
const LONGEST_RESPAWN: Duration = Duration::from_secs(60);
/// How long it may take to stop all servers: each has its stages at the same time as the others.
pub(crate) const LONGEST_STOP: Duration = Duration::from_secs(
    machine::LONGEST_DRAIN_AT_SHUTDOWN.as_secs()
        + 2 * machine::TERM.as_secs()
        + machine::KILL.as_secs()
        + 1,
);

impl Supervisor {
    /// Makes ready to supervise: looks which processes of ours are there. Nothing is taken over or
    /// started before [`Supervisor::recover`], or the first touch of a model.
    pub async fn new(
        registry: Registry,
        watcher: Watcher,
        state_dir: &Path,
        servers_dir: PathBuf,
        config: Config,
        lifelines: Vec<(String, OwnedFd)>,
        start: Start,
    ) -> Supervisor {
        let bounds = Bounds {
            max_running: config.max_running.map(NonZeroU32::get),
            max_loading: config.max_loading.get(),
        };
        let (arbiter, deciding) = Arbiter::new(bounds);
        // It ends with its last handle, so it is none of those that are waited for.
        tokio::spawn(deciding);
        let context = Arc::new(Context {
            watcher,
            logs_dir: state_dir.join("logs"),
            servers_dir,
            boot_id: boot_id().ok(),
            running: watch::Sender::new(vec![]),
            starts: Starts::default(),
            changes: watch::Sender::new(0),
            defaults: watch::Sender::default(),
            tasks: TaskTracker::new(),
            arbiter,
            lifelines: Lifelines::new(!config.keeps_servers(), lifelines),
            replace: !config.keeps_servers() && start != Start::InPlace,
            config,
            epoch: Instant::now(),
            stopping: CancellationToken::new(),
            abandon: CancellationToken::new(),
            registry,
        });
        let found = Arc::new(context.marked().await);
        Supervisor { context, servers: Arc::default(), found }
    }

    /// What must stay open in the program that this process executes next, so that servers which
    /// are to end with the daemon do not end now, by run.
    #[must_use]
    pub fn lifelines(&self) -> Vec<(String, OwnedFd)> {
        self.context.lifelines.copies()
    }

    /// Takes in what was measured: what the process of a run holds on GPUs.
    pub async fn record_gpu_memory(&self, held: GpuMemory) {
        let Some(handle) = self.handle(held.model_id) else { return };
        let (run, bytes) = (held.run_id, Some(held.bytes));
        // A task that ends has nothing to tell of it.
        let _ = handle.commands.send(Command::GpuMemory { run, bytes }).await;
    }

    /// The processes there are, for the metrics loop.
    #[must_use]
    pub fn running(&self) -> watch::Receiver<Vec<RunningServer>> {
        self.context.running.subscribe()
    }

    /// How often servers are started, for the metrics loop.
    #[must_use]
    pub fn starts(&self) -> Starts {
        self.context.starts.clone()
    }

    /// Changes whenever any server does.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.context.changes.subscribe()
    }

    /// The server of a model as it is now.
    ///
    /// # Errors
    /// What the registry refuses.
    pub async fn server(&self, model: &Model) -> Result<Server, Failure> {
        if let Some(server) = self.known(model.id) {
            return Ok(server);
        }
        let written = self.context.written(model.id).await?;
        let (written, _) = written.ok_or_else(|| gone(model))?;
        Ok(self.context.unexamined(&written))
    }

    /// The same of a server that has a task; every one that runs has.
    #[must_use]
    pub fn known(&self, model_id: i64) -> Option<Server> {
        Some(self.handle(model_id)?.published.borrow().clone())
    }

    /// The servers of all models by name behind `after`, at most `limit`, as they are now.
    ///
    /// # Errors
    /// What the registry refuses.
    pub async fn page(&self, after: String, limit: u32) -> Result<Vec<Server>, Failure> {
        let stored = self.context.registry.for_the_wire().stored_servers(after, limit).await?;
        let mut servers = Vec::with_capacity(stored.len());
        for stored in stored {
            servers.push(match self.handle(stored.model.id) {
                Some(handle) => handle.published.borrow().clone(),
                None => self.context.unexamined(&self.context.read(stored).await.0),
            });
        }
        Ok(servers)
    }

    /// The servers that have a task: all that run or were asked to since the daemon started.
    #[must_use]
    pub fn active(&self) -> Vec<Server> {
        let handles: Vec<Handle> = self.lock().values().cloned().collect();
        handles.iter().map(|handle| handle.published.borrow().clone()).collect()
    }

    /// A server's state, to wait on. The task is started if there is none.
    ///
    /// # Errors
    /// What the registry refuses.
    pub async fn watch(&self, model: &Model) -> Result<watch::Receiver<Server>, Failure> {
        Ok(self.touch(model).await?.published.subscribe())
    }

    /// Wants a model's server to run.
    ///
    /// # Errors
    /// What keeps it from being started; a server at rest then counts as failed for it.
    pub async fn start_server(
        &self,
        model: &Model,
        overrides: Settings,
        by: Actor,
    ) -> Result<Accepted, Failure> {
        // A server that runs already, or is about to, needs no plan.
        let handle = self.touch(model).await?;
        let state = handle.published.borrow().state;
        let is_there = match state {
            State::Stopped | State::Failed | State::Backoff | State::Stopping | State::Stuck => {
                false
            }
            State::Queued
            | State::Starting
            | State::Loading
            | State::Ready
            | State::Sleeping
            | State::Adopting => true,
        };
        let planned = if is_there { None } else { self.plan(&handle, model, &overrides).await };
        self.ask(model, |reply| Command::Start { overrides, by, planned, reply }).await
    }

    /// Wants a model's server not to run.
    ///
    /// # Errors
    /// What the registry refuses.
    pub async fn stop_server(&self, model: &Model, by: Actor) -> Result<Accepted, Failure> {
        self.ask(model, |reply| Command::Stop { by, reply }).await
    }

    /// Wants a model's server to run anew, with the settings of now. `unsound` is what is wrong with its
    /// file.
    ///
    /// # Errors
    /// As [`Supervisor::start_server`]; a server that runs goes on, also where only llama-server itself
    /// would say what keeps another from starting.
    pub async fn restart_server(
        &self,
        model: &Model,
        overrides: Settings,
        unsound: Option<Failure>,
        by: Actor,
    ) -> Result<Accepted, Failure> {
        let handle = self.touch(model).await?;
        let checked = self.context.checked_plan(model.id, overrides.clone(), &handle.kept).await;
        let now = handle.published.borrow().clone();
        let runs = now.run.is_some_and(|run| run.pid.is_some() && run.ended_at_ms.is_none());
        let planned = Some(match (checked, unsound) {
            (Ok(_), Some(unsound)) if runs => Err(unsound),
            (Ok(Checked { plan, files, .. }), _) if runs => {
                let may = move || plan.may_follow(&files, now.endpoint.as_ref());
                let may = tokio::task::spawn_blocking(may).await;
                may.map_err(|error| Failure::new(Kind::Internal, error.to_string()))?
            }
            (checked, _) => checked.map(drop),
        });
        self.ask(model, |reply| Command::Restart { overrides, by, planned, reply }).await
    }

    /// Whether a start is possible: looked at here and not in the task, because a build that is
    /// asked for its options may take long, and a stop does not wait for it.
    async fn plan(&self, handle: &Handle, model: &Model, overrides: &Settings) -> Planned {
        let plan = self.context.checked_plan(model.id, overrides.clone(), &handle.kept).await;
        Some(plan.map(drop))
    }

    /// Hands changes on to the tasks of the servers that they are of. Waits for none of them: what
    /// a task has not taken yet is replaced by what is newer.
    pub fn follow(&self, changes: Changes) {
        for (id, model) in changes.models {
            if let (Some(handle), Some(model)) = (self.handle(id), model) {
                handle.model.send_replace(Arc::new(model));
            }
        }
        if let Some(defaults) = changes.defaults {
            self.context.defaults.send_replace(Arc::new(defaults.settings));
        }
    }

    /// Which settings a model's ready server reports to be in force; `None` without one.
    pub async fn reported(&self, model_id: i64) -> Option<ReportedSettings> {
        let state = self.handle(model_id)?.published.borrow().state;
        if state != State::Ready {
            return None;
        }
        let run = self.context.registry.last_run(model_id).await.ok()??;
        llama::reported(&self.context.client_of(&run).await?).await
    }

    /// Takes a model out of the registry, with the logs of its runs. Its own task does it, so no
    /// start can come between.
    ///
    /// # Errors
    /// [`Kind::ModelRunning`] while there is a process and `stop` is false;
    /// [`Kind::Superseded`] when somebody started it during the stop.
    pub async fn remove(&self, model: &Model, stop: bool, by: Actor) -> Result<Model, Failure> {
        if stop {
            let mut status = self.watch(model).await?;
            self.stop_server(model, by.clone()).await?;
            let stopped = status.wait_for(|server| {
                server.is_to_run() || server.state.is_settled_down() || server.state == State::Stuck
            });
            if stopped.await.is_ok_and(|server| server.is_to_run()) {
                return Err(Failure::new(
                    Kind::Superseded,
                    format!("{} was started again while it was being stopped", model.name),
                ));
            }
        }
        let runs = self.context.registry.runs_of(model.id, RUNS_OF_REMOVED).await?;
        let removed = self.ask(model, |reply| Command::Remove { by, reply }).await?;
        self.context.delete_logs(runs).await;
        Ok((*removed).clone())
    }

    /// The command line a start would use now.
    ///
    /// # Errors
    /// What keeps it from being started at all.
    pub async fn command_line(&self, model: &Model) -> Result<WireCommandLine, Failure> {
        let now = self.context.registry.layers_by_id(model.id).await?.ok_or_else(|| gone(model))?;
        Ok(self.context.plan(now, Settings::new()).await?.1.line.shown())
    }

    /// What would keep a start of this model from making a process now, as far as that can be seen
    /// without one.
    ///
    /// # Errors
    /// Just that.
    pub async fn may_start(&self, model: &Model) -> Result<(), Failure> {
        let plan = self.context.checked_plan(model.id, Settings::new(), &Kept::default()).await;
        let missing = plan.map_or_else(Some, |plan| plan.files.missing);
        missing.map_or(Ok(()), |failure| Err(failure.of_model(&model.name)))
    }

    /// Deletes what a model's runs wrote; what a living one writes into is emptied. How much that
    /// gave, in bytes.
    ///
    /// # Errors
    /// What the registry reports, or the system of a log that is in use.
    pub async fn clear_logs(&self, model: &Model) -> Result<u64, Failure> {
        let runs = self.context.registry.runs_of(model.id, 100).await?;
        let live = self.watch(model).await?.borrow().run.clone();
        let live = live.filter(|run| run.ended_at_ms.is_none());
        let logs: Vec<RunLog> =
            runs.iter().filter_map(|run| self.context.log_of(run).ok()).collect();
        let living = live.and_then(|run| self.context.log_of(&run.id).ok().zip(Some(run.pid)));
        let clear = move || {
            let mut freed_bytes = 0;
            for log in logs {
                match &living {
                    Some((live, pid)) if *live == log => {
                        let pid = pid.and_then(|pid| i32::try_from(pid).ok());
                        freed_bytes += log.empty(pid)?;
                    }
                    _ => {
                        freed_bytes += log.blocks_bytes();
                        log.remove()?;
                    }
                }
            }
            Ok::<u64, io::Error>(freed_bytes)
        };
        let failed = |error: String| Failure::new(Kind::IoFailed, error);
        let cleared = tokio::task::spawn_blocking(clear).await;
        let cleared = cleared.map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
        cleared
            .map_err(|error| failed(format!("a log of {} cannot be cleared: {error}", model.name)))
    }

    /// Where the logs of a run are.
    ///
    /// # Errors
    /// [`Kind::RunNotFound`] for what is no run id.
    pub fn log_of(&self, run_id: &str) -> Result<RunLog, Failure> {
        self.context
            .log_of(run_id)
            .map_err(|_| Failure::new(Kind::RunNotFound, format!("there is no run {run_id}")))
    }

    /// The watcher of log files.
    #[must_use]
    pub fn watcher(&self) -> &Watcher {
        &self.context.watcher
    }

    /// Accepts no more starts, and admits none that wait. How many servers would have to be
    /// stopped.
    pub async fn close(&self) -> usize {
        self.context.stopping.cancel();
        self.context.arbiter.tell(ToArbiter::Close).await;
        self.active().iter().filter(|server| !server.state.is_settled_down()).count()
    }

    /// Stops every server and leaves what is desired as it is. Bounded by the stages of a stop.
    pub async fn stop_all(&self, by: &Actor) {
        self.close().await;
        let handles: Vec<Handle> = self.lock().values().cloned().collect();
        let stop_one = async |handle: Handle| {
            // A task that is gone has no process either. Begun first: before that, a start that is
            // under way may still look stopped.
            if handle.ask(|reply| Command::Shutdown { by: by.clone(), reply }).await.is_some() {
                let mut status = handle.published.subscribe();
                let _ = status.wait_for(|server| server.state.is_settled_down()).await;
            }
        };
        let all = futures_util::future::join_all(handles.into_iter().map(stop_one));
        if tokio::time::timeout(LONGEST_STOP, all).await.is_err() {
            tracing::error!("some servers could not be stopped");
        }
    }

    /// Ends supervision. Servers that still run are left to the next daemon.
    pub async fn end(&self) {
        self.close().await;
        self.context.abandon.cancel();
        self.context.tasks.close();
        // A task may be inside a system call that hangs, on a dead network mount say.
        if tokio::time::timeout(Duration::from_secs(2), self.context.tasks.wait()).await.is_err() {
            tracing::error!("some servers' tasks did not end");
        }
    }

    /// Asks a model's task something. A task that breaks over it is replaced; what it was asked may
    /// or may not have been done.
    async fn ask<T>(
        &self,
        model: &Model,
        command: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Command,
    ) -> Result<T, Failure> {
        if self.context.stopping.is_cancelled() {
            return Err(Failure::new(Kind::Stopping, "the daemon is stopping"));
        }
        if let Some(answer) = self.touch(model).await?.ask(command).await {
            return answer;
        }
        if self.context.stopping.is_cancelled() {
            return Err(Failure::new(Kind::Stopping, "the daemon is stopping"));
        }
        match self.context.registry.model_by_id(model.id).await? {
            None => Err(gone(model).into()),
            Some(model) => Err(Failure::new(
                Kind::Internal,
                format!("llamactld failed while it dealt with {}; its log tells more", model.name),
            )),
        }
    }

    /// The task of a model: the one there is, or one that is made by looking what is written of the
    /// model and whether its process is there.
    async fn touch(&self, model: &Model) -> Result<Handle, Failure> {
        if let Some(handle) = self.handle(model.id) {
            return Ok(handle);
        }
        let written = self.context.written(model.id).await?;
        let (written, _) = written.ok_or_else(|| gone(model))?;
        Ok(self.make_task(&written))
    }

    /// Makes a model's task, unless somebody else was faster.
    fn make_task(&self, written: &Written) -> Handle {
        let model_id = written.model.id;
        let mut servers = self.lock();
        let handle = servers.entry(model_id).or_insert_with(|| {
            let published = watch::Sender::new(self.context.unexamined(written));
            let (commands, inbox) = mpsc::channel(16);
            let (recovering, recovered) = watch::channel(false);
            let model = watch::Sender::new(Arc::clone(&written.model));
            let handle = Handle { commands, published, model, kept: Arc::default(), recovered };
            let keeps = self.clone().keep_task(written.clone(), handle.clone(), inbox, recovering);
            self.context.tasks.spawn(keeps);
            handle
        });
        handle.clone()
    }

    /// Runs a model's task, and puts another in its place if it breaks: its process goes on
    /// meanwhile and is taken over, as after the death of a daemon.
    async fn keep_task(
        self,
        written: Written,
        handle: Handle,
        mut inbox: mpsc::Receiver<Command>,
        recovering: watch::Sender<bool>,
    ) {
        let (model_id, context) = (written.model.id, Arc::clone(&self.context));
        let mut wait = FIRST_RESPAWN;
        loop {
            let began = Instant::now();
            let state = context.unexamined_state(&written);
            let task = ServerTask::new(
                Arc::clone(&context),
                state,
                handle.published.clone(),
                inbox,
                handle.model.subscribe(),
                Arc::clone(&handle.kept),
                recovering.clone(),
            );
            if AssertUnwindSafe(task.run(context.replace)).catch_unwind().await.is_ok() {
                break;
            }
            context.running.send_modify(|all| all.retain(|it| it.model_id != model_id));
            context.arbiter.tell(ToArbiter::Retire { model: model_id }).await;
            if began.elapsed() >= LONGEST_RESPAWN {
                wait = FIRST_RESPAWN;
            }
            tracing::error!(model_id, ?wait, "a server's task broke; another takes its place");
            let commands;
            (commands, inbox) = mpsc::channel(16);
            if let Some(handle) = self.lock().get_mut(&model_id) {
                handle.commands = commands;
            }
            tokio::select! {
                () = context.abandon.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(LONGEST_RESPAWN);
        }
        // The model is gone, or the daemon leaves.
        if !context.abandon.is_cancelled() {
            self.lock().remove(&model_id);
            context.arbiter.tell(ToArbiter::Retire { model: model_id }).await;
            context.changes.send_modify(|count| *count += 1);
        }
    }

    fn handle(&self, model_id: i64) -> Option<Handle> {
        self.lock().get(&model_id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Handle>> {
        // Nothing panics while it is held; and if it did, the map is still whole.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone(model: &Model) -> StoreError {
    StoreError::ModelNotFound(model.name.clone())
}
