//! The files of a directory as candidates: parts are put together. What each is for, and which go
//! with each other, is told when their headers are known.

use super::naming::Naming;
use super::pair::Pairing;
use super::sink::{Candidate, Group, Sink, Stopped};
use super::walk::Listing;
use crate::gguf::{self, split};
use crate::store::registry::FileStamp;
use llamactl_protocol::library::ScanSource;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

/// The most parts a model may have; llama.cpp's largest have some two hundred.
const MAX_PARTS: usize = 1024;

/// The most files of one directory that are held against each other.
const MAX_TOGETHER: usize = 1024;

/// What the place of a directory says about the models in it.
pub(super) struct Site<'a> {
    /// Where they are found.
    pub(super) source: ScanSource,
    /// What each is called.
    pub(super) naming: &'a dyn Fn(&str) -> Naming,
    /// Which projector goes with which.
    pub(super) pairing: Pairing,
}

/// Hands on the files of a directory.
pub(super) fn report(listing: &Listing, site: &Site<'_>, sink: &mut Sink) -> Result<(), Stopped> {
    let mut files = candidates(listing, site, sink)?;
    while !files.is_empty() {
        let rest = files.split_off(files.len().min(MAX_TOGETHER));
        sink.group(Group { files, pairing: Some(site.pairing), ..Group::default() })?;
        files = rest;
    }
    unfinished(listing, sink)
}

/// The files of a directory that may be models or go with one: files before links to them.
pub(super) fn candidates(
    listing: &Listing,
    site: &Site<'_>,
    sink: &mut Sink,
) -> Result<Vec<Candidate>, Stopped> {
    let mut found = Vec::new();
    for name in first_parts(&listing.files) {
        let path = listing.directory.join(name);
        match parts(&path) {
            Ok(stamps) => found.push(Candidate {
                is_link: path.is_symlink(),
                stamps,
                source: site.source,
                naming: (site.naming)(&name.to_string_lossy()),
                path,
                aliases: vec![],
                projector: None,
                notes: vec![],
            }),
            Err(error) => sink.failed(&path, &error)?,
        }
    }
    found.sort_by_key(|candidate| candidate.is_link);
    Ok(found)
}

/// Tells of downloads that are not finished, and of pieces that are not joined.
pub(super) fn unfinished(listing: &Listing, sink: &mut Sink) -> Result<(), Stopped> {
    for name in &listing.unfinished {
        let path = listing.directory.join(name);
        match split::whole_of_piece(&path) {
            Some(whole) => sink.skip(&path, "piece", gguf::join(&whole))?,
            None => sink.skip(&path, "unfinished", "the download is not finished")?,
        }
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
            ["a-00001-of-00002.gguf", "b-00002-of-00003.gguf", "c.gguf", "mmproj-c.gguf"]
        );
    }
}
