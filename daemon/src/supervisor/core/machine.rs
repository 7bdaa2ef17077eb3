//! The life of a server as a pure function: `step(life, event, context) -> (life, effects)`.
//!
//! ```text
//!              start         place free        announced + healthy
//!   Stopped ─────────▶ Queued ─────▶ Starting, Loading ─────────▶ Ready ◀── Adopting
//!      ▲  ▲              ▲  ▲            │                          │          │
//!      │  │              │  ╰── timer ── Backoff ◀── ended unasked, a restart may cure it
//!      │  │              ╰── the first time at once ◀───────────────╯
//!      │  ╰─────── Failed ◀── ended unasked, and it cannot, or too often
//!      │
//!      │ exited                             stop, restart, hung, stalled
//!      ╰──────────── Stopping: drain ─▶ TERM ─▶ TERM ─▶ KILL ─▶ Stuck
//!                        │ exited, and a start was asked for meanwhile, or policy restarts it
//!                        ╰──────────────▶ Queued
//! ```
//!
//! A life is a phase, what is wanted, and the failures in a row. Wishes change what is wanted, and
//! the last one wins; `evict` and `shut down` end a process and leave the wish. A model that is
//! wanted `on_demand` rests until there is a demand, and ends at an eviction: the door for a
//! gateway that starts, queues and evicts.
//!
//! Invariants, held by the tests below and by the simulator for arbitrary histories:
//! * `Spawn` is only asked for while no process is there, so a model never has two.
//! * From every phase with a process, `stop` and the passing of time alone lead to `KILL`.
//! * A stop overtakes a start that has not begun, and a start overtakes a stop that has not ended:
//!   the last wish wins.
//! * Every phase is left by an event that the world will bring: an exit, a timer, a free place.
//!   Only `Stopped` and `Failed` wait for somebody to act.
//! * A change of phase ends the timer that ran; the effects may set a new one.
//!
//! Nothing here does I/O or reads a clock: `server.rs` carries the effects out.

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

/// The id of a run.
pub type RunId = String;

/// Everything the machine knows of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Where it is.
    pub phase: Phase,
    /// What is wanted; `None`: nobody ever said.
    pub desired: Option<DesiredState>,
    /// The failures in a row.
    pub streak: Streak,
    /// The daemon stops: nothing is started any more.
    pub closing: bool,
}

/// Where a server is in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// There is no process, as wanted.
    #[default]
    Stopped,
    /// There is no process; the last one ended by itself or could not be made, and nothing will be
    /// done about it unless somebody acts.
    Failed,
    /// It waits for its turn.
    Queued {
        /// The run it will be.
        run: RunId,
    },
    /// It failed, and the timer will start it again.
    Backoff {
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
        /// What was done about it so far.
        rung: Rung,
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
}

/// What was done to make a process end, in the order it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Waiting for the requests at work.
    Draining,
    /// One TERM.
    Terminated,
    /// Two.
    TerminatedAgain,
    /// KILL.
    Killed,
}

