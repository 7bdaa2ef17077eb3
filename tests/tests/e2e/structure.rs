//! The directions in which the code may lean on itself, read from the code.

use llamactl_tests::artifacts::checkout;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The root of each crate.
const CRATES: [&str; 5] = [
    "protocol/src/lib.rs",
    "llama-http/src/lib.rs",
    "daemon/src/lib.rs",
    "cli/src/main.rs",
    "tests/src/lib.rs",
];

/// For each folder of the daemon, and each file beside them, the others of ours it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("main", &["lifecycle", "config"]),
    ("lib", &[]),
    ("clock", &[]),
    ("failpoint", &[]),
    (
        "lifecycle",
        &[
            "api",
            "rpc",
            "config",
            "library",
            "logs",
            "metrics",
            "models",
            "os",
            "store",
            "supervisor",
            "failpoint",
            "clock",
        ],
    ),
    (
        "api",
        &[
            "supervisor",
            "transfer",
            "models",
            "library",
            "llama",
            "logs",
            "why",
            "runtime",
            "store",
            "metrics",
            "gguf",
            "config",
            "clock",
        ],
    ),
    ("rpc", &["os", "clock"]),
    ("arbiter", &[]),
    (
        "supervisor",
        &[
            "arbiter",
            "models",
            "llama",
            "logs",
            "why",
            "runtime",
            "store",
            "metrics",
            "os",
            "failpoint",
            "config",
            "clock",
        ],
    ),
    ("transfer", &["models", "library", "runtime", "store", "gguf", "clock"]),
    ("models", &["runtime", "store", "gguf", "os", "clock"]),
    ("library", &["models", "gguf", "store", "os", "clock"]),
    ("metrics", &["llama", "store", "os", "clock"]),
    ("llama", &["os", "clock"]),
    ("logs", &["os", "clock"]),
    ("why", &[]),
    ("runtime", &["store", "os", "clock"]),
    ("store", &["os", "failpoint", "clock"]),
    ("config", &[]),
    ("gguf", &[]),
    ("os", &[]),
];

/// Single files that may use what the rest of their folder may not: where two parts are joined.
const JOINTS: &[(&str, &str)] = &[("api/registration.rs", "rpc")];

/// Parts that compute and do nothing else: no file, no process, no clock, no socket.
const PURE: &[&str] = &[
    "daemon/src/supervisor/core/machine.rs",
    "daemon/src/supervisor/core/restart.rs",
    "daemon/src/arbiter/ledger.rs",
    "daemon/src/supervisor/core/demand.rs",
    "daemon/src/supervisor/core/execute.rs",
    "daemon/src/supervisor/core/driver/mod.rs",
    "daemon/src/supervisor/core/driver/action.rs",
    "daemon/src/supervisor/core/driver/admit.rs",
    "daemon/src/supervisor/core/driver/ask.rs",
    "daemon/src/supervisor/core/driver/begin.rs",
    "daemon/src/supervisor/core/driver/end.rs",
    "daemon/src/supervisor/core/driver/event.rs",
    "daemon/src/supervisor/core/driver/fail.rs",
    "daemon/src/supervisor/core/driver/look.rs",
    "daemon/src/supervisor/core/driver/make.rs",
    "daemon/src/supervisor/core/driver/run.rs",
    "daemon/src/supervisor/core/driver/snapshot.rs",
    "daemon/src/supervisor/core/warning.rs",
    "daemon/src/supervisor/core/hang.rs",
    "daemon/src/supervisor/core/limits.rs",
    "daemon/src/supervisor/core/recovery.rs",
    "daemon/src/supervisor/core/device.rs",
    "daemon/src/why/mod.rs",
    "daemon/src/logs/line.rs",
    "daemon/src/logs/progress.rs",
    "daemon/src/logs/classify.rs",
    "daemon/src/logs/rules.rs",
    "daemon/src/metrics/rate.rs",
    "daemon/src/runtime/help.rs",
    "protocol/src/options/mod.rs",
    "daemon/src/runtime/devices.rs",
    "daemon/src/runtime/verdict.rs",
    "daemon/src/transfer/dashboard/files.rs",
    "daemon/src/transfer/dashboard/router.rs",
    "daemon/src/transfer/dashboard/page.rs",
    "daemon/src/transfer/dashboard/schema.rs",
    "daemon/src/transfer/dashboard/table.rs",
    "daemon/src/transfer/document.rs",
    "daemon/src/transfer/edit.rs",
    "daemon/src/transfer/format.rs",
    "daemon/src/transfer/plan.rs",
    "daemon/src/transfer/toml_value.rs",
    "daemon/src/transfer/preset/mod.rs",
    "daemon/src/transfer/preset/read.rs",
    "daemon/src/transfer/preset/write.rs",
    "daemon/src/transfer/pasted/mod.rs",
    "daemon/src/transfer/pasted/shell.rs",
    "daemon/src/transfer/names.rs",
    "daemon/src/transfer/omissions.rs",
    "daemon/src/transfer/position.rs",
    "daemon/src/transfer/spec.rs",
    "daemon/src/library/naming.rs",
    "daemon/src/library/pair.rs",
    "daemon/src/library/places.rs",
    "protocol/src/options/value.rs",
    "protocol/src/options/build.rs",
    "protocol/src/options/arguments.rs",
    "protocol/src/options/layers.rs",
    "protocol/src/options/rules.rs",
    "protocol/src/options/secret.rs",
    "protocol/src/options/document.rs",
    "protocol/src/name.rs",
];

