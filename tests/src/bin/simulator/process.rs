//! A llama-server as a daemon can meet it: what it will do by itself, and what it does when told.

use crate::ending::{CLEAN, End, KILLED, any_end};
use fastrand::Rng;
use llamactld::llama::Seen;
use llamactld::supervisor::core::limits::Limits;
use llamactld::supervisor::core::machine::RunId;
use llamactld::supervisor::core::restart::Curable;

/// Milliseconds on the world's clock.
pub(crate) type Ms = u64;
/// Later than anything.
pub(crate) const NEVER: Ms = Ms::MAX;
/// How long a `/health` that turned bad stays so.
pub(crate) const RELAPSE_MS: Ms = 700;

/// What a process does at a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// It begins to answer, that it loads.
    Answer,
    /// Its load moves.
    Progress,
    /// Its `/health` turns good.
    Healthy,
    /// It says that it listens.
    Announce,
    /// Its `/health` turns bad again.
    Relapse,
    /// It falls asleep or wakes.
    Doze,
    /// Its last request is done.
    Idle,
    /// From now on nothing moves.
    Hang,
    /// It ends by itself.
    Crash,
    /// It ends at a TERM.
    Obey,
    /// It ends at a KILL.
    Die,
}

const ACTS: [Act; 11] = [
    Act::Answer,
    Act::Progress,
    Act::Healthy,
    Act::Announce,
    Act::Relapse,
    Act::Doze,
    Act::Idle,
    Act::Hang,
    Act::Crash,
    Act::Obey,
    Act::Die,
];

/// What becomes of the processes of a model, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Luck {
    /// They run.
    Good,
    /// Three of ten end by themselves or hang.
    Mixed,
    /// They all end so.
    Crashes(End),
    /// They all hang.
    Hangs,
    /// Most cannot be made ready, or not be made.
    Unmade(Curable),
    /// It is known before a start that it cannot be.
    Unfit,
}

