//! How long whole commands take.

use super::Times;
use llamactl_tests::Home;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

/// Runs a program 200 times after a warm-up, in the environment of a home.
pub(super) fn measure(home: &Home, program: &Path, arguments: &[&str]) -> Times {
    let once = || {
        let start = Instant::now();
        let status = home
            .program(program, arguments)
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{} ended with {status}", program.display());
        start.elapsed()
    };
    for _ in 0..20 {
        once();
    }
    Times::of((0..200).map(|_| once()).collect(), 90)
}
