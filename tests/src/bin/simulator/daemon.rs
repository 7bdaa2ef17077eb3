//! What the daemon does around the pure machine: records, effects, places.
//!
//! This stands in for the code that does I/O, in the same order: the step is computed, then what
//! it says is written, then it is shown, then its effects are carried out. The daemon may be killed
//! between any two of these.

use crate::model::{Model, Promise, Record};
use crate::planted::Bug;
use crate::process::{Act, Luck, Ms, NEVER, Process};
use crate::world::{Due, Flow, World, broken};
use llamactld::supervisor::core::machine::{self, Context, Effect, Event, Life, Phase, Rung};
use llamactld::supervisor::core::recovery::LastRun;
use llamactld::supervisor::core::restart::{Curable, Ended};
use std::time::Duration;

/// A step that was computed and is not done yet.
pub(crate) struct Thought {
    pub(crate) before: Phase,
    pub(crate) after: Life,
    effects: Vec<Effect>,
}

impl World {
    pub(crate) fn think(&mut self, at: usize, event: Event) -> Thought {
        let context =
            Context { at: self.moment(), dice: self.rng.f64(), limits: self.models[at].limits };
        self.say(|| format!("model {}: {event:?}", self.models[at].id));
        // The life stays what it was until the step is done.
        let life = self.models[at].life.clone();
        let before = life.phase.clone();
        self.counts.meet(before.state(), &event);
        let (after, effects) = Bug::step(self.bug, life, event, &context);
        Thought { before, after, effects }
    }

    /// Shows a step and carries out its effects.
    pub(crate) fn enter(&mut self, at: usize, thought: Thought) -> Flow {
        let Thought { before, after, effects } = thought;
        let now = self.now;
        if effects.contains(&Effect::BecameReady) {
            self.risk()?;
            let model = &mut self.models[at];
            if let Some(record) = &mut model.last {
                record.ready_at.get_or_insert(now);
                model.account.ready_at = record.ready_at;
            }
        }
        let model = &mut self.models[at];
        if !before.keeps_timer(&after.phase) {
            model.timer = NEVER;
        }
        let was_stopping = before.rung().is_some();
        model.life = after;
        match &model.life.phase {
            // Looked at all the time, so what is there is seen in the new light.
            Phase::Starting { .. } if matches!(before, Phase::Adopting { .. }) => {
                model.look = model.look.min(now + 20);
            }
            Phase::Ready { .. } if !matches!(before, Phase::Ready { .. }) => {
                model.watched_from = now;
                model.look = model.look.min(now + 20);
            }
            Phase::Stopping { rung, .. } if !was_stopping => {
                let mut ladder = machine::TERM * 2 + machine::KILL;
                if *rung == Rung::Draining {
                    ladder += model.limits.drain;
                    let busy = if self.rng.bool() { 0 } else { self.rng.u64(0..40_000) };
                    if let Some(process) = &mut model.process {
                        process.idle_at(now + busy);
                    }
                }
                model.stopped_by = now + milliseconds(ladder);
            }
            _ => {}
        }
        self.settle(at);
        self.say(|| {
            let model = &self.models[at];
            format!("model {}: {before:?} ─▶ {:?} {effects:?}", model.id, model.life.phase)
        });
        for effect in effects {
            self.risk()?;
            self.carry_out(at, effect)?;
        }
        Ok(())
    }

    pub(crate) fn take(&mut self, at: usize, event: Event) -> Flow {
        let thought = self.think(at, event);
        self.enter(at, thought)
    }

    /// Gives back the places that are not needed any more.
    fn settle(&mut self, at: usize) {
        let model = &self.models[at];
        let phase = &model.life.phase;
        if phase.rests() {
            if self.bug != Some(Bug::KeptSeat) {
                self.admission.release(model.id);
            }
        } else if !phase.loads() {
            let crashed = matches!(phase, Phase::Queued { .. } | Phase::Backoff { .. });
            if !(crashed && self.bug == Some(Bug::KeptPlace)) {
                self.admission.loaded(model.id);
            }
        } else if model.adopted {
            self.admission.found_loading(model.id);
        }
        if !matches!(phase, Phase::Queued { .. }) {
            self.admission.leave(model.id);
        }
    }

    fn carry_out(&mut self, at: usize, effect: Effect) -> Flow {
        let now = self.now;
        let model = &mut self.models[at];
        match effect {
            Effect::Queue => {
                self.admission.queue(model.id);
                model.enter = now + self.rng.u64(0..20);
            }
            Effect::Timer(wait) => model.timer = now + milliseconds(wait),
            Effect::Terminate => {
                let Some(process) = &mut model.process else {
                    return broken!("a TERM, and no process");
                };
                process.terminate(now, &mut self.rng);
            }
            Effect::Kill => {
                let Some(process) = &mut model.process else {
                    return broken!("a KILL, and no process");
                };
                process.kill(now);
            }
            Effect::BecameReady => {}
            Effect::Spawn(run) => self.spawn(at, run)?,
        }
        Ok(())
    }

