//! llama-server processes: one task owns each server's life.
//!
//! ```text
//!   rpc ──commands──▶ ServerTask (one per model) ──signals──▶ llama-server
//!       ◀──watch────       │  machine::step: pure
//!                          ├─ store: wishes, runs, events
//!                          ├─ observe: /health, progress lines, log
//!                          ╰─ metrics: the list of running processes
//! ```
//!
//! Invariants:
//! * Only a server's own task makes or signals its process.
//! * What is wanted is written before it is done, a run before its process is made.
//! * A process outlives the daemon: its output goes to files, its stdin never ends. The next
//!   daemon finds it by its record and its marker.

mod adopt;
mod command_line;
pub mod core;
mod endpoint;
mod lifeline;
mod observe;
mod process;
mod status;
mod task;

pub use adopt::Start;
pub use command_line::MARKER;
pub use observe::LOG_KEEP_BYTES;
pub use task::Answer;

use self::core::admission::Admission;
use self::core::{hang, limits, machine, recovery, restart};
use crate::config::Config;
use crate::llama::{self, ApiKey, Client, ReportedSettings, Target};
use crate::logs::file::RunLog;
use crate::logs::watch::Watcher;
use crate::metrics::RunningServer;
use crate::models::{self, Layers};
use crate::os::process::boot_id;
use crate::store::registry::{DesiredRecord, Registry, RunRecord, RuntimeRecord, StoreError};
use command_line::CommandLine;
use futures_util::FutureExt as _;
use lifeline::Lifelines;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::metrics::Sample;
use llamactl_protocol::model::{CommandLine as WireCommandLine, Model};
use llamactl_protocol::options::{Settings, layers};
use llamactl_protocol::server::{Endpoint, Server, State};
use llamactl_protocol::{Actor, Failure, Hint, Kind};
use machine::{Moment, RunId};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use task::{Beginning, Command, ServerTask};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Logs are kept of this many runs of a model.
const LOGS_OF_RUNS: u32 = 10;

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
    /// Counts changes of any server, for whoever follows all of them.
    changes: watch::Sender<u64>,
    tasks: TaskTracker,
    /// How many may run and load, and who waits.
    admission: Mutex<Admission>,
    /// Changes whenever a place may have become free.
    places: watch::Sender<u64>,
    lifelines: Lifelines,
    config: Config,
    epoch: Instant,
    /// The models whose tasks broke.
    broken: mpsc::UnboundedSender<i64>,
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
}

#[derive(Clone)]
struct Handle {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Server>,
    /// Kept, so that who watches goes on watching if the task breaks and another takes its place.
    published: watch::Sender<Server>,
}

/// Everything a start needs.
struct Plan {
    runtime: RuntimeRecord,
    line: CommandLine,
    endpoint: Endpoint,
    target: Target,
    /// The settings it stands for.
    layers: Layers,
}

impl Plan {
    /// Whether another port would do: none is set, or any is wanted.
    fn may_listen_elsewhere(&self) -> bool {
        let has_fixed_port =
            self.layers.effective().get("port").is_some_and(serde_json::Value::is_number);
        matches!(self.target, Target::Address(_)) && !has_fixed_port
    }

    /// Sees to it that nobody else listens where the server is to: another program there would
    /// answer `/health` in its place. Removes the socket an earlier process left, because
    /// llama-server never does, and refuses to start over it.
    async fn clear_way(&self) -> Result<(), Cause> {
        let taken = |message: String, hint: &str| Cause {
            hints: Hint::to(hint).into(),
            ..status::cause(CauseCode::BindFailed, message)
        };
        match &self.target {
            Target::Address(address) => match TcpListener::bind(address) {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(taken(
                    format!("another program listens on {address}"),
                    "set another port, or port=auto; ss -ltnp shows who has it",
                )),
                Err(error) => Err(taken(
                    format!("nothing can listen on {address}: {error}"),
                    "set another host or port",
                )),
            },
            Target::Socket(path) if UnixStream::connect(path).await.is_ok() => Err(taken(
                format!("another process answers on the server's socket {}", path.display()),
                "ss -xlp shows which; stop it",
            )),
            Target::Socket(path) => match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(taken(
                    format!("the old socket {} cannot be removed: {error}", path.display()),
                    "remove it",
                )),
                _ => Ok(()),
            },
        }
    }
}

impl Context {
    fn admission(&self) -> MutexGuard<'_, Admission> {
        // Nothing panics while it is held; and if it did, it is still whole.
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, on the clock of the state machine.
    fn now(&self) -> Moment {
        task::moment_since(self.epoch)
    }

