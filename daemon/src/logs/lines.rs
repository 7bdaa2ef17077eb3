//! Lines that were read together, for all who read the same log.
//!
//! ```text
//!   one reader ── reads, splits ──▶ Recent ──▶ the others, at the same offset
//!                                     ╰─ taken apart once, by the first who asks
//! ```
//!
//! Readers that have read up to the end of a log stand at the same offset, so they stay together
//! from there on: a line costs one read and one parse, however many follow.

use crate::logs::line::Line;
use crate::logs::split::RawLine;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// How much is kept of one log. A reader that is further behind reads for itself.
const KEEP_BYTES: usize = 256 * 1024;

/// Lines that touch, with what they say.
#[derive(Debug, Default)]
pub struct Lines {
    raw: Vec<RawLine>,
    parsed: OnceLock<Vec<Line>>,
}

impl Lines {
    /// Each line with what it says, taken apart at the first call.
    pub fn parsed(&self) -> impl Iterator<Item = (&RawLine, &Line)> {
        let parse = || self.raw.iter().map(|line| Line::parse(&line.bytes)).collect();
        self.raw.iter().zip(self.parsed.get_or_init(parse))
    }
}

impl From<Vec<RawLine>> for Lines {
    fn from(raw: Vec<RawLine>) -> Self {
        Self { raw, parsed: OnceLock::new() }
    }
}

impl Deref for Lines {
    type Target = [RawLine];

    fn deref(&self) -> &[RawLine] {
        &self.raw
    }
}

impl PartialEq for Lines {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for Lines {}

/// What was read of a log lately, while at least two read it.
#[derive(Debug, Default)]
pub struct Recent {
    readers: usize,
    chunks: VecDeque<Arc<Lines>>,
    bytes: usize,
}

impl Recent {
    /// The whole lines from this offset on, if they were read a moment ago.
    #[must_use]
    pub fn at(&self, offset: u64) -> Option<Arc<Lines>> {
        let found =
            self.chunks.iter().find(|lines| lines.first().is_some_and(|it| it.offset == offset));
        found.cloned()
    }

    /// So many read the log now.
    pub fn set_readers(&mut self, readers: usize) {
        self.readers = readers;
        if readers < 2 {
            self.clear();
        }
    }

    /// Keeps lines for the others. Pieces of lines are not kept.
    pub fn keep(&mut self, lines: &Arc<Lines>) {
        if self.readers < 2 {
            return;
        }
        let whole = lines.first().zip(lines.last()).is_some_and(|(a, b)| !a.cut && !b.cut);
        if !whole {
            return;
        }
        self.chunks.push_back(Arc::clone(lines));
        self.bytes += weight(lines);
        while self.bytes > KEEP_BYTES {
            let Some(oldest) = self.chunks.pop_front() else { break };
            self.bytes -= weight(&oldest);
        }
    }

    /// The file has this length: what lies behind it was before somebody emptied the file.
    pub fn is_long(&mut self, length: u64) {
        if self.chunks.iter().any(|lines| lines.last().is_some_and(|it| it.end_offset > length)) {
            self.clear();
        }
    }

    /// Forgets everything: the file is not what it was.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.bytes = 0;
    }
}

fn weight(lines: &Lines) -> usize {
    // A line is kept as bytes and as text.
    lines.iter().map(|line| 2 * line.bytes.len() + size_of::<RawLine>() + size_of::<Line>()).sum()
}
