//! The hands of a server's task: each action of the driver, carried out.

use super::super::Context;
use super::super::core::driver::{
    self, Action, Attention, Event, EventDraft, Moment, Record, RequestId, State, snapshot,
};
use super::super::core::execute::Hands;
use super::super::core::machine::RunId;
use super::super::observe::{Manners, Observers};
use super::super::plan::{Kept, NotMade, Plan};
use super::super::process::{Output, Process, marker, not_made};
use super::Reply;
use crate::clock::now_ms;
use crate::failpoint;
use crate::llama::{ApiKey, Client};
use crate::logs::file::RunLog;
use crate::metrics::RunningServer;
use crate::os::cgroup::OomWatch;
use crate::os::{proc, process};
use crate::store::registry::{
    MemoryMoment, ModelLayers, NewEvent, RunEnd, RunFile, RunMemory, RunRecord, StoreError,
};
use llamactl_protocol::model::Model;
use llamactl_protocol::server::Server;
use llamactl_protocol::{Failure, Kind, WirePath};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

/// What came of a start, a stop or a restart.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The run that carries it out.
    pub run_id: Option<RunId>,
    /// Whether anything is done because of it.
    pub changed: bool,
    /// Whether what is desired is on disk.
    pub durable: bool,
    /// The server as it is now.
    pub server: Server,
}

/// How long a stop waits for its record, and an end for its own.
const LONGEST_WRITE: Duration = Duration::from_secs(2);

/// Who waits for an answer.
#[derive(Debug)]
pub(super) enum Replies {
    Accepted(Reply<Accepted>),
    Removed(Reply<Arc<Model>>),
    Begun(oneshot::Sender<()>),
}

/// A process that is there, and those who watch it.
pub(super) struct Live {
    pub(super) process: Process,
    pub(super) observers: Observers,
    oom: OomWatch,
    run: RunId,
}

/// What the process of a run needs.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) run: RunId,
    pub(super) plan: Arc<Plan>,
    pub(super) key: Option<ApiKey>,
    pub(super) files: Vec<RunFile>,
    pub(super) log: RunLog,
    pub(super) output: Output,
}

pub(super) struct TaskHands {
    pub(super) context: Arc<Context>,
    model_id: i64,
    pub(super) live: Option<Live>,
    /// A process of an earlier daemon that was found, with its record.
    pub(super) found: Option<(Process, RunRecord)>,
    /// The plan of the last start.
    kept: Arc<Kept>,
    /// What the run that is to be made needs.
    ready: Option<Ready>,
    pub(super) timer: Option<tokio::time::Instant>,
    pub(super) retired: bool,
    replies: HashMap<RequestId, Replies>,
    next_request: RequestId,
    published: watch::Sender<Server>,
    jobs: mpsc::UnboundedSender<Done>,
}

/// The result of a job.
pub(super) struct Done {
    pub(super) event: Event,
    /// What a run needs, where that was the job.
    pub(super) ready: Option<Ready>,
}

impl TaskHands {
    pub(super) fn new(
        context: Arc<Context>,
        model_id: i64,
        published: watch::Sender<Server>,
        kept: Arc<Kept>,
        jobs: mpsc::UnboundedSender<Done>,
    ) -> TaskHands {
        TaskHands {
            context,
            model_id,
            live: None,
            found: None,
            kept,
            ready: None,
            timer: None,
            retired: false,
            replies: HashMap::new(),
            next_request: 0,
            published,
            jobs,
        }
    }

    /// Keeps who waits for an answer.
    pub(super) fn expect(&mut self, reply: Replies) -> RequestId {
        self.next_request += 1;
        self.replies.insert(self.next_request, reply);
        self.next_request
    }

    /// What a job made ready; what an earlier one did is not needed any more.
    pub(super) fn take_ready(&mut self, ready: Option<Ready>) {
        if let Some(Ready { log, .. }) = std::mem::replace(&mut self.ready, ready) {
            // Its run was overtaken before it was written.
            self.context.tasks.spawn_blocking(move || log.remove());
        }
    }

    fn answer(&mut self, state: &State, request: RequestId, reply: driver::Reply) {
        let Some(waits) = self.replies.remove(&request) else { return };
        // The caller may have gone; what it asked for is done all the same.
        match (waits, reply) {
            (Replies::Accepted(waits), driver::Reply::Accepted { run_id, changed, durable }) => {
                let server = snapshot(state);
                let _ = waits.send(Ok(Accepted { run_id, changed, durable, server }));
            }
            (Replies::Accepted(waits), driver::Reply::Refused(failure)) => {
                let _ = waits.send(Err(failure));
            }
            (Replies::Removed(waits), driver::Reply::Removed) => {
                let _ = waits.send(Ok(Arc::clone(&state.model)));
            }
            (Replies::Removed(waits), driver::Reply::Refused(failure)) => {
                let _ = waits.send(Err(failure));
            }
            (Replies::Begun(waits), _) => {
                let _ = waits.send(());
            }
            // The driver answers what it was asked; what is dropped is told to be an error.
            (Replies::Accepted(_) | Replies::Removed(_), _) => {}
        }
    }

