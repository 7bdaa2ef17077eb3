//! Directories below a directory, and the model files in each.
//!
//! Links are followed, but no directory is entered twice, and within a cache no link to a directory
//! leads out of it: what lies in a cache was written by others. Hidden entries are passed over, except
//! where the walk begins, and so are the kernel's own file systems. One directory that cannot be read
//! keeps no other from being read.

use super::sink::{Sink, Stopped};
use super::{huggingface, ollama};
use crate::gguf::split::whole_of_piece;
use crate::os::file::is_kernels_own;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How deep directories may lie in each other.
const MAX_DEPTH: usize = 16;

/// What downloads are called that are not finished.
const UNFINISHED: &[&str] = &[
    ".incomplete",
    ".part",
    ".partial",
    ".tmp",
    ".crdownload",
    ".download",
    ".downloadinprogress",
    ".aria2",
];

/// A directory and the names in it that matter, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// The directory that was read.
    pub(super) directory: PathBuf,
    /// Names that end in `.gguf`.
    pub(super) files: Vec<OsString>,
    /// Names of downloads that are not finished, and of pieces that are not joined.
    pub(super) unfinished: Vec<OsString>,
}

/// Looks through `root` and what is below, and hands each directory that holds model files to
/// `each`. `within` is the cache or repository that no link leads out of.
pub(super) fn walk(
    root: &Path,
    within: Option<&Path>,
    sink: &mut Sink,
    each: &mut dyn FnMut(&Listing, &mut Sink) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let mut waiting = vec![(root.to_owned(), 0_usize, None)];
    while let Some((directory, depth, above)) = waiting.pop() {
        sink.enter(&directory)?;
        if huggingface::is_repository(&directory) {
            huggingface::repository(&directory, sink)?;
            continue;
        }
        if ollama::is_store(&directory) {
            ollama::cache(&directory, sink)?;
            continue;
        }
        let Some((listing, below, device)) = read(&directory, within, above, sink)? else {
            continue;
        };
        if !listing.files.is_empty() || !listing.unfinished.is_empty() {
            each(&listing, sink)?;
        }
        if depth == MAX_DEPTH && !below.is_empty() {
            sink.skip(&directory, "too_deep", "directories lie too deep in each other here")?;
            continue;
        }
        // The last one in is the next one out.
        waiting.extend(below.into_iter().rev().map(|below| (below, depth + 1, Some(device))));
    }
    Ok(())
}

/// Whether a link in a cache leads to a directory outside of it.
pub(super) fn leads_out(link: &Path, cache: &Path) -> bool {
    match (link.canonicalize(), cache.canonicalize()) {
        (Ok(target), Ok(cache)) => !target.starts_with(cache),
        _ => false,
    }
}

/// Tells of such a link.
pub(super) fn skip_link(link: &Path, sink: &mut Sink) -> Result<(), Stopped> {
    let target = link.canonicalize().unwrap_or_default();
    let reason = format!(
        "a link that leads out of the cache; to look there: llamactl model scan {}",
        target.display()
    );
    sink.skip(link, "leads_out", reason)
}

/// The names in a directory, the directories below it and its device; `None` when there is nothing
/// to see or it was seen before. `above` is the device of the directory above.
fn read(
    directory: &Path,
    within: Option<&Path>,
    above: Option<u64>,
    sink: &mut Sink,
) -> Result<Option<(Listing, Vec<PathBuf>, u64)>, Stopped> {
    let (device, entries) =
        match fs::metadata(directory).and_then(|found| Ok((found, fs::read_dir(directory)?))) {
            Ok((found, _)) if above != Some(found.dev()) && is_kernels_own(directory) => {
                let reason = "a file system of the kernel's own, where no models lie";
                sink.skip(directory, "kernels_own", reason)?;
                return Ok(None);
            }
            Ok((found, entries)) if sink.is_new(&found) => (found.dev(), entries),
            Ok(_) => return Ok(None),
            Err(error) => {
                sink.failed(directory, &error)?;
                return Ok(None);
            }
        };
    let mut listing = Listing { directory: directory.to_owned(), ..Listing::default() };
    let mut below = Vec::new();
    for entry in entries {
        sink.entry(directory)?;
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                // What was read so far is good; what follows would fail the same way.
                sink.failed(directory, &error)?;
                break;
            }
        };
        let name = entry.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        if is_directory(&entry) {
            let path = entry.path();
            let is_link = entry.file_type().is_ok_and(|file_type| file_type.is_symlink());
            // Repositories of a hub lie on other disks where people had no room.
            if is_link
                && within.is_some_and(|cache| leads_out(&path, cache))
                && !huggingface::is_repository(&path)
            {
                skip_link(&path, sink)?;
            } else {
                below.push(path);
            }
        } else if is_gguf(&name) {
            listing.files.push(name);
        } else if is_unfinished(&name) {
            listing.unfinished.push(name);
        }
    }
    listing.files.sort();
    listing.unfinished.sort();
    below.sort();
    Ok(Some((listing, below, device)))
}

/// Whether an entry is a directory, or a link to one.
fn is_directory(entry: &DirEntry) -> bool {
    match entry.file_type() {
        Ok(file_type) if file_type.is_symlink() => {
            fs::metadata(entry.path()).is_ok_and(|found| found.is_dir())
        }
        Ok(file_type) => file_type.is_dir(),
        Err(_) => false,
    }
}

fn is_gguf(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Whether a name is that of a model file still being downloaded, or of a piece of one.
fn is_unfinished(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    name.contains(".gguf")
        && (UNFINISHED.iter().any(|suffix| name.ends_with(suffix))
            || whole_of_piece(Path::new(&name)).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_and_of_downloads() {
        for name in ["a.gguf", "A.GGUF", "a.b.gguf"] {
            assert!(is_gguf(OsStr::new(name)), "{name}");
        }
        for name in ["a.gguf.part", "a.gguf.downloadInProgress", "x.gguf.0a1b.incomplete"] {
            assert!(!is_gguf(OsStr::new(name)) && is_unfinished(OsStr::new(name)), "{name}");
        }
        for name in ["gguf", "a.bin", "a.part", "notes-on.gguf.txt"] {
            assert!(!is_gguf(OsStr::new(name)) && !is_unfinished(OsStr::new(name)), "{name}");
        }
    }
}
