//! What llamactl promises in numbers: one table, from which `SPECIFICATION.md` is written and which the
//! program `figures` holds what it measures against.
//!
//! ```text
//!   figures ─▶ a part measured ─▶ within limit and noise? ── yes ─▶ the table
//!                   ▲                     │ no, four times more at most: the best counts
//!                   ╰─────────────────────╯ ── still no ─▶ the table, exit status 1
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How often a part is measured before a promise of it counts as broken: a loaded moment of the machine is no
/// fault of ours.
pub const ROUNDS: usize = 5;

/// The line of the page below which is what one machine measured.
pub const MEASURED: &str = "## As measured";

/// What a number is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Times the floor, at most.
    Times,
    /// Times the floor, at least: of what is to be fast.
    TimesAtLeast,
    /// Millions of bytes, at most.
    Megabytes,
    /// So many a second, at most.
    PerSecond,
    /// Milliseconds, at most: of what is waited for, whatever the machine is.
    Milliseconds,
}

impl Unit {
    fn shown(self, value: f64) -> String {
        match self {
            Unit::Times | Unit::TimesAtLeast => format!("{value:.2} x"),
            Unit::Megabytes => format!("{value:.1} MB"),
            Unit::PerSecond => format!("{value:.2}/s"),
            Unit::Milliseconds => format!("{value:.1} ms"),
        }
    }

    fn is_better(self, one: f64, other: f64) -> bool {
        if self == Unit::TimesAtLeast { one > other } else { one < other }
    }
}

/// One number that is promised.
#[derive(Debug)]
pub struct Promise {
    /// Its name.
    pub name: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// The floor: the least that does the same, measured in the same run. Empty where the number does not
    /// depend on how fast a machine is.
    pub beside: &'static str,
    /// What is promised.
    pub limit: f64,
    /// By which part of the limit a measurement may miss it: what was seen from run to run on two processors
    /// that others use too.
    pub noise: f64,
    /// What the number is of.
    pub unit: Unit,
}

impl Promise {
    /// Whether a value breaks it.
    fn is_broken_by(&self, value: f64) -> bool {
        let most = match self.unit {
            Unit::TimesAtLeast => self.limit * (1.0 - self.noise),
            _ => self.limit * (1.0 + self.noise),
        };
        self.unit.is_better(most, value)
    }

    /// The limit, as it is shown.
    fn limit(&self) -> String {
        let bound = if self.unit == Unit::TimesAtLeast { "≥" } else { "≤" };
        format!("{bound} {}", self.unit.shown(self.limit))
    }
}

macro_rules! promises {
    ($($name:literal: $what:literal, beside $beside:literal, $unit:ident $limit:literal noise $noise:literal;)*) => {
        /// All of them, in the order of the page.
        pub static PROMISES: &[Promise] = &[$(Promise {
            name: $name, what: $what, beside: $beside, limit: $limit, noise: $noise, unit: Unit::$unit,
        },)*];
    };
}

