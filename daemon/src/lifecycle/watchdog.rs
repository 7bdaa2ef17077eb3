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
//! A beat is asked for and not read off what the runtime counts of itself. It is asked for by a socket, which
//! wakes the one worker that waits for sockets; what is spawned from outside wakes two. But with one worker
//! blocked and the other parked nobody waits for sockets: what is spawned wakes the one that then does, and is
//! tried where a beat did not come.

use super::{notify, own_log};
use crate::failpoint;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;

/// Shortens `LIMIT`, in milliseconds: for tests.
pub(super) const TEST_LIMIT_VARIABLE: &str = "LLAMACTL_TEST_WATCHDOG_MS";

/// The exit status of a daemon whose runtime stood still.
pub(super) const EXIT_STATUS: i32 = 70;

/// How long the runtime may stand still.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// Each turn wakes two threads, this one among them.
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
/// The thread cannot be made, or its socket.
pub(super) fn start() -> io::Result<Watchdog> {
    let shortened = std::env::var(TEST_LIMIT_VARIABLE).ok().and_then(|text| text.parse().ok());
    let limit = shortened.map_or(LIMIT, Duration::from_millis);
    let period = notify::period().map_or(limit / TURNS, |period| period.min(limit / TURNS));
    let (over, mut beats) = (Arc::new(AtomicBool::new(false)), Beats::new()?);
    let watching = Arc::clone(&over);
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        if stands_still(&mut beats, limit, period, &watching) {
            end(limit);
        }
    })?;
    Ok(Watchdog(over))
}

/// Signs of a runtime that turns.
struct Beats {
    runtime: Handle,
    count: Arc<AtomicU64>,
    ask: UnixStream,
}

impl Beats {
    /// Those of the runtime this is called in.
    fn new() -> io::Result<Beats> {
        let (runtime, count) = (Handle::current(), Arc::default());
        let (ask, asked) = UnixStream::pair()?;
        ask.set_nonblocking(true)?;
        asked.set_nonblocking(true)?;
        let (mut asked, beat) = (tokio::net::UnixStream::from_std(asked)?, Arc::clone(&count));
        runtime.spawn(async move {
            // It ends with the watch.
            while asked.read_u8().await.is_ok() {
                give(&beat);
            }
        });
        Ok(Beats { runtime, count, ask })
    }

    /// Asks for one; `again` after one that did not come.
    fn ask(&mut self, again: bool) {
        // One that cannot be sent is one of many that wait.
        let _ = self.ask.write(&[0]);
        if again {
            let beat = Arc::clone(&self.count);
            self.runtime.spawn(async move { give(&beat) });
        }
    }
}

fn give(beat: &AtomicU64) {
    failpoint::hit("executor");
    beat.fetch_add(1, Ordering::Relaxed);
}

/// Until the runtime has stood still for `limit`; false when the watch is over before.
fn stands_still(beats: &mut Beats, limit: Duration, period: Duration, over: &AtomicBool) -> bool {
    let allowed = limit.as_nanos().div_ceil(period.as_nanos().max(1));
    let mut missed = 0;
    loop {
        let before = beats.count.load(Ordering::Relaxed);
        beats.ask(missed > 0);
        thread::sleep(period);
        if over.load(Ordering::Relaxed) {
            return false;
        }
        if beats.count.load(Ordering::Relaxed) == before {
            missed += 1;
            if missed >= allowed {
                return true;
            }
        } else {
            missed = 0;
            notify::tell("WATCHDOG=1");
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
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_io().build().unwrap();
        let _inside = runtime.enter();
        let (limit, period) = (Duration::from_millis(60), Duration::from_millis(10));
        let over = Arc::new(AtomicBool::new(false));
        let watch = {
            let (over, mut beats) = (Arc::clone(&over), Beats::new().unwrap());
            thread::spawn(move || stands_still(&mut beats, Duration::from_secs(60), period, &over))
        };
        over.store(true, Ordering::Relaxed);
        assert!(!watch.join().unwrap(), "nothing stood still");

        over.store(false, Ordering::Relaxed);
        let mut beats = Beats::new().unwrap();
        // Whichever of the two waited for sockets: what is asked again reaches the other.
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        runtime.spawn(async move { blocked.recv() });
        let start = beats.count.load(Ordering::Relaxed);
        let mut missed = 0;
        while beats.count.load(Ordering::Relaxed) == start {
            beats.ask(missed > 0);
            missed += 1;
            thread::sleep(period);
        }

        let (release_other, other_blocked) = std::sync::mpsc::channel::<()>();
        runtime.spawn(async move { other_blocked.recv() });
        assert!(stands_still(&mut beats, limit, period, &over));
        drop((release, release_other));
    }
}
