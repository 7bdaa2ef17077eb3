//! The world: a clock, models, processes, and a daemon that comes and goes.
//!
//! ```text
//!   history ─▶ what is due next ─▶ a process acts ──╮
//!           ├▶ a client asks ───────────────────────┼─▶ daemon: step, records, effects
//!           ╰▶ the daemon is killed, the boot ends ─╯        ╰─▶ invariants
//! ```
//!
//! Everything happens in one thread and from one random number generator, so that a history's seed
//! says all of it.

use crate::counts::Counts;
use crate::model::{Model, Promise};
use crate::planted::Bug;
use crate::process::{Act, Ms, NEVER};
use fastrand::Rng;
use llamactld::supervisor::core::admission::Admission;
use llamactld::supervisor::core::machine::Phase;
use llamactld::supervisor::core::restart::Ended;
use std::time::Duration;

/// Why a thing that happens is not done to its end.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The daemon was killed in it.
    Killed,
    /// What must hold does not: the sentence that says what.
    Broken(String),
}

pub(crate) type Flow<T = ()> = Result<T, Halt>;

/// Says that something that must hold does not.
macro_rules! broken {
    ($($said:tt)*) => { Err($crate::world::Halt::Broken(format!($($said)*))) };
}
pub(crate) use broken;

/// The daemon, as far as it is more than the sum of its models' memories.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Daemon {
    /// It stops; then it ends at this time at the latest.
    pub(crate) closing: Option<Ms>,
}

/// All there is.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) bug: Option<Bug>,
    pub(crate) trace: bool,
    pub(crate) counts: Counts,
    pub(crate) now: Ms,
    pub(crate) booted_at: Ms,
    pub(crate) models: Vec<Model>,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) admission: Admission,
    pub(crate) max_running: Option<u32>,
    pub(crate) max_loading: u32,
    /// The daemon is killed after so many more things it does.
    pub(crate) fuse: Option<u32>,
    /// Nobody disturbs any more.
    pub(crate) calm: bool,
    pub(crate) serial: u64,
    pub(crate) next_run: u64,
    next_id: i64,
}

