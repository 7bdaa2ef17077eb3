//! The life of a server as a pure function: `step(life, event, context) -> (life, effects)`.
//!
//! ```text
//!              start          admitted        prepared      announced + healthy
//!   Stopped ─────────▶ Queued ────────▶ Preparing ──▶ Starting ─────────▶ Ready ◀── Adopting
//!      ▲  ▲              ▲  ▲               │            │                  │          │
//!      │  │              │  ╰── timer ── Backoff ◀───────┤  ended unasked, a restart may cure it
//!      │  │              ╰── the first time at once ◀────┤
//!      │  ╰─────── Failed ◀── it cannot, or too often ◀──┤
//!      │                                                 │
//!      │ explained                                       ▼  exited, from wherever it was
//!      ╰──────────────────────────────────────────── Ended: why is being found out
//!                                                        ▲
//!                stop, restart, hung, stalled            │ exited
//!   Starting, Ready, Adopting ─▶ Stopping: drain ─▶ TERM ─▶ TERM ─▶ KILL ─▶ Stuck
//! ```
//!
//! What each event does in each phase; an empty cell leaves it as it is.
//!
//! | phase | start | restart | stop, shutdown | admitted | refused | prepared | not made | timer | exited | explained |
//! |---|---|---|---|---|---|---|---|---|---|---|
//! | Stopped, Failed | Queued | Queued | Stopped | | Failed | | | | | |
//! | Queued | | | Stopped | Preparing | Failed | | | | | |
//! | Backoff | Queued | Queued | Stopped | | Failed | | | Queued | | |
//! | Preparing | | Queued | Stopped | | | Starting | policy | | | |
//! | Starting | | Stopping | Stopping | | | | policy | Ready, or Stopping: stalled | Ended | |
//! | Ready | | Stopping | Stopping | | | | | | Ended | |
//! | Adopting | | Stopping | Stopping | | | | | Ready or Starting | Ended | |
//! | Stopping | then start | then start | then rest | | | | | next stage, Stuck | Ended | |
//! | Stuck | then start | then start | then rest | | | | | | Ended | |
//! | Ended | then start | then start | then rest | | | | | | | policy, Queued or Stopped |
//!
//! Besides: `adopt`, `died` and `resume` lead out of Stopped and Failed at the beginning of a task;
//! `health`, `announced` and `progress` lead from Starting and Adopting to Ready; `hung` from Ready
//! to Stopping; `idle` from draining to the first TERM.
//!
//! A life is a phase, what is desired, and the failures in a row. The last desired state wins; a
//! shutdown ends a process and leaves what is desired.
//!
//! Invariants, held by the tests below and by the simulator for arbitrary histories:
//! * `Spawn` is only asked for while no process is there, so a model never has two.
//! * From every phase with a process, `stop` and the passing of time alone lead to `KILL`.
//! * A stop overtakes a start that has not begun, and a start overtakes a stop that has not ended.
//! * Every phase is left by an event that the world will bring: an exit, a timer, a word of the
//!   arbiter, the result of a job. Only `Stopped` and `Failed` wait for somebody to act.
//! * Each run is told to the arbiter once, by `Want`, `Hold` or `Found`, and given back once, by
//!   `Gone`.
//! * A change of phase ends the timer that ran; the effects may set a new one.
//!
//! Nothing here does I/O or reads a clock: [`driver`](super::driver) puts it together with what is
//! written, answered and shown.

use super::demand::wants_process;
use super::limits::Limits;
use super::restart::{self, Decision, Ended, Streak};
use crate::llama::Seen;
use llamactl_protocol::server::{DesiredState, State};
use std::time::Duration;

/// A time on a clock that only goes forward, from any beginning.
pub type Moment = Duration;

/// No stop of the whole daemon waits longer for requests at work, whatever is set.
pub const LONGEST_DRAIN_AT_SHUTDOWN: Duration = Duration::from_secs(5);
/// How long a process has to end after each TERM. An idle llama-server needs 0.1 s; a busy one
/// needs the second TERM, which it obeys at once.
pub const TERM: Duration = Duration::from_secs(2);
/// How long the kernel has to end a killed process before we call it stuck.
pub const KILL: Duration = Duration::from_secs(5);
/// How long `/health` must have been good where the log says nothing (a log level was set, or the
/// wording changed) before the server counts as ready.
pub const UNANNOUNCED: Duration = Duration::from_secs(1);
/// How long a process that was taken over has to answer before it counts as what it was.
pub const ADOPTION: Duration = Duration::from_secs(5);
/// How long it may take to find out why a process ended: a log may lie on a disk that hangs.
pub const EXPLANATION: Duration = Duration::from_secs(5);

/// The id of a run.
pub type RunId = String;

/// Everything the machine knows of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Where it is.
    pub phase: Phase,
    /// What is desired; `None`: nobody ever said.
    pub desired: Option<DesiredState>,
    /// The failures in a row.
    pub streak: Streak,
    /// The daemon stops: nothing is started any more.
    pub closing: bool,
    /// Until when the requests at work are waited for, once that has begun.
    pub drains_until: Option<Moment>,
}

/// Where a server is in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// There is no process, as desired.
    #[default]
    Stopped,
    /// There is no process; the last one ended by itself or could not be made, and nothing will be
    /// done about it unless somebody acts.
    Failed,
    /// It waits for the arbiter to admit it.
    Queued {
        /// The run it will be.
        run: RunId,
    },
    /// It failed, and the timer will start it again.
    Backoff {
        /// The run it will be.
        run: RunId,
    },
    /// It was admitted, and what its process needs is being made ready.
    Preparing {
        /// The run it will be.
        run: RunId,
    },
    /// The process is being made, or does not answer yet, or answers that it is loading.
    Starting {
        /// The run.
        run: RunId,
        /// It answered at least once.
        answers: bool,
        /// `/health` is good.
        healthy: bool,
        /// It said itself that it listens: until then a TERM may be lost in it.
        announced: bool,
    },
    /// It answers requests.
    Ready {
        /// The run.
        run: RunId,
        /// It has unloaded the model for now.
        asleep: bool,
    },
    /// A process of an earlier daemon, not yet known to answer.
    Adopting {
        /// The run.
        run: RunId,
        /// It was ready before.
        was_ready: bool,
    },
    /// It was told to stop.
    Stopping {
        /// The run.
        run: RunId,
        /// How far the stop has gone.
        stage: StopStage,
        /// What comes after.
        then: Then,
    },
    /// It does not end even when killed.
    Stuck {
        /// The run.
        run: RunId,
        /// What comes after, if it ends.
        then: Then,
    },
    /// Its process has ended, and why is being found out.
    Ended {
        /// The run.
        run: RunId,
        /// How far a stop of it had gone; `None`: nobody was ending it.
        stage: Option<StopStage>,
        /// It was ended for what it did.
        fault: Option<Fault>,
        /// What comes after.
        then: Then,
    },
}

