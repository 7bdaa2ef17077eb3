//! Directories below a directory, and the model files in each.
//!
//! Links are followed, but no directory is entered twice. Hidden entries are passed over, except
//! where the walk begins. One directory that cannot be read keeps no other from being read.

use super::huggingface;
use super::sink::{Sink, Stopped};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry};
use std::os::unix::ffi::OsStrExt as _;
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
    /// Names of downloads that are not finished.
    pub(super) unfinished: Vec<OsString>,
}

/// Looks through `root` and what is below, and hands each directory that holds model files to
/// `each`.
pub(super) fn walk(
    root: &Path,
    sink: &mut Sink,
    each: &mut dyn FnMut(&Listing, &mut Sink) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let mut waiting = vec![(root.to_owned(), 0_usize)];
    while let Some((directory, depth)) = waiting.pop() {
        sink.enter(&directory)?;
        if huggingface::is_repository(&directory) {
            huggingface::repository(&directory, sink)?;
            continue;
        }
        let Some((listing, below)) = read(&directory, sink)? else { continue };
        if !listing.files.is_empty() || !listing.unfinished.is_empty() {
            each(&listing, sink)?;
        }
        if depth == MAX_DEPTH && !below.is_empty() {
            sink.skip(&directory, "too_deep", "directories lie too deep in each other here")?;
            continue;
        }
        // The last one in is the next one out.
        waiting.extend(below.into_iter().rev().map(|below| (below, depth + 1)));
    }
    Ok(())
}

/// The names in a directory and the directories below it; `None` when there is nothing to see or
/// it was seen before.
fn read(directory: &Path, sink: &mut Sink) -> Result<Option<(Listing, Vec<PathBuf>)>, Stopped> {
    let entries =
        match fs::metadata(directory).and_then(|found| Ok((found, fs::read_dir(directory)?))) {
            Ok((found, entries)) if sink.is_new(&found) => entries,
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
            below.push(entry.path());
        } else if is_gguf(&name) {
            listing.files.push(name);
        } else if is_unfinished(&name) {
            listing.unfinished.push(name);
        }
    }
    listing.files.sort();
    listing.unfinished.sort();
    below.sort();
    Ok(Some((listing, below)))
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

/// Whether a name is that of a model file still being downloaded.
fn is_unfinished(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    name.contains(".gguf") && UNFINISHED.iter().any(|suffix| name.ends_with(suffix))
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
