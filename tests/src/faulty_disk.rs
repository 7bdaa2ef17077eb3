//! A disk that fails on purpose, under the files of a daemon's registry.
//!
//! ```text
//!   llamactld ─ write, fsync, … ─▶ a library loaded before libc ─▶ the files
//!                                    ├─ fails with EIO while FAIL lies there
//!                                    ├─ kills the process before its n-th change
//!                                    ╰─ writes down every change, in order
//! ```
//!
//! From what was written down follows what a power loss leaves: all that was flushed, and of the rest
//! whatever the disk had got to.

use crate::{Home, Invocation, artifacts};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reading a file.
    Read,
    /// Writing to a file, and cutting it.
    Write,
    /// Flushing a file.
    Sync,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Call::Read => "fail-read",
            Call::Write => "fail-write",
            Call::Sync => "fail-sync",
        }
    }
}

/// What was done to a file, as the daemon's process asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bytes were written at an offset.
    Written(usize, Vec<u8>),
    /// It was cut to a length.
    Cut(usize),
    /// It was flushed.
    Flushed,
    /// Flushing it failed.
    NotFlushed,
    /// A file was renamed; which is not said.
    Renamed,
}

/// Such a disk in a home.
pub struct FaultyDisk {
    dir: PathBuf,
}

impl FaultyDisk {
    /// One that works, so far.
    #[must_use]
    pub fn of(home: &Home) -> FaultyDisk {
        let dir = home.path().join("disk");
        fs::create_dir_all(&dir).unwrap();
        FaultyDisk { dir }
    }

    /// A daemon on it.
    #[must_use]
    pub fn under(&self, daemon: Invocation) -> Invocation {
        daemon
            .env("LD_PRELOAD", artifacts::c_library("faulty_disk"))
            .env("LC_FAULTY_DISK", &self.dir)
    }

    /// A daemon that is killed before its n-th change, counted from 1.
    #[must_use]
    pub fn killing_at(&self, daemon: Invocation, change: usize) -> Invocation {
        self.under(daemon).env("LC_FAULTY_DISK_KILL_AT", change.to_string())
    }

    /// Lets a call fail from now on.
    pub fn break_it(&self, call: Call) {
        fs::write(self.dir.join(call.name()), "").unwrap();
    }

    /// Lets it work again.
    pub fn mend(&self, call: Call) {
        fs::remove_file(self.dir.join(call.name())).unwrap();
    }

    /// Every change so far, with the name of its file.
    ///
    /// # Panics
    /// When none was written down: the library was not loaded.
    #[must_use]
    pub fn changes(&self) -> Vec<(String, Change)> {
        let trace = fs::read(self.dir.join("trace")).expect("the daemon is on this disk");
        let mut rest = trace.as_slice();
        let mut changes = Vec::new();
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let head = String::from_utf8_lossy(&rest[..end]).into_owned();
            let words: Vec<&str> = head.split(' ').collect();
            let [kind, name, offset, length] = words[..] else { panic!("{head}") };
            let (offset, length): (usize, usize) =
                (offset.parse().unwrap(), length.parse().unwrap());
            // The last may not be written down to its end yet.
            let Some(bytes) = rest.get(end + 1..end + 1 + length) else { break };
            rest = &rest[end + 1 + length..];
            let change = match kind {
                "W" => Change::Written(offset, bytes.to_vec()),
                "T" => Change::Cut(offset),
                "S" => Change::Flushed,
                "F" => Change::NotFlushed,
                "R" => Change::Renamed,
                other => panic!("{other}"),
            };
            changes.push((name.to_owned(), change));
        }
        changes
    }
}

/// What a power loss would leave of some files.
#[derive(Clone, Debug, Default)]
pub struct PowerLoss {
    files: BTreeMap<String, (Vec<u8>, Vec<Change>)>,
}

impl PowerLoss {
    /// The files as they were before anything was done to them.
    #[must_use]
    pub fn from(dir: &Path, names: &[&str]) -> PowerLoss {
        let read = |name: &&str| {
            let bytes = fs::read(dir.join(name)).unwrap_or_default();
            ((*name).to_owned(), (bytes, Vec::new()))
        };
        PowerLoss { files: names.iter().map(read).collect() }
    }

    /// Goes on by one change.
    pub fn go_on(&mut self, name: &str, change: &Change) {
        let Some((bytes, pending)) = self.files.get_mut(name) else { return };
        match change {
            Change::Flushed => pending.drain(..).for_each(|change| apply(bytes, &change)),
            Change::NotFlushed | Change::Renamed => {}
            Change::Written(..) | Change::Cut(_) => pending.push(change.clone()),
        }
    }

    /// Writes the files as they are if the power goes now. Of what was not flushed, `survives` says
    /// how many bytes of each write the disk had got to; a file that was cut was so if it says any.
    pub fn leave(&self, dir: &Path, mut survives: impl FnMut(usize) -> usize) {
        for (name, (bytes, pending)) in &self.files {
            let mut bytes = bytes.clone();
            for change in pending {
                match change {
                    Change::Written(offset, written) => {
                        let kept = survives(written.len()).min(written.len());
                        apply(&mut bytes, &Change::Written(*offset, written[..kept].to_vec()));
                    }
                    other if survives(1) > 0 => apply(&mut bytes, other),
                    _ => {}
                }
            }
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Written(offset, written) if !written.is_empty() => {
            let end = offset + written.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*offset..end].copy_from_slice(written);
        }
        Change::Cut(length) => bytes.resize(*length, 0),
        _ => {}
    }
}
