//! The directions in which the code may lean on itself, read from the code.
//!
//! ```text
//!   manifests ─▶ which crate may know which      (CRATES)
//!   paths in the code ─▶ which room of the daemon may use which      (ARROWS, EXCEPTIONS)
//!                    ╰─▶ what is pure touches nothing      (PURE, IMPURE)
//! ```
//!
//! Every file is read. ARCHITECTURE.md says what each room is; a new one gets its rule here first.

use llamactl_tests::artifacts::checkout;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// For each room of the daemon, and each file beside the rooms, the others it may use. Whoever stands
/// higher in a chain of these may use what stands lower, never the other way round: there is no
/// circle, and no arrow that nobody uses.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["lifecycle", "config"]),
    // What starts, stops and joins the parts knows each of them.
    (
        "lifecycle",
        &[
            "api",
            "checkup",
            "rpc",
            "exporter",
            "config",
            "supervisor",
            "metrics",
            "library",
            "models",
            "logs",
            "store",
            "os",
            "failpoint",
            "clock",
        ],
    ),
    (
        "api",
        &[
            "checkup",
            "supervisor",
            "transfer",
            "library",
            "models",
            "metrics",
            "llama",
            "logs",
            "why",
            "runtime",
            "store",
            "clock",
        ],
    ),
    ("checkup", &["store", "os"]),
    ("rpc", &["os", "clock"]),
    // It serves what the handlers make, at a place that is checked and taken as the socket's is.
    ("exporter", &["api", "os", "rpc"]),
    (
        "supervisor",
        &[
            "arbiter",
            "models",
            "llama",
            "logs",
            "runtime",
            "store",
            "config",
            "os",
            "failpoint",
            "clock",
        ],
    ),
    ("arbiter", &[]),
    ("transfer", &["models", "runtime", "store", "gguf", "os"]),
    ("library", &["models", "store", "gguf", "os"]),
    ("models", &["runtime", "store", "gguf", "os"]),
    ("runtime", &["store", "os"]),
    ("metrics", &["store", "os"]),
    ("llama", &["os", "clock"]),
    ("logs", &["os"]),
    ("why", &[]),
    ("store", &["os", "failpoint", "clock"]),
    ("config", &["os"]),
    ("gguf", &["os"]),
    ("os", &[]),
    ("clock", &[]),
    ("failpoint", &[]),
    ("lib", &[]),
];

/// An arrow that is for some files of a room alone.
struct Exception {
    /// Who may, below `daemon/src`.
    files: &'static [&'static str],
    /// The room they may use.
    uses: &'static str,
    /// Why the arrow is not one of the whole room.
    #[expect(dead_code, reason = "it is for whoever reads the table")]
    because: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        files: &["api/registration.rs"],
        uses: "rpc",
        because: "methods and wire must meet somewhere: here the one is registered in the other",
    },
    Exception {
        files: &["supervisor/mod.rs", "supervisor/task/hands.rs", "supervisor/observe.rs"],
        uses: "metrics",
        because: "the list of running processes, which the sampler watches, is of the sampler's type, \
                  and so are the signs of work that it gives back",
    },
];

