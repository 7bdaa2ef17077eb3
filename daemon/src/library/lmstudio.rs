//! LM Studio's models: `PUBLISHER/REPO/file.gguf`.

use super::group::{self, Site};
use super::naming::Naming;
use super::pair;
use super::sink::{Sink, Stopped};
use super::walk;
use crate::os::file;
use llamactl_protocol::library::ScanSource;
use std::path::{Path, PathBuf};

/// Looks through its models: those of a cache, and those of the directory that its settings name.
pub(super) fn cache(root: &Path, sink: &mut Sink) -> Result<(), Stopped> {
    if root.is_dir() {
        models(root, sink)?;
    }
    match elsewhere(root) {
        Some(folder) if folder != root => models(&folder, sink),
        _ => Ok(()),
    }
}

/// Where its downloads go instead of the cache.
pub(super) fn elsewhere(root: &Path) -> Option<PathBuf> {
    moved_to(&root.parent()?.join("settings.json"))
}

/// The most that is read of its settings.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// The directory that downloads go to, where a person chose one.
fn moved_to(settings: &Path) -> Option<PathBuf> {
    let settings = file::read(settings, MAX_SETTINGS_BYTES).ok()?;
    let settings: serde_json::Value = serde_json::from_slice(&settings).ok()?;
    let folder = PathBuf::from(settings.get("downloadsFolder")?.as_str()?);
    (folder.is_absolute() && folder.is_dir()).then_some(folder)
}

fn models(root: &Path, sink: &mut Sink) -> Result<(), Stopped> {
    walk::walk(root, Some(root), sink, &mut |listing, sink| {
        let naming = |_: &str| naming(root, &listing.directory);
        let site =
            Site { source: ScanSource::Lmstudio, naming: &naming, pairing: pair::projector_for };
        group::report(listing, &site, sink)
    })
}

fn naming(root: &Path, directory: &Path) -> Naming {
    let inside = directory.strip_prefix(root).unwrap_or(Path::new(""));
    let mut names = inside.iter().map(|name| name.to_str());
    match (names.next().flatten(), names.next().flatten()) {
        (Some(publisher), Some(repo)) => Naming::Repo(format!("{publisher}/{repo}")),
        _ => Naming::Stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_that_a_person_chose_is_one_of_its() {
        let dir = tempfile::tempdir().unwrap();
        let settings = dir.path().join("settings.json");
        let said = |folder: &Path| {
            let text = serde_json::json!({ "downloadsFolder": folder });
            std::fs::write(&settings, text.to_string()).unwrap();
            moved_to(&settings)
        };
        assert_eq!(said(dir.path()).as_deref(), Some(dir.path()));
        assert_eq!(said(&dir.path().join("gone")), None);
        assert_eq!(said(Path::new(".")), None);
    }

    #[test]
    fn publisher_and_repository_are_the_first_two_directories() {
        let named = |directory: &str| naming(Path::new("/l"), Path::new(directory));
        assert_eq!(named("/l/acme/Tiny-GGUF"), Naming::Repo("acme/Tiny-GGUF".into()));
        assert_eq!(named("/l/acme/Tiny-GGUF/more"), Naming::Repo("acme/Tiny-GGUF".into()));
        assert_eq!(named("/l/acme"), Naming::Stem);
        assert_eq!(named("/l"), Naming::Stem);
    }
}
