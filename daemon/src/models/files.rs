//! The files that a model and its settings name: there, and files.
//!
//! llama-server opens what it is given as it is: a pipe that nobody writes to holds it for ever, and so
//! it is never given one. What is only missing may come yet, and llama-server says so by itself.

use crate::os::denied::denied;
use crate::os::file::no_file;
use crate::store::registry::{FileStamp, RunFile};
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{Build, Item, Settings, Values, find, rules};
use llamactl_protocol::{Failure, Hint, Kind, WirePath};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file or directory that a setting names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    key: String,
    path: PathBuf,
    is_directory: bool,
    /// What the setting may be.
    allowed: String,
}

/// The files and directories that settings name.
#[must_use]
pub fn named_in(settings: &Settings, build: Option<&Build>) -> Vec<Named> {
    let mut named = Vec::new();
    for (key, value) in rules::with_extra(settings) {
        let Ok(setting) = find(&key, build) else { continue };
        let is_directory = matches!(setting.values, Values::Directory);
        named.extend(paths_in(&setting.values, &value).into_iter().map(|path| Named {
            key: key.clone(),
            path,
            is_directory,
            allowed: setting.allowed(),
        }));
    }
    named
}

/// Notes on those that are not there. Blocks.
///
/// # Errors
/// [`Kind::NotAFile`] for something else where a file belongs, [`Kind::InvalidValue`] where a
/// directory does; the details name the setting.
pub fn check_files(named: &[Named]) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    for Named { key, path, is_directory, allowed } in named {
        let shown = path.display();
        let refuse = |kind: Kind, problem: String| {
            Err(Failure::new(kind, format!("{key} cannot be {shown}: it is {problem}"))
                .hint(format!("give another, or none: {key} is {allowed}"))
                .details(json!({ "key": key, "keys": [key] })))
        };
        let missing = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => "does not exist",
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                &format!("is out of reach, because {}", denied(path).why)
            }
            Err(_) => "cannot be looked at",
            Ok(facts) => match no_file(&facts) {
                Some("a directory") if *is_directory => continue,
                what if *is_directory => {
                    let what = what.unwrap_or("a file");
                    return refuse(Kind::InvalidValue, format!("{what}, not a directory"));
                }
                Some(what) => return refuse(Kind::NotAFile, format!("{what}, not a file")),
                None => continue,
            },
        };
        let then = if is_needed(key) {
            "a start will fail until it does"
        } else {
            "a start would do without it"
        };
        notes.push(format!("{key}: {shown} {missing}; {then}"));
    }
    Ok(notes)
}

/// Why a file or directory that "permission denied" was said of may not be read. Blocks.
#[must_use]
pub fn unreadable(path: &Path) -> Failure {
    denied(path).failure(Kind::FileUnreadable, path)
}

/// Whether llama-server ends without a file of this setting. A control vector that is not there is not
/// applied, and it says so only in its log (measured on b10434); what it writes itself need not be there.
fn is_needed(key: &str) -> bool {
    !["control-vector", "control-vector-scaled", "lookup-cache-dynamic"].contains(&key)
}

/// The files of a start, as they are now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartFiles {
    /// Those that are there.
    pub there: Vec<RunFile>,
    /// What is wrong with the first that is not, and that llama-server ends without.
    pub missing: Option<Failure>,
}