/// What computes and does nothing else, by file or by folder: no file, no process, no clock, no
/// socket. A file that is added to such a folder is pure too.
const PURE: &[&str] = &[
    "daemon/src/arbiter/ledger.rs",
    "daemon/src/checkup/facts.rs",
    "daemon/src/checkup/findings.rs",
    "daemon/src/library/naming.rs",
    "daemon/src/library/pair.rs",
    "daemon/src/library/places.rs",
    "daemon/src/llama/counters.rs",
    "daemon/src/logs/classify.rs",
    "daemon/src/logs/cures.rs",
    "daemon/src/logs/filter.rs",
    "daemon/src/logs/line.rs",
    "daemon/src/logs/lines.rs",
    "daemon/src/logs/progress.rs",
    "daemon/src/logs/rules.rs",
    "daemon/src/logs/split.rs",
    "daemon/src/metrics/history/codec.rs",
    "daemon/src/metrics/history/key.rs",
    "daemon/src/metrics/history/record.rs",
    "daemon/src/metrics/history/retention.rs",
    "daemon/src/metrics/history/rollup.rs",
    "daemon/src/metrics/history/steps.rs",
    "daemon/src/metrics/history/totals.rs",
    "daemon/src/metrics/rate.rs",
    "daemon/src/runtime/devices.rs",
    "daemon/src/runtime/help.rs",
    "daemon/src/runtime/verdict.rs",
    "daemon/src/supervisor/core/",
    "daemon/src/transfer/dashboard/files.rs",
    "daemon/src/transfer/dashboard/page.rs",
    "daemon/src/transfer/dashboard/router.rs",
    "daemon/src/transfer/dashboard/schema.rs",
    "daemon/src/transfer/dashboard/table.rs",
    "daemon/src/transfer/document.rs",
    "daemon/src/transfer/edit.rs",
    "daemon/src/transfer/format.rs",
    "daemon/src/transfer/names.rs",
    "daemon/src/transfer/omissions.rs",
    "daemon/src/transfer/pasted/",
    "daemon/src/transfer/plan.rs",
    "daemon/src/transfer/position.rs",
    "daemon/src/transfer/preset/",
    "daemon/src/transfer/spec.rs",
    "daemon/src/transfer/toml_value.rs",
    "daemon/src/why/",
    "protocol/src/actor.rs",
    "protocol/src/cause.rs",
    "protocol/src/configuration.rs",
    "protocol/src/doctor.rs",
    "protocol/src/event.rs",
    "protocol/src/failure.rs",
    "protocol/src/hint.rs",
    "protocol/src/metrics.rs",
    "protocol/src/name.rs",
    "protocol/src/options/",
    "protocol/src/series/",
    "protocol/src/totals.rs",
    "protocol/src/warning.rs",
    "protocol/src/word.rs",
    "cli/src/doctor/facts.rs",
    "cli/src/doctor/findings.rs",
    "cli/src/view.rs",
    "cli/src/waiting/verdict.rs",
];

/// What the pure does not touch.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net::T",
    "std::net::U",
    "std::process",
    "std::os::fd",
    "std::os::unix::fs",
    "std::os::unix::net",
    "std::os::unix::process",
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
    "crate::clock",
    "crate::connection",
    "crate::os",
    "crate::store",
    "crate::llama",
    "crate::rpc",
    "crate::runtime",
];

/// Values of rooms that do I/O, which the pure is fed with: what a poll has seen.
const FED: &[&str] = &["crate::llama::Seen"];

/// For each crate: those of ours it may name in its manifest, and the crates of others it must never
/// name, because of what it is to know nothing of.
const CRATES: &[(&str, &[&str], &[&str])] = &[
    // Neither a database, nor a process, nor a terminal.
    (
        "protocol",
        &[],
        &["rusqlite", "rustix", "libc", "inotify", "nvml-wrapper", "hyper", "clap", "comfy-table"],
    ),
    // It speaks HTTP to one llama-server, for whoever asks, and nobody else here does.
    ("llama-http", &[], &["rusqlite", "clap", "tracing"]),
    // No terminal.
    ("daemon", &["llamactl-protocol", "llama-http"], &["comfy-table", "clap_complete", "jiff"]),
    // Neither the database nor the daemon's insides.
    (
        "cli",
        &["llamactl-protocol", "llama-http"],
        &["rusqlite", "libc", "inotify", "nvml-wrapper", "daemonize", "tracing", "hyper"],
    ),
    ("tests", &["llamactl-protocol", "llamactld", "llama-http"], &["hyper"]),
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

/// The code of a file without comments and without what is for tests alone.
fn code(path: &Path) -> String {
    without_tests(&fs::read_to_string(path).unwrap())
}

/// A text without comments and without the items behind `#[cfg(test)]`. rustfmt ends an item on a
/// line that is indented as the item's first.
fn without_tests(text: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            code += line.split("//").next().unwrap_or_default();
            code.push('\n');
            continue;
        }
        let is_end = |it: &&str| {
            indent(it) == indent(line) && (it.ends_with(';') || it.trim_start().starts_with('}'))
        };
        lines.by_ref().find(is_end);
    }
    code
}

