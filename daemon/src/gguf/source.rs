//! A bounded, buffered view of the bytes of a header.
//!
//! One buffer of fixed size, no allocation that a length in the file decides. Every length is compared with the size of
//! the file before it is used, long values are passed by seeking, and a budget bounds what one header may make us read.

use std::io::{self, Read, Seek, SeekFrom};

use super::error::Problem;

/// Size of the buffer and of the longest piece that [`Source::take`] hands out.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Reads a header front to back.
pub(super) struct Source<R> {
    inner: R,
    file_bytes: u64,
    /// Offset in the file of `buffer[start]`.
    position: u64,
    buffer: Vec<u8>,
    /// `buffer[start..end]` is read and not yet taken.
    start: usize,
    end: usize,
    budget_bytes: u64,
}

impl<R: Read + Seek> Source<R> {
    /// A view of `inner`, which stands at offset 0 and has `file_bytes` bytes; at most `budget_bytes` of them are read.
    pub(super) fn new(inner: R, file_bytes: u64, budget_bytes: u64) -> Self {
        Self {
            inner,
            file_bytes,
            position: 0,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            budget_bytes,
        }
    }

    /// Size of the whole file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// What is left of the budget.
    pub(super) fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    /// Offset of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes between here and the end of the file.
    pub(super) fn remaining_bytes(&self) -> u64 {
        self.file_bytes.saturating_sub(self.position)
    }

    /// Up to `wanted` bytes from here without moving on; fewer at the end of the file.
    pub(super) fn peek(&mut self, wanted: usize) -> Result<&[u8], Problem> {
        let wanted = usize::try_from(self.remaining_bytes())
            .map_or(wanted, |remaining| wanted.min(remaining));
        self.fill(wanted)?;
        Ok(self.buffer.get(self.start..self.start + wanted).unwrap_or_default())
    }

    /// The next `count` bytes, at most [`BUFFER_BYTES`].
    pub(super) fn take(&mut self, count: usize) -> Result<&[u8], Problem> {
        self.fill(count)?;
        let taken = self.start..self.start + count;
        self.start += count;
        self.position += count as u64;
        self.buffer.get(taken).ok_or_else(|| self.truncated())
    }

    /// The next `N` bytes.
    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    /// The next little-endian 32-bit number.
    pub(super) fn u32(&mut self) -> Result<u32, Problem> {
        self.take_array().map(u32::from_le_bytes)
    }

    /// The next little-endian 64-bit number.
    pub(super) fn u64(&mut self) -> Result<u64, Problem> {
        self.take_array().map(u64::from_le_bytes)
    }

    /// Passes over `count` bytes; costs no reading beyond the buffer.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), Problem> {
        if count > self.remaining_bytes() {
            return Err(self.truncated());
        }
        self.position += count;
        match usize::try_from(count) {
            Ok(count) if count <= self.end - self.start => self.start += count,
            _ => {
                (self.start, self.end) = (0, 0);
                self.inner.seek(SeekFrom::Start(self.position))?;
            }
        }
        Ok(())
    }

    /// Makes `buffer[start..start + wanted]` valid.
    fn fill(&mut self, wanted: usize) -> Result<(), Problem> {
        if self.end - self.start >= wanted {
            return Ok(());
        }
        if wanted as u64 > self.remaining_bytes() || wanted > BUFFER_BYTES {
            return Err(self.truncated());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < wanted {
            let free = self.buffer.get_mut(self.end..).unwrap_or_default();
            let count = match self.inner.read(free) {
                // The file shrank after its size was asked for.
                Ok(0) => return Err(self.truncated()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.end += count;
            self.budget_bytes = self.budget_bytes.checked_sub(count as u64).ok_or_else(|| {
                Problem::Hostile("a header far longer than that of any real model".to_owned())
            })?;
        }
        Ok(())
    }

    fn truncated(&self) -> Problem {
        Problem::TruncatedHeader { file_bytes: self.file_bytes }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use std::io::Cursor;

    const BUDGET_BYTES: u64 = 10 * BUFFER_BYTES as u64;

    fn counting_bytes(length: usize) -> Vec<u8> {
        (0..length).map(|index| index as u8).collect()
    }

    #[test]
    fn pieces_cross_the_edge_of_the_buffer() {
        let bytes = counting_bytes(3 * BUFFER_BYTES);
        let mut source = Source::new(Cursor::new(&bytes), bytes.len() as u64, BUDGET_BYTES);
        let mut at = 0;
        for count in [1, BUFFER_BYTES - 3, 8, BUFFER_BYTES, 5] {
            assert_eq!(source.take(count).unwrap(), &bytes[at..at + count]);
            at += count;
            assert_eq!(source.position(), at as u64);
        }
    }

    #[test]
    fn skips_within_and_beyond_the_buffer() {
        let bytes = counting_bytes(3 * BUFFER_BYTES);
        let mut source = Source::new(Cursor::new(&bytes), bytes.len() as u64, BUDGET_BYTES);
        assert_eq!(source.peek(4).unwrap(), [0, 1, 2, 3]);
        source.skip(10).unwrap();
        assert_eq!(source.take(2).unwrap(), [10, 11]);
        let far = 2 * BUFFER_BYTES + 7;
        source.skip((far - 12) as u64).unwrap();
        assert_eq!(source.take(1).unwrap(), &bytes[far..=far]);
    }

    #[test]
    fn nothing_is_handed_out_beyond_the_end() {
        let mut source = Source::new(Cursor::new([1, 2, 3]), 3, BUDGET_BYTES);
        assert_eq!(source.peek(100).unwrap(), [1, 2, 3]);
        assert_eq!(source.u32().unwrap_err().kind(), "gguf_truncated");
        assert_eq!(source.skip(u64::MAX).unwrap_err().kind(), "gguf_truncated");
        source.skip(3).unwrap();
        assert_eq!(source.remaining_bytes(), 0);
    }

    #[test]
    fn a_file_that_shrank_is_cut_off() {
        let mut source = Source::new(Cursor::new([0; 4]), 1000, BUDGET_BYTES);
        assert_eq!(source.u64().unwrap_err().kind(), "gguf_truncated");
    }

    #[test]
    fn reading_without_end_is_refused() {
        let mut source = Source::new(Endless, u64::MAX, BUDGET_BYTES);
        let mut taken_bytes = 0;
        let problem = loop {
            match source.take(BUFFER_BYTES) {
                Ok(piece) => taken_bytes += piece.len() as u64,
                Err(problem) => break problem,
            }
        };
        assert_eq!(problem.kind(), "gguf_hostile");
        assert_eq!(taken_bytes, BUDGET_BYTES);
    }

    /// Zeros for ever.
    struct Endless;

    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            into.fill(0);
            Ok(into.len())
        }
    }

    impl Seek for Endless {
        fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
            Ok(0)
        }
    }
}