/// What comes after a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Rest,
    /// A new run.
    Start(RunId),
    /// It was ended for what it did: the restart policy decides.
    Decide(Fault),
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
    /// The daemon stops: end it and leave the wish.
    Shutdown,
    /// A process of an earlier daemon was found.
    Adopt {
        /// Its run.
        run: RunId,
        /// It was ready before.
        was_ready: bool,
    },
    /// An earlier daemon had decided to start it again, after this much longer.
    Resume {
        /// The run it will be.
        run: RunId,
        /// How much longer.
        after: Duration,
    },
    /// It is its turn.
    Admitted,
    /// The process could not be made; the id is for the run that may follow.
    SpawnFailed {
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
    Exited {
        /// Whether starting again can help.
        ended: Ended,
        /// For the run that may follow.
        next: RunId,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Get in line for a place; `Admitted` is the answer.
    Queue,
    /// Write the run and make its process.
    Spawn(RunId),
    /// Ask the process to end.
    Terminate,
    /// Kill the process and its group.
    Kill,
    /// Set the one timer, in place of what it was.
    Timer(Duration),
    /// Write that the run is ready.
    BecameReady,
}

/// What a step depends on besides.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Now.
    pub at: Moment,
    /// Random, 0 to 1: restarts are spread by it.
    pub dice: f64,
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
            Phase::Starting { answers: false, .. } => State::Starting,
            Phase::Starting { .. } => State::Loading,
            Phase::Ready { asleep: false, .. } => State::Ready,
            Phase::Ready { .. } => State::Sleeping,
            Phase::Adopting { .. } => State::Adopting,
            Phase::Stopping { .. } => State::Stopping,
            Phase::Stuck { .. } => State::Stuck,
        }
    }

    /// The run whose process is there or being made.
    #[must_use]
    pub fn run(&self) -> Option<&RunId> {
        match self {
            Phase::Stopped | Phase::Failed | Phase::Queued { .. } | Phase::Backoff { .. } => None,
            Phase::Starting { run, .. }
            | Phase::Ready { run, .. }
            | Phase::Adopting { run, .. }
            | Phase::Stopping { run, .. }
            | Phase::Stuck { run, .. } => Some(run),
        }
    }

    /// The run a caller who wants it to run will get: the present one, or the one that is to come.
    #[must_use]
    pub fn wanted_run(&self) -> Option<&RunId> {
        match self {
            Phase::Queued { run } | Phase::Backoff { run } => Some(run),
            Phase::Stopping { then, .. } | Phase::Stuck { then, .. } => match then {
                Then::Start(run) => Some(run),
                Then::Rest | Then::Decide(_) => None,
            },
            other => other.run(),
        }
    }

    /// How far a stop under way has gone.
    #[must_use]
    pub fn rung(&self) -> Option<Rung> {
        match self {
            Phase::Stopping { rung, .. } => Some(*rung),
            Phase::Stuck { .. } => Some(Rung::Killed),
            _ => None,
        }
    }

    /// Why it is being ended, where nobody asked for that.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Phase::Stopping { then: Then::Decide(fault), .. }
            | Phase::Stuck { then: Then::Decide(fault), .. } => Some(*fault),
            _ => None,
        }
    }

    /// Whether it takes a place among those that load.
    #[must_use]
    pub fn loads(&self) -> bool {
        matches!(self, Phase::Starting { .. })
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
            (Phase::Stopping { rung: before, .. }, Phase::Stopping { rung: after, .. }) => {
                before == after
            }
            (Phase::Starting { run: before, .. }, Phase::Starting { run: after, .. }) => {
                before == after
            }
            (before, after) => before == after,
        }
    }
}

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
    let phase = std::mem::take(&mut life.phase);
    let (phase, effects) = match event {
        Event::Start(run) => start(&mut life, phase, run),
        Event::Restart(run) => renew(&mut life, phase, run, context.limits.drain),
        Event::Stop => stop(phase, context.limits.drain),
        Event::Shutdown => shut_down(phase, context.limits.drain),
        Event::Exited { ended, next } | Event::SpawnFailed { ended, next } => {
            end(&mut life, phase, ended, next, context)
        }
        other => carry_on(&life, phase, other, context),
    };
    life.phase = phase;
    if effects.contains(&Effect::BecameReady) {
        // One that was taken over has been ready for longer.
        life.streak.ready_at.get_or_insert(context.at);
    }
    (life, effects)
}

/// Somebody wants it to run.
fn start(life: &mut Life, phase: Phase, run: RunId) -> (Phase, Vec<Effect>) {
    if life.closing {
        return (phase, vec![]);
    }
    match phase {
        Phase::Stopped | Phase::Failed | Phase::Backoff { .. } => {
            life.streak = Streak::default();
            queue(run)
        }
        Phase::Stopping { run: old, rung, then: Then::Rest | Then::Decide(_) } => {
            life.streak = Streak::default();
            (Phase::Stopping { run: old, rung, then: Then::Start(run) }, vec![])
        }
        Phase::Stuck { run: old, then: Then::Rest | Then::Decide(_) } => {
            life.streak = Streak::default();
            (Phase::Stuck { run: old, then: Then::Start(run) }, vec![])
        }
        there => (there, vec![]),
    }
}

