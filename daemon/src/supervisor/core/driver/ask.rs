//! What clients ask for.

use super::super::machine::{self, Phase};
use super::Turn;
use super::action::{Action, Record, Reply};
use super::event::{Checked, RequestId};
use crate::arbiter::ToArbiter;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::hint::Hint;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::{Desired, DesiredState};
use llamactl_protocol::{Actor, Failure, Kind};
use std::sync::Arc;

impl Turn<'_> {
    /// Somebody wants it to run; `anew`: with a new process, whatever is there.
    pub(super) fn start(
        &mut self,
        request: RequestId,
        overrides: Settings,
        by: Actor,
        checked: Checked,
        anew: bool,
    ) {
        if self.state.life.closing {
            return self.refuse(request, Failure::new(Kind::Stopping, "the daemon is stopping"));
        }
        let phase = &self.state.life.phase;
        // A failure that policy is about to try again is started at once when somebody asks.
        let makes_one =
            anew || phase.wanted_run().is_none() || matches!(phase, Phase::Backoff { .. });
        match checked {
            Checked::Unfit(failure) if makes_one => {
                return self.start_is_unfit(request, overrides, by, failure, anew);
            }
            _ if !makes_one && !self.runs_with(&overrides) => {
                return self.refuse(request, self.runs_otherwise());
            }
            Checked::Unfit(_) | Checked::Fits | Checked::NotNeeded => {}
        }
        if makes_one {
            self.state.overrides = Arc::new(overrides);
        }
        // The process that is there is not what is desired, though a daemon after us finds it. Where
        // there is none, the one to come is.
        let restart_requested = phase.run().is_some() && (anew || ends(phase));
        self.desire(DesiredState::Running, by.clone(), restart_requested);
        let by_before = std::mem::replace(&mut self.state.by, by);
        let next = self.context.next_run.clone();
        let event = if anew { machine::Event::Restart(next) } else { machine::Event::Start(next) };
        let (before, effects) = self.advance(event);
        let changed = before != self.state.life.phase;
        if !changed {
            self.state.by = by_before;
            self.show();
        }
        self.state.waiting.push((request, changed));
        let waits =
            matches!(self.state.life.phase, Phase::Queued { .. }) && self.state.queue.is_none();
        self.follow(&before, effects);
        // Who is to wait is answered with the place in line.
        if !waits {
            self.answer_waiting();
        }
    }

    /// Somebody wants it not to run.
    pub(super) fn stop(&mut self, request: RequestId, by: Actor) {
        self.answer_waiting();
        self.state.overrides = Arc::default();
        self.desire(DesiredState::Stopped, by.clone(), false);
        let by_before = std::mem::replace(&mut self.state.by, by);
        let (before, effects) = self.advance(machine::Event::Stop);
        let changed = before != self.state.life.phase;
        if !changed {
            self.state.by = by_before;
        }
        let run_id = self.state.life.phase.run().cloned();
        self.show();
        self.push(Action::Answer(request, Reply::Accepted { run_id, changed, durable: true }));
        self.follow(&before, effects);
    }

    /// The daemon ends: what is desired stays.
    pub(super) fn shut_down(&mut self, request: RequestId, by: Actor) {
        self.state.by = by;
        self.step(machine::Event::Shutdown);
        self.push(Action::Answer(request, Reply::Begun));
    }

    pub(super) fn remove(&mut self, request: RequestId, by: Actor) {
        if !self.state.life.phase.rests() {
            return self.refuse(request, self.is_running());
        }
        self.push(Action::Write(Record::Removal { by }));
        self.push(Action::Answer(request, Reply::Removed));
        self.push(Action::Ask(ToArbiter::Retire { model: self.state.model.id }));
        self.push(Action::Retire);
    }

    pub(super) fn model_changed(&mut self, model: Arc<Model>) {
        self.take_model(model);
        self.show();
    }

    /// The same, which nobody is shown yet.
    pub(super) fn take_model(&mut self, model: Arc<Model>) {
        // Two changes at once may be told of in the wrong order.
        if model.revision < self.state.model.revision {
            return;
        }
        if model.name != self.state.model.name {
            let name = Arc::from(model.name.as_str());
            self.push(Action::Ask(ToArbiter::Named { model: model.id, name }));
        }
        self.state.model = model;
    }

    /// A start that cannot be: a failure like any other, unless a server runs, which then goes on.
    fn start_is_unfit(
        &mut self,
        request: RequestId,
        overrides: Settings,
        by: Actor,
        failure: Failure,
        anew: bool,
    ) {
        let phase = &self.state.life.phase;
        if !phase.rests() && !matches!(phase, Phase::Backoff { .. }) {
            let name = &self.state.model.name;
            let message = match anew && phase.wanted_run().is_some() {
                true => format!("{name} is not restarted, it runs on: {}", failure.message),
                false => failure.message,
            };
            return self.refuse(request, Failure { message, ..failure });
        }
        self.state.overrides = Arc::new(overrides);
        self.desire(DesiredState::Running, by.clone(), false);
        self.state.by = by;
        self.state.waiting.push((request, true));
        self.refused(Arc::new(cause_of(&failure, self.context.now_ms)), &failure);
    }

    /// Its start was refused before there was a process.
    pub(super) fn refused(&mut self, cause: Arc<Cause>, failure: &Failure) {
        let (before, effects) = self.advance(machine::Event::Refused);
        self.state.cause = Some(Arc::clone(&cause));
        self.state.since_ms = self.context.now_ms;
        self.state.run = None;
        let event = self.failed_event(&cause, before.state());
        self.push(Action::Write(Record::Refusal { cause, event }));
        self.show();
        for (request, _) in std::mem::take(&mut self.state.waiting) {
            self.refuse(request, failure.clone());
        }
        self.follow(&before, effects);
    }

    pub(super) fn refuse(&mut self, request: RequestId, failure: Failure) {
        let failure = failure.of_model(&self.state.model.name);
        self.push(Action::Answer(request, Reply::Refused(failure)));
    }

    /// Notes what is desired, and has it written.
    fn desire(&mut self, state: DesiredState, by: Actor, restart_requested: bool) {
        let desired = Desired { state, by, at_ms: self.context.now_ms };
        self.state.desired = Some(desired.clone());
        let overrides = Arc::clone(&self.state.overrides);
        let record = Record::Desired { desired, restart_requested, overrides };
        self.push(Action::Write(record));
    }

    /// Whether the run that is there, or will be, has these settings over the model's own: a start
    /// that asks for none takes any.
    fn runs_with(&self, overrides: &Settings) -> bool {
        overrides.is_empty() || *self.state.overrides == *overrides
    }

    fn runs_otherwise(&self) -> Failure {
        let name = &self.state.model.name;
        let command = ["llamactl", "restart", name, "--set", "KEY=VALUE"];
        Failure::new(Kind::ModelRunning, format!("{name} runs already, with other settings"))
            .hint(Hint::run("start it anew with these", command))
    }

    fn is_running(&self) -> Failure {
        let (name, state) = (&self.state.model.name, self.state.life.phase.state().as_str());
        Failure::new(Kind::ModelRunning, format!("the server of {name} is {state}"))
            .hint(Hint::run("stop it first", ["llamactl", "stop", name]))
    }
}

/// Whether the process that is there is ending, or has ended.
fn ends(phase: &Phase) -> bool {
    phase.stage().is_some() || matches!(phase, Phase::Ended { .. } | Phase::Stopping { .. })
}

/// The cause of a start that failed before there was a process: it bears the failure's kind.
pub fn cause_of(failure: &Failure, at_ms: i64) -> Cause {
    Cause {
        hints: failure.hints.clone(),
        ..Cause::new(CauseCode::from(failure.kind.name()), failure.message.clone(), at_ms)
    }
}
