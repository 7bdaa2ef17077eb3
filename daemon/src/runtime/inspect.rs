//! Whether a file may be run as a llama-server, and whether it is still the one it was.

use crate::store::registry::RuntimeFile;
use llamactl_protocol::{Failure, Hint, Kind, WirePath};
use rustix::fs::{Access, access};
use rustix::process::geteuid;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// An executable and the facts by which a replaced one is told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path, links resolved, so that its libraries are found beside it.
    pub path: PathBuf,
    /// The file's inode; with the device it tells one file from another put in its place.
    pub inode: u64,
    /// The file's length in bytes.
    pub size_bytes: u64,
    /// When it was written.
    pub mtime_ns: i64,
}

/// The facts of an executable that may be run: a file of root's or the daemon's user, which nobody
/// else can write or replace. Blocks.
///
/// # Errors
/// [`Kind::FileNotFound`], [`Kind::NotAFile`], [`Kind::RuntimeRefused`]: which check failed, and
/// how to mend it.
pub fn inspect(named: &Path) -> Result<Found, Failure> {
    let path = named.canonicalize().map_err(|error| unreachable(named, &error))?;
    let shown = path.display();
    let refused = |problem: &str| Failure::new(Kind::RuntimeRefused, format!("{shown} {problem}"));
    let facts = path.metadata().map_err(|error| unreachable(&path, &error))?;
    if facts.is_dir() {
        let hint = format!("give the llama-server in it: {}", path.join("llama-server").display());
        return Err(Failure::new(Kind::NotAFile, format!("{shown} is a directory")).hint(hint));
    }
    if !facts.is_file() {
        return Err(Failure::new(Kind::NotAFile, format!("{shown} is not a file")));
    }
    access(&path, Access::EXEC_OK).map_err(|_| {
        refused("may not be executed").hint(chmod("make it executable", "+x", &path))
    })?;
    // Whoever can write it runs as us.
    let us = geteuid().as_raw();
    if facts.uid() != 0 && facts.uid() != us {
        let problem = format!(
            "belongs to the user {}, who is neither root nor the daemon's user {us}",
            facts.uid()
        );
        return Err(refused(&problem).hint(Hint::run(
            "copy it, or give it away",
            ["chown".to_owned(), us.to_string(), shown.to_string()],
        )));
    }
    if facts.mode() & 0o022 != 0 {
        let who = if facts.mode() & 0o002 != 0 { "everybody" } else { "its group" };
        return Err(refused(&format!("can be written by {who}, so it is not run")).hint(chmod(
            "let nobody else write it",
            "go-w",
            &path,
        )));
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    let in_it = dir.metadata().map_err(|error| unreachable(dir, &error))?.mode();
    if in_it & 0o1002 == 0o002 {
        let shown = dir.display();
        return Err(refused(&format!("lies in {shown}, where everybody can replace it"))
            .hint(chmod("let nobody else write there", "o-w", dir)));
    }
    Ok(Found {
        inode: facts.ino(),
        size_bytes: facts.size(),
        mtime_ns: facts.mtime().saturating_mul(1_000_000_000).saturating_add(facts.mtime_nsec()),
        path,
    })
}

fn unreachable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Kind::FileNotFound, format!("{path} does not exist"))
        }
        _ => Failure::new(Kind::RuntimeRefused, format!("{path} cannot be looked at: {error}")),
    }
}

/// Whether a llama-server is no longer the file it was: replaced, or gone. Blocks.
#[must_use]
pub fn is_replaced(file: &RuntimeFile) -> bool {
    let path: &WirePath = &file.path;
    path.as_path().metadata().map_or(true, |facts| {
        let mtime_ns =
            facts.mtime().saturating_mul(1_000_000_000).saturating_add(facts.mtime_nsec());
        (facts.ino(), facts.size(), mtime_ns) != (file.inode, file.size_bytes, file.mtime_ns)
    })
}

fn chmod(text: &str, mode: &str, path: &Path) -> Hint {
    Hint::run(text, ["chmod", mode, &path.to_string_lossy()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_can_write_or_replace_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("llama-server");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        mode(&path, 0o755);
        assert!(inspect(&path).is_ok());
        for writable in [0o777, 0o775, 0o757] {
            mode(&path, writable);
            let refused = inspect(&path).unwrap_err();
            assert_eq!(refused.kind, Kind::RuntimeRefused);
            assert!(refused.hints.0[0].argv[..2] == ["chmod", "go-w"], "{writable:o}");
        }
        mode(&path, 0o755);
        mode(dir.path(), 0o777);
        assert!(inspect(&path).unwrap_err().message.contains("everybody can replace it"));
        mode(dir.path(), 0o1777);
        assert!(inspect(&path).is_ok());
        mode(&path, 0o644);
        assert!(inspect(&path).unwrap_err().hints.0[0].to_string().contains(": chmod +x /"));
        assert_eq!(inspect(dir.path()).unwrap_err().kind, Kind::NotAFile);
        assert_eq!(inspect(&dir.path().join("x")).unwrap_err().kind, Kind::FileNotFound);
    }

    #[test]
    fn a_replaced_file_is_noticed_and_so_is_one_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("llama-server");
        let write = |text: &str| {
            fs::write(&path, text).unwrap();
            mode(&path, 0o755);
        };
        write("#!/bin/sh\n");
        let found = inspect(&path).unwrap();
        let file = RuntimeFile {
            path: found.path.clone().into(),
            inode: found.inode,
            size_bytes: found.size_bytes,
            mtime_ns: found.mtime_ns,
            version: None,
        };
        assert!(!is_replaced(&file));
        write("#!/bin/sh\n\n");
        assert!(is_replaced(&file));
        fs::remove_file(&path).unwrap();
        assert!(is_replaced(&file));
    }
}