/// What was done to make a process end, in the order it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopStage {
    /// Waiting for the requests at work.
    Draining,
    /// One TERM was sent.
    Terminated,
    /// A second TERM was sent.
    TerminatedAgain,
    /// KILL was sent.
    Killed,
}

/// What comes after the end of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// It rests.
    Rest,
    /// A new run is started.
    Start(RunId),
    /// The restart policy decides; it may have been ended for what it did.
    Decide(Option<Fault>),
}

/// Why a process was ended that nobody wanted gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It did not answer any more, or its requests did not move.
    Hung,
    /// Its load did not move.
    Stalled,
}

/// What can happen to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants it to run; the id is for the run that may come of it.
    Start(RunId),
    /// Somebody wants it not to run.
    Stop,
    /// Somebody wants a new process with the settings of now.
    Restart(RunId),
    /// The daemon stops: end it and leave what is desired.
    Shutdown,
    /// A process of an earlier daemon was found.
    Adopt {
        /// Its run.
        run: RunId,
        /// It was ready before.
        was_ready: bool,
    },
    /// The process of an earlier daemon ended while nobody watched.
    Died {
        /// Its run.
        run: RunId,
    },
    /// An earlier daemon had decided to start it again, after this much longer.
    Resume {
        /// The run it will be.
        run: RunId,
        /// How much longer.
        after: Duration,
    },
    /// The arbiter lets it load.
    Admitted,
    /// A start is not possible, or the arbiter does not let it run.
    Refused,
    /// What its process needs is ready.
    Prepared,
    /// The process could not be made; the id is for the run that may follow.
    NotMade {
        /// Whether starting again can help.
        ended: Ended,
        /// For the run that may follow.
        next: RunId,
    },
    /// `/health` was asked.
    Health(Seen),
    /// The process said that it listens.
    Announced,
    /// The load moved: output, memory, reading.
    Progress,
    /// No request is at work.
    Idle,
    /// It does not answer any more, or its requests do not move.
    Hung,
    /// The timer ran out.
    Timer,
    /// The process ended.
    Exited,
    /// Why it ended was found out.
    Explained {
        /// Whether starting again can help.
        ended: Ended,
        /// For the run that may follow.
        next: RunId,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the arbiter to let this run load.
    Want(RunId),
    /// Tell the arbiter of a run that waits to be started again and keeps its place.
    Hold(RunId),
    /// Tell the arbiter of a run whose process was found.
    Found {
        /// The run.
        run: RunId,
        /// It loads, or may.
        loading: bool,
    },
    /// Tell the arbiter that it loads no more.
    Loaded(RunId),
    /// Give a run's places back, or pass them on to the run that follows.
    Gone {
        /// The run.
        run: RunId,
        /// The run that follows.
        next: Option<RunId>,
    },
    /// Make ready what the process of this run needs.
    Prepare(RunId),
    /// Write the run and make its process.
    Spawn(RunId),
    /// Ask the process to end.
    Terminate,
    /// Kill the process and its group.
    Kill,
    /// Find out why it ended.
    Explain(RunId),
    /// Set the one timer, in place of what it was.
    Timer(Duration),
    /// The run is ready: write it.
    BecameReady,
}

/// What a step depends on besides.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Now.
    pub at: Moment,
    /// Random, 0 to 1: restarts are spread by it.
    pub jitter: f64,
    /// How the server is looked after.
    pub limits: Limits,
}

impl Phase {
    /// The phase in the words of the wire.
    #[must_use]
    pub fn state(&self) -> State {
        match self {
            Phase::Stopped => State::Stopped,
            Phase::Failed => State::Failed,
            Phase::Queued { .. } => State::Queued,
            Phase::Backoff { .. } => State::Backoff,
            Phase::Preparing { .. } | Phase::Starting { answers: false, .. } => State::Starting,
            Phase::Starting { .. } => State::Loading,
            Phase::Ready { asleep: false, .. } => State::Ready,
            Phase::Ready { .. } => State::Sleeping,
            Phase::Adopting { .. } => State::Adopting,
            Phase::Stopping { .. } | Phase::Ended { .. } => State::Stopping,
            Phase::Stuck { .. } => State::Stuck,
        }
    }

    /// The run whose process is there, or has ended without its end being written.
    #[must_use]
    pub fn run(&self) -> Option<&RunId> {
        match self {
            Phase::Stopped
            | Phase::Failed
            | Phase::Queued { .. }
            | Phase::Backoff { .. }
            | Phase::Preparing { .. } => None,
            Phase::Starting { run, .. }
            | Phase::Ready { run, .. }
            | Phase::Adopting { run, .. }
            | Phase::Stopping { run, .. }
            | Phase::Stuck { run, .. }
            | Phase::Ended { run, .. } => Some(run),
        }
    }

    /// The run a caller who wants it to run will get: the present one, or the one that is to come.
    #[must_use]
    pub fn wanted_run(&self) -> Option<&RunId> {
        match self {
            Phase::Queued { run } | Phase::Backoff { run } | Phase::Preparing { run } => Some(run),
            Phase::Stopping { then, .. }
            | Phase::Stuck { then, .. }
            | Phase::Ended { then, .. } => match then {
                Then::Start(run) => Some(run),
                Then::Rest | Then::Decide(_) => None,
            },
            Phase::Starting { .. } | Phase::Ready { .. } | Phase::Adopting { .. } => self.run(),
            Phase::Stopped | Phase::Failed => None,
        }
    }

