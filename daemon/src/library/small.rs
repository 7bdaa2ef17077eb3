//! Small files that others wrote: read whole, never more than a bound, never waiting.

use rustix::fs::OFlags;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The contents of a regular file of at most `most` bytes.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::InvalidData`] for what is no file or too long.
pub(super) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let refuse = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    // Opening some devices has effects; and a pipe that nobody writes to must not hold us up.
    if !fs::metadata(path)?.is_file() {
        return refuse("is no file");
    }
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return refuse("is no file");
    }
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
        return Ok(bytes);
    }
    refuse("is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_or_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "abc").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"abc");
        assert_eq!(read(&path, 2).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(dir.path(), 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(Path::new("/dev/zero"), 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
