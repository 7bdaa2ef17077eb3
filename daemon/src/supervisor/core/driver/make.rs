//! From a run that was admitted to its process.

use super::super::machine::{self, Effect, Phase, RunId};
use super::super::restart::{Curable, Ended};
use super::Turn;
use super::action::{Action, EventDraft, Record};
use super::event::Prepared;
use super::run::RunFacts;
use llamactl_protocol::Actor;
use llamactl_protocol::cause::Cause;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::prose::{clause, duration};
use llamactl_protocol::server::State as Shown;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// What was decided about an end, for its record.
pub(super) struct Decided {
    pub(super) restart_at_ms: Option<i64>,
    pub(super) event: EventDraft,
}

impl Turn<'_> {
    pub(super) fn prepared(&mut self, prepared: Prepared) {
        // Overtaken: the run it was for is no more.
        if !matches!(&self.state.life.phase, Phase::Preparing { run } if *run == prepared.run) {
            return;
        }
        let Prepared { run, model, settings, endpoint, is_open, port_before, build_has_devices } =
            prepared;
        let now_ms = self.context.now_ms;
        self.state.run = Some(RunFacts {
            settings,
            overrides: Arc::clone(&self.state.overrides),
            is_open,
            port_before,
            build_has_devices,
            ..RunFacts::planned(run.clone(), model.revision, now_ms)
        });
        // It was read when the job began: what the task was told since is newer, and of the defaults
        // it is told everything.
        if model.revision > self.state.model.revision {
            self.model_changed(model);
        }
        self.state.endpoint = Some(endpoint);
        let (before, effects) = self.advance(machine::Event::Prepared);
        let streak = self.state.life.streak;
        let name = &self.state.model.name;
        let message = match streak.restarts {
            0 => format!("{name}: started"),
            restarts => format!("{name}: started again ({restarts})"),
        };
        let by = self.state.by.clone();
        let event = self.event(EventKind::ServerStarting, by.clone(), message, None, None);
        self.push(Action::Write(Record::Run {
            run,
            demand: self.demand(),
            by,
            started_at_ms: now_ms,
            failures: streak.failures,
            restarts: streak.restarts,
            event,
        }));
        self.show();
        self.follow(&before, effects);
    }

    pub(super) fn spawned(&mut self, id: &RunId, pid: Option<u32>) {
        let at = self.context.at;
        let Some(run) = self.state.run.as_mut().filter(|run| run.id == *id) else { return };
        (run.pid, run.has_process) = (pid, true);
        if !run.was_adopted {
            run.spawned_at = Some(at);
        }
        self.push(Action::Write(Record::Process(id.clone())));
        self.show();
    }

    /// A start that fails before anything is written of it.
    pub(super) fn not_prepared(&mut self, run: &RunId, cause: Cause, curable: Curable) {
        if !matches!(&self.state.life.phase, Phase::Preparing { run: here } if here == run) {
            return;
        }
        let from = self.state.life.phase.state();
        let (before, effects) = self.not_made(curable);
        let cause = Arc::new(cause);
        let message = self.could_not_start(&cause);
        let decided = self.decided(from, &effects, &cause, message, None);
        self.state.cause = Some(Arc::clone(&cause));
        self.state.restart_at_ms = decided.restart_at_ms.filter(|_| self.is_in_backoff());
        let record = match self.state.life.phase {
            Phase::Failed => Record::Refusal { cause, event: decided.event },
            // It is tried again; a daemon after us finds a start that was not begun.
            _ => Record::Event(decided.event),
        };
        self.push(Action::Write(record));
        self.follow(&before, effects);
    }

    pub(super) fn not_spawned(&mut self, run: &RunId, cause: Cause, curable: Curable) {
        if self.state.life.phase.run() != Some(run) {
            return;
        }
        let from = self.state.life.phase.state();
        let (before, effects) = self.not_made(curable);
        let cause = Arc::new(cause);
        let message = self.could_not_start(&cause);
        let decided = self.decided(from, &effects, &cause, message, None);
        self.write_end(run.clone(), cause, decided);
        self.follow(&before, effects);
    }

    fn not_made(&mut self, curable: Curable) -> (Phase, Vec<Effect>) {
        let ended = Ended { curable, clean: false };
        let next = self.context.next_run.clone();
        self.advance(machine::Event::NotMade { ended, next })
    }

    fn could_not_start(&self, cause: &Cause) -> String {
        format!("{} could not be started: {}", self.state.model.name, cause.message)
    }

    pub(super) fn is_in_backoff(&self) -> bool {
        matches!(self.state.life.phase, Phase::Backoff { .. })
    }

    /// The event of a start that was refused.
    pub(super) fn failed_event(&self, cause: &Cause, from: Shown) -> EventDraft {
        let message = self.could_not_start(cause);
        let by = self.state.by.clone();
        self.event(EventKind::ServerFailed, by, message, Some(cause), Some(from))
    }

    /// What was decided about an end that has been stepped through: when it is started again, and
    /// the event that tells of it. `stopped_by`: who wanted it, if somebody did.
    pub(super) fn decided(
        &self,
        from: Shown,
        effects: &[Effect],
        cause: &Cause,
        message: String,
        stopped_by: Option<&Actor>,
    ) -> Decided {
        let timer = effects.iter().find_map(|effect| match effect {
            Effect::Timer(wait) => Some(*wait),
            _ => None,
        });
        let phase = &self.state.life.phase;
        let wait = match phase {
            // Also one that was asked to end and to be made anew: what follows is written too.
            Phase::Queued { .. } => Some(Duration::ZERO),
            Phase::Backoff { .. } => timer,
            _ => None,
        };
        let restart_at_ms = wait.map(|wait| {
            let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            cause.at_ms.saturating_add(wait)
        });
        let failures = self.state.life.streak.failures;
        let kind = match (phase, stopped_by) {
            (_, Some(_)) | (Phase::Stopped, None) => EventKind::ServerStopped,
            (Phase::Queued { .. } | Phase::Backoff { .. }, None) => EventKind::ServerBackoff,
            (_, None) => EventKind::ServerFailed,
        };
        let message = match wait {
            _ if stopped_by.is_some() => message,
            Some(Duration::ZERO) => format!("{}; starts again at once", clause(&message)),
            Some(wait) => {
                let wait = duration(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                format!("{}; starts again in {wait}", clause(&message))
            }
            None if failures > 1 => {
                format!("{}; it is given up, after {failures} failures in a row", clause(&message))
            }
            None => message,
        };
        let details = json!({
            "from": from,
            "to": phase.state(),
            "cause": cause.of_model(&self.state.model.name),
            "failures": failures,
            "restart_at_ms": restart_at_ms,
        });
        let run = self.state.run.as_ref().map(|run| run.id.clone());
        let by = stopped_by.cloned().unwrap_or(Actor::Process);
        Decided { restart_at_ms, event: EventDraft { kind, run, by, message, details } }
    }

    /// Writes an end together with what was decided about it, and clears what is only true of a
    /// process.
    pub(super) fn write_end(&mut self, run: RunId, cause: Arc<Cause>, decided: Decided) {
        let streak = self.state.life.streak;
        let Decided { restart_at_ms, mut event } = decided;
        event.run = Some(run.clone());
        self.push(Action::Write(Record::End {
            run: run.clone(),
            cause: Arc::clone(&cause),
            failures: streak.failures,
            restarts: streak.restarts,
            restart_at_ms,
            event,
        }));
        if let Some(facts) = self.state.run.as_mut().filter(|facts| facts.id == run) {
            facts.ended_at_ms = Some(cause.at_ms);
            facts.has_process = false;
        }
        self.state.cause = Some(cause);
        self.state.in_force = None;
        self.state.progress = (None, None);
        self.state.restart_at_ms = restart_at_ms.filter(|_| self.is_in_backoff());
    }
}
