//! A wall clock that is set while a daemon runs, for that daemon alone.
//!
//! ```text
//!   llamactld ─ what time is it? ─▶ a library loaded before libc ─▶ the clock, and what FILE says more
//! ```

use crate::{Home, Invocation, artifacts};
use std::fs;
use std::path::PathBuf;

/// The wall clock of a daemon.
#[derive(Debug)]
pub struct SetClock(PathBuf);

impl SetClock {
    /// One that is right, so far.
    #[must_use]
    pub fn of(home: &Home) -> SetClock {
        SetClock(home.path().join("clock"))
    }

    /// A daemon that goes by it.
    #[must_use]
    pub fn under(&self, daemon: Invocation) -> Invocation {
        daemon.env("LD_PRELOAD", artifacts::c_library("set_clock")).env("LC_SET_CLOCK", &self.0)
    }

    /// Sets it to so many seconds ahead of the right time.
    pub fn set(&self, ahead_s: i64) {
        let new = self.0.with_extension("new");
        fs::write(&new, ahead_s.to_string()).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}
