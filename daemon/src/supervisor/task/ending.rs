//! The end of a process: why, what is written of it, and what the policy makes of it.

use super::{Event, Happening, Live, ServerTask, new_run_id};
use crate::clock::now_ms;
use crate::logs::classify::{self, Exit, Retry, Verdict, classify};
use crate::logs::file::{RunLog, Stream};
use crate::logs::last_lines::tail_lines;
use crate::os::process;
use crate::store::registry::{NewEvent, RunEnd, RunRecord};
use crate::supervisor::core::machine::{Effect, Life, Phase, RunId};
use crate::supervisor::core::restart::{Curable, Ended};
use crate::supervisor::process::{exit_of, marker};
use crate::supervisor::status;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::event::EventKind;
use llamactl_protocol::{Actor, Hint};
use serde_json::{Value, json};
use std::time::UNIX_EPOCH;

/// The end of a run, to be written together with what is decided about it.
pub(super) struct End {
    pub(super) run: RunId,
    pub(super) cause: Cause,
    /// What is said of it in the event.
    pub(super) message: String,
    /// Who wanted it, if somebody did.
    pub(super) stopped_by: Option<Actor>,
}

impl ServerTask {
    /// The process has ended: find out why, write it, go on.
    pub(super) async fn ended(&mut self) {
        let Some(live) = self.live.take() else { return };
        let Live { record, process, observers, log, oom, busy, stopped_by, fault, .. } = live;
        drop(observers);
        let exit = process.reap().await;
        self.context.lifelines.cut(&record.id);
        self.context.end_leftovers(marker(&self.context.registry.id(), &record.id));
        let phase = &self.life.phase;
        let asked = phase.rung().filter(|_| phase.fault().is_none());
        let killed = exit == Exit::Signal(process::Signal::KILL.as_raw());
        let context = classify::Context {
            asked_to_stop: phase.rung().is_some(),
            oom_kill_counted: if killed && phase.rung().is_none() { oom.risen() } else { None },
            was_ready: record.ready_at_ms.is_some(),
        };
        let tail = last_output(&log).await;
        let verdict = classify(exit, &tail, context);
        // One that was just taken over and ends obeys, it may be, a daemon that was cut off while it
        // ended a server that hung: nobody wanted that end.
        let clean = is_clean(exit) && !matches!(phase, Phase::Adopting { .. });
        let ended = Ended { curable: self.curable(&verdict, &record), clean };
        let name = &self.model.name;
        let (cause, message) = match (asked, fault) {
            (Some(rung), _) => {
                let cause = status::stopped_cause(rung, busy, exit);
                let message = format!("{name}: {}", cause.message);
                (cause, message)
            }
            (None, Some(fault)) => {
                let (exit_code, signal) = status::exit_parts(exit);
                let cause = Cause { exit_code, signal, at_ms: now_ms(), ..fault };
                let message = format!("{name} was ended: {}", cause.message);
                (cause, message)
            }
            (None, None) => {
                let cause = cause_of(verdict, exit);
                let message = format!("{name} ended: {}", cause.message);
                (cause, message)
            }
        };
        let stopped_by = asked.map(|_| stopped_by.unwrap_or_else(|| self.by.clone()));
        let end = End { run: record.id, cause, message, stopped_by };
        self.context
            .running
            .send_modify(|all| all.retain(|server| server.model_id != self.model.id));
        let event = Event::Exited { ended, next: new_run_id() };
        self.happen(Happening { event, end: Some(end) }).await;
    }

    /// The process of the last run died while no daemon was there to see it.
    pub(super) async fn died_unwatched(&mut self, record: RunRecord) {
        let context = classify::Context {
            asked_to_stop: false,
            oom_kill_counted: None,
            was_ready: record.ready_at_ms.is_some(),
        };
        let (tail, last_sign) = match self.context.log_of(&record.id) {
            Ok(log) => (last_output(&log).await, last_written_ms(&log).await),
            Err(_) => (Vec::new(), None),
        };
        // Our child still, where this process was another program when it died.
        let pid = record.pid.and_then(|pid| i32::try_from(pid).ok());
        let exit = pid.and_then(process::reap).map_or(Exit::Unknown, exit_of);
        let verdict = classify(exit, &tail, context);
        let curable = self.curable(&verdict, &record);
        let said = verdict.code != CauseCode::ExitUnknown;
        let mut cause = cause_of(verdict, exit);
        if !said {
            cause.code = CauseCode::EndedUnwatched;
            "It ended while no daemon was running, and how is not known."
                .clone_into(&mut cause.message);
            cause.hints = Hint::run("see its log", ["llamactl", "logs", &record.model]).into();
        }
        let message = format!(
            "{} ended while no daemon was running{}: {}",
            self.model.name,
            last_sign.map_or_else(String::new, |at_ms| {
                let ago = now_ms().saturating_sub(at_ms).max(0) / 1000;
                format!(" (its log ends {ago} s ago)")
            }),
            cause.message,
        );
        self.context.admission().take(self.model.id, &self.model.name);
        self.restore_streak(&record);
        self.server.run = Some(status::run(&record));
        let was_ready = record.ready_at_ms.is_some();
        // As if it had been taken over and had ended then.
        self.step(Event::Adopt { run: record.id.clone(), was_ready });
        let ended = Ended { curable, clean: is_clean(exit) };
        let event = Event::Exited { ended, next: new_run_id() };
        let end = End { run: record.id, cause, message, stopped_by: None };
        self.happen(Happening { event, end: Some(end) }).await;
    }

