//! The llama-servers tests run: the real one, provided once per test process, and the fake.

use crate::artifacts;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The real llama-server: `$LLAMACTL_LLAMA_SERVER`, else the pinned build, installed when it is
/// not there yet.
///
/// # Panics
/// When there is none and none could be installed.
#[must_use]
pub fn real() -> &'static Path {
    static PROVIDED: OnceLock<PathBuf> = OnceLock::new();
    PROVIDED.get_or_init(|| {
        let script = artifacts::checkout().join("packaging/provide-llama-server");
        let output = Command::new(&script)
            .arg("--pinned")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        assert!(output.status.success(), "{} ended with {}", script.display(), output.status);
        let path = String::from_utf8(output.stdout).expect("the path of a checkout is text");
        PathBuf::from(path.trim_end_matches('\n'))
    })
}

/// The file beside a model in which the fake llama-server finds how to behave.
#[must_use]
pub fn fake_script(model: &Path) -> PathBuf {
    beside(model, ".fake")
}

/// The file beside a model in which the fake llama-server writes each signal it catches, one name
/// per line.
#[must_use]
pub fn fake_signals(model: &Path) -> PathBuf {
    beside(model, ".signals")
}

/// The file beside a model in which the fake llama-server writes the path of each request it is told
/// to note, one per line.
#[must_use]
pub fn fake_requests(model: &Path) -> PathBuf {
    beside(model, ".requests")
}

fn beside(model: &Path, suffix: &str) -> PathBuf {
    let mut path = model.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
