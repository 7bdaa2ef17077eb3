//! Finding lines from the end of a log backwards.

use crate::logs::file::{floor_of, read_up_to};
use crate::os::hole;
use std::fs::File;
use std::io;
use std::path::Path;

/// How much is read at once.
const STEP_BYTES: u64 = 64 * 1024;

/// The last `n` lines of a log, oldest first, at most `max_bytes` of them. The last may be
/// unfinished; bytes that are not UTF-8 become `�`. For the cause of a crash, and for a glance.
///
/// # Errors
/// As the system says.
pub fn tail_lines(path: &Path, n: usize, max_bytes: u64) -> io::Result<Vec<String>> {
    let file = File::open(path)?;
    if n == 0 || max_bytes == 0 {
        return Ok(Vec::new());
    }
    loop {
        let (floor, length) = (floor_of(&file)?, file.metadata()?.len());
        let reach = length.saturating_sub(max_bytes).max(floor);
        let (start, whole) = match nth_feed_before(&file, reach, last_end(&file, length)?, n)? {
            Some(feed) => (feed + 1, true),
            None => (reach, reach == floor || byte_at(&file, reach - 1)? == Some(b'\n')),
        };
        let mut bytes = vec![0; usize::try_from(length.saturating_sub(start)).unwrap_or(0)];
        let read_bytes = read_up_to(&file, &mut bytes, start)?;
        bytes.truncate(read_bytes);
        // The head may have been freed while it was read: then what was read may be zeros.
        if hole::first_data(&file)? <= start {
            return Ok(split(&bytes, whole));
        }
    }
}

/// The offset at which the last `n` lines begin; an unfinished last line counts.
///
/// # Errors
/// As the system says.
pub(super) fn start_of_last_lines(file: &File, n: usize) -> io::Result<u64> {
    let (floor, length) = (floor_of(file)?, file.metadata()?.len());
    if n == 0 {
        return start_of_line(file, length);
    }
    let feed = nth_feed_before(file, floor, last_end(file, length)?, n)?;
    Ok(feed.map_or(floor, |feed| feed + 1))
}

/// The offset at which the line begins that holds `offset`, or at which the floor is.
///
/// # Errors
/// As the system says.
pub(super) fn start_of_line(file: &File, offset: u64) -> io::Result<u64> {
    let floor = floor_of(file)?;
    let offset = offset.min(file.metadata()?.len());
    Ok(nth_feed_before(file, floor, offset, 1)?.map_or(floor, |feed| feed + 1))
}

/// Whether a line that began earlier goes on at `offset`.
pub(super) fn is_inside_line(file: &File, offset: u64) -> io::Result<bool> {
    let Some(before) = offset.checked_sub(1) else { return Ok(false) };
    let freed = hole::first_data(file)? > before;
    Ok(!freed && byte_at(file, before)?.is_some_and(|byte| byte != b'\n'))
}

/// The end of the last line without its line feed.
fn last_end(file: &File, length: u64) -> io::Result<u64> {
    let Some(last) = length.checked_sub(1) else { return Ok(0) };
    Ok(if byte_at(file, last)? == Some(b'\n') { last } else { length })
}

fn byte_at(file: &File, offset: u64) -> io::Result<Option<u8>> {
    let mut byte = [0];
    Ok((read_up_to(file, &mut byte, offset)? == 1).then_some(byte[0]))
}

/// The offset of the `n`th line feed before `end`, counted backwards, not before `begin`.
fn nth_feed_before(file: &File, begin: u64, end: u64, n: usize) -> io::Result<Option<u64>> {
    let mut left = n;
    let mut upper = end;
    let mut buffer = vec![0; usize::try_from(STEP_BYTES).unwrap_or(0)];
    while upper > begin {
        let lower = upper.saturating_sub(STEP_BYTES).max(begin);
        let wanted = usize::try_from(upper - lower).unwrap_or(0);
        let Some(step) = buffer.get_mut(..wanted) else { break };
        let read_bytes = read_up_to(file, step, lower)?;
        for at in memchr::memrchr_iter(b'\n', step.get(..read_bytes).unwrap_or_default()) {
            left = left.saturating_sub(1);
            if left == 0 {
                return Ok(Some(lower + at as u64));
            }
        }
        upper = lower;
    }
    Ok(None)
}

