//! The task that owns one server's life.
//!
//! ```text
//!   commands ─╮
//!   exit ─────┼─▶ machine::step ─▶ effects (spawn, signals, timer, records)
//!   seen ─────┤                 ╰▶ status, published by `watch`
//!   timer ────╯
//! ```
//!
//! Only this task makes or signals the process. A wish is stored before it is acted on; the state
//! is published before an effect is carried out, so that whoever was answered sees it.

use super::command_line;
use super::machine::{self, Effect, Event, Phase, RunId, Rung};
use super::observe::{Attention, Observation, Observers};
use super::process::{Output, Process, marker};
use super::status;
use super::{Context, Plan};
use crate::llama::{Client, Seen};
use crate::logs::classify::{self, Exit, Verdict, classify, classify_spawn_error};
use crate::logs::file::{RunLog, Stream};
use crate::logs::last_lines::tail_lines;
use crate::metrics::RunningServer;
use crate::store::{NewEvent, RunEnd, RunRecord, now_ms};
use llamactl_protocol::model::Model;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::{Cause, Server, State, Wanted, Wish};
use llamactl_protocol::{Failure, Kind};
use std::future::pending;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

/// Something a server's task is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Run, with these settings over the model's own.
    Start { overrides: Settings, by: String, reply: oneshot::Sender<Result<Answer, Failure>> },
    /// Stop.
    Stop { by: String, reply: oneshot::Sender<Result<Answer, Failure>> },
    /// Stop and run again, with these settings over the model's own.
    Restart { overrides: Settings, by: String, reply: oneshot::Sender<Result<Answer, Failure>> },
    /// The model was changed.
    Model(Box<Model>),
    /// The defaults for all models were changed.
    Defaults(Settings),
    /// Take the model out of the registry, if it has no process, and end.
    Remove { by: String, reply: oneshot::Sender<Result<Model, Failure>> },
    /// The daemon stops: stop the process, leave the wish as it is. Answered when the stop has
    /// begun.
    Shutdown { by: String, reply: oneshot::Sender<()> },
}

/// What came of a wish.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The run that carries it out.
    pub run_id: Option<RunId>,
    /// Whether anything is done because of it.
    pub changed: bool,
    /// Whether the wish is on disk.
    pub durable: bool,
    /// The server as it is now.
    pub server: Server,
}

/// A run that has a process, or is getting one.
struct Live {
    record: RunRecord,
    process: Process,
    observers: Observers,
    log: RunLog,
    started: Instant,
    /// An earlier daemon made it.
    was_adopted: bool,
    /// It became ready and that is not written yet.
    unrecorded: bool,
    /// Requests at work when it was last asked.
    busy: Option<u32>,
    /// Times in a row that it did not answer although it was ready.
    misses: u32,
    /// Who wanted it to end.
    stopped_by: Option<String>,
}

impl Live {
    fn new(
        record: RunRecord,
        process: Process,
        observers: Observers,
        log: RunLog,
        started: Instant,
    ) -> Live {
        Live {
            record,
            process,
            observers,
            log,
            started,
            was_adopted: false,
            unrecorded: false,
            busy: None,
            misses: 0,
            stopped_by: None,
        }
    }
}

/// A ready server that misses this many looks in a row, two seconds apart, is said not to answer.
const MISSES: u32 = 3;
const NOT_ANSWERING: &str = "not_answering";

/// The task's own state.
pub(super) struct ServerTask {
    context: Arc<Context>,
    model: Model,
    /// The settings for all models.
    defaults: Settings,
    /// What was asked for of a run that is not made yet, over the model's own settings.
    overrides: Option<(RunId, Settings)>,
    phase: Phase,
    /// What everybody sees, apart from what changes with the model.
    server: Server,
    live: Option<Live>,
    timer: Option<tokio::time::Instant>,
    /// Who asked for what is being done now.
    by: String,
    commands: mpsc::Receiver<Command>,
    published: watch::Sender<Server>,
    retired: bool,
}

