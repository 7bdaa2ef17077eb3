//! How many columns text takes, and how it is made to take fewer.
//!
//! What tells two names apart stands at their ends more often than at their beginnings, so a third
//! of what is left is the head and the rest the tail. Of a path whole directories go.

use unicode_width::UnicodeWidthChar as _;

/// The columns that a terminal needs for this text: of one sign after the other, as most terminals
/// count.
pub(crate) fn width(text: &str) -> usize {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain { text.len() } else { text.chars().map(|sign| sign.width().unwrap_or(0)).sum() }
}

/// `text` in at most so many columns: its middle goes.
pub(crate) fn cut_middle(text: &str, columns: usize, ellipsis: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(width(ellipsis));
    let head = head(text, room / 3);
    let tail = tail(text, room - width(head));
    format!("{head}{ellipsis}{tail}")
}

/// A path in at most so many columns: directories go, and the file's name stays.
pub(crate) fn cut_path(path: &str, columns: usize, ellipsis: &str) -> String {
    if width(path) <= columns {
        return path.to_owned();
    }
    let root = if path.starts_with("~/") {
        "~/"
    } else if path.starts_with('/') {
        "/"
    } else {
        ""
    };
    let kept = columns.saturating_sub(width(root) + width(ellipsis));
    // From the first directory on: the longest end of the path that begins with a slash and fits.
    let end = path.match_indices('/').map(|(at, _)| &path[at..]).find(|end| width(end) <= kept);
    match end {
        Some(end) => format!("{root}{ellipsis}{end}"),
        None => cut_middle(path.rsplit('/').next().unwrap_or(path), columns, ellipsis),
    }
}

/// `text` in at most so many columns: its end goes.
pub(crate) fn cut_end(text: &str, columns: usize, ellipsis: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    format!("{}{ellipsis}", head(text, columns.saturating_sub(width(ellipsis))))
}

/// The longest beginning in at most so many columns.
pub(crate) fn head(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    for (at, sign) in text.char_indices() {
        taken += sign.width().unwrap_or(0);
        if taken > columns {
            return &text[..at];
        }
    }
    text
}

/// The longest end in at most so many columns.
fn tail(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let mut from = text.len();
    for (at, sign) in text.char_indices().rev() {
        taken += sign.width().unwrap_or(0);
        if taken > columns {
            break;
        }
        from = at;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_a_name_the_middle_goes_and_of_a_path_directories() {
        let name = "unsloth/Qwen3-4B-Instruct-2507-GGUF:UD-Q4_K_XL";
        assert_eq!(cut_middle(name, 35, "…"), "unsloth/Qwe…ct-2507-GGUF:UD-Q4_K_XL");
        assert_eq!(cut_middle("日本語のモデル", 9, "…"), "日…モデル");
        assert_eq!(cut_middle("abc", 3, "…"), "abc");
        assert_eq!(cut_path("~/a/b/c/model.gguf", 16, "…"), "~/…/c/model.gguf");
        assert_eq!(cut_path("~/models/b/model.gguf", 14, "…"), "~/…/model.gguf");
        assert_eq!(cut_path("/srv/models/x.gguf", 10, "…"), "/…/x.gguf");
        assert_eq!(cut_path("/m/a-very-long-name.gguf", 11, "…"), "a-v…me.gguf");
        assert_eq!(cut_end("a long line", 7, "..."), "a lo...");
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_asked(text in "\\PC{0,60}", columns in 4usize..40) {
            for cut in [cut_middle, cut_path, cut_end] {
                prop_assert!(width(&cut(&text, columns, "...")) <= columns.max(3));
            }
        }
    }
}
