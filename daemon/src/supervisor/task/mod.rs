//! The task that owns one server's life.
//!
//! ```text
//!   commands ─╮
//!   exit ─────┤
//!   seen ─────┼─▶ machine::step ─▶ effects (queue, spawn, signals, timer, records)
//!   timer ────┤                 ╰▶ status, published by `watch`
//!   places ───╯
//! ```
//!
//! Only this task makes or signals the process. A wish is stored before it is acted on; the state
//! is published before an effect is carried out, so that whoever was answered sees it.
//!
//! * `wishes.rs`: what it is asked to do, and the answers.
//! * `making.rs`: from a run that was decided to its process; taking one over.
//! * `watching.rs`: what is seen of the process.
//! * `ending.rs`: the end of a process, and why.
//! * `journal.rs`: the events it writes.

mod ending;
mod journal;
mod making;
mod watching;
mod wishes;

pub use wishes::Answer;
pub(super) use wishes::Command;

use super::Context;
use super::hang::HangWatch;
use super::limits::Limits;
use super::machine::{self, Effect, Event, Life, Moment, Phase, RunId};
use super::observe::{Attention, Observation, Observers};
use super::process::Process;
use super::restart::Streak;
use super::status;
use crate::clock::now_ms;
use crate::logs::file::RunLog;
use crate::metrics::RunningServer;
use crate::os::cgroup::OomWatch;
use crate::store::registry::{DesiredRecord, RunRecord};
use llamactl_protocol::Actor;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{Settings, layers};
use llamactl_protocol::server::{Queue, QueueReason, Server, State};
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

/// A run that has a process.
pub(super) struct Live {
    record: RunRecord,
    process: Process,
    observers: Observers,
    log: RunLog,
    started: Instant,
    oom: OomWatch,
    hang: HangWatch,
    /// An earlier daemon made it.
    was_adopted: bool,
    /// It became ready and that is not written yet.
    unrecorded: bool,
    /// Requests at work when it was last asked.
    busy: Option<u32>,
    /// Who wanted it to end.
    stopped_by: Option<Actor>,
    /// Why it was ended, where nobody wanted that.
    fault: Option<Cause>,
    /// Whether the build has devices to offload to.
    build_has_devices: Option<bool>,
    /// What the driver says it holds on GPUs.
    gpu_memory_bytes: Option<u64>,
}

impl Live {
    /// A run whose process was made, or found, just now.
    fn new(
        record: RunRecord,
        process: Process,
        observers: Observers,
        log: RunLog,
        build_has_devices: Option<bool>,
    ) -> Live {
        Live {
            oom: OomWatch::of(process.id().pid),
            started: Instant::now(),
            hang: HangWatch::default(),
            was_adopted: false,
            unrecorded: false,
            busy: None,
            stopped_by: None,
            fault: None,
            gpu_memory_bytes: None,
            record,
            process,
            observers,
            log,
            build_has_devices,
        }
    }
}

/// An event, and where it is the end of a run what is to be written of that.
struct Happening {
    event: Event,
    end: Option<ending::End>,
}

impl From<Event> for Happening {
    fn from(event: Event) -> Self {
        Happening { event, end: None }
    }
}

/// How a task begins.
pub(super) enum Beginning {
    /// Without a process.
    AtRest,
    /// With a process that an earlier daemon made.
    Adopt {
        /// Its run.
        run: Box<RunRecord>,
        /// It.
        process: Process,
        /// A restart that was accepted and not begun.
        renew: bool,
    },
    /// Its process died while nobody watched.
    Died(Box<RunRecord>),
    /// An earlier daemon had decided to start it again.
    Resume {
        /// The run that ended.
        last: Box<RunRecord>,
        /// How much longer to wait.
        after: Duration,
    },
}

/// The task's own state.
pub(super) struct ServerTask {
    context: Arc<Context>,
    model: Model,
    /// The settings for all models.
    defaults: Settings,
    /// What was set for the runs of the present wish alone.
    overrides: Settings,
    life: Life,
    /// What everybody sees, apart from what changes with the model.
    server: Server,
    live: Option<Live>,
    timer: Option<tokio::time::Instant>,
    /// Who asked for what is being done now.
    by: Actor,
    commands: mpsc::Receiver<Command>,
    published: watch::Sender<Server>,
    places: watch::Receiver<u64>,
    retired: bool,
}