    /// How far a stop under way has gone.
    #[must_use]
    pub fn stage(&self) -> Option<StopStage> {
        match self {
            Phase::Stopping { stage, .. } => Some(*stage),
            Phase::Stuck { .. } => Some(StopStage::Killed),
            Phase::Ended { stage, .. } => *stage,
            _ => None,
        }
    }

    /// Why it is being ended, where nobody asked for that.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Phase::Stopping { then: Then::Decide(fault), .. }
            | Phase::Stuck { then: Then::Decide(fault), .. }
            | Phase::Ended { fault, .. } => *fault,
            _ => None,
        }
    }

    /// Whether nothing will happen unless somebody acts.
    #[must_use]
    pub fn rests(&self) -> bool {
        matches!(self, Phase::Stopped | Phase::Failed)
    }

    /// Whether the timer goes on from one phase to the other: it is the same phase, seen better.
    #[must_use]
    pub fn keeps_timer(&self, next: &Phase) -> bool {
        match (self, next) {
            (Phase::Stopping { stage: before, .. }, Phase::Stopping { stage: after, .. }) => {
                before == after
            }
            (Phase::Starting { run: before, .. }, Phase::Starting { run: after, .. })
            | (Phase::Ended { run: before, .. }, Phase::Ended { run: after, .. }) => {
                before == after
            }
            (before, after) => before == after,
        }
    }
}

type Step = (Phase, Vec<Effect>);

/// What an event does: the life after it and what is to be done, in order.
#[must_use]
pub fn step(mut life: Life, event: Event, context: &Context) -> (Life, Vec<Effect>) {
    match &event {
        Event::Start(_) | Event::Restart(_) => life.desired = Some(DesiredState::Running),
        Event::Stop => life.desired = Some(DesiredState::Stopped),
        Event::Shutdown => life.closing = true,
        // What was ready has ended.
        Event::Resume { .. } => life.streak.ready_at = None,
        // It is noticed late: what came after the last sign of life was no health.
        Event::Hung if matches!(life.phase, Phase::Ready { .. }) => {
            let limit = context.limits.hang.unwrap_or_default();
            life.streak.health_ended(context.at.saturating_sub(limit));
        }
        _ => {}
    }
    let (phase, effects) = match std::mem::take(&mut life.phase) {
        phase @ (Phase::Stopped | Phase::Failed) => at_rest(&mut life, phase, event),
        Phase::Queued { run } => queued(&mut life, run, event),
        Phase::Backoff { run } => backoff(&mut life, run, event),
        Phase::Preparing { run } => preparing(&mut life, run, event, context),
        phase @ Phase::Starting { .. } => starting(&mut life, phase, event, context),
        Phase::Ready { run, asleep } => ready(&mut life, run, asleep, event, context),
        Phase::Adopting { run, was_ready } => adopting(&mut life, run, was_ready, event, context),
        Phase::Stopping { run, stage, then } => {
            stopping(&mut life, run, stage, then, event, context)
        }
        Phase::Stuck { run, then } => stuck(&mut life, run, then, event),
        Phase::Ended { run, stage, fault, then } => {
            ended(&mut life, run, stage, fault, then, event, context)
        }
    };
    life.phase = phase;
    life.drains_until = match (&life.phase, &effects[..]) {
        (Phase::Stopping { stage: StopStage::Draining, .. }, [.., Effect::Timer(wait)]) => {
            Some(context.at.saturating_add(*wait))
        }
        (Phase::Stopping { stage: StopStage::Draining, .. }, _) => life.drains_until,
        _ => None,
    };
    if effects.contains(&Effect::BecameReady) {
        // One that was taken over has been ready for longer.
        life.streak.ready_at.get_or_insert(context.at);
    }
    (life, effects)
}

fn at_rest(life: &mut Life, phase: Phase, event: Event) -> Step {
    match event {
        Event::Start(run) | Event::Restart(run) if !life.closing => {
            life.streak = Streak::default();
            queue(run)
        }
        Event::Stop | Event::Shutdown => (Phase::Stopped, vec![]),
        Event::Adopt { run, was_ready } => {
            let found = Effect::Found { run: run.clone(), loading: !was_ready };
            (Phase::Adopting { run, was_ready }, vec![found, Effect::Timer(ADOPTION)])
        }
        Event::Died { run } => {
            let found = Effect::Found { run: run.clone(), loading: false };
            let (phase, mut effects) = end(run, None, None, Then::Decide(None));
            effects.insert(0, found);
            (phase, effects)
        }
        Event::Resume { run, after } if !life.closing => {
            let hold = Effect::Hold(run.clone());
            (Phase::Backoff { run }, vec![hold, Effect::Timer(after)])
        }
        Event::Refused => (Phase::Failed, vec![]),
        // What was overtaken: there is no run.
        Event::Start(_)
        | Event::Restart(_)
        | Event::Resume { .. }
        | Event::Admitted
        | Event::Prepared
        | Event::NotMade { .. }
        | Event::Health(_)
        | Event::Announced
        | Event::Progress
        | Event::Idle
        | Event::Hung
        | Event::Timer
        | Event::Exited
        | Event::Explained { .. } => (phase, vec![]),
    }
}

fn queued(life: &mut Life, run: RunId, event: Event) -> Step {
    match event {
        Event::Admitted if !life.closing => {
            let prepare = Effect::Prepare(run.clone());
            (Phase::Preparing { run }, vec![prepare])
        }
        Event::Stop | Event::Shutdown => rest(run),
        Event::Refused => (Phase::Failed, vec![Effect::Gone { run, next: None }]),
        // It is what is asked for already, or there is no process that this could come from.
        Event::Start(_)
        | Event::Restart(_)
        | Event::Admitted
        | Event::Adopt { .. }
        | Event::Died { .. }
        | Event::Resume { .. }
        | Event::Prepared
        | Event::NotMade { .. }
        | Event::Health(_)
        | Event::Announced
        | Event::Progress
        | Event::Idle
        | Event::Hung
        | Event::Timer
        | Event::Exited
        | Event::Explained { .. } => (Phase::Queued { run }, vec![]),
    }
}

