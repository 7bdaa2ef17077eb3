//! Whether a file may be run as a llama-server, and whether it is still the one it was.
//!
//! ```text
//!   / ── opt ── llama.cpp ── llama-server        ours alone: root's or the daemon's user's,
//!   ╰──── above ───╯ ╰ beside ├─ libggml.so      written by nobody else
//!                             ╰─ libggml-cuda.so
//! ```
//!
//! llama-server looks for its libraries beside itself, under names of which some need not be there: who
//! can write one of them, or put one there, runs code as the daemon's user. So the executable, the
//! directory it lies in and what lies beside it under the name of a library are held to one rule, and
//! every directory above to the same, but that others may write to one whose sticky bit keeps them
//! from what is not theirs (`/tmp`). Links are resolved first, and what they lead to is looked at.
//!
//! A group may write where nobody but the daemon's user is in it: many systems give each user such a
//! group and let it write by default. What users and groups there are is read from `/etc`; a group that
//! is not there, and what has an access list, could be anybody's. (OpenSSH as Debian has it trusts the
//! same.) Where else a build was told to look for libraries when it was linked is its maker's affair.

use crate::os::cached;
use crate::os::denied::denied;
use crate::os::file::no_file;
use crate::os::user::is_private_group;
use crate::store::registry::RuntimeFile;
use llamactl_protocol::{Failure, Hint, Kind, WirePath};
use rustix::fs::{Access, access, getxattr};
use rustix::process::geteuid;
use std::collections::BTreeSet;
use std::fs::Metadata;
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
    /// Where its libraries are looked for beside its own directory, links resolved.
    pub lib_dirs: Vec<PathBuf>,
}

impl Found {
    /// The directories of its libraries in one text.
    #[must_use]
    pub(super) fn libraries(&self) -> String {
        let directories = self.lib_dirs.iter().map(|it| it.to_string_lossy());
        directories.collect::<Vec<_>>().join(":")
    }
}

/// The facts of an executable that may be run: nobody but root and the daemon's user can change it, the
/// libraries beside it or those in the directories that its runtime names. Blocks.
///
/// # Errors
/// [`Kind::FileNotFound`], [`Kind::NotAFile`], [`Kind::RuntimeRefused`]: which check failed, and
/// how to mend it.
pub fn inspect(named: &Path, lib_dirs: &[PathBuf]) -> Result<Found, Failure> {
    let path = named.canonicalize().map_err(|error| unreachable(named, &error))?;
    let shown = path.display();
    let facts = path.metadata().map_err(|error| unreachable(&path, &error))?;
    if let Some(what) = no_file(&facts) {
        let failure = Failure::new(Kind::NotAFile, format!("{shown} is {what}, not a file"));
        return Err(if facts.is_dir() {
            let inside = path.join("llama-server");
            failure.hint(format!("give the llama-server in it: {}", inside.display()))
        } else {
            failure
        });
    }
    access(&path, Access::EXEC_OK).map_err(|_| {
        Failure::new(Kind::RuntimeRefused, format!("{shown} may not be executed")).hint(chmod(
            "make it executable",
            "+x",
            &path,
        ))
    })?;
    let mut trust = Trust { run: &path, us: geteuid().as_raw(), directories: BTreeSet::new() };
    trust.file(&path, &facts)?;
    if let Some(directory) = path.parent() {
        trust.libraries_in(directory)?;
    }
    let lib_dirs = lib_dirs.iter().map(|named| trust.lib_dir(named)).collect::<Result<_, _>>()?;
    Ok(Found {
        lib_dirs,
        inode: facts.ino(),
        size_bytes: facts.size(),
        mtime_ns: facts.mtime().saturating_mul(1_000_000_000).saturating_add(facts.mtime_nsec()),
        path,
    })
}

/// Whether what an executable consists of is ours alone to change.
struct Trust<'a> {
    /// The executable.
    run: &'a Path,
    us: u32,
    /// Directories that were looked at, with those above them.
    directories: BTreeSet<PathBuf>,
}