    fn show(&mut self, state: &State) {
        let server = snapshot(state);
        self.announce_running(&server);
        let is_at_work = !server.state.is_settled_down();
        self.context.starts.show(self.model_id, &server.model, is_at_work);
        let changed = self.published.send_if_modified(|published| {
            let changed = *published != server;
            if published.state != server.state {
                let (from, to) = (published.state.as_str(), server.state.as_str());
                tracing::info!(model = server.model, from, to, "server");
            }
            if changed {
                *published = server;
            }
            changed
        });
        if changed {
            self.context.changes.send_modify(|count| *count += 1);
        }
    }

    /// Tells the metrics loop of the process.
    fn announce_running(&self, server: &Server) {
        let running = self.live.as_ref().and_then(|live| {
            let id = live.process.id();
            Some(RunningServer {
                model_id: self.model_id,
                model: server.model.clone(),
                run_id: live.run.clone(),
                state: server.state,
                pid: u32::try_from(id.pid).ok()?,
                start_ticks: id.start_ticks,
                llama: live.observers.llama(),
                activity: live.observers.activity(),
            })
        });
        self.context.running.send_if_modified(|all| {
            let known = all.iter().find(|other| other.model_id == self.model_id);
            let is_news = match (known, &running) {
                (Some(known), Some(now)) => {
                    (known.pid, known.state, &known.model) != (now.pid, now.state, &now.model)
                }
                (None, None) => false,
                _ => true,
            };
            if is_news {
                all.retain(|other| other.model_id != self.model_id);
                all.extend(running);
            }
            is_news
        });
    }

    /// Writes a record. What is carried out whether it is written or not waits only so long: it is
    /// written when it can be.
    async fn write(&mut self, state: &State, record: &Record) -> Result<(), Failure> {
        if !driver::goes_on_unwritten(record) {
            return self.write_it(state, record).await;
        }
        let written = tokio::time::timeout(LONGEST_WRITE, self.write_it(state, record)).await;
        written.unwrap_or_else(|_| {
            tracing::error!(model = state.model.name, ?record, "was not written in time");
            Err(Failure::new(Kind::StoreFailed, "it was not written in time"))
        })
    }

    async fn write_it(&mut self, state: &State, record: &Record) -> Result<(), Failure> {
        let registry = &self.context.registry;
        let event = |draft: &EventDraft| NewEvent {
            at_ms: now_ms(),
            kind: draft.kind.clone(),
            model: Some((state.model.id, state.model.name.clone())),
            run_id: draft.run.clone(),
            by: draft.by.clone(),
            message: draft.message.clone(),
            details: Some(draft.details.clone()),
        };
        let written = match record {
            Record::Desired { desired, restart_requested, overrides } => {
                let overrides = (**overrides).clone();
                let put = registry.put_desired(
                    self.model_id,
                    desired.clone(),
                    *restart_requested,
                    overrides,
                );
                put.await
            }
            Record::Refusal { cause, event: draft } => {
                registry.put_refusal(self.model_id, (**cause).clone(), event(draft)).await
            }
            Record::Run { run, demand, by, started_at_ms, failures, restarts, event: draft } => {
                let Some(ready) = self.ready.as_ref().filter(|ready| ready.run == *run) else {
                    return Err(Failure::new(Kind::Internal, "there is nothing to be started"));
                };
                let plan = &ready.plan;
                let record = RunRecord {
                    id: run.clone(),
                    model_id: self.model_id,
                    model: state.model.name.clone(),
                    revision: plan.revision,
                    settings: plan.layers.standing(),
                    overrides: plan.layers.run.clone(),
                    runtime_id: plan.runtime.id,
                    argv: plan.line.argv.clone(),
                    environment: plan.line.environment.clone(),
                    endpoint: plan.endpoint.clone(),
                    started_by: by.clone(),
                    demand: Some(*demand),
                    started_at_ms: *started_at_ms,
                    pid: None,
                    start_ticks: None,
                    boot_id: None,
                    ready_at_ms: None,
                    load_ms: None,
                    ended_at_ms: None,
                    cause: None,
                    failures: *failures,
                    restarts: *restarts,
                    restart_at_ms: None,
                    executable: None,
                    files: ready.files.clone(),
                };
                registry.add_run(record, event(draft)).await
            }
            Record::Process(run) => {
                let Some(live) = &self.live else { return Ok(()) };
                let id = live.process.id();
                let Ok(pid) = u32::try_from(id.pid) else { return Ok(()) };
                let boot_id = self.context.boot_id.clone();
                registry.put_process(run.clone(), pid, Some(id.start_ticks), boot_id).await
            }
            Record::Ready { run, at_ms, load_ms, event: draft } => {
                let pid = self.live.as_ref().map(|live| live.process.id().pid);
                let executable = pid.and_then(process::executable).map(WirePath);
                registry.put_ready(run.clone(), *at_ms, *load_ms, executable, event(draft)).await
            }
            Record::End { run, cause, failures, restarts, restart_at_ms, event: draft } => {
                let end = RunEnd {
                    at_ms: cause.at_ms,
                    cause: (**cause).clone(),
                    failures: *failures,
                    restarts: *restarts,
                    restart_at_ms: *restart_at_ms,
                };
                registry.put_end(run.clone(), end, event(draft)).await
            }
            Record::Event(draft) => registry.append_event(event(draft)).await.map(drop),
            Record::Removal { by } => {
                registry.remove_model(self.model_id, by.clone()).await.map(drop)
            }
        };
        written.map_err(|error: StoreError| {
            tracing::error!(model = state.model.name, %error, ?record, "could not be written");
            error.into()
        })
    }