fn backoff(life: &mut Life, run: RunId, event: Event) -> Step {
    match event {
        // Who asks for a start does not wait for the policy; the run that waited is the one.
        Event::Start(_) | Event::Restart(_) if !life.closing => {
            life.streak = Streak::default();
            queue(run)
        }
        Event::Timer => queue(run),
        Event::Stop | Event::Shutdown => rest(run),
        Event::Refused => (Phase::Failed, vec![Effect::Gone { run, next: None }]),
        Event::Start(_)
        | Event::Restart(_)
        | Event::Adopt { .. }
        | Event::Died { .. }
        | Event::Resume { .. }
        | Event::Admitted
        | Event::Prepared
        | Event::NotMade { .. }
        | Event::Health(_)
        | Event::Announced
        | Event::Progress
        | Event::Idle
        | Event::Hung
        | Event::Exited
        | Event::Explained { .. } => (Phase::Backoff { run }, vec![]),
    }
}

fn preparing(life: &mut Life, run: RunId, event: Event, context: &Context) -> Step {
    match event {
        Event::Prepared => {
            let spawn = Effect::Spawn(run.clone());
            let phase = Phase::Starting { run, answers: false, healthy: false, announced: false };
            (phase, vec![Effect::Timer(context.limits.stall), spawn])
        }
        Event::NotMade { ended, next } => again(life, run, ended, next, context),
        // The settings may have changed since it was begun: it is made ready anew.
        Event::Restart(next) if !life.closing => {
            life.streak = Streak::default();
            replace(run, next)
        }
        Event::Stop | Event::Shutdown => rest(run),
        Event::Start(_)
        | Event::Restart(_)
        | Event::Adopt { .. }
        | Event::Died { .. }
        | Event::Resume { .. }
        | Event::Admitted
        | Event::Refused
        | Event::Health(_)
        | Event::Announced
        | Event::Progress
        | Event::Idle
        | Event::Hung
        | Event::Timer
        | Event::Exited
        | Event::Explained { .. } => (Phase::Preparing { run }, vec![]),
    }
}

fn starting(life: &mut Life, phase: Phase, event: Event, context: &Context) -> Step {
    let Phase::Starting { run, answers, healthy, announced } = phase else {
        return (phase, vec![]);
    };
    let stall = context.limits.stall;
    let here =
        |run, answers, healthy, announced| Phase::Starting { run, answers, healthy, announced };
    let (phase, mut effects) = match event {
        Event::Health(seen) => match seen {
            Seen::Healthy | Seen::Asleep if announced => become_ready(run, seen == Seen::Asleep),
            // It says itself that it listens, so it is behind who answers: a wrapper's child.
            Seen::Foreign if announced => become_ready(run, false),
            Seen::Healthy | Seen::Asleep => {
                let first = if healthy { vec![] } else { vec![Effect::Timer(UNANNOUNCED)] };
                (here(run, true, true, announced), first)
            }
            Seen::Loading | Seen::Unreachable | Seen::Silent | Seen::Foreign => {
                // It was healthy and is not: it loads after all.
                let back = if healthy { vec![Effect::Timer(stall)] } else { vec![] };
                (here(run, answers || seen == Seen::Loading, false, announced), back)
            }
        },
        Event::Announced | Event::Timer if healthy => become_ready(run, false),
        Event::Announced => (here(run, answers, healthy, true), vec![Effect::Timer(stall)]),
        Event::Progress if !healthy => {
            (here(run, answers, healthy, announced), vec![Effect::Timer(stall)])
        }
        Event::Timer => terminate(run, Then::Decide(Some(Fault::Stalled))),
        Event::Restart(next) if !life.closing => {
            life.streak = Streak::default();
            terminate(run, Then::Start(next))
        }
        Event::Stop | Event::Shutdown => terminate(run, Then::Rest),
        Event::Exited => end(run, None, None, Then::Decide(None)),
        Event::NotMade { ended, next } => return again(life, run, ended, next, context),
        Event::Start(_)
        | Event::Restart(_)
        | Event::Adopt { .. }
        | Event::Died { .. }
        | Event::Resume { .. }
        | Event::Admitted
        | Event::Refused
        | Event::Prepared
        | Event::Progress
        | Event::Idle
        | Event::Hung
        | Event::Explained { .. } => (here(run, answers, healthy, announced), vec![]),
    };
    if !matches!(phase, Phase::Starting { .. })
        && let Some(run) = phase.run()
    {
        effects.insert(0, Effect::Loaded(run.clone()));
    }
    (phase, effects)
}

fn ready(life: &mut Life, run: RunId, asleep: bool, event: Event, context: &Context) -> Step {
    match event {
        Event::Health(Seen::Healthy) => (Phase::Ready { run, asleep: false }, vec![]),
        Event::Health(Seen::Asleep) => (Phase::Ready { run, asleep: true }, vec![]),
        Event::Hung => terminate(run, Then::Decide(Some(Fault::Hung))),
        Event::Restart(next) if !life.closing => {
            life.streak = Streak::default();
            leave(run, asleep, Then::Start(next), context.limits.drain)
        }
        Event::Stop => leave(run, asleep, Then::Rest, context.limits.drain),
        Event::Shutdown => leave(run, asleep, Then::Rest, drain_at_shutdown(context)),
        Event::Exited => end(run, None, None, Then::Decide(None)),
        Event::Start(_)
        | Event::Restart(_)
        | Event::Adopt { .. }
        | Event::Died { .. }
        | Event::Resume { .. }
        | Event::Admitted
        | Event::Refused
        | Event::Prepared
        | Event::NotMade { .. }
        | Event::Health(Seen::Unreachable | Seen::Silent | Seen::Loading | Seen::Foreign)
        | Event::Announced
        | Event::Progress
        | Event::Idle
        | Event::Timer
        | Event::Explained { .. } => (Phase::Ready { run, asleep }, vec![]),
    }
}

