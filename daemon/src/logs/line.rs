//! One line of llama-server: its time, its level and its text.
//!
//! ```text
//! 0.02.264.254 I srv  llama_server: listening on …
//! │  │  │   │  └ level   └ text
//! minutes . seconds . milliseconds . microseconds since its start
//! ```
//!
//! Lines without this prefix are normal (ggml, glibc and the C++ runtime print past the logger), and
//! may be glued to lines that have one. So a parse never fails: what is missing is `None`.

use llamactl_protocol::log::LogLevel as Level;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

/// A line, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Time since llama-server started, where the line says it.
    pub uptime_ms: Option<u64>,
    /// The time of day in Unix milliseconds, where the line says that instead.
    pub unix_ms: Option<i64>,
    /// The level, where the line says it.
    pub level: Option<Level>,
    /// The rest, without colours and without the line's end.
    pub text: String,
    /// The line is an object of JSON, and `text` is what it says to people.
    pub is_json: bool,
}

impl Line {
    /// Takes a line apart. Bytes that are not UTF-8 become `�`.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Self {
        Self::parse_text(&String::from_utf8_lossy(raw))
    }

    /// Takes a line apart that is text already.
    #[must_use]
    pub fn parse_text(raw: &str) -> Self {
        let plain = strip_ansi(raw.trim_end_matches(['\n', '\r']));
        if let Some(line) = parse_json(&plain) {
            return line;
        }
        let (uptime_ms, rest) = split_uptime(&plain);
        let (level, text) = split_level(rest);
        Self { uptime_ms, level, text: text.to_owned(), ..Self::default() }
    }

    /// When it was written, by a process that started at `started_at_ms`; `None` where the line
    /// does not say.
    #[must_use]
    pub fn at_ms(&self, started_at_ms: i64) -> Option<i64> {
        let since_start = || started_at_ms.checked_add(i64::try_from(self.uptime_ms?).ok()?);
        self.unix_ms.or_else(since_start)
    }
}

/// Times of `log-jsonl` above this many microseconds are of the day, not since the start: three
/// years.
const LONGEST_UPTIME_US: u64 = 100_000_000_000_000;