impl Luck {
    pub(crate) fn any(rng: &mut Rng) -> Luck {
        match rng.u8(0..20) {
            0..9 => Luck::Good,
            9..12 => Luck::Mixed,
            12..16 => Luck::Crashes(any_end(rng)),
            16..18 => Luck::Hangs,
            18 => Luck::Unmade(
                [Curable::Yes, Curable::Yes, Curable::Once, Curable::No][rng.usize(0..4)],
            ),
            _ => Luck::Unfit,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    /// It obeys a TERM.
    Polite,
    /// It obeys the second one.
    HardOfHearing,
    /// It obeys none.
    Deaf,
}

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// The run in its marker.
    pub(crate) run: RunId,
    /// Counts the processes of a world.
    pub(crate) serial: u32,
    /// What `/health` says.
    pub(crate) shows: Seen,
    /// It said that it listens.
    pub(crate) announced: bool,
    /// `/health` was good at least once.
    pub(crate) was_healthy: bool,
    /// Since when nothing moves.
    pub(crate) hung_since: Option<Ms>,
    /// How it ended; `None` while it lives.
    pub(crate) ended: Option<End>,
    /// It was sent a KILL.
    pub(crate) killed: bool,
    /// It does not end at a KILL, ever.
    pub(crate) immortal: bool,
    /// Until it listens, somebody else answers in its place.
    pub(crate) stranger: bool,
    /// Only a wrapper: when it ends by itself or at a TERM, the real server stays.
    pub(crate) wrapper: bool,
    due: [Ms; ACTS.len()],
    hang_is_silent: bool,
    crash: End,
    manners: Manners,
    terms: u8,
    progress_every: Ms,
    progress_left: u8,
    doze_every: Ms,
    die_after: Ms,
}

impl Process {
    /// A process of a model with this luck. In the `calm` at the end of a history whatever goes
    /// wrong does so within a minute of being ready, so that rows of failures end.
    pub(crate) fn any(
        run: RunId,
        serial: u32,
        now: Ms,
        luck: Luck,
        limits: &Limits,
        calm: bool,
        rng: &mut Rng,
    ) -> Process {
        let stall = u64::try_from(limits.stall.as_millis()).unwrap_or(NEVER);
        let mut due = [NEVER; ACTS.len()];
        let mut set = |act: Act, after: Ms| due[act as usize] = now.saturating_add(after);
        let answers = rng.u64(1..300);
        let (mut progress_every, mut progress_left) = (NEVER, 0);
        let load = match rng.u8(0..10) {
            0..6 => answers + rng.u64(1..2_000),
            // Slow, and nothing is seen of it: may be too slow.
            6 => answers + rng.u64(1..stall.saturating_mul(2)),
            // Slow and moving.
            _ => {
                progress_every = rng.u64(stall / 5..stall).max(1);
                progress_left = rng.u8(1..8);
                set(Act::Progress, progress_every);
                progress_every * (u64::from(progress_left) + 1) - 1
            }
        };
        if rng.u8(0..20) != 0 {
            set(Act::Answer, answers);
        }
        let stranger = rng.u8(0..30) == 0;
        if stranger || rng.u8(0..15) != 0 {
            set(Act::Healthy, load);
            if rng.u8(0..12) == 0 {
                set(Act::Relapse, load + rng.u64(1..1_500));
            }
        }
        match rng.u8(0..10) {
            0 => {}
            // It lies: says so long before.
            1 if !stranger => set(Act::Announce, rng.u64(1..=load)),
            _ => set(Act::Announce, load + rng.u64(0..400)),
        }
        let mut doze_every = NEVER;
        if !calm && rng.u8(0..6) == 0 {
            doze_every = rng.u64(500..300_000);
            set(Act::Doze, load + doze_every);
        }
        let any_time = |rng: &mut Rng| match rng.u8(0..4) {
            0 => rng.u64(1..=load),
            1 => load + rng.u64(1..2_000),
            2 => load + rng.u64(1..40_000),
            _ if calm => rng.u64(1..=load),
            _ => load + rng.u64(1..200_000),
        };
        let mut crash = any_end(rng);
        match luck {
            Luck::Crashes(ended) => {
                crash = ended;
                set(Act::Crash, any_time(rng));
            }
            Luck::Hangs => set(Act::Hang, any_time(rng)),
            Luck::Mixed if rng.u8(0..10) < 3 => {
                let act = if rng.bool() { Act::Crash } else { Act::Hang };
                set(act, any_time(rng));
            }
            Luck::Good | Luck::Mixed | Luck::Unmade(_) | Luck::Unfit => {}
        }
        let manners = match rng.u8(0..20) {
            0..16 => Manners::Polite,
            16..18 => Manners::HardOfHearing,
            _ => Manners::Deaf,
        };
        let (die_after, immortal) = match rng.u8(0..40) {
            0 | 1 => (rng.u64(4_000..60_000), false),
            2 => (NEVER, true),
            _ => (rng.u64(1..20), false),
        };
        Process {
            run,
            serial,
            shows: Seen::Unreachable,
            announced: false,
            was_healthy: false,
            hung_since: None,
            ended: None,
            killed: false,
            immortal,
            stranger,
            wrapper: rng.u8(0..30) == 0,
            due,
            hang_is_silent: rng.bool(),
            crash,
            manners,
            terms: 0,
            progress_every,
            progress_left,
            doze_every,
            die_after,
        }
    }

    /// What it does next, and when.
    pub(crate) fn next(&self) -> (Ms, Act) {
        let mut next = (NEVER, Act::Answer);
        if self.ended.is_none() {
            for act in ACTS {
                if self.due[act as usize] < next.0 {
                    next = (self.due[act as usize], act);
                }
            }
        }
        next
    }

