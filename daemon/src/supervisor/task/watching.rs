//! What is seen of the process.

use super::{Event, Phase, ServerTask};
use crate::clock::now_ms;
use crate::llama::Seen;
use crate::os::process;
use crate::supervisor::core::device;
use crate::supervisor::core::hang::{Hung, Look};
use crate::supervisor::core::machine::RunId;
use crate::supervisor::core::warning;
use crate::supervisor::observe::Observation;
use crate::supervisor::status;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::event::EventKind;
use llamactl_protocol::options::layers;
use llamactl_protocol::warning::{Warning, WarningCode, sort};
use llamactl_protocol::{Actor, Hint, Hints, WirePath};
use std::time::Duration;

/// A ready server that has not answered for so long is said not to.
const SILENCE: Duration = Duration::from_secs(5);

impl ServerTask {
    pub(super) async fn observe(&mut self, seen: Observation) {
        match seen {
            Observation::Health(seen) => self.happen(Event::Health(seen).into()).await,
            Observation::Looked(seen, look) => self.look(seen, look).await,
            Observation::Announced => self.happen(Event::Announced.into()).await,
            Observation::Moved => self.happen(Event::Progress.into()).await,
            Observation::Busy(busy) => {
                if let Some(live) = &mut self.live {
                    live.busy = busy;
                }
                // A server that does not say is not waited for.
                if busy.is_none_or(|busy| busy == 0) {
                    self.happen(Event::Idle.into()).await;
                }
            }
            Observation::Progress { stage, ratio } => {
                if matches!(self.life.phase, Phase::Starting { .. }) {
                    let moved = (&self.server.stage, self.server.progress_ratio) != (&stage, ratio);
                    (self.server.stage, self.server.progress_ratio) = (stage, ratio);
                    self.publish();
                    if moved {
                        self.happen(Event::Progress.into()).await;
                    }
                }
            }
            Observation::InForce(in_force) => {
                self.server.in_force = Some(in_force);
                self.publish();
            }
        }
    }

    /// A ready server was looked at: is it well?
    async fn look(&mut self, seen: Seen, look: Look) {
        let (at, limit) = (self.context.now(), self.limits().hang);
        let Some(live) = &mut self.live else { return };
        if !matches!(self.life.phase, Phase::Ready { .. }) {
            return;
        }
        let hung = live.hang.look(at, look, limit);
        let silent = live.hang.silent_since().map(|since| at.saturating_sub(since));
        let silent = silent.filter(|silent| *silent >= SILENCE).map(|silent| {
            let left_ms = limit.map(|limit| limit.saturating_sub(silent).as_millis());
            let left_ms = left_ms.and_then(|left| i64::try_from(left).ok());
            let until_ms = left_ms.map(|left| now_ms().saturating_add(left));
            warning::not_answering(&self.model.name, until_ms)
        });
        self.warn(WarningCode::NotAnswering, silent);
        match hung {
            Some(hung) => self.hang(hung).await,
            None => self.happen(Event::Health(seen).into()).await,
        }
    }

    async fn hang(&mut self, hung: Hung) {
        let (what, lasted) = match hung {
            Hung::Silent(lasted) => ("It has not answered /health", lasted),
            Hung::Still(lasted) => ("Its requests have not moved", lasted),
        };
        let message = format!("{what} for {} s.", lasted.as_secs());
        let cause = Cause {
            hints: self
                .set_a_longer("if it was only slow, set a longer limit", "hang-timeout=SECONDS")
                .into(),
            evidence: self.process_state().into_iter().collect(),
            ..status::cause(CauseCode::Hung, message)
        };
        self.by = Actor::Policy;
        let text = format!("{} hangs: {}", self.model.name, cause.message);
        self.tell(
            EventKind::ServerHung,
            &Actor::Policy,
            text,
            Some(self.life.phase.state()),
            Some(&cause),
        )
        .await;
        self.fail_by(cause);
        self.happen(Event::Hung.into()).await;
    }

    /// The load has not moved for its limit: says so.
    pub(super) async fn note_stall(&mut self) {
        let stall = self.limits().stall.as_secs();
        let stage = self.server.stage.as_deref().map(|stage| format!(" of {stage}"));
        let done = self.server.progress_ratio.map(|ratio| format!(" at {:.0} %", ratio * 100.0));
        let cause = Cause {
            hints: Hints(vec![
                Hint::to("see whether the disk or the network it loads from is slow or gone"),
                self.set_a_longer("or set a longer limit", "load-stall-timeout=SECONDS"),
            ]),
            evidence: self.process_state().into_iter().collect(),
            ..status::cause(
                CauseCode::Stalled,
                format!(
                    "Its load{}{} has not moved for {stall} s.",
                    stage.unwrap_or_default(),
                    done.unwrap_or_default()
                ),
            )
        };
        self.by = Actor::Policy;
        let text = format!("{} stalls: {}", self.model.name, cause.message);
        self.tell(
            EventKind::ServerStalled,
            &Actor::Policy,
            text,
            Some(self.life.phase.state()),
            Some(&cause),
        )
        .await;
        self.fail_by(cause);
    }