impl Trust<'_> {
    /// A file whose path has no links.
    fn file(&mut self, path: &Path, facts: &Metadata) -> Result<(), Failure> {
        self.is_ours_alone(path, facts)?;
        path.parent().map_or(Ok(()), |directory| self.directory(directory))
    }

    /// A directory whose path has no links, and those above it.
    fn directory(&mut self, directory: &Path) -> Result<(), Failure> {
        if !self.directories.insert(directory.to_owned()) {
            return Ok(());
        }
        for above in directory.ancestors() {
            let facts = above.metadata().map_err(|error| unreachable(above, &error))?;
            let is_shared = facts.mode() & 0o1000 != 0;
            if is_shared && above != directory {
                self.is_of_a_trusted_user(above, &facts)?;
            } else {
                self.is_ours_alone(above, &facts)?;
            }
        }
        Ok(())
    }

    /// A directory that its runtime names, with links resolved.
    fn lib_dir(&mut self, named: &Path) -> Result<PathBuf, Failure> {
        let is_there = named.canonicalize().ok().filter(|path| path.is_dir());
        let directory = is_there.ok_or_else(|| self.refused(named, "is no directory"))?;
        self.directory(&directory)?;
        self.libraries_in(&directory)?;
        Ok(directory)
    }

    /// Everything in a directory that could be loaded into the executable.
    fn libraries_in(&mut self, directory: &Path) -> Result<(), Failure> {
        let unreachable_there = |error: io::Error| unreachable(directory, &error);
        for entry in directory.read_dir().map_err(unreachable_there)? {
            let entry = entry.map_err(unreachable_there)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !name.ends_with(".so") && !name.contains(".so.") {
                continue;
            }
            // A link that leads nowhere loads nothing.
            let Ok(library) = entry.path().canonicalize() else { continue };
            let facts = library.metadata().map_err(|error| unreachable(&library, &error))?;
            match no_file(&facts) {
                None => self.file(&library, &facts)?,
                Some("a directory") => {}
                Some(what) => {
                    return Err(self.refused(&library, &format!("is {what}, not a library")));
                }
            }
        }
        Ok(())
    }

    /// Nobody but root and us owns it, or can write it.
    fn is_ours_alone(&self, path: &Path, facts: &Metadata) -> Result<(), Failure> {
        self.is_of_a_trusted_user(path, facts)?;
        let who = if facts.mode() & 0o002 != 0 {
            "everybody"
        } else if facts.mode() & 0o020 != 0 && !self.is_our_own_group(path, facts) {
            "its group"
        } else {
            return Ok(());
        };
        let failure = self.refused(path, &format!("can be written by {who}"));
        Err(if facts.is_dir() && facts.mode() & 0o1000 != 0 {
            // What is meant for all stays so.
            failure.hint("put it into a directory of its own")
        } else {
            failure.hint(chmod("let nobody else write there", "go-w", path))
        })
    }

    fn is_of_a_trusted_user(&self, path: &Path, facts: &Metadata) -> Result<(), Failure> {
        let (owner, us) = (facts.uid(), self.us);
        if owner == 0 || owner == us {
            return Ok(());
        }
        let problem =
            format!("belongs to the user {owner}, who is neither root nor the daemon's user {us}");
        Err(self.refused(path, &problem).hint(Hint::run(
            "copy it, or give it away",
            ["chown".to_owned(), us.to_string(), path.display().to_string()],
        )))
    }

    fn is_our_own_group(&self, path: &Path, facts: &Metadata) -> bool {
        // The mode of what has an access list says only that somebody may write.
        let has_access_list = getxattr(path, "system.posix_acl_access", &mut [0_u8; 0]).is_ok();
        !has_access_list && is_private_group(facts.gid(), self.us)
    }

    fn refused(&self, path: &Path, problem: &str) -> Failure {
        let shown = path.display();
        let message = if self.run == path {
            format!("{shown} {problem}, so it is not run")
        } else {
            format!("{} is not run: {shown} {problem}", self.run.display())
        };
        Failure::new(Kind::RuntimeRefused, message)
    }
}

fn unreachable(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Kind::FileNotFound, format!("{} does not exist", path.display()))
        }
        io::ErrorKind::PermissionDenied => denied(path).failure(Kind::RuntimeRefused, path),
        _ => {
            let message = format!("{} cannot be looked at: {error}", path.display());
            Failure::new(Kind::RuntimeRefused, message)
        }
    }
}