impl ServerTask {
    /// Prepares the task of a model's server; the sender publishes what becomes of it.
    pub(super) fn new(
        context: Arc<Context>,
        model: Model,
        defaults: Settings,
        mut server: Server,
        wish: Option<DesiredRecord>,
        beginning: &Beginning,
        published: Option<watch::Sender<Server>>,
    ) -> (ServerTask, mpsc::Sender<Command>) {
        // Nobody may take it for stopped before the task has had its first turn.
        match beginning {
            Beginning::Adopt { .. } | Beginning::Died(_) => server.state = State::Adopting,
            Beginning::Resume { .. } => server.state = State::Backoff,
            Beginning::AtRest => {}
        }
        let (sender, commands) = mpsc::channel(16);
        let published = published.unwrap_or_else(|| watch::Sender::new(server.clone()));
        published.send_replace(server.clone());
        let phase = match server.state {
            State::Failed => Phase::Failed,
            _ => Phase::Stopped,
        };
        let desired = wish.as_ref().map(|wish| wish.desired.state);
        let task = ServerTask {
            model,
            defaults,
            overrides: wish.map(|wish| wish.overrides).unwrap_or_default(),
            life: Life { phase, desired, ..Life::default() },
            server,
            live: None,
            timer: None,
            by: Actor::Boot,
            commands,
            published,
            places: context.places.subscribe(),
            retired: false,
            context,
        };
        (task, sender)
    }

    /// What everybody may watch.
    pub(super) fn published(&self) -> watch::Sender<Server> {
        self.published.clone()
    }