/// What can be due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// A process acts.
    Act(Act),
    /// What a wrapper left acts.
    Stray(Act),
    /// The daemon's timer runs out.
    Timer,
    /// The daemon sees what `/health` says.
    Look,
    /// The daemon notices the end.
    Exit,
    /// The daemon notices that it hangs.
    Hung,
    /// It may go in.
    Enter,
    /// The daemon that stops ends.
    DaemonEnds,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>, trace: bool) -> World {
        let mut rng = Rng::with_seed(seed);
        let count = rng.i64(2..=4);
        let models: Vec<Model> = (1..=count).map(|id| Model::new(id, &mut rng)).collect();
        let (max_running, max_loading) = any_bounds(&mut rng);
        World {
            rng,
            bug,
            trace,
            counts: Counts::default(),
            now: 1_000,
            booted_at: 500,
            models,
            daemon: Some(Daemon { closing: None }),
            admission: Admission::new(max_running, max_loading),
            max_running,
            max_loading,
            fuse: None,
            calm: false,
            serial: 0,
            next_run: 0,
            next_id: count + 1,
        }
    }

    /// Tells whoever reads one history what happens.
    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            #[allow(clippy::print_stdout)]
            {
                println!("{:>10}  {}", self.now, what());
            }
        }
    }

    pub(crate) fn moment(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    /// A place where the daemon may be killed.
    pub(crate) fn risk(&mut self) -> Flow {
        match &mut self.fuse {
            Some(0) => Err(Halt::Killed),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What is due next, and with which model.
    pub(crate) fn next(&self) -> Option<(Ms, usize, Due)> {
        let mut next = (NEVER, 0, Due::Timer);
        let mut consider = |at: Ms, model: usize, due: Due| {
            if at < next.0 {
                next = (at, model, due);
            }
        };
        for (index, model) in self.models.iter().enumerate() {
            if let Some(process) = &model.process {
                let (at, act) = process.next();
                consider(at, index, Due::Act(act));
            }
            if let Some(stray) = &model.stray {
                let (at, act) = stray.next();
                consider(at, index, Due::Stray(act));
            }
            if self.daemon.is_some() {
                consider(model.timer, index, Due::Timer);
                consider(model.look, index, Due::Look);
                consider(model.exit, index, Due::Exit);
                if matches!(model.life.phase, Phase::Queued { .. }) && self.is_its_turn(model) {
                    consider(model.enter, index, Due::Enter);
                }
                consider(hung_at(model), index, Due::Hung);
            }
        }
        if let Some(Daemon { closing: Some(at) }) = self.daemon {
            consider(at, 0, Due::DaemonEnds);
        }
        (next.0 < NEVER).then_some(next)
    }

    pub(crate) fn is_its_turn(&self, model: &Model) -> bool {
        let free = (self.max_loading as usize).saturating_sub(self.admission.loads());
        self.admission.position(model.id).is_some_and(|position| position as usize <= free)
    }

    /// Lets time pass until something is due, and does it. False when nothing is.
    pub(crate) fn advance(&mut self) -> Flow<bool> {
        let Some((at, model, due)) = self.next() else { return Ok(false) };
        self.now = self.now.max(at);
        match due {
            Due::Act(act) => self.process_acts(model, act)?,
            Due::Stray(act) => {
                if let Some(stray) = &mut self.models[model].stray {
                    stray.act(act, at);
                    if stray.ended.is_some() {
                        self.models[model].stray = None;
                    }
                }
            }
            due => self.daemon_notices(model, due)?,
        }
        Ok(true)
    }

    fn process_acts(&mut self, at: usize, act: Act) -> Flow {
        let now = self.now;
        let Some(process) = &mut self.models[at].process else { return Ok(()) };
        let looks_other = process.act(act, now);
        self.say(|| format!("model {}: the process: {act:?}", self.models[at].id));
        if self.models[at].process.as_ref().is_some_and(|process| process.ended.is_some()) {
            self.process_ended(at, act);
            return Ok(());
        }
        // It is looked at all the time; a look that sees what the last one saw is left out.
        if looks_other || act == Act::Announce {
            self.look_soon(at);
        }
        if self.daemon.is_some() {
            self.process_said(at, act)?;
        }
        Ok(())
    }

    /// A process has ended: whoever watches it will notice.
    fn process_ended(&mut self, at: usize, act: Act) {
        let notice = self.now + self.rng.u64(0..30);
        let model = &mut self.models[at];
        model.look = NEVER;
        if let Some(process) = &model.process
            && process.wrapper
            && act != Act::Die
        {
            model.stray = Some(process.left_behind(self.now));
        }
        match self.daemon {
            Some(_) => self.models[at].exit = notice,
            None => self.models[at].process = None,
        }
    }

    /// A process ends at this moment, for a reason of its own.
    pub(crate) fn crash(&mut self, at: usize, ended: Ended) {
        if let Some(process) = &mut self.models[at].process
            && process.ended.is_none()
        {
            process.crash_now(ended);
            self.say(|| {
                format!("model {}: the process ends by itself: {ended:?}", self.models[at].id)
            });
            self.process_ended(at, Act::Crash);
        }
    }

    /// The daemon will see what `/health` says now.
    pub(crate) fn look_soon(&mut self, at: usize) {
        if self.daemon.is_some() {
            let after = self.now + self.rng.u64(1..250);
            let model = &mut self.models[at];
            model.look = model.look.min(after);
        }
    }

    /// The machine goes down and comes up again.
    pub(crate) fn reboot(&mut self) {
        self.counts.boots += 1;
        self.daemon = None;
        self.fuse = None;
        self.now += 20_000;
        self.booted_at = self.now - 5_000;
        for model in &mut self.models {
            model.process = None;
            model.stray = None;
            model.forget();
            model.promise = Promise::Rest;
        }
        self.say(|| "the machine was booted".to_owned());
    }

    /// The daemon is gone, whatever it was doing.
    pub(crate) fn daemon_gone(&mut self) {
        self.daemon = None;
        self.fuse = None;
        for model in &mut self.models {
            model.forget();
        }
    }

    /// A model is taken out, and another comes in its place.
    pub(crate) fn replace(&mut self, at: usize) {
        let mut model = Model::new(self.next_id, &mut self.rng);
        model.life.closing = self.daemon.is_some_and(|daemon| daemon.closing.is_some());
        self.next_id += 1;
        let old = std::mem::replace(&mut self.models[at], model);
        // What a wrapper left is there whatever becomes of the model.
        self.models[at].stray = old.stray;
    }
}

/// How many may run and load at once.
pub(crate) fn any_bounds(rng: &mut Rng) -> (Option<u32>, u32) {
    ((rng.u8(0..3) == 0).then(|| rng.u32(1..4)), rng.u32(1..4))
}

/// When the daemon's watch will say that a ready process hangs.
fn hung_at(model: &Model) -> Ms {
    let (Phase::Ready { .. }, Some(process), Some(limit)) =
        (&model.life.phase, &model.process, model.limits.hang)
    else {
        return NEVER;
    };
    match process.hung_since {
        Some(since) if process.ended.is_none() => {
            let limit = u64::try_from(limit.as_millis()).unwrap_or(NEVER);
            since.max(model.watched_from).saturating_add(limit)
        }
        _ => NEVER,
    }
}
