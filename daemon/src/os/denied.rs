//! What keeps this process from a file: the file itself, or a directory on the way to it.
//!
//! The kernel says the same of both, and whoever looks at the file's own mode finds nothing wrong.

use llamactl_protocol::{Failure, Hint, Kind};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// So many links are followed; the kernel follows as many.
const LINKS: u8 = 40;

/// Where the program lies that gives one user a right.
const SETFACL: [&str; 2] = ["/usr/bin/setfacl", "/bin/setfacl"];

/// Why a path may not be used, for people.
#[derive(Debug)]
pub struct Denied {
    /// Beside the path: `the daemon's user may not enter /a/b`.
    pub why: String,
    /// What lets it.
    pub cure: Hint,
}

impl Denied {
    /// The same as a failure.
    #[must_use]
    pub fn failure(self, kind: Kind, path: &Path) -> Failure {
        Failure::new(kind, format!("{}: {}", path.display(), self.why)).hint(self.cure)
    }
}

/// What a path that was refused with "permission denied" was refused for. Blocks.
#[must_use]
pub fn denied(path: &Path) -> Denied {
    match closed_directory(path, LINKS) {
        Some(directory) => Denied {
            why: format!("the daemon's user may not enter {}", directory.display()),
            cure: cure(&directory, "x"),
        },
        None if path.is_dir() => {
            Denied { why: "the daemon's user may not read it".to_owned(), cure: cure(path, "rx") }
        }
        None => {
            Denied { why: "the daemon's user may not read it".to_owned(), cure: cure(path, "r") }
        }
    }
}

/// The first directory on the way to a path that this process may not enter, also where links lead.
fn closed_directory(path: &Path, links: u8) -> Option<PathBuf> {
    let mut way: Vec<&Path> = path.ancestors().filter(|it| !it.as_os_str().is_empty()).collect();
    way.reverse();
    way.into_iter().find_map(|part| {
        if let Ok(target) = fs::read_link(part)
            && links > 0
        {
            let target = part.parent().unwrap_or(part).join(target);
            return closed_directory(&target, links - 1);
        }
        let is_directory = part != path || part.is_dir();
        let closed = accessat(CWD, part, Access::EXEC_OK, AtFlags::EACCESS) == Err(Errno::ACCESS);
        (is_directory && closed).then(|| part.canonicalize().unwrap_or_else(|_| part.to_owned()))
    })
}

/// The command that gives this process these rights: as its owner, who is the daemon's user, or for it.
fn cure(path: &Path, rights: &str) -> Hint {
    let shown = path.to_string_lossy();
    let us = rustix::process::geteuid().as_raw();
    if fs::metadata(path).is_ok_and(|facts| facts.uid() == us) {
        return Hint::run("let it", ["chmod", &format!("u+{rights}"), &shown]);
    }
    // It opens the path to nobody else; not every machine has it.
    match SETFACL.iter().any(|it| Path::new(it).exists()) {
        true => {
            let entry = format!("u:{us}:{rights}");
            Hint::run("let it, as the owner or root", ["setfacl", "-m", &entry, &shown])
        }
        false => {
            let mode = format!("o+{rights}");
            Hint::run("let it and others, as the owner or root", ["chmod", &mode, &shown])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    /// What is said of a path, without root's right to pass by every mode.
    fn said(path: &Path) -> String {
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                set_capabilities(None, none).unwrap();
                denied(path)
            });
            let Denied { why, cure } = looking.join().unwrap();
            format!("{why}; {cure}")
        })
    }

    #[test]
    fn the_directory_that_cannot_be_entered_is_named() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let (shut, open) = (home.join("shut"), home.join("open"));
        fs::create_dir_all(shut.join("deep")).unwrap();
        fs::create_dir(&open).unwrap();
        let file = shut.join("deep/m.gguf");
        fs::write(&file, "").unwrap();
        symlink("../shut/deep/m.gguf", open.join("link")).unwrap();
        symlink("../shut/deep", open.join("to")).unwrap();
        let mode =
            |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        mode(&file, 0);
        let shown = |path: &Path| path.display().to_string();
        let own = format!("the daemon's user may not read it; let it: chmod u+r {}", shown(&file));
        assert_eq!(said(&file), own);
        mode(&shut, 0o600);
        let (shut, entering) = (shown(&shut), "the daemon's user may not enter");
        let closed = format!("{entering} {shut}; let it: chmod u+x {shut}");
        for path in [&file, &open.join("link"), &open.join("to/m.gguf"), &shut.clone().into()] {
            assert_eq!(said(path), closed, "{}", path.display());
        }
        std::os::unix::fs::chown(&shut, Some(12_345), Some(12_345)).unwrap_or_default();
        if rustix::process::geteuid().is_root() {
            let told = said(&file);
            let cures = [format!("setfacl -m u:0:x {shut}"), format!("chmod o+x {shut}")];
            assert!(told.starts_with(&format!("{entering} {shut}; let it")), "{told}");
            assert!(cures.iter().any(|cure| told.ends_with(cure)), "{told}");
        }
    }
}