    /// What a start of this model would do now.
    async fn plan(&self, model: &Model, overrides: Settings) -> Result<Plan, Failure> {
        let layers = Layers::of(&self.registry, model, overrides).await?;
        let settings = layers.effective();
        let runtime = models::runtime_of(&self.registry, &settings).await?;
        layers.check()?;
        // The build may be another than the one they were set for.
        models::accepted(&runtime.build(), &settings)?;
        let listen = endpoint::asked(&settings)?;
        let (last, taken) = match listen.chooses_port() {
            true => self.ports_before(model.id).await?,
            false => (None, BTreeSet::new()),
        };
        let held = self.running.borrow().iter().any(|server| server.model_id == model.id);
        let (endpoint, target) =
            endpoint::choose(&listen, &self.servers_dir, model.id, last.as_ref(), held, &taken)?;
        let line = command_line::build(model, &settings, &runtime, &target);
        Ok(Plan { runtime, line, endpoint, target, layers })
    }

    /// The key that a server with these settings asks its clients for.
    async fn key_of(&self, settings: Settings) -> Result<Option<ApiKey>, Failure> {
        let secrets = self.registry.secrets().clone();
        let read = move || models::key_of(&secrets, &settings);
        let key = tokio::task::spawn_blocking(read).await;
        let key = key.map_err(|_| Failure::new(Kind::Internal, "reading a key failed"))??;
        Ok(key.map(ApiKey))
    }

    /// A client of the server of a run.
    async fn client_of(&self, run: &RunRecord) -> Option<Client> {
        let target = endpoint::target(&run.endpoint)?;
        let key = self.key_of(layers::over(&run.settings, &run.overrides)).await;
        let key = key.unwrap_or_else(|failure| {
            tracing::warn!(model = run.model, %failure, "a server is asked without its key");
            None
        });
        Some(Client::new(target, key, run.pid))
    }