fn split(bytes: &[u8], begins_whole: bool) -> Vec<String> {
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if text.is_empty() && bytes.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<String> = text
        .split(|byte| *byte == b'\n')
        .map(|line| String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
        .collect();
    // A piece of a line is better than nothing, but only then.
    if !begins_whole && lines.len() > 1 {
        lines.remove(0);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::file::{Trim, trim};
    use proptest::prelude::*;

    fn log_of(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, content).unwrap();
        file
    }

    fn last(content: &[u8], n: usize, max_bytes: u64) -> Vec<String> {
        tail_lines(log_of(content).path(), n, max_bytes).unwrap()
    }

    #[test]
    fn the_last_lines_come_in_order() {
        assert_eq!(last(b"a\nb\nc\n", 2, 100), ["b", "c"]);
        assert_eq!(last(b"a\nb\nunfinished", 2, 100), ["b", "unfinished"]);
        assert_eq!(last(b"a\nb\n", 9, 100), ["a", "b"]);
        assert_eq!(last(b"\n\n", 9, 100), ["", ""]);
        assert_eq!(last(b"", 9, 100), Vec::<String>::new());
        assert_eq!(last(b"a\n", 0, 100), Vec::<String>::new());
        assert_eq!(last(b"a\r\n\xff\n", 9, 100), ["a", "\u{fffd}"]);
    }

    #[test]
    fn no_more_bytes_are_read_than_allowed() {
        assert_eq!(last(b"first\nsecond\nthird\n", 9, 8), ["third"]);
        assert_eq!(last(b"first\nsecond\nthird\n", 9, 13), ["second", "third"]);
        assert_eq!(last(b"one long line", 9, 4), ["line"]);
    }

    #[test]
    fn a_freed_head_is_no_line() {
        let file = log_of("x".repeat(99).add_feed().repeat(1000).as_bytes());
        assert!(matches!(trim(file.as_file(), 10_000).unwrap(), Trim::Freed { .. }));
        let lines = tail_lines(file.path(), 1000, u64::MAX).unwrap();
        assert!(lines.len() > 50 && lines.len() <= 100, "{}", lines.len());
        assert!(lines.iter().all(|line| *line == "x".repeat(99)));
    }

    trait AddFeed {
        fn add_feed(self) -> String;
    }
    impl AddFeed for String {
        fn add_feed(self) -> String {
            self + "\n"
        }
    }

    proptest! {
        #[test]
        fn starts_are_where_a_plain_search_finds_them(
            lines in prop::collection::vec(0usize..40_000, 0..12),
            finished: bool,
            n in 1usize..14,
        ) {
            let mut content = Vec::new();
            let mut starts = Vec::new();
            for length in &lines {
                starts.push(content.len() as u64);
                content.resize(content.len() + length, b'x');
                content.push(b'\n');
            }
            if !finished && content.pop().is_some() && content.last().is_none_or(|b| *b == b'\n') {
                // An empty unfinished line is none.
                starts.pop();
            }
            let log = log_of(&content);
            let file = log.reopen().unwrap();
            let expected = starts.iter().rev().nth(n - 1).or(starts.first()).copied().unwrap_or(0);
            prop_assert_eq!(start_of_last_lines(&file, n).unwrap(), expected);
            for (start, length) in starts.iter().zip(&lines) {
                let middle = start + *length as u64 / 2;
                prop_assert_eq!(start_of_line(&file, middle).unwrap(), *start);
                prop_assert!(!is_inside_line(&file, *start).unwrap());
                prop_assert_eq!(is_inside_line(&file, middle).unwrap(), middle > *start);
            }
        }
    }
}