impl ServerTask {
    /// Starts the task of a model's server. `adopted` is a process an earlier daemon left.
    pub(super) fn spawn(
        context: Arc<Context>,
        model: Model,
        defaults: Settings,
        mut server: Server,
        adopted: Option<(RunRecord, Process)>,
    ) -> (mpsc::Sender<Command>, watch::Receiver<Server>) {
        if adopted.is_some() {
            // Nobody may take it for stopped before the task has had its first turn.
            server.state = State::Adopting;
        }
        let (sender, commands) = mpsc::channel(16);
        let (published, status) = watch::channel(server.clone());
        let phase = match server.state {
            State::Failed => Phase::Failed,
            _ => Phase::Stopped,
        };
        let task = ServerTask {
            model,
            defaults,
            overrides: None,
            phase,
            server,
            live: None,
            timer: None,
            by: "boot".to_owned(),
            commands,
            published,
            retired: false,
            context: Arc::clone(&context),
        };
        context.tasks.spawn(task.run(adopted));
        (sender, status)
    }

    async fn run(mut self, adopted: Option<(RunRecord, Process)>) {
        if let Some((record, process)) = adopted {
            self.adopt(record, process).await;
        }
        let stop_watching = self.context.abandon.clone();
        while !self.retired {
            tokio::select! {
                () = stop_watching.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                sign = sign_of(self.live.as_mut()) => match sign {
                    Sign::Exited => self.ended().await,
                    Sign::Seen(seen) => self.observe(seen).await,
                },
                () = timeout(self.timer) => {
                    self.timer = None;
                    self.happen(Event::Timer).await;
                }
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Start { overrides, by, reply } => {
                let run = new_run_id();
                let answer = self.wish(Wish::Running, overrides, by, Event::Start(run)).await;
                self.answer(answer, reply).await;
            }
            Command::Restart { overrides, by, reply } => {
                let run = new_run_id();
                let answer = self.wish(Wish::Running, overrides, by, Event::Restart(run)).await;
                self.answer(answer, reply).await;
            }
            Command::Stop { by, reply } => {
                let answer = self.wish(Wish::Stopped, Settings::new(), by, Event::Stop).await;
                self.answer(answer, reply).await;
            }
            Command::Model(model) => {
                // Two changes at once may tell of themselves in the wrong order.
                if model.revision >= self.model.revision {
                    self.model = *model;
                    self.publish();
                }
            }
            Command::Defaults(defaults) => {
                self.defaults = defaults;
                self.publish();
            }
            Command::Remove { by, reply } => {
                let removed = match self.phase.run() {
                    Some(_) => Err(self.is_running()),
                    None => {
                        let removed = self.context.registry.remove_model(self.model.id, by).await;
                        removed.map_err(Failure::from)
                    }
                };
                self.retired = removed.is_ok();
                let _ = reply.send(removed);
            }
            Command::Shutdown { by, reply } => {
                self.by = by;
                self.happen(Event::Stop).await;
                let _ = reply.send(());
            }
        }
    }

    /// Whether the run that is there, or will be, has these settings over the model's own: a start
    /// that asks for none takes any.
    fn runs_with(&self, overrides: &Settings) -> bool {
        let waiting = self.overrides.as_ref().map(|(_, overrides)| overrides);
        let present = self.live.as_ref().map(|live| &live.record.overrides);
        overrides.is_empty() || waiting.or(present) == Some(overrides)
    }

    fn runs_otherwise(&self) -> Failure {
        let name = &self.model.name;
        Failure::new(Kind::ModelRunning, format!("{name} runs already, with other settings"))
            .hint(format!("llamactl restart {name} --set … starts it anew with these"))
    }

    fn is_running(&self) -> Failure {
        let state = self.phase.state().as_str();
        Failure::new(Kind::ModelRunning, format!("the server of {} is {state}", self.model.name))
            .hint(format!("stop it first: llamactl stop {}", self.model.name))
    }

    /// Stores a wish and takes the step it leads to; the effects are the caller's to carry out
    /// after it has answered.
    async fn wish(
        &mut self,
        wish: Wish,
        overrides: Settings,
        by: String,
        event: Event,
    ) -> Result<(Answer, Vec<Effect>), Failure> {
        let starts = matches!(event, Event::Start(_) | Event::Restart(_));
        if starts {
            if self.context.stopping.is_cancelled() {
                return Err(Failure::new(Kind::Stopping, "the daemon is stopping"));
            }
            // What cannot be started at all is refused before anything is written. A server that
            // runs already needs no plan.
            if self.phase.wanted_run().is_none() || matches!(event, Event::Restart(_)) {
                let plan = self.context.plan(&self.model, overrides.clone()).await?;
                self.context.key_of(plan.layers.effective()).await?;
            } else if !self.runs_with(&overrides) {
                return Err(self.runs_otherwise());
            }
        }
        let wanted = self.context.registry.put_wish(self.model.id, wish, by.clone()).await;
        let durable = wanted.is_ok();
        self.server.wanted = Some(match wanted {
            Ok(wanted) => wanted,
            // A stop goes on although it cannot be written: a full disk must not keep a server
            // running that somebody wants gone.
            Err(error) if wish == Wish::Stopped => {
                tracing::error!(model = self.model.name, %error, "a stop could not be written");
                Wanted { wish, by: by.clone(), at_ms: now_ms() }
            }
            Err(error) => return Err(error.into()),
        });
        if starts && self.context.stopping.is_cancelled() {
            return Err(Failure::new(Kind::Stopping, "the daemon is stopping"));
        }
        let before = self.phase.clone();
        let asked = match &event {
            Event::Start(run) | Event::Restart(run) => Some(run.clone()),
            _ => None,
        };
        let (after, effects) = machine::step(before.clone(), event);
        let changed = before != after;
        if changed {
            self.by = by;
        }
        if let Some(run) = asked.filter(|run| after.wanted_run() == Some(run)) {
            self.overrides = Some((run, overrides));
        }
        self.enter(after);
        self.publish();
        let run_id = match wish {
            Wish::Stopped => self.phase.run().cloned(),
            Wish::Running | Wish::OnDemand => self.phase.wanted_run().cloned(),
        };
        Ok((Answer { run_id, changed, durable, server: self.server.clone() }, effects))
    }

    async fn answer(
        &mut self,
        outcome: Result<(Answer, Vec<Effect>), Failure>,
        reply: oneshot::Sender<Result<Answer, Failure>>,
    ) {
        match outcome {
            Ok((answer, effects)) => {
                // The caller may have gone; what it wished for is stored and done all the same.
                let _ = reply.send(Ok(answer));
                self.carry_out(effects).await;
            }
            Err(failure) => {
                let _ = reply.send(Err(failure));
            }
        }
    }

    /// Takes a step and carries out its effects.
    async fn happen(&mut self, event: Event) {
        let (phase, effects) = machine::step(self.phase.clone(), event);
        self.enter(phase);
        if effects.contains(&Effect::BecameReady) {
            // Before anybody sees the state: who waits for it reads the times beside it, and finds
            // them again after the daemon was killed.
            self.mark_ready();
            self.record_ready().await;
        }
        self.publish();
        self.carry_out(effects).await;
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase.state() != phase.state() {
            self.server.since_ms = now_ms();
            tracing::info!(
                model = self.model.name,
                from = self.phase.state().as_str(),
                to = phase.state().as_str(),
                "server"
            );
        }
        if phase.rung().is_some() && self.phase.rung().is_none() {
            self.server.cause =
                Some(status::requested(status::REQUESTED, "being stopped", &self.by));
            if let Some(live) = &mut self.live {
                live.stopped_by = Some(self.by.clone());
            }
        }
        if let Phase::Starting { run, answers: false, .. } = &phase
            && self.phase.run() != Some(run)
        {
            status::begin_run(&mut self.server, run, self.model.revision);
        }
        if let Some(live) = &self.live {
            live.observers.attend(match &phase {
                Phase::Starting { .. } | Phase::Adopting { .. } => Attention::Starting,
                Phase::Ready { .. } => Attention::Ready,
                Phase::Stopping { rung: Rung::Draining, .. } => Attention::Draining,
                _ => Attention::Ending,
            });
        }
        if !matches!(
            (&self.phase, &phase),
            (Phase::Stopping { .. }, Phase::Stopping { .. })
                | (Phase::Starting { .. }, Phase::Starting { .. })
        ) {
            self.timer = None;
        }
        self.phase = phase;
        self.server.state = self.phase.state();
    }

    async fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Spawn(run) => self.spawn_run(run).await,
                Effect::Terminate => {
                    if let Some(live) = &self.live {
                        live.process.terminate();
                    }
                }
                Effect::Kill => {
                    if let Some(live) = &self.live {
                        live.process.kill();
                    }
                }
                Effect::Timer(after) => self.timer = Some(tokio::time::Instant::now() + after),
                // Done before the state was published.
                Effect::BecameReady => {}
            }
        }
    }

    /// Writes the run, then makes its process.
    async fn spawn_run(&mut self, run: RunId) {
        let made = match self.prepare(&run).await {
            Ok((plan, record)) => self.make(plan, record).await,
            Err(failure) => Err(status::cause_of_failure(&failure)),
        };
        match made {
            Ok(live) => {
                self.server.run = Some(status::run(&live.record));
                self.server.warnings = live_warnings(&live.record);
                self.live = Some(live);
                self.announce_running();
                self.publish();
            }
            Err(cause) => {
                tracing::warn!(model = self.model.name, cause = cause.message, "could not start");
                let message =
                    format!("{} could not be started: {}", self.model.name, cause.message);
                let event = self.event("server.failed", Some(&run), message, Some(&cause));
                let end = RunEnd { at_ms: cause.at_ms, cause: cause.clone() };
                self.keep(self.context.registry.put_end(run, end, event).await);
                self.finish_run(cause);
                let (phase, _) = machine::step(self.phase.clone(), Event::SpawnFailed);
                self.enter(phase);
                self.publish();
            }
        }
    }

    async fn prepare(&mut self, run: &RunId) -> Result<(Plan, RunRecord), Failure> {
        // The settings of now, not those of when the start was asked for.
        if let Some(model) = self.context.registry.model_by_id(self.model.id).await? {
            self.model = model;
        }
        let asked = self.overrides.take_if(|(asked, _)| asked == run);
        let overrides = asked.map(|(_, overrides)| overrides).unwrap_or_default();
        let plan = self.context.plan(&self.model, overrides).await?;
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
            wanted_by: self.by.clone(),
            started_at_ms: now_ms(),
            pid: None,
            start_ticks: None,
            boot_id: None,
            ready_at_ms: None,
            load_ms: None,
            ended_at_ms: None,
            cause: None,
        };
        let message = format!("{} is being started", self.model.name);
        let event = self.event("server.starting", Some(run), message, None);
        self.context.registry.add_run(record.clone(), event).await?;
        self.server.endpoint = Some(plan.endpoint.clone());
        Ok((plan, record))
    }

    async fn make(&self, plan: Plan, mut record: RunRecord) -> Result<Live, Cause> {
        let started = Instant::now();
        let log = self.context.log_of(&record.id).map_err(|error| spawn_failed(&error))?;
        self.context.clear_old_logs(self.model.id).await;
        plan.clear_way().await?;
        let key = self.context.key_of(plan.layers.effective()).await;
        let key = key.map_err(|failure| status::cause_of_failure(&failure))?;
        let output = Output::create(log.clone()).await?;
        let marker = marker(&self.context.registry.id(), &record.id);
        let process = Process::spawn(
            &plan.line,
            self.context.registry.secrets().clone(),
            marker,
            output,
            plan.runtime.found.reports_progress,
        )
        .await
        .map_err(|error| spawn_failed(&error))?;
        let id = process.id();
        record.pid = u32::try_from(id.pid).ok();
        record.start_ticks = Some(id.start_ticks);
        record.boot_id.clone_from(&self.context.boot_id);
        if let Some(pid) = record.pid {
            let put = self.context.registry.put_process(
                record.id.clone(),
                pid,
                record.start_ticks,
                record.boot_id.clone(),
            );
            self.keep(put.await);
        }
        let observers = Observers::start(
            &self.context.watcher,
            &log,
            Client::new(plan.target, key, record.pid),
            command_line::may_sleep(&record.argv),
            false,
        );
        Ok(Live::new(record, process, observers, log, started))
    }

    async fn adopt(&mut self, record: RunRecord, process: Process) {
        let Some(client) = self.context.client_of(&record).await else { return };
        let Ok(log) = self.context.log_of(&record.id) else { return };
        let may_sleep = command_line::may_sleep(&record.argv);
        let observers = Observers::start(&self.context.watcher, &log, client, may_sleep, true);
        self.server.run = Some(status::run(&record));
        self.server.endpoint = Some(record.endpoint.clone());
        self.server.warnings = live_warnings(&record);
        self.server.cause =
            Some(status::requested("adopted", "found running and taken over", &self.by));
        let run = record.id.clone();
        let live = Live::new(record, process, observers, log, Instant::now());
        self.live = Some(Live { was_adopted: true, ..live });
        self.announce_running();
        self.happen(Event::Adopt(run.clone())).await;
        let message = format!("{} was found running and taken over", self.model.name);
        let event = self.event("server.adopted", Some(&run), message, None);
        self.keep(self.context.registry.append_event(event).await);
        if self.server.wanted.as_ref().is_some_and(|wanted| wanted.wish == Wish::Stopped) {
            // The earlier daemon died between the wish and its fulfilment.
            self.happen(Event::Stop).await;
        }
    }

    async fn observe(&mut self, seen: Observation) {
        match seen {
            Observation::Health(seen) => {
                self.count_misses(seen);
                self.happen(Event::Health(seen)).await;
            }
            Observation::Announced => self.happen(Event::Announced).await,
            Observation::Busy(busy) => {
                if let Some(live) = &mut self.live {
                    live.busy = busy;
                }
                // A server that does not say is not waited for.
                if busy.is_none_or(|busy| busy == 0) {
                    self.happen(Event::Idle).await;
                }
            }
            Observation::Progress { stage, ratio } => {
                if matches!(self.phase, Phase::Starting { .. }) {
                    (self.server.stage, self.server.progress_ratio) = (stage, ratio);
                    self.publish();
                }
            }
            Observation::InForce(in_force) => {
                self.server.in_force = Some(in_force);
                self.publish();
            }
        }
    }

    /// Says so when a ready server has stopped answering. What to do about it is the person's
    /// decision for now.
    fn count_misses(&mut self, seen: Seen) {
        let Some(live) = &mut self.live else { return };
        let missed = matches!(self.phase, Phase::Ready { .. })
            && matches!(seen, Seen::Silent | Seen::Unreachable | Seen::Loading);
        live.misses = if missed { live.misses.saturating_add(1) } else { 0 };
        let silent = live.misses >= MISSES;
        self.server.warnings.retain(|warning| !warning.starts_with(NOT_ANSWERING));
        if silent {
            self.server.warnings.push(format!("{NOT_ANSWERING}: it does not answer /health"));
        }
    }

    /// Notes when the run was first ready. One that was taken over was ready long ago, and its
    /// record says when.
    fn mark_ready(&mut self) {
        (self.server.stage, self.server.progress_ratio) = (None, None);
        let Some(live) = &mut self.live else { return };
        if let Some(since_ms) = live.record.ready_at_ms {
            self.server.since_ms = since_ms;
            return;
        }
        let at_ms = now_ms();
        let elapsed_ms = u64::try_from(live.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // One that was taken over while it loaded began before this daemon did.
        let since_start_ms = u64::try_from(at_ms - live.record.started_at_ms).unwrap_or(0);
        live.record.ready_at_ms = Some(at_ms);
        live.record.load_ms = Some(if live.was_adopted { since_start_ms } else { elapsed_ms });
        live.unrecorded = true;
        self.server.run = Some(status::run(&live.record));
        self.server.cause = Some(status::requested("requested", "started as asked", &self.by));
    }

    async fn record_ready(&mut self) {
        let Some(live) = &mut self.live else { return };
        if !std::mem::take(&mut live.unrecorded) {
            return;
        }
        let (Some(at_ms), Some(load_ms)) = (live.record.ready_at_ms, live.record.load_ms) else {
            return;
        };
        let run = live.record.id.clone();
        let message = format!("{} is ready after {load_ms} ms", self.model.name);
        let event = self.event("server.ready", Some(&run), message, None);
        self.keep(self.context.registry.put_ready(run, at_ms, load_ms, event).await);
    }

    /// The process has ended: find out why, write it, go on.
    async fn ended(&mut self) {
        let Some(live) = self.live.take() else { return };
        let Live { record, process, observers, log, busy, stopped_by, .. } = live;
        drop(observers);
        let exit = process.reap().await;
        let rung = self.phase.rung();
        let context = classify::Context {
            asked_to_stop: rung.is_some(),
            oom_kill_counted: None,
            was_ready: record.ready_at_ms.is_some(),
        };
        let tail = last_output(&log).await;
        let verdict = classify(exit, &tail, context);
        let cause = match rung {
            Some(rung) => {
                let by = stopped_by.as_deref().unwrap_or(&self.by);
                status::stopped_cause(rung, busy, by, exit)
            }
            None => cause(verdict, exit),
        };
        let (kind, message) = match rung {
            Some(_) => ("server.stopped", format!("{}: {}", self.model.name, cause.message)),
            None => ("server.failed", format!("{} ended: {}", self.model.name, cause.message)),
        };
        let mut event = self.event(kind, Some(&record.id), message, Some(&cause));
        event.by = match rung {
            Some(_) => stopped_by.unwrap_or(event.by),
            None => "process".to_owned(),
        };
        let end = RunEnd { at_ms: cause.at_ms, cause: cause.clone() };
        self.keep(self.context.registry.put_end(record.id, end, event).await);
        self.finish_run(cause);
        self.context
            .running
            .send_modify(|all| all.retain(|server| server.model_id != self.model.id));
        self.happen(Event::Exited).await;
    }

    /// Clears what is only true of a process.
    fn finish_run(&mut self, cause: Cause) {
        if let Some(run) = &mut self.server.run {
            run.ended_at_ms = Some(cause.at_ms);
        }
        self.server.cause = Some(cause);
        self.server.in_force = None;
        self.server.stage = None;
        self.server.progress_ratio = None;
        self.server.warnings.clear();
    }

    /// Tells the metrics loop of the process.
    fn announce_running(&self) {
        let Some(live) = &self.live else { return };
        let id = live.process.id();
        let Ok(pid) = u32::try_from(id.pid) else { return };
        let server = RunningServer {
            model_id: self.model.id,
            model: self.model.name.clone(),
            run_id: live.record.id.clone(),
            state: self.server.state,
            pid,
            start_ticks: id.start_ticks,
            llama: live.observers.llama(),
        };
        self.context.running.send_modify(|all| {
            all.retain(|other| other.model_id != server.model_id);
            all.push(server);
        });
    }

    fn publish(&mut self) {
        status::of_model(
            &mut self.server,
            &self.model,
            &self.defaults,
            self.live.as_ref().map(|live| &live.record),
        );
        let changed = self.published.send_if_modified(|published| {
            let changed = *published != self.server;
            if changed {
                published.clone_from(&self.server);
            }
            changed
        });
        if changed {
            self.context.running.send_if_modified(|all| {
                let own = all.iter_mut().find(|server| server.model_id == self.model.id);
                own.is_some_and(|own| {
                    let news = own.state != self.server.state || own.model != self.model.name;
                    own.state = self.server.state;
                    own.model.clone_from(&self.model.name);
                    news
                })
            });
            self.context.changes.send_modify(|count| *count += 1);
        }
    }

    fn event(
        &self,
        kind: &'static str,
        run: Option<&RunId>,
        message: String,
        cause: Option<&Cause>,
    ) -> NewEvent {
        NewEvent {
            kind,
            model: Some((self.model.id, self.model.name.clone())),
            run_id: run.cloned(),
            by: self.by.clone(),
            message,
            details: cause.and_then(|cause| serde_json::to_value(cause).ok()),
        }
    }

    /// A record that could not be written must not keep the process from being looked after.
    fn keep<T>(&self, written: crate::store::Result<T>) {
        if let Err(error) = written {
            tracing::error!(model = self.model.name, %error, "could not write to the registry");
        }
    }
}