/// What a pure part does not touch.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net::T",
    "std::net::U",
    "std::process",
    "std::os",
    "std::thread",
    "std::env",
    "std::io",
    "Instant::now",
    "SystemTime::now",
    "tokio",
    "rusqlite",
    "rustix",
    "hyper",
    "llama_http",
    "crate::os",
    "crate::store",
    "crate::llama",
    "crate::rpc",
    "crate::runtime",
];

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn relative(path: &Path) -> String {
    path.strip_prefix(checkout()).unwrap().display().to_string()
}

/// The code of a file without comments and without the tests at its end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let line_code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(line_code).collect::<Vec<_>>().join("\n")
}

/// The first step of each path from the crate's root: `store` of `use crate::store::Store` and of
/// `use crate::{app::App, store}` alike.
fn modules_used(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|it| it.is_ascii_lowercase() || *it == '_').collect()
    };
    let mut used = BTreeSet::new();
    for behind in code.split("crate::").skip(1) {
        match behind.strip_prefix('{') {
            None => used.insert(word(behind)),
            Some(list) => {
                let mut depth = 0;
                let mut begins = true;
                for (at, character) in list.char_indices() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => begins = true,
                        _ if begins && !character.is_whitespace() => {
                            used.insert(word(&list[at..]));
                            begins = false;
                        }
                        _ => {}
                    }
                }
                true
            }
        };
    }
    used.remove("");
    used
}

#[test]
fn the_reader_of_paths_reads_all_forms() {
    let code =
        "use crate::store;\nuse crate::{os::{a, b}, logs};\ncrate::rpc::serve(crate::Kind::X)";
    let used: Vec<String> = modules_used(code).into_iter().collect();
    assert_eq!(used, ["logs", "os", "rpc", "store"]);
}

