//! The cache of the Hugging Face hub.
//!
//! ```text
//!   models--ORG--REPO/refs/main            the revision last asked for
//!                     snapshots/REVISION/[dir/]file.gguf ─▶ ../../blobs/HASH
//!                     blobs/HASH.incomplete
//! ```
//!
//! A file is registered by its path in the snapshot, which people can read. A file that an older
//! snapshot alone has was downloaded too and is found there.

use super::group::{self, Site};
use super::naming::Naming;
use super::pair;
use super::sink::{Group, Sink, Stopped};
use super::walk;
use crate::os::file;
use llamactl_protocol::library::ScanSource;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A revision is a commit's hash or a branch.
const MAX_REVISION_BYTES: u64 = 256;
/// The most snapshots of one repository that are looked through.
const MAX_SNAPSHOTS: usize = 64;

/// Whether a directory is a repository in the hub's cache.
pub(super) fn is_repository(directory: &Path) -> bool {
    repo_name(directory).is_some() && directory.join("snapshots").is_dir()
}

/// `ORG/REPO`, from the name of its directory.
fn repo_name(directory: &Path) -> Option<String> {
    let name = directory.file_name()?.to_str()?.strip_prefix("models--")?;
    (!name.is_empty()).then(|| name.replacen("--", "/", 1))
}

/// Looks through a cache.
pub(super) fn cache(root: &Path, sink: &mut Sink) -> Result<(), Stopped> {
    // Repositories are recognised by the walk itself.
    walk::walk(root, Some(root), sink, &mut |listing, sink| {
        let naming = |_: &str| Naming::Stem;
        let site =
            Site { source: ScanSource::Huggingface, naming: &naming, pairing: pair::projector_for };
        group::report(listing, &site, sink)
    })
}

/// Looks through one repository.
pub(super) fn repository(directory: &Path, sink: &mut Sink) -> Result<(), Stopped> {
    let Some(repo) = repo_name(directory) else { return Ok(()) };
    match fs::metadata(directory) {
        Ok(found) if sink.is_new(&found) => {}
        Ok(_) => return Ok(()),
        Err(error) => return sink.failed(directory, &error),
    }
    let naming = |_: &str| Naming::Repo(repo.clone());
    let mut seen: HashSet<PathBuf> = HashSet::new();
    for snapshot in snapshots(directory, sink)? {
        let mut group = Group {
            top: Some(snapshot.clone()),
            pairing: Some(pair::projector_for),
            ..Group::default()
        };
        walk::walk(&snapshot, Some(directory), sink, &mut |listing, sink| {
            let inside = listing.directory.strip_prefix(&snapshot).unwrap_or(Path::new(""));
            let site = Site {
                source: ScanSource::Huggingface,
                naming: &naming,
                pairing: pair::projector_for,
            };
            for candidate in group::candidates(listing, &site, sink)? {
                let name = candidate.path.file_name().unwrap_or_default();
                if seen.insert(inside.join(name)) {
                    group.files.push(candidate);
                } else if let Some(stamp) = candidate.stamps.first() {
                    // A newer snapshot has the file already.
                    group.beside.push((candidate.path.clone(), *stamp));
                }
            }
            group::unfinished(listing, sink)
        })?;
        sink.group(group)?;
    }
    // The cache holds models of every kind; only those of ours are worth a word.
    if seen.is_empty() && !repo.to_ascii_lowercase().contains("gguf") {
        return Ok(());
    }
    unfinished(&directory.join("blobs"), sink)
}

/// The snapshots: the one last asked for first, then the others, the newest first.
fn snapshots(repository: &Path, sink: &mut Sink) -> Result<Vec<PathBuf>, Stopped> {
    let directory = repository.join("snapshots");
    let main = file::read(&repository.join("refs/main"), MAX_REVISION_BYTES).ok();
    let main = main.and_then(|text| String::from_utf8(text).ok());
    let main = main.as_deref().map(str::trim);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) => {
            sink.failed(&directory, &error)?;
            return Ok(vec![]);
        }
    };
    let mut found: Vec<(bool, SystemTime, PathBuf)> = Vec::new();
    for entry in entries.flatten() {
        sink.entry(&directory)?;
        let path = entry.path();
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() && walk::leads_out(&path, repository) {
            walk::skip_link(&path, sink)?;
        } else if metadata.is_dir() {
            let is_main = main.is_some() && entry.file_name().to_str() == main;
            let at = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((is_main, at, path));
        }
    }
    found.sort();
    Ok(found.into_iter().rev().take(MAX_SNAPSHOTS).map(|(_, _, path)| path).collect())
}

/// Tells of downloads that are not finished. What they will be is not known, only whose.
fn unfinished(blobs: &Path, sink: &mut Sink) -> Result<(), Stopped> {
    for entry in fs::read_dir(blobs).into_iter().flatten().flatten() {
        sink.entry(blobs)?;
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "incomplete") {
            sink.skip(&path, "unfinished", "the download is not finished")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_named_by_its_directory() {
        let name = |path: &str| repo_name(Path::new(path));
        assert_eq!(
            name("/h/models--unsloth--Qwen3-8B-GGUF").as_deref(),
            Some("unsloth/Qwen3-8B-GGUF")
        );
        assert_eq!(name("/h/models--a--b--c").as_deref(), Some("a/b--c"));
        assert_eq!(name("/h/models--gpt2").as_deref(), Some("gpt2"));
        assert_eq!(name("/h/datasets--a--b"), None);
        assert_eq!(name("/h/models--"), None);
    }
}
