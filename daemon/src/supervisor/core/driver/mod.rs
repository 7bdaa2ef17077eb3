//! Everything between an event of a server and I/O, as a pure function:
//! `drive(state, event, context) -> (state, actions)`.
//!
//! ```text
//!   clients ──────▶ ask.rs   ─╮
//!   arbiter ──────▶ admit.rs ─┤                              ╭▶ records: what is written, first
//!   jobs, spawns ─▶ make.rs  ─┼─▶ machine::step ─▶ State ────┼▶ Show, answers
//!   the process ──▶ look.rs  ─┤                              ╰▶ Prepare, Spawn, signals, timer,
//!   its end ──────▶ end.rs   ─┤                                 Explain, the arbiter
//!   recovery ─────▶ begin.rs ─╯
//!   a failed action ▶ fail.rs      what was to come after it is decided anew
//! ```
//!
//! * Actions are carried out in their order ([`execute`](super::execute)); the list is cut at the
//!   first that fails, and the failure is the next event. So what stands behind a record in a list
//!   is not done unless the record is on disk, or it was decided that it need not be.
//! * What may take long (preparing a start, finding out why a process ended) is a job beside the
//!   task: its result comes as an event with the run's id, and is dropped where that run is not the
//!   phase's any more. So a stop overtakes it.
//! * What is shown is derived from the state, by [`snapshot`] alone.

mod action;
mod admit;
mod ask;
mod begin;
mod end;
mod event;
mod fail;
mod look;
mod make;
mod run;
mod snapshot;

pub use action::{Action, Attention, EventDraft, Moment, Record, Reply};
pub use ask::cause_of;
pub use begin::{Beginning, LastRun, Written};
pub use end::of_verdict;
pub use event::{Checked, Event, Explanation, Failed, Prepared, RequestId};
pub use fail::{curable, goes_on_unwritten};
pub use run::{RunFacts, Silence};
pub use snapshot::snapshot;

use super::limits::Limits;
use super::machine::{self, Effect, Life, Phase, RunId};
use crate::arbiter::ToArbiter;
use llamactl_protocol::Actor;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::event::EventKind;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{Settings, layers};
use llamactl_protocol::server::{Demand, Desired, Endpoint, InForce, Queue, State as Shown};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Everything a server's task knows. Cheap to clone: what is large is shared.
#[derive(Clone, Debug)]
pub struct State {
    /// The model.
    pub model: Arc<Model>,
    /// The settings for all models.
    pub defaults: Arc<Settings>,
    /// What was set for the runs of what is desired now alone.
    pub overrides: Arc<Settings>,
    /// What is desired, as it was written.
    pub desired: Option<Desired>,
    /// Where it is in its life.
    pub life: Life,
    /// Since when it shows what it shows.
    pub since_ms: i64,
    /// Who asked for what is being done now.
    pub by: Actor,
    /// Why it is as it is.
    pub cause: Option<Arc<Cause>>,
    /// Its present run, or the last one.
    pub run: Option<RunFacts>,
    /// Where it listens, or will.
    pub endpoint: Option<Endpoint>,
    /// Where it stands in line.
    pub queue: Option<Queue>,
    /// When it will be started again.
    pub restart_at_ms: Option<i64>,
    /// What is being loaded, and how far that is.
    pub progress: (Option<String>, Option<f64>),
    /// What it reports to be using.
    pub in_force: Option<InForce>,
    /// Starts whose answer waits for the arbiter's first word.
    waiting: Vec<(RequestId, bool)>,
    /// What it showed before its process ended.
    left: Shown,
}

impl State {
    /// Now, for records, in Unix milliseconds, but later than what is written: a daemon after us
    /// tells by these times what came first, and the clock may have been set back.
    fn not_before(&self, now_ms: i64) -> i64 {
        let run = self.run.as_ref();
        let written = [
            self.desired.as_ref().map(|desired| desired.at_ms),
            run.map(|run| run.started_at_ms),
            run.and_then(|run| run.ready_at_ms),
            run.and_then(|run| run.ended_at_ms),
        ];
        match written.into_iter().flatten().max() {
            Some(last_ms) if last_ms > now_ms => last_ms.saturating_add(1),
            _ => now_ms,
        }
    }
}

/// What a turn depends on besides.
#[derive(Clone, Debug)]
pub struct Context {
    /// Now, on a clock that only goes forward.
    pub at: machine::Moment,
    /// Now, for records.
    pub now_ms: i64,
    /// Random, 0 to 1: restarts are spread by it.
    pub jitter: f64,
    /// For the run that may come of it.
    pub next_run: RunId,
    /// What the system says its process does, as `/proc/PID/stat` has it; asked when a timer ran
    /// out.
    pub process_state: Option<char>,
}

