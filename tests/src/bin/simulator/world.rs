//! The world: a clock, models, processes, a disk, and a daemon that comes and goes.
//!
//! ```text
//!   history ─▶ what is due next ─▶ a process acts ──╮
//!           ├▶ a client asks ───────────────────────┼─▶ a task: the daemon's own executor
//!           ├▶ a message arrives ─▶ the ledger ─────╯        ╰─▶ hands ─▶ world ─▶ invariants
//!           ╰▶ the daemon is killed, the boot ends, a clock is set, a disk is full
//! ```
//!
//! Everything happens in one thread and from one random number generator, so that a history's seed
//! says all of it.

use crate::arbiter::Mail;
use crate::asks::Ask;
use crate::counts::Counts;
use crate::ending::End;
use crate::model::{Model, Promise};
use crate::planted::Bug;
use crate::process::{Act, Ms, NEVER};
use fastrand::Rng;
use llamactld::arbiter::Bounds;
use llamactld::arbiter::ledger::Ledger;
use llamactld::supervisor::core::driver::RequestId;
use llamactld::supervisor::core::machine::Phase;
use std::collections::{BTreeMap, VecDeque};
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

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    /// What is desired with it was written.
    pub(crate) written: bool,
}

/// How the daemon ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// It leaves its servers to the next one.
    pub(crate) keeps: bool,
    /// At the latest at this time.
    pub(crate) by: Ms,
}

/// The daemon, as far as it is more than the sum of its tasks.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) ledger: Ledger,
    /// Messages to the ledger, and when the next one arrives.
    pub(crate) mail: VecDeque<Mail>,
    pub(crate) deliver: Ms,
    pub(crate) requests: BTreeMap<RequestId, Request>,
    /// Models that are still to be looked at, when the next one is, and all there were.
    pub(crate) looking: Vec<i64>,
    pub(crate) touch: Ms,
    pub(crate) awaited: Vec<i64>,
    /// Everything that runs was found.
    pub(crate) recovered: bool,
    /// The arbiter was told of the end.
    pub(crate) closed: bool,
    /// It starts what is to be started by itself.
    pub(crate) is_fresh: bool,
    pub(crate) ends: Option<Ends>,
}

impl Daemon {
    pub(crate) fn new(bounds: Bounds) -> Daemon {
        Daemon {
            ledger: Ledger::new(bounds),
            mail: VecDeque::new(),
            deliver: NEVER,
            requests: BTreeMap::new(),
            looking: vec![],
            touch: NEVER,
            awaited: vec![],
            recovered: false,
            closed: false,
            is_fresh: false,
            ends: None,
        }
    }
}

/// All there is.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) bug: Option<Bug>,
    pub(crate) trace: bool,
    pub(crate) counts: Counts,
    /// On the clock that only goes forward.
    pub(crate) now: Ms,
    /// How much the other clock is ahead of it.
    wall_ahead: i64,
    pub(crate) booted_at: Ms,
    pub(crate) boot: u64,
    pub(crate) models: Vec<Model>,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) bounds: Bounds,
    /// The daemon is killed after so many more things it does.
    pub(crate) fuse: Option<u32>,
    pub(crate) disk_full_until: Ms,
    /// Nobody disturbs any more.
    pub(crate) calm: bool,
    /// Counts the processes; stands for their pids.
    pub(crate) serial: u32,
    pub(crate) next_request: RequestId,
    /// What must hold and does not, seen in the middle of something.
    pub(crate) broken: Option<String>,
    next_run: u64,
    next_id: i64,
}