    /// Where the model's last run listened, and the ports of the other models' last runs.
    async fn ports_before(
        &self,
        model_id: i64,
    ) -> Result<(Option<Endpoint>, BTreeSet<u16>), Failure> {
        let mut endpoints: HashMap<i64, Endpoint> =
            self.registry.last_endpoints().await?.into_iter().collect();
        let own = endpoints.remove(&model_id);
        Ok((own, endpoints.values().filter_map(endpoint::port_of).collect()))
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

impl Supervisor {
    /// Supervises nothing yet: [`Supervisor::take_over`] goes on with what an earlier daemon left.
    /// `lifelines` are what servers of the program before live by.
    pub fn new(
        registry: Registry,
        watcher: Watcher,
        state_dir: &Path,
        servers_dir: PathBuf,
        config: Config,
        lifelines: Vec<(RunId, OwnedFd)>,
    ) -> Supervisor {
        let (broken, breaks) = mpsc::unbounded_channel();
        let context = Arc::new(Context {
            registry,
            watcher,
            logs_dir: state_dir.join("logs"),
            servers_dir,
            boot_id: boot_id().ok(),
            running: watch::Sender::new(vec![]),
            changes: watch::Sender::new(0),
            tasks: TaskTracker::new(),
            admission: Mutex::new(Admission::new(
                config.max_running.map(NonZeroU32::get),
                config.max_loading.get(),
            )),
            places: watch::Sender::new(0),
            lifelines: Lifelines::new(!config.keeps_servers(), lifelines),
            config,
            epoch: Instant::now(),
            broken,
            stopping: CancellationToken::new(),
            abandon: CancellationToken::new(),
        });
        let supervisor = Supervisor { context, servers: Arc::default() };
        supervisor.context.tasks.spawn(supervisor.clone().mend(breaks));
        supervisor
    }

    /// Puts another task in the place of each that broke. Its process goes on meanwhile and is
    /// taken over, as after the death of a daemon.
    async fn mend(self, mut breaks: mpsc::UnboundedReceiver<i64>) {
        let abandon = self.context.abandon.clone();
        loop {
            let model_id = tokio::select! {
                () = abandon.cancelled() => return,
                model_id = breaks.recv() => match model_id {
                    Some(model_id) => model_id,
                    None => return,
                },
            };
            let published = self.forget(model_id);
            self.context.running.send_modify(|all| all.retain(|it| it.model_id != model_id));
            self.context.admission().release(model_id);
            let recovered = match self.context.registry.model_by_id(model_id).await {
                Ok(Some(model)) => self.recover(&model, false, published).await.map(drop),
                Ok(None) => Ok(()),
                Err(error) => Err(error.into()),
            };
            if let Err(failure) = recovered {
                tracing::error!(model_id, %failure, "a server is not looked after any more");
            }
        }
    }

    /// Forgets a model's task; those who watch it stay.
    fn forget(&self, model_id: i64) -> Option<watch::Sender<Server>> {
        Some(self.lock().remove(&model_id)?.published)
    }

    fn has_process(&self, model_id: i64) -> bool {
        self.handle(model_id).is_some_and(|handle| !handle.status.borrow().state.is_settled_down())
    }

    /// Takes in what was measured: what the servers' processes hold on GPUs.
    pub fn weigh(&self, sample: &Sample) {
        for server in &sample.servers {
            // Without a driver there is nothing to tell.
            if server.process.gpu_memory_bytes.is_none() {
                continue;
            }
            let Some(handle) = self.handle(server.model_id) else { continue };
            let command = Command::GpuMemory {
                run_id: server.run_id.clone(),
                bytes: server.process.gpu_memory_bytes,
            };
            // The next sample comes soon.
            let _ = handle.commands.try_send(command);
        }
    }

    /// What must stay open in the program that this process executes next, so that servers which
    /// are to end with the daemon do not end now.
    #[must_use]
    pub fn lifelines(&self) -> Vec<(RunId, OwnedFd)> {
        self.context.lifelines.copies()
    }

    /// The processes there are, for the metrics loop.
    #[must_use]
    pub fn running(&self) -> watch::Receiver<Vec<RunningServer>> {
        self.context.running.subscribe()
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
        if let Some(handle) = self.handle(model.id) {
            return Ok(handle.status.borrow().clone());
        }
        self.at_rest(model).await
    }

    /// The servers that have a task: all that run or were asked to since the daemon started.
    #[must_use]
    pub fn active(&self) -> Vec<Server> {
        let handles: Vec<Handle> = self.lock().values().cloned().collect();
        handles.iter().map(|handle| handle.status.borrow().clone()).collect()
    }

    /// A server's state, to wait on. The task is started if there is none.
    ///
    /// # Errors
    /// What the registry refuses.
    pub async fn watch(&self, model: &Model) -> Result<watch::Receiver<Server>, Failure> {
        Ok(self.handle_or_start(model).await?.status)
    }

    /// Wants a model's server to run.
    ///
    /// # Errors
    /// What keeps it from being started at all; nothing is changed then.
    pub async fn start_server(
        &self,
        model: &Model,
        overrides: Settings,
        by: Actor,
    ) -> Result<Answer, Failure> {
        self.ask(model, |reply| Command::Start { overrides, by, reply }).await
    }

    /// Wants a model's server not to run.
    ///
    /// # Errors
    /// What the registry refuses.
    pub async fn stop_server(&self, model: &Model, by: Actor) -> Result<Answer, Failure> {
        self.ask(model, |reply| Command::Stop { by, reply }).await
    }

    /// Wants a model's server to run anew, with the settings of now.
    ///
    /// # Errors
    /// As [`Supervisor::start_server`].
    pub async fn restart_server(
        &self,
        model: &Model,
        overrides: Settings,
        by: Actor,
    ) -> Result<Answer, Failure> {
        self.ask(model, |reply| Command::Restart { overrides, by, reply }).await
    }

    /// Tells a server's task that its model was changed.
    pub async fn model_changed(&self, model: &Model) {
        if let Some(handle) = self.handle(model.id) {
            let _ = handle.commands.send(Command::Model(Box::new(model.clone()))).await;
        }
    }

    /// Tells all servers' tasks of new defaults for all models.
    pub async fn defaults_changed(&self, defaults: &Settings) {
        let handles: Vec<Handle> = self.lock().values().cloned().collect();
        for handle in handles {
            let _ = handle.commands.send(Command::Defaults(defaults.clone())).await;
        }
    }

    /// Which settings a model's ready server reports to be in force; `None` without one.
    pub async fn reported(&self, model_id: i64) -> Option<ReportedSettings> {
        let state = self.handle(model_id)?.status.borrow().state;
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
        let handle = self.handle_or_start(model).await?;
        if stop {
            self.stop_server(model, by.clone()).await?;
            let mut status = handle.status.clone();
            let stopped = status.wait_for(|server| {
                server.is_to_run() || server.state.is_settled_down() || server.state == State::Stuck
            });
            if let Ok(server) = stopped.await
                && server.is_to_run()
            {
                return Err(Failure::new(
                    Kind::Superseded,
                    format!("{} was started again while it was being stopped", model.name),
                ));
            }
        }
        let runs = self.context.registry.runs_of(model.id, RUNS_OF_REMOVED).await?;
        let (reply, answer) = oneshot::channel();
        let gone = || Failure::from(StoreError::ModelNotFound(model.name.clone()));
        handle.commands.send(Command::Remove { by, reply }).await.map_err(|_| gone())?;
        let removed = answer.await.map_err(|_| gone())??;
        self.lock().remove(&model.id);
        self.context.changes.send_modify(|count| *count += 1);
        self.context.delete_logs(runs).await;
        Ok(removed)
    }

    /// The command line a start would use now.
    ///
    /// # Errors
    /// What keeps it from being started at all.
    pub async fn command_line(&self, model: &Model) -> Result<WireCommandLine, Failure> {
        Ok(self.context.plan(model, Settings::new()).await?.line.shown())
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

    /// Accepts no more starts. How many servers would have to be stopped.
    pub fn close(&self) -> usize {
        self.context.stopping.cancel();
        self.active().iter().filter(|server| !server.state.is_settled_down()).count()
    }

    /// Stops every server and leaves the wishes as they are. Bounded by the ladder of a stop.
    pub async fn stop_all(&self, by: &Actor) {
        self.close();
        let handles: Vec<Handle> = self.lock().values().cloned().collect();
        let stop_one = async |handle: Handle| {
            let (reply, begun) = oneshot::channel();
            let command = Command::Shutdown { by: by.clone(), reply };
            // A task that is gone has no process either. Begun first: before that, a start that is
            // under way may still look stopped.
            if handle.commands.send(command).await.is_ok() && begun.await.is_ok() {
                let mut status = handle.status;
                let _ = status.wait_for(|server| server.state.is_settled_down()).await;
            }
        };
        let all = futures_util::future::join_all(handles.into_iter().map(stop_one));
        let ladder = machine::LONGEST_DRAIN_AT_SHUTDOWN + machine::TERM * 2 + machine::KILL;
        if tokio::time::timeout(ladder + Duration::from_secs(1), all).await.is_err() {
            tracing::error!("some servers could not be stopped");
        }
    }

    /// Ends supervision. Servers that still run are left to the next daemon.
    pub async fn end(&self) {
        self.close();
        self.context.abandon.cancel();
        self.context.tasks.close();
        // A task may be inside a system call that hangs, on a dead network mount say.
        if tokio::time::timeout(Duration::from_secs(2), self.context.tasks.wait()).await.is_err() {
            tracing::error!("some servers' tasks did not end");
        }
    }

    async fn ask(
        &self,
        model: &Model,
        command: impl FnOnce(oneshot::Sender<Result<Answer, Failure>>) -> Command,
    ) -> Result<Answer, Failure> {
        let handle = self.handle_or_start(model).await?;
        let (reply, answer) = oneshot::channel();
        let gone = || match self.context.stopping.is_cancelled() {
            true => Failure::new(Kind::Stopping, "the daemon is stopping"),
            false => StoreError::ModelNotFound(model.name.clone()).into(),
        };
        handle.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn at_rest(&self, model: &Model) -> Result<Server, Failure> {
        let desired = self.context.registry.desired(model.id).await?.map(|wish| wish.desired);
        let last = self.context.registry.last_run(model.id).await?;
        Ok(status::at_rest(model, desired, last.as_ref()))
    }

    async fn handle_or_start(&self, model: &Model) -> Result<Handle, Failure> {
        if let Some(handle) = self.handle(model.id) {
            return Ok(handle);
        }
        // Read again: a task begins with the newest, and hears of every change from then on.
        let registry = &self.context.registry;
        let newest = registry.model_by_id(model.id).await?;
        let model = newest.ok_or_else(|| StoreError::ModelNotFound(model.name.clone()))?;
        let wish = registry.desired(model.id).await?;
        self.start_task(&model, wish, Beginning::AtRest, None).await
    }

    /// Starts a model's task, unless somebody else was faster.
    async fn start_task(
        &self,
        model: &Model,
        wish: Option<DesiredRecord>,
        beginning: Beginning,
        published: Option<watch::Sender<Server>>,
    ) -> Result<Handle, Failure> {
        let server = self.at_rest(model).await?;
        let defaults = self.context.registry.defaults().await?.settings;
        let mut servers = self.lock();
        let handle = servers.entry(model.id).or_insert_with(|| {
            let context = Arc::clone(&self.context);
            let (task, commands) = ServerTask::new(
                context,
                model.clone(),
                defaults,
                server,
                wish,
                &beginning,
                published,
            );
            let published = task.published();
            let (broken, model_id) = (self.context.broken.clone(), model.id);
            self.context.tasks.spawn(async move {
                if AssertUnwindSafe(task.run(beginning)).catch_unwind().await.is_err() {
                    tracing::error!(model_id, "a server's task broke; another takes its place");
                    let _ = broken.send(model_id);
                }
            });
            Handle { commands, status: published.subscribe(), published }
        });
        Ok(handle.clone())
    }

    fn handle(&self, model_id: i64) -> Option<Handle> {
        self.lock().get(&model_id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Handle>> {
        // Nothing panics while it is held; and if it did, the map is still whole.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
