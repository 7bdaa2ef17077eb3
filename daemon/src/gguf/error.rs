//! What can be wrong with a model file, in words, with a stable `kind` and a hint.

use std::io;
use std::path::{Path, PathBuf};

use super::lookalike::Lookalike;
use super::split;
use crate::os::file::OpenError;
use llamactl_protocol::prose::bytes;

/// Why a path is not a usable GGUF file: the path and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", printable(&path.to_string_lossy()))]
pub struct GgufError {
    /// The file the sentence is about: the one asked for, or the part of it that is at fault.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: Problem,
}

impl GgufError {
    /// Says that `problem` was found in `path`.
    pub(super) fn new(path: &Path, problem: Problem) -> Self {
        Self { path: path.to_owned(), problem }
    }

    /// A stable name for the kind of problem, in snake case.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.problem.kind()
    }

    /// What to do about it, if that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let whole = split::whole_of_piece(&self.path);
        match &self.problem {
            Problem::NotGguf { .. }
            | Problem::TruncatedHeader { .. }
            | Problem::TruncatedData { .. } => whole.map(|whole| join(&whole)),
            _ => None,
        }
        .or_else(|| self.problem.hint())
    }
}

/// How pieces become a file again.
#[must_use]
pub fn join(whole: &str) -> String {
    let whole = printable(whole);
    format!("it is a piece of {whole}: join all pieces in their order with cat, into {whole}")
}

/// What is wrong with a file. Display gives the sentence without the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Nothing is at that path.
    #[error("no such file")]
    NotFound,
    /// The file or a directory above it is closed to us.
    #[error("the daemon's user may not read it")]
    PermissionDenied,
    /// The path names something without contents of its own.
    #[error("is {what}, not a file")]
    NotAFile {
        /// What it is, with its article, such as `a directory`.
        what: &'static str,
    },
    /// The operating system failed to read it.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file does not start with `GGUF`.
    #[error("not a GGUF file{}: it starts with {starts_with}", looks(.looks_like.as_ref()))]
    NotGguf {
        /// The first bytes, quoted and free of control characters.
        starts_with: String,
        /// What it seems to be instead.
        looks_like: Option<Lookalike>,
    },
    /// A GGUF file written for a big-endian machine.
    #[error("the file is in big-endian byte order, which this machine cannot load")]
    BigEndian,
    /// A GGUF version other than 2 and 3.
    #[error("GGUF version {version} is not supported, only versions 2 and 3 are")]
    UnsupportedVersion {
        /// The version the file says it has.
        version: u32,
    },
    /// The file ends inside its header.
    #[error("the file is cut off: it ends inside its header, after {file_bytes} bytes")]
    TruncatedHeader {
        /// Size of the file.
        file_bytes: u64,
    },
    /// The file ends before its last tensor does.
    #[error("the file is cut off: {} are missing at its end", bytes(needed_bytes.saturating_sub(*file_bytes)))]
    TruncatedData {
        /// Least size at which all tensors are inside the file.
        needed_bytes: u64,
        /// Size of the file.
        file_bytes: u64,
    },
    /// The header breaks a rule of the format.
    #[error("the header is damaged: {0}")]
    Malformed(String),
    /// The header claims something no real model needs; reading on would cost time or memory without bound.
    #[error("the header makes an impossible claim: {0}")]
    Hostile(String),
    /// Parts of a split model are not there.
    #[error("{} of {count} parts of this model are missing: {}", .missing.len(), few(.missing))]
    PartsMissing {
        /// File names of the missing parts.
        missing: Vec<String>,
        /// How many parts the model has.
        count: u32,
    },
    /// Parts of a split model do not belong together.
    #[error("the parts of this model do not fit together: {0}")]
    PartsMismatch(String),
}

impl Problem {
    /// A stable name for the kind of problem, in snake case.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound => "file_not_found",
            Self::PermissionDenied => "permission_denied",
            Self::NotAFile { .. } => "not_a_file",
            Self::Unreadable(_) => "file_unreadable",
            Self::Empty => "file_empty",
            Self::NotGguf { .. } => "not_gguf",
            Self::BigEndian => "gguf_big_endian",
            Self::UnsupportedVersion { .. } => "gguf_version",
            Self::TruncatedHeader { .. } | Self::TruncatedData { .. } => "gguf_truncated",
            Self::Malformed(_) => "gguf_malformed",
            Self::Hostile(_) => "gguf_hostile",
            Self::PartsMissing { .. } => "gguf_parts_missing",
            Self::PartsMismatch(_) => "gguf_parts_mismatch",
        }
    }

    /// What to do about it, if that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFound => "check the path; a relative path starts at the current directory",
            // It depends on what keeps us from it.
            Self::PermissionDenied => return None,
            Self::NotAFile { what: "a directory" } => "name the .gguf file inside it",
            Self::NotAFile { .. } => "name a .gguf file",
            Self::Unreadable(_) => return None,
            Self::Empty => "the download did not start or failed; get the file again",
            Self::NotGguf { looks_like, .. } => {
                looks_like.as_ref().map_or("llama.cpp loads GGUF files only", Lookalike::hint)
            }
            Self::BigEndian => {
                "get the little-endian file, or convert it with gguf_convert_endian.py"
            }
            Self::UnsupportedVersion { version: 0 | 1 } => {
                "the file is from 2023; get a newer one or convert the model again"
            }
            Self::UnsupportedVersion { .. } => "the file is damaged, or needs a newer llamactl",
            Self::TruncatedHeader { .. } | Self::TruncatedData { .. } => {
                "the download or copy did not finish; get the file again"
            }
            Self::Malformed(_) | Self::Hostile(_) => {
                "the file is damaged or was made to do harm; get it again from a source you trust"
            }
            Self::PartsMissing { .. } => "put all parts into the same directory",
            Self::PartsMismatch(_) => {
                "put the parts of one model into one directory, under the names they were published with"
            }
        };
        Some(hint.to_owned())
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            _ => Self::Unreadable(error),
        }
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotAFile(what) => Self::NotAFile { what },
            OpenError::Io(error) => error.into(),
        }
    }
}

/// `text` without control characters, so that a file cannot speak to the terminal through an error.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn looks(like: Option<&Lookalike>) -> String {
    like.map_or_else(String::new, |like| format!(" but {}", like.description()))
}

/// The first few names and how many more there are.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| printable(name)).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_the_path_without_control_characters() {
        let error = GgufError::new(Path::new("/m/\u{1b}[31mred.gguf"), Problem::Empty);
        assert_eq!(error.to_string(), "/m/\u{fffd}[31mred.gguf: the file is empty");
    }

    #[test]
    fn many_missing_parts_are_summed_up() {
        let missing = (1..=7).map(|part| format!("m-{part}")).collect();
        let problem = Problem::PartsMissing { missing, count: 9 };
        assert_eq!(
            problem.to_string(),
            "7 of 9 parts of this model are missing: m-1, m-2, m-3, m-4, m-5 and 2 more"
        );
    }
}