/// What an event does: the state after it, and what is to be done, in order.
#[must_use]
pub fn drive(state: State, event: Event, context: &Context) -> (State, Vec<Action>) {
    let context = &Context { now_ms: state.not_before(context.now_ms), ..context.clone() };
    let mut turn = Turn { state, actions: vec![], context };
    match event {
        Event::Begin(beginning) => turn.begin(*beginning),
        Event::Start { request, overrides, by, checked } => {
            turn.start(request, overrides, by, checked, false);
        }
        Event::Restart { request, overrides, by, checked } => {
            turn.start(request, overrides, by, checked, true);
        }
        Event::Stop { request, by } => turn.stop(request, by),
        Event::Shutdown { request, by } => turn.shut_down(request, by),
        Event::Remove { request, by } => turn.remove(request, by),
        Event::Model(model) => turn.model_changed(model),
        Event::Defaults(defaults) => {
            turn.state.defaults = defaults;
            turn.show();
        }
        Event::Orders(orders) => turn.obey(&orders),
        Event::Prepared(prepared) => turn.prepared(*prepared),
        Event::NotPrepared { run, cause, curable } => turn.not_prepared(&run, cause, curable),
        Event::Spawned { run, pid } => turn.spawned(&run, pid),
        Event::NotSpawned { run, cause, curable } => turn.not_spawned(&run, cause, curable),
        Event::Health(seen) => turn.step(machine::Event::Health(seen)),
        Event::Looked { seen, look, process_state } => turn.looked(seen, look, process_state),
        Event::Announced => turn.step(machine::Event::Announced),
        Event::Moved => turn.step(machine::Event::Progress),
        Event::Progress { stage, ratio } => turn.progress(stage, ratio),
        Event::InForce(in_force) => {
            turn.state.in_force = Some(in_force);
            turn.show();
        }
        Event::Busy(busy) => turn.busy(busy),
        Event::GpuMemory { run, bytes } => turn.gpu_memory(&run, bytes),
        Event::Timer => turn.time_out(),
        Event::Exited => turn.exited(),
        Event::Explained { run, explanation } => turn.explained(&run, &explanation),
        Event::Failed(failed) => turn.failed(*failed),
    }
    (turn.state, turn.actions)
}

/// One turn: the state as it becomes, and the actions so far.
struct Turn<'a> {
    state: State,
    actions: Vec<Action>,
    context: &'a Context,
}