/// Somebody wants a new process.
fn renew(life: &mut Life, phase: Phase, next: RunId, drain: Duration) -> (Phase, Vec<Effect>) {
    if life.closing {
        return (phase, vec![]);
    }
    match phase {
        Phase::Starting { .. } | Phase::Adopting { .. } | Phase::Ready { .. } => {
            life.streak = Streak::default();
            leave(phase, Then::Start(next), drain)
        }
        other => start(life, other, next),
    }
}

/// It shall end, and rest.
fn stop(phase: Phase, drain: Duration) -> (Phase, Vec<Effect>) {
    match phase {
        Phase::Stopped | Phase::Failed | Phase::Queued { .. } | Phase::Backoff { .. } => {
            (Phase::Stopped, vec![])
        }
        Phase::Stopping { run, rung, .. } => {
            (Phase::Stopping { run, rung, then: Then::Rest }, vec![])
        }
        Phase::Stuck { run, .. } => (Phase::Stuck { run, then: Then::Rest }, vec![]),
        there => leave(there, Then::Rest, drain),
    }
}

/// It shall end with the daemon, which waits for requests less long than others may.
fn shut_down(phase: Phase, drain: Duration) -> (Phase, Vec<Effect>) {
    let drain = drain.min(LONGEST_DRAIN_AT_SHUTDOWN);
    let drains_already = phase.rung() == Some(Rung::Draining);
    let (phase, mut effects) = stop(phase, drain);
    if drains_already {
        effects.push(Effect::Timer(drain));
    }
    (phase, effects)
}

/// Begins to end the process that is there: politely where requests may be at work.
fn leave(phase: Phase, then: Then, drain: Duration) -> (Phase, Vec<Effect>) {
    match phase {
        Phase::Ready { run, asleep: false } if !drain.is_zero() => {
            let phase = Phase::Stopping { run, rung: Rung::Draining, then };
            (phase, vec![Effect::Timer(drain)])
        }
        Phase::Starting { run, .. } | Phase::Adopting { run, .. } | Phase::Ready { run, .. } => {
            terminate(run, then)
        }
        other => (other, vec![]),
    }
}

/// The process ended, or could not be made.
fn end(
    life: &mut Life,
    phase: Phase,
    ended: Ended,
    next: RunId,
    context: &Context,
) -> (Phase, Vec<Effect>) {
    match phase {
        Phase::Stopping { then, .. } | Phase::Stuck { then, .. } => match then {
            Then::Start(run) => queue(run),
            Then::Rest => (Phase::Stopped, vec![]),
            // That we ended it ourselves does not make it a clean end, and another try may do.
            Then::Decide(_) => {
                let ended = Ended { curable: restart::Curable::Yes, clean: false };
                again(life, ended, next, context)
            }
        },
        Phase::Starting { .. } | Phase::Ready { .. } | Phase::Adopting { .. } => {
            again(life, ended, next, context)
        }
        // There was no process.
        other => (other, vec![]),
    }
}

/// The policy's decision about an end that nobody asked for.
fn again(life: &mut Life, ended: Ended, next: RunId, context: &Context) -> (Phase, Vec<Effect>) {
    if life.closing || life.desired == Some(DesiredState::Stopped) {
        return (Phase::Stopped, vec![]);
    }
    let Limits { restart, restart_limit, .. } = context.limits;
    let (streak, decision) =
        restart::decide(restart, restart_limit, life.streak, ended, context.at, context.dice);
    life.streak = streak;
    match decision {
        Decision::Again(Duration::ZERO) => queue(next),
        Decision::Again(wait) => (Phase::Backoff { run: next }, vec![Effect::Timer(wait)]),
        Decision::GiveUp => (Phase::Failed, vec![]),
    }
}

