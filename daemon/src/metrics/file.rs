//! A `/proc` file that is kept open and read again and again.
//!
//! Reading a kept descriptor costs a half to a fifth of opening the file each time, needs no
//! descriptor when the daemon has run out of them, and stays with the process it was opened for.

use crate::os::proc::read_from_start;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a file that failed is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// A file by path. While it cannot be read it gives nothing, says so once, and is tried again
/// from time to time.
#[derive(Debug)]
pub(super) struct KeptFile {
    path: PathBuf,
    file: Option<File>,
    retry_at: Option<Instant>,
    buffer: Vec<u8>,
}

impl KeptFile {
    /// Opens nothing yet.
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None, retry_at: None, buffer: Vec::new() }
    }

    /// What `parse` makes of the text of the file now; `None` while it cannot be read.
    pub(super) fn parse<T>(&mut self, now: Instant, parse: impl FnOnce(&str) -> T) -> Option<T> {
        if self.file.is_none() && self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        match self.read() {
            Ok(()) => {
                self.retry_at = None;
                Some(parse(&String::from_utf8_lossy(&self.buffer)))
            }
            Err(error) => {
                self.file = None;
                if self.retry_at.replace(now + RETRY_AFTER).is_none() {
                    let path = self.path.display();
                    tracing::warn!("cannot read {path}, what it says is unknown now: {error}");
                }
                None
            }
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.path)?,
        };
        read_from_start(&file, &mut self.buffer)?;
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_each_time_and_in_full() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("long");
        let long = "0123456789".repeat(5_000);
        std::fs::write(&path, &long).unwrap();
        let mut file = KeptFile::new(&path);
        let now = Instant::now();
        assert_eq!(file.parse(now, str::to_owned).as_deref(), Some(long.as_str()));
        std::fs::write(&path, "short").unwrap();
        assert_eq!(file.parse(now, str::to_owned).as_deref(), Some("short"));
        std::fs::write(&path, &long).unwrap();
        assert_eq!(file.parse(now, str::len), Some(long.len()));
    }

    #[test]
    fn a_missing_file_is_unknown_and_found_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("later");
        let mut file = KeptFile::new(&path);
        let now = Instant::now();
        assert_eq!(file.parse(now, str::len), None);
        std::fs::write(&path, "here").unwrap();
        assert_eq!(file.parse(now + RETRY_AFTER / 2, str::len), None);
        assert_eq!(file.parse(now + RETRY_AFTER, str::len), Some(4));
    }
}
