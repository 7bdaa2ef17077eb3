//! Where the executables under test and the tests' own files lie.

use std::env;
use std::path::{Path, PathBuf};

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
