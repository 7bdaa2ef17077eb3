//! What was counted, and the table of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that several threads count up.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that is counted, apart from what the protected model says.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) kills: Count,
    /// Of them, before the new daemon answered its first call.
    pub(crate) early_kills: Count,
    pub(crate) upgrades: Count,
    pub(crate) upgrades_skipped: Count,
    /// Processes that had to be taken over, and were.
    pub(crate) adopted: Count,
    pub(crate) acknowledged: Count,
    pub(crate) refused: Count,
    pub(crate) cut: Count,
    pub(crate) violations: Count,
    answering: Mutex<Vec<Duration>>,
    adopting: Mutex<Vec<Duration>>,
}

impl Figures {
    /// From the start of a daemon to its first answer.
    pub(crate) fn answered_after(&self, time: Duration) {
        self.answering.lock().unwrap().push(time);
    }

    /// From the start of a daemon until it shows every server ready again that was.
    pub(crate) fn adopted_after(&self, time: Duration) {
        self.adopting.lock().unwrap().push(time);
    }

    /// The times, as `p50 (p99)`.
    pub(crate) fn times(&self) -> (String, String) {
        (percentiles(&self.answering), percentiles(&self.adopting))
    }
}

fn percentiles(times: &Mutex<Vec<Duration>>) -> String {
    let mut times = times.lock().unwrap().clone();
    times.sort();
    let at = |percent: usize| {
        let last = times.len().saturating_sub(1);
        let time = times.get((times.len() * percent / 100).min(last));
        time.map_or("-".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3))
    };
    format!("{} ({}), {} times", at(50), at(99), times.len())
}
