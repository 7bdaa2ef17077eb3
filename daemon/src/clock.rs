//! The wall clock. Durations are measured on `std::time::Instant`, and policies are handed a
//! [moment](crate::supervisor::core::machine::Moment) instead of reading a clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time now, in Unix milliseconds. 0 before 1970.
#[must_use]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}
