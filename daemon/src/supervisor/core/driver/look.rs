//! What is seen of a process.

use super::super::device;
use super::super::hang::{Hung, Look};
use super::super::machine::{self, Phase, RunId};
use super::Turn;
use super::action::{Action, Moment, Record};
use super::run::Silence;
use crate::llama::Seen;
use llamactl_protocol::Actor;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::event::EventKind;
use llamactl_protocol::hint::Hint;
use llamactl_protocol::prose;
use std::sync::Arc;
use std::time::Duration;

/// A ready server that has not answered for so long is said not to.
const SILENCE: Duration = Duration::from_secs(5);

impl Turn<'_> {
    /// A ready server was looked at: is it well?
    pub(super) fn looked(&mut self, seen: Seen, look: Look, process_state: Option<char>) {
        if !matches!(self.state.life.phase, Phase::Ready { .. }) {
            return;
        }
        let (at, limit) = (self.context.at, self.limits().hang);
        let Some(run) = &mut self.state.run else { return };
        let hung = run.hang.look(at, look, limit);
        let silent = run.hang.silent_since().map(|since| at.saturating_sub(since));
        let silent = silent.filter(|silent| *silent >= SILENCE);
        // Said once, when it begins: how long is left does not change by looking.
        let changes = run.silence.is_some() != silent.is_some();
        if changes {
            let now_ms = self.context.now_ms;
            let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
            run.silence = silent.map(|silent| Silence {
                since_ms: now_ms.saturating_sub(ms(silent)),
                until_ms: limit.map(|it| now_ms.saturating_add(ms(it.saturating_sub(silent)))),
            });
        }
        let first_answer = look.working == Some(true) && !run.has_answered;
        run.has_answered |= first_answer;
        if changes {
            self.show();
        }
        if first_answer {
            self.push(Action::Measure(Moment::Answered));
        }
        match hung {
            Some(hung) => self.hang(hung, process_state),
            None => self.step(machine::Event::Health(seen)),
        }
    }

    fn hang(&mut self, hung: Hung, process_state: Option<char>) {
        let (what, lasted) = match hung {
            Hung::Silent(lasted) => ("It has not answered /health", lasted),
            Hung::Still(lasted) => ("Its requests have not moved", lasted),
        };
        let message = format!("{what} for {} s.", lasted.as_secs());
        let hint = "if it was only slow, give it longer";
        let limit = format!("hang-timeout={}", lasted.as_secs() * 2);
        let cause = self.fault(CauseCode::Hung, message, hint, &limit, process_state);
        let text = format!("{} hangs: {}", self.state.model.name, cause.message);
        self.end_for(EventKind::ServerHung, cause, text);
        self.step(machine::Event::Hung);
    }

    /// The timer ran out: of a load that does not move, of a wait, of a stage of a stop.
    pub(super) fn time_out(&mut self) {
        match &self.state.life.phase {
            // What it was doing is the evidence.
            Phase::Starting { healthy: false, .. } => {
                self.stall();
                self.step(machine::Event::Timer);
            }
            Phase::Ended { run, .. } => {
                let run = run.clone();
                self.explained(&run, &super::Explanation::default());
            }
            _ => self.step(machine::Event::Timer),
        }
    }

    fn stall(&mut self) {
        let stall = self.limits().stall.as_secs();
        let (stage, ratio) = &self.state.progress;
        let stage = stage.as_deref().map(|stage| format!(" of {stage}")).unwrap_or_default();
        let done = ratio.map(|ratio| format!(" at {:.0} %", ratio * 100.0)).unwrap_or_default();
        let message = format!("Its load{stage}{done} has not moved for {stall} s.");
        let hint = "if the disk or the network it loads from is only slow, give it longer";
        let state = self.context.process_state;
        let limit = format!("load-stall-timeout={}", stall * 2);
        let cause = self.fault(CauseCode::Stalled, message, hint, &limit, state);
        let text = format!("{} stalls: {}", self.state.model.name, cause.message);
        self.end_for(EventKind::ServerStalled, cause, text);
    }

    /// Why it is ended though nobody wanted that.
    fn fault(
        &self,
        code: CauseCode,
        message: String,
        hint: &str,
        limit: &str,
        process_state: Option<char>,
    ) -> Cause {
        let command = ["llamactl", "model", "set", "NAME", limit];
        Cause {
            hints: Hint::run(hint, command).into(),
            evidence: self.process_does(process_state).into_iter().collect(),
            ..Cause::new(code, message, self.context.now_ms)
        }
    }

    /// It is ended for a reason of ours, which is told now and is the cause of its end later.
    fn end_for(&mut self, kind: EventKind, cause: Cause, message: String) {
        self.state.by = Actor::Policy;
        let cause = Arc::new(cause);
        let from = self.state.life.phase.state();
        self.tell(kind, Actor::Policy, message, Some(&cause), Some(from));
        if let Some(run) = &mut self.state.run {
            run.fault = Some(Arc::clone(&cause));
        }
        self.state.cause = Some(cause);
    }

    /// What the system says its process does.
    fn process_does(&self, state: Option<char>) -> Option<String> {
        let pid = self.state.run.as_ref()?.pid?;
        let what = match state? {
            'T' | 't' => "stopped by a signal or a debugger",
            'D' => "waiting in the kernel for a disk or a driver",
            'R' => "running",
            'Z' | 'X' => "dead",
            _ => "asleep, waiting for something",
        };
        Some(format!("process {pid} is {what}"))
    }

    pub(super) fn progress(&mut self, stage: Option<String>, ratio: Option<f64>) {
        if !matches!(self.state.life.phase, Phase::Starting { .. }) {
            return;
        }
        let now = (stage, ratio);
        if self.state.progress != now {
            self.state.progress = now;
            self.show();
            self.step(machine::Event::Progress);
        }
    }

    pub(super) fn busy(&mut self, busy: Option<u32>) {
        if let Some(run) = &mut self.state.run {
            run.busy = busy;
        }
        // A server that does not say is not waited for.
        if busy.is_none_or(|busy| busy == 0) {
            self.step(machine::Event::Idle);
        }
    }

    /// Takes in what the driver says a run holds.
    pub(super) fn gpu_memory(&mut self, id: &RunId, bytes: Option<u64>) {
        let Some(run) = self.state.run.as_mut().filter(|run| run.id == *id) else { return };
        if !run.has_process || run.gpu_memory_bytes == bytes {
            return;
        }
        run.gpu_memory_bytes = bytes;
        self.show();
        self.tell_if_on_cpu();
    }

    /// Tells of a server that is ready and was to use a GPU and does not.
    pub(super) fn tell_if_on_cpu(&mut self) {
        let is_ready = matches!(self.state.life.phase, Phase::Ready { .. });
        let Some(run) = self.state.run.as_mut().filter(|_| is_ready) else { return };
        let on_cpu = device::of_run(run).on_cpu == Some(true);
        let was_told = std::mem::replace(&mut run.told_on_cpu, on_cpu);
        if on_cpu && !was_told {
            let text = format!("{} runs {}", self.state.model.name, device::on_cpu(run));
            self.tell(EventKind::ServerOnCpu, Actor::Policy, text, None, None);
        }
    }

    /// Notes when the run was first ready. One that was taken over was ready long ago, and its
    /// record says when.
    pub(super) fn became_ready(&mut self) {
        self.state.progress = (None, None);
        let (at, now_ms) = (self.context.at, self.context.now_ms);
        let by_policy = self.state.by == Actor::Policy;
        let Some(run) = &mut self.state.run else { return };
        if let Some(since_ms) = run.ready_at_ms {
            self.state.since_ms = since_ms;
            return;
        }
        // One that was taken over while it loaded began before this daemon did.
        let took_ms = match run.spawned_at {
            Some(spawned) => u64::try_from(at.saturating_sub(spawned).as_millis()).ok(),
            None => u64::try_from(now_ms.saturating_sub(run.started_at_ms)).ok(),
        };
        run.ready_at_ms = Some(now_ms);
        run.load_ms = Some(took_ms.unwrap_or(0));
        // Why it had to be started again stays to be read.
        if !by_policy {
            self.state.cause = Some(Arc::new(self.requested("started as asked")));
        }
    }

    /// Writes that it is ready, before anybody sees it: who waits for it reads the times beside it,
    /// and finds them again after the daemon was killed.
    pub(super) fn write_ready(&mut self) {
        let Some(run) = &self.state.run else { return };
        let is_new = run.ready_at_ms == Some(self.context.now_ms);
        if let (true, Some(load_ms)) = (is_new, run.load_ms) {
            let (id, name) = (run.id.clone(), &self.state.model.name);
            let message = format!("{name}: ready after {}", prose::duration(load_ms));
            let by = self.state.by.clone();
            let event = self.event(EventKind::ServerReady, by, message, None, None);
            let at_ms = self.context.now_ms;
            self.push(Action::Write(Record::Ready { run: id, at_ms, load_ms, event }));
            self.push(Action::Measure(Moment::Ready));
        }
        self.tell_if_on_cpu();
    }
}