    fn spawn(&mut self, at: usize, run: String) -> Flow {
        let now = self.now;
        if self.daemon.is_some_and(|daemon| daemon.closing.is_some()) {
            return broken!("a process is made by a daemon that stops");
        }
        let model = &mut self.models[at];
        if model.process.is_some() {
            return broken!("a second process is made");
        }
        if model.promise == Promise::Rest {
            return broken!("a process is made that nobody wants");
        }
        let streak = model.life.streak;
        model.last = Some(Record {
            run: run.clone(),
            last: LastRun {
                started_at_ms: stamp(now),
                was_made: false,
                ended_at_ms: None,
                restart_at_ms: None,
            },
            serial: None,
            ready_at: None,
            failures: streak.failures,
            restarts: streak.restarts,
            failed: false,
        });
        if let Some(wanted) = &mut model.wanted {
            wanted.renew = false;
        }
        (model.account.ready_at, model.account.unhealthy_since) = (None, None);
        self.risk()?;
        if let Luck::Unmade(ended) = self.models[at].luck
            && self.rng.u8(0..4) != 0
        {
            let next = self.new_run();
            return self.ended(at, Event::SpawnFailed { ended, next }, ended);
        }
        self.serial += 1;
        self.counts.processes += 1;
        let model = &mut self.models[at];
        let limits = model.limits;
        model.adopted = false;
        if let Some(record) = &mut model.last {
            record.serial = Some(self.serial);
        }
        model.process = Some(Process::any(
            run,
            self.serial,
            now,
            model.luck,
            &limits,
            self.calm,
            &mut self.rng,
        ));
        self.risk()?;
        if let Some(record) = &mut self.models[at].last {
            record.last.was_made = true;
        }
        Ok(())
    }

    /// The process is gone, or could not be made: decide, write, go on.
    pub(crate) fn ended(&mut self, at: usize, event: Event, ended: Ended) -> Flow {
        let now = self.now;
        let thought = self.think(at, event);
        let unasked = matches!(
            thought.before,
            Phase::Starting { .. } | Phase::Ready { .. } | Phase::Adopting { .. }
        );
        let fault = thought.before.fault().is_some();
        let restart_at = match &thought.after.phase {
            Phase::Queued { .. } => Some(now),
            Phase::Backoff { .. } => thought.effects.iter().find_map(|effect| match effect {
                Effect::Timer(wait) => Some(now + milliseconds(*wait)),
                _ => None,
            }),
            _ => None,
        };
        self.risk()?;
        let model = &mut self.models[at];
        let streak = thought.after.streak;
        if let Some(record) = &mut model.last {
            record.last.ended_at_ms = Some(stamp(now));
            record.last.restart_at_ms = restart_at.map(stamp);
            (record.failures, record.restarts) = (streak.failures, streak.restarts);
            record.failed = unasked || fault;
        }
        model.process = None;
        model.exit = NEVER;
        // The group of a child of ours is killed before it is reaped.
        if !model.adopted
            && let Some(stray) = &mut model.stray
        {
            stray.kill(now);
        }
        if unasked || fault {
            let ended = if fault { Ended { curable: Curable::Yes, clean: false } } else { ended };
            self.account_for(at, &thought.after.phase, ended)?;
        }
        self.enter(at, thought)
    }

    pub(crate) fn new_run(&mut self) -> String {
        self.next_run += 1;
        self.next_run.to_string()
    }

    /// Something that is due in the daemon.
    pub(crate) fn daemon_notices(&mut self, at: usize, due: Due) -> Flow {
        let model = &mut self.models[at];
        match due {
            Due::Timer => {
                model.timer = NEVER;
                self.take(at, Event::Timer)
            }
            Due::Look => {
                model.look = NEVER;
                let Some(process) = &model.process else { return Ok(()) };
                let seen = match model.life.phase {
                    Phase::Starting { .. } | Phase::Adopting { .. } => process.first_seen(),
                    _ => process.shows,
                };
                self.take(at, Event::Health(seen))
            }
            Due::Exit => {
                let Some(ended) = model.process.as_ref().and_then(|process| process.ended) else {
                    return broken!("an end is noticed of a process that lives");
                };
                let next = self.new_run();
                self.ended(at, Event::Exited { ended, next }, ended)
            }
            Due::Hung => {
                let limit = model.limits.hang.map_or(0, milliseconds);
                model.account.unhealthy_since = Some(self.now - limit);
                self.take(at, Event::Hung)
            }
            Due::Enter => {
                if !self.admission.enter(model.id) {
                    return broken!("it is its turn, and it may not go in");
                }
                if self.admission.loads() > self.max_loading as usize {
                    return broken!("{} load at once", self.admission.loads());
                }
                self.take(at, Event::Admitted)
            }
            Due::DaemonEnds => {
                let not_ended = |model: &&Model| {
                    !model.life.phase.rests() && !matches!(model.life.phase, Phase::Stuck { .. })
                };
                if let Some(model) = self.models.iter().find(not_ended) {
                    return broken!("the daemon stops and leaves {:?}", model.life.phase);
                }
                self.say(|| "the daemon has stopped".to_owned());
                self.daemon_gone();
                Ok(())
            }
            Due::Act(_) | Due::Stray(_) => Ok(()),
        }
    }

    /// What a process said or did that reaches the daemon by itself.
    pub(crate) fn process_said(&mut self, at: usize, act: Act) -> Flow {
        match act {
            Act::Progress => self.take(at, Event::Progress),
            Act::Announce => self.take(at, Event::Announced),
            Act::Idle => self.take(at, Event::Idle),
            _ => Ok(()),
        }
    }
}

/// A time as it is written.
pub(crate) fn stamp(at: Ms) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// Whole milliseconds, never too few.
pub(crate) fn milliseconds(time: Duration) -> Ms {
    u64::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(NEVER)
}
