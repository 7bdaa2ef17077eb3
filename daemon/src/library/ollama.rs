//! The store of Ollama.
//!
//! ```text
//!   manifests/HOST/NAMESPACE/NAME/TAG      JSON: layers, each a type and a digest
//!   blobs/sha256-HEX                       the layers
//! ```
//!
//! A manifest was written by another program, perhaps from a registry nobody vouches for: it is
//! read up to a bound, and of a digest nothing is believed but 64 hexadecimal digits.

use super::group;
use super::naming::Naming;
use super::sink::{Candidate, Group, Sink, Stopped};
use super::walk;
use crate::os::file;
use llamactl_protocol::library::ScanSource;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A real manifest has some ten layers of some two hundred bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Directories between `manifests` and a manifest.
const LEVELS: usize = 3;

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
}

/// Whether a directory is a store of Ollama.
pub(super) fn is_store(directory: &Path) -> bool {
    directory.join("manifests").is_dir() && directory.join("blobs").is_dir()
}

/// Looks through the store.
pub(super) fn cache(root: &Path, sink: &mut Sink) -> Result<(), Stopped> {
    let manifests = root.join("manifests");
    if !manifests.is_dir() {
        // Installed and never used.
        return Ok(());
    }
    match fs::metadata(root) {
        Ok(found) if sink.is_new(&found) => {}
        // It was named and is known too.
        _ => return Ok(()),
    }
    let mut tags: BTreeMap<PathBuf, Vec<Tag>> = BTreeMap::new();
    let mut level = vec![(manifests, Vec::<String>::new())];
    for depth in 0..=LEVELS {
        let mut next = Vec::new();
        for (directory, names) in level {
            sink.enter(&directory)?;
            for (path, name, is_dir) in entries(&directory, sink)? {
                let mut names = names.clone();
                names.push(name);
                if depth == LEVELS && !is_dir {
                    if let Some(tag) = manifest(root, &path, &names, sink)? {
                        tags.entry(tag.candidate.path.clone()).or_default().push(tag);
                    }
                } else if depth < LEVELS && is_dir && walk::leads_out(&path, root) {
                    walk::skip_link(&path, sink)?;
                } else if depth < LEVELS && is_dir {
                    next.push((path, names));
                }
            }
        }
        level = next;
    }
    // One blob is one model, however many tags name it.
    for candidate in tags.into_values().filter_map(one_of) {
        sink.group(Group { files: vec![candidate], ..Group::default() })?;
    }
    Ok(())
}

/// A name for a blob.
struct Tag {
    /// What makes it the better name: of Ollama's own library, the older one, one that says more
    /// than `latest`.
    rank: (bool, SystemTime, bool),
    name: String,
    candidate: Candidate,
}

/// The candidate of a blob's best tag; the others are its aliases.
fn one_of(mut tags: Vec<Tag>) -> Option<Candidate> {
    tags.sort_by(|a, b| (a.rank, &a.name).cmp(&(b.rank, &b.name)));
    let mut tags = tags.into_iter();
    let mut candidate = tags.next()?.candidate;
    for tag in tags {
        candidate.aliases.push(tag.name);
        candidate.projector = candidate.projector.or(tag.candidate.projector);
    }
    Some(candidate)
}

/// The entries of a directory by name, without hidden ones and those whose names are not text.
fn entries(directory: &Path, sink: &mut Sink) -> Result<Vec<(PathBuf, String, bool)>, Stopped> {
    let read = match fs::read_dir(directory) {
        Ok(read) => read,
        Err(error) => {
            sink.failed(directory, &error)?;
            return Ok(vec![]);
        }
    };
    let mut found = Vec::new();
    for entry in read.flatten() {
        sink.entry(directory)?;
        let path = entry.path();
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            let is_dir = fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir());
            found.push((path, name, is_dir));
        }
    }
    found.sort();
    Ok(found)
}