    /// Does what is due. True when its `/health` says something else than before.
    pub(crate) fn act(&mut self, act: Act, now: Ms) -> bool {
        self.due[act as usize] = NEVER;
        let before = self.shows;
        match act {
            Act::Answer if self.shows == Seen::Unreachable => self.shows = Seen::Loading,
            Act::Progress => {
                self.progress_left -= 1;
                if self.progress_left > 0 {
                    self.due[Act::Progress as usize] = now.saturating_add(self.progress_every);
                }
            }
            Act::Healthy => {
                self.shows = Seen::Healthy;
                self.was_healthy = true;
            }
            Act::Relapse if self.shows == Seen::Healthy => {
                self.shows = Seen::Loading;
                self.due[Act::Healthy as usize] = now + RELAPSE_MS;
            }
            Act::Doze => {
                match self.shows {
                    Seen::Healthy => self.shows = Seen::Asleep,
                    Seen::Asleep => self.shows = Seen::Healthy,
                    _ => {}
                }
                self.due[Act::Doze as usize] = now.saturating_add(self.doze_every);
            }
            Act::Announce => self.announced = true,
            Act::Hang => self.hang(now),
            Act::Crash => self.ended = Some(self.crash),
            Act::Obey => self.ended = Some(CLEAN),
            Act::Die => self.ended = Some(KILLED),
            Act::Answer | Act::Relapse | Act::Idle => {}
        }
        before != self.shows
    }

    /// Nothing of it moves from now on; it can still be killed.
    pub(crate) fn hang(&mut self, now: Ms) {
        self.hung_since.get_or_insert(now);
        if self.hang_is_silent || !self.was_healthy {
            self.shows = Seen::Silent;
        }
        for act in ACTS {
            if !matches!(act, Act::Obey | Act::Die) {
                self.due[act as usize] = NEVER;
            }
        }
        if self.manners == Manners::Polite && self.hang_is_silent {
            self.manners = Manners::Deaf;
        }
    }

    /// What is seen of it before it is ready: who answers must be the process itself, as far as can
    /// be told, and sleep is not asked about.
    pub(crate) fn first_seen(&self) -> Seen {
        match self.shows {
            Seen::Unreachable | Seen::Loading if self.stranger => Seen::Foreign,
            Seen::Healthy | Seen::Asleep if self.wrapper => Seen::Foreign,
            Seen::Asleep => Seen::Healthy,
            seen => seen,
        }
    }

    /// A TERM arrives. One that comes before it listens may be lost.
    pub(crate) fn terminate(&mut self, now: Ms, rng: &mut Rng) {
        self.terms = self.terms.saturating_add(1);
        let lost = !self.announced && rng.u8(0..3) == 0;
        let obeys = match self.manners {
            Manners::Polite => true,
            Manners::HardOfHearing => self.terms > 1,
            Manners::Deaf => false,
        };
        if obeys && !lost && !self.immortal {
            self.due[Act::Obey as usize] =
                self.due[Act::Obey as usize].min(now + rng.u64(1..1_500));
        }
    }

    /// A KILL arrives.
    pub(crate) fn kill(&mut self, now: Ms) {
        self.killed = true;
        let at = now.saturating_add(self.die_after);
        self.due[Act::Die as usize] = self.due[Act::Die as usize].min(at);
    }

    /// It ends at this moment, whatever was to come.
    pub(crate) fn crash_now(&mut self, ended: End) {
        self.ended = Some(ended);
    }

    /// Its requests at work will be done by then.
    pub(crate) fn idle_at(&mut self, at: Ms) {
        if self.hung_since.is_none() {
            self.due[Act::Idle as usize] = at;
        }
    }

    /// The server that a wrapper leaves when it ends.
    pub(crate) fn left_behind(&self, now: Ms) -> Process {
        let mut stray = Process { ended: None, wrapper: false, ..self.clone() };
        stray.hang(now);
        stray
    }

    /// It stops falling asleep: nothing else would ever come to rest.
    pub(crate) fn stay_awake(&mut self) {
        self.due[Act::Doze as usize] = NEVER;
    }
}
