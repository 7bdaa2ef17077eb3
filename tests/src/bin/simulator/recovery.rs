//! A new daemon goes on where the last one was cut off: each model's task is made in one way, at the
//! first touch or in its turn; nothing is admitted before all open runs were looked at.

use crate::asks::Ask;
use crate::model::Promise;
use crate::planted::Bug;
use crate::process::{Ms, NEVER};
use crate::registry::RunRow;
use crate::task::{Task, somebody};
use crate::world::{Daemon, Flow, Halt, World, any_bounds, broken};
use llamactl_protocol::Actor;
use llamactl_protocol::server::DesiredState;
use llamactld::arbiter::ToArbiter;
use llamactld::supervisor::core::driver::Beginning;
use llamactld::supervisor::core::limits::autostart;
use llamactld::supervisor::core::machine::{Phase, Then};
use llamactld::supervisor::core::recovery::{self, Desired};

impl World {
    /// A new daemon comes up. Its socket is served at once.
    pub(crate) fn daemon_starts(&mut self) {
        self.say(|| "a new daemon".to_owned());
        // It may have been configured anew.
        if self.rng.u8(0..5) == 0 {
            self.bounds = any_bounds(&mut self.rng);
        }
        let mut looking: Vec<i64> = (self.models.iter())
            .filter(|model| {
                let row = model.registry.desired.as_ref();
                let is_open = |last: &RunRow| last.ended_at_ms.is_none();
                row.is_some_and(|row| row.desired.state == DesiredState::Running)
                    || model.registry.last.as_ref().is_some_and(is_open)
            })
            .map(|model| model.id)
            .collect();
        self.rng.shuffle(&mut looking);
        let mut daemon = Daemon::new(self.bounds);
        daemon.awaited.clone_from(&looking);
        (daemon.looking, daemon.touch) = (looking, self.now + self.rng.u64(0..30));
        daemon.is_fresh = self.rng.u8(0..3) == 0;
        self.daemon = Some(daemon);
        if self.bug == Some(Bug::EarlyAdmission) {
            self.tell(None, ToArbiter::Recovered);
        }
        // In the instant its socket answers.
        if self.rng.u8(0..6) == 0 {
            for at in 0..self.models.len() {
                self.ask(at, Ask::Start, somebody());
            }
        }
    }

    /// The next model is looked at, or all have been.
    pub(crate) fn looks_on(&mut self) -> Flow {
        let soon = self.now + self.rng.u64(1..30);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        daemon.touch = soon;
        if let Some(id) = daemon.looking.pop() {
            if let Some(at) = self.models.iter().position(|model| model.id == id) {
                self.touch(at);
            }
            return Ok(());
        }
        let is_unknown = |id: &i64| {
            let model = self.models.iter().find(|model| model.id == *id);
            model.and_then(|model| model.task.as_ref()).is_some_and(|task| task.state.is_none())
        };
        if daemon.awaited.iter().any(is_unknown) {
            return Ok(());
        }
        (daemon.touch, daemon.recovered) = (NEVER, true);
        let is_fresh = daemon.is_fresh && daemon.ends.is_none();
        self.end_strays()?;
        if self.bug != Some(Bug::EarlyAdmission) {
            self.tell(None, ToArbiter::Recovered);
        }
        for at in 0..self.models.len() {
            let model = &self.models[at];
            let desired = model.registry.desired.as_ref().map(|row| Desired {
                state: row.desired.state,
                at_ms: row.desired.at_ms,
                restart_requested: row.restart_requested,
            });
            if is_fresh
                && autostart(&model.registry.model.settings)
                && recovery::starts_by_itself(desired, self.wall_of(self.booted_at))
            {
                self.ask(at, Ask::Start, Actor::Boot);
            }
        }
        Ok(())
    }

    /// Kills what no task looks after.
    fn end_strays(&mut self) -> Flow {
        let now = self.now;
        for model in &mut self.models {
            let is_known = model.task.as_ref().is_some_and(|task| task.live.is_some());
            if !is_known && let Some(process) = model.process.take() {
                if !model.unwritten && process.ended.is_none() {
                    return broken!("a process is there that nothing written tells of");
                }
                model.stray = Some(process);
            }
            if let Some(stray) = &mut model.stray {
                stray.stay_awake();
                stray.kill(now);
            }
        }
        Ok(())
    }