    async fn spawn(&mut self, run: &RunId, model: &str, is_restart: bool) -> Event {
        let Some(Ready { run: id, plan, key, log, output, .. }) = self.ready.take() else {
            let failure = Failure::new(Kind::Internal, "there is nothing to be started");
            let cause = driver::cause_of(&failure, now_ms());
            let curable = driver::curable(&failure);
            return Event::NotSpawned { run: run.clone(), cause, curable };
        };
        let context = &self.context;
        let spawned = Process::spawn(
            &plan.line,
            context.registry.secrets().clone(),
            marker(&context.registry.id(), &id),
            output,
            plan.runtime.reports_progress,
            context.lifelines.for_run(&id),
        )
        .await;
        let process = match spawned {
            Ok(process) => process,
            Err(error) => {
                let not_made = not_made(&error);
                let (cause, curable) = (*not_made.cause, not_made.curable);
                return Event::NotSpawned { run: id, cause, curable };
            }
        };
        self.context.starts.made(self.model_id, model, is_restart);
        failpoint::hit("spawned");
        let pid = u32::try_from(process.id().pid).ok();
        let client = Client::new(plan.target.clone(), key, pid);
        let manners = Manners::of(&plan.line.argv);
        self.watch(process, id.clone(), &log, client, manners, false);
        let (context, model_id) = (Arc::clone(&self.context), self.model_id);
        self.context.tasks.spawn(async move { context.clear_old_logs(model_id).await });
        Event::Spawned { run: id, pid }
    }

    /// Watches the process of an earlier daemon.
    async fn attach(&mut self) -> Result<(), Failure> {
        let Some((process, record)) = self.found.take() else {
            return Err(Failure::new(Kind::Internal, "there is no process to be taken over"));
        };
        let pid = u32::try_from(process.id().pid).ok();
        let record = RunRecord { pid, ..record };
        let (client, log) =
            (self.context.client_of(&record).await, self.context.log_of(&record.id));
        let damaged = Failure::new(Kind::StoreFailed, "its record is damaged");
        let manners = Manners::of(&record.argv);
        let (Some(client), Ok(log)) = (client, log) else {
            tracing::error!(run = record.id, "a server is not taken over: {damaged}");
            // It can still be ended.
            let observers = Observers::none();
            let oom = OomWatch::of(process.id().pid);
            self.live = Some(Live { process, observers, oom, run: record.id });
            return Err(damaged);
        };
        self.watch(process, record.id, &log, client, manners, true);
        Ok(())
    }

    fn watch(
        &mut self,
        process: Process,
        run: RunId,
        log: &RunLog,
        client: Client,
        manners: Manners,
        from_now: bool,
    ) {
        let pid = process.id().pid;
        let watcher = &self.context.watcher;
        let observers = Observers::start(watcher, log, client, pid, manners, from_now);
        self.live = Some(Live { process, observers, oom: OomWatch::of(pid), run });
    }

