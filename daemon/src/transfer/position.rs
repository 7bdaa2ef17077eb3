//! Where something stands in a text that is taken in, and failures that say so.

use llamactl_protocol::{Failure, Kind};
use serde_json::{Value, json};

/// A place in a text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The number of the line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl At {
    /// The place of a byte.
    #[must_use]
    pub fn of_byte(text: &str, byte: usize) -> At {
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|it| *it == b'\n').count() + 1;
        At { line, column: before.get(line_start..).unwrap_or_default().chars().count() + 1 }
    }
}

/// Where the lines of a text begin, so that many places in it are found without reading it again.
#[derive(Clone, Debug)]
pub struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// The lines of a text.
    #[must_use]
    pub fn of(text: &'t str) -> Lines<'t> {
        let behind_ends = text.bytes().enumerate().filter(|(_, it)| *it == b'\n');
        let starts = std::iter::once(0).chain(behind_ends.map(|(at, _)| at + 1)).collect();
        Lines { text, starts }
    }

    /// The place of a byte.
    #[must_use]
    pub fn at(&self, byte: usize) -> At {
        let line = self.starts.partition_point(|start| *start <= byte);
        let start = line.checked_sub(1).and_then(|index| self.starts.get(index)).copied();
        let before = self.text.get(start.unwrap_or(0)..byte).unwrap_or_default();
        At { line, column: before.chars().count() + 1 }
    }
}

/// The same failure with the place it is about.
#[must_use]
pub fn placed(failure: Failure, at: Option<At>) -> Failure {
    let Some(at) = at else { return failure };
    let mut details = match failure.details {
        Some(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    details.insert("line".to_owned(), json!(at.line));
    details.insert("column".to_owned(), json!(at.column));
    let message = format!("line {}: {}", at.line, failure.message);
    Failure { message, details: Some(Value::Object(details)), ..failure }
}

/// A text that is not what it should be.
#[must_use]
pub fn unreadable(message: impl Into<String>, at: Option<At>) -> Failure {
    placed(Failure::new(Kind::Unreadable, message), at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a\nbé = 1\n";
        assert_eq!(At::of_byte(text, 0), At { line: 1, column: 1 });
        assert_eq!(At::of_byte(text, text.find('=').unwrap()), At { line: 2, column: 4 });
        assert_eq!(At::of_byte(text, 999), At { line: 3, column: 1 });
        let lines = Lines::of(text);
        for (byte, _) in text.char_indices() {
            assert_eq!(lines.at(byte), At::of_byte(text, byte), "{byte}");
        }
    }
}