/// The model of a manifest.
fn manifest(
    root: &Path,
    path: &Path,
    names: &[String],
    sink: &mut Sink,
) -> Result<Option<Tag>, Stopped> {
    let manifest: Manifest = match file::read(path, MAX_MANIFEST_BYTES) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(manifest) => manifest,
            Err(_) => {
                sink.skip(path, "ollama_manifest", "not a manifest of Ollama")?;
                return Ok(None);
            }
        },
        Err(error) => {
            sink.failed(path, &error.into())?;
            return Ok(None);
        }
    };
    let layer = |kind: &str| {
        let media_type = format!("application/vnd.ollama.image.{kind}");
        manifest.layers.iter().find(|layer| layer.media_type == media_type)
    };
    let Some(model) = layer("model") else {
        let reason = "names no GGUF file: it runs elsewhere, or otherwise";
        sink.skip(path, "ollama_manifest", reason)?;
        return Ok(None);
    };
    let of_model = |layer: &&Layer| layer.media_type == model.media_type;
    if manifest.layers.iter().filter(of_model).count() > 1 {
        sink.skip(
            path,
            "ollama_manifest",
            "its model is in several files, which only Ollama joins",
        )?;
        return Ok(None);
    }
    let Some(blob) = blob(root, &model.digest) else {
        sink.skip(path, "ollama_manifest", "the digest of its model is none")?;
        return Ok(None);
    };
    let stamp = match group::stamp(&blob) {
        Ok(stamp) => stamp,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let reason = format!(
                "its file {} is not there: it is still downloaded, or was removed",
                blob.display()
            );
            sink.skip(path, "file_not_found", reason)?;
            return Ok(None);
        }
        Err(error) => {
            sink.failed(&blob, &error)?;
            return Ok(None);
        }
    };
    let projector = layer("projector").and_then(|layer| self::blob(root, &layer.digest));
    let adapter = layer("adapter").and_then(|layer| self::blob(root, &layer.digest));
    let note = adapter.map(|adapter| {
        format!("in Ollama it has an adapter, which is left out: {}", adapter.display())
    });
    let candidate = Candidate {
        path: blob,
        stamps: vec![stamp],
        source: ScanSource::Ollama,
        naming: Naming::Whole(name(names)),
        projector: projector.and_then(|path| Some((path.clone(), group::stamp(&path).ok()?))),
        aliases: vec![],
        is_link: false,
        notes: note.into_iter().collect(),
    };
    let at = fs::metadata(path).and_then(|found| found.modified());
    let is_custom = !matches!(names, [host, namespace, ..]
        if host == "registry.ollama.ai" && namespace == "library");
    let is_latest = names.last().is_some_and(|tag| tag == "latest");
    let rank = (is_custom, at.unwrap_or(SystemTime::UNIX_EPOCH), is_latest);
    Ok(Some(Tag { rank, name: name(names), candidate }))
}

/// Whether a file's name is that of a blob.
pub(super) fn is_blob(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        (name.starts_with("sha256-") || name.starts_with("sha256:")) && name.len() == 71
    })
}

/// What people call it: without the registry everything comes from, and without its `library`.
fn name(names: &[String]) -> String {
    let [host, namespace, name, tag] = names else { return names.join("/") };
    match (host.as_str(), namespace.as_str()) {
        ("registry.ollama.ai", "library") => format!("{name}:{tag}"),
        ("registry.ollama.ai", _) => format!("{namespace}/{name}:{tag}"),
        _ => format!("{host}/{namespace}/{name}:{tag}"),
    }
}

/// The file of a digest; `None` for what is no digest.
fn blob(root: &Path, digest: &str) -> Option<PathBuf> {
    let hex = digest.strip_prefix("sha256:")?;
    let is_hex = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hex = is_hex.then(|| hex.to_ascii_lowercase())?;
    // Until 2024 a colon stood in the names.
    let older = root.join("blobs").join(format!("sha256:{hex}"));
    let named = root.join("blobs").join(format!("sha256-{hex}"));
    Some(if !named.exists() && older.exists() { older } else { named })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_ollama_says_them() {
        let named = |path: &str| name(&path.split('/').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(named("registry.ollama.ai/library/qwen3/8b"), "qwen3:8b");
        assert_eq!(named("registry.ollama.ai/acme/tiny/latest"), "acme/tiny:latest");
        assert_eq!(named("hf.co/unsloth/Qwen3-GGUF/Q4_K_M"), "hf.co/unsloth/Qwen3-GGUF:Q4_K_M");
    }

    #[test]
    fn a_digest_leads_into_the_blobs_and_nowhere_else() {
        let hex = "A".repeat(64);
        assert_eq!(
            blob(Path::new("/o"), &format!("sha256:{hex}")),
            Some(PathBuf::from(format!("/o/blobs/sha256-{}", "a".repeat(64))))
        );
        for digest in ["sha256:../../etc/passwd", "sha256:", "md5:00", &format!("sha256:/{hex}")] {
            assert_eq!(blob(Path::new("/o"), digest), None, "{digest}");
        }
    }
}
