//! How a task begins: from what is written of its model, and whether its process was found.

use super::super::machine::{self, Moment};
use super::super::recovery::{self, Next, Recovery};
use super::super::restart::{LONGEST_WAIT, Streak};
use super::action::{Action, Record};
use super::run::RunFacts;
use super::{State, Turn};
use llamactl_protocol::Actor;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::event::EventKind;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::{Desired, Endpoint, State as Shown};
use std::sync::Arc;
use std::time::Duration;

/// Why a run ended that was made in an earlier boot.
const REBOOTED: (CauseCode, &str) = (CauseCode::Rebooted, "the machine was started anew");

/// What the registry knows of a model and its server.
#[derive(Clone, Debug)]
pub struct Written {
    /// The model.
    pub model: Arc<Model>,
    /// The settings for all models.
    pub defaults: Arc<Settings>,
    /// What is desired; `None`: nobody ever said.
    pub desired: Option<Desired>,
    /// It is for another process than the one that was there when it was written.
    pub restart_requested: bool,
    /// What was set for the runs of it alone.
    pub overrides: Arc<Settings>,
    /// Why the last start was refused before there was a process.
    pub refusal: Option<Arc<Cause>>,
    /// The last run.
    pub last: Option<LastRun>,
}

/// The last run of a model, as it is written.
#[derive(Clone, Debug)]
pub struct LastRun {
    /// What is known of it.
    pub facts: RunFacts,
    /// Where it listened.
    pub endpoint: Endpoint,
    /// Why it ended.
    pub cause: Option<Arc<Cause>>,
    /// Failures in a row.
    pub failures: u32,
    /// Restarts by policy since somebody last asked.
    pub restarts: u32,
    /// When policy was to start it again.
    pub restart_at_ms: Option<i64>,
}

/// How a task begins.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// What is written.
    pub written: Written,
    /// The pid of its last run's process, where that is there for certain.
    pub found: Option<u32>,
    /// When this boot began, as far as these records go.
    pub booted_at_ms: i64,
    /// Servers were to end with the daemon before, and one that did not is made anew.
    pub replace: bool,
}

impl State {
    /// A server without a process, from what is written.
    #[must_use]
    pub fn at_rest(written: &Written) -> State {
        let Written { model, defaults, desired, overrides, refusal, last, .. } = written;
        let refused = refusal.clone();
        let cause = refused.or_else(|| last.as_ref().and_then(|last| last.cause.clone()));
        let desired_state = desired.as_ref().map(|desired| desired.state);
        let wants = super::super::demand::wants_process(desired_state, false);
        let has_failed = wants && cause.as_ref().is_some_and(|cause| cause.code.is_failure());
        let phase = if has_failed { machine::Phase::Failed } else { machine::Phase::Stopped };
        let ended_at_ms = match refusal {
            Some(cause) => Some(cause.at_ms),
            None => last.as_ref().and_then(|last| last.facts.ended_at_ms),
        };
        let desired_at_ms = desired.as_ref().map(|desired| desired.at_ms);
        State {
            since_ms: ended_at_ms.or(desired_at_ms).unwrap_or(model.added_at_ms),
            life: machine::Life { phase, desired: desired_state, ..machine::Life::default() },
            by: Actor::Boot,
            cause,
            run: last.as_ref().map(|last| last.facts.clone()),
            endpoint: None,
            queue: None,
            restart_at_ms: None,
            progress: (None, None),
            in_force: None,
            waiting: vec![],
            left: Shown::Stopped,
            model: Arc::clone(model),
            defaults: Arc::clone(defaults),
            overrides: Arc::clone(overrides),
            desired: desired.clone(),
        }
    }

