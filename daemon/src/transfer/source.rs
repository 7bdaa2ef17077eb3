//! Reading what is to be imported, bounded.

use crate::models::unreadable;
use crate::os::file::{self, OpenError};
use llamactl_protocol::{Failure, Kind};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The longest file that is read as a text.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// What tells a database from a text stands in the first bytes.
const HEAD_BYTES: u64 = 64;

/// A file that cannot be read, in the words of the file system.
pub(super) fn io_failure(path: &Path, error: &io::Error) -> Failure {
    let (kind, why) = match error.kind() {
        io::ErrorKind::NotFound => (Kind::FileNotFound, "does not exist".to_owned()),
        io::ErrorKind::PermissionDenied => return unreadable(path),
        _ => (Kind::FileUnreadable, format!("cannot be read: {error}")),
    };
    Failure::new(kind, format!("{} {why}", path.display()))
}

/// Opens a file to read it. Blocks.
pub(super) fn open(path: &Path) -> Result<File, Failure> {
    match file::open(path) {
        Ok((file, _)) => Ok(file),
        Err(OpenError::Io(error)) => Err(io_failure(path, &error)),
        Err(OpenError::NotAFile(what)) => {
            let message = format!("{} is {what}, not a file", path.display());
            Err(Failure::new(Kind::NotAFile, message))
        }
    }
}

/// The first bytes of a file. Blocks.
pub(super) fn head(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut head = Vec::new();
    let read = open(path)?.take(HEAD_BYTES).read_to_end(&mut head);
    read.map_err(|error| io_failure(path, &error))?;
    Ok(head)
}

/// A file of at most so many bytes as text. Blocks.
pub(super) fn text(path: &Path, max_bytes: u64) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(max_bytes + 1).read_to_end(&mut bytes);
    read.map_err(|error| io_failure(path, &error))?;
    let too_long = u64::try_from(bytes.len()).is_ok_and(|length| length > max_bytes);
    if too_long {
        let message = format!("{} is longer than {max_bytes} bytes", path.display());
        return Err(Failure::new(Kind::InvalidValue, message)
            .hint("nothing that llamactl imports is so long: is it the right file?"));
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(Kind::Unreadable, format!("{} is no text", path.display()))
            .hint("llamactl imports TOML, presets, command lines and the old dashboard's files")
    })
}
