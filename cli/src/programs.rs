//! Programs as a shell finds them, and which of them is this one.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The `llamactl` that a shell would run: there are other programs of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OnPath {
    /// This one.
    This,
    /// None.
    Nothing,
    /// Another one.
    Another(PathBuf),
}

/// The first program of this name on a `PATH`.
pub(crate) fn on_path(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(
        |file| file.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0),
    )
}

/// What `llamactl` is on this `PATH`, where `own` is this one.
pub(crate) fn llamactl_on(path: &OsStr, own: &Path) -> OnPath {
    match on_path("llamactl", path) {
        None => OnPath::Nothing,
        Some(first) if first.canonicalize().ok() == own.canonicalize().ok() => OnPath::This,
        Some(first) => OnPath::Another(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_the_first_on_path_that_can_be_run() {
        let dir = tempfile::tempdir().unwrap();
        for (place, mode) in [("a", 0o644), ("b", 0o755), ("c", 0o755)] {
            let place = dir.path().join(place);
            std::fs::create_dir(&place).unwrap();
            std::fs::write(place.join("llamactl"), "").unwrap();
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(place.join("llamactl"), mode).unwrap();
        }
        let path = ["a", "b", "c"].map(|place| dir.path().join(place));
        let path = std::env::join_paths(path).unwrap();
        let found = |place: &str| dir.path().join(place).join("llamactl");
        assert_eq!(on_path("llamactl", &path), Some(found("b")));
        assert_eq!(on_path("y", &path), None);
        assert_eq!(llamactl_on(&path, &found("b")), OnPath::This);
        assert_eq!(llamactl_on(&path, &found("c")), OnPath::Another(found("b")));
        assert_eq!(llamactl_on(OsStr::new("bin"), &found("b")), OnPath::Nothing);
    }
}
