//! A few rounds of the kill loop; the many run in CI, from a release build.

use llamactl_tests::artifacts;
use std::process::Command;

#[test]
fn a_few_kills_at_random_instants_lose_nothing() {
    let program = artifacts::profile_dir().join("kill-loop");
    let output = Command::new(&program)
        .args(["--kills", "5", "--seed", "9", "--upgrade-every", "3"])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}: run cargo build first", program.display()));
    let (said, problems) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}\n{problems}", output.status);
}