    /// Writes an end together with what was decided about it.
    pub(super) async fn record_end(
        &mut self,
        end: End,
        before: &Phase,
        life: &Life,
        effects: &[Effect],
    ) {
        let End { run, cause, message, stopped_by } = end;
        let wait = effects.iter().find_map(|effect| match effect {
            Effect::Timer(wait) => Some(*wait),
            _ => None,
        });
        let asked = stopped_by.is_some();
        let wait = match &life.phase {
            // Also one that is asked to end and to be made anew: what follows is written too.
            Phase::Queued { .. } => Some(std::time::Duration::ZERO),
            Phase::Backoff { .. } => wait,
            _ => None,
        };
        let wait_ms = wait.map(|wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        let restart_at_ms = wait_ms.map(|wait| cause.at_ms.saturating_add(wait));
        let failures = life.streak.failures;
        let kind = match (&life.phase, asked) {
            (_, true) => EventKind::ServerStopped,
            (Phase::Queued { .. } | Phase::Backoff { .. }, false) => EventKind::ServerBackoff,
            (Phase::Stopped, false) => EventKind::ServerStopped,
            (_, false) => EventKind::ServerFailed,
        };
        let message = match wait {
            _ if asked => message,
            Some(wait) if wait.is_zero() => format!("{message} It is started again at once."),
            Some(wait) => {
                format!("{message} It is started again in {:.1} s.", wait.as_secs_f64())
            }
            None if failures > 1 => {
                format!("{message} That was failure {failures} in a row: it is given up.")
            }
            None => message,
        };
        let by = stopped_by.unwrap_or(Actor::Process);
        let details = json!({
            "from": before.state(),
            "to": life.phase.state(),
            "cause": cause,
            "failures": failures,
            "restart_at_ms": restart_at_ms,
        });
        let event = NewEvent {
            kind,
            model: Some((self.model.id, self.model.name.clone())),
            run_id: Some(run.clone()),
            by,
            message,
            details: Some(details),
        };
        let written = RunEnd {
            at_ms: cause.at_ms,
            cause: cause.clone(),
            failures,
            restarts: life.streak.restarts,
            restart_at_ms,
        };
        self.keep(self.context.registry.put_end(run, written, event).await);
        if !asked {
            self.by = Actor::Policy;
        }
        self.finish_run(cause);
        self.server.restart_at_ms = restart_at_ms;
    }

    /// Clears what is only true of a process.
    fn finish_run(&mut self, cause: Cause) {
        if let Some(run) = &mut self.server.run {
            run.ended_at_ms = Some(cause.at_ms);
        }
        self.server.cause = Some(cause);
        self.server.in_force = None;
        self.server.stage = None;
        self.server.progress_ratio = None;
        self.server.on_cpu = None;
        self.server.device = None;
        self.server.warnings.clear();
    }

    /// Whether starting again can help: another port only where any will do.
    fn curable(&self, verdict: &Verdict, record: &RunRecord) -> Curable {
        let has_fixed_port = self.effective().get("port").is_some_and(Value::is_number);
        match verdict.retry {
            Retry::No => Curable::No,
            Retry::OtherPort if has_fixed_port || record.endpoint.url.is_none() => Curable::No,
            Retry::OtherPort => Curable::Once,
            Retry::Yes | Retry::Limited => Curable::Yes,
        }
    }
}

/// An end that is no failure by itself: an exit with 0, or at a signal that asks for one.
fn is_clean(exit: Exit) -> bool {
    use process::Signal;
    let polite = [Signal::TERM, Signal::INT, Signal::HUP].map(Signal::as_raw);
    match exit {
        Exit::Code(code) => code == 0,
        Exit::Signal(signal) => polite.contains(&signal),
        Exit::Unknown => false,
    }
}

/// A verdict as it is shown.
pub(super) fn cause_of(verdict: Verdict, exit: Exit) -> Cause {
    let (exit_code, signal) = status::exit_parts(exit);
    Cause {
        code: verdict.code,
        message: verdict.message,
        hints: verdict.hints,
        evidence: verdict.evidence,
        exit_code,
        signal,
        at_ms: now_ms(),
    }
}

/// How much of a run's output is read to find out why it ended.
const TAIL_LINES: usize = 200;
const TAIL_BYTES: u64 = 256 << 10;

async fn last_output(log: &RunLog) -> Vec<String> {
    let log = log.clone();
    let read = move || {
        let stdout = tail_lines(&log.path(Stream::Stdout), TAIL_LINES / 4, TAIL_BYTES);
        let stderr = tail_lines(&log.path(Stream::Stderr), TAIL_LINES, TAIL_BYTES);
        let mut lines = stdout.unwrap_or_default();
        lines.extend(stderr.unwrap_or_default());
        lines
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// When a run last wrote anything: it lived then.
async fn last_written_ms(log: &RunLog) -> Option<i64> {
    let paths = Stream::ALL.map(|stream| log.path(stream));
    let read = move || {
        let times = paths.iter().filter_map(|path| std::fs::metadata(path).ok()?.modified().ok());
        let last = times.max()?.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(last.as_millis()).ok()
    };
    tokio::task::spawn_blocking(read).await.ok().flatten()
}
