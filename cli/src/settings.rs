//! Settings on the command line: `key=value`.
//!
//! The daemon alone decides what a key or a value may be; here they are only taken apart.

use llamactl_protocol::{Failure, Kind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Takes `key=value` arguments apart.
///
/// # Errors
/// [`Kind::Usage`] for one that is none, or a key given twice.
pub(crate) fn parse<T: AsRef<str>>(
    arguments: impl IntoIterator<Item = T>,
) -> Result<BTreeMap<String, Value>, Failure> {
    let mut settings = BTreeMap::new();
    for argument in arguments {
        let argument = argument.as_ref();
        let Some((key, value)) = split(argument) else {
            return Err(Failure::new(
                Kind::Usage,
                format!("{argument:?} is not a setting: they are written key=value"),
            )
            .hint("for example ctx-size=8192; llamactl model unset takes settings back"));
        };
        if settings.insert(key.to_owned(), Value::String(value.to_owned())).is_some() {
            return Err(Failure::new(Kind::Usage, format!("{key} is given twice")));
        }
    }
    Ok(settings)
}

/// Tells paths from settings in `PATH… [key=value…]`: a setting stands behind the first path, has
/// a word like a key before its `=`, and is no file.
///
/// # Errors
/// As [`parse`].
pub(crate) fn behind_paths(
    arguments: &[OsString],
    exists: impl Fn(&Path) -> bool,
) -> Result<(Vec<PathBuf>, BTreeMap<String, Value>), Failure> {
    let (mut paths, mut settings) = (Vec::new(), Vec::new());
    for argument in arguments {
        let text = argument.to_str().filter(|text| split(text).is_some());
        match text {
            Some(text) if !paths.is_empty() && !exists(Path::new(argument)) => settings.push(text),
            _ => paths.push(PathBuf::from(OsStr::new(argument))),
        }
    }
    Ok((paths, parse(settings)?))
}

/// Key and value, where the text before the `=` looks like a key.
fn split(argument: &str) -> Option<(&str, &str)> {
    let (key, value) = argument.split_once('=')?;
    let bare = key.trim_start_matches('-');
    let is_key = bare.starts_with(|first: char| first.is_ascii_alphabetic())
        && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_key.then_some((bare, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told_apart(arguments: &[&str], files: &[&str]) -> (Vec<PathBuf>, BTreeMap<String, Value>) {
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        behind_paths(&arguments, |path| files.iter().any(|file| Path::new(file) == path)).unwrap()
    }

    #[test]
    fn settings_are_text_by_key() {
        let settings = parse(["ctx-size=8192", "extra-args=--temp 0.2 --x=y", "env.A="]).unwrap();
        assert_eq!(
            json!(settings),
            json!({ "ctx-size": "8192", "extra-args": "--temp 0.2 --x=y", "env.A": "" })
        );
        for bad in [["ctx-size"], ["=1"], ["a b=1"], ["9=1"]] {
            assert_eq!(parse(bad).unwrap_err().kind, Kind::Usage, "{bad:?}");
        }
        assert_eq!(parse(["a=1", "--a=2"]).unwrap_err().kind, Kind::Usage);
    }

    #[test]
    fn paths_and_settings_are_told_apart() {
        let (paths, settings) = told_apart(&["a.gguf", "b.gguf", "ctx-size=1", "/m/x=y.gguf"], &[]);
        assert_eq!(paths, ["a.gguf", "b.gguf", "/m/x=y.gguf"].map(PathBuf::from));
        assert_eq!(json!(settings), json!({ "ctx-size": "1" }));
    }

    #[test]
    fn a_file_is_a_file_whatever_its_name() {
        let (paths, settings) = told_apart(&["a.gguf", "v=2.gguf"], &["v=2.gguf"]);
        assert_eq!((paths.len(), settings.len()), (2, 0));
        // The first is always a path: its absence is then the daemon's to tell.
        let (paths, settings) = told_apart(&["v=2.gguf"], &[]);
        assert_eq!((paths.len(), settings.len()), (1, 0));
    }
}
