//! Waiting for what announces itself by no event.

use std::thread;
use std::time::{Duration, Instant};

/// Asks until the answer is yes; fails the test, saying `what` was awaited, when `deadline` has
/// passed. For states of the operating system only: what the daemon knows has a stream to await.
///
/// # Panics
/// When the deadline has passed.
pub fn eventually(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "waited {deadline:?} in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What is left until `end`, for calls that take a timeout.
///
/// # Panics
/// When `end` has passed; `what` says what was awaited.
#[must_use]
pub fn remaining(end: Instant, what: &str) -> Duration {
    let left = end.saturating_duration_since(Instant::now());
    assert!(!left.is_zero(), "waited in vain for {what}");
    left
}
