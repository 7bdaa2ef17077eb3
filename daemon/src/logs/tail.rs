//! Reading a log as it grows.
//!
//! ```text
//! open(path, where to begin) ─> next().await ─> lines │ missed │ … ─> end
//!                                   │  ^
//!                         read 64 KiB  └── wait: the file changed, or the run has ended
//!                           ╰ what is in memory at once, else on a thread that may wait
//! ```
//!
//! Invariants:
//! - Each byte at or above the floor is given once, in order: the lines' offsets touch.
//! - What was freed before it could be read is counted, not skipped in silence.
//! - A line is given when it is complete, longer than [`LINE_MAX_BYTES`], or the run has ended.
//! - Those who read at the same offset read once ([`crate::logs::lines`]).
//! - Memory is bounded by about three times 64 KiB, whatever the child writes and however slow
//!   the reader is.
//! - Every call may be dropped and made again.

use crate::logs::file::{floor_of, read_up_to};
use crate::logs::last_lines::{is_inside_line, start_of_last_lines, start_of_line};
use crate::logs::lines::Lines;
use crate::logs::split::{LINE_MAX_BYTES, Splitter};
use crate::logs::watch::{FileWatch, Watcher};
use crate::os::{cached, hole};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use tokio::sync::watch;

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// The most lines of one chunk: empty lines take more memory here than in the file.
const CHUNK_MAX_LINES: usize = 1024;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At a cursor: the `end_offset` of the last line that was seen.
    Offset(u64),
    /// At the line that holds this offset, or at the floor where that is higher: for offsets that
    /// come from a [`crate::logs::index::TimeIndex`].
    LineAt(u64),
    /// This many lines before the end.
    LastLines(usize),
    /// At the first whole line there is.
    Floor,
    /// At the end, or where the line begins that is being written.
    End,
}

/// What a log gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Lines, in order.
    Lines(Arc<Lines>),
    /// There were bytes here that can no longer be read.
    Missed {
        /// How many; `None` when the file was emptied and offsets began at 0 again.
        bytes: Option<u64>,
    },
    /// Somebody deleted the file. It is read on all the same; said once.
    Deleted,
}

/// Why a log cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The system refuses.
    #[error("The log cannot be read: {0}.")]
    Io(#[from] io::Error),
}

impl TailError {
    /// Whether the log is gone.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        let TailError::Io(error) = self;
        error.kind() == io::ErrorKind::NotFound
    }
}

/// A reader of one log.
#[derive(Debug)]
pub struct Tail {
    file: Arc<File>,
    changes: FileWatch,
    finished: watch::Receiver<bool>,
    splitter: Splitter,
    has_ended: bool,
    is_deleted: bool,
    /// The last read gave all there was.
    is_at_end: bool,
    length_when_opened: u64,
}

impl Tail {
    /// A reader of an open file. `finished` turns true, or loses its sender, when the run has ended
    /// and nothing more will be written.
    ///
    /// # Errors
    /// See [`TailError`].
    pub async fn of(
        file: Arc<File>,
        start: Start,
        finished: watch::Receiver<bool>,
        watcher: &Watcher,
    ) -> Result<Self, TailError> {
        let changes = watcher.watch(&file);
        let opened = Arc::clone(&file);
        let begun = blocking(move || {
            let metadata = opened.metadata()?;
            let splitter = begin(&opened, start)?;
            Ok((metadata.len(), metadata.nlink() == 0, splitter))
        });
        let (length_when_opened, is_deleted, splitter) = begun.await?;
        if let Some(mut recent) = changes.recent() {
            recent.is_long(length_when_opened);
        }
        let has_ended = false;
        Ok(Self {
            file,
            changes,
            finished,
            splitter,
            has_ended,
            is_deleted,
            is_at_end: false,
            length_when_opened,
        })
    }

    /// The length of the file when it was opened, in bytes: what ends behind it is new.
    #[must_use]
    pub fn length_when_opened(&self) -> u64 {
        self.length_when_opened
    }

