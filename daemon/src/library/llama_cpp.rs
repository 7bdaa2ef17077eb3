//! llama.cpp's own downloads: `ORG_REPO_file.gguf`, and `manifest=ORG=REPO=TAG.json` beside them.
//!
//! The name of a file alone does not say where the organisation ends, so it is told by the
//! manifests, and of a file without one by the address in the `.json` beside it. Newer builds keep their downloads as the Hugging Face hub does, which the walk knows.

use super::group::{self, Site};
use super::naming::Naming;
use super::pair;
use super::sink::{Sink, Stopped};
use super::walk;
use crate::os::file;
use llamactl_protocol::library::ScanSource;
use std::fs;
use std::path::Path;

/// Looks through its cache.
pub(super) fn cache(root: &Path, sink: &mut Sink) -> Result<(), Stopped> {
    let mut repos: Vec<(String, String)> = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        sink.entry(root)?;
        repos.extend(entry.file_name().to_str().and_then(repo_of_manifest));
    }
    walk::walk(root, Some(root), sink, &mut |listing, sink| {
        let naming = |file: &str| {
            let of_repo = repos
                .iter()
                .filter(|(org, repo)| file.starts_with(&format!("{org}_{repo}_")))
                .max_by_key(|(org, repo)| org.len() + repo.len());
            match of_repo {
                Some((org, repo)) => Naming::Repo(format!("{org}/{repo}")),
                None => fetched_from(&listing.directory.join(format!("{file}.json")))
                    .map_or(Naming::Stem, Naming::Repo),
            }
        };
        let site = Site {
            source: ScanSource::LlamaCpp,
            naming: &naming,
            pairing: pair::projector_of_prefix,
        };
        group::report(listing, &site, sink)
    })
}

/// The most that is read of a note about a download.
const MAX_NOTE_BYTES: u64 = 1 << 16;

/// The repository in the address that a download was from.
fn fetched_from(note: &Path) -> Option<String> {
    let note = file::read(note, MAX_NOTE_BYTES).ok()?;
    let note: serde_json::Value = serde_json::from_slice(&note).ok()?;
    let address = note.get("url")?.as_str()?;
    let (_, path) = address.split_once("://")?;
    let mut words = path.split('/').skip(1);
    let (org, repo, resolve) = (words.next()?, words.next()?, words.next()?);
    (resolve == "resolve").then(|| format!("{org}/{repo}"))
}

/// Organisation and repository, from the name of a manifest.
fn repo_of_manifest(name: &str) -> Option<(String, String)> {
    let mut words = name.strip_prefix("manifest=")?.strip_suffix(".json")?.split('=');
    let (org, repo, tag) = (words.next()?, words.next()?, words.next()?);
    let whole = words.next().is_none() && ![org, repo, tag].contains(&"");
    whole.then(|| (org.to_owned(), repo.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_download_names_its_repository() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("x.json");
        let said = |text: &str| {
            fs::write(&note, text).unwrap();
            fetched_from(&note)
        };
        let address =
            r#"{"etag":"e","url":"https://huggingface.co/acme/X-GGUF/resolve/main/X.gguf"}"#;
        assert_eq!(said(address), Some("acme/X-GGUF".to_owned()));
        for text in ["{", "{}", r#"{"url":"https://x.org/X.gguf"}"#, r#"{"url":5}"#] {
            assert_eq!(said(text), None, "{text}");
        }
    }

    #[test]
    fn a_manifest_names_the_repository() {
        assert_eq!(
            repo_of_manifest("manifest=ggml-org=gemma-3-1b-it-GGUF=latest.json"),
            Some(("ggml-org".into(), "gemma-3-1b-it-GGUF".into()))
        );
        for name in
            ["manifest=a=b.json", "manifest=a==c.json", "a=b=c.json", "manifest=a=b=c=d.json"]
        {
            assert_eq!(repo_of_manifest(name), None, "{name}");
        }
    }
}