    /// Writes what the process takes of memory, beside everything else.
    fn measure(&self, state: &State, moment: Moment) {
        let (Some(live), Some(run)) = (&self.live, &state.run) else { return };
        let (pid, id) = (live.process.id().pid, run.id.clone());
        let (gpu_bytes, others) = (run.gpu_memory_bytes, live.observers.activity().others());
        let moment = match moment {
            Moment::Ready => MemoryMoment::Ready,
            Moment::Answered => MemoryMoment::FirstAnswer,
            Moment::Ended => MemoryMoment::Exit,
        };
        let registry = self.context.registry.clone();
        self.context.tasks.spawn(async move {
            let Some(status) = proc::read(pid, "status") else { return };
            let others =
                others.into_iter().filter_map(|pid| proc::read(pid.cast_signed(), "status"));
            let own = proc::Memory::parse(&status);
            let memory = others.map(|status| proc::Memory::parse(&status)).fold(own, |a, b| a + b);
            let memory = RunMemory {
                anonymous_bytes: memory.anonymous_bytes,
                file_bytes: memory.file_bytes,
                peak_resident_bytes: memory.peak_resident_bytes,
                gpu_bytes: gpu_bytes.map(|bytes| ("all".to_owned(), bytes)).into_iter().collect(),
            };
            if let Err(error) = registry.put_memory(id, moment, memory).await {
                tracing::debug!(%error, "what a server takes of memory could not be written");
            }
        });
    }

    fn run_job(&self, job: impl Future<Output = Done> + Send + 'static) {
        let jobs = self.jobs.clone();
        self.context.tasks.spawn(async move {
            // The task may have been replaced.
            let _ = jobs.send(job.await);
        });
    }
}

impl Hands for TaskHands {
    fn context(&mut self, state: &State, event: &Event) -> driver::Context {
        let asks_system = matches!(event, Event::Timer);
        let pid = state.run.as_ref().filter(|_| asks_system).and_then(|run| run.pid);
        driver::Context {
            at: self.context.now(),
            now_ms: now_ms(),
            jitter: jitter(),
            next_run: Uuid::now_v7().to_string(),
            process_state: pid.and_then(|pid| process::state(pid.cast_signed())),
        }
    }

    async fn perform(&mut self, state: &State, action: &Action) -> Result<Option<Event>, Failure> {
        match action {
            Action::Write(record) => self.write(state, record).await?,
            Action::Answer(request, reply) => self.answer(state, *request, reply.clone()),
            Action::Show => self.show(state),
            Action::Ask(message) => self.context.arbiter.tell(message.clone()).await,
            Action::Prepare(run) => {
                let (context, run) = (Arc::clone(&self.context), run.clone());
                let (model_id, kept) = (self.model_id, Arc::clone(&self.kept));
                let overrides = (*state.overrides).clone();
                self.run_job(async move {
                    match context.prepare(model_id, &run, overrides, &kept).await {
                        Ok((prepared, ready)) => {
                            let event = Event::Prepared(Box::new(prepared));
                            Done { event, ready: Some(ready) }
                        }
                        Err(NotMade { cause, curable }) => {
                            let event = Event::NotPrepared { run, cause: *cause, curable };
                            Done { event, ready: None }
                        }
                    }
                });
            }
            Action::Spawn(run) => {
                let is_restart = state.life.streak.restarts > 0;
                return Ok(Some(self.spawn(run, &state.model.name, is_restart).await));
            }
            Action::Attach(_) => self.attach().await?,
            Action::Terminate => {
                if let Some(live) = &self.live {
                    live.process.terminate();
                }
            }
            Action::Kill => {
                if let Some(live) = &self.live {
                    live.process.kill();
                }
            }
            Action::Observe(attention) => self.attend(*attention),
            Action::Measure(moment) => self.measure(state, *moment),
            Action::Explain(run) => {
                // Those who watch it are done; what they saw last does not matter any more.
                let process = self.live.take().map(|live| (live.process, live.oom));
                let pid = state.run.as_ref().and_then(|facts| facts.pid);
                let (context, run) = (Arc::clone(&self.context), run.clone());
                let (endpoint, model_id) = (state.endpoint.clone(), self.model_id);
                self.run_job(async move {
                    let now = context.registry.layers_by_id(model_id);
                    let explained = context.explain(&run, process, pid, endpoint);
                    let (mut explanation, now) = tokio::join!(explained, now);
                    explanation.now =
                        now.ok().flatten().map(|ModelLayers { record, defaults, .. }| {
                            (Arc::new(record.model), Arc::new(defaults.settings))
                        });
                    Done { event: Event::Explained { run, explanation }, ready: None }
                });
            }
            Action::Timer(after) => {
                self.timer = after.map(|after| tokio::time::Instant::now() + after);
            }
            Action::Retire => self.retired = true,
        }
        Ok(None)
    }
}

impl TaskHands {
    fn attend(&self, attention: Attention) {
        if let Some(live) = &self.live {
            live.observers.attend(attention);
        }
    }
}

/// Random, 0 to 1.
fn jitter() -> f64 {
    let (high, _) = Uuid::new_v4().as_u64_pair();
    #[allow(clippy::cast_precision_loss)] // It is only to be spread.
    let jitter = high as f64 / u64::MAX as f64;
    jitter
}