    /// The same before anybody has looked whether its process is there.
    #[must_use]
    pub fn unexamined(written: &Written, booted_at_ms: i64, now_ms: i64) -> State {
        let mut state = State::at_rest(written);
        let beginning =
            Beginning { written: written.clone(), found: None, booted_at_ms, replace: false };
        let Some(last) = &written.last else { return state };
        let run = last.facts.id.clone();
        match beginning.recovery() {
            Recovery::Resume(at_ms) => {
                state.life.phase = machine::Phase::Backoff { run };
                state.restart_at_ms = Some(restart_at_ms(at_ms, now_ms));
            }
            _ if last.facts.ended_at_ms.is_none() => {
                let was_ready = last.facts.ready_at_ms.is_some();
                state.life.phase = machine::Phase::Adopting { run, was_ready };
            }
            _ => {}
        }
        state
    }
}

/// When a start that was to be at `at_ms` will be. A clock that was set since must not make it wait
/// longer than any wait is.
fn restart_at_ms(at_ms: i64, now_ms: i64) -> i64 {
    let longest = LONGEST_WAIT.mul_f64(1.25).as_millis();
    let longest = i64::try_from(longest).unwrap_or(i64::MAX);
    at_ms.clamp(now_ms, now_ms.saturating_add(longest))
}

impl Written {
    /// When this boot began, in Unix milliseconds, as far as these records go: the clock may have
    /// been set since they were written. What bears the id of this boot is of this boot; what bears
    /// another one is not, nor is what was written before it.
    #[must_use]
    pub fn booted_at_ms(&self, booted_at_ms: i64) -> i64 {
        let Some(run) = self.last.as_ref().map(|last| &last.facts) else { return booted_at_ms };
        if run.is_of_this_boot {
            let desired = self.desired.as_ref().map_or(i64::MAX, |desired| desired.at_ms);
            return booted_at_ms.min(run.started_at_ms).min(desired);
        }
        if run.pid.is_none() {
            return booted_at_ms;
        }
        let lived_ms = run.ready_at_ms.unwrap_or(run.started_at_ms);
        booted_at_ms.max(lived_ms.saturating_add(1))
    }
}

impl Beginning {
    fn recovery(&self) -> Recovery {
        let written = &self.written;
        let desired = written.desired.as_ref().map(|desired| recovery::Desired {
            state: desired.state,
            at_ms: desired.at_ms,
            restart_requested: written.restart_requested,
        });
        let last = written.last.as_ref().map(|last| recovery::LastRun {
            started_at_ms: last.facts.started_at_ms,
            was_made: last.facts.pid.is_some(),
            ended_at_ms: last.facts.ended_at_ms,
            restart_at_ms: last.restart_at_ms,
        });
        let refused = written.refusal.is_some();
        recovery::decide(desired, last, refused, self.found.is_some(), self.booted_at_ms)
    }
}