fn adopting(life: &mut Life, run: RunId, was_ready: bool, event: Event, context: &Context) -> Step {
    let loaded = Effect::Loaded(run.clone());
    let (phase, mut effects) = match event {
        Event::Health(Seen::Healthy) => become_ready(run, false),
        Event::Health(Seen::Asleep) => become_ready(run, true),
        Event::Health(Seen::Loading) => return found_loading(run, was_ready, context),
        // It says nothing. One that was ready is looked after as such: if it hangs, that is seen.
        Event::Timer if was_ready => become_ready(run, false),
        Event::Timer => return found_loading(run, was_ready, context),
        Event::Restart(next) if !life.closing => {
            life.streak = Streak::default();
            terminate(run, Then::Start(next))
        }
        Event::Stop | Event::Shutdown => terminate(run, Then::Rest),
        Event::Exited => end(run, None, None, Then::Decide(None)),
        Event::Start(_)
        | Event::Restart(_)
        | Event::Adopt { .. }
        | Event::Died { .. }
        | Event::Resume { .. }
        | Event::Admitted
        | Event::Refused
        | Event::Prepared
        | Event::NotMade { .. }
        | Event::Health(Seen::Unreachable | Seen::Silent | Seen::Foreign)
        | Event::Announced
        | Event::Progress
        | Event::Idle
        | Event::Hung
        | Event::Explained { .. } => return (Phase::Adopting { run, was_ready }, vec![]),
    };
    if !was_ready {
        effects.insert(0, loaded);
    }
    (phase, effects)
}

fn stopping(
    life: &mut Life,
    run: RunId,
    stage: StopStage,
    then: Then,
    event: Event,
    context: &Context,
) -> Step {
    let drains = stage == StopStage::Draining;
    match event {
        Event::Idle | Event::Timer if drains => terminate(run, then),
        Event::Timer => match stage {
            StopStage::Draining | StopStage::Terminated => (
                Phase::Stopping { run, stage: StopStage::TerminatedAgain, then },
                vec![Effect::Terminate, Effect::Timer(TERM)],
            ),
            StopStage::TerminatedAgain => (
                Phase::Stopping { run, stage: StopStage::Killed, then },
                vec![Effect::Kill, Effect::Timer(KILL)],
            ),
            StopStage::Killed => (Phase::Stuck { run, then }, vec![]),
        },
        Event::Exited => {
            let fault = fault_of(&then);
            end(run, Some(stage), fault, then)
        }
        Event::Shutdown => {
            // Never longer than was left of it.
            let left = life.drains_until.map(|until| until.saturating_sub(context.at));
            let wait = drain_at_shutdown(context).min(left.unwrap_or(Duration::MAX));
            let shorter = if drains { vec![Effect::Timer(wait)] } else { vec![] };
            (Phase::Stopping { run, stage, then: Then::Rest }, shorter)
        }
        Event::Start(_) | Event::Restart(_) | Event::Stop => {
            let then = next_of(life, then, event);
            (Phase::Stopping { run, stage, then }, vec![])
        }
        Event::Adopt { .. }
        | Event::Died { .. }
        | Event::Resume { .. }
        | Event::Admitted
        | Event::Refused
        | Event::Prepared
        | Event::NotMade { .. }
        | Event::Health(_)
        | Event::Announced
        | Event::Progress
        | Event::Idle
        | Event::Hung
        | Event::Explained { .. } => (Phase::Stopping { run, stage, then }, vec![]),
    }
}

fn stuck(life: &mut Life, run: RunId, then: Then, event: Event) -> Step {
    match event {
        Event::Exited => {
            let fault = fault_of(&then);
            end(run, Some(StopStage::Killed), fault, then)
        }
        Event::Start(_) | Event::Restart(_) | Event::Stop | Event::Shutdown => {
            let then = next_of(life, then, event);
            (Phase::Stuck { run, then }, vec![])
        }
        Event::Adopt { .. }
        | Event::Died { .. }
        | Event::Resume { .. }
        | Event::Admitted
        | Event::Refused
        | Event::Prepared
        | Event::NotMade { .. }
        | Event::Health(_)
        | Event::Announced
        | Event::Progress
        | Event::Idle
        | Event::Hung
        | Event::Timer
        | Event::Explained { .. } => (Phase::Stuck { run, then }, vec![]),
    }
}

fn ended(
    life: &mut Life,
    run: RunId,
    stage: Option<StopStage>,
    fault: Option<Fault>,
    then: Then,
    event: Event,
    context: &Context,
) -> Step {
    match event {
        Event::Explained { ended, next } => match then {
            Then::Start(next) => replace(run, next),
            Then::Rest => rest(run),
            Then::Decide(None) => again(life, run, ended, next, context),
            // That we ended it ourselves does not make it a clean end, and another try may do.
            Then::Decide(Some(_)) => {
                let ended = Ended { curable: restart::Curable::Yes, clean: false };
                again(life, run, ended, next, context)
            }
        },
        Event::Start(_) | Event::Restart(_) | Event::Stop | Event::Shutdown => {
            let then = next_of(life, then, event);
            (Phase::Ended { run, stage, fault, then }, vec![])
        }
        Event::Adopt { .. }
        | Event::Died { .. }
        | Event::Resume { .. }
        | Event::Admitted
        | Event::Refused
        | Event::Prepared
        | Event::NotMade { .. }
        | Event::Health(_)
        | Event::Announced
        | Event::Progress
        | Event::Idle
        | Event::Hung
        | Event::Timer
        | Event::Exited => (Phase::Ended { run, stage, fault, then }, vec![]),
    }
}