    /// The offset behind the last line given: the cursor.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.splitter.offset()
    }

    /// The next lines, as soon as there are any; `None` when the run has ended and all was given.
    ///
    /// # Errors
    /// See [`TailError`].
    pub async fn next(&mut self) -> Result<Option<Chunk>, TailError> {
        loop {
            let offset = self.splitter.offset();
            if self.splitter.at_line_start()
                && let Some(lines) = self.changes.recent().and_then(|recent| recent.at(offset))
                && let Some(last) = lines.last()
            {
                self.splitter = Splitter::new(last.end_offset, false);
                return Ok(Some(Chunk::Lines(lines)));
            }
            let lines = self.splitter.take(CHUNK_MAX_LINES);
            if !lines.is_empty() {
                let lines = Arc::new(Lines::from(lines));
                if let Some(mut recent) = self.changes.recent() {
                    recent.keep(&lines);
                }
                return Ok(Some(Chunk::Lines(lines)));
            }
            if self.has_ended {
                return Ok(None);
            }
            // Asked before reading: what was written before the end is then read.
            let run_has_ended = *self.finished.borrow() || self.finished.has_changed().is_err();
            let (file, offset) = (Arc::clone(&self.file), self.splitter.end_offset());
            if !run_has_ended {
                if std::mem::take(&mut self.is_at_end) {
                    // Whatever came since has woken it already.
                    self.wait().await;
                    continue;
                }
                if let Some(bytes) = read_at_once(&file, offset) {
                    self.is_at_end = bytes.len() < READ_BYTES;
                    self.splitter.push(&bytes);
                    continue;
                }
            }
            match blocking(move || read(&file, offset)).await? {
                Read::Bytes(bytes) => self.splitter.push(&bytes),
                Read::Freed(resume) => {
                    let missed = resume.offset().saturating_sub(self.splitter.offset());
                    self.splitter = resume;
                    return Ok(Some(Chunk::Missed { bytes: Some(missed) }));
                }
                Read::Emptied(resume) => {
                    self.splitter = resume;
                    if let Some(mut recent) = self.changes.recent() {
                        recent.clear();
                    }
                    return Ok(Some(Chunk::Missed { bytes: None }));
                }
                Read::End { .. } if run_has_ended => {
                    self.has_ended = true;
                    if let Some(line) = self.splitter.finish() {
                        return Ok(Some(Chunk::Lines(Arc::new(vec![line].into()))));
                    }
                }
                Read::End { deleted: true } if !self.is_deleted => {
                    self.is_deleted = true;
                    return Ok(Some(Chunk::Deleted));
                }
                Read::End { .. } => self.wait().await,
            }
        }
    }

    /// The length of the file as soon as it is another than `seen`, without reading any of it;
    /// `None` when the run has ended. What is passed over so is not given later.
    ///
    /// # Errors
    /// See [`TailError`].
    pub async fn length_after(&mut self, seen: u64) -> Result<Option<u64>, TailError> {
        loop {
            let run_has_ended = *self.finished.borrow() || self.finished.has_changed().is_err();
            let file = Arc::clone(&self.file);
            let metadata = blocking(move || file.metadata()).await?;
            match metadata.len() {
                length if length != seen => {
                    if let Some(mut recent) = self.changes.recent() {
                        recent.is_long(length);
                    }
                    return Ok(Some(length));
                }
                _ if run_has_ended => return Ok(None),
                _ => self.wait().await,
            }
        }
    }

    async fn wait(&mut self) {
        tokio::select! {
            () = self.changes.changed() => {}
            _ = self.finished.changed() => {}
        }
    }
}

/// What can be read without waiting. Freed bytes read as zeros, and a log has hardly any of its own:
/// where there is one, it takes a closer look.
fn read_at_once(file: &File, offset: u64) -> Option<Vec<u8>> {
    let bytes = cached::read_at(file, READ_BYTES, offset)?;
    memchr::memchr(0, &bytes).is_none().then_some(bytes)
}

/// What a look at the file gave.
pub(super) enum Read {
    Bytes(Vec<u8>),
    /// The head was freed past the reader, which goes on so.
    Freed(Splitter),
    /// The file is shorter than it was; the reader goes on so.
    Emptied(Splitter),
    End {
        deleted: bool,
    },
}

pub(super) fn read(file: &File, offset: u64) -> io::Result<Read> {
    let mut bytes = vec![0; READ_BYTES];
    let read_bytes = read_up_to(file, &mut bytes, offset)?;
    bytes.truncate(read_bytes);
    // Asked after reading: what is still there now was no hole when it was read.
    if hole::first_data(file)? > offset {
        return Ok(Read::Freed(begin(file, Start::Floor)?));
    }
    if !bytes.is_empty() {
        return Ok(Read::Bytes(bytes));
    }
    let metadata = file.metadata()?;
    if metadata.len() < offset {
        return Ok(Read::Emptied(begin(file, Start::Floor)?));
    }
    Ok(Read::End { deleted: metadata.nlink() == 0 })
}

pub(super) fn begin(file: &File, start: Start) -> io::Result<Splitter> {
    let offset = match start {
        Start::Offset(offset) => offset,
        Start::LineAt(offset) => start_of_line(file, offset)?,
        Start::LastLines(n) => start_of_last_lines(file, n)?,
        Start::Floor => floor_of(file)?,
        Start::End => start_of_line(file, u64::MAX)?,
    };
    Ok(Splitter::new(offset, is_inside_line(file, offset)?))
}

/// Runs on a thread that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(call).await.map_err(io::Error::other)?
}

const _: () = assert!(READ_BYTES <= LINE_MAX_BYTES);

#[cfg(test)]
mod tests;