impl Turn<'_> {
    /// Goes on where the last daemon was cut off.
    pub(super) fn begin(&mut self, beginning: Beginning) {
        let recovery = beginning.recovery();
        let Beginning { written, found, booted_at_ms, replace } = beginning;
        self.state = State::at_rest(&written);
        let asked_by = written.desired.as_ref().map(|desired| desired.by.clone());
        let asked_by = asked_by.unwrap_or(Actor::Boot);
        match (recovery, written.last) {
            (Recovery::Adopt(next), Some(last)) => {
                self.adopt(last, found);
                // What the earlier daemon had accepted and not begun.
                match next {
                    Next::Stop => {
                        self.state.by = asked_by;
                        self.step(machine::Event::Stop);
                    }
                    Next::Restart => self.start_anew(asked_by),
                    Next::Keep if replace => self.start_anew(asked_by),
                    Next::Keep => {}
                }
            }
            (Recovery::Died, Some(mut last)) => {
                last.facts.died_unwatched = true;
                self.restore(&last);
                self.step(machine::Event::Died { run: last.facts.id });
            }
            (Recovery::Resume(at_ms), Some(last)) => {
                self.restore(&last);
                self.state.by = Actor::Policy;
                let now_ms = self.context.now_ms;
                let at_ms = restart_at_ms(at_ms, now_ms);
                let after = u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0);
                let (run, after) = (self.context.next_run.clone(), Duration::from_millis(after));
                self.step(machine::Event::Resume { run, after });
                self.state.restart_at_ms = Some(at_ms);
                self.state.cause = last.cause;
            }
            (Recovery::Ended, Some(last)) => {
                let before_boot = written.desired.is_some_and(|it| it.at_ms < booted_at_ms)
                    || last.facts.started_at_ms < booted_at_ms;
                let (code, message) = match before_boot {
                    true => REBOOTED,
                    false => (CauseCode::Requested, "it ended while no daemon was running"),
                };
                self.write_off(&last, Cause::new(code, message, self.context.now_ms), None);
            }
            (Recovery::Start, last) => {
                if let Some(last) = last.filter(|last| last.facts.ended_at_ms.is_none()) {
                    let (code, message) = match last.facts.started_at_ms < booted_at_ms {
                        true => REBOOTED,
                        false => (
                            CauseCode::NeverMade,
                            "the daemon was cut off before it had done what was asked",
                        ),
                    };
                    let cause = Cause::new(code, message, self.context.now_ms);
                    // This daemon may be cut off before it begins, too.
                    self.write_off(&last, cause, Some(self.context.now_ms));
                }
                self.state.by = asked_by;
                self.step(machine::Event::Start(self.context.next_run.clone()));
            }
            _ => {}
        }
        self.show();
    }

    /// Takes over a process that an earlier daemon made.
    fn adopt(&mut self, last: LastRun, pid: Option<u32>) {
        let (id, was_ready) = (last.facts.id.clone(), last.facts.ready_at_ms.is_some());
        let is_unwritten = last.facts.pid.is_none();
        self.restore(&last);
        if let Some(run) = &mut self.state.run {
            (run.was_adopted, run.has_process, run.pid) = (true, true, pid);
        }
        self.push(Action::Attach(id.clone()));
        if is_unwritten {
            // The earlier daemon was cut off between making it and writing that down.
            self.push(Action::Write(Record::Process(id.clone())));
        }
        let cause = Cause::new(
            CauseCode::Adopted,
            "left running by an earlier daemon, and adopted",
            self.context.now_ms,
        );
        self.state.cause = Some(Arc::new(cause));
        self.step(machine::Event::Adopt { run: id, was_ready });
        let message =
            format!("{}: left running by an earlier daemon, and adopted", self.state.model.name);
        self.tell(EventKind::ServerAdopted, Actor::Boot, message, None, None);
    }

    fn start_anew(&mut self, by: Actor) {
        self.state.by = by;
        self.step(machine::Event::Restart(self.context.next_run.clone()));
    }

    /// Brings back what the last daemon knew of a run: it, and the failures in a row.
    fn restore(&mut self, last: &LastRun) {
        let now_ms = self.context.now_ms;
        let healthy = last.facts.ready_at_ms.map(|ready| now_ms.saturating_sub(ready));
        let healthy = healthy.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        let ready_at: Option<Moment> =
            healthy.map(|healthy| self.context.at.saturating_sub(healthy));
        self.state.life.streak =
            Streak { failures: last.failures, restarts: last.restarts, ready_at };
        self.state.run = Some(last.facts.clone());
        self.state.endpoint = Some(last.endpoint.clone());
    }

    /// Ends the record of a run whose process is not there any more.
    fn write_off(&mut self, last: &LastRun, cause: Cause, restart_at_ms: Option<i64>) {
        let message = format!("{}: {}", self.state.model.name, cause.message);
        let mut event =
            self.event(EventKind::ServerStopped, Actor::Boot, message, Some(&cause), None);
        event.run = Some(last.facts.id.clone());
        let cause = Arc::new(cause);
        self.push(Action::Write(Record::End {
            run: last.facts.id.clone(),
            cause: Arc::clone(&cause),
            failures: 0,
            restarts: 0,
            restart_at_ms,
            event,
        }));
        if let Some(run) = &mut self.state.run {
            run.ended_at_ms = Some(cause.at_ms);
        }
        self.state.cause = Some(cause);
    }
}
