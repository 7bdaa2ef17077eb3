//! What is imported: a text that is sent, or a file that the daemon reads itself.

use crate::private_file;
use crate::remote;
use llamactl_protocol::exchange::{ImportSource, MAX_INLINE_BYTES};
use llamactl_protocol::{Failure, Hint, Kind, WirePath};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What the daemon reads at most.
const MAX_BYTES: u64 = 64 << 20;

/// As JSON a text grows, and a message has a longest length.
const MAX_JSON_BYTES: usize = 800 << 10;

/// Something to import.
#[derive(Debug)]
pub(crate) struct Source {
    /// What is sent.
    pub(crate) source: ImportSource,
    /// What records call it.
    pub(crate) label: String,
    /// Where relative paths in it are meant from, if that is on the daemon's machine.
    pub(crate) directory: Option<WirePath>,
    /// A file that was made for it.
    pub(crate) held: Option<Held>,
}

/// A file that is there only for one import; dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Held(PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Source {
    /// What was typed or pasted, under the name that messages call it by; paths in it are taken
    /// from `directory`.
    pub(crate) fn of_text(text: String, label: &str, directory: Option<WirePath>) -> Source {
        let source = ImportSource::Text(text.into());
        Source { source, label: label.to_owned(), directory, held: None }
    }

    /// A file or directory by its path; `-` is standard input.
    ///
    /// # Errors
    /// [`Kind::FileNotFound`], [`Kind::FileUnreadable`], [`Kind::InvalidValue`] for what is too
    /// long.
    pub(crate) fn of_file(file: &OsStr) -> Result<Source, Failure> {
        let here = crate::settings::here()?;
        if file == "-" {
            let bytes = whole(io::stdin().lock(), "standard input")?;
            return Source::of_stdin(bytes, remote::base()?);
        }
        let path = here.as_path().join(file);
        let label = Path::new(file).display().to_string();
        let facts = path.metadata().map_err(|error| unreadable(&label, &error))?;
        let by_path = |path: PathBuf| Source {
            source: ImportSource::Path(WirePath(path.clone())),
            label: label.clone(),
            directory: match remote::named() {
                Some(_) => None,
                None => Some(WirePath(path.parent().map_or_else(|| "/".into(), Path::to_owned))),
            },
            held: None,
        };
        let fits = facts.is_file()
            && usize::try_from(facts.len()).is_ok_and(|length| length <= MAX_INLINE_BYTES);
        if !fits {
            // A pipe, such as a shell's <(…), is read here; anything else by the daemon.
            if facts.is_dir() || facts.is_file() {
                return only_named(by_path(path));
            }
            let file = File::open(&path).map_err(|error| unreadable(&label, &error))?;
            return Source::of_stdin(whole(file, &label)?, remote::base()?);
        }
        let read = File::open(&path).map_err(|error| unreadable(&label, &error))?;
        match String::from_utf8(whole(read, &label)?) {
            Ok(text) if fits_a_message(&text) => {
                Ok(Source { source: ImportSource::Text(text.into()), ..by_path(path) })
            }
            _ => only_named(by_path(path)),
        }
    }

    fn of_stdin(bytes: Vec<u8>, directory: Option<WirePath>) -> Result<Source, Failure> {
        let label = "standard input";
        if let Ok(text) = std::str::from_utf8(&bytes)
            && fits_a_message(text)
        {
            return Ok(Source::of_text(text.to_owned(), label, directory));
        }
        // Too long to be sent, or no text: the daemon reads it from a file.
        let path = private_file::create("llamactl-import", "", &bytes)?;
        only_named(Source {
            source: ImportSource::Path(WirePath(path.clone())),
            label: label.to_owned(),
            directory,
            held: Some(Held(path)),
        })
    }
}

/// What the daemon is to read itself: it can on this machine alone.
fn only_named(source: Source) -> Result<Source, Failure> {
    let Some(host) = remote::named() else { return Ok(source) };
    let why = format!(
        "{} is no text of at most {} KiB, so the daemon reads it itself: it must lie on {}",
        source.label,
        MAX_INLINE_BYTES >> 10,
        host.name
    );
    let import = ["llamactl", "model", "import", "FILE"].map(str::to_owned);
    let hint = Hint::run("copy it there, and import it there", host.shell(&import));
    Err(Failure::new(Kind::InvalidValue, why).hint(hint))
}

fn fits_a_message(text: &str) -> bool {
    text.len() <= MAX_INLINE_BYTES
        && serde_json::to_string(text).is_ok_and(|json| json.len() <= MAX_JSON_BYTES)
}

fn whole(source: impl Read, label: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = source.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(label, &error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
        let message = format!("{label} is longer than {MAX_BYTES} bytes");
        return Err(Failure::new(Kind::InvalidValue, message)
            .hint("nothing that llamactl imports is so long: is it the right file?"));
    }
    Ok(bytes)
}

fn unreadable(label: &str, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => Kind::FileNotFound,
        _ => Kind::FileUnreadable,
    };
    Failure::new(kind, format!("{label} cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_sent_and_anything_else_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            Source::of_file(path.as_os_str()).unwrap()
        };
        assert!(matches!(file("a", b"x").source, ImportSource::Text(text) if *text == *"x"));
        assert!(matches!(file("b", b"\xff").source, ImportSource::Path(_)));
        assert!(matches!(file("c", &[1u8; 400 << 10]).source, ImportSource::Path(_)));
        assert!(matches!(file("d", &[b'x'; 600 << 10]).source, ImportSource::Path(_)));
        let missing = Source::of_file(dir.path().join("no").as_os_str()).unwrap_err();
        assert_eq!(missing.kind, Kind::FileNotFound);
    }

    #[test]
    fn what_is_too_long_to_be_sent_waits_in_a_private_file() {
        let long = Source::of_stdin(vec![b'x'; 600 << 10], None).unwrap();
        let ImportSource::Path(path) = &long.source else { panic!("{:?}", long.label) };
        assert_eq!(path.as_path().metadata().unwrap().len(), 600 << 10);
        let path = path.0.clone();
        drop(long);
        assert!(!path.exists());
    }
}