    fn set_a_longer(&self, what_for: &str, limit: &str) -> Hint {
        Hint::run(what_for, ["llamactl", "model", "set", &self.model.name, limit])
    }

    fn fail_by(&mut self, cause: Cause) {
        self.server.cause = Some(cause.clone());
        if let Some(live) = &mut self.live {
            live.fault = Some(cause);
        }
    }

    /// What the system says its process does.
    fn process_state(&self) -> Option<String> {
        let pid = self.live.as_ref()?.process.id().pid;
        let what = match process::state(pid)? {
            'T' | 't' => "stopped by a signal or a debugger",
            'D' => "waiting in the kernel for a disk or a driver",
            'R' => "running",
            'Z' | 'X' => "dead",
            _ => "asleep, waiting for something",
        };
        Some(format!("process {pid} is {what}"))
    }

    /// Shows a warning, or takes it back. One that is shown already stays as it is.
    fn warn(&mut self, code: WarningCode, warning: Option<Warning>) {
        let warnings = &mut self.server.warnings;
        let present = warnings.iter().position(|it| it.code == code);
        match (present, warning) {
            (None, Some(warning)) => {
                warnings.push(warning);
                sort(warnings);
            }
            (Some(place), None) => drop(warnings.remove(place)),
            _ => return,
        }
        self.publish();
    }

    /// Takes in what the driver says a run holds.
    pub(super) async fn weigh(&mut self, run_id: &RunId, bytes: Option<u64>) {
        let Some(live) = &mut self.live else { return };
        if live.record.id != *run_id || live.gpu_memory_bytes == bytes {
            return;
        }
        live.gpu_memory_bytes = bytes;
        self.show_device();
        self.publish();
        self.tell_if_on_cpu().await;
    }

    /// Shows what it computes on, as far as that is known.
    pub(super) fn show_device(&mut self) {
        let Some(live) = &self.live else { return };
        let settings = layers::over(&live.record.settings, &live.record.overrides);
        let asked = device::asks_for_gpu(&settings, live.build_has_devices);
        let verdict = device::judge(asked, live.build_has_devices, live.gpu_memory_bytes);
        self.server.device = verdict.device.map(str::to_owned);
        self.server.on_cpu = verdict.on_cpu;
    }

    /// Warns of a server that is ready and was to use a GPU and does not.
    pub(super) async fn tell_if_on_cpu(&mut self) {
        if !matches!(self.life.phase, Phase::Ready { .. }) {
            return;
        }
        let build_finds_none =
            self.live.as_ref().is_some_and(|live| live.build_has_devices == Some(false));
        let warning = (self.server.on_cpu == Some(true))
            .then(|| warning::on_cpu(&self.model.name, build_finds_none));
        let warned = self.server.warnings.iter().any(|it| it.code == WarningCode::OnCpu);
        if let Some(warning) = warning.as_ref().filter(|_| !warned) {
            let text = format!("{} runs {}", self.model.name, warning.message);
            self.tell(EventKind::ServerOnCpu, &Actor::Policy, text, None, None).await;
        }
        self.warn(WarningCode::OnCpu, warning);
    }

    /// Notes when the run was first ready. One that was taken over was ready long ago, and its
    /// record says when.
    pub(super) fn mark_ready(&mut self) {
        (self.server.stage, self.server.progress_ratio) = (None, None);
        let by_policy = self.by == Actor::Policy;
        let Some(live) = &mut self.live else { return };
        if let Some(since_ms) = live.record.ready_at_ms {
            self.server.since_ms = since_ms;
            return;
        }
        let at_ms = now_ms();
        let elapsed_ms = u64::try_from(live.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // One that was taken over while it loaded began before this daemon did.
        let since_start_ms = u64::try_from(at_ms - live.record.started_at_ms).unwrap_or(0);
        live.record.ready_at_ms = Some(at_ms);
        live.record.load_ms = Some(if live.was_adopted { since_start_ms } else { elapsed_ms });
        live.record.executable = process::executable(live.process.id().pid).map(WirePath);
        live.unrecorded = true;
        self.server.run = Some(status::run(&live.record));
        // Why it had to be started again stays to be read.
        if !by_policy {
            self.server.cause = Some(status::cause(CauseCode::Requested, "started as asked"));
        }
    }

    pub(super) async fn record_ready(&mut self) {
        let Some(live) = &mut self.live else { return };
        if !std::mem::take(&mut live.unrecorded) {
            return;
        }
        let record = &live.record;
        let (Some(at_ms), Some(load_ms)) = (record.ready_at_ms, record.load_ms) else { return };
        let (run, executable) = (record.id.clone(), record.executable.clone());
        let message = format!("{} is ready after {load_ms} ms", self.model.name);
        let event = self.event(EventKind::ServerReady, Some(&run), message, None);
        let put = self.context.registry.put_ready(run, at_ms, load_ms, executable, event);
        self.keep(put.await);
        self.tell_if_on_cpu().await;
    }
}
