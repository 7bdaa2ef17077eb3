//! The grammar of a model's name and its aliases.

use crate::bounds::excerpt;
use crate::{Failure, Kind};

/// The longest name, in bytes.
pub const MAX_BYTES: usize = 128;

/// The rule, for messages.
pub const RULE: &str =
    "a name is 1 to 128 letters, digits and . _ - : / @ +, and starts with a letter or a digit";

/// Whether `name` may name a model: ASCII letters and digits and `. _ - : / @ +`, starting with
/// a letter or digit, at most [`MAX_BYTES`] long. A comma is out because llama-server splits its
/// `--alias` there. Names are never used as path components, so `/` and `..` are harmless.
#[must_use]
pub fn is_valid(name: &str) -> bool {
    name.len() <= MAX_BYTES
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:/@+".contains(&byte))
}

/// The name, if it is one.
///
/// # Errors
/// [`Kind::InvalidName`], with the nearest that would do.
pub fn check(name: String) -> Result<String, Failure> {
    if is_valid(&name) {
        return Ok(name);
    }
    let shown = excerpt(&name);
    let failure = Failure::new(Kind::InvalidName, format!("{shown:?} is not a name: {RULE}"));
    Err(match from_text(&name) {
        Some(near) => failure.hint(format!("{near} would do")),
        None => failure,
    })
}

/// The nearest valid name to arbitrary text, such as a file's stem; `None` when nothing of it is
/// usable.
#[must_use]
pub fn from_text(text: &str) -> Option<String> {
    let mut name = String::new();
    for character in text.chars() {
        let fits = character.is_ascii_alphanumeric() || "._-:/@+".contains(character);
        if name.is_empty() && !character.is_ascii_alphanumeric() {
            continue;
        }
        if name.len() == MAX_BYTES {
            break;
        }
        match (fits, name.ends_with('-')) {
            (true, _) => name.push(character),
            (false, false) => name.push('-'),
            (false, true) => {}
        }
    }
    let name = name.trim_end_matches('-');
    is_valid(name).then(|| name.to_owned())
}

/// The same where no letter or digit is lost by it: what is left of `Größe` names nothing.
#[must_use]
pub fn from_whole_text(text: &str) -> Option<String> {
    let is_lost = |character: char| !character.is_ascii() && character.is_alphanumeric();
    from_text(text).filter(|_| !text.chars().any(is_lost))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_names_people_use_are_names() {
        for name in ["qwen3:8b-q4", "unsloth/Qwen3-8B:Q4_K_M", "a", "7b", "a/../b", "x@y+z"] {
            assert!(is_valid(name), "{name}");
        }
        for name in ["", "-a", ".a", "a b", "a,b", "a\n", "é", &"a".repeat(129)] {
            assert!(!is_valid(name), "{name:?}");
        }
    }

    #[test]
    fn a_file_stem_becomes_a_name() {
        assert_eq!(from_text("My Model (final)").as_deref(), Some("My-Model-final"));
        assert_eq!(from_text("--- ").as_deref(), None);
        assert_eq!(from_whole_text("My Model (final) ✓").as_deref(), Some("My-Model-final"));
        assert_eq!((from_whole_text("Größe"), from_whole_text("日本語-7B")), (None, None));
    }

    proptest! {
        #[test]
        fn whatever_the_text_the_result_is_a_name(text in "\\PC*") {
            prop_assert!(from_text(&text).is_none_or(|name| is_valid(&name)));
        }
    }
}
