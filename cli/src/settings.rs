//! Settings on the command line: `key=value`.
//!
//! ```text
//!   temp=0.7            a text; the daemon alone decides what it may be
//!   mmproj=./x.gguf     a path: made absolute, because the daemon works elsewhere
//!   api-key=@FILE       a secret, read from a file; `-` reads stdin, `?` asks at the terminal
//! ```

use crate::remote;
use crate::secret_input::{Input, read_secret};
use llamactl_protocol::options::{Setting, VARIABLE_PREFIX, find, rules, secret};
use llamactl_protocol::{Failure, Kind, WirePath};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Takes `key=value` arguments apart.
///
/// # Errors
/// [`Kind::Usage`] for one that is none, or a key given twice; [`Kind::InvalidValue`] for a secret
/// that is written out; what keeps a secret from being read.
pub(crate) fn parse<T: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = T>,
) -> Result<BTreeMap<String, Value>, Failure> {
    let mut settings = BTreeMap::new();
    for argument in arguments {
        let argument = argument.as_ref();
        let Some((key, value)) = split(argument) else {
            return Err(Failure::new(
                Kind::Usage,
                format!("{:?} is not a setting: they are written key=value", argument.display()),
            )
            .hint("for example ctx-size=8192; unset takes settings back"));
        };
        if settings.insert(key.to_owned(), typed(key, value)?).is_some() {
            return Err(Failure::new(Kind::Usage, format!("{key} is given twice")));
        }
    }
    Ok(settings)
}

/// Where relative paths are meant from.
///
/// # Errors
/// [`Kind::IoFailed`] when the working directory is gone.
pub(crate) fn here() -> Result<WirePath, Failure> {
    std::env::current_dir().map(WirePath).map_err(|error| {
        Failure::new(Kind::IoFailed, format!("the working directory cannot be found: {error}"))
    })
}

/// The value of a key as it is sent.
fn typed(key: &str, value: &OsStr) -> Result<Value, Failure> {
    let setting = find(key, None).ok();
    let text = value.to_str();
    let is_variable = key.starts_with(VARIABLE_PREFIX);
    let is_secret = setting.is_some_and(|setting| setting.is_secret());
    if (is_secret || is_variable)
        && let Some(input) = text.and_then(Input::of)
    {
        return Ok(secret::given(&read_secret(key, &input)?));
    }
    if is_secret && !(key == rules::API_KEY && text == Some("generate")) {
        return Err(Failure::new(
            Kind::InvalidValue,
            format!("{key} is a secret: on a command line every program could read it"),
        )
        .hint(format!("give it as {key}=@FILE, as {key}=- on stdin, or as {key}=? at a prompt"))
        .details(json!({ "key": key })));
    }
    if setting.is_some_and(|setting| setting.takes_path()) {
        return absolute(&setting, value);
    }
    text.map(Value::from).ok_or_else(|| {
        Failure::new(Kind::InvalidValue, format!("the value of {key} is no text"))
            .details(json!({ "key": key }))
    })
}

/// A path, or a list of them, as whoever typed them meant them.
fn absolute(setting: &Option<Setting<'_>>, value: &OsStr) -> Result<Value, Failure> {
    let one = |path: &[u8]| {
        let path = remote::path_meant(Path::new(OsStr::from_bytes(path)))?;
        // Without the `.` people write.
        Ok(json!(WirePath(path.components().collect())))
    };
    let is_list = setting.is_some_and(|setting| setting.takes_several());
    Ok(if is_list && !value.as_bytes().starts_with(b"[") {
        value.as_bytes().split(|byte| *byte == b',').map(one).collect::<Result<_, Failure>>()?
    } else if is_list {
        Value::from(value.to_string_lossy())
    } else {
        one(value.as_bytes())?
    })
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
        let is_setting = split(argument).is_some() && !paths.is_empty();
        if is_setting && !exists(Path::new(argument)) {
            settings.push(argument);
        } else {
            paths.push(PathBuf::from(argument));
        }
    }
    Ok((paths, parse(settings)?))
}

/// Key and value, where the text before the `=` looks like a key.
fn split(argument: &OsStr) -> Option<(&str, &OsStr)> {
    let bytes = argument.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let key = std::str::from_utf8(bytes.get(..at)?).ok()?;
    let bare = key.trim_start_matches('-');
    let is_key = bare.starts_with(|first: char| first.is_ascii_alphabetic())
        && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_key.then_some((bare, OsStr::from_bytes(bytes.get(at + 1..)?)))
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
    fn a_path_is_meant_from_here() {
        let here = here().unwrap().0;
        let settings = parse(["path=x.gguf"]).unwrap();
        assert_eq!(json!(settings), json!({ "path": here.join("x.gguf") }));
    }

    #[test]
    fn a_variable_in_a_file_is_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let settings = parse([format!("env.TOKEN=@{}", file.path().display())]).unwrap();
        assert_eq!(settings["env.TOKEN"], secret::given("s3cret"));
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
