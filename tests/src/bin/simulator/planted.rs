//! Bugs planted on purpose: the simulator is worth as much as the bugs it finds.

use clap::ValueEnum;
use llamactld::llama::Seen;
use llamactld::supervisor::core::machine::{self, Context, Effect, Event, Life, Phase, Rung, Then};
use llamactld::supervisor::core::recovery::{LastRun, Next, Recovery};
use llamactld::supervisor::core::restart::{Curable, Ended};

/// What is made wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bug {
    /// A start during a stop makes a process at once.
    SecondProcess,
    /// No timer runs after the first TERM.
    LostTimer,
    /// A start during a stop is dropped.
    ForgottenStart,
    /// What a restart cannot cure is restarted.
    EndlessRestarts,
    /// Failures in a row are not counted.
    EndlessRow,
    /// A stop during a wait for a restart is ignored.
    RestartAfterStop,
    /// A load that ends in a crash keeps its place.
    KeptPlace,
    /// A model that rests keeps its place among those that run.
    KeptSeat,
    /// A restart of a ready model does nothing.
    IgnoredRestart,
    /// A daemon that stops goes on starting.
    StartAfterShutdown,
    /// What the process says of itself is taken for readiness.
    BelievedAnnouncement,
    /// Whoever answers is taken for the process.
    BelievedStranger,
    /// A load that does not move is waited for for ever.
    PatientLoad,
    /// A stop of the daemon waits as long as the drain may last.
    LongShutdown,
    /// The end of a stop that was followed by a start is taken for a failure of the new run.
    DecidedStart,
    /// The time in which a server hung counts as health.
    HealthyHang,
    /// A server that was taken over counts as healthy from then on only.
    FreshAdoption,
    /// The health of the run that ended is taken for that of the one to come.
    StaleHealth,
    /// A new daemon finds no process.
    BlindDaemon,
    /// A new daemon forgets a restart that was decided.
    ForgottenRestart,
    /// A new daemon takes over what was to be stopped, and leaves it.
    ForgottenStop,
    /// A new daemon takes over what was to be renewed, and leaves it.
    ForgottenRenewal,
    /// A new daemon leaves to the policy what died while it was to be renewed.
    DecidedRenewal,
    /// A new daemon forgets a start that was accepted and not begun.
    ForgottenBeginning,
}

impl Bug {
    /// The real step, with the bug in it.
    pub(crate) fn step(
        this: Option<Bug>,
        life: Life,
        event: Event,
        context: &Context,
    ) -> (Life, Vec<Effect>) {
        let Some(bug) = this else { return machine::step(life, event, context) };
        let before = life.clone();
        let stopping = matches!(before.phase, Phase::Stopping { .. });
        match (bug, event) {
            (Bug::SecondProcess, Event::Start(run)) if stopping => {
                let (life, mut effects) = machine::step(life, Event::Start(run.clone()), context);
                effects.push(Effect::Spawn(run));
                (life, effects)
            }
            (Bug::ForgottenStart, Event::Start(_)) if stopping => (before, vec![]),
            (
                Bug::EndlessRestarts,
                Event::Exited { ended: Ended { curable: Curable::No, clean }, next },
            ) => {
                let ended = Ended { curable: Curable::Yes, clean };
                machine::step(life, Event::Exited { ended, next }, context)
            }
            (Bug::EndlessRow, Event::Exited { ended, next }) => {
                let mut life = life;
                life.streak.failures = 0;
                machine::step(life, Event::Exited { ended, next }, context)
            }
            (Bug::RestartAfterStop, Event::Stop)
                if matches!(before.phase, Phase::Backoff { .. }) =>
            {
                (before, vec![])
            }
            (Bug::IgnoredRestart, Event::Restart(run))
                if matches!(before.phase, Phase::Ready { .. }) =>
            {
                machine::step(life, Event::Start(run), context)
            }
            (Bug::PatientLoad, Event::Timer)
                if matches!(before.phase, Phase::Starting { healthy: false, .. }) =>
            {
                (before, vec![Effect::Timer(context.limits.stall)])
            }
            (Bug::LongShutdown, Event::Shutdown)
                if matches!(before.phase, Phase::Ready { asleep: false, .. }) =>
            {
                let (mut life, effects) = machine::step(life, Event::Stop, context);
                (life.desired, life.closing) = (before.desired, true);
                (life, effects)
            }
            (Bug::BelievedAnnouncement, Event::Announced) => match before.phase {
                Phase::Starting { run, .. } => {
                    let phase = Phase::Ready { run, asleep: false };
                    (Life { phase, ..before }, vec![Effect::BecameReady])
                }
                _ => machine::step(life, Event::Announced, context),
            },
            (Bug::DecidedStart, Event::Exited { ended, next }) => match before.phase {
                Phase::Stopping { run, then: Then::Start(_), .. } => {
                    let phase = Phase::Ready { run, asleep: false };
                    let life = Life { phase, ..before };
                    machine::step(life, Event::Exited { ended, next }, context)
                }
                _ => machine::step(life, Event::Exited { ended, next }, context),
            },
            (Bug::BelievedStranger, Event::Health(Seen::Foreign)) => {
                machine::step(life, Event::Health(Seen::Healthy), context)
            }
            (Bug::StaleHealth, Event::Resume { run, after }) => {
                let (mut life, effects) =
                    machine::step(life, Event::Resume { run, after }, context);
                life.streak = before.streak;
                (life, effects)
            }
            (Bug::HealthyHang, Event::Hung) => {
                let (mut life, effects) = machine::step(life, Event::Hung, context);
                life.streak = before.streak;
                (life, effects)
            }
            (bug, event) => {
                let (mut life, mut effects) = machine::step(life, event, context);
                let first_term = Some(Rung::Terminated);
                if bug == Bug::LostTimer
                    && life.phase.rung() == first_term
                    && before.phase.rung() != first_term
                {
                    effects.retain(|effect| !matches!(effect, Effect::Timer(_)));
                }
                if bug == Bug::StartAfterShutdown {
                    life.closing = false;
                }
                (life, effects)
            }
        }
    }

    /// The real decision of a new daemon, with the bug in it.
    pub(crate) fn recovery(this: Option<Bug>, last: Option<LastRun>, right: Recovery) -> Recovery {
        match (this, right) {
            (Some(Bug::DecidedRenewal), Recovery::Start)
                if last.is_some_and(|last| last.was_made && last.ended_at_ms.is_none()) =>
            {
                Recovery::Died
            }
            (Some(Bug::ForgottenRestart), Recovery::Resume(_))
            | (Some(Bug::ForgottenBeginning), Recovery::Start) => Recovery::Leave,
            (Some(Bug::ForgottenStop), Recovery::Adopt(Next::Stop))
            | (Some(Bug::ForgottenRenewal), Recovery::Adopt(Next::Renew)) => {
                Recovery::Adopt(Next::Keep)
            }
            (_, right) => right,
        }
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