/// What comes after an end that is under way, now that somebody asked for something else.
fn next_of(life: &mut Life, then: Then, event: Event) -> Then {
    match event {
        Event::Stop | Event::Shutdown => Then::Rest,
        Event::Start(run) | Event::Restart(run)
            if !life.closing && !matches!(then, Then::Start(_)) =>
        {
            life.streak = Streak::default();
            Then::Start(run)
        }
        _ => then,
    }
}

fn fault_of(then: &Then) -> Option<Fault> {
    match then {
        Then::Decide(fault) => *fault,
        Then::Rest | Then::Start(_) => None,
    }
}

fn drain_at_shutdown(context: &Context) -> Duration {
    context.limits.drain.min(LONGEST_DRAIN_AT_SHUTDOWN)
}

/// The policy's decision about an end that nobody asked for.
fn again(life: &mut Life, run: RunId, ended: Ended, next: RunId, context: &Context) -> Step {
    if life.closing || !wants_process(life.desired, false) {
        return rest(run);
    }
    let Limits { restart, restart_limit, .. } = context.limits;
    let (streak, decision) =
        restart::decide(restart, restart_limit, life.streak, ended, context.at, context.jitter);
    life.streak = streak;
    match decision {
        Decision::Again(Duration::ZERO) => replace(run, next),
        Decision::Again(wait) => {
            let gone = Effect::Gone { run, next: Some(next.clone()) };
            (Phase::Backoff { run: next }, vec![gone, Effect::Timer(wait)])
        }
        Decision::GiveUp => (Phase::Failed, vec![Effect::Gone { run, next: None }]),
    }
}

fn queue(run: RunId) -> Step {
    let want = Effect::Want(run.clone());
    (Phase::Queued { run }, vec![want])
}

/// Another run takes a run's place, and gets in line behind those who wait.
fn replace(run: RunId, next: RunId) -> Step {
    let gone = Effect::Gone { run, next: Some(next.clone()) };
    let (phase, mut effects) = queue(next);
    effects.insert(0, gone);
    (phase, effects)
}

fn rest(run: RunId) -> Step {
    (Phase::Stopped, vec![Effect::Gone { run, next: None }])
}

/// A process that was taken over while it loads; what it announced is not known.
fn found_loading(run: RunId, was_ready: bool, context: &Context) -> Step {
    let mut effects = vec![Effect::Timer(context.limits.stall)];
    if was_ready {
        effects.push(Effect::Found { run: run.clone(), loading: true });
    }
    (Phase::Starting { run, answers: true, healthy: false, announced: true }, effects)
}

fn become_ready(run: RunId, asleep: bool) -> Step {
    (Phase::Ready { run, asleep }, vec![Effect::BecameReady])
}

/// Begins to end a server that is ready: politely where requests may be at work.
fn leave(run: RunId, asleep: bool, then: Then, drain: Duration) -> Step {
    if asleep || drain.is_zero() {
        return terminate(run, then);
    }
    let phase = Phase::Stopping { run, stage: StopStage::Draining, then };
    (phase, vec![Effect::Timer(drain)])
}

fn terminate(run: RunId, then: Then) -> Step {
    let phase = Phase::Stopping { run, stage: StopStage::Terminated, then };
    (phase, vec![Effect::Terminate, Effect::Timer(TERM)])
}

