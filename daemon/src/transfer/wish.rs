//! What an import wishes for, whatever it was written as. Pure.

use llamactl_protocol::exchange::LeftOut;
use llamactl_protocol::options::{Settings, command_line};
use llamactl_protocol::{Failure, Kind, WirePath, name};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A place in a text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The line.
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

/// A setting's value and where it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// The value as it was written, or checked already.
    pub value: Value,
    /// Where, in a text.
    pub at: Option<At>,
}

/// Settings by the names they were given under.
pub type GivenSettings = BTreeMap<String, Given>;

/// Settings of a model, or the defaults for all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WishedSettings {
    /// The settings.
    pub given: GivenSettings,
    /// Whether what is not among them is unset.
    pub exact: bool,
}

impl WishedSettings {
    /// Settings that are set beside those there are.
    #[must_use]
    pub fn merged(settings: Settings) -> WishedSettings {
        let given = |(key, value)| (key, Given { value, at: None });
        WishedSettings { given: settings.into_iter().map(given).collect(), exact: false }
    }
}

/// A model as it shall be. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WishedModel {
    /// Its name.
    pub name: String,
    /// Where it stood.
    pub at: Option<At>,
    /// Its aliases.
    pub aliases: Option<Vec<String>>,
    /// Its file, absolute.
    pub path: Option<WirePath>,
    /// Its settings.
    pub settings: Option<WishedSettings>,
    /// A model of this name with another file is another model: this one gets the next free name.
    pub apart: bool,
}

/// A llama-server build as it shall be.
#[derive(Clone, Debug, PartialEq)]
pub struct WishedRuntime {
    /// Its name.
    pub name: String,
    /// Where it stood.
    pub at: Option<At>,
    /// The executable, absolute.
    pub path: WirePath,
    /// Variables for its servers.
    pub environment: Settings,
    /// Whether models use it that name no other.
    pub is_default: bool,
}

/// All that an import wishes for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    /// What cannot be fails the whole; otherwise it is left out and said.
    pub strict: bool,
    /// The defaults for all models.
    pub defaults: Option<WishedSettings>,
    /// Models, in the order they stood.
    pub models: Vec<WishedModel>,
    /// Runtimes.
    pub runtimes: Vec<WishedRuntime>,
    /// What the reader could not take in.
    pub left_out: Omissions,
    /// What the reader has to say.
    pub notes: Vec<String>,
}

/// Names given out once each: `name`, then `name-2`, `name-3`, ….
#[derive(Clone, Debug, Default)]
pub struct Names {
    taken: BTreeSet<String>,
    /// The number to try next, so that many of one name take no time.
    next: BTreeMap<String, u64>,
}

impl Names {
    /// Whether a name was given out.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.taken.contains(name)
    }

    /// Gives out a name.
    pub fn take(&mut self, name: &str) {
        self.taken.insert(name.to_owned());
    }

    /// Gives out the name, or the first of its variants that is free here and elsewhere.
    pub fn take_free(&mut self, wanted: &str, is_free: impl Fn(&str) -> bool) -> String {
        let mut name = wanted.to_owned();
        // A longest name leaves room for its number.
        let stem: String = wanted.chars().take(name::MAX_BYTES - 8).collect();
        let mut number = self.next.get(wanted).copied().unwrap_or(2);
        while self.taken.contains(&name) || !is_free(&name) {
            name = format!("{stem}-{number}");
            number += 1;
        }
        if name != wanted {
            self.next.insert(wanted.to_owned(), number);
        }
        self.take(&name);
        name
    }
}

/// What is left out, the same things counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Omissions(Vec<LeftOut>);

/// Kinds of things left out past this many are counted together.
const MAX_OMISSIONS: usize = 500;

impl Omissions {
    /// Adds one thing.
    pub fn add(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        self.add_many(what, reason, 1);
    }

    /// Adds a thing that was there `count` times.
    pub fn add_many(&mut self, what: impl Into<String>, reason: impl Into<String>, count: u64) {
        if count == 0 {
            return;
        }
        let (mut what, mut reason) = (what.into(), reason.into());
        let same = |it: &LeftOut, what: &str, reason: &str| it.what == what && it.reason == reason;
        if self.0.len() >= MAX_OMISSIONS && !self.0.iter().any(|it| same(it, &what, &reason)) {
            (what, reason) = ("more".to_owned(), "too many to list".to_owned());
        }
        match self.0.iter_mut().find(|it| same(it, &what, &reason)) {
            Some(there) => there.count += count,
            None => self.0.push(LeftOut { what, reason, count }),
        }
    }

    /// Adds a setting that was refused, in the refusal's words.
    pub fn refused(&mut self, what: impl Into<String>, failure: &Failure) {
        self.add(what, sentence(failure));
    }

    /// Adds what another list has.
    pub fn extend(&mut self, other: Omissions) {
        for LeftOut { what, reason, count } in other.0 {
            self.add_many(what, reason, count);
        }
    }

    /// The list.
    #[must_use]
    pub fn into_list(self) -> Vec<LeftOut> {
        self.0
    }

    /// The list, to look at.
    #[must_use]
    pub fn list(&self) -> &[LeftOut] {
        &self.0
    }
}

/// A refusal as one sentence.
#[must_use]
pub fn sentence(failure: &Failure) -> String {
    std::iter::once(failure.message.clone())
        .chain(failure.hints.lines())
        .collect::<Vec<_>>()
        .join("; ")
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

/// Adds a checked setting to others as llama-server reads its arguments.
pub fn collect(settings: &mut Settings, key: String, value: Value) {
    command_line::collect(settings, key, value);
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

    #[test]
    fn many_of_one_name_get_numbers() {
        let mut names = Names::default();
        let mut take = |wanted: &str| names.take_free(wanted, |name| name != "a-3");
        assert_eq!(["a", "a", "a-2", "a", "b"].map(&mut take), ["a", "a-2", "a-2-2", "a-4", "b"]);
        for _ in 0..20_000 {
            take("a");
        }
        assert!(take(&"x".repeat(128)) != take(&"x".repeat(128)));
    }

    #[test]
    fn what_is_left_out_is_counted_and_bounded() {
        let mut omissions = Omissions::default();
        omissions.add("a", "b");
        omissions.add_many("a", "b", 2);
        omissions.add_many("c", "d", 0);
        assert_eq!(omissions.list()[0].count, 3);
        for number in 0..2000 {
            omissions.add(number.to_string(), "x");
        }
        assert!(omissions.list().len() <= MAX_OMISSIONS + 1);
        assert_eq!(omissions.list().iter().map(|it| it.count).sum::<u64>(), 2003);
    }
}
