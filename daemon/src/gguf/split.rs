//! Names of split model files: `stem-00001-of-00003.gguf`, as llama.cpp writes and requires them.
//!
//! Pure: names in, names out. llama-server is given the first part and finds the others by name itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// `-00001-of-00003`
const SUFFIX_BYTES: usize = 15;
const EXTENSION: &str = ".gguf";

/// A file name taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitName {
    /// The name before `-00001-of-00003.gguf`.
    pub stem: String,
    /// Which part this is, from 1.
    pub part: u32,
    /// How many parts there are, from 1.
    pub count: u32,
}

/// Takes the file name of `path` apart, or gives `None` if it is not the name of a part.
///
/// A name that is not UTF-8 is never one: its parts could not be named reliably.
#[must_use]
pub fn parse(path: &Path) -> Option<SplitName> {
    let name = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?;
    let (stem, suffix) = name.split_at_checked(name.len().checked_sub(SUFFIX_BYTES)?)?;
    let (part, count) = suffix.strip_prefix('-')?.split_once("-of-")?;
    let (part, count) = (five_digits(part)?, five_digits(count)?);
    (!stem.is_empty() && 1 <= part && part <= count).then(|| SplitName {
        stem: stem.to_owned(),
        part,
        count,
    })
}

fn five_digits(text: &str) -> Option<u32> {
    (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())?
}

/// The paths of all parts of the model that `path` is a part of, first part first, or `None` if its name is not the
/// name of a part. Nothing is looked up; with `count` up to 99999 the caller decides how many it accepts.
#[must_use]
pub fn part_names(path: &Path) -> Option<Vec<PathBuf>> {
    let SplitName { stem, count, .. } = parse(path)?;
    Some(
        (1..=count)
            .map(|part| path.with_file_name(format!("{stem}-{part:05}-of-{count:05}{EXTENSION}")))
            .collect(),
    )
}

/// The default name of a model: its file name without the extension and without the part suffix.
///
/// Bytes that are not UTF-8 become U+FFFD; an empty answer means that the path has no file name.
#[must_use]
pub fn stem(path: &Path) -> String {
    if let Some(split) = parse(path) {
        return split.stem;
    }
    let name = path.file_name().unwrap_or_default();
    let is_gguf =
        Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    // Only `.gguf` is an extension here: `qwen2.5` and `llama-3.1` are whole names.
    let stem = if is_gguf { Path::new(name).file_stem().unwrap_or(OsStr::new("")) } else { name };
    stem.to_string_lossy().into_owned()
}

/// The file that a file is a piece of, by its name, where somebody cut it to publish it: pieces are
/// joined with `cat`, which the parts of a split model are not. `x.gguf.part1of2`, `x.gguf-split-a`,
/// `x.gguf.001`, `x.gguf.aa`.
#[must_use]
pub fn whole_of_piece(path: &Path) -> Option<String> {
    const END: &str = ".gguf";
    let name = path.file_name()?.to_str()?;
    let at = name.to_ascii_lowercase().rfind(END)?.checked_add(END.len())?;
    let (whole, rest) = name.split_at_checked(at)?;
    let rest = rest.strip_prefix(['.', '-', '_'])?.to_ascii_lowercase();
    let word = ["split", "part"].iter().find_map(|word| rest.strip_prefix(word));
    let number = word.unwrap_or(&rest).trim_start_matches(['-', '_', '.']);
    let is_numbered = match number.split_once("of") {
        Some((part, count)) => is_number(part) && is_number(count),
        None if word.is_some() => is_number(number) || (1..=2).contains(&number.len()),
        // What `split` writes: digits, or letters from `aa` on.
        None => {
            (number.len() >= 2 && is_number(number))
                || (number.len() == 2 && number.starts_with('a'))
        }
    };
    (is_numbered && number.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .then(|| whole.to_owned())
}

fn is_number(text: &str) -> bool {
    let digits = text.trim_matches(['-', '_', '.']);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(name: &str) -> Option<(String, u32, u32)> {
        parse(Path::new(name)).map(|split| (split.stem, split.part, split.count))
    }

    #[test]
    fn parts_are_recognized() {
        assert_eq!(parsed("foo-00001-of-00003.gguf"), Some(("foo".into(), 1, 3)));
        assert_eq!(parsed("/a/b-c/foo-bar-00099-of-00100.gguf"), Some(("foo-bar".into(), 99, 100)));
    }

    #[test]
    fn other_names_are_not() {
        for name in [
            "foo.gguf",
            "foo-1-of-3.gguf",
            "foo-00000-of-00003.gguf",
            "foo-00004-of-00003.gguf",
            "foo-+0001-of-00003.gguf",
            "foo-00001-of-00003.bin",
            "foo-00001_of_00003.gguf",
            "-00001-of-00003.gguf",
            "żółw-0000-of-00003.gguf",
            ".gguf",
            "",
            "/",
        ] {
            assert_eq!(parsed(name), None, "{name}");
        }
    }

    #[test]
    fn any_part_names_all_parts() {
        let names = part_names(Path::new("/m/foo-00002-of-00003.gguf")).unwrap();
        let names: Vec<_> = names.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "/m/foo-00001-of-00003.gguf",
                "/m/foo-00002-of-00003.gguf",
                "/m/foo-00003-of-00003.gguf"
            ]
        );
        assert_eq!(part_names(Path::new("/m/foo.gguf")), None);
    }

    #[test]
    fn stems() {
        for (path, expected) in [
            ("/m/Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B-Q4_K_M"),
            ("/m/Qwen3-8B-Q4_K_M-00002-of-00005.gguf", "Qwen3-8B-Q4_K_M"),
            ("llama-3.1.GGUF", "llama-3.1"),
            ("llama-3.1", "llama-3.1"),
            ("/", ""),
        ] {
            assert_eq!(stem(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_piece_is_told_from_a_part_and_from_a_download() {
        let whole = |name: &str| whole_of_piece(Path::new(name));
        for name in [
            "x.Q6_K.gguf.part1of2",
            "x.Q6_K.gguf.part2",
            "x.Q6_K.gguf-split-a",
            "x.Q6_K.gguf.001",
            "x.Q6_K.gguf.ab",
        ] {
            assert_eq!(whole(name).as_deref(), Some("x.Q6_K.gguf"), "{name}");
        }
        for name in [
            "x.gguf",
            "x.gguf.part",
            "x.gguf.partial",
            "x.gguf.gz",
            "x.gguf.incomplete",
            "x.gguf.txt",
        ] {
            assert_eq!(whole(name), None, "{name}");
        }
    }
}