/// Its process has ended: finds out why.
fn end(run: RunId, stage: Option<StopStage>, fault: Option<Fault>, then: Then) -> Step {
    let explain = Effect::Explain(run.clone());
    (Phase::Ended { run, stage, fault, then }, vec![Effect::Timer(EXPLANATION), explain])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::core::restart::{Curable, Mode};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// The world outside the machine: whether a process is there, and what it was sent.
    #[derive(Default)]
    struct World {
        process: Option<RunId>,
        killed: bool,
        timer: bool,
        /// Runs that the arbiter was told of.
        tickets: BTreeSet<RunId>,
    }

    const CRASH: Ended = Ended { curable: Curable::Yes, clean: false };

    fn context() -> Context {
        Context { at: Moment::from_secs(1), jitter: 0.5, limits: Limits::default() }
    }

    /// Takes a step and carries out what it says.
    fn take(world: &mut World, life: Life, event: Event) -> Life {
        let before = life.phase.clone();
        let (life, effects) = step(life, event, &context());
        if !before.keeps_timer(&life.phase) {
            world.timer = false;
        }
        for effect in effects {
            match effect {
                Effect::Spawn(run) => {
                    assert_eq!(world.process, None, "a second process");
                    world.process = Some(run);
                    world.killed = false;
                }
                Effect::Kill => world.killed = true,
                Effect::Terminate => assert!(world.process.is_some()),
                Effect::Timer(_) => world.timer = true,
                Effect::Want(run) | Effect::Hold(run) | Effect::Found { run, .. } => {
                    world.tickets.insert(run);
                }
                Effect::Gone { run, next } => {
                    assert!(world.tickets.remove(&run), "{run} is given back, and was never told");
                    world.tickets.extend(next);
                }
                Effect::Loaded(_)
                | Effect::Prepare(_)
                | Effect::Explain(_)
                | Effect::BecameReady => {}
            }
        }
        match &life.phase {
            Phase::Ended { .. } => assert_eq!(world.process, None),
            phase => assert_eq!(phase.run(), world.process.as_ref(), "it knows the process"),
        }
        let held = life.phase.run().or(life.phase.wanted_run());
        assert_eq!(world.tickets.iter().collect::<Vec<_>>(), held.into_iter().collect::<Vec<_>>());
        let waits_for_timer = matches!(
            life.phase,
            Phase::Backoff { .. }
                | Phase::Starting { .. }
                | Phase::Adopting { .. }
                | Phase::Ended { .. }
        ) || life.phase.stage().is_some()
            && !matches!(life.phase, Phase::Stuck { .. } | Phase::Ended { .. })
            || matches!(life.phase, Phase::Ended { .. });
        assert_eq!(world.timer, waits_for_timer, "{:?} has a way out", life.phase);
        life
    }

    fn events() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..20, 0..60)
    }

    /// Plays a history in which the process may end at any moment.
    fn play(history: &[u8]) -> (Life, World) {
        let (mut life, mut world) = (Life::default(), World::default());
        for (index, choice) in history.iter().enumerate() {
            let run = format!("run-{index}");
            let event = match choice {
                0 | 1 => Event::Start(run),
                2 => Event::Stop,
                3 => Event::Restart(run),
                4 => Event::Health(Seen::Loading),
                5 => Event::Health(Seen::Healthy),
                6 => Event::Announced,
                7 => Event::Idle,
                8 if world.timer => Event::Timer,
                9 => Event::Health(Seen::Asleep),
                10 => Event::Health(Seen::Silent),
                11 | 12 => Event::Admitted,
                13 => Event::Progress,
                14 => Event::Hung,
                15 => Event::Prepared,
                16 => Event::Refused,
                17 => {
                    let ended = Ended { curable: Curable::Yes, clean: index % 5 == 0 };
                    Event::Explained { ended, next: run }
                }
                18 => Event::Resume { run, after: Duration::from_secs(1) },
                19 if world.process.is_some() => {
                    world.process = None;
                    Event::Exited
                }
                _ => continue,
            };
            life = take(&mut world, life, event);
        }
        (life, world)
    }

    proptest! {
        #[test]
        fn there_is_never_a_second_process_never_an_unknown_one_and_always_a_way_out(
            history in events(),
        ) {
            play(&history);
        }

        #[test]
        fn a_stop_and_time_alone_lead_to_the_kill(history in events()) {
            let (life, mut world) = play(&history);
            let had_process = world.process.is_some();
            let already = life.phase.stage() == Some(StopStage::Killed);
            world.killed = already;
            let mut life = take(&mut world, life, Event::Stop);
            // Why one ended is found out by a job, and not by time.
            while world.timer && !matches!(life.phase, Phase::Ended { .. }) {
                life = take(&mut world, life, Event::Timer);
            }
            prop_assert!(!had_process || world.killed);
            world.process = None;
            let next = "next".to_owned();
            let life = take(&mut world, life, Event::Exited);
            let life = take(&mut world, life, Event::Explained { ended: CRASH, next });
            prop_assert_eq!(life.phase, Phase::Stopped);
        }

        #[test]
        fn what_was_asked_for_last_wins(history in events(), start in any::<bool>()) {
            let (life, mut world) = play(&history);
            let asked = if start { Event::Start("last".to_owned()) } else { Event::Stop };
            let life = take(&mut world, life, asked);
            prop_assert_eq!(life.phase.wanted_run().is_some(), start);
        }

        #[test]
        fn a_daemon_that_stops_starts_nothing_more(history in events(), later in events()) {
            let (life, mut world) = play(&history);
            let had = world.process.clone();
            let mut life = take(&mut world, life, Event::Shutdown);
            for (index, choice) in later.iter().enumerate() {
                let run = format!("later-{index}");
                let event = match choice % 7 {
                    0 => Event::Start(run),
                    1 => Event::Restart(run),
                    2 => Event::Admitted,
                    3 if world.timer => Event::Timer,
                    4 if world.process.take().is_some() => Event::Exited,
                    5 => Event::Explained { ended: CRASH, next: run },
                    _ => continue,
                };
                life = take(&mut world, life, event);
                prop_assert!(world.process.is_none() || world.process == had);
            }
        }
    }

    fn after(events: impl IntoIterator<Item = Event>) -> Life {
        events.into_iter().fold(Life::default(), |life, event| step(life, event, &context()).0)
    }

    fn run() -> RunId {
        "r".to_owned()
    }

    /// Its process ends, and why is found out.
    fn crash(life: Life, next: &str, context: &Context) -> (Life, Vec<Effect>) {
        let (life, _) = step(life, Event::Exited, context);
        step(life, Event::Explained { ended: CRASH, next: next.to_owned() }, context)
    }

    #[test]
    fn health_alone_does_not_make_it_ready_and_the_announcement_alone_neither() {
        let start = || [Event::Start(run()), Event::Admitted, Event::Prepared];
        let healthy = after(start().into_iter().chain([Event::Health(Seen::Healthy)]));
        assert_eq!(healthy.phase.state(), State::Loading);
        let announced = after(start().into_iter().chain([Event::Announced]));
        assert_eq!(announced.phase.state(), State::Starting);
        for last in [Event::Announced, Event::Timer] {
            let (life, _) = step(healthy.clone(), last, &context());
            assert_eq!(life.phase.state(), State::Ready);
        }
        let (life, _) = step(announced, Event::Health(Seen::Healthy), &context());
        assert_eq!(life.phase.state(), State::Ready);
    }

    #[test]
    fn a_start_during_a_stop_follows_it() {
        let stopping = after([
            Event::Start(run()),
            Event::Admitted,
            Event::Prepared,
            Event::Stop,
            Event::Start("next".to_owned()),
            Event::Start("later".to_owned()),
        ]);
        assert_eq!(stopping.phase.wanted_run().map(String::as_str), Some("next"));
        let (life, effects) = crash(stopping, "policy", &context());
        assert_eq!(life.phase, Phase::Queued { run: "next".to_owned() });
        let next = || "next".to_owned();
        let gone = Effect::Gone { run: run(), next: Some(next()) };
        assert_eq!(effects, [gone, Effect::Want(next())]);
    }

    #[test]
    fn an_end_nobody_asked_for_is_restarted_at_once_then_later_then_not() {
        let ready =
            || [Event::Admitted, Event::Prepared, Event::Announced, Event::Health(Seen::Healthy)];
        let mut life = after([Event::Start(run())]);
        let mut states = Vec::new();
        for failure in 0..5 {
            for event in ready() {
                life = step(life, event, &context()).0;
            }
            assert_eq!(life.phase.state(), State::Ready);
            life = crash(life, &format!("again-{failure}"), &context()).0;
            states.push(life.phase.state());
            life = step(life, Event::Timer, &context()).0;
        }
        let (at_once, later, never) = (State::Queued, State::Backoff, State::Failed);
        assert_eq!(states, [at_once, later, later, later, never]);
        assert_eq!(life.streak.restarts, 4);
        // Somebody acts: the row is over.
        let life = step(life, Event::Start(run()), &context()).0;
        assert_eq!((life.phase.state(), life.streak), (State::Queued, Streak::default()));
    }

    #[test]
    fn one_that_hangs_is_ended_without_a_drain_and_the_policy_decides() {
        let ready = || {
            after([
                Event::Start(run()),
                Event::Admitted,
                Event::Prepared,
                Event::Announced,
                Event::Health(Seen::Healthy),
            ])
        };
        let (life, effects) = step(ready(), Event::Hung, &context());
        assert_eq!(life.phase.fault(), Some(Fault::Hung));
        assert_eq!(effects, [Effect::Terminate, Effect::Timer(TERM)]);
        assert_eq!(crash(life, "x", &context()).0.phase.state(), State::Queued);
        let never =
            Context { limits: Limits { restart: Mode::Never, ..Limits::default() }, ..context() };
        let (life, _) = step(ready(), Event::Hung, &never);
        assert_eq!(crash(life, "x", &never).0.phase, Phase::Failed);
    }

    #[test]
    fn one_that_hangs_soon_after_each_start_is_given_up_though_that_is_noticed_late() {
        let limits = Limits { restart_limit: 2, ..Limits::default() };
        let at = |seconds| Context { at: Moment::from_secs(seconds), limits, ..context() };
        let mut life = after([Event::Start(run())]);
        for started in [1000, 2000] {
            for event in
                [Event::Admitted, Event::Prepared, Event::Announced, Event::Health(Seen::Healthy)]
            {
                life = step(life, event, &at(started)).0;
            }
            life = step(life, Event::Hung, &at(started + 125)).0;
            life = crash(life, "again", &at(started + 130)).0;
        }
        assert_eq!((life.phase, life.streak.failures), (Phase::Failed, 2));
    }

    #[test]
    fn one_that_was_taken_over_has_been_healthy_since_it_was_ready() {
        let ready_at = Some(Moment::from_secs(10));
        let streak = Streak { failures: 4, ready_at, ..Streak::default() };
        let desired = Some(DesiredState::Running);
        let life = Life { streak, desired, ..Life::default() };
        let late = Context { at: Moment::from_secs(100), ..context() };
        let mut life = step(life, Event::Adopt { run: run(), was_ready: true }, &late).0;
        life = step(life, Event::Health(Seen::Healthy), &late).0;
        life = crash(life, "again", &late).0;
        assert_eq!((life.phase.state(), life.streak.failures), (State::Queued, 1));
    }

    #[test]
    fn a_drain_under_way_is_cut_short_by_the_end_of_the_daemon() {
        let limits = Limits { drain: Duration::from_secs(600), ..Limits::default() };
        let patient = Context { limits, ..context() };
        let ready = after([
            Event::Start(run()),
            Event::Admitted,
            Event::Prepared,
            Event::Announced,
            Event::Health(Seen::Healthy),
        ]);
        let (draining, effects) = step(ready, Event::Stop, &patient);
        assert_eq!(effects, [Effect::Timer(limits.drain)]);
        let (life, effects) = step(draining.clone(), Event::Shutdown, &patient);
        assert_eq!(life.phase.stage(), Some(StopStage::Draining));
        assert_eq!(effects, [Effect::Timer(LONGEST_DRAIN_AT_SHUTDOWN)]);
        // One that is nearly over is not made longer.
        let late = Context { at: patient.at + limits.drain - Duration::from_secs(1), ..patient };
        let (_, effects) = step(draining, Event::Shutdown, &late);
        assert_eq!(effects, [Effect::Timer(Duration::from_secs(1))]);
    }

    #[test]
    fn a_load_that_does_not_move_is_ended_and_one_that_does_is_not() {
        let loading = || after([Event::Start(run()), Event::Admitted, Event::Prepared]);
        let (life, _) = step(loading(), Event::Timer, &context());
        assert_eq!(life.phase.fault(), Some(Fault::Stalled));
        let (_, effects) = step(loading(), Event::Progress, &context());
        assert_eq!(effects, [Effect::Timer(Limits::default().stall)]);
    }

    #[test]
    fn a_restart_of_what_is_being_made_ready_begins_a_new_row_of_failures() {
        let mut life = after([Event::Start(run()), Event::Admitted]);
        life.streak.failures = 3;
        let (life, _) = step(life, Event::Restart("next".to_owned()), &context());
        assert_eq!(life.phase, Phase::Queued { run: "next".to_owned() });
        assert_eq!(life.streak, Streak::default());
    }

    #[test]
    fn a_stop_overtakes_what_is_being_made_ready_and_what_is_being_found_out() {
        let preparing = after([Event::Start(run()), Event::Admitted]);
        let (life, effects) = step(preparing, Event::Stop, &context());
        assert_eq!(life.phase, Phase::Stopped);
        assert_eq!(effects, [Effect::Gone { run: run(), next: None }]);
        let (late, effects) = step(life, Event::Prepared, &context());
        assert_eq!((late.phase, effects), (Phase::Stopped, vec![]));
        let ended = after([Event::Start(run()), Event::Admitted, Event::Prepared, Event::Exited]);
        let (life, _) = step(ended, Event::Stop, &context());
        let (life, _) = crash(life, "again", &context());
        assert_eq!(life.phase, Phase::Stopped, "nobody wants it again");
    }

    #[test]
    fn a_load_place_is_given_back_once_and_a_crash_passes_the_running_place_on() {
        let starting = || after([Event::Start(run()), Event::Admitted, Event::Prepared]);
        let (_, effects) = step(starting(), Event::Stop, &context());
        assert_eq!(effects[0], Effect::Loaded(run()));
        let (_, effects) = crash(starting(), "again", &context());
        let again = || "again".to_owned();
        let gone = Effect::Gone { run: run(), next: Some(again()) };
        assert_eq!(effects, [gone, Effect::Want(again())]);
    }
}