    /// Lives.
    pub(super) async fn run(mut self, beginning: Beginning) {
        self.begin(beginning).await;
        let stop_watching = self.context.abandon.clone();
        while !self.retired {
            let waits = matches!(self.life.phase, Phase::Queued { .. });
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
                    self.time_out().await;
                }
                changed = self.places.changed(), if waits => {
                    if changed.is_ok() {
                        self.look_for_place().await;
                    }
                }
            }
        }
    }

    async fn begin(&mut self, beginning: Beginning) {
        match beginning {
            Beginning::AtRest => {}
            Beginning::Adopt { run, process, renew } => self.adopt(*run, process, renew).await,
            Beginning::Died(run) => self.died_unwatched(*run).await,
            Beginning::Resume { last, after } => {
                self.context.admission().take(self.model.id, &self.model.name);
                self.restore_streak(&last);
                self.by = Actor::Policy;
                self.server.restart_at_ms = last.restart_at_ms;
                self.happen(Event::Resume { run: new_run_id(), after }.into()).await;
            }
        }
    }

    /// The failures in a row, as the last daemon counted them.
    fn restore_streak(&mut self, run: &RunRecord) {
        let healthy_ms = run.ready_at_ms.map(|ready| now_ms().saturating_sub(ready));
        let healthy = healthy_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        self.life.streak = Streak {
            failures: run.failures,
            restarts: run.restarts,
            ready_at: healthy.map(|healthy| self.context.now().saturating_sub(healthy)),
        };
        self.server.restarts = run.restarts;
    }

    async fn time_out(&mut self) {
        // Before the step: what it was doing is the evidence.
        if self.life.phase.loads()
            && let Phase::Starting { healthy: false, .. } = self.life.phase
        {
            self.note_stall().await;
        }
        self.happen(Event::Timer.into()).await;
    }

    async fn look_for_place(&mut self) {
        let enters = self.context.admission().enter(self.model.id);
        if enters {
            self.happen(Event::Admitted.into()).await;
        } else {
            self.show_position();
            self.publish();
        }
    }

    fn show_position(&mut self) {
        let position = self.context.admission().position(self.model.id);
        self.server.queue = position.map(|position| Queue { reason: QueueReason::Loads, position });
    }

    /// Takes a step and carries out its effects, with what follows from them.
    async fn happen(&mut self, happening: Happening) {
        let mut next = Some(happening);
        while let Some(Happening { event, end }) = next.take() {
            let before = self.life.phase.clone();
            let (life, effects) = machine::step(self.life.clone(), event, &self.step_context());
            if let Some(end) = end {
                // The end and what was decided about it are written together, before anything is
                // done.
                self.record_end(end, &before, &life, &effects).await;
            }
            let (life, effects) = self.admit(life, effects);
            self.enter(life);
            if effects.contains(&Effect::BecameReady) {
                // Before anybody sees the state: who waits for it reads the times beside it, and
                // finds them again after the daemon was killed.
                self.mark_ready();
                self.record_ready().await;
            }
            self.publish();
            next = self.carry_out(effects).await;
            self.tell_of_change(&before).await;
        }
    }

    /// Takes a step and enters where it leads; the effects are still to be carried out.
    fn step(&mut self, event: Event) -> Vec<Effect> {
        let (life, effects) = machine::step(self.life.clone(), event, &self.step_context());
        let (life, effects) = self.admit(life, effects);
        self.enter(life);
        effects
    }

    /// Gets in line where a step says so, and goes in at once where there is a place: nobody need
    /// see it wait.
    fn admit(&self, life: Life, effects: Vec<Effect>) -> (Life, Vec<Effect>) {
        if !effects.contains(&Effect::Queue) {
            return (life, effects);
        }
        let mut admission = self.context.admission();
        // The load that ended has a place no more.
        admission.loaded(self.model.id);
        admission.take(self.model.id, &self.model.name);
        admission.queue(self.model.id);
        if admission.enter(self.model.id) {
            machine::step(life, Event::Admitted, &self.step_context())
        } else {
            (life, effects)
        }
    }

    fn step_context(&self) -> machine::Context {
        machine::Context { at: self.context.now(), dice: dice(), limits: self.limits() }
    }

    fn limits(&self) -> Limits {
        Limits::of(&self.effective())
    }

    /// The settings that hold for the present wish.
    fn effective(&self) -> Settings {
        let standing = layers::effective(&self.defaults, &self.model.settings);
        layers::over(&standing, &self.overrides)
    }

    fn enter(&mut self, life: Life) {
        let before = std::mem::replace(&mut self.life, life);
        let (before, after) = (before.phase, self.life.phase.clone());
        if before.state() != after.state() {
            self.server.since_ms = now_ms();
            tracing::info!(
                model = self.model.name,
                from = before.state().as_str(),
                to = after.state().as_str(),
                "server"
            );
        }
        if after.rung().is_some() && before.rung().is_none() && after.fault().is_none() {
            self.server.cause = Some(status::cause(CauseCode::Requested, "being stopped"));
            if let Some(live) = &mut self.live {
                live.stopped_by = Some(self.by.clone());
            }
        }
        if !matches!(after, Phase::Backoff { .. }) {
            self.server.restart_at_ms = None;
        }
        if !matches!(after, Phase::Queued { .. }) {
            self.server.queue = None;
        }
        if after.wanted_run() != before.wanted_run()
            && let Phase::Queued { run } | Phase::Starting { run, .. } = &after
        {
            // Why the last one ended still explains a restart by policy.
            let cause = self.server.cause.take().filter(|_| self.life.streak.restarts > 0);
            status::begin_run(&mut self.server, run, self.model.revision);
            self.server.cause = cause;
        }
        self.server.restarts = self.life.streak.restarts;
        if let Some(live) = &self.live {
            live.observers.attend(attention(&after));
        }
        if !before.keeps_timer(&after) {
            self.timer = None;
        }
        self.give_places_back(&before, &after);
        self.server.state = after.state();
    }

    fn give_places_back(&self, before: &Phase, after: &Phase) {
        let id = self.model.id;
        let mut admission = self.context.admission();
        let mut changed = false;
        if before.loads() && !after.loads() {
            changed |= admission.loaded(id);
        }
        if matches!(before, Phase::Queued { .. }) && !matches!(after, Phase::Queued { .. }) {
            admission.leave(id);
            changed = true;
        }
        if after.loads() && !before.loads() {
            admission.found_loading(id);
        }
        if after.rests() {
            admission.release(id);
            changed |= !before.rests();
        }
        drop(admission);
        if changed {
            self.context.places.send_modify(|count| *count += 1);
        }
    }

    /// Carries effects out, in order. What follows from them at once is another event.
    async fn carry_out(&mut self, effects: Vec<Effect>) -> Option<Happening> {
        let mut follows = None;
        for effect in effects {
            match effect {
                // In line already, and still there.
                Effect::Queue => {
                    self.show_position();
                    self.publish();
                    follows = self
                        .context
                        .admission()
                        .enter(self.model.id)
                        .then(|| Event::Admitted.into());
                }
                Effect::Spawn(run) => follows = self.spawn_run(run).await,
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
        follows
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

    /// A record that could not be written must not keep the process from being looked after.
    fn keep<T>(&self, written: crate::store::registry::Result<T>) {
        if let Err(error) = written {
            tracing::error!(model = self.model.name, %error, "could not write to the registry");
        }
    }
}

fn attention(phase: &Phase) -> Attention {
    match phase {
        Phase::Starting { .. } | Phase::Adopting { .. } => Attention::Starting,
        Phase::Ready { .. } => Attention::Ready,
        Phase::Stopping { rung: machine::Rung::Draining, .. } => Attention::Draining,
        _ => Attention::Ending,
    }
}

fn new_run_id() -> RunId {
    Uuid::now_v7().to_string()
}

/// Random, 0 to 1.
fn dice() -> f64 {
    let (high, _) = Uuid::new_v4().as_u64_pair();
    #[allow(clippy::cast_precision_loss)] // It is only to be spread.
    let dice = high as f64 / u64::MAX as f64;
    dice
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

/// Now, on the clock of [`machine`].
pub(super) fn moment_since(epoch: Instant) -> Moment {
    // From long after the beginning, so that what was before this daemon has a place too.
    Duration::from_secs(10 * 366 * 86_400) + epoch.elapsed()
}