promises! {
    "size-cli": "The executable `llamactl`",
        beside "", Megabytes 11.0 noise 0.05;
    "size-daemon": "The executable `llamactld`",
        beside "", Megabytes 20.0 noise 0.05;
    "version": "`llamactl --version`, wall time",
        beside "a program that does nothing, linked alike", Times 1.6 noise 0.25;
    "ps": "`llamactl ps`, 3 of 20 models running",
        beside "the same", Times 2.4 noise 0.25;
    "version-packaged": "`llamactl --version` of the package",
        beside "the same", Times 1.5 noise 0.25;
    "ps-packaged": "`llamactl ps` of the package",
        beside "the same", Times 1.8 noise 0.3;
    "remote": "`llamactl --host BOX ps`, over a connection that is there",
        beside "`ssh BOX true` over the same", Times 2.0 noise 0.2;
    "start": "A daemon without servers, from its spawn to its first answer",
        beside "a program that does nothing, and a commit to a SQLite database that it opens", Times 5.0 noise 0.5;
    "adoption": "A daemon that takes over 8 servers of one that was killed, until all are shown ready",
        beside "the same daemon without servers, to its first answer", Times 2.5 noise 0.3;
    "memory": "Resident memory of a daemon at rest, with history on",
        beside "", Megabytes 13.0 noise 0.1;
    "wakeups": "Wake-ups of a daemon at rest, with history on",
        beside "", PerSecond 1.6 noise 0.12;
    "wakeups-server": "Wake-ups that a quiet server adds",
        beside "", PerSecond 0.4 noise 0.4;
    "rest": "Processor time of a daemon at rest with 4 servers, history on",
        beside "a program that reads the same files each second and puts a block into SQLite each tenth", Times 2.5 noise 0.3;
    "sample": "Of that, sampling and storing the samples",
        beside "the same", Times 2.0 noise 0.25;
    "stored": "Storing a sample of 73 series, with its minutes and hours, processor time",
        beside "inserting the same blocks ready made", Times 2.5 noise 0.25;
    "history-size": "A day of seconds, a month of minutes and a year of hours, for each series that is always on",
        beside "", Megabytes 0.8 noise 0.0;
    "history-read": "A day by minutes of 73 series, read and decoded",
        beside "a step over the same rows", Times 5.0 noise 0.15;
    "history-answer": "The same as the JSON of an answer",
        beside "serde_json of the same numbers", Times 2.0 noise 0.4;
    "history-stall": "The longest time between two samples while four readers ask for 30 days without a pause",
        beside "the second that lies between two samples", Times 1.1 noise 0.5;
    "ping": "A small call on an open connection, both ends on one processor",
        beside "the same bytes through an echo", Times 2.0 noise 0.25;
    "ping-far": "The same, wherever the system puts the two ends",
        beside "the same bytes through an echo", Times 1.5 noise 0.4;
    "rescan": "Looking again through 1000 model files that are known",
        beside "reading the directories and a stat each", Times 12.0 noise 0.3;
    "model-list": "Listing 2000 models with 30 settings each, page by page",
        beside "the bare SELECTs", Times 6.0 noise 0.3;
    "model-set": "Changing a setting, on disk when it is answered",
        beside "the bare transaction", Times 5.0 noise 0.4;
    "stream": "Messages of a stream to one reader",
        beside "a program that writes each", TimesAtLeast 0.8 noise 0.2;
    "log-line": "A line of a log to who follows it",
        beside "a reader that waits for the file with inotify", Times 3.0 noise 0.3;
    "respawn": "kill -9 of a ready llama-server to the first act of the next",
        beside "waitpid and spawn", Times 1.8 noise 0.25;
    "readiness": "`/health` turns 200 to `ready` in `server.follow`, by a build that reports it",
        beside "", Milliseconds 2.0 noise 0.5;
    "readiness-log": "The same of a build that only logs it",
        beside "", Milliseconds 2.0 noise 0.5;
}

/// What was measured: of each number the best of all rounds.
#[derive(Debug, Default)]
pub struct Measured {
    best: BTreeMap<&'static str, f64>,
    broken_on_purpose: Option<String>,
}

impl Measured {
    /// Nothing yet. The limit of a promise that is named counts as a thousand times as strict, to see that
    /// a broken one is found.
    #[must_use]
    pub fn with_broken(name: Option<String>) -> Measured {
        Measured { best: BTreeMap::new(), broken_on_purpose: name }
    }

    /// Notes a value.
    ///
    /// # Panics
    /// When nothing of that name is promised.
    pub fn note(&mut self, name: &'static str, value: f64) {
        let promise = PROMISES.iter().find(|it| it.name == name).expect("it is promised");
        let best = self.best.entry(name).or_insert(value);
        if promise.unit.is_better(value, *best) {
            *best = value;
        }
    }

