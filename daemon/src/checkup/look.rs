//! Facts from files and from the kernel. Blocks.

use super::facts::{CopyFacts, Disk, RegistryIs, StateFacts, Stranger};
use crate::os::process::ProcessId;
use crate::os::{disk, process};
use crate::store::registry::{newest_copy, registry_changed_at_ms};
use rustix::process::{Resource, geteuid, getrlimit};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// So many llama-servers of others are told of.
const MAX_STRANGERS: usize = 5;
/// And so many are remembered of those that no daemon started.
const MAX_UNTENDED: usize = 16;

/// A state directory; how its registry is was found out by who asks.
#[must_use]
pub fn state(dir: &Path, registry: RegistryIs) -> StateFacts {
    let mut facts = StateFacts { dir: dir.to_owned(), registry, ..StateFacts::default() };
    let us = geteuid().as_raw();
    let files = ["registry.db", "registry.db-wal", "metrics.db", "metrics.db-wal"];
    let dirs = ["", "secrets", "logs", "log", "copies"];
    for name in dirs.into_iter().chain(files) {
        let path = if name.is_empty() { dir.to_owned() } else { dir.join(name) };
        // What is not there is not exposed, and what a link leads to is its owner's affair.
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_symlink() {
            continue;
        }
        if found.uid() != us {
            facts.foreign.push(path);
        } else if found.mode() & 0o077 != 0 {
            facts.exposed.push(path);
        }
    }
    facts.disk = disk::room(dir).ok().map(|(free_bytes, inodes, inodes_free)| Disk {
        free_bytes,
        inodes,
        inodes_free,
    });
    facts.registry_changed_at_ms = registry_changed_at_ms(dir);
    facts.copy = newest_copy(dir).map(|(made_at_ms, path, problem)| CopyFacts {
        path,
        made_at_ms,
        problem: problem.map(|problem| problem.to_string()),
    });
    facts
}

/// How many NVIDIA cards are on the bus, below this `/sys`.
#[must_use]
pub fn nvidia_cards(sys: &Path) -> usize {
    let entries = fs::read_dir(sys.join("bus/pci/devices")).into_iter().flatten().flatten();
    let says = |dir: &Path, file: &str, beginning: &str| {
        fs::read_to_string(dir.join(file)).is_ok_and(|text| text.starts_with(beginning))
    };
    // Class 3 is what displays or computes.
    entries
        .filter(|entry| {
            says(&entry.path(), "vendor", "0x10de") && says(&entry.path(), "class", "0x03")
        })
        .count()
}

/// How many files this process may open, and how much memory its servers may hold; `None` without a limit.
#[must_use]
pub fn limits() -> (Option<u64>, Option<u64>) {
    let locked = getrlimit(Resource::Memlock).current.filter(|_| !geteuid().is_root());
    (getrlimit(Resource::Nofile).current, locked)
}

/// llama-servers that are none of these processes; `mark` is the variable of ours and how its value begins.
#[must_use]
pub fn strangers(known: &BTreeSet<i32>, (variable, beginning): (&str, &str)) -> Vec<Stranger> {
    let strange = process::all().filter(|id| !known.contains(&id.pid)).filter_map(|id| {
        let program: PathBuf = process::executable(id.pid)?;
        let is_ours = process::environ_value(id.pid, variable)
            .is_some_and(|value| value.starts_with(beginning));
        let is_one = is_ours || is_llama_server(id.pid, &program);
        is_one.then_some(Stranger { pid: id.pid, program, is_ours })
    });
    strange.take(MAX_STRANGERS).collect()
}

/// llama-servers that no daemon started: they bear no mark, whosever, and are no child of this process,
/// which asks builds what they take.
pub(super) fn untended(variable: &str) -> Vec<(ProcessId, PathBuf)> {
    let us = std::process::id().cast_signed();
    let is_child = |pid| process::stat(pid).is_some_and(|stat| stat.parent == us);
    let found = process::all().filter_map(|id| {
        let program = process::executable(id.pid)?;
        let is_untended = is_llama_server(id.pid, &program)
            && process::environ_value(id.pid, variable).is_none()
            && !is_child(id.pid);
        is_untended.then_some((id, program))
    });
    found.take(MAX_UNTENDED).collect()
}

/// Whether this is a llama-server, under its own name or as `llama serve`.
fn is_llama_server(pid: i32, program: &Path) -> bool {
    match program.file_name().and_then(|name| name.to_str()) {
        Some("llama-server") => true,
        Some("llama") => process::argument(pid, 1).is_some_and(|word| word == "serve"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_others_may_read_is_seen_and_links_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(dir.path(), 0o700);
        fs::create_dir(dir.path().join("logs")).unwrap();
        mode(&dir.path().join("logs"), 0o755);
        std::os::unix::fs::symlink("/", dir.path().join("log")).unwrap();
        let facts = state(dir.path(), RegistryIs::Whole);
        assert_eq!((facts.exposed, facts.foreign), (vec![dir.path().join("logs")], vec![]));
        assert!(facts.disk.unwrap().free_bytes > 0);
        assert!(facts.copy.is_none() && facts.registry_changed_at_ms.is_none());
    }

    #[test]
    fn cards_are_counted_by_vendor_and_class() {
        let sys = tempfile::tempdir().unwrap();
        for (name, vendor, class) in [
            ("0000:01:00.0", "0x10de", "0x030200"),
            ("0000:01:00.1", "0x10de", "0x040300"),
            ("0000:02:00.0", "0x1002", "0x030000"),
        ] {
            let dir = sys.path().join("bus/pci/devices").join(name);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("vendor"), format!("{vendor}\n")).unwrap();
            fs::write(dir.join("class"), format!("{class}\n")).unwrap();
        }
        assert_eq!(nvidia_cards(sys.path()), 1);
        assert_eq!(nvidia_cards(Path::new("/nonexistent")), 0);
    }
}
