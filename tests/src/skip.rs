//! Tests that need something a machine may lack.
//!
//! Such a test begins with `need!("jq", "nc")`. Where one is missing the test returns, and a file
//! with its name is left in `target/test-skips`, so that a run can end with the list of what it
//! did not prove. With `LLAMACTL_REQUIRE_TOOLS=1` in the environment it fails instead.

use crate::artifacts;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

/// Where a home's commands are looked for.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Returns from the running test, and records it as skipped, unless all of the named things are
/// there: programs, `"root"` for the privileges of the super-user, or `"memory cgroup"` and
/// `"freezer cgroup"` for a hierarchy of control groups that this process may use.
#[macro_export]
macro_rules! need {
    ($($thing:literal),+ $(,)?) => {
        if !$crate::skip::have(&[$($thing),+]) {
            return;
        }
    };
}

/// Whether all of `things` are there; records the running test as skipped if not.
///
/// # Panics
/// When one is missing and `LLAMACTL_REQUIRE_TOOLS=1` says that none may be.
#[must_use]
pub fn have(things: &[&str]) -> bool {
    let missing: Vec<&str> = things.iter().copied().filter(|thing| !is_there(thing)).collect();
    if missing.is_empty() {
        return true;
    }
    let test = thread::current().name().unwrap_or("unknown").to_owned();
    let missing = missing.join(", ");
    assert!(
        env::var_os("LLAMACTL_REQUIRE_TOOLS").is_none_or(|value| value != "1"),
        "{test} needs {missing}, and LLAMACTL_REQUIRE_TOOLS=1 forbids to skip it"
    );
    eprintln!("skipped: {test} needs {missing}");
    let dir = artifacts::target_dir().join("test-skips");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(test.replace("::", ".")), format!("{missing}\n")).unwrap();
    false
}

/// The path of a program a home's commands can run.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    PATH.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

fn is_there(thing: &str) -> bool {
    match thing {
        "memory cgroup" => crate::cgroup::Cgroup::memory().is_some(),
        "freezer cgroup" => crate::cgroup::Cgroup::freezer().is_some(),
        // Where administrators have their programs.
        "sshd" => Path::new(crate::remote::SSHD).is_file(),
        "root" => rustix::process::geteuid().is_root(),
        program_name => program(program_name).is_some(),
    }
}