    /// The promises that were measured and do not hold.
    #[must_use]
    pub fn broken(&self) -> Vec<&'static Promise> {
        PROMISES.iter().filter(|promise| self.breaks(promise)).collect()
    }

    fn breaks(&self, promise: &Promise) -> bool {
        let Some(value) = self.best.get(promise.name) else { return false };
        // Whatever was measured is not finite where its floor was nothing.
        let is_on_purpose = self.broken_on_purpose.as_deref() == Some(promise.name);
        let factor = match promise.unit {
            _ if !is_on_purpose => 1.0,
            Unit::TimesAtLeast => 1e-3,
            _ => 1e3,
        };
        !value.is_finite() || promise.is_broken_by(value * factor)
    }

    /// What was measured, as a table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        for promise in PROMISES {
            let Some(value) = self.best.get(promise.name) else { continue };
            let verdict = if self.breaks(promise) { "  BROKEN" } else { "" };
            let _ = writeln!(
                text,
                "  {:<16}{:>10}  {:>10}  noise {:>3.0} %{verdict}",
                promise.name,
                promise.unit.shown(*value),
                promise.limit(),
                promise.noise * 100.0
            );
        }
        text
    }

    /// The same for the page.
    #[must_use]
    pub fn markdown(&self, machine: &str) -> String {
        let mut text =
            format!("{MEASURED}\n\n{machine}\n\n| name | measured | limit |\n|---|---|---|\n");
        for promise in PROMISES {
            if let Some(value) = self.best.get(promise.name) {
                let (value, limit) = (promise.unit.shown(*value), promise.limit());
                let _ = writeln!(text, "| `{}` | {value} | {limit} |", promise.name);
            }
        }
        text
    }
}

/// The page, without what was measured.
#[must_use]
pub fn page() -> String {
    let mut text = String::from(
        "# Specification\n\n\
         What llamactl promises in numbers. Written by `tests/run specification`, from the table in\n\
         `tests/src/specification.rs`; not edited by hand.\n\n\
         A time says little on a machine that others use too. So each is measured beside a floor in the same\n\
         run, the least program that does the same work, and what is promised is how many times the floor it\n\
         takes. Bytes and wake-ups have no floor: they do not depend on how fast a machine is.\n\n\
         `target/release/figures` measures all of them from a release build, prints a table and fails where a\n\
         number misses its limit by more than its noise in each of five rounds. It is a part of `.ci/run`.\n\
         Noise is what was seen from run to run on two processors that others used too.\n\n\
         | name | what | beside | limit | noise |\n|---|---|---|---|---|\n",
    );
    for promise in PROMISES {
        let beside = if promise.beside.is_empty() { "-" } else { promise.beside };
        let noise = promise.noise * 100.0;
        let limit = promise.limit();
        let _ = writeln!(
            text,
            "| `{}` | {} | {beside} | {limit} | {noise:.0} % |",
            promise.name, promise.what
        );
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value that holds just so, and one that does not.
    fn beside_the_limit(promise: &Promise) -> (f64, f64) {
        let noise = if promise.unit == Unit::TimesAtLeast { -promise.noise } else { promise.noise };
        let edge = promise.limit * (1.0 + noise);
        let step = if noise < 0.0 { -0.001 } else { 0.001 };
        (edge * (1.0 - step), edge * (1.0 + step))
    }

    #[test]
    fn each_promise_is_broken_by_more_than_its_noise_and_by_no_less() {
        for promise in PROMISES {
            let (within, beyond) = beside_the_limit(promise);
            let mut measured = Measured::default();
            measured.note(promise.name, beyond);
            assert_eq!(measured.broken().len(), 1, "{}", promise.name);
            assert!(measured.table().contains("BROKEN"), "{}", measured.table());
            measured.note(promise.name, within);
            assert!(measured.broken().is_empty(), "the best round of {} counts", promise.name);
            measured.note(promise.name, beyond);
            assert!(measured.broken().is_empty(), "the best round of {} counts", promise.name);
        }
    }

    #[test]
    fn one_that_is_broken_on_purpose_is_found_and_no_other() {
        for broken in PROMISES {
            let mut measured = Measured::with_broken(Some(broken.name.to_owned()));
            PROMISES.iter().for_each(|promise| measured.note(promise.name, promise.limit));
            let found: Vec<&str> = measured.broken().iter().map(|it| it.name).collect();
            assert_eq!(found, [broken.name]);
        }
    }

    #[test]
    fn what_has_no_number_is_no_success_and_what_was_not_measured_no_fault() {
        let mut measured = Measured::default();
        assert!(measured.broken().is_empty());
        measured.note("ping", f64::NAN);
        measured.note("stream", f64::INFINITY);
        assert_eq!(measured.broken().len(), 2);
    }

    #[test]
    fn names_are_told_apart_and_noise_is_less_than_the_limit() {
        let mut names: Vec<&str> = PROMISES.iter().map(|it| it.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROMISES.len());
        assert!(PROMISES.iter().all(|it| it.limit > 0.0 && (0.0..1.0).contains(&it.noise)));
    }
}