/// Refuses to hand anything but files to a llama-server that is about to be started: what is there may
/// be another thing than when it was set. What is only missing llama-server says best itself. Blocks.
///
/// # Errors
/// As [`check_files`]; [`Kind::FileUnreadable`] for one in a directory that may not be entered.
pub fn check_before_start(model: &Model, named: &[Named]) -> Result<StartFiles, Failure> {
    let mut files = StartFiles::default();
    let mut seen = |key: &str, path: &Path, facts: io::Result<fs::Metadata>, cure: Hint| {
        match facts {
            Ok(facts) => {
                let (key, path) = (key.to_owned(), WirePath(path.to_owned()));
                files.there.push(RunFile { key, path, stamp: FileStamp::of(&facts) });
            }
            Err(error) if is_needed(key) && error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(unreadable(path));
            }
            Err(_) if is_needed(key) && files.missing.is_none() => {
                let message = format!("{} is gone", path.display());
                files.missing = Some(Failure::new(Kind::FileNotFound, message).hint(cure));
            }
            Err(_) => {}
        }
        Ok(())
    };
    let others = model.file.parts.iter().filter(|part| **part != model.path);
    for path in std::iter::once(&model.path).chain(others) {
        let facts = fs::metadata(path.as_path());
        if let Some(what) = facts.as_ref().ok().and_then(no_file) {
            return Err(Failure::new(Kind::NotAFile, format!("{path} is {what}, not a file"))
                .hint(where_it_is(&model.name)));
        }
        seen(MODEL_PATH, path.as_path(), facts, where_it_is(&model.name))?;
    }
    check_files(named)?;
    for Named { key, path, .. } in named.iter().filter(|named| !named.is_directory) {
        let unset = ["llamactl", "model", "unset", &model.name, key];
        seen(key, path, fs::metadata(path), Hint::run("put it back, or do without it", unset))?;
    }
    Ok(files)
}

/// The key by which a model's own file is set.
pub const MODEL_PATH: &str = "path";

/// What to do about a model's file that is not where it was.
#[must_use]
pub fn where_it_is(name: &str) -> Hint {
    let command = ["llamactl", "model", "set", name, "path=FILE"];
    Hint::run("put the model's file back, or say where it is now", command)
}

fn paths_in(values: &Values<'_>, value: &Value) -> Vec<PathBuf> {
    let one = |value: &Value| serde_json::from_value::<WirePath>(value.clone()).ok();
    match (values, value) {
        (Values::File | Values::Directory, value) => {
            one(value).map(|path| path.0).into_iter().collect()
        }
        (Values::List { of: Item::File, .. }, Value::Array(items)) => {
            items.iter().filter_map(|item| Some(one(item)?.0)).collect()
        }
        (Values::List { of: Item::ScaledFile, .. }, Value::Array(items)) => {
            let texts = items.iter().filter_map(Value::as_str);
            texts.filter_map(|text| Some(PathBuf::from(text.rsplit_once(':')?.0))).collect()
        }
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn what_is_missing_is_noted_and_what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (file, pipe) = (dir.path().join("file"), dir.path().join("pipe"));
        fs::write(&file, "").unwrap();
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let checked = |key: &str, value: Value| {
            let settings = Settings::from([(key.to_owned(), value)]);
            check_files(&named_in(&settings, None))
                .map_err(|failure| (failure.kind, failure.message))
        };
        assert_eq!(checked("mmproj", json!(file)), Ok(vec![]));
        let missing = dir.path().join("x");
        assert!(
            checked("mmproj", json!(missing)).unwrap()[0]
                .ends_with("a start will fail until it does")
        );
        for (key, value) in [
            ("mmproj", json!(pipe)),
            ("lora", json!([file, pipe])),
            ("lora-scaled", json!([format!("{}:0.5", pipe.display())])),
            ("control-vector", json!([pipe])),
            ("spec-draft-model", json!(pipe)),
            ("chat-template-file", json!("/dev/zero")),
            ("grammar-file", json!(dir.path())),
            ("json-schema-file", json!(pipe)),
            ("api-key-file", json!(pipe)),
            ("lookup-cache-dynamic", json!(pipe)),
            ("extra-args", json!(["--mmproj", pipe])),
        ] {
            let (kind, message) = checked(key, value).unwrap_err();
            assert_eq!(kind, Kind::NotAFile, "{key}");
            assert!(message.ends_with(", not a file"), "{message}");
        }
        let (kind, message) = checked("slot-save-path", json!(pipe)).unwrap_err();
        assert_eq!(kind, Kind::InvalidValue);
        assert!(message.ends_with("it is a named pipe, not a directory"), "{message}");
        assert_eq!(checked("slot-save-path", json!(dir.path())), Ok(vec![]));
        let note = &checked("control-vector", json!([missing])).unwrap()[0];
        assert!(note.ends_with("a start would do without it"), "{note}");
    }
}
