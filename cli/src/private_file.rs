//! A new file that only its owner can read.

use llamactl_protocol::{Failure, Kind};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes `PREFIX-….SUFFIX` among the temporary files; its path.
///
/// # Errors
/// [`Kind::IoFailed`].
pub(crate) fn create(prefix: &str, suffix: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
    let dir = std::env::temp_dir();
    let failed = |error: io::Error| {
        let message = format!("a file in {} cannot be written: {error}", dir.display());
        Failure::new(Kind::IoFailed, message).hint("set TMPDIR to a directory that can be written")
    };
    for attempt in 0..100u32 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unique = format!("{}-{:x}", std::process::id(), since.as_nanos() + u128::from(attempt));
        let path = dir.join(format!("{prefix}-{unique}{suffix}"));
        // Never one that is there: a link could lie in wait.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match file {
            Ok(mut file) => {
                file.write_all(bytes).map_err(|error| {
                    let _ = std::fs::remove_file(&path);
                    failed(error)
                })?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}
