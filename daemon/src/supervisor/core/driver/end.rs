//! The end of a process: why, what is written of it, and what the policy makes of it.

use super::super::machine::{self, Phase, RunId, StopStage};
use super::super::restart::{Curable, Ended};
use super::Turn;
use super::action::{Action, Moment};
use super::event::Explanation;
use crate::logs::classify::{self, Class, Exit, Retry, Verdict, classify};
use crate::logs::cures::Subject;
use llamactl_protocol::Actor;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::hint::Hint;
use llamactl_protocol::options::Settings;
use llamactl_protocol::prose::clause;
use llamactl_protocol::server::State as Shown;
use serde_json::Value;
use std::sync::Arc;

/// The signals that ask a process to end, and the one that does not ask.
const HUP: i32 = 1;
const INT: i32 = 2;
const KILL: i32 = 9;
const TERM: i32 = 15;

impl Turn<'_> {
    /// The process has ended: why is found out beside the task.
    pub(super) fn exited(&mut self) {
        self.push(Action::Measure(Moment::Ended));
        self.step(machine::Event::Exited);
    }

    /// Why it ended is known, or will never be.
    pub(super) fn explained(&mut self, id: &RunId, explanation: &Explanation) {
        let Phase::Ended { run, stage, fault, .. } = &self.state.life.phase else { return };
        if run != id {
            return;
        }
        let (stage, fault) = (*stage, *fault);
        if let Some((model, defaults)) = &explanation.now {
            self.take_model(Arc::clone(model));
            self.state.defaults = Arc::clone(defaults);
        }
        let asked = stage.filter(|_| fault.is_none());
        let verdict = self.verdict(explanation, stage);
        // One that was just taken over and ends obeys, it may be, a daemon that was cut off while it
        // ended a server that hung: nobody wanted that end.
        let clean = is_clean(explanation.exit) && self.state.left != Shown::Adopting;
        let ended = Ended { curable: self.curable(&verdict), clean };
        let from = self.state.left;
        let next = self.context.next_run.clone();
        let (cause, message, stopped_by) = self.told(verdict, explanation, asked);
        let run = id.clone();
        let facts = self.state.run.clone();
        let (before, effects) = self.advance(machine::Event::Explained { ended, next });
        let cause = Arc::new(cause);
        let decided = self.decided(from, &effects, &cause, message, stopped_by.as_ref());
        // A run that follows at once is planned already; what is written is of the one that ended.
        let planned = std::mem::replace(&mut self.state.run, facts);
        self.write_end(run, cause, decided);
        if planned.as_ref().is_some_and(|planned| planned.id != *id) {
            self.state.run = planned;
        }
        if stopped_by.is_none() {
            self.state.by = Actor::Policy;
        }
        self.follow(&before, effects);
    }

    fn verdict(&self, explanation: &Explanation, stage: Option<StopStage>) -> Verdict {
        let killed = explanation.exit == Exit::Signal(KILL) && stage.is_none();
        let settings = self.effective();
        let files = companions(&settings);
        let context = classify::Context {
            asked_to_stop: stage.is_some(),
            oom_kill_counted: explanation.oom_kill_counted.filter(|_| killed),
            was_ready: self.state.run.as_ref().is_some_and(|run| run.ready_at_ms.is_some()),
            address_taken: explanation.address_taken,
            files: &files,
            subject: Subject {
                settings: Some(&settings),
                context_length: self.state.model.file.context_length,
            },
        };
        classify(explanation.exit, &explanation.tail, context)
    }

    /// The cause, what is said of it, and who wanted it if somebody did.
    fn told(
        &self,
        verdict: Verdict,
        explanation: &Explanation,
        asked: Option<StopStage>,
    ) -> (Cause, String, Option<Actor>) {
        let name = &self.state.model.name;
        let run = self.state.run.as_ref();
        let (exit_code, signal) = parts(explanation.exit);
        if let Some(stage) = asked {
            let by = run.and_then(|run| run.stopped_by.clone());
            let by = by.unwrap_or_else(|| self.state.by.clone());
            let how = stopped(stage, run.and_then(|run| run.busy));
            let cut = how.strip_prefix(PLAINLY).filter(|it| it.is_empty() || it.starts_with(';'));
            let message = match cut {
                Some(cut) => format!("{name}: stopped{cut}"),
                None => format!("{name}: stopped; {how}"),
            };
            let requested = self.requested(&format!("stopped as asked: {how}"));
            let cause = Cause { exit_code, signal, ..requested };
            return (cause, message, Some(by));
        }
        if let Some(fault) = run.and_then(|run| run.fault.as_deref()) {
            let cause = Cause { exit_code, signal, at_ms: self.context.now_ms, ..fault.clone() };
            let message = format!("{name}: {}", clause(&cause.message));
            return (cause, message, None);
        }
        let unsaid = verdict.class == Class::Unknown && explanation.exit == Exit::Unknown;
        let mut cause = of_verdict(verdict, explanation.exit, self.context.now_ms);
        if !run.is_some_and(|run| run.died_unwatched) {
            let message = format!("{name}: {}", clause(&cause.message));
            return (cause, message, None);
        }
        if unsaid {
            cause.code = CauseCode::EndedUnwatched;
            "It ended while no daemon was running, and how is not known."
                .clone_into(&mut cause.message);
            cause.hints = Hint::run("see its log", ["llamactl", "logs", name]).into();
        }
        let last_sign = explanation.last_written_ms.map_or_else(String::new, |at_ms| {
            let ago = self.context.now_ms.saturating_sub(at_ms).max(0) / 1000;
            format!(" (its log ends {ago} s ago)")
        });
        let message =
            format!("{name} ended while no daemon was running{last_sign}: {}", cause.message);
        (cause, message, None)
    }

    /// Whether starting again can help: another port only where any will do.
    fn curable(&self, verdict: &Verdict) -> Curable {
        let has_fixed_port = self.effective().get("port").is_some_and(Value::is_number);
        let is_on_tcp = self.state.endpoint.as_ref().is_some_and(|endpoint| endpoint.url.is_some());
        match verdict.retry {
            Retry::No => Curable::No,
            Retry::OtherPort if has_fixed_port || !is_on_tcp => Curable::No,
            Retry::OtherPort | Retry::Once => Curable::Once,
            Retry::Yes | Retry::Limited => Curable::Yes,
        }
    }
}