    /// What a model's new task reads and finds.
    pub(crate) fn beginning(&mut self, at: usize) -> Flow<Beginning> {
        let (now, wall, boot) = (self.now, self.wall_ms(), self.boot);
        let booted = self.wall_of(self.booted_at);
        let model = &mut self.models[at];
        // What a wrapper left bears the marker of the run; one whose process was never written
        // down is found by it.
        if let (Some(last), None, Some(stray)) =
            (&model.registry.last, &model.process, &model.stray)
            && last.id == stray.run
            && last.process.is_none()
            && last.ended_at_ms.is_none()
        {
            model.process = model.stray.take();
        }
        let last = model.registry.last.as_ref();
        let is_open = last.filter(|last| last.ended_at_ms.is_none());
        let found = model.process.as_ref().filter(|process| {
            process.ended.is_none() && is_open.is_some_and(|last| last.id == process.run)
        });
        let found = found.map(|process| process.serial);
        // A full disk did not take the run of what is there: no task can find it.
        if found.is_none() && model.unwritten && model.process.is_some() {
            model.stray = model.process.take();
        }
        let written = model.registry.read(boot, model.on_tcp);
        let desired_at = written.desired.as_ref().map(|desired| desired.at_ms);
        let booted_at_ms = written.booted_at_ms(booted);
        // A clock that was set since makes of it what was wanted before the boot, or after, where no
        // run of this boot tells better: nothing that is written does.
        let seems_of_this_boot = desired_at.is_some_and(|at| at >= booted_at_ms);
        // So does an end that a full disk did not take: it looks as if it were yet to be decided.
        let runs = written.desired.as_ref().is_some_and(|it| it.state == DesiredState::Running);
        let is_told_wrong = seems_of_this_boot != (model.desired_in_boot == boot);
        if runs && (is_told_wrong || model.unwritten && model.promise != Promise::Rest) {
            model.promise = Promise::Nothing;
        }
        // The row goes on as it was written; what was not written the new daemon cannot know.
        // A clock that was set back makes no time that is written one to come.
        let times =
            last.map_or([None; 3], |it| [Some(it.started_at_ms), it.ready_at_ms, it.ended_at_ms]);
        let wall = times.into_iter().chain([desired_at]).flatten().fold(wall, i64::max);
        let ago = |ready: i64| Ms::try_from(wall.saturating_sub(ready)).ok();
        model.account.in_a_row = last.map_or(0, |last| last.failures);
        model.account.ready_at = is_open
            .and_then(|last| last.ready_at_ms)
            .and_then(ago)
            .map(|ago| now.saturating_sub(ago));
        model.account.unhealthy_since = None;
        model.account.serial = last.and_then(|last| Some(last.process?.0)).or(found);
        let beginning = Beginning { written, found, booted_at_ms, replace: false };
        Ok(Bug::beginning(self.bug, beginning))
    }

    /// A new task has gone on where the last daemon was cut off.
    pub(crate) fn has_begun(&mut self, at: usize) -> Flow {
        let model = &mut self.models[at];
        let phase = model.task.as_ref().and_then(Task::phase);
        let Some(phase) = phase else { return Ok(()) };
        let is_new_row = match phase {
            Phase::Queued { .. } => true,
            Phase::Stopping { then, .. } => matches!(then, Then::Start(_)),
            _ => false,
        };
        if is_new_row {
            model.account.in_a_row = 0;
        }
        if let (Phase::Stopping { then: Then::Start(_), .. }, Promise::Run { after_serial, .. }) =
            (phase, model.promise)
            && !model.unwritten
            && model.task.as_ref().and_then(|task| task.live).is_some_and(|live| !live.blind)
            && model.process.as_ref().is_some_and(|process| process.serial > after_serial)
        {
            return broken!("made anew although it is what was asked for");
        }
        self.counts.recovered[match phase {
            Phase::Adopting { .. } => 0,
            Phase::Stopping { .. } => 1,
            Phase::Ended { .. } => 2,
            Phase::Queued { .. } => 3,
            Phase::Backoff { .. } => 4,
            _ => 5,
        }] += 1;
        Ok(())
    }

    /// What was being done when the daemon was killed stays as far as it came.
    pub(crate) fn survive(&mut self, flow: Flow) -> Result<(), String> {
        match flow {
            Ok(()) => Ok(()),
            Err(Halt::Killed) => {
                self.counts.killed += 1;
                self.say(|| "the daemon is killed".to_owned());
                self.daemon_gone();
                Ok(())
            }
            Err(Halt::Broken(what)) => Err(what),
        }
    }
}
