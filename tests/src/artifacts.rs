//! Where the executables under test and the tests' own files lie.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, fs};

/// The root of the checkout.
#[must_use]
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the checkout").into()
}

/// The directory cargo put the running test's profile in, such as `target/debug`.
#[must_use]
pub fn profile_dir() -> PathBuf {
    let test = env::current_exe().expect("a process has an executable");
    let dir = test.parent().expect("an executable lies in a directory");
    if dir.ends_with("deps") {
        dir.parent().expect("deps lies in a profile").into()
    } else {
        dir.into()
    }
}

/// The target directory of the running test.
#[must_use]
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("a profile lies in a target directory").into()
}

/// The `llamactld` under test: `$LLAMACTLD_BIN`, else the one built beside the running test.
#[must_use]
pub fn llamactld() -> PathBuf {
    built("LLAMACTLD_BIN", "llamactld")
}

/// The `llamactl` under test: `$LLAMACTL_BIN`, else the one built beside the running test.
#[must_use]
pub fn llamactl() -> PathBuf {
    built("LLAMACTL_BIN", "llamactl")
}

/// The fake llama-server.
#[must_use]
pub fn fake_llama_server() -> PathBuf {
    built("LLAMACTL_FAKE_LLAMA_SERVER_BIN", "fake-llama-server")
}

fn built(variable: &str, name: &str) -> PathBuf {
    let path = env::var_os(variable).map_or_else(|| profile_dir().join(name), PathBuf::from);
    assert!(path.is_file(), "{} is not there: run cargo build first", path.display());
    path
}

/// A shared library made of a C file of the kit, once.
///
/// # Panics
/// When it does not compile.
#[must_use]
pub fn c_library(name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap();
    let build = || {
        let dir = target_dir();
        let new = dir.join(format!("{name}.{}", std::process::id()));
        let library = dir.join(format!("lib{name}.so"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{name}.c"));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&new, &source])
            .arg("-ldl")
            .status();
        assert!(compiled.unwrap().success(), "{} does not compile", source.display());
        // Others may have it loaded.
        fs::rename(&new, &library).unwrap();
        library
    };
    built.entry(name.to_owned()).or_insert_with(build).clone()
}
