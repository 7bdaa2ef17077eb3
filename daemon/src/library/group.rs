//! The files of a directory as models: parts are put together, projectors go with their models.

use super::naming::Naming;
use super::sink::{Candidate, Sink, Stopped};
use super::walk::Listing;
use crate::gguf::{self, split};
use crate::store::registry::FileStamp;
use llamactl_protocol::library::ScanSource;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The most parts a model may have; llama.cpp's largest have some two hundred.
const MAX_PARTS: usize = 1024;

/// How a model and its projector find each other by their file names.
pub(super) type Pairing = for<'a> fn(&str, &'a [String]) -> Option<&'a str>;

/// What the place of a directory says about the models in it.
pub(super) struct Site<'a> {
    /// Where they are found.
    pub(super) source: ScanSource,
    /// What each is called.
    pub(super) naming: &'a dyn Fn(&str) -> Naming,
    /// Which projector goes with which.
    pub(super) pairing: Pairing,
    /// Another directory whose projectors go with these models too.
    pub(super) beside: Option<&'a Listing>,
}

/// Hands on the models of a directory, and what is no model.
pub(super) fn report(listing: &Listing, site: &Site<'_>, sink: &mut Sink) -> Result<(), Stopped> {
    let names = listing.names();
    let beside = site.beside.map(|listing| (&listing.directory, listing.names()));
    let mut used: HashSet<PathBuf> = HashSet::new();
    for name in first_parts(&listing.files) {
        let path = listing.directory.join(name);
        let text = name.to_str().unwrap_or_default();
        let projector = (site.pairing)(text, &names)
            .map(|projector| listing.directory.join(projector))
            .or_else(|| {
                let (directory, names) = beside.as_ref()?;
                (site.pairing)(text, names).map(|projector| directory.join(projector))
            });
        used.extend(projector.clone());
        let stamps = match parts(&path) {
            Ok(stamps) => stamps,
            Err(error) => {
                sink.failed(&path, &error)?;
                continue;
            }
        };
        sink.candidate(Candidate {
            path,
            stamps,
            source: site.source,
            naming: (site.naming)(text),
            projector: projector.and_then(|path| Some((path.clone(), stamp(&path).ok()?))),
            notes: vec![],
        })?;
    }
    for name in names.iter().filter(|name| gguf::is_projector(name)) {
        let path = listing.directory.join(name);
        // One that is for models in directories below is not without a model.
        if !used.contains(&path) && site.source != ScanSource::Huggingface {
            sink.skip(
                &path,
                "mmproj",
                "a projector (mmproj), and no model beside it is surely its own",
            )?;
        }
    }
    for name in &listing.unfinished {
        sink.skip(&listing.directory.join(name), "unfinished", "the download is not finished")?;
    }
    Ok(())
}

/// The files to load: whole ones, and of each split one the first part that is there.
fn first_parts(files: &[OsString]) -> Vec<&OsString> {
    let mut first: BTreeMap<(String, u32), u32> = BTreeMap::new();
    for part in files.iter().filter_map(|name| split::parse(Path::new(name))) {
        let lowest = first.entry((part.stem, part.count)).or_insert(part.part);
        *lowest = part.part.min(*lowest);
    }
    files
        .iter()
        .filter(|name| !name.to_str().is_some_and(gguf::is_projector))
        .filter(|name| match split::parse(Path::new(name)) {
            Some(part) => first.get(&(part.stem, part.count)) == Some(&part.part),
            None => true,
        })
        .collect()
}

/// Which files the parts of a model are, its own first; of parts that are not there, none.
pub(super) fn parts(path: &Path) -> io::Result<Vec<FileStamp>> {
    let own = stamp(path)?;
    let others = split::part_names(path).unwrap_or_default();
    let others = others.iter().take(MAX_PARTS).filter(|part| *part != path);
    Ok(std::iter::once(own).chain(others.filter_map(|part| stamp(part).ok())).collect())
}

/// Which file a path leads to.
pub(super) fn stamp(path: &Path) -> io::Result<FileStamp> {
    fs::metadata(path).map(|metadata| FileStamp::of(&metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_model_is_one_file_to_load() {
        let files = [
            "a-00001-of-00002.gguf",
            "a-00002-of-00002.gguf",
            "b-00002-of-00003.gguf",
            "b-00003-of-00003.gguf",
            "c.gguf",
            "mmproj-c.gguf",
        ]
        .map(OsString::from);
        assert_eq!(
            first_parts(&files),
            ["a-00001-of-00002.gguf", "b-00002-of-00003.gguf", "c.gguf"]
        );
    }
}
