//! A new daemon goes on where the last one was cut off.

use crate::asks::Ask;
use crate::daemon::stamp;
use crate::model::{Promise, Record};
use crate::planted::Bug;
use crate::process::Ms;
use crate::world::{Daemon, Flow, Halt, World, any_bounds, broken};
use llamactl_protocol::server::DesiredState;
use llamactld::supervisor::core::admission::Admission;
use llamactld::supervisor::core::machine::{self, Context, Event, Life, Phase};
use llamactld::supervisor::core::recovery::{self, Next, Recovery};
use llamactld::supervisor::core::restart::{Curable, Ended, Streak};
use std::time::Duration;

impl World {
    /// A new daemon comes up and goes on where the last one was cut off.
    pub(crate) fn daemon_starts(&mut self) -> Flow {
        self.say(|| "a new daemon".to_owned());
        self.daemon = Some(Daemon { closing: None });
        // It may have been configured anew.
        if self.rng.u8(0..5) == 0 {
            (self.max_running, self.max_loading) = any_bounds(&mut self.rng);
        }
        self.admission = Admission::new(self.max_running, self.max_loading);
        let first_of_boot = self.models.iter().all(|model| {
            model
                .last
                .as_ref()
                .is_none_or(|record| record.last.started_at_ms < stamp(self.booted_at))
        });
        for at in 0..self.models.len() {
            self.recover(at)?;
        }
        for at in 0..self.models.len() {
            let model = &self.models[at];
            let booted_at_ms = stamp(self.booted_at);
            if first_of_boot
                && model.autostart
                && model.life.phase.rests()
                && recovery::starts_by_itself(model.wanted, booted_at_ms)
            {
                self.ask(at, Ask::Start)?;
            }
        }
        Ok(())
    }

    fn recover(&mut self, at: usize) -> Flow {
        let now = self.now;
        let model = &mut self.models[at];
        // What a wrapper left bears the marker of the run; one whose process was never written
        // down is found by it.
        if let (Some(record), None, Some(stray)) = (&model.last, &model.process, &model.stray)
            && record.run == stray.run
            && !record.last.was_made
            && record.last.ended_at_ms.is_none()
        {
            model.process = model.stray.take();
        }
        if let Some(stray) = &mut model.stray {
            stray.kill(now);
        }
        let found = model.process.is_some();
        if let Some(process) = &model.process
            && model.last.as_ref().is_none_or(|record| record.run != process.run)
        {
            return broken!("a process is there that nothing written tells of");
        }
        let seen = found && self.bug != Some(Bug::BlindDaemon);
        let last = model.last.as_ref().map(|record| record.last);
        let right = recovery::decide(model.wanted, last, seen, stamp(self.booted_at));
        let decision = Bug::recovery(self.bug, last, right);
        let failed = model.last.as_ref().is_some_and(|record| record.failed)
            && model.wanted.is_some_and(|wanted| wanted.state == DesiredState::Running);
        let record = model.last.as_ref();
        model.life = Life {
            phase: if failed { Phase::Failed } else { Phase::Stopped },
            desired: model.wanted.map(|wanted| wanted.state),
            streak: Streak {
                failures: record.map_or(0, |record| record.failures),
                restarts: record.map_or(0, |record| record.restarts),
                ready_at: record.and_then(|record| record.ready_at).map(Duration::from_millis),
            },
            closing: false,
        };
        // The row goes on as it was written; what was not written the new daemon cannot know.
        model.account.in_a_row = model.life.streak.failures;
        model.account.ready_at = record
            .filter(|record| record.last.ended_at_ms.is_none())
            .and_then(|record| record.ready_at);
        model.account.unhealthy_since = None;
        let run = record.map(|record| record.run.clone()).unwrap_or_default();
        let was_ready = record.is_some_and(|record| record.ready_at.is_some());
        let (id, name) = (model.id, model.name.clone());
        self.say(|| format!("model {id}: {decision:?}"));
        self.counts.recovered[match decision {
            Recovery::Adopt(Next::Keep) => 0,
            Recovery::Adopt(Next::Stop) => 1,
            Recovery::Adopt(Next::Renew) => 2,
            Recovery::Died => 3,
            Recovery::Ended => 4,
            Recovery::Start => 5,
            Recovery::Resume(_) => 6,
            Recovery::Leave => 7,
        }] += 1;
        match decision {
            Recovery::Adopt(next) => {
                self.models[at].adopted = true;
                self.admission.take(id, &name);
                self.take(at, Event::Adopt { run, was_ready })?;
                if self.bug == Some(Bug::FreshAdoption) {
                    self.models[at].life.streak.ready_at = None;
                }
                self.look_soon(at);
                match next {
                    Next::Keep => Ok(()),
                    Next::Stop => self.take(at, Event::Stop),
                    Next::Renew => {
                        if let (Promise::Run { after_serial, .. }, Some(process)) =
                            (self.models[at].promise, &self.models[at].process)
                            && process.serial > after_serial
                        {
                            return broken!("renewed although it is what was asked for");
                        }
                        let next = self.new_run();
                        self.models[at].account.in_a_row = 0;
                        self.take(at, Event::Restart(next))
                    }
                }
            }
            Recovery::Died => {
                self.admission.take(id, &name);
                self.models[at].adopted = true;
                // Nothing is there, so nothing may be shown as if it were: the two are one step.
                let context =
                    Context { at: self.moment(), dice: 0.5, limits: self.models[at].limits };
                let life = std::mem::take(&mut self.models[at].life);
                let (life, _) = machine::step(life, Event::Adopt { run, was_ready }, &context);
                self.models[at].life = life;
                let ended = Ended { curable: Curable::Yes, clean: false };
                let next = self.new_run();
                self.ended(at, Event::Exited { ended, next }, ended)
            }
            Recovery::Ended => {
                self.risk()?;
                self.write_off(at, None);
                Ok(())
            }
            Recovery::Start => {
                self.risk()?;
                // Should this daemon die before the wish is written anew, the next one goes on.
                self.write_off(at, Some(now));
                if !self.ask(at, Ask::Start)? {
                    self.models[at].promise = Promise::Nothing;
                }
                Ok(())
            }
            Recovery::Resume(at_ms) => {
                self.admission.take(id, &name);
                let at_time = u64::try_from(at_ms).unwrap_or(0);
                let after = Duration::from_millis(at_time.saturating_sub(now));
                let run = self.new_run();
                self.take(at, Event::Resume { run, after })
            }
            Recovery::Leave => Ok(()),
        }
    }

    /// Ends the record of a run whose process is not there any more.
    fn write_off(&mut self, at: usize, restart_at: Option<Ms>) {
        let now = self.now;
        if let Some(Record { last, .. }) = &mut self.models[at].last
            && last.ended_at_ms.is_none()
        {
            last.ended_at_ms = Some(stamp(now));
            last.restart_at_ms = restart_at.map(stamp);
        }
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