/// Takes a line of `--log-jsonl` apart: `{"type":"log","time":us,"level":"I","msg":"…"}`. What is of
/// another type is said by its type and its data.
fn parse_json(line: &str) -> Option<Line> {
    #[derive(Deserialize)]
    struct Written {
        r#type: String,
        time: Option<u64>,
        level: Option<Value>,
        msg: Option<String>,
        data: Option<Value>,
    }
    if !line.starts_with("{\"") {
        return None;
    }
    let written: Written = serde_json::from_str(line).ok()?;
    let level = written.level.and_then(|level| match level {
        Value::String(word) => match word.bytes().next()?.to_ascii_uppercase() {
            b'D' => Some(Level::Debug),
            b'I' => Some(Level::Info),
            b'W' => Some(Level::Warning),
            b'E' => Some(Level::Error),
            _ => None,
        },
        // ggml's own numbers.
        level => match level.as_u64()? {
            1 => Some(Level::Debug),
            2 => Some(Level::Info),
            3 => Some(Level::Warning),
            4 => Some(Level::Error),
            _ => None,
        },
    });
    let text = match (written.msg, written.data) {
        (Some(message), _) => strip_ansi(message.trim_end()).into_owned(),
        (None, Some(data)) => format!("{}: {data}", written.r#type),
        (None, None) => written.r#type,
    };
    let of_uptime = |us: &u64| *us < LONGEST_UPTIME_US;
    let of_day = |us: &u64| !of_uptime(us);
    Some(Line {
        uptime_ms: written.time.filter(of_uptime).map(|us| us / 1000),
        unix_ms: written.time.filter(of_day).and_then(|us| i64::try_from(us / 1000).ok()),
        level,
        text,
        is_json: true,
    })
}

/// Splits `M.SS.mmm.uuu ` off the front.
fn split_uptime(line: &str) -> (Option<u64>, &str) {
    let Some((stamp, rest)) = line.split_once(' ') else { return (None, line) };
    match parse_uptime(stamp) {
        Some(uptime_ms) => (Some(uptime_ms), rest),
        None => (None, line),
    }
}

fn parse_uptime(stamp: &str) -> Option<u64> {
    let mut parts = stamp.split('.');
    let mut number = |digits: Option<usize>| {
        let part = parts.next()?;
        let right_length = digits.is_none_or(|digits| part.len() == digits) && !part.is_empty();
        let all_digits = part.bytes().all(|byte| byte.is_ascii_digit());
        (right_length && all_digits).then(|| part.parse::<u64>().ok()).flatten()
    };
    let (minutes, seconds) = (number(None)?, number(Some(2))?);
    let (milliseconds, _microseconds) = (number(Some(3))?, number(Some(3))?);
    if parts.next().is_some() {
        return None;
    }
    minutes.checked_mul(60_000)?.checked_add(seconds * 1000 + milliseconds)
}

/// Splits `L ` off the front, where `L` is a level's letter.
fn split_level(line: &str) -> (Option<Level>, &str) {
    for (letter, level) in
        [("I ", Level::Info), ("W ", Level::Warning), ("E ", Level::Error), ("D ", Level::Debug)]
    {
        if let Some(text) = line.strip_prefix(letter) {
            return (Some(level), text);
        }
    }
    (None, line)
}

/// Removes terminal escape sequences: colours, cursor movement, titles. A sequence that does not end
/// loses its first two characters only, so that it cannot hide the rest of the line.
#[must_use]
pub fn strip_ansi(line: &str) -> Cow<'_, str> {
    if !line.contains(ESCAPE) {
        return Cow::Borrowed(line);
    }
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once(ESCAPE) {
        plain.push_str(before);
        rest = skip_sequence(after);
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

const ESCAPE: char = '\u{1b}';
/// How far the end of a title or link is searched for: a line of unfinished ones stays cheap.
const OSC_MAX_BYTES: usize = 4096;

/// What is left of the text behind an escape character when its sequence is taken off.
fn skip_sequence(after_escape: &str) -> &str {
    let mut characters = after_escape.chars();
    match characters.next() {
        // CSI: parameters and intermediates (0x20-0x3f), then one final byte (0x40-0x7e).
        Some('[') => {
            let body = characters.as_str();
            let end = body.trim_start_matches(|c| matches!(c, ' '..='?'));
            end.strip_prefix(|c| matches!(c, '@'..='~')).unwrap_or(body)
        }
        // OSC: up to BEL or ESC \.
        Some(']') => {
            let body = characters.as_str();
            let near = body.as_bytes().get(..OSC_MAX_BYTES).unwrap_or(body.as_bytes());
            let bell = memchr::memchr(7, near).map(|at| at + 1);
            let terminator = memchr::memmem::find(near, b"\x1b\\").map(|at| at + 2);
            let end = bell.into_iter().chain(terminator).min();
            end.and_then(|end| body.get(end..)).unwrap_or(body)
        }
        // A two-character sequence; a multi-byte character is none.
        Some(' '..='~') => characters.as_str(),
        _ => after_escape,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(raw: &str) -> (Option<u64>, Option<Level>, String) {
        let line = Line::parse(raw.as_bytes());
        (line.uptime_ms, line.level, line.text)
    }

    #[test]
    fn a_logger_line_has_time_level_and_text() {
        let line = "1.02.264.254 I srv  llama_server: model loaded\r\n";
        let text = "srv  llama_server: model loaded".to_owned();
        assert_eq!(parsed(line), (Some(62_264), Some(Level::Info), text));
    }

    #[test]
    fn what_is_missing_is_none() {
        for (raw, uptime_ms, level, text) in [
            ("AMX is not ready to be used!", None, None, "AMX is not ready to be used!"),
            ("W srv: a warning", None, Some(Level::Warning), "srv: a warning"),
            ("0.00.003.234 raw", Some(3), None, "raw"),
            ("Exit", None, None, "Exit"),
            ("", None, None, ""),
            ("E ", None, Some(Level::Error), ""),
            // Almost a stamp: wrong widths, too many parts, too large, not digits.
            ("0.0.003.234 I x", None, None, "0.0.003.234 I x"),
            ("0.00.003.234.1 I x", None, None, "0.00.003.234.1 I x"),
            ("+1.00.003.234 I x", None, None, "+1.00.003.234 I x"),
            (".00.003.234 I x", None, None, ".00.003.234 I x"),
            ("99999999999999999999.00.003.234 x", None, None, "99999999999999999999.00.003.234 x"),
            ("18446744073709551615.00.003.234 x", None, None, "18446744073709551615.00.003.234 x"),
        ] {
            assert_eq!(parsed(raw), (uptime_ms, level, text.to_owned()), "{raw}");
        }
    }

    #[test]
    fn a_line_of_json_says_the_same() {
        for (level, expected) in [
            ("\"I\"", Some(Level::Info)),
            ("\"warn\"", Some(Level::Warning)),
            ("\"ERROR\"", Some(Level::Error)),
            ("1", Some(Level::Debug)),
            ("\"\"", None),
            ("null", None),
            ("[]", None),
        ] {
            let raw =
                format!(r#"{{"type":"log","time":62264254,"level":{level},"msg":"loaded\n"}}"#);
            let line = Line::parse(raw.as_bytes());
            assert_eq!((line.uptime_ms, line.level), (Some(62_264), expected), "{level}");
            assert_eq!((line.text.as_str(), line.is_json), ("loaded", true));
            assert_eq!(line.at_ms(1000), Some(63_264));
        }
        let of_day = Line::parse(br#"{"type":"log","time":1769860800000000,"msg":"x"}"#);
        assert_eq!((of_day.at_ms(7), of_day.level), (Some(1_769_860_800_000), None));
        let breakdown = r#"{"type":"fit_memory_breakdown","data":{"unit":"MiB"}}"#;
        assert_eq!(Line::parse_text(breakdown).text, "fit_memory_breakdown: {\"unit\":\"MiB\"}");
        // Other JSON is text.
        for raw in [r#"{"type":7}"#, r#"{"no":"type"}"#, "{\"", "{}", "[]"] {
            assert_eq!(parsed(raw), (None, None, raw.to_owned()));
        }
    }

    #[test]
    fn colours_are_taken_off_before_the_prefix_is_read() {
        let line = "\u{1b}[34m0.00.003.234\u{1b}[0m \u{1b}[31mE \u{1b}[0msrv bad";
        assert_eq!(parsed(line), (Some(3), Some(Level::Error), "srv bad".to_owned()));
    }

    #[test]
    fn sequences_end_where_terminals_end_them() {
        for (raw, plain) in [
            ("a\u{1b}[1;31mb\u{1b}[mc", "abc"),
            ("\u{1b}]0;title\u{7}b", "b"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\!", "link!"),
            ("\u{1b}cafter", "after"),
            // Unfinished: the text stays.
            ("a\u{1b}]never ends", "anever ends"),
            ("a\u{1b}[12", "a12"),
            ("a\u{1b}[12é", "a12é"),
            ("a\u{1b}", "a"),
            ("\u{1b}é", "é"),
            ("\u{1b}\u{1b}[1mx", "x"),
        ] {
            assert_eq!(strip_ansi(raw), plain, "{raw:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_shown_as_such() {
        let line = Line::parse(b"0.00.001.000 E bad \xff\xfe name");
        assert_eq!(line.level, Some(Level::Error));
        assert_eq!(line.text, "bad \u{fffd}\u{fffd} name");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_line(raw: Vec<u8>) {
            let line = Line::parse(&raw);
            let escapes = line.text.contains(ESCAPE);
            prop_assert!(!escapes);
        }

        #[test]
        fn the_prefix_is_read_back(minutes in 0u64..100_000, rest in 0u64..60_000, text in "[a-z:][a-z: ]{0,20}") {
            let raw = format!("{minutes}.{:02}.{:03}.123 W {text}", rest / 1000, rest % 1000);
            prop_assert_eq!(parsed(&raw), (Some(minutes * 60_000 + rest), Some(Level::Warning), text));
        }
    }
}
