//! Where a scan's thread puts what it comes across, and what bounds it.

use super::naming::Naming;
use super::pair::Pairing;
use crate::os::denied::denied;
use crate::store::registry::FileStamp;
use llamactl_protocol::WirePath;
use llamactl_protocol::library::{Progress, ScanSource, Skipped};
use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// The most directory entries one scan looks at.
const MAX_ENTRIES: u64 = 1_000_000;

/// How many sightings are handed on together.
const BATCH: usize = 64;

/// How long one waits for others.
const PATIENCE: Duration = Duration::from_millis(50);

/// A file that may be a model, or go with one.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// The file to load.
    pub(super) path: PathBuf,
    /// Which files its parts are, as far as they are there; the first is `path`'s.
    pub(super) stamps: Vec<FileStamp>,
    /// Where it was found.
    pub(super) source: ScanSource,
    /// What its place says about its name.
    pub(super) naming: Naming,
    /// What else it is called there.
    pub(super) aliases: Vec<String>,
    /// Whether the path is a link.
    pub(super) is_link: bool,
    /// The projector that goes with it by what its place says.
    pub(super) projector: Option<(PathBuf, FileStamp)>,
    /// What a person should know.
    pub(super) notes: Vec<String>,
}

/// Files that lie together.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    /// The files to tell of.
    pub(super) files: Vec<Candidate>,
    /// Others that may go with them, told of elsewhere.
    pub(super) beside: Vec<(PathBuf, FileStamp)>,
    /// A directory above them whose projectors go with them too.
    pub(super) top: Option<PathBuf>,
    /// How a model finds its projector by name; `None` where names say nothing.
    pub(super) pairing: Option<Pairing>,
}

/// Something come across.
#[derive(Clone, Debug)]
pub(super) enum Sighting {
    /// Files that may be models.
    Group(Group),
    /// Something that cannot be used.
    Skipped(Skipped),
}

/// The scan is to end: nobody wants to know any more, or a bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped;

/// Takes what a scan's thread comes across.
pub(super) struct Sink {
    sightings: mpsc::Sender<Vec<Sighting>>,
    /// Not handed on yet: some together cost one wake-up.
    waiting: Vec<Sighting>,
    waiting_since: Instant,
    progress: watch::Sender<Progress>,
    entries_left: u64,
    directories: HashSet<(u64, u64)>,
}

impl Sink {
    /// A sink that hands on through these channels.
    pub(super) fn new(
        sightings: mpsc::Sender<Vec<Sighting>>,
        progress: watch::Sender<Progress>,
    ) -> Sink {
        Sink {
            sightings,
            waiting: Vec::new(),
            waiting_since: Instant::now(),
            progress,
            entries_left: MAX_ENTRIES,
            directories: HashSet::new(),
        }
    }

    /// Says which directory is being looked at.
    pub(super) fn enter(&mut self, directory: &Path) -> Result<(), Stopped> {
        let files_seen = MAX_ENTRIES.saturating_sub(self.entries_left);
        let directory = Some(WirePath::from(directory));
        self.progress.send_replace(Progress { directory, files_seen });
        if self.sightings.is_closed() {
            return Err(Stopped);
        }
        self.flush_in_time()
    }

    /// Whether a directory was not looked at before, by this path or another.
    pub(super) fn is_new(&mut self, directory: &Metadata) -> bool {
        self.directories.insert((directory.dev(), directory.ino()))
    }

    /// Counts an entry of a directory.
    pub(super) fn entry(&mut self, directory: &Path) -> Result<(), Stopped> {
        if let Some(left) = self.entries_left.checked_sub(1) {
            self.entries_left = left;
            return Ok(());
        }
        let reason =
            format!("{MAX_ENTRIES} files were looked at and there are more: the scan ends");
        self.skip(directory, "too_many", reason)?;
        self.flush()?;
        Err(Stopped)
    }

    /// Hands on files that may be models.
    pub(super) fn group(&mut self, group: Group) -> Result<(), Stopped> {
        self.send(Sighting::Group(group))
    }

    /// Hands on why something cannot be used.
    pub(super) fn skip(
        &mut self,
        path: &Path,
        kind: &str,
        reason: impl Into<String>,
    ) -> Result<(), Stopped> {
        let skipped = Skipped { path: path.into(), kind: kind.to_owned(), reason: reason.into() };
        self.send(Sighting::Skipped(skipped))
    }

    /// Hands on what the operating system said.
    pub(super) fn failed(&mut self, path: &Path, error: &io::Error) -> Result<(), Stopped> {
        let (kind, reason) = match error.kind() {
            io::ErrorKind::NotFound => ("file_not_found", "nothing is there".to_owned()),
            io::ErrorKind::PermissionDenied => ("permission_denied", denied(path).why),
            _ => ("file_unreadable", format!("cannot be read: {error}")),
        };
        self.skip(path, kind, reason)
    }

    fn send(&mut self, sighting: Sighting) -> Result<(), Stopped> {
        if self.waiting.is_empty() {
            self.waiting_since = Instant::now();
        }
        self.waiting.push(sighting);
        self.flush_in_time()
    }

    fn flush_in_time(&mut self) -> Result<(), Stopped> {
        if self.waiting.len() >= BATCH || self.waiting_since.elapsed() >= PATIENCE {
            return self.flush();
        }
        Ok(())
    }

    /// Hands on what is left.
    pub(super) fn flush(&mut self) -> Result<(), Stopped> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.sightings.blocking_send(std::mem::take(&mut self.waiting)).map_err(|_| Stopped)
    }
}
