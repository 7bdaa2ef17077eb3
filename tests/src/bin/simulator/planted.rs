//! Bugs planted on purpose: the simulator is worth as much as the bugs it finds. The driver and the
//! ledger are the daemon's own; a bug changes what they are told, what they know, or what is done of
//! what they say.

use clap::ValueEnum;
use llamactl_protocol::server::DesiredState;
use llamactld::arbiter::{Orders, ToArbiter};
use llamactld::llama::Seen;
use llamactld::supervisor::core::driver::{Action, Beginning, Event, Record, State};
use llamactld::supervisor::core::limits::Limits;
use llamactld::supervisor::core::machine::{Fault, Life, Moment, Phase, StopStage, Then};

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
    /// A load that is over keeps its place.
    KeptPlace,
    /// A model that rests keeps its place among those that run.
    KeptSeat,
    /// The place of a run is not passed on to the one that follows.
    LostPassing,
    /// A run is given back twice.
    GivenBackTwice,
    /// A process that was found is not told to the arbiter.
    UntoldFound,
    /// Who waits for a place that a run gives back is not told.
    SwallowedOrders,
    /// An order for an earlier run is taken for the present one.
    EdgeGrant,
    /// Runs are admitted before everything that runs was found.
    EarlyAdmission,
    /// The arbiter is not told that the daemon ends.
    ForgottenClose,
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
    /// Who watches a process is not told what to look for.
    DeafWatch,
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
    /// Why an earlier run ended is taken for why the present one did.
    StaleExplanation,
    /// What was made ready for an earlier run is taken for the present one.
    StalePreparation,
    /// A client is answered before what it asked for is written.
    AnswerBeforeWrite,
    /// A process is made before its run is written.
    SpawnBeforeWrite,
    /// What could not be written is taken for written.
    IgnoredWriteFailure,
    /// The end of a run is not written.
    LostEnd,
    /// Which process a run has is not written.
    LostProcess,
    /// A client is not answered.
    LostAnswer,
    /// A new daemon finds no process.
    BlindDaemon,
    /// A new daemon forgets a restart that was decided.
    ForgottenRestart,
    /// A new daemon takes a stop for older than the run it was for.
    ForgottenStop,
    /// A new daemon takes over what was to be made anew, and leaves it.
    ForgottenRenewal,
    /// A new daemon leaves to the policy what died while it was to be made anew.
    DecidedRenewal,
    /// A new daemon forgets a start that was accepted and not begun.
    ForgottenBeginning,
}

impl Bug {
    /// What a task is told, and what it knows then.
    pub(crate) fn event(this: Option<Bug>, state: &mut State, event: Event) -> Event {
        let Some(bug) = this else { return event };
        let phase = &mut state.life.phase;
        match (bug, event) {
            (Bug::EndlessRestarts, Event::Explained { run, mut explanation }) => {
                explanation.tail.clear();
                Event::Explained { run, explanation }
            }
            (Bug::EndlessRow, event @ Event::Explained { .. }) => {
                state.life.streak.failures = 0;
                event
            }
            (Bug::IgnoredRestart, Event::Restart { request, overrides, by, checked })
                if matches!(phase, Phase::Ready { .. }) =>
            {
                Event::Start { request, overrides, by, checked }
            }
            (Bug::BelievedAnnouncement, Event::Announced) => {
                if let Phase::Starting { healthy, .. } = phase {
                    *healthy = true;
                }
                Event::Announced
            }
            (Bug::BelievedStranger, Event::Health(Seen::Foreign)) => Event::Health(Seen::Healthy),
            (Bug::PatientLoad, Event::Timer)
                if matches!(phase, Phase::Starting { healthy: false, .. }) =>
            {
                Event::Moved
            }
            (Bug::DecidedStart, event @ Event::Explained { .. }) => {
                if let Phase::Ended { then, .. } = phase
                    && matches!(then, Then::Start(_))
                {
                    *then = Then::Decide(None);
                }
                event
            }
            (Bug::StaleExplanation, Event::Explained { run, explanation }) => {
                let run = if let Phase::Ended { run, .. } = phase { run.clone() } else { run };
                Event::Explained { run, explanation }
            }
            (Bug::StalePreparation, Event::Prepared(mut prepared)) => {
                if let Phase::Preparing { run } = phase {
                    prepared.run.clone_from(run);
                }
                Event::Prepared(prepared)
            }
            (Bug::EdgeGrant, Event::Orders(mut orders)) => {
                if let (Phase::Queued { run }, Some(admit)) = (phase, &mut orders.admit) {
                    admit.clone_from(run);
                }
                Event::Orders(orders)
            }
            (_, event) => event,
        }
    }

