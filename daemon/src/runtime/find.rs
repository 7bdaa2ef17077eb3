//! Finding a llama-server without being told.

use llamactl_protocol::place::LLAMA_SERVER_VARIABLE;
use llamactl_protocol::{Failure, Kind};
use rustix::fs::{Access, access};
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// An executable and the facts by which a replaced one is told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path, links resolved, so that its libraries are found beside it.
    pub path: PathBuf,
    /// Its inode.
    pub inode: u64,
    /// Its size.
    pub size_bytes: u64,
    /// When it was written.
    pub mtime_ns: i64,
}

const NAME: &str = "llama-server";

/// Where packages and people put it when it is not on `PATH`.
const USUAL_PLACES: &[&str] = &[
    "/usr/local/bin",
    "/usr/bin",
    "/opt/llama.cpp/bin",
    "/opt/llama.cpp/build/bin",
    "/home/linuxbrew/.linuxbrew/bin",
];

/// The same below the home directory.
const USUAL_PLACES_AT_HOME: &[&str] =
    &[".local/bin", "bin", "llama.cpp/build/bin", "src/llama.cpp/build/bin"];

/// The llama-server to use: `$LLAMACTL_LLAMA_SERVER`, else the first on `PATH`, else the first in
/// the usual places.
///
/// # Errors
/// [`Kind::RuntimeNotFound`], saying where was looked, or what is wrong with the one named.
pub fn find() -> Result<Found, Failure> {
    let named = env::var_os(LLAMA_SERVER_VARIABLE).filter(|path| !path.is_empty());
    if let Some(path) = named {
        return inspect(Path::new(&path)).map_err(|problem| {
            let path = Path::new(&path).display();
            Failure::new(
                Kind::RuntimeNotFound,
                format!("{LLAMA_SERVER_VARIABLE} names {path}, which {problem}"),
            )
            .hint("set it to an executable llama-server and restart the daemon")
        });
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("HOME").map(PathBuf::from);
    candidates(&path, home.as_deref())
        .iter()
        .find_map(|candidate| inspect(candidate).ok())
        .ok_or_else(|| {
            Failure::new(
                Kind::RuntimeNotFound,
                "no llama-server was found on PATH or in the usual places",
            )
            .hint(format!(
                "install llama.cpp, or set {LLAMA_SERVER_VARIABLE} to its llama-server, and run \
                 llamactl daemon restart"
            ))
        })
}

fn candidates(path: &OsStr, home: Option<&Path>) -> Vec<PathBuf> {
    let on_path = env::split_paths(path).filter(|dir| dir.is_absolute());
    let usual = USUAL_PLACES.iter().map(PathBuf::from);
    let at_home = home
        .into_iter()
        .flat_map(|home| USUAL_PLACES_AT_HOME.iter().map(move |dir| home.join(dir)));
    on_path.chain(usual).chain(at_home).map(|dir| dir.join(NAME)).collect()
}

/// Where a build's libraries are: beside it, then wherever they were looked for before.
#[must_use]
pub fn library_path(executable: &Path) -> OsString {
    let mut path = executable.parent().unwrap_or(Path::new("/")).as_os_str().to_owned();
    if let Some(inherited) = std::env::var_os("LD_LIBRARY_PATH").filter(|path| !path.is_empty()) {
        path.push(":");
        path.push(inherited);
    }
    path
}

/// The facts of an executable, or what keeps it from being one.
fn inspect(path: &Path) -> Result<Found, &'static str> {
    let path = path.canonicalize().map_err(|_| "does not exist")?;
    let facts = path.metadata().map_err(|_| "cannot be looked at")?;
    if !facts.is_file() {
        return Err("is not a file");
    }
    access(&path, Access::EXEC_OK).map_err(|_| "may not be executed")?;
    // Whoever can write it runs as us. /tmp-style directories do not matter: only the file's mode.
    if facts.mode() & 0o002 != 0 {
        return Err("can be written by everybody, so it is not run");
    }
    Ok(Found {
        path,
        inode: facts.ino(),
        size_bytes: facts.size(),
        mtime_ns: facts.mtime().saturating_mul(1_000_000_000).saturating_add(facts.mtime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn path_comes_before_the_usual_places_and_relative_entries_do_not_count() {
        let all = candidates(OsStr::new("bin:/a:/b"), Some(Path::new("/home/u")));
        assert_eq!(all[0], Path::new("/a/llama-server"));
        assert_eq!(all[1], Path::new("/b/llama-server"));
        assert!(all.contains(&PathBuf::from("/home/u/.local/bin/llama-server")));
        assert!(all.iter().all(|path| path.is_absolute()));
    }

    #[test]
    fn a_file_everybody_can_write_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o755);
        assert!(inspect(&path).is_ok());
        mode(0o777);
        assert!(inspect(&path).is_err());
        assert_eq!(inspect(dir.path()), Err("is not a file"));
    }
}