/// The first step of each path from the crate's root: `store` of `use crate::store::Store` and of
/// `use crate::{app::App, store}` alike, and of `super::store` in a file that lies `depth` below it.
fn modules_used(code: &str, depth: usize) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|it| it.is_ascii_lowercase() || *it == '_').collect()
    };
    let mut used = BTreeSet::new();
    for behind in code.split("crate::").skip(1) {
        let Some(list) = behind.strip_prefix('{') else {
            used.insert(word(behind));
            continue;
        };
        let mut open = 0;
        let mut begins = true;
        for (at, character) in list.char_indices() {
            match character {
                '{' => open += 1,
                '}' if open == 0 => break,
                '}' => open -= 1,
                ',' if open == 0 => begins = true,
                _ if begins && !character.is_whitespace() => {
                    used.insert(word(&list[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    let to_root = "super::".repeat(depth);
    if depth > 0 {
        used.extend(code.split(to_root.as_str()).skip(1).map(word));
    }
    used.remove("");
    used.remove("super");
    used
}

/// How far below the crate's root the module of a file is.
fn depth(inside: &Path) -> usize {
    let is_folder = inside.file_name().is_some_and(|name| name == "mod.rs");
    let is_root = inside == Path::new("lib.rs") || inside == Path::new("main.rs");
    inside.components().count() - usize::from(is_folder || is_root)
}

#[test]
fn the_reader_of_paths_reads_all_forms() {
    let code =
        "use crate::store;\nuse crate::{os::{a, b}, logs};\ncrate::rpc::serve(crate::Kind::X)";
    let used: Vec<String> = modules_used(code, 1).into_iter().collect();
    assert_eq!(used, ["logs", "os", "rpc", "store"]);
    let up = "use super::super::store;\nuse super::sibling;";
    assert_eq!(modules_used(up, 2).into_iter().collect::<Vec<_>>(), ["store"]);
    let depths = ["lib.rs", "clock.rs", "os/mod.rs", "os/peer.rs"].map(|it| depth(Path::new(it)));
    assert_eq!(depths, [0, 1, 1, 2]);
}

#[test]
fn what_is_for_tests_alone_is_left_out_and_nothing_else() {
    let text = "a // b\n#[cfg(test)]\nmod tests;\nc\n#[cfg(test)]\nmod tests {\n    x;\n}\nd\n";
    let code = without_tests(text);
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "c", "d"]);
}

#[test]
fn the_daemons_rooms_lean_one_way() {
    let source = checkout().join("daemon/src");
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut broken = Vec::new();
    let pair = |user: &str, used: &str| (user.to_owned(), used.to_owned());
    let mut unused: BTreeSet<(String, String)> =
        ARROWS.iter().flat_map(|(room, uses)| uses.iter().map(|used| pair(room, used))).collect();
    let mut unneeded: BTreeSet<(String, String)> = EXCEPTIONS
        .iter()
        .flat_map(|exception| exception.files.iter().map(|file| pair(file, exception.uses)))
        .collect();
    for path in rust_files(&source) {
        let inside = path.strip_prefix(&source).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = room.trim_end_matches(".rs");
        let Some(allowed) = arrows.get(room) else {
            broken.push(format!("{} lies in a room without a rule", relative(&path)));
            continue;
        };
        // A test may set up whatever it needs; it is in no program.
        let in_tests =
            inside.components().any(|it| it.as_os_str() == "tests") || inside.ends_with("tests.rs");
        if in_tests {
            continue;
        }
        // The program is a crate of its own.
        let code = code(&path).replace("llamactld::", "crate::");
        for used in modules_used(&code, depth(inside)) {
            unused.remove(&pair(room, &used));
            let is_excepted = unneeded.remove(&pair(inside.to_str().unwrap(), &used));
            if used != room && !is_excepted && !allowed.contains(&used.as_str()) {
                broken.push(format!("{} uses crate::{used}", relative(&path)));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(unused.is_empty(), "nobody uses these arrows: {unused:#?}");
    assert!(unneeded.is_empty(), "nobody needs these exceptions: {unneeded:#?}");
}

#[test]
fn the_arrows_have_no_circle() {
    let mut arrows: BTreeMap<&str, Vec<&str>> =
        ARROWS.iter().map(|(room, uses)| (*room, uses.to_vec())).collect();
    for Exception { files, uses, .. } in EXCEPTIONS {
        for file in *files {
            let room = file.split('/').next().unwrap();
            arrows.get_mut(room).unwrap().push(uses);
        }
    }
    fn reaches(arrows: &BTreeMap<&str, Vec<&str>>, from: &str, to: &str) -> bool {
        arrows
            .get(from)
            .is_some_and(|uses| uses.iter().any(|&used| used == to || reaches(arrows, used, to)))
    }
    for room in arrows.keys() {
        assert!(!reaches(&arrows, room, room), "{room} leads back to itself");
    }
}

#[test]
fn what_is_pure_does_nothing() {
    for pure in PURE {
        let path = checkout().join(pure);
        let files = if path.is_dir() { rust_files(&path) } else { vec![path] };
        assert!(!files.is_empty(), "{pure} is empty");
        for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
            let code = FED.iter().fold(code(file), |code, fed| code.replace(fed, ""));
            let touched: Vec<_> = IMPURE.iter().filter(|impure| code.contains(**impure)).collect();
            assert!(touched.is_empty(), "{} touches {touched:?}", relative(file));
        }
    }
}

/// The names in all tables of dependencies of a manifest.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut in_table = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_table = line.trim_end_matches(']').ends_with("dependencies");
        } else if in_table && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn each_crate_names_only_what_it_may_know() {
    let root = fs::read_to_string(checkout().join("Cargo.toml")).unwrap();
    let members = root.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    let members: BTreeSet<&str> = members.split('"').skip(1).step_by(2).collect();
    let ruled: BTreeSet<&str> = CRATES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(members, ruled, "each crate has a rule");
    let mut ours = BTreeSet::new();
    for member in &members {
        let text = fs::read_to_string(checkout().join(member).join("Cargo.toml")).unwrap();
        let name = text.lines().find_map(|line| line.strip_prefix("name = ")).unwrap();
        ours.insert(name.trim_matches('"').to_owned());
    }
    for (member, may, never) in CRATES {
        let text = fs::read_to_string(checkout().join(member).join("Cargo.toml")).unwrap();
        assert!(!text.contains("package ="), "{member} hides a dependency behind another name");
        let named = dependencies(&text);
        assert!(!named.is_empty(), "{member} names nothing: its manifest was not understood");
        for dependency in named {
            let is_allowed = !ours.contains(&dependency) || may.contains(&dependency.as_str());
            let is_allowed = is_allowed && !never.contains(&dependency.as_str());
            assert!(is_allowed, "{member} names {dependency}");
        }
    }
}

/// The tests that link the daemon: the kit knows llamactl from outside.
const LINKING: &[&str] = &[
    // They measure history and the wire by themselves, beside their floors.
    "tests/src/bin/figures/history.rs",
    "tests/src/bin/figures/stream.rs",
    // It gives mutated files to the readers themselves.
    "tests/src/bin/fuzz.rs",
    // It plays histories with the daemon's own driver and ledger.
    "tests/src/bin/simulator/",
    // The old dashboard's table: a page is made of it, and a database of it is written.
    "tests/src/dashboard.rs",
    "tests/tests/e2e/docs.rs",
    // The reader of a build's help is held against a real build.
    "tests/tests/e2e/runtime.rs",
    // This one looks for the name.
    "tests/tests/e2e/structure.rs",
];

#[test]
fn the_kit_does_not_link_the_daemon() {
    let linking: Vec<String> = rust_files(&checkout().join("tests"))
        .iter()
        .filter(|path| code(path).contains("llamactld::"))
        .map(|path| relative(path))
        .filter(|file| !LINKING.iter().any(|may| file.starts_with(may)))
        .collect();
    assert!(linking.is_empty(), "{linking:?}");
}

#[test]
fn only_the_store_knows_the_database() {
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
    for (member, ..) in CRATES {
        for path in rust_files(&checkout().join(member).join("src")) {
            // It says that a function runs before `main`, and lets nothing in it be unsafe.
            let code = code(&path).replace("#[ctor::ctor(unsafe)]", "");
            let mut words = code.split(|it: char| !it.is_alphanumeric() && it != '_');
            if words.any(|word| word == "unsafe") {
                unsafe_files.insert(relative(&path));
            }
        }
    }
    assert!(unsafe_files.iter().all(|file| file.starts_with("daemon/src/os/")), "{unsafe_files:?}");
}

#[test]
fn every_crate_says_what_it_is() {
    for (member, ..) in CRATES {
        let source = checkout().join(member).join("src");
        let roots = ["lib.rs", "main.rs"].map(|root| source.join(root));
        let root = roots.iter().find(|root| root.is_file()).unwrap();
        assert!(opening(root) > 2, "{} opens without a paragraph", relative(root));
    }
}

#[test]
fn every_room_opens_with_what_it_is() {
    for (room, _) in ARROWS {
        let folder = checkout().join("daemon/src").join(room);
        if folder.is_dir() {
            let opening = opening(&folder.join("mod.rs"));
            assert!(opening > 2, "{room}/mod.rs says what the room is in {opening} lines");
        }
    }
}

/// How many lines the documentation at the beginning of a file has.
fn opening(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap();
    text.lines().take_while(|line| line.starts_with("//!")).count()
}
