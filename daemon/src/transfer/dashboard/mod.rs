//! What the old dashboard kept: its database in three schemas, and the files beside it.
//!
//! ```text
//!   llama-dashboard.db ─▶ database (bounded, read only) ─▶ Dump ─▶ schema ──╮
//!   llama-server-config.json, app-config.json, model-templates.json ─▶ files ──▶ ImportSpec
//! ```
//!
//! Many of its columns had defaults that nobody chose and that switch off what llama-server does
//! by itself; those are not carried over. What has no place here is listed with the reason.

mod database;
mod files;
pub mod page;
mod router;
mod schema;
pub mod table;

use super::position::unreadable;
use super::spec::ImportSpec;
use llamactl_protocol::options::{VARIABLE_PREFIX, find};
use llamactl_protocol::{Failure, Kind};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a SQLite database begins with.
pub const MAGIC: &[u8] = b"SQLite format 3\0";

/// Where the dashboard kept its files, below its directory.
const PLACES: &[&str] = &[
    "data/llama-dashboard.db",
    "llama-dashboard.db",
    "llama-server-config.json",
    "app-config.json",
    "src/config/model-templates.json",
    "model-templates.json",
];

/// A file of settings is short.
const MAX_JSON_BYTES: u64 = 1 << 20;

/// Whether a text could be one of the dashboard's JSON files.
#[must_use]
pub fn is_file(text: &str) -> bool {
    let object = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
    object.is_some_and(|object| files::kind_of(&object).is_some())
}

/// Reads a file of the dashboard's, or its directory. Blocks.
///
/// # Errors
/// `Kind::Unreadable` and those of the file system.
pub fn read(path: &Path) -> Result<ImportSpec, Failure> {
    let mut spec = ImportSpec::default();
    let facts = path.metadata().map_err(|error| super::source::io_failure(path, &error))?;
    if facts.is_dir() {
        let there: Vec<PathBuf> =
            PLACES.iter().map(|place| path.join(place)).filter(|file| file.is_file()).collect();
        if there.is_empty() {
            let message = format!("{} holds none of the old dashboard's files", path.display());
            return Err(Failure::new(Kind::FileNotFound, message)
                .hint(format!("it would have one of: {}", PLACES.join(", "))));
        }
        for file in there {
            one_file(&file, &mut spec)?;
        }
    } else {
        one_file(path, &mut spec)?;
    }
    Ok(spec)
}

/// Reads one of the dashboard's JSON files that came as a text.
///
/// # Errors
/// `Kind::Unreadable`.
pub fn read_text(text: &str) -> Result<ImportSpec, Failure> {
    let mut spec = ImportSpec::default();
    json(text, &mut spec)?;
    Ok(spec)
}

fn one_file(path: &Path, spec: &mut ImportSpec) -> Result<(), Failure> {
    let head = super::source::head(path)?;
    if head.starts_with(MAGIC) {
        let dump = database::read(path)?;
        spec.notes.extend(dump.notes.iter().cloned());
        schema::read(&dump, &base_of(path), spec)
    } else {
        json(&super::source::text(path, MAX_JSON_BYTES)?, spec).map_err(|failure| Failure {
            message: format!("{}: {}", path.display(), failure.message),
            ..failure
        })
    }
}

/// Where the dashboard ran: relative paths in its database are meant from there.
fn base_of(database: &Path) -> PathBuf {
    let dir = database.parent().unwrap_or(Path::new("/"));
    let in_data = dir.file_name().is_some_and(|name| name == "data");
    dir.parent().filter(|_| in_data).unwrap_or(dir).to_owned()
}

fn json(text: &str, spec: &mut ImportSpec) -> Result<(), Failure> {
    let value: Value =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
            let at = super::position::At { line: error.line(), column: error.column() };
            unreadable("this is no JSON", Some(at))
        })?;
    match files::kind_of(&value) {
        Some(kind) => {
            files::read(kind, &value, spec);
            Ok(())
        }
        None => Err(unreadable("this is none of the old dashboard's files", None)),
    }
}

/// A setting that stands under a name of llama-server's: in the JSON of a model's parameters.
fn by_name(name: &str, value: &Value) -> Result<(String, Value), Failure> {
    let dashed = name.replace('_', "-");
    let setting = find(&dashed, None)?;
    if setting.key.starts_with(VARIABLE_PREFIX) {
        return Err(Failure::new(Kind::UnknownOption, "it is no option of llama-server"));
    }
    let value = setting.check(value)?;
    Ok((setting.key.to_owned(), value))
}

#[cfg(test)]
mod tests;