impl Turn<'_> {
    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn show(&mut self) {
        self.push(Action::Show);
    }

    fn limits(&self) -> Limits {
        Limits::of(&self.effective())
    }

    /// The settings that hold for what is desired now.
    fn effective(&self) -> Settings {
        let standing = layers::effective(&self.state.defaults, &self.state.model.settings);
        layers::over(&standing, &self.state.overrides)
    }

    /// Takes a step of the machine and does what follows from it.
    fn step(&mut self, event: machine::Event) {
        let (before, effects) = self.advance(event);
        self.follow(&before, effects);
    }

    /// Takes a step of the machine. What follows from it is the caller's to do, after what is
    /// written with it.
    fn advance(&mut self, event: machine::Event) -> (Phase, Vec<Effect>) {
        let context = machine::Context {
            at: self.context.at,
            jitter: self.context.jitter,
            limits: self.limits(),
        };
        let before = self.state.life.phase.clone();
        let (life, effects) = machine::step(self.state.life.clone(), event, &context);
        self.state.life = life;
        self.enter(&before);
        if effects.contains(&Effect::BecameReady) {
            self.became_ready();
        }
        (before, effects)
    }

    /// Brings what is shown beside a phase in line with it.
    fn enter(&mut self, before: &Phase) {
        let after = self.state.life.phase.clone();
        if before.state() != after.state() {
            self.state.since_ms = self.context.now_ms;
        }
        if matches!(after, Phase::Ended { .. }) && !matches!(before, Phase::Ended { .. }) {
            self.state.left = before.state();
        }
        if after.stage().is_some() && before.stage().is_none() && after.fault().is_none() {
            let by = self.state.by.clone();
            self.state.cause = Some(Arc::new(self.requested("being stopped")));
            if let Some(run) = &mut self.state.run {
                run.stopped_by = Some(by);
            }
        }
        if !matches!(after, Phase::Backoff { .. }) {
            self.state.restart_at_ms = None;
        }
        if !matches!(after, Phase::Queued { .. }) {
            self.state.queue = None;
        }
        if let Phase::Queued { run } = &after
            && self.state.run.as_ref().is_none_or(|known| known.id != *run)
        {
            // Why the last one ended still explains a restart by policy.
            if self.state.life.streak.restarts == 0 {
                self.state.cause = None;
            }
            let revision = self.state.model.revision;
            self.state.run = Some(RunFacts::planned(run.clone(), revision, self.context.now_ms));
        }
        if let Some(run) = &mut self.state.run
            && after.run().is_none()
        {
            run.has_process = false;
        }
    }

    /// What a step has to be followed by, in this order: what it writes, what is shown, what is
    /// answered, what is done.
    fn follow(&mut self, before: &Phase, effects: Vec<Effect>) {
        let after = self.state.life.phase.clone();
        if *before == after && effects.is_empty() {
            return;
        }
        if effects.contains(&Effect::BecameReady) {
            self.write_ready();
        }
        // One that waits is shown when its place in line is known, one that has ended when it is
        // known why.
        let waits_for_place = matches!(after, Phase::Queued { .. }) && self.state.queue.is_none();
        if !waits_for_place && !matches!(after, Phase::Ended { .. }) {
            self.show();
        }
        if !matches!(after, Phase::Queued { .. }) {
            self.answer_waiting();
        }
        self.attend(before, &after);
        if !before.keeps_timer(&after) && !effects.iter().any(|it| matches!(it, Effect::Timer(_))) {
            self.push(Action::Timer(None));
        }
        for effect in effects {
            self.act(effect);
        }
        self.tell_of_change(before);
    }

    fn act(&mut self, effect: Effect) {
        let (model, name) = (self.state.model.id, Arc::from(self.state.model.name.as_str()));
        let action = match effect {
            Effect::Want(run) => Action::Ask(ToArbiter::Want { model, name, run }),
            Effect::Hold(run) => Action::Ask(ToArbiter::Hold { model, name, run }),
            Effect::Found { run, loading } => {
                Action::Ask(ToArbiter::Found { model, name, run, loading })
            }
            Effect::Loaded(run) => Action::Ask(ToArbiter::Loaded { model, run }),
            Effect::Gone { run, next } => Action::Ask(ToArbiter::Gone { model, run, next }),
            Effect::Prepare(run) => Action::Prepare(run),
            Effect::Spawn(run) => Action::Spawn(run),
            Effect::Terminate => Action::Terminate,
            Effect::Kill => Action::Kill,
            Effect::Explain(run) => Action::Explain(run),
            Effect::Timer(after) => Action::Timer(Some(after)),
            Effect::BecameReady => return,
        };
        self.push(action);
    }

    /// Tells those who watch the process what to look for now.
    fn attend(&mut self, before: &Phase, after: &Phase) {
        let attention = Attention::of(after);
        if attention != Attention::of(before) && after.run().is_some() {
            self.push(Action::Observe(attention));
        }
    }

    fn answer_waiting(&mut self) {
        for (request, changed) in std::mem::take(&mut self.state.waiting) {
            let run_id = self.state.life.phase.wanted_run().cloned();
            let reply = Reply::Accepted { run_id, changed, durable: true };
            self.push(Action::Answer(request, reply));
        }
    }

    /// A cause that somebody asked for.
    fn requested(&self, message: &str) -> Cause {
        Cause::new(CauseCode::Requested, message, self.context.now_ms)
    }

    /// An event of this server, as it is now.
    fn event(
        &self,
        kind: EventKind,
        by: Actor,
        message: String,
        cause: Option<&Cause>,
        from: Option<Shown>,
    ) -> EventDraft {
        let mut details = Map::new();
        details.insert("to".to_owned(), json!(self.state.life.phase.state()));
        if let Some(cause) = cause {
            details.insert("cause".to_owned(), json!(cause.of_model(&self.state.model.name)));
        }
        if let Some(from) = from {
            details.insert("from".to_owned(), json!(from));
        }
        let run = self.state.run.as_ref().map(|run| run.id.clone());
        EventDraft { kind, run, by, message, details: Value::Object(details) }
    }

    /// Writes an event that belongs to no other record.
    fn tell(
        &mut self,
        kind: EventKind,
        by: Actor,
        message: String,
        cause: Option<&Cause>,
        from: Option<Shown>,
    ) {
        let event = self.event(kind, by, message, cause, from);
        self.push(Action::Write(Record::Event(event)));
    }

    /// Writes what a step changed, where no other record tells of it.
    fn tell_of_change(&mut self, before: &Phase) {
        let from = before.state();
        let name = &self.state.model.name;
        let (kind, by, message) = match (&self.state.life.phase, from) {
            (after, from) if after.state() == from => return,
            (Phase::Stopping { .. }, _) if self.state.life.phase.fault().is_none() => {
                let by = self.state.by.clone();
                (EventKind::ServerStopping, by, format!("{name}: stopping"))
            }
            (Phase::Stuck { .. }, _) => (
                EventKind::ServerStuck,
                Actor::Policy,
                format!("{name}: the kernel does not end it: it waits for a disk or a driver"),
            ),
            (Phase::Ready { asleep: true, .. }, Shown::Ready) => (
                EventKind::ServerSleeping,
                Actor::Process,
                format!("{name}: unloaded its model because nobody used it"),
            ),
            (Phase::Ready { asleep: false, .. }, Shown::Sleeping) => {
                (EventKind::ServerWoken, Actor::Process, format!("{name}: loaded its model again"))
            }
            (Phase::Stopped, Shown::Queued | Shown::Backoff) => {
                let by = self.state.by.clone();
                (EventKind::ServerStopped, by, format!("{name}: not started any more"))
            }
            _ => return,
        };
        let cause = self.state.cause.clone();
        self.tell(kind, by, message, cause.as_deref(), Some(from));
    }

    /// Why a run that begins now is there.
    fn demand(&self) -> Demand {
        Demand::of(&self.state.by)
    }
}

#[cfg(test)]
mod tests;
