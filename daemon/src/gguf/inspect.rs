//! From a path to [`Facts`]: the only file of this module that opens anything.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{GgufError, Problem};
use super::facts::{Assembly, Facts, Kind, Part};
use super::header::{self, Header};
use super::projector;
use super::split;
use crate::os::file;

/// The largest split models have some two hundred parts.
const MAX_PARTS: u64 = 1024;

/// Most bytes read from all parts of a model together: a buffer full of each, and room for one large vocabulary.
const READ_BUDGET_BYTES: u64 = 2 * header::READ_BUDGET_BYTES;

/// Most directory entries looked through for a projector.
const MAX_DIRECTORY_ENTRIES: usize = 10_000;

/// Most files whose headers are looked at to tell other models from what goes with this one.
const MAX_STRANGERS: usize = 16;

/// Reads the facts about the model that `path` is, or is a part of.
///
/// Only headers are read, of every part; that all tensor data is there is told from sizes. Takes milliseconds and a few
/// MiB at most, even for a hostile file. Blocks on the file system: keep it off threads that must not.
///
/// # Errors
/// Says what is wrong with the file, or with which part of it.
pub fn inspect(path: &Path) -> Result<Facts, GgufError> {
    let mut facts = inspect_alone(path)?;
    if facts.kind == Kind::Model {
        facts.mmproj = projector_beside(facts.path().unwrap_or(path));
    }
    Ok(facts)
}

/// The same without looking for a projector: the directory is not read.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_alone(path: &Path) -> Result<Facts, GgufError> {
    let mut budget_bytes = header::READ_BUDGET_BYTES;
    let (header, part) = read_part(path, &mut budget_bytes)?;
    let assembled = match header.metadata.split_count {
        Some(count) if count > 1 => assemble_parts(path, count)?,
        _ => Assembly::start(header, part),
    };
    assembled.finish().map_err(|problem| GgufError::new(path, problem))
}

/// Reads all `count` parts of the model that `path` is a part of.
fn assemble_parts(path: &Path, count: u64) -> Result<Assembly, GgufError> {
    let fail = |problem| GgufError::new(path, problem);
    if count > MAX_PARTS {
        return Err(fail(Problem::Hostile(format!("{count} parts"))));
    }
    let named_count = split::parse(path).map(|name| name.count);
    let Some(named_count) = named_count.filter(|&named| u64::from(named) == count) else {
        return Err(fail(Problem::PartsMismatch(format!(
            "it is one of {count} parts, but its name does not end in -00001-of-{count:05}.gguf or the like"
        ))));
    };
    let paths = split::part_names(path).unwrap_or_default();
    let missing: Vec<String> = paths
        .iter()
        .filter(|path| matches!(fs::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound))
        .map(|path| file_name(path))
        .collect();
    if !missing.is_empty() {
        return Err(fail(Problem::PartsMissing { missing, count: named_count }));
    }
    let mut budget_bytes = READ_BUDGET_BYTES;
    let mut assembly: Option<Assembly> = None;
    for (number, path) in (0..).zip(&paths) {
        let (header, part) = read_part(path, &mut budget_bytes)?;
        check_place(&header, number, count).map_err(|problem| GgufError::new(path, problem))?;
        match &mut assembly {
            None => assembly = Some(Assembly::start(header, part)),
            Some(assembly) => {
                assembly.add(&header, part).map_err(|problem| GgufError::new(path, problem))?;
            }
        }
    }
    assembly.ok_or_else(|| fail(Problem::PartsMismatch("the model has no parts".to_owned())))
}

/// Checks that a part says of itself what its name says.
fn check_place(header: &Header, number: u64, count: u64) -> Result<(), Problem> {
    let (no, of) = (header.metadata.split_no, header.metadata.split_count);
    if (no, of) == (Some(number), Some(count)) {
        return Ok(());
    }
    let text = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
    Err(Problem::PartsMismatch(format!(
        "by its name this is part {} of {count}, by its contents part {} of {}",
        number + 1,
        text(no.and_then(|no| no.checked_add(1))),
        text(of)
    )))
}

fn read_part(path: &Path, budget_bytes: &mut u64) -> Result<(Header, Part), GgufError> {
    let mut read = || {
        let (file, metadata) = file::open(path)?;
        let bytes = metadata.len();
        let header = header::read_header_within(file, bytes, budget_bytes)?;
        let part = Part {
            path: path.to_owned(),
            bytes,
            device: metadata.dev(),
            inode: metadata.ino(),
            modified_ns: modified_ns(&metadata),
        };
        Ok((header, part))
    };
    read().map_err(|problem| GgufError::new(path, problem))
}

/// When a file's contents were changed last, in nanoseconds since the Unix epoch.
fn modified_ns(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

/// A projector in the directory of `model`. A directory we may enter but not list has none.
fn projector_beside(model: &Path) -> Option<PathBuf> {
    let model_name = model.file_name()?.to_str()?;
    let directory = match model.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (projectors, mut others): (Vec<String>, Vec<String>) = fs::read_dir(directory)
        .ok()?
        .take(MAX_DIRECTORY_ENTRIES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.to_lowercase().ends_with(".gguf"))
        .partition(|name| projector::is_projector(name));
    if projectors.is_empty() {
        return None;
    }
    // What goes with a model is no other model: a drafter, an importance matrix, an adapter.
    let stem = split::stem(model);
    let mut looks = 0;
    others.retain(|name| {
        looks += usize::from(projector::is_stranger(name, &stem));
        !projector::is_stranger(name, &stem)
            || looks > MAX_STRANGERS
            || is_model(&model.with_file_name(name))
    });
    let chosen = model.with_file_name(projector::choose(model_name, &others, &projectors)?);
    fs::metadata(&chosen).is_ok_and(|metadata| metadata.is_file()).then_some(chosen)
}

/// Whether a file is a model, as far as its own header says. One that cannot be read may be.
fn is_model(path: &Path) -> bool {
    match read_part(path, &mut header::READ_BUDGET_BYTES.clone()) {
        Ok((header, part)) => Facts::of_header(&header, part.bytes).kind == Kind::Model,
        Err(_) => true,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
