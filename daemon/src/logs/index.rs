//! Which offset of a log was written when: for "everything since ten o'clock".
//!
//! ```text
//! a clock that ticks ──note(now, length)──> points (time, offset) ──offset_at(since)──> offset
//!                              └──16 bytes──> <run>.times, read again after a restart
//! ```
//!
//! The index is sparse and errs on one side: from the offset it gives, every line written at or after
//! the time asked for is seen, and perhaps some that are older. It never holds more than
//! [`MAX_POINTS`]: when it is full, every other point goes.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The most points kept.
pub const MAX_POINTS: usize = 4096;
/// A point in the file: time and offset, little endian.
const RECORD_BYTES: usize = 16;
/// The file is written anew when it holds more records than this.
const MAX_RECORDS: usize = 2 * MAX_POINTS;

/// Points in time and the offsets reached then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeIndex {
    /// Both ascend strictly.
    points: Vec<(i64, u64)>,
}

impl TimeIndex {
    /// Reads an index that was kept in a file; one that is missing is empty.
    ///
    /// # Errors
    /// As the system says.
    pub fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self::from_records(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Notes that at `now_ms` (Unix time) the log ended at `offset`. `true` when that is news.
    pub fn note(&mut self, now_ms: i64, offset: u64) -> bool {
        // A shorter log was emptied and began anew.
        if self.points.last().is_some_and(|(_, last)| offset < *last) {
            self.points.clear();
        }
        // A clock that was set back makes later times void: by today's clock they are yet to come.
        while self.points.last().is_some_and(|(at_ms, _)| now_ms < *at_ms) {
            self.points.pop();
        }
        if self.points.last().is_some_and(|(at_ms, last)| offset == *last || now_ms == *at_ms) {
            return false;
        }
        if self.points.len() >= MAX_POINTS {
            let mut position = 0;
            self.points.retain(|_| {
                position += 1;
                position % 2 == 1
            });
        }
        self.points.push((now_ms, offset));
        true
    }

    /// An offset from which everything is seen that was written at or after `since_ms`; `None` when
    /// that may be everything there is. It may be inside a line.
    #[must_use]
    pub fn offset_at(&self, since_ms: i64) -> Option<u64> {
        let later = self.points.partition_point(|(at_ms, _)| *at_ms <= since_ms);
        let (_, offset) = self.points.get(later.checked_sub(1)?)?;
        Some(*offset)
    }

    /// An offset from which everything was written after `until_ms`; `None` while nothing is known
    /// to have been.
    #[must_use]
    pub fn offset_after(&self, until_ms: i64) -> Option<u64> {
        let first = self.points.partition_point(|(at_ms, _)| *at_ms <= until_ms);
        self.points.get(first).map(|(_, offset)| *offset)
    }

    fn from_records(bytes: &[u8]) -> Self {
        let mut index = Self::default();
        // A record that was cut short by a crash is the last one, and is left out.
        let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
        for record in records {
            let (at_ms, offset) = decode(record);
            index.note(at_ms, offset);
        }
        index
    }

    fn to_records(&self) -> Vec<u8> {
        self.points.iter().flat_map(|(at_ms, offset)| encode(*at_ms, *offset)).collect()
    }
}

fn encode(at_ms: i64, offset: u64) -> [u8; RECORD_BYTES] {
    (u128::from(at_ms.cast_unsigned()) | u128::from(offset) << 64).to_le_bytes()
}

fn decode(record: &[u8; RECORD_BYTES]) -> (i64, u64) {
    let both = u128::from_le_bytes(*record);
    let low = (both & u128::from(u64::MAX)).try_into().unwrap_or(u64::MAX);
    let high = (both >> 64).try_into().unwrap_or(u64::MAX);
    (u64::cast_signed(low), high)
}

/// A [`TimeIndex`] that is kept in a file. Losing the file loses `--since` for that run, nothing else:
/// it is not synced.
#[derive(Debug)]
pub struct TimeFile {
    path: PathBuf,
    file: File,
    records: usize,
    index: TimeIndex,
}

impl TimeFile {
    /// Opens the index file of a run, or makes it, for our user alone.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let index = TimeIndex::read(path)?;
        let mut opened = Self {
            path: path.to_owned(),
            file: append_to(path)?,
            records: index.points.len(),
            index,
        };
        let expected = opened.index.points.len().saturating_mul(RECORD_BYTES) as u64;
        if opened.file.metadata()?.len() != expected {
            opened.rewrite()?;
        }
        Ok(opened)
    }

    /// What was read so far, for finding a time's place in the file.
    #[must_use]
    pub fn index(&self) -> &TimeIndex {
        &self.index
    }

