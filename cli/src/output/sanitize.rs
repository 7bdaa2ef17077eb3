//! Text from elsewhere, made safe for a terminal.
//!
//! A log line, a model's metadata or an answer may hold bytes that move the cursor, set the
//! window's title or reverse the reading order. A terminal gets none of them; a pipe gets the
//! text as it is.

use std::borrow::Cow;

/// `text` without what a terminal would obey: escape sequences, C0 controls except tab and line
/// feed, DEL, C1 controls and the controls of reading direction.
pub(crate) fn sanitize(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        if character == '\u{1b}' {
            rest = behind_sequence(rest);
        } else if !is_harmful(character) {
            clean.push(character);
        }
    }
    Cow::Owned(clean)
}

/// The same on one line: line feeds and tabs become spaces.
pub(crate) fn one_line(text: &str) -> String {
    sanitize(text).replace(['\n', '\t'], " ")
}

/// Whether a terminal would obey this character instead of showing it.
pub(crate) fn is_harmful(character: char) -> bool {
    match character {
        '\t' | '\n' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        other => other.is_control(),
    }
}

/// What follows the escape sequence whose ESC was just taken. Of a sequence without an end only
/// the ESC goes, so that no text can hide behind it.
fn behind_sequence(rest: &str) -> &str {
    let mut characters = rest.char_indices();
    match characters.next() {
        Some((_, '[')) => {
            for (at, character) in characters {
                match character {
                    ' '..='?' => {}
                    '@'..='~' => return &rest[at + 1..],
                    _ => break,
                }
            }
            rest
        }
        // Operating system commands and other strings end with BEL or ESC \.
        Some((_, ']' | 'P' | 'X' | '^' | '_')) => {
            let bell = rest.find('\u{7}').map(|at| (at, at + 1));
            let terminator = rest.find("\u{1b}\\").map(|at| (at, at + 2));
            let line_end = rest.find('\n').unwrap_or(rest.len());
            match bell.into_iter().chain(terminator).min() {
                Some((at, end)) if at < line_end => &rest[end..],
                _ => rest,
            }
        }
        Some((_, '(' | ')' | '#' | '%')) => match characters.next() {
            Some((at, character)) if character.is_ascii_graphic() => &rest[at + 1..],
            _ => rest,
        },
        Some((_, '=' | '>' | '7' | '8' | 'c' | 'D' | 'E' | 'H' | 'M' | 'N' | 'O' | 'Z')) => {
            &rest[1..]
        }
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sequences_go_and_text_stays() {
        for (raw, clean) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]8;;http://x\x1b\\link", "link"),
            ("a\rb\x08\x7fc", "abc"),
            ("\u{9b}31mx", "31mx"),
            ("abc\u{202e}cba\u{2066}", "abccba"),
            ("\x1b]0;never ended", "]0;never ended"),
            ("\x1b]0;a\nkept\x07", "]0;a\nkept"),
            ("\x1b[é", "[é"),
            ("\x1bcx", "x"),
            ("grün 日本語", "grün 日本語"),
        ] {
            assert_eq!(sanitize(raw), clean, "{raw:?}");
        }
    }

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(one_line("a\nb\tc\x1b[2J"), "a b c");
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left(text in "(\\PC|[\u{0}-\u{1f}\u{7f}-\u{9f}\u{202e}\u{2066}]|\u{1b}\\[|\u{1b}\\])*") {
            prop_assert!(!sanitize(&text).chars().any(is_harmful));
        }

        #[test]
        fn harmless_text_is_untouched(text in "\\PC*") {
            prop_assume!(!text.chars().any(is_harmful));
            prop_assert_eq!(sanitize(&text), text.as_str());
        }
    }
}