#[test]
fn the_daemons_parts_lean_one_way() {
    let source = checkout().join("daemon/src");
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut broken = Vec::new();
    for path in rust_files(&source) {
        let inside = path.strip_prefix(&source).unwrap();
        let part = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let part = part.trim_end_matches(".rs");
        let Some(allowed) = rules.get(part) else {
            broken.push(format!("{} lies in a part without a rule", relative(&path)));
            continue;
        };
        let in_tests =
            inside.components().any(|it| it.as_os_str() == "tests") || inside.ends_with("tests.rs");
        // The program is a crate of its own.
        let code = code(&path).replace("llamactld::", "crate::");
        for used in modules_used(&code) {
            let is_joint =
                JOINTS.iter().any(|(file, joins)| inside.ends_with(file) && used == *joins);
            if used != part && !in_tests && !is_joint && !allowed.contains(&used.as_str()) {
                broken.push(format!("{} uses crate::{used}", relative(&path)));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_rules_have_no_circle() {
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    fn reaches(rules: &BTreeMap<&str, &[&str]>, from: &str, to: &str) -> bool {
        rules
            .get(from)
            .is_some_and(|uses| uses.iter().any(|&used| used == to || reaches(rules, used, to)))
    }
    for part in rules.keys() {
        assert!(!reaches(&rules, part, part), "{part} leads back to itself");
    }
}

#[test]
fn what_is_pure_does_nothing() {
    for file in PURE {
        let path = checkout().join(file);
        // What a poll has seen is a value that the state machine is fed.
        let code = code(&path).replace("crate::llama::Seen", "");
        let touched: Vec<_> = IMPURE.iter().filter(|impure| code.contains(**impure)).collect();
        assert!(touched.is_empty(), "{file} touches {touched:?}");
    }
}

#[test]
fn only_the_daemon_knows_the_database_and_only_it_is_the_daemon() {
    for manifest in ["cli/Cargo.toml", "protocol/Cargo.toml", "llama-http/Cargo.toml"] {
        let text = fs::read_to_string(checkout().join(manifest)).unwrap();
        for forbidden in ["rusqlite", "llamactld"] {
            let named = text
                .lines()
                .any(|line| line.split('#').next().unwrap_or_default().starts_with(forbidden));
            assert!(!named, "{manifest} names {forbidden}");
        }
    }
    let uses_sqlite: BTreeSet<String> = rust_files(&checkout().join("daemon/src"))
        .iter()
        .filter(|path| code(path).contains("rusqlite"))
        .map(|path| relative(path))
        .collect();
    assert!(!uses_sqlite.is_empty());
    // The old dashboard's database is another: it is opened to be read, once, by an import.
    let may = ["daemon/src/store/", "daemon/src/transfer/dashboard/"];
    let strangers: Vec<&String> =
        uses_sqlite.iter().filter(|file| !may.iter().any(|may| file.starts_with(may))).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn unsafe_code_lies_in_one_place() {
    let mut unsafe_files = BTreeSet::new();
    for part in CRATES.map(|root| root.rsplit_once('/').unwrap().0) {
        for path in rust_files(&checkout().join(part)) {
            let code = code(&path);
            let mut words = code.split(|it: char| !it.is_alphanumeric() && it != '_');
            if words.any(|word| word == "unsafe") {
                unsafe_files.insert(relative(&path));
            }
        }
    }
    assert!(unsafe_files.iter().all(|file| file.starts_with("daemon/src/os/")), "{unsafe_files:?}");
}

#[test]
fn one_crate_knows_how_http_is_spoken() {
    for root in CRATES.iter().filter(|root| !root.starts_with("llama-http/")) {
        let crate_dir = root.split('/').next().unwrap();
        let text = fs::read_to_string(checkout().join(crate_dir).join("Cargo.toml")).unwrap();
        assert!(!text.lines().any(|line| line.starts_with("hyper")), "{crate_dir} names hyper");
    }
}

#[test]
fn every_crate_is_listed_and_says_what_it_is() {
    let workspace = fs::read_to_string(checkout().join("Cargo.toml")).unwrap();
    let members = workspace.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert_eq!(members, CRATES.map(|root| root.split('/').next().unwrap()));
    for root in CRATES {
        let text = fs::read_to_string(checkout().join(root)).unwrap();
        assert!(text.starts_with("//! "), "{root} opens without a paragraph");
    }
}