    /// Notes that at `now_ms` (Unix time) the log ended at `offset`; writes only what is news.
    ///
    /// # Errors
    /// As the system says. The point is in the index in memory all the same.
    pub fn note(&mut self, now_ms: i64, offset: u64) -> io::Result<()> {
        if !self.index.note(now_ms, offset) {
            return Ok(());
        }
        if self.records >= MAX_RECORDS {
            return self.rewrite();
        }
        self.file.write_all(&encode(now_ms, offset))?;
        self.records += 1;
        Ok(())
    }

    /// Replaces the file by one that holds just the points in memory.
    fn rewrite(&mut self) -> io::Result<()> {
        let new_path = self.path.with_extension("times.new");
        let mut new_file = append_to(&new_path)?;
        new_file.set_len(0)?;
        new_file.write_all(&self.index.to_records())?;
        std::fs::rename(&new_path, &self.path)?;
        self.file = new_file;
        self.records = self.index.points.len();
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index_of(points: &[(i64, u64)]) -> TimeIndex {
        let mut index = TimeIndex::default();
        for (at_ms, offset) in points {
            index.note(*at_ms, *offset);
        }
        index
    }

    #[test]
    fn the_offset_is_the_last_one_reached_before() {
        let index = index_of(&[(100, 0), (200, 50), (300, 80)]);
        for (since_ms, offset) in [
            (i64::MIN, None),
            (99, None),
            (100, Some(0)),
            (250, Some(50)),
            (300, Some(80)),
            (i64::MAX, Some(80)),
        ] {
            assert_eq!(index.offset_at(since_ms), offset, "{since_ms}");
        }
        assert_eq!(
            [99, 100, 299, 300].map(|it| index.offset_after(it)),
            [Some(0), Some(50), Some(80), None]
        );
    }

    #[test]
    fn a_quiet_log_adds_nothing() {
        let mut index = index_of(&[(100, 7)]);
        assert!(!index.note(200, 7));
        assert!(!index.note(100, 8));
        assert!(index.note(201, 8));
    }

    #[test]
    fn a_clock_set_back_voids_the_times_to_come() {
        let index = index_of(&[(100, 10), (5000, 20), (6000, 30), (200, 40), (300, 50)]);
        assert_eq!(index.offset_at(150), Some(10));
        assert_eq!(index.offset_at(250), Some(40));
        assert_eq!(index.offset_at(9999), Some(50));
    }

    #[test]
    fn a_log_that_began_anew_is_indexed_anew() {
        let index = index_of(&[(100, 1000), (200, 2000), (300, 5)]);
        assert_eq!(index.offset_at(250), None);
        assert_eq!(index.offset_at(300), Some(5));
    }

    #[test]
    fn the_file_is_read_back_bounded_and_forgives_a_cut_record() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r.times");
        assert_eq!(TimeIndex::read(&path).unwrap(), TimeIndex::default());
        let mut file = TimeFile::open(&path).unwrap();
        for n in 0..30_000_i64 {
            file.note(-5000 + n, n.cast_unsigned() * 3).unwrap();
            assert!(file.index.points.len() <= MAX_POINTS);
        }
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length <= (MAX_RECORDS * RECORD_BYTES) as u64, "{length}");

        File::options().append(true).open(&path).unwrap().write_all(&[1, 2, 3]).unwrap();
        let mut again = TimeFile::open(&path).unwrap();
        assert_eq!(again.index().offset_at(i64::MAX), Some(29_999 * 3));
        again.note(1_000_000, 1_000_000).unwrap();
        let read = TimeIndex::read(&path).unwrap();
        assert_eq!(&read, again.index());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn a_record_is_read_back(at_ms: i64, offset: u64) {
            prop_assert_eq!(decode(&encode(at_ms, offset)), (at_ms, offset));
        }

        #[test]
        fn any_file_is_an_index(bytes: Vec<u8>) {
            let index = TimeIndex::from_records(&bytes);
            prop_assert!(index.points.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
        }

        /// Nothing written at or after the time asked for lies before the offset given.
        #[test]
        fn nothing_is_left_out(steps in prop::collection::vec((1i64..50, 0u64..50), 1..200), since in 0i64..5000) {
            let mut index = TimeIndex::default();
            let (mut now_ms, mut length) = (0, 0);
            let mut first_after = None;
            for (elapsed_ms, written) in steps {
                now_ms += elapsed_ms;
                index.note(now_ms, length);
                if now_ms >= since && first_after.is_none() { first_after = Some(length); }
                length += written;
            }
            if let (Some(offset), Some(first)) = (index.offset_at(since), first_after) {
                prop_assert!(offset <= first);
            }
        }
    }
}
