//! What is known of whoever reads a stream: a person at a terminal of some width, or a program.

use super::ColourChoice;
use super::sanitize::sanitize;
use rustix::termios::tcgetwinsize;
use std::borrow::Cow;
use std::io::IsTerminal;
use std::os::fd::AsFd;

/// The width of a terminal that does not tell.
const USUAL_COLUMNS: usize = 80;

/// Prose is not wider than this, however wide the terminal is.
const PROSE_COLUMNS: usize = 100;

/// What is known of the reader of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Whether a person reads it.
    pub(crate) terminal: bool,
    /// The columns of the terminal; `None` for a pipe.
    pub(crate) columns: Option<usize>,
    /// Its rows, where it tells.
    pub(crate) rows: Option<usize>,
    /// Whether to paint.
    pub(crate) colour: bool,
    /// Whether the terminal shows more than ASCII.
    pub(crate) unicode: bool,
    /// Whether nothing is to be left out or cut (`--full`).
    pub(crate) full: bool,
}

impl Look {
    /// What is known of this stream.
    pub(crate) fn of(stream: impl AsFd + IsTerminal, choice: ColourChoice, full: bool) -> Look {
        let terminal = stream.is_terminal();
        let size = if terminal { tcgetwinsize(&stream).ok() } else { None };
        let positive = |number: usize| Some(number).filter(|&number| number > 0);
        let columns = terminal.then(|| {
            let told = set("COLUMNS").and_then(|text| text.parse().ok()).and_then(positive);
            let seen = || size.and_then(|size| positive(size.ws_col.into()));
            told.or_else(seen).unwrap_or(USUAL_COLUMNS)
        });
        let rows = size.and_then(|size| positive(size.ws_row.into()));
        let colour = match choice {
            ColourChoice::Always => true,
            ColourChoice::Never => false,
            ColourChoice::Auto => {
                terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|it| it != "dumb")
            }
        };
        Look { terminal, columns, rows, colour, unicode: !terminal || is_utf8(set), full }
    }

    /// The width that prose is wrapped at.
    pub(crate) fn prose_columns(&self) -> Option<usize> {
        self.columns.filter(|_| !self.full).map(|columns| columns.min(PROSE_COLUMNS))
    }

    /// The width of a page of help: for a pipe too.
    pub(crate) fn page_columns(&self) -> usize {
        self.prose_columns().unwrap_or(PROSE_COLUMNS)
    }

    /// What stands for what was cut out.
    pub(crate) fn ellipsis(&self) -> &'static str {
        if self.unicode { "…" } else { "..." }
    }

    /// Text that this reader can be given: a terminal gets nothing that it would obey, and none of
    /// our own signs that it could not show.
    pub(crate) fn fit<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let safe = if self.terminal { sanitize(text) } else { text.into() };
        if self.unicode || safe.is_ascii() {
            return safe;
        }
        let mut plain = String::with_capacity(safe.len());
        for sign in safe.chars() {
            match SIGNS.iter().find(|(known, _)| *known == sign) {
                Some((_, ascii)) => plain.push_str(ascii),
                None => plain.push(sign),
            }
        }
        plain.into()
    }

    /// A path: for a person below the home directory with `~`, as he writes it.
    pub(crate) fn tidy(&self, path: &str) -> String {
        let home = std::env::var("HOME").unwrap_or_default();
        match path.strip_prefix(home.as_str()).filter(|_| self.terminal && !self.full) {
            Some(rest) if rest.starts_with('/') && home.len() > 1 => format!("~{rest}"),
            _ => path.to_owned(),
        }
    }

    /// Text that fits, on one line.
    pub(crate) fn fit_line(&self, text: &str) -> String {
        let text = self.fit(text).into_owned();
        let breaks = |byte| matches!(byte, b'\n' | b'\r' | b'\t');
        if text.bytes().any(breaks) { text.replace(['\n', '\r', '\t'], " ") } else { text }
    }
}

/// The signs on our screens, and what stands for them where they cannot be shown.
const SIGNS: [(char, &str); 11] = [
    ('…', "..."),
    ('●', "*"),
    ('○', "o"),
    ('×', "x"),
    ('↻', "~"),
    ('└', "\\-"),
    ('→', "->"),
    ('│', "|"),
    ('─', "-"),
    ('·', "|"),
    ('°', ""),
];

/// A variable that says something.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether whoever reads this, at a terminal or behind a pipe, has an encoding for all of Unicode.
pub(crate) fn locale_is_utf8() -> bool {
    is_utf8(set)
}

/// Whether the locale has an encoding for all of Unicode.
fn is_utf8(set: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| set(name));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides_on_the_encoding() {
        let locale = |all: &str, language: &str| {
            is_utf8(|name| match name {
                "LC_ALL" => Some(all.to_owned()).filter(|it| !it.is_empty()),
                "LANG" => Some(language.to_owned()).filter(|it| !it.is_empty()),
                _ => None,
            })
        };
        assert!(locale("", "de_DE.UTF-8") && locale("C.utf8", "C"));
        assert!(!locale("C", "en_US.UTF-8") && !locale("", "") && !locale("", "POSIX"));
    }

    #[test]
    fn a_terminal_without_utf8_gets_signs_that_it_can_show() {
        let plain = Look {
            terminal: true,
            columns: Some(80),
            rows: None,
            colour: false,
            unicode: false,
            full: false,
        };
        assert_eq!(plain.fit("● a → b… └ 日本"), "* a -> b... \\- 日本");
        assert_eq!(Look { unicode: true, ..plain }.fit("● a\u{1b}[2J"), "● a");
    }
}
