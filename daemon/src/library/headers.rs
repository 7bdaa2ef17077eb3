//! What a header said, as it is kept so that it need not be read again.

use crate::gguf::{Facts, GgufError, Kind};
use crate::models::{model_file, stamps};
use crate::store::registry::FileStamp;
use llamactl_protocol::model::ModelFile;
use serde::{Deserialize, Serialize};

/// Rises when a header is read in another way: what was kept before is then read anew.
const VERSION: u32 = 3;

/// What is known of a file by its header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(super) enum Known {
    /// A model that can be served. Paths are left out: other names may lead to the same file.
    Model {
        /// What the headers of all its parts say.
        file: Box<ModelFile>,
        /// Which files its parts were.
        parts: Vec<FileStamp>,
    },
    /// A sound file that is no model.
    Other {
        /// What it is instead, in one word.
        kind: String,
    },
    /// No usable file.
    Bad {
        /// Why, in one word.
        kind: String,
        /// Why, in words, without the path.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Kept<T> {
    version: u32,
    known: T,
}

impl Known {
    /// What the reading of a file came to.
    pub(super) fn of(read: &Result<Facts, GgufError>) -> Known {
        match read {
            Ok(facts) if facts.kind == Kind::Model => {
                let file = ModelFile { parts: vec![], mmproj: None, ..model_file(facts) };
                Known::Model { file: Box::new(file), parts: stamps(facts) }
            }
            Ok(facts) => Known::Other { kind: facts.kind.as_str().to_owned() },
            Err(error) => {
                Known::Bad { kind: error.kind().to_owned(), reason: error.problem.to_string() }
            }
        }
    }

    /// Whether the contents of the file alone decided: then it holds as long as they do.
    pub(super) fn is_lasting(&self) -> bool {
        const LASTING: &[&str] = &[
            "not_gguf",
            "file_empty",
            "gguf_big_endian",
            "gguf_version",
            "gguf_truncated",
            "gguf_malformed",
            "gguf_hostile",
        ];
        match self {
            Known::Model { .. } | Known::Other { .. } => true,
            Known::Bad { kind, .. } => LASTING.contains(&kind.as_str()),
        }
    }

    /// As it is kept.
    pub(super) fn to_text(&self) -> Option<String> {
        serde_json::to_string(&Kept { version: VERSION, known: self }).ok()
    }

    /// What was kept, unless it is of another version or the parts of a split model have changed:
    /// `now` is which files they are.
    pub(super) fn from_text(text: &str, now: &[FileStamp]) -> Option<Known> {
        let kept: Kept<Known> = serde_json::from_str(text).ok()?;
        if kept.version != VERSION {
            return None;
        }
        match &kept.known {
            Known::Model { parts, .. } if parts != now => None,
            // Of a split model whose other parts are looked at for the first time, or not there.
            Known::Other { .. } | Known::Bad { .. } if now.len() != 1 => None,
            _ => Some(kept.known),
        }
    }

    /// Why it is passed over, in one word and in words; `None` for a model.
    pub(super) fn refusal(&self) -> Option<(String, String)> {
        match self {
            Known::Model { .. } => None,
            Known::Bad { kind, reason } => Some((kind.clone(), reason.clone())),
            Known::Other { kind } => {
                let what = self.kind().map_or("no model", Kind::description);
                Some((kind.clone(), what.to_owned()))
            }
        }
    }

    /// What it is for; `None` for no usable file.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Known::Model { .. } => Some(Kind::Model),
            Known::Other { kind } => Kind::named(kind),
            Known::Bad { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_holds_for_the_same_parts_only() {
        let stamp = |inode| FileStamp { device: 1, inode, size_bytes: 3, mtime_ns: 4 };
        let known = Known::Model { file: Box::default(), parts: vec![stamp(1), stamp(2)] };
        let text = known.to_text().unwrap();
        assert_eq!(Known::from_text(&text, &[stamp(1), stamp(2)]), Some(known));
        assert_eq!(Known::from_text(&text, &[stamp(1), stamp(3)]), None);
        assert_eq!(Known::from_text(&text, &[stamp(1)]), None);
        assert_eq!(Known::from_text(&text.replace("\"version\":3", "\"version\":0"), &[]), None);
        assert_eq!(Known::from_text("{}", &[]), None);
    }

    #[test]
    fn missing_parts_may_come_back() {
        let bad = |kind: &str| Known::Bad { kind: kind.into(), reason: String::new() };
        assert!(bad("gguf_truncated").is_lasting());
        for kind in ["gguf_parts_missing", "gguf_parts_mismatch", "permission_denied"] {
            assert!(!bad(kind).is_lasting(), "{kind}");
        }
    }
}
