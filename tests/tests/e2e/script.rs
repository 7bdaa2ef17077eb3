//! Another program: a shell script with jq and nc, and nothing of ours.

use llamactl_tests::{Home, TestModel, need};
use std::fs;

#[test]
fn jq_and_nc_are_enough() {
    need!("bash", "jq", "nc");
    let home = Home::new();
    let _daemon = home.daemon();
    let script = home.path().join("script.sh");
    fs::write(&script, include_str!("script.sh")).unwrap();
    let output = home
        .program("/usr/bin/env", ["bash".as_ref(), script.as_os_str()])
        .env("SOCK", home.socket())
        .env("MODEL", home.model(TestModel::Tiny))
        .run()
        .ok();
    let lines = output.lines();
    assert!(lines[0].starts_with("methods: "), "{lines:?}");
    assert_eq!(lines[1..4], ["added: m", "accepted: true", "state: ready"], "{lines:?}");
    assert!(lines[4].starts_with("cpus: ") && lines[4] != "cpus: null", "{lines:?}");
    assert_eq!(lines[5..], ["removed: m"], "{lines:?}");
}
