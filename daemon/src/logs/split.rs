//! Bytes in, lines out: pure, with bounded memory.
//!
//! ```text
//! push(bytes) ─> [ pending: the start of a line … ] ─> take(n) ─> lines with their offsets
//! ```
//!
//! A line that is not complete stays pending until its end comes, it is longer than
//! [`LINE_MAX_BYTES`] (then a piece of that size is given, marked `cut`), or [`Splitter::finish`] says
//! that no more will come.

use std::collections::VecDeque;

/// The longest piece of a line that is given at once. Longer lines come in pieces.
pub const LINE_MAX_BYTES: usize = 64 * 1024;

/// A line as it lies in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawLine {
    /// Where it begins.
    pub offset: u64,
    /// Where the next one begins: the cursor behind this line.
    pub end_offset: u64,
    /// The bytes, at most [`LINE_MAX_BYTES`], without the line feed.
    pub bytes: Vec<u8>,
    /// The line is longer than [`LINE_MAX_BYTES`] and this is a piece of it. Where
    /// `end_offset - offset` is the number of bytes, no line feed was there: the next piece follows.
    pub cut: bool,
}

/// What follows the bytes that are cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    LineFeed,
    GoesOn,
    OfInput,
}

/// Cuts a stream of bytes into lines.
#[derive(Debug)]
pub struct Splitter {
    pending: VecDeque<u8>,
    /// The file offset of the first pending byte.
    offset: u64,
    /// How many pending bytes are known to hold no line feed.
    searched: usize,
    /// The first pending byte is in the middle of a line.
    inside_line: bool,
}

impl Splitter {
    /// Begins at a file offset; `inside_line` when a line began before it.
    #[must_use]
    pub fn new(offset: u64, inside_line: bool) -> Self {
        Self { pending: VecDeque::new(), offset, searched: 0, inside_line }
    }

    /// The offset behind the last line given.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the next line is whole: nothing of it was given yet.
    #[must_use]
    pub fn at_line_start(&self) -> bool {
        !self.inside_line
    }

    /// The offset behind the last byte pushed: where to read on.
    #[must_use]
    pub fn end_offset(&self) -> u64 {
        self.offset.saturating_add(self.pending.len() as u64)
    }