/// What can be due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// A process acts.
    Act(Act),
    /// What a wrapper left acts.
    Stray(Act),
    /// A message reaches the arbiter.
    Mail,
    /// The next model is looked at by a new daemon.
    Touch,
    /// A task has looked what there is.
    Begin,
    /// A task takes something out of its inbox.
    Receive,
    /// A task sees what the arbiter ordered.
    Obey,
    /// A task's timer runs out.
    Timer,
    /// A job is done.
    Job,
    /// It is seen what `/health` says.
    Look,
    /// The end of a process is noticed.
    Exit,
    /// The daemon that ends is gone.
    DaemonEnds,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>, trace: bool) -> World {
        let mut rng = Rng::with_seed(seed);
        let count = rng.i64(2..=4);
        let models: Vec<Model> = (1..=count).map(|id| Model::new(id, &mut rng)).collect();
        let bounds = any_bounds(&mut rng);
        let mut world = World {
            rng,
            bug,
            trace,
            counts: Counts::default(),
            now: 1_000_000_000,
            wall_ahead: 1_700_000_000_000,
            booted_at: 999_990_000,
            boot: 0,
            models,
            daemon: None,
            bounds,
            fuse: None,
            disk_full_until: 0,
            calm: false,
            serial: 0,
            next_request: 0,
            broken: None,
            next_run: 0,
            next_id: count + 1,
        };
        world.daemon_starts();
        world
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

    /// A time of the world on the clock that can be set.
    pub(crate) fn wall_of(&self, at: Ms) -> i64 {
        i64::try_from(at).unwrap_or(i64::MAX).saturating_add(self.wall_ahead)
    }

    pub(crate) fn wall_ms(&self) -> i64 {
        self.wall_of(self.now)
    }

    /// The clock is set.
    pub(crate) fn set_clock(&mut self, by: i64) {
        self.wall_ahead += by;
        self.counts.clocks += 1;
        self.say(|| format!("the clock is set by {by} ms"));
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

    /// When a job that begins now will be done: soon, as a rule.
    pub(crate) fn job_done(&mut self) -> Ms {
        let longest = if self.rng.u8(0..8) == 0 { 20_000 } else { 40 };
        self.now + self.rng.u64(0..longest)
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
            if let Some(task) = &model.task {
                let (at, due) = task.due();
                consider(at, index, due);
            }
        }
        if let Some(daemon) = &self.daemon {
            consider(daemon.deliver, 0, Due::Mail);
            consider(daemon.touch, 0, Due::Touch);
            consider(daemon.ends.map_or(NEVER, |ends| ends.by), 0, Due::DaemonEnds);
        }
        (next.0 < NEVER).then_some(next)
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
            Due::Mail => self.deliver()?,
            Due::Touch => self.looks_on()?,
            Due::DaemonEnds => self.daemon_ends()?,
            due => self.task_notices(model, due)?,
        }
        Ok(true)
    }

    fn daemon_ends(&mut self) -> Flow {
        let keeps = self.daemon.as_ref().and_then(|it| it.ends).is_some_and(|ends| ends.keeps);
        // One whose log cannot be read may have ended, and why is not known.
        let has_ended = |phase: &Phase| {
            phase.rests() || matches!(phase, Phase::Stuck { .. } | Phase::Ended { .. })
        };
        let tasks = self.models.iter().filter_map(|model| model.task.as_ref());
        let mut left = tasks.filter(|task| task.shut).filter_map(|task| task.phase());
        if let Some(phase) = left.find(|phase| !keeps && !has_ended(phase)) {
            return broken!("the daemon stops and leaves {phase:?}");
        }
        self.say(|| "the daemon has ended".to_owned());
        self.daemon_gone();
        Ok(())
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
        if looks_other || matches!(act, Act::Announce | Act::Hang) {
            self.look_soon(at);
        }
        self.process_said(at, act)
    }

    /// A process has ended: whoever watches it will notice.
    fn process_ended(&mut self, at: usize, act: Act) {
        let notice = self.now + self.rng.u64(0..30);
        let model = &mut self.models[at];
        if let Some(process) = &model.process
            && process.wrapper
            && act != Act::Die
        {
            model.stray = Some(process.left_behind(self.now));
        }
        match self.live(at) {
            Some(live) => (live.exit, live.look) = (notice, NEVER),
            // Nobody is there to reap it but init.
            None => self.models[at].process = None,
        }
    }

    /// A process ends at this moment, for a reason of its own.
    pub(crate) fn crash(&mut self, at: usize, ended: End) {
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

    /// The machine goes down and comes up again.
    pub(crate) fn reboot(&mut self) {
        self.counts.boots += 1;
        self.boot += 1;
        self.now += 20_000;
        self.booted_at = self.now - 5_000;
        self.daemon_gone();
        for model in &mut self.models {
            model.process = None;
            model.stray = None;
            model.promise = Promise::Rest;
        }
        self.say(|| "the machine was booted".to_owned());
    }

    /// The daemon is gone, whatever it was doing.
    pub(crate) fn daemon_gone(&mut self) {
        self.daemon = None;
        self.fuse = None;
        for at in 0..self.models.len() {
            self.models[at].forget();
            if self.models[at].registry.removed {
                self.replace(at);
            }
        }
    }

    /// A model was removed; another one takes its place in the world.
    pub(crate) fn replace(&mut self, at: usize) {
        self.say(|| format!("model {} is no more", self.models[at].id));
        let model = Model::new(self.next_id, &mut self.rng);
        self.next_id += 1;
        let old = std::mem::replace(&mut self.models[at], model);
        // What a wrapper left is there whatever becomes of the model.
        self.models[at].stray = old.stray;
    }

    pub(crate) fn new_run(&mut self) -> String {
        self.next_run += 1;
        self.next_run.to_string()
    }
}

/// How many may run and load at once.
pub(crate) fn any_bounds(rng: &mut Rng) -> Bounds {
    let max_running = (rng.u8(0..3) == 0).then(|| rng.u32(1..4));
    Bounds { max_running, max_loading: rng.u32(1..4) }
}

/// Whole milliseconds, never too few.
pub(crate) fn milliseconds(time: Duration) -> Ms {
    u64::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(NEVER)
}