/// The files that go with a model, each with what it means that it cannot be used.
fn companions(settings: &Settings) -> Vec<(CauseCode, String)> {
    let named = [
        ("spec-draft-model", CauseCode::DraftFailed),
        ("mmproj", CauseCode::MmprojFailed),
        ("lora", CauseCode::LoraNotFound),
        ("lora-scaled", CauseCode::LoraNotFound),
    ];
    let mut files = Vec::new();
    for (key, code) in named {
        let values = match settings.get(key) {
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        for value in values.iter().filter_map(Value::as_str) {
            // One with a scale has it behind a colon.
            let path = value.rsplit_once(':').filter(|_| key == "lora-scaled");
            files.push((code.clone(), path.map_or(value, |(path, _)| path).to_owned()));
        }
    }
    files
}

/// An end that is no failure by itself: an exit with 0, or at a signal that asks for one.
fn is_clean(exit: Exit) -> bool {
    match exit {
        Exit::Code(code) => code == 0,
        Exit::Signal(signal) => [TERM, INT, HUP].contains(&signal),
        Exit::Unknown => false,
    }
}

/// The exit code and the signal of an end.
fn parts(exit: Exit) -> (Option<i32>, Option<i32>) {
    match exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
        Exit::Unknown => (None, None),
    }
}

/// A verdict as it is shown.
pub fn of_verdict(verdict: Verdict, exit: Exit, at_ms: i64) -> Cause {
    let (exit_code, signal) = parts(exit);
    Cause {
        hints: verdict.hints,
        evidence: verdict.evidence,
        exit_code,
        signal,
        ..Cause::new(verdict.code, verdict.message, at_ms)
    }
}

/// What a stop that was asked for took, and what it cut.
fn stopped(stage: StopStage, cut: Option<u32>) -> String {
    let how = match stage {
        StopStage::Draining => "it ended while its last requests were waited for",
        StopStage::Terminated => PLAINLY,
        StopStage::TerminatedAgain => "it ended when asked a second time",
        StopStage::Killed => "it did not end when asked and was killed",
    };
    let cut = match cut {
        None | Some(0) => String::new(),
        Some(1) => "; 1 request was cut off".to_owned(),
        Some(count) => format!("; {count} requests were cut off"),
    };
    format!("{how}{cut}")
}

/// A stop that took no more than asking for it.
const PLAINLY: &str = "it ended when asked";