fn new_run_id() -> RunId {
    Uuid::now_v7().to_string()
}

/// Something that came from the process.
enum Sign {
    Exited,
    Seen(Observation),
}

async fn sign_of(live: Option<&mut Live>) -> Sign {
    let Some(live) = live else { return pending().await };
    tokio::select! {
        // An end is an end: what was seen before it no longer matters.
        biased;
        () = live.process.exited() => Sign::Exited,
        seen = live.observers.seen.recv() => match seen {
            Some(seen) => Sign::Seen(seen),
            None => pending().await,
        },
    }
}

async fn timeout(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

/// How much of a run's output is read to find out why it ended.
const TAIL_LINES: usize = 200;
const TAIL_BYTES: u64 = 256 << 10;

async fn last_output(log: &RunLog) -> Vec<String> {
    let log = log.clone();
    let read = move || {
        let stdout = tail_lines(&log.path(Stream::Stdout), TAIL_LINES / 4, TAIL_BYTES);
        let stderr = tail_lines(&log.path(Stream::Stderr), TAIL_LINES, TAIL_BYTES);
        let mut lines = stdout.unwrap_or_default();
        lines.extend(stderr.unwrap_or_default());
        lines
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

fn live_warnings(record: &RunRecord) -> Vec<String> {
    if record.endpoint.url.is_some()
        && !command_line::asks_for_key(&record.argv, &record.environment)
    {
        vec!["no_api_key: every program on this machine can use it".to_owned()]
    } else {
        vec![]
    }
}

fn spawn_failed(error: &std::io::Error) -> Cause {
    cause(classify_spawn_error(error.raw_os_error()), Exit::Unknown)
}

fn cause(verdict: Verdict, exit: Exit) -> Cause {
    let (exit_code, signal) = status::exit_parts(exit);
    Cause {
        code: verdict.code.to_owned(),
        message: verdict.message,
        hint: verdict.hint,
        evidence: verdict.evidence,
        exit_code,
        signal,
        at_ms: now_ms(),
    }
}
