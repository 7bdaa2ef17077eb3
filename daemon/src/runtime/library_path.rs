//! Where a build's libraries are looked for: beside it, in the directories that its runtime names, then
//! wherever the daemon looks.
//!
//! The variable loads code, so a runtime alone may have it, and its directories are held to the rule of
//! the build's own ([`inspect`](super::inspect())). Links in it are resolved before the linker sees them.

use llamactl_protocol::environment::LIBRARY_PATH;
use llamactl_protocol::options::{Settings, VARIABLE_PREFIX};
use llamactl_protocol::{Failure, Kind};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directories that a runtime's variables name, as they were given.
///
/// # Errors
/// As [`directories`].
pub(super) fn named_in(environment: &Settings) -> Result<Vec<PathBuf>, Failure> {
    environment.get(LIBRARY_PATH).map_or(Ok(vec![]), directories)
}

/// The directories that a value names. The linker takes an empty one for the current directory, a
/// semicolon for a colon, and puts something else for what begins with a dollar: ld.so(8).
///
/// # Errors
/// [`Kind::InvalidValue`] for anything but absolute directories.
pub(super) fn directories(value: &Value) -> Result<Vec<PathBuf>, Failure> {
    let text = value.as_str().unwrap_or_default();
    let are_plain = !text.contains([';', '$']) && text.split(':').all(|it| it.starts_with('/'));
    if are_plain {
        return Ok(text.split(':').map(PathBuf::from).collect());
    }
    let key = format!("{VARIABLE_PREFIX}{LIBRARY_PATH}");
    let message = format!("{key} takes absolute directories with colons between them");
    Err(Failure::new(Kind::InvalidValue, message)
        .hint(format!("for example {key}=/usr/local/cuda/lib64"))
        .details(json!({ "key": key })))
}

/// The variable for a process of a build.
#[must_use]
pub fn library_path(executable: &Path, directories: &[PathBuf]) -> OsString {
    let mut path = executable.parent().unwrap_or(Path::new("/")).as_os_str().to_owned();
    let inherited = std::env::var_os(LIBRARY_PATH).filter(|path| !path.is_empty());
    for more in directories.iter().map(|it| it.as_os_str().to_owned()).chain(inherited) {
        path.push(":");
        path.push(more);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtimes_directories_come_after_its_own_and_nothing_else_is_taken() {
        let dirs = directories(&json!("/usr/local/cuda/lib64:/opt/b c")).unwrap();
        assert_eq!(dirs, [Path::new("/usr/local/cuda/lib64"), Path::new("/opt/b c")]);
        let path = library_path(Path::new("/opt/llama/llama-server"), &dirs);
        assert!(path.to_str().unwrap().starts_with("/opt/llama:/usr/local/cuda/lib64:/opt/b c"));
        for bad in ["", "/a:", ":/a", "lib", "/a;/b", "/a:$ORIGIN", "~/lib"] {
            let refused = directories(&json!(bad)).unwrap_err();
            assert_eq!(refused.kind, Kind::InvalidValue, "{bad}");
            assert!(!refused.hints.is_empty());
        }
        assert!(directories(&json!({ "secret_text": "/a" })).is_err());
    }
}
