//! llama.cpp's own downloads: `ORG_REPO_file.gguf`, and `manifest=ORG=REPO=TAG.json` beside them.
//!
//! The name of a file alone does not say where the organisation ends, so it is told by the
//! manifests. Newer builds keep their downloads as the Hugging Face hub does, which the walk knows.

use super::group::{self, Site};
use super::naming::Naming;
use super::pair;
use super::sink::{Sink, Stopped};
use super::walk;
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
            of_repo.map_or(Naming::Stem, |(org, repo)| Naming::Repo(format!("{org}/{repo}")))
        };
        let site = Site {
            source: ScanSource::LlamaCpp,
            naming: &naming,
            pairing: pair::projector_of_prefix,
        };
        group::report(listing, &site, sink)
    })
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
