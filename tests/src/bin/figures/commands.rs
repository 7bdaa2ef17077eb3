//! How long everyday commands take, of each build of `llamactl` there is.

use super::{Times, executable};
use llamactl_tests::specification::Measured;
use llamactl_tests::{Home, artifacts};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

/// How often each is run.
const RUNS: u32 = 200;
/// How many models the daemon has, and how many of them run.
const MODELS: usize = 20;
const RUNNING: usize = 3;

pub(super) fn print(measured: &mut Measured) {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    for number in 0..MODELS {
        let name = format!("m{number}");
        home.fake_model(&name, &json!({}));
        if number < RUNNING {
            let _ = home.cli(["start", &name]).ok();
        }
    }
    println!(
        "\na command, {RUNNING} of {MODELS} models running, p50 (p90) of {RUNS}, beside a program that does nothing"
    );
    let packaged = artifacts::checkout().join("target/package/bin/llamactl");
    let builds = [("plain", executable("llamactl")), ("packaged", packaged)];
    let asked: [&[&str]; 3] = [&["--version"], &["ps"], &["status"]];
    let mut runs = vec![(executable("no-op"), vec![])];
    for (_, program) in builds.iter().filter(|(_, program)| program.exists()) {
        runs.extend(asked.iter().map(|words| (program.clone(), words.to_vec())));
    }
    let taken = measure(&home, &runs);
    let floor = taken[0].times.p50;
    for ((program, words), taken) in runs.iter().zip(&taken) {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let build = builds.iter().find(|(_, known)| known == program).map_or("", |(name, _)| name);
        let linked = if needs_a_loader(program) { "dynamic" } else { "static" };
        println!(
            "  {:<29}{}  {:.2} x  {:5.1} faults of pages  {linked} {build}",
            format!("{name} {}", words.join(" ")),
            taken.times,
            taken.times.p50 / floor,
            taken.faults
        );
        let promise = match (build, words.first()) {
            ("plain", Some(&"--version")) => "version",
            ("plain", Some(&"ps")) => "ps",
            ("packaged", Some(&"--version")) => "version-packaged",
            ("packaged", Some(&"ps")) => "ps-packaged",
            _ => continue,
        };
        measured.note(promise, taken.times.p50 / floor);
    }
    let _ = home.cli(["stop", "--all"]).ok();
}

pub(super) struct Taken {
    pub(super) times: Times,
    /// How many pages a run had to be given.
    faults: f64,
}

/// Runs programs by turns in the environment of a home, so that a loaded moment is everybody's.
pub(super) fn measure(home: &Home, runs: &[(PathBuf, Vec<&str>)]) -> Vec<Taken> {
    let mut taken = vec![(Vec::new(), 0); runs.len()];
    for round in 0..RUNS + RUNS / 10 {
        for ((program, words), (times, faults)) in runs.iter().zip(&mut taken) {
            let mut command = home.program(program, words).command();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let (before, start) = (faults_of_children(), Instant::now());
            let status = command.status().unwrap();
            assert!(status.success(), "{} ended with {status}", program.display());
            if round >= RUNS / 10 {
                times.push(start.elapsed());
                *faults += faults_of_children() - before;
            }
        }
    }
    let mean = |faults| faults as f64 / f64::from(RUNS);
    taken
        .into_iter()
        .map(|(times, faults)| Taken { times: Times::of(times, 90), faults: mean(faults) })
        .collect()
}

/// The minor faults of all children that were waited for.
fn faults_of_children() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(8).unwrap().parse().unwrap()
}

/// Whether another program must load this one: whether its headers name one.
fn needs_a_loader(program: &Path) -> bool {
    const PT_INTERP: u8 = 3;
    let bytes = fs::read(program).unwrap();
    let number = |at: usize, len: usize| {
        bytes[at..at + len].iter().rev().fold(0, |all, &byte| all << 8 | usize::from(byte))
    };
    let (first, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).any(|header| bytes[first + header * size] == PT_INTERP)
}
