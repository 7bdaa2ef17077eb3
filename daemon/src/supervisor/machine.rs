//! The life of a server as a pure function: `step(phase, event) -> (phase, effects)`.
//!
//! ```text
//!              start                      announced + healthy
//!   Stopped ─────────▶ Starting ─▶ Loading ─────────▶ Ready ◀── Adopting
//!      ▲                   │          │                 │           │
//!      │                   ╰──────────┴───── stop ──────┴───────────╯
//!      │ exited                              ▼
//!      ╰──────────── Stopping: drain ─▶ TERM ─▶ TERM ─▶ KILL ─▶ Stuck
//!                        │ exited, and a start was asked for meanwhile
//!                        ╰──────────────▶ Starting
//!
//!   Starting, Loading, Ready, Adopting ── exited by itself ──▶ Failed
//! ```
//!
//! Invariants, held by the tests below for arbitrary histories:
//! * `Spawn` is only asked for while no process is there, so a model never has two.
//! * From every phase with a process, `stop` and the passing of time alone lead to `KILL`.
//! * A stop overtakes a start that has not begun, and a start overtakes a stop that has not ended:
//!   the last wish wins.
//!
//! Nothing here does I/O or reads a clock: `server.rs` carries the effects out.

use crate::llama::Seen;
use llamactl_protocol::server::State;
use std::time::Duration;

/// How long requests at work may take to end before they are cut.
pub const DRAIN: Duration = Duration::from_secs(5);
/// How long a process has to end after each TERM. An idle llama-server needs 0.1 s; a busy one
/// needs the second TERM, which it obeys at once.
pub const TERM: Duration = Duration::from_secs(2);
/// How long the kernel has to end a killed process before we call it stuck.
pub const KILL: Duration = Duration::from_secs(5);
/// How long `/health` must have been good where the log says nothing (a log level was set, or the
/// wording changed) before the server counts as ready.
pub const UNANNOUNCED: Duration = Duration::from_secs(1);

/// The id of a run.
pub type RunId = String;

/// Where a server is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is no process, as wanted.
    Stopped,
    /// There is no process; the last one ended by itself or could not be made.
    Failed,
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
    /// A process of an earlier daemon was found.
    Adopt(RunId),
    /// The process could not be made.
    SpawnFailed,
    /// `/health` was asked.
    Health(Seen),
    /// The process said that it listens.
    Announced,
    /// No request is at work.
    Idle,
    /// The timer ran out.
    Timer,
    /// The process ended.
    Exited,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
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

impl Phase {
    /// The phase in the words of the wire.
    #[must_use]
    pub fn state(&self) -> State {
        match self {
            Phase::Stopped => State::Stopped,
            Phase::Failed => State::Failed,
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
            Phase::Stopped | Phase::Failed => None,
            Phase::Starting { run, .. }
            | Phase::Ready { run, .. }
            | Phase::Adopting { run }
            | Phase::Stopping { run, .. }
            | Phase::Stuck { run, .. } => Some(run),
        }
    }