/// What is no wish and no end.
fn carry_on(life: &Life, phase: Phase, event: Event, context: &Context) -> (Phase, Vec<Effect>) {
    use Effect as Do;
    let stall = context.limits.stall;
    match (phase, event) {
        // Waiting.
        (Phase::Queued { run }, Event::Admitted) => {
            let spawn = Do::Spawn(run.clone());
            let phase = Phase::Starting { run, answers: false, healthy: false, announced: false };
            (phase, vec![Do::Timer(stall), spawn])
        }
        (Phase::Backoff { run }, Event::Timer) => queue(run),
        (Phase::Stopped | Phase::Failed, Event::Resume { run, after }) if !life.closing => {
            (Phase::Backoff { run }, vec![Do::Timer(after)])
        }
        (Phase::Stopped | Phase::Failed, Event::Adopt { run, was_ready }) => {
            (Phase::Adopting { run, was_ready }, vec![Do::Timer(ADOPTION)])
        }

        // Becoming ready.
        (Phase::Starting { run, answers, healthy, announced }, Event::Health(seen)) => match seen {
            Seen::Healthy | Seen::Asleep if announced => ready(run, seen == Seen::Asleep),
            // It says itself that it listens, so it is behind who answers: a wrapper's child.
            Seen::Foreign if announced => ready(run, false),
            Seen::Healthy | Seen::Asleep => {
                let first = if healthy { vec![] } else { vec![Do::Timer(UNANNOUNCED)] };
                (Phase::Starting { run, answers: true, healthy: true, announced }, first)
            }
            Seen::Loading | Seen::Unreachable | Seen::Silent | Seen::Foreign => {
                // It was healthy and is not: it loads after all.
                let back = if healthy { vec![Do::Timer(stall)] } else { vec![] };
                let answers = answers || seen == Seen::Loading;
                (Phase::Starting { run, answers, healthy: false, announced }, back)
            }
        },
        (Phase::Starting { run, healthy: true, .. }, Event::Announced | Event::Timer) => {
            ready(run, false)
        }
        (Phase::Starting { run, answers, healthy, .. }, Event::Announced) => {
            let phase = Phase::Starting { run, answers, healthy, announced: true };
            (phase, vec![Do::Timer(stall)])
        }
        (starting @ Phase::Starting { healthy: false, .. }, Event::Progress) => {
            (starting, vec![Do::Timer(stall)])
        }
        (Phase::Starting { run, healthy: false, .. }, Event::Timer) => {
            terminate(run, Then::Decide(Fault::Stalled))
        }
        (Phase::Adopting { run, .. }, Event::Health(Seen::Healthy)) => ready(run, false),
        (Phase::Adopting { run, .. }, Event::Health(Seen::Asleep)) => ready(run, true),
        (Phase::Adopting { run, .. }, Event::Health(Seen::Loading)) => found_loading(run, stall),
        // It says nothing. One that was ready is looked after as such: then it hangs, if it does.
        (Phase::Adopting { run, was_ready: true }, Event::Timer) => ready(run, false),
        (Phase::Adopting { run, was_ready: false }, Event::Timer) => found_loading(run, stall),

        // Being ready.
        (Phase::Ready { run, .. }, Event::Health(Seen::Healthy)) => {
            (Phase::Ready { run, asleep: false }, vec![])
        }
        (Phase::Ready { run, .. }, Event::Health(Seen::Asleep)) => {
            (Phase::Ready { run, asleep: true }, vec![])
        }
        (Phase::Ready { run, .. }, Event::Hung) => terminate(run, Then::Decide(Fault::Hung)),

        // Stopping.
        (Phase::Stopping { run, rung: Rung::Draining, then }, Event::Idle | Event::Timer) => {
            terminate(run, then)
        }
        (Phase::Stopping { run, rung: Rung::Terminated, then }, Event::Timer) => (
            Phase::Stopping { run, rung: Rung::TerminatedAgain, then },
            vec![Do::Terminate, Do::Timer(TERM)],
        ),
        (Phase::Stopping { run, rung: Rung::TerminatedAgain, then }, Event::Timer) => {
            (Phase::Stopping { run, rung: Rung::Killed, then }, vec![Do::Kill, Do::Timer(KILL)])
        }
        (Phase::Stopping { run, rung: Rung::Killed, then }, Event::Timer) => {
            (Phase::Stuck { run, then }, vec![])
        }

        // Everything else says nothing new: a timer or an answer that was overtaken, a place that
        // is not needed any more.
        (phase, _) => (phase, vec![]),
    }
}