/// Whether a llama-server is known, without waiting, to be the file that it was.
#[must_use]
pub fn is_surely_unchanged(file: &RuntimeFile) -> bool {
    cached::facts(file.path.as_path()).is_some_and(|now| {
        (now.inode, now.size_bytes, now.mtime_ns) == (file.inode, file.size_bytes, file.mtime_ns)
    })
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
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn mkfifo(path: &Path) {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    }

    fn refusal(path: &Path) -> Failure {
        let refused = inspect(path, &[]).unwrap_err();
        assert_eq!(refused.kind, Kind::RuntimeRefused, "{refused}");
        refused
    }

    #[test]
    fn what_everybody_can_write_or_replace_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("bin");
        fs::create_dir(&inner).unwrap();
        let (path, library) = (inner.join("llama-server"), inner.join("libggml-cuda.so.1"));
        for file in [&path, &library] {
            fs::write(file, "#!/bin/sh\n").unwrap();
            mode(file, 0o755);
        }
        symlink("libggml-cuda.so.1", inner.join("libggml-cuda.so")).unwrap();
        symlink("gone.so", inner.join("gone-too.so")).unwrap();
        assert!(inspect(&path, &[]).is_ok());
        for spoiled in [&path, &library, &inner, &dir.path().to_owned()] {
            mode(spoiled, 0o757);
            let refused = refusal(&path);
            let spoiled_shown = spoiled.display().to_string();
            assert!(refused.message.contains(&spoiled_shown), "{refused}");
            assert!(refused.message.contains("can be written by everybody"), "{refused}");
            assert_eq!(refused.hints.0[0].argv, ["chmod", "go-w", &spoiled_shown]);
            mode(spoiled, 0o755);
        }
        // Where the sticky bit keeps others from what is ours they still can put something beside it.
        mode(dir.path(), 0o1777);
        assert!(inspect(&path, &[]).is_ok());
        mode(&inner, 0o1777);
        assert!(refusal(&path).hints.0[0].argv.is_empty());
        mode(&inner, 0o755);
        mkfifo(&inner.join("libggml-hip.so"));
        assert!(refusal(&path).message.contains("is a named pipe, not a library"));
        fs::remove_file(inner.join("libggml-hip.so")).unwrap();
        mode(&path, 0o644);
        assert!(inspect(&path, &[]).unwrap_err().hints.0[0].to_string().contains(": chmod +x /"));
        assert_eq!(inspect(&inner, &[]).unwrap_err().kind, Kind::NotAFile);
        assert_eq!(inspect(&inner.join("x"), &[]).unwrap_err().kind, Kind::FileNotFound);
    }

    #[test]
    fn a_link_is_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (bin, lib) = (dir.path().join("bin"), dir.path().join("lib"));
        for directory in [&bin, &lib] {
            fs::create_dir(directory).unwrap();
        }
        let path = bin.join("llama-server");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        mode(&path, 0o755);
        fs::write(lib.join("libggml.so"), "").unwrap();
        symlink("../lib/libggml.so", bin.join("libggml.so")).unwrap();
        assert!(inspect(&path, &[]).is_ok());
        mode(&lib, 0o777);
        assert!(refusal(&path).message.contains(lib.to_str().unwrap()));
    }

    #[test]
    fn the_directories_that_a_runtime_names_are_held_to_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (bin, cuda, link) =
            (dir.path().join("bin"), dir.path().join("cuda-12/lib64"), dir.path().join("cuda"));
        fs::create_dir(&bin).unwrap();
        fs::create_dir_all(&cuda).unwrap();
        symlink("cuda-12/lib64", &link).unwrap();
        let (path, library) = (bin.join("llama-server"), cuda.join("libcublas.so.12"));
        for file in [&path, &library] {
            fs::write(file, "").unwrap();
            mode(file, 0o755);
        }
        let named = [link.clone()];
        let cuda = cuda.canonicalize().unwrap();
        let found = inspect(&path, &named).unwrap();
        assert_eq!(found.lib_dirs.first(), Some(&cuda));
        for spoiled in [&library, &cuda, &cuda.parent().unwrap().to_owned()] {
            mode(spoiled, 0o777);
            let refused = inspect(&path, &named).unwrap_err();
            assert_eq!(refused.kind, Kind::RuntimeRefused, "{refused}");
            let says = format!("{} can be written by everybody", spoiled.display());
            assert!(refused.message.ends_with(&says), "{refused}");
            mode(spoiled, 0o755);
        }
        fs::remove_dir_all(&cuda).unwrap();
        let refused = inspect(&path, &named).unwrap_err();
        assert!(refused.message.ends_with("/cuda is no directory"), "{refused}");
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
        let found = inspect(&path, &[]).unwrap();
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