    /// The run a caller who wants it to run will get: the present one, or the one that follows
    /// the stop under way.
    #[must_use]
    pub fn wanted_run(&self) -> Option<&RunId> {
        match self {
            Phase::Stopping { then, .. } | Phase::Stuck { then, .. } => match then {
                Then::Start(run) => Some(run),
                Then::Rest => None,
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
}

/// What an event does: the phase after it and what is to be done, in order.
#[must_use]
pub fn step(phase: Phase, event: Event) -> (Phase, Vec<Effect>) {
    use Effect as Do;
    match (phase, event) {
        // Wishes.
        (Phase::Stopped | Phase::Failed, Event::Start(run) | Event::Restart(run)) => spawn(run),
        (Phase::Stopped | Phase::Failed, Event::Stop) => (Phase::Stopped, vec![]),
        (Phase::Stopped | Phase::Failed, Event::Adopt(run)) => (Phase::Adopting { run }, vec![]),
        (Phase::Ready { run, asleep: false }, Event::Stop) => drain(run, Then::Rest),
        (Phase::Ready { run, asleep: false }, Event::Restart(next)) => {
            drain(run, Then::Start(next))
        }
        (
            Phase::Starting { run, .. } | Phase::Adopting { run } | Phase::Ready { run, .. },
            Event::Stop,
        ) => terminate(run, Then::Rest),
        (
            Phase::Starting { run, .. } | Phase::Adopting { run } | Phase::Ready { run, .. },
            Event::Restart(next),
        ) => terminate(run, Then::Start(next)),
        (Phase::Stopping { run, rung, .. }, Event::Stop) => {
            (Phase::Stopping { run, rung, then: Then::Rest }, vec![])
        }
        (
            Phase::Stopping { run, rung, then: Then::Rest },
            Event::Start(next) | Event::Restart(next),
        ) => (Phase::Stopping { run, rung, then: Then::Start(next) }, vec![]),
        (Phase::Stuck { run, .. }, Event::Stop) => (Phase::Stuck { run, then: Then::Rest }, vec![]),
        (Phase::Stuck { run, then: Then::Rest }, Event::Start(next) | Event::Restart(next)) => {
            (Phase::Stuck { run, then: Then::Start(next) }, vec![])
        }

        // Becoming ready.
        (Phase::Starting { run, answers, healthy, announced }, Event::Health(seen)) => match seen {
            Seen::Healthy | Seen::Asleep if announced => ready(run),
            Seen::Healthy | Seen::Asleep => {
                let first = if healthy { vec![] } else { vec![Do::Timer(UNANNOUNCED)] };
                (Phase::Starting { run, answers: true, healthy: true, announced }, first)
            }
            Seen::Loading => {
                (Phase::Starting { run, answers: true, healthy: false, announced }, vec![])
            }
            Seen::Unreachable | Seen::Silent => {
                (Phase::Starting { run, answers, healthy, announced }, vec![])
            }
        },
        (Phase::Starting { run, healthy: true, .. }, Event::Announced | Event::Timer) => ready(run),
        (Phase::Starting { run, answers, healthy, .. }, Event::Announced) => {
            (Phase::Starting { run, answers, healthy, announced: true }, vec![])
        }
        (Phase::Adopting { run }, Event::Health(Seen::Healthy)) => ready(run),
        (Phase::Adopting { run }, Event::Health(Seen::Asleep)) => {
            (Phase::Ready { run, asleep: true }, vec![Do::BecameReady])
        }
        (Phase::Adopting { run }, Event::Health(Seen::Loading)) => {
            (Phase::Starting { run, answers: true, healthy: false, announced: true }, vec![])
        }
        (Phase::Ready { run, .. }, Event::Health(Seen::Healthy)) => {
            (Phase::Ready { run, asleep: false }, vec![])
        }
        (Phase::Ready { run, .. }, Event::Health(Seen::Asleep)) => {
            (Phase::Ready { run, asleep: true }, vec![])
        }

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

        // The end.
        (
            Phase::Stopping { then: Then::Start(next), .. }
            | Phase::Stuck { then: Then::Start(next), .. },
            Event::Exited,
        ) => spawn(next),
        (Phase::Stopping { .. } | Phase::Stuck { .. }, Event::Exited) => (Phase::Stopped, vec![]),
        (
            Phase::Starting { .. } | Phase::Ready { .. } | Phase::Adopting { .. },
            Event::Exited | Event::SpawnFailed,
        ) => (Phase::Failed, vec![]),

        // Everything else says nothing new: a wish that is fulfilled already, a timer or an answer
        // that was overtaken.
        (phase, _) => (phase, vec![]),
    }
}

fn spawn(run: RunId) -> (Phase, Vec<Effect>) {
    let effect = Effect::Spawn(run.clone());
    (Phase::Starting { run, answers: false, healthy: false, announced: false }, vec![effect])
}

fn ready(run: RunId) -> (Phase, Vec<Effect>) {
    (Phase::Ready { run, asleep: false }, vec![Effect::BecameReady])
}

fn drain(run: RunId, then: Then) -> (Phase, Vec<Effect>) {
    let phase = Phase::Stopping { run, rung: Rung::Draining, then };
    (phase, vec![Effect::Timer(DRAIN)])
}

fn terminate(run: RunId, then: Then) -> (Phase, Vec<Effect>) {
    let phase = Phase::Stopping { run, rung: Rung::Terminated, then };
    (phase, vec![Effect::Terminate, Effect::Timer(TERM)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The world outside the machine: whether a process is there, and what it was sent.
    #[derive(Default)]
    struct World {
        process: Option<RunId>,
        spawned: usize,
        killed: bool,
    }

    impl World {
        fn carry_out(&mut self, effects: &[Effect]) {
            for effect in effects {
                match effect {
                    Effect::Spawn(run) => {
                        assert_eq!(self.process, None, "a second process");
                        self.process = Some(run.clone());
                        self.spawned += 1;
                        self.killed = false;
                    }
                    Effect::Kill => self.killed = true,
                    Effect::Terminate => assert!(self.process.is_some()),
                    Effect::Timer(_) | Effect::BecameReady => {}
                }
            }
        }
    }

    fn events() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..12, 0..60)
    }

    /// Plays a history in which the process may end at any moment.
    fn play(history: &[u8]) -> (Phase, World) {
        let (mut phase, mut world) = (Phase::Stopped, World::default());
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
                8 => Event::Timer,
                9 => Event::Health(Seen::Asleep),
                10 => Event::Health(Seen::Silent),
                _ if world.process.is_none() => continue,
                _ => {
                    world.process = None;
                    Event::Exited
                }
            };
            let (next, effects) = step(phase, event);
            world.carry_out(&effects);
            phase = next;
            assert_eq!(phase.run(), world.process.as_ref(), "the phase knows the process");
        }
        (phase, world)
    }

    proptest! {
        #[test]
        fn there_is_never_a_second_process_and_never_an_unknown_one(history in events()) {
            play(&history);
        }

        #[test]
        fn a_stop_and_time_alone_lead_to_the_kill(history in events()) {
            let (phase, mut world) = play(&history);
            let had_process = world.process.is_some();
            world.killed = false;
            let already = phase.rung().is_some_and(|rung| rung == Rung::Killed);
            let (mut phase, effects) = step(phase, Event::Stop);
            world.carry_out(&effects);
            for _ in 0..4 {
                let (next, effects) = step(phase, Event::Timer);
                world.carry_out(&effects);
                phase = next;
            }
            prop_assert!(!had_process || already || world.killed);
            let (phase, _) = step(phase, Event::Exited);
            prop_assert_eq!(phase.run(), None);
        }

        #[test]
        fn the_last_wish_wins(history in events(), start in any::<bool>()) {
            let (phase, mut world) = play(&history);
            let wish = if start { Event::Start("last".to_owned()) } else { Event::Stop };
            let (phase, effects) = step(phase, wish);
            world.carry_out(&effects);
            prop_assert_eq!(phase.wanted_run().is_some(), start);
        }
    }

    fn after(events: impl IntoIterator<Item = Event>) -> Phase {
        events.into_iter().fold(Phase::Stopped, |phase, event| step(phase, event).0)
    }

    fn run() -> RunId {
        "r".to_owned()
    }

    #[test]
    fn health_alone_does_not_make_it_ready_and_the_announcement_alone_neither() {
        let healthy = after([Event::Start(run()), Event::Health(Seen::Healthy)]);
        assert_eq!(healthy.state(), State::Loading);
        let announced = after([Event::Start(run()), Event::Announced]);
        assert_eq!(announced.state(), State::Starting);
        for last in [Event::Announced, Event::Timer] {
            assert_eq!(step(healthy.clone(), last).0.state(), State::Ready);
        }
        assert_eq!(step(announced, Event::Health(Seen::Healthy)).0.state(), State::Ready);
    }

    #[test]
    fn a_start_during_a_stop_follows_it() {
        let stopping = after([
            Event::Start(run()),
            Event::Stop,
            Event::Start("next".to_owned()),
            Event::Start("later".to_owned()),
        ]);
        assert_eq!(stopping.wanted_run().map(String::as_str), Some("next"));
        assert_eq!(step(stopping, Event::Exited).1, [Effect::Spawn("next".to_owned())]);
    }

    #[test]
    fn an_end_nobody_asked_for_is_a_failure() {
        let ready = after([Event::Start(run()), Event::Announced, Event::Health(Seen::Healthy)]);
        assert_eq!(step(ready, Event::Exited).0, Phase::Failed);
        let stopped = after([Event::Start(run()), Event::Stop, Event::Exited]);
        assert_eq!(stopped, Phase::Stopped);
    }
}
