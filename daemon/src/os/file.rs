//! Files that others named, opened as files or not at all.
//!
//! A path may lead to anything: opening a pipe that nobody writes to never ends, opening some devices
//! has effects, and others can be read for ever. So a path is looked at before it is opened, opened
//! without waiting, and looked at again.

use rustix::fs::{OFlags, statfs};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// What lies there instead of a file, with its article; `None` for a file.
#[must_use]
pub fn no_file(facts: &Metadata) -> Option<&'static str> {
    let kind = facts.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a named pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_char_device() || kind.is_block_device() {
        Some("a device")
    } else {
        Some("something else")
    }
}

/// File systems that the kernel makes up: `/proc`, `/sys` and what is mounted below them.
const KERNELS_OWN: [u64; 15] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x1cd1,      // devpts
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x1980_0202, // mqueue
    0x6165_676c, // pstore
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0x4249_4e4d, // binfmt_misc
    0x6e73_6673, // nsfs
];

/// Whether a directory lies on a file system that the kernel makes up and that holds no files of
/// anybody's.
#[must_use]
pub fn is_kernels_own(directory: &Path) -> bool {
    // The width and the sign of the number differ by machine.
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "see above")]
    statfs(directory).is_ok_and(|found| KERNELS_OWN.contains(&(found.f_type as u64 & 0xffff_ffff)))
}

/// Why a path cannot be read as a file.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It leads to this, with its article.
    #[error("is {0}, not a file")]
    NotAFile(&'static str),
    /// What the file system says.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> io::Error {
        match error {
            OpenError::Io(error) => error,
            OpenError::NotAFile(_) => {
                io::Error::new(io::ErrorKind::InvalidData, format!("it {error}"))
            }
        }
    }
}

/// Opens a file to read it, and tells which it is. Never waits for anybody.
///
/// # Errors
/// [`OpenError`].
pub fn open(path: &Path) -> Result<(File, Metadata), OpenError> {
    let is_file = |facts: Metadata| match no_file(&facts) {
        None => Ok(facts),
        Some(what) => Err(OpenError::NotAFile(what)),
    };
    is_file(fs::metadata(path)?)?;
    // The path may have come to name something else since: never wait, never become our terminal.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let facts = is_file(file.metadata()?)?;
    Ok((file, facts))
}

/// The contents of a file of at most `most` bytes.
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::FileTooLarge`] for a longer one.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, OpenError> {
    let mut bytes = Vec::new();
    open(path)?.0.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
        return Ok(bytes);
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {most} bytes"))
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_read_and_no_more_of_them_than_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "abc").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"abc");
        let too_long = |error: OpenError| match error {
            OpenError::Io(error) => error.kind() == io::ErrorKind::FileTooLarge,
            OpenError::NotAFile(_) => false,
        };
        assert!(read(&path, 2).is_err_and(too_long));
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let said = |path: &Path| read(path, 9).unwrap_err().to_string();
        assert_eq!(said(&pipe), "is a named pipe, not a file");
        assert_eq!(said(dir.path()), "is a directory, not a file");
        assert_eq!(said(Path::new("/dev/zero")), "is a device, not a file");
    }
}