    /// Adds the bytes at [`Self::end_offset`].
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend(bytes);
    }

    /// Takes up to `max_lines` lines that are complete, and pieces of those that are too long.
    pub fn take(&mut self, max_lines: usize) -> Vec<RawLine> {
        let mut lines = Vec::new();
        while lines.len() < max_lines {
            let Some(line) = self.next_line() else { break };
            lines.push(line);
        }
        lines
    }

    /// Takes what is left as the last line: there will be no more bytes. Call [`Self::take`] until it
    /// gives nothing first.
    pub fn finish(&mut self) -> Option<RawLine> {
        let left = self.pending.len();
        (left > 0).then(|| self.cut_off(left, End::OfInput))
    }

    fn next_line(&mut self) -> Option<RawLine> {
        match self.find_line_feed() {
            Some(length) if length <= LINE_MAX_BYTES => Some(self.cut_off(length, End::LineFeed)),
            Some(_) => Some(self.cut_off(LINE_MAX_BYTES, End::GoesOn)),
            None if self.pending.len() > LINE_MAX_BYTES => {
                Some(self.cut_off(LINE_MAX_BYTES, End::GoesOn))
            }
            None => None,
        }
    }

    /// How many bytes stand before the next line feed.
    fn find_line_feed(&mut self) -> Option<usize> {
        let pending = self.pending.make_contiguous();
        let unsearched = pending.get(self.searched..).unwrap_or_default();
        let found = memchr::memchr(b'\n', unsearched).map(|at| self.searched + at);
        self.searched = found.unwrap_or(pending.len());
        found
    }

    /// Takes `length` bytes, and the line feed behind them.
    fn cut_off(&mut self, length: usize, end: End) -> RawLine {
        let taken = length + usize::from(end == End::LineFeed);
        let mut bytes = Vec::with_capacity(taken);
        bytes.extend(self.pending.drain(..taken.min(self.pending.len())));
        let offset = self.offset;
        self.offset = offset.saturating_add(bytes.len() as u64);
        bytes.truncate(length);
        self.searched = self.searched.saturating_sub(taken);
        let cut = self.inside_line || end == End::GoesOn;
        self.inside_line = end != End::LineFeed;
        RawLine { offset, end_offset: self.offset, bytes, cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(offset: u64, end_offset: u64, bytes: &[u8]) -> RawLine {
        RawLine { offset, end_offset, bytes: bytes.to_vec(), cut: false }
    }

    #[test]
    fn lines_have_their_offsets_and_the_last_one_waits_for_its_end() {
        let mut splitter = Splitter::new(100, false);
        splitter.push(b"one\n\ntw");
        assert_eq!(splitter.take(9), [line(100, 104, b"one"), line(104, 105, b"")]);
        assert_eq!((splitter.offset(), splitter.end_offset()), (105, 107));
        splitter.push(b"o\n");
        assert_eq!(splitter.take(9), [line(105, 109, b"two")]);
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn no_more_lines_are_taken_than_asked_for() {
        let mut splitter = Splitter::new(0, false);
        splitter.push(b"1\n2\n3\n");
        assert_eq!(splitter.take(2).len(), 2);
        assert_eq!(splitter.take(2), [line(4, 6, b"3")]);
    }

    #[test]
    fn the_end_gives_an_unfinished_line() {
        let mut splitter = Splitter::new(0, false);
        splitter.push(b"half");
        assert_eq!(splitter.take(9), []);
        assert_eq!(splitter.finish(), Some(line(0, 4, b"half")));
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn a_long_line_comes_in_marked_pieces() {
        for (length, pieces) in [
            (LINE_MAX_BYTES, vec![(LINE_MAX_BYTES, false)]),
            (LINE_MAX_BYTES + 1, vec![(LINE_MAX_BYTES, true), (1, true)]),
            (2 * LINE_MAX_BYTES, vec![(LINE_MAX_BYTES, true); 2]),
        ] {
            let mut splitter = Splitter::new(0, false);
            splitter.push(&vec![b'x'; length]);
            splitter.push(b"\nnext\n");
            let mut lines = splitter.take(9);
            assert_eq!(lines.pop().unwrap(), line(length as u64 + 1, length as u64 + 6, b"next"));
            let seen: Vec<_> = lines.iter().map(|line| (line.bytes.len(), line.cut)).collect();
            assert_eq!(seen, pieces);
        }
    }

    #[test]
    fn beginning_inside_a_line_marks_its_rest() {
        let mut splitter = Splitter::new(7, true);
        splitter.push(b"rest\nnext\n");
        let cuts: Vec<_> = splitter.take(9).iter().map(|line| line.cut).collect();
        assert_eq!(cuts, [true, false]);
    }

    proptest! {
        /// However the bytes arrive, the lines are the same, touch each other and hold every byte.
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_arrive(
            lines in prop::collection::vec((any::<u8>(), 0usize..200_000), 0..6),
            unfinished in 0usize..100,
            steps in prop::collection::vec(1usize..90_000, 1..8),
        ) {
            let mut input = Vec::new();
            for (byte, length) in &lines {
                input.resize(input.len() + length, if *byte == b'\n' { 0 } else { *byte });
                input.push(b'\n');
            }
            input.resize(input.len() + unfinished, b'z');

            let mut whole = Splitter::new(0, false);
            whole.push(&input);
            let mut expected = whole.take(usize::MAX);
            expected.extend(whole.finish());

            let mut splitter = Splitter::new(0, false);
            let mut seen = Vec::new();
            let mut rest = &input[..];
            for step in steps.iter().cycle() {
                if rest.is_empty() { break }
                let (now, later) = rest.split_at((*step).min(rest.len()));
                splitter.push(now);
                loop {
                    let taken = splitter.take(3);
                    if taken.is_empty() { break }
                    seen.extend(taken);
                }
                prop_assert!(splitter.pending.len() <= LINE_MAX_BYTES);
                rest = later;
            }
            seen.extend(splitter.finish());
            prop_assert_eq!(&seen, &expected);

            let mut rebuilt = Vec::new();
            for line in &seen {
                prop_assert_eq!(line.offset, rebuilt.len() as u64);
                rebuilt.extend(&line.bytes);
                if line.end_offset - line.offset > line.bytes.len() as u64 { rebuilt.push(b'\n'); }
            }
            prop_assert_eq!(rebuilt, input);
        }
    }
}
