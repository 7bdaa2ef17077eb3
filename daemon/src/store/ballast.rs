//! A file that is there to be removed: room for what must be written although the disk is full.
//!
//! ```text
//!   held ── the disk is full, and a stop must be written ──▶ released ── there is room again ──▶ held
//! ```

use crate::os::disk::{free_bytes, reserve};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// How much room it keeps.
const BYTES: u64 = 16 << 20;
/// It is not made at first where it would take much of what there is.
const ROOM_FOR_A_FIRST: u64 = 4 * BYTES;
/// Below this a disk counts as full.
const LEAST: u64 = 1 << 20;

const NAME: &str = "ballast";

/// Whether next to nothing can be written in a directory.
pub(super) fn is_disk_full(dir: &Path) -> bool {
    free(dir) < LEAST
}

fn free(dir: &Path) -> u64 {
    // What cannot be asked is not held to be full.
    free_bytes(dir).unwrap_or(LEAST)
}

/// Room that is kept on a disk.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The disk is small, or cannot keep room.
    None,
    Held,
    Released,
}

impl Ballast {
    /// Keeps room in a directory, where there is plenty.
    pub(super) fn in_directory(dir: &Path) -> Ballast {
        let mut ballast = Ballast { path: dir.join(NAME), state: State::None };
        let there = fs::metadata(&ballast.path).is_ok_and(|facts| facts.len() == BYTES);
        if there || ballast.free() >= ROOM_FOR_A_FIRST {
            ballast.make();
        }
        ballast
    }

    /// Gives away the room that is kept in a directory, where its disk is full and there is any.
    pub(super) fn released_in(dir: &Path) -> Option<Ballast> {
        let path = dir.join(NAME);
        let released = is_disk_full(dir) && fs::remove_file(&path).is_ok();
        released.then_some(Ballast { path, state: State::Released })
    }

    /// Whether its room was needed, and there is none to make it anew.
    pub(super) fn is_missing(&mut self) -> bool {
        if self.state == State::Released && self.free() >= BYTES + LEAST {
            self.make();
        }
        self.state == State::Released
    }

    /// Gives its room away; whether there was any.
    pub(super) fn release(&mut self) -> bool {
        let held = self.state == State::Held && fs::remove_file(&self.path).is_ok();
        if held {
            self.state = State::Released;
        }
        held
    }

    /// Whether next to nothing can be written.
    pub(super) fn is_disk_full(&self) -> bool {
        self.free() < LEAST
    }

    fn free(&self) -> u64 {
        free(self.path.parent().unwrap_or(&self.path))
    }

    fn make(&mut self) {
        let made = File::options().create(true).truncate(false).write(true).open(&self.path);
        match made.and_then(|file| reserve(&file, BYTES)) {
            Ok(()) => self.state = State::Held,
            Err(error) => {
                tracing::debug!(%error, "no room can be kept for a full disk");
                let _ = fs::remove_file(&self.path);
            }
        }
    }
}
