//! Finding a llama-server without being told.

use super::inspect::{Found, inspect};
use llamactl_protocol::place::LLAMA_SERVER_VARIABLE;
use llamactl_protocol::{Failure, Hint, Kind};
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What it is called; llama.cpp 0.2 and later installs one program for everything, of which it is a part.
const NAMES: [&str; 2] = ["llama-server", "llama"];

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

/// The llama-server that is used without being told: `$LLAMACTL_LLAMA_SERVER`, else the first on
/// `PATH` that may be run, else the first in the usual places; where there is none of that name, the
/// `llama` that has it in itself. Blocks.
///
/// # Errors
/// [`Kind::RuntimeNotFound`], saying where was looked, or what is wrong with the one named;
/// [`Kind::RuntimeRefused`] when there are some and none may be run.
pub fn find() -> Result<Found, Failure> {
    if let Some(path) = named() {
        return inspect(&path, &[]).map_err(|problem| {
            let message = format!("{LLAMA_SERVER_VARIABLE} names an unusable file: {problem}");
            let failure = Failure { kind: Kind::RuntimeNotFound, message, ..problem };
            match failure.hints.is_empty() {
                true => failure.hint("set it to an executable llama-server and restart the daemon"),
                false => failure,
            }
        });
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("HOME").map(PathBuf::from);
    let mut refused = None;
    for candidate in candidates(&path, home.as_deref()) {
        match inspect(&candidate, &[]) {
            Ok(found) => return Ok(found),
            Err(failure) if failure.kind == Kind::RuntimeRefused => {
                refused.get_or_insert(failure);
            }
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| {
        Failure::new(
            Kind::RuntimeNotFound,
            "no llama-server was found on PATH or in the usual places",
        )
        .hint(Hint::run(
            format!(
                "install llama.cpp, give the daemon {LLAMA_SERVER_VARIABLE}, or name a llama-server"
            ),
            ["llamactl", "runtime", "add", "PATH"],
        ))
    }))
}

/// The path in the environment.
fn named() -> Option<PathBuf> {
    env::var_os(LLAMA_SERVER_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn candidates(path: &OsStr, home: Option<&Path>) -> Vec<PathBuf> {
    let on_path = env::split_paths(path).filter(|dir| dir.is_absolute());
    let usual = USUAL_PLACES.iter().map(PathBuf::from);
    let at_home = home
        .into_iter()
        .flat_map(|home| USUAL_PLACES_AT_HOME.iter().map(move |dir| home.join(dir)));
    let dirs: Vec<PathBuf> = on_path.chain(usual).chain(at_home).collect();
    NAMES.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_comes_before_the_usual_places_and_relative_entries_do_not_count() {
        let all = candidates(OsStr::new("bin:/a:/b"), Some(Path::new("/home/u")));
        assert_eq!(all[0], Path::new("/a/llama-server"));
        assert_eq!(all[1], Path::new("/b/llama-server"));
        assert!(all.contains(&PathBuf::from("/home/u/.local/bin/llama-server")));
        assert!(all.iter().all(|path| path.is_absolute()));
        // Any llama-server is rather meant than a program that may be something else.
        let place = |path: &str| all.iter().position(|it| it == Path::new(path)).unwrap();
        assert!(place("/a/llama") > place("/home/u/src/llama.cpp/build/bin/llama-server"));
    }
}