    /// What a task knows after an event.
    pub(crate) fn patch(self, left: &Life, event: &Event, state: &mut State) {
        let life = &mut state.life;
        match (self, event) {
            (Bug::ForgottenStart, Event::Start { .. })
                if matches!(left.phase, Phase::Stopping { .. }) =>
            {
                life.phase = left.phase.clone();
            }
            (Bug::RestartAfterStop, Event::Stop { .. })
                if matches!(left.phase, Phase::Backoff { .. }) =>
            {
                life.phase = left.phase.clone();
            }
            (Bug::StartAfterShutdown, _) => life.closing = false,
            (Bug::HealthyHang, Event::Looked { .. }) if life.phase.fault() == Some(Fault::Hung) => {
                life.streak = left.streak;
            }
            (Bug::FreshAdoption, Event::Begin(_))
                if matches!(life.phase, Phase::Adopting { .. }) =>
            {
                life.streak.ready_at = None;
            }
            (Bug::StaleHealth, Event::Begin(_)) if matches!(life.phase, Phase::Backoff { .. }) => {
                life.streak.ready_at = Some(Moment::ZERO);
            }
            _ => {}
        }
    }

    /// What is done in place of an action. `held` is what is to be done later.
    pub(crate) fn actions(
        self,
        before: &Phase,
        state: &State,
        action: &Action,
        held: &mut Option<Action>,
    ) -> Vec<Action> {
        let life = &state.life;
        let this = || action.clone();
        match (self, action) {
            (Bug::SecondProcess, Action::Write(Record::Desired { desired, .. }))
                if desired.state == DesiredState::Running =>
            {
                let run = before.run().filter(|_| matches!(before, Phase::Stopping { .. }));
                [this()].into_iter().chain(run.cloned().map(Action::Spawn)).collect()
            }
            (Bug::LostTimer, Action::Timer(Some(_)))
                if life.phase.stage() == Some(StopStage::Terminated)
                    && before.stage() != life.phase.stage() =>
            {
                vec![]
            }
            (Bug::RestartAfterStop, Action::Timer(None) | Action::Ask(ToArbiter::Gone { .. }))
                if matches!((before, &life.phase), (Phase::Backoff { .. }, Phase::Stopped)) =>
            {
                vec![]
            }
            (Bug::KeptPlace, Action::Ask(ToArbiter::Loaded { .. }))
            | (Bug::KeptSeat, Action::Ask(ToArbiter::Gone { next: None, .. }))
            | (Bug::LostPassing, Action::Ask(ToArbiter::Gone { next: Some(_), .. }))
            | (Bug::UntoldFound, Action::Ask(ToArbiter::Found { .. }))
            | (Bug::DeafWatch, Action::Observe(_))
            | (Bug::LostEnd, Action::Write(Record::End { .. }))
            | (Bug::LostProcess, Action::Write(Record::Process(_)))
            | (Bug::LostAnswer, Action::Answer(..)) => vec![],
            (Bug::GivenBackTwice, Action::Ask(ToArbiter::Gone { .. })) => vec![this(), this()],
            (Bug::LongShutdown, Action::Timer(Some(_)))
                if life.closing && life.phase.stage() == Some(StopStage::Draining) =>
            {
                vec![Action::Timer(Some(Limits::of(&state.model.settings).drain))]
            }
            (Bug::AnswerBeforeWrite, Action::Write(Record::Desired { .. }))
            | (Bug::SpawnBeforeWrite, Action::Write(Record::Run { .. })) => {
                *held = Some(this());
                vec![]
            }
            (Bug::AnswerBeforeWrite, Action::Answer(..))
            | (Bug::SpawnBeforeWrite, Action::Spawn(_)) => {
                [this()].into_iter().chain(held.take()).collect()
            }
            _ => vec![this()],
        }
    }

    /// Whether the arbiter hears this.
    pub(crate) fn is_heard(this: Option<Bug>, message: &ToArbiter) -> bool {
        !(this == Some(Bug::ForgottenClose) && *message == ToArbiter::Close)
    }

    /// What is told of what the arbiter ordered; `frees`: because a run was given back.
    pub(crate) fn orders(this: Option<Bug>, frees: bool, news: &mut Vec<(i64, Orders)>) {
        if this == Some(Bug::SwallowedOrders) && frees {
            news.clear();
        }
    }

    /// What a new task reads and finds.
    pub(crate) fn beginning(this: Option<Bug>, mut beginning: Beginning) -> Beginning {
        let Some(bug) = this else { return beginning };
        let found = beginning.found.is_some();
        let written = &mut beginning.written;
        let mut last = written.last.as_mut();
        match bug {
            Bug::BlindDaemon => beginning.found = None,
            Bug::ForgottenRestart => {
                if let Some(last) = last {
                    last.restart_at_ms = None;
                }
            }
            Bug::ForgottenStop => {
                if let Some(desired) = &mut written.desired
                    && desired.state == DesiredState::Stopped
                {
                    desired.at_ms = 0;
                }
            }
            Bug::ForgottenRenewal if found => written.restart_requested = false,
            Bug::DecidedRenewal
                if !found && last.as_mut().is_some_and(|it| it.facts.pid.is_some()) =>
            {
                written.restart_requested = false;
            }
            Bug::ForgottenBeginning => {
                let ended = last.and_then(|last| last.facts.ended_at_ms);
                match (&mut written.desired, ended) {
                    (Some(desired), Some(ended)) => desired.at_ms = desired.at_ms.min(ended - 1),
                    (desired, None) if written.last.is_none() => *desired = None,
                    _ => {}
                }
            }
            _ => {}
        }
        beginning
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
