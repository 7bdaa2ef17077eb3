//! What clients ask for, and what they may rely on from then on.

use crate::model::{Model, Promise};
use crate::process::{Luck, Ms};
use crate::task::{Task, somebody};
use crate::world::{Ends, Request, World, milliseconds};
use llamactl_protocol::options::Settings;
use llamactl_protocol::{Actor, Failure, Kind};
use llamactld::arbiter::ToArbiter;
use llamactld::supervisor::core::driver::{Checked, Event, RequestId};
use llamactld::supervisor::core::machine::{self, Phase};
use std::sync::Arc;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Start,
    Stop,
    Restart,
    Remove,
    Shutdown,
}

impl World {
    /// Somebody asks a model's task.
    pub(crate) fn ask(&mut self, at: usize, ask: Ask, by: Actor) {
        let Some(daemon) = &self.daemon else { return };
        // A daemon that stops refuses; one ask in three was let in just before it was told to.
        if daemon.ends.is_some() && ask != Ask::Shutdown && self.rng.u8(0..3) != 0 {
            return;
        }
        let request = self.expect(ask);
        let overrides = Settings::new();
        let event = match ask {
            Ask::Start => {
                let checked = self.checked(at, false);
                Event::Start { request, overrides, by, checked }
            }
            Ask::Restart => {
                let checked = self.checked(at, true);
                Event::Restart { request, overrides, by, checked }
            }
            Ask::Stop => Event::Stop { request, by },
            Ask::Remove => Event::Remove { request, by },
            Ask::Shutdown => Event::Shutdown { request, by },
        };
        self.send(at, event);
    }

    fn expect(&mut self, ask: Ask) -> RequestId {
        self.next_request += 1;
        if let Some(daemon) = &mut self.daemon {
            daemon.requests.insert(self.next_request, Request { ask, written: false });
        }
        self.next_request
    }

    /// Whether a start is possible, as it is looked at before the task is asked.
    fn checked(&mut self, at: usize, always: bool) -> Checked {
        let model = &self.models[at];
        let phase = model.task.as_ref().and_then(Task::phase);
        let is_there = phase.is_some_and(|phase| {
            !phase.rests() && !matches!(phase, Phase::Backoff { .. }) && phase.stage().is_none()
        });
        match model.luck {
            _ if is_there && !always => Checked::NotNeeded,
            Luck::Unfit if self.rng.u8(0..4) != 0 => {
                Checked::Unfit(Failure::new(Kind::RuntimeNotFound, "the runtime is gone"))
            }
            _ => Checked::Fits,
        }
    }

    /// The model gets other settings.
    pub(crate) fn set(&mut self, at: usize, settings: Settings) {
        let model = &mut self.models[at];
        model.registry.set(settings);
        let now = Event::Model(Arc::clone(&model.registry.model));
        if model.task.is_some() {
            self.send(at, now);
        }
    }

    /// The daemon ends: it stops its servers first, or leaves them to the next one.
    pub(crate) fn shut_down(&mut self, keeps: bool) {
        let leaves = self.now + self.rng.u64(0..40);
        let Some(daemon) = &mut self.daemon else { return };
        if daemon.ends.is_some() {
            return;
        }
        let stages = machine::LONGEST_DRAIN_AT_SHUTDOWN + machine::TERM * 2 + machine::KILL;
        daemon.ends = Some(match keeps {
            true => Ends { keeps, by: leaves },
            false => Ends { keeps, by: self.now + milliseconds(stages) + 1_000 },
        });
        self.say(|| "the daemon is told to end".to_owned());
        self.tell(None, ToArbiter::Close);
        for at in 0..self.models.len() {
            if !keeps && self.models[at].task.is_some() {
                self.ask(at, Ask::Shutdown, somebody());
            }
        }
    }

    /// A daemon that stops ends as soon as everything rests.
    pub(crate) fn end_if_closed(&mut self) {
        let Some(Ends { keeps: false, .. }) = self.daemon.as_ref().and_then(|it| it.ends) else {
            return;
        };
        let rests = |phase: &Phase| phase.rests() || matches!(phase, Phase::Stuck { .. });
        let mut tasks = self.models.iter().filter_map(|model| model.task.as_ref());
        if tasks.all(|task| task.shut && task.phase().is_some_and(rests)) {
            self.say(|| "the daemon has stopped".to_owned());
            self.daemon_gone();
        }
    }
}

/// What whoever asked may rely on from now on.
pub(crate) fn promised(model: &Model, before: &Phase, ask: Ask, now: Ms, serial: u32) -> Promise {
    let is_ending = before.stage().is_some() || matches!(before, Phase::Ended { .. });
    let there = if model.process.is_some() || is_ending { serial } else { 0 };
    let after_serial = match (ask, model.promise) {
        (Ask::Start, Promise::Run { after_serial, .. }) if !is_ending => after_serial,
        (Ask::Start, Promise::Nothing) if !is_ending => 0,
        (Ask::Start | Ask::Restart, _) => there,
        (Ask::Stop | Ask::Remove | Ask::Shutdown, _) => return Promise::Rest,
    };
    Promise::Run { since: now, after_serial }
}