fn queue(run: RunId) -> (Phase, Vec<Effect>) {
    (Phase::Queued { run }, vec![Effect::Queue])
}

/// A process that was taken over while it loads; what it announced is not known.
fn found_loading(run: RunId, stall: Duration) -> (Phase, Vec<Effect>) {
    let phase = Phase::Starting { run, answers: true, healthy: false, announced: true };
    (phase, vec![Effect::Timer(stall)])
}

fn ready(run: RunId, asleep: bool) -> (Phase, Vec<Effect>) {
    (Phase::Ready { run, asleep }, vec![Effect::BecameReady])
}

fn terminate(run: RunId, then: Then) -> (Phase, Vec<Effect>) {
    let phase = Phase::Stopping { run, rung: Rung::Terminated, then };
    (phase, vec![Effect::Terminate, Effect::Timer(TERM)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::core::restart::{Curable, Mode};
    use proptest::prelude::*;

    /// The world outside the machine: whether a process is there, and what it was sent.
    #[derive(Default)]
    struct World {
        process: Option<RunId>,
        killed: bool,
        timer: bool,
    }

    const CRASH: Ended = Ended { curable: Curable::Yes, clean: false };

    fn context() -> Context {
        Context { at: Moment::from_secs(1), dice: 0.5, limits: Limits::default() }
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
                Effect::Queue | Effect::BecameReady => {}
            }
        }
        assert_eq!(life.phase.run(), world.process.as_ref(), "the phase knows the process");
        let waits_for_timer = matches!(
            life.phase,
            Phase::Backoff { .. } | Phase::Starting { .. } | Phase::Adopting { .. }
        ) || life.phase.rung().is_some()
            && !matches!(life.phase, Phase::Stuck { .. });
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
                18 => Event::Resume { run, after: Duration::from_secs(1) },
                19 if world.process.is_some() => {
                    world.process = None;
                    let curable = if index % 3 == 0 { Curable::No } else { Curable::Yes };
                    let ended = Ended { curable, clean: index % 5 == 0 };
                    Event::Exited { ended, next: run }
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
            let already = life.phase.rung() == Some(Rung::Killed);
            world.killed = already;
            let mut life = take(&mut world, life, Event::Stop);
            while world.timer {
                life = take(&mut world, life, Event::Timer);
            }
            prop_assert!(!had_process || world.killed);
            world.process = None;
            let next = "next".to_owned();
            let life = take(&mut world, life, Event::Exited { ended: CRASH, next });
            prop_assert_eq!(life.phase, Phase::Stopped);
        }

        #[test]
        fn the_last_wish_wins(history in events(), start in any::<bool>()) {
            let (life, mut world) = play(&history);
            let wish = if start { Event::Start("last".to_owned()) } else { Event::Stop };
            let life = take(&mut world, life, wish);
            prop_assert_eq!(life.phase.wanted_run().is_some(), start);
        }

        #[test]
        fn a_daemon_that_stops_starts_nothing_more(history in events(), later in events()) {
            let (life, mut world) = play(&history);
            let had = world.process.clone();
            let mut life = take(&mut world, life, Event::Shutdown);
            for (index, choice) in later.iter().enumerate() {
                let run = format!("later-{index}");
                let event = match choice % 6 {
                    0 => Event::Start(run),
                    1 => Event::Restart(run),
                    2 => Event::Admitted,
                    3 if world.timer => Event::Timer,
                    4 if world.process.take().is_some() => Event::Exited { ended: CRASH, next: run },
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

    fn crashed(next: &str) -> Event {
        Event::Exited { ended: CRASH, next: next.to_owned() }
    }

    #[test]
    fn health_alone_does_not_make_it_ready_and_the_announcement_alone_neither() {
        let start = || [Event::Start(run()), Event::Admitted];
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
            Event::Stop,
            Event::Start("next".to_owned()),
            Event::Start("later".to_owned()),
        ]);
        assert_eq!(stopping.phase.wanted_run().map(String::as_str), Some("next"));
        let (life, effects) = step(stopping, crashed("policy"), &context());
        assert_eq!(life.phase, Phase::Queued { run: "next".to_owned() });
        assert_eq!(effects, [Effect::Queue]);
    }

    #[test]
    fn an_end_nobody_asked_for_is_restarted_at_once_then_later_then_not() {
        let ready = || [Event::Admitted, Event::Announced, Event::Health(Seen::Healthy)];
        let mut life = after([Event::Start(run())]);
        let mut states = Vec::new();
        for failure in 0..5 {
            for event in ready() {
                life = step(life, event, &context()).0;
            }
            assert_eq!(life.phase.state(), State::Ready);
            life = step(life, crashed(&format!("again-{failure}")), &context()).0;
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
                Event::Announced,
                Event::Health(Seen::Healthy),
            ])
        };
        let (life, effects) = step(ready(), Event::Hung, &context());
        assert_eq!(life.phase.fault(), Some(Fault::Hung));
        assert_eq!(effects, [Effect::Terminate, Effect::Timer(TERM)]);
        assert_eq!(step(life, crashed("x"), &context()).0.phase.state(), State::Queued);
        let never =
            Context { limits: Limits { restart: Mode::Never, ..Limits::default() }, ..context() };
        let (life, _) = step(ready(), Event::Hung, &never);
        assert_eq!(step(life, crashed("x"), &never).0.phase, Phase::Failed);
    }

    #[test]
    fn one_that_hangs_soon_after_each_start_is_given_up_though_that_is_noticed_late() {
        let limits = Limits { restart_limit: 2, ..Limits::default() };
        let at = |seconds| Context { at: Moment::from_secs(seconds), limits, ..context() };
        let mut life = after([Event::Start(run())]);
        for started in [1000, 2000] {
            for event in [Event::Admitted, Event::Announced, Event::Health(Seen::Healthy)] {
                life = step(life, event, &at(started)).0;
            }
            life = step(life, Event::Hung, &at(started + 125)).0;
            life = step(life, crashed("again"), &at(started + 130)).0;
        }
        assert_eq!((life.phase, life.streak.failures), (Phase::Failed, 2));
    }

    #[test]
    fn one_that_was_taken_over_has_been_healthy_since_it_was_ready() {
        let ready_at = Some(Moment::from_secs(10));
        let streak = Streak { failures: 4, ready_at, ..Streak::default() };
        let life = Life { streak, ..Life::default() };
        let late = Context { at: Moment::from_secs(100), ..context() };
        let mut life = step(life, Event::Adopt { run: run(), was_ready: true }, &late).0;
        for event in [Event::Health(Seen::Healthy), crashed("again")] {
            life = step(life, event, &late).0;
        }
        assert_eq!((life.phase.state(), life.streak.failures), (State::Queued, 1));
    }

    #[test]
    fn a_drain_under_way_is_cut_short_by_the_end_of_the_daemon() {
        let limits = Limits { drain: Duration::from_secs(600), ..Limits::default() };
        let patient = Context { limits, ..context() };
        let ready = after([
            Event::Start(run()),
            Event::Admitted,
            Event::Announced,
            Event::Health(Seen::Healthy),
        ]);
        let (draining, effects) = step(ready, Event::Stop, &patient);
        assert_eq!(effects, [Effect::Timer(limits.drain)]);
        let (life, effects) = step(draining, Event::Shutdown, &patient);
        assert_eq!(life.phase.rung(), Some(Rung::Draining));
        assert_eq!(effects, [Effect::Timer(LONGEST_DRAIN_AT_SHUTDOWN)]);
    }

    #[test]
    fn a_load_that_does_not_move_is_ended_and_one_that_does_is_not() {
        let loading = || after([Event::Start(run()), Event::Admitted]);
        let (life, _) = step(loading(), Event::Timer, &context());
        assert_eq!(life.phase.fault(), Some(Fault::Stalled));
        let (_, effects) = step(loading(), Event::Progress, &context());
        assert_eq!(effects, [Effect::Timer(Limits::default().stall)]);
    }
}
