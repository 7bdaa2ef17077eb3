//! A thread that sees whether the asynchronous runtime still turns, and ends the process when not.
//!
//! ```text
//!   thread, three times per limit:  the last beat came? ─▶ ask for another ─▶ runtime: beat
//!                                    ╰─ three times not: exit; the servers stay
//! ```
//!
//! The next daemon takes the servers over; a daemon that hangs would help nobody. Turns of the
//! thread are counted, not time: while the whole process is stopped, or the machine sleeps, the
//! thread makes no turn either, and afterwards the runtime has its full time again.
//!
//! A beat is asked for and not read off what the runtime counts of itself: with one worker blocked
//! and the other parked nobody waits for sockets, and a beat wakes the one that then does.

use super::{notify, own_log};
use crate::failpoint;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tokio::runtime::Handle;

/// Shortens `LIMIT`, in milliseconds: for tests.
pub(super) const TEST_LIMIT_VARIABLE: &str = "LLAMACTL_TEST_WATCHDOG_MS";

/// The exit status of a daemon whose runtime stood still.
pub(super) const EXIT_STATUS: i32 = 70;

/// How long the runtime may stand still.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// Each turn wakes two threads.
const TURNS: u32 = 3;
/// What is done at the end may itself hang on what the runtime hangs on.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Watches until it is dropped.
pub(super) struct Watchdog(Arc<AtomicBool>);

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Starts watching the runtime this is called in.
///
/// # Errors
/// The thread cannot be made.
pub(super) fn start() -> std::io::Result<Watchdog> {
    let shortened = std::env::var(TEST_LIMIT_VARIABLE).ok().and_then(|text| text.parse().ok());
    let limit = shortened.map_or(LIMIT, Duration::from_millis);
    let period = notify::period().map_or(limit / TURNS, |period| period.min(limit / TURNS));
    let (over, runtime) = (Arc::new(AtomicBool::new(false)), Handle::current());
    let watching = Arc::clone(&over);
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        if stands_still(&runtime, limit, period, &watching) {
            end(limit);
        }
    })?;
    Ok(Watchdog(over))
}

/// Until the runtime has stood still for `limit`; false when the watch is over before.
fn stands_still(runtime: &Handle, limit: Duration, period: Duration, over: &AtomicBool) -> bool {
    let allowed = limit.as_nanos().div_ceil(period.as_nanos().max(1));
    let beats = Arc::new(AtomicU64::new(0));
    let (mut asked, mut missed) = (0, 0);
    loop {
        let beat = Arc::clone(&beats);
        runtime.spawn(async move {
            failpoint::hit("executor");
            beat.fetch_add(1, Ordering::Relaxed);
        });
        asked += 1;
        thread::sleep(period);
        if over.load(Ordering::Relaxed) {
            return false;
        }
        if beats.load(Ordering::Relaxed) == asked {
            missed = 0;
            notify::tell("WATCHDOG=1");
        } else {
            missed += 1;
            if missed >= allowed {
                return true;
            }
        }
    }
}

fn end(limit: Duration) {
    // The log, and what runs at an exit, may hang too.
    let last = thread::Builder::new().spawn(|| {
        thread::sleep(LAST_WORDS);
        process::abort();
    });
    if last.is_err() {
        process::abort();
    }
    tracing::error!(
        limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        "the daemon stands still and ends itself; its servers run on, and the next daemon takes them over"
    );
    own_log::flush();
    process::exit(EXIT_STATUS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_runtime_is_found_and_a_turning_one_is_not() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (limit, period) = (Duration::from_millis(60), Duration::from_millis(10));
        let over = Arc::new(AtomicBool::new(false));
        let watch = {
            let (over, handle) = (Arc::clone(&over), runtime.handle().clone());
            thread::spawn(move || stands_still(&handle, Duration::from_secs(60), period, &over))
        };
        over.store(true, Ordering::Relaxed);
        assert!(!watch.join().unwrap(), "nothing stood still");

        let (release, blocked) = std::sync::mpsc::channel::<()>();
        runtime.spawn(async move { blocked.recv() });
        over.store(false, Ordering::Relaxed);
        assert!(stands_still(runtime.handle(), limit, period, &over));
        drop(release);
    }
}
