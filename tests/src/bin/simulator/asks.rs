//! What clients ask for, and what they may rely on from then on.

use crate::daemon::{milliseconds, stamp};
use crate::model::{Model, Promise};
use crate::process::Ms;
use crate::world::{Daemon, Flow, World, broken};
use llamactl_protocol::server::DesiredState;
use llamactld::supervisor::core::machine::{self, Event, Rung};
use llamactld::supervisor::core::recovery::Wanted;

/// What a client can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Start,
    Stop,
    Restart,
}

impl World {
    /// A client asks; false when that was refused.
    pub(crate) fn ask(&mut self, at: usize, ask: Ask) -> Flow<bool> {
        let Some(Daemon { closing }) = self.daemon else { return Ok(false) };
        // A daemon that stops refuses; one ask in three was let in just before it was told to.
        if closing.is_some() && self.rng.u8(0..3) != 0 {
            return Ok(false);
        }
        let now = self.now;
        let starts = ask != Ask::Stop;
        let model = &self.models[at];
        if starts && self.admission.reserve(model.id, &model.name).is_err() {
            self.say(|| format!("model {}: {ask:?} refused: as many run as may", model.id));
            return Ok(false);
        }
        if starts
            && self.max_running.is_some_and(|max| self.admission.runs() > max as usize)
            && model.life.phase.rests()
        {
            return broken!("{} run at once", self.admission.runs());
        }
        let run = self.new_run();
        let event = match ask {
            Ask::Start => Event::Start(run),
            Ask::Stop => Event::Stop,
            Ask::Restart => Event::Restart(run),
        };
        let thought = self.think(at, event);
        if closing.is_some() {
            return self.enter(at, thought).map(|()| false);
        }
        self.risk()?;
        let state = if starts { DesiredState::Running } else { DesiredState::Stopped };
        let serial = self.serial;
        let model = &mut self.models[at];
        // Another process than the one that is there, if there is one.
        let renew = starts
            && thought.before.run().is_some()
            && (ask == Ask::Restart || thought.before.rung().is_some());
        model.wanted = Some(Wanted { state, at_ms: stamp(now), renew });
        if starts && thought.before != thought.after.phase {
            (model.account.in_a_row, model.account.given_up_at) = (0, None);
        }
        model.promise = promised(model, ask, now, serial);
        self.enter(at, thought)?;
        Ok(true)
    }

    /// The daemon stops its servers, then ends.
    pub(crate) fn shut_down(&mut self) -> Flow {
        let Some(Daemon { closing: None }) = self.daemon else { return Ok(()) };
        self.say(|| "the daemon is told to stop".to_owned());
        let ladder = machine::LONGEST_DRAIN_AT_SHUTDOWN + machine::TERM * 2 + machine::KILL;
        let by = self.now + milliseconds(ladder) + 100;
        self.daemon = Some(Daemon { closing: Some(by) });
        for at in 0..self.models.len() {
            let now = self.now;
            let model = &mut self.models[at];
            if model.promise != Promise::Rest {
                model.promise = Promise::Nothing;
            }
            if model.life.phase.rung() == Some(Rung::Draining) {
                model.stopped_by = now + milliseconds(ladder);
            }
            self.take(at, Event::Shutdown)?;
        }
        Ok(())
    }

    /// A daemon that stops ends as soon as everything rests.
    pub(crate) fn end_if_closed(&mut self) {
        if let Some(Daemon { closing: Some(_) }) = self.daemon
            && self.models.iter().all(|model| model.life.phase.rests())
        {
            self.say(|| "the daemon has stopped".to_owned());
            self.daemon_gone();
        }
    }
}

/// What whoever asked may rely on from now on.
fn promised(model: &Model, ask: Ask, now: Ms, serial: u64) -> Promise {
    let there = if model.process.is_some() { serial } else { 0 };
    match ask {
        Ask::Stop => Promise::Rest,
        Ask::Restart => Promise::Run { since: now, after_serial: there, fragile: false },
        Ask::Start => {
            let after_serial = match model.promise {
                // What is being ended does not count.
                _ if model.life.phase.rung().is_some() => there,
                Promise::Rest => there,
                Promise::Run { after_serial, .. } => after_serial,
                Promise::Nothing => 0,
            };
            Promise::Run { since: now, after_serial, fragile: false }
        }
    }
}
