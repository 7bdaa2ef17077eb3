//! Which lines of a log are asked for: pure.

use crate::logs::line::Line;
use llamactl_protocol::log::LogLevel;
use regex::{Regex, RegexBuilder};

/// How much a compiled expression may take; each line is matched in time linear in its length.
const PATTERN_MAX_BYTES: usize = 1 << 20;

/// What is asked of each line.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Not written before this.
    pub since_ms: Option<i64>,
    /// Not written after this.
    pub until_ms: Option<i64>,
    /// At least as grave as this. A line that does not say passes: what ends a server is often
    /// written past its logger.
    pub level: Option<LogLevel>,
    /// Found in the line.
    pub pattern: Option<Regex>,
}

/// What comes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// It is asked for.
    Yes,
    /// It is not.
    No,
    /// It was written after what is asked for, and so is what follows.
    Beyond,
}

/// Compiles an expression of a user's.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn pattern(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).size_limit(PATTERN_MAX_BYTES).build();
    built.map_err(|error| match error {
        regex::Error::Syntax(_) => format!("{text:?} is no regular expression"),
        _ => format!("the regular expression {text:?} is too large"),
    })
}

impl Filter {
    /// Whether every line passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.since_ms.is_none()
            && self.until_ms.is_none()
            && self.level.is_none()
            && self.pattern.is_none()
    }

    /// What comes of a line that was written at `at_ms`, as far as is known from it or from a line
    /// before it.
    #[must_use]
    pub fn passes(&self, line: &Line, at_ms: Option<i64>) -> Passes {
        if at_ms.zip(self.until_ms).is_some_and(|(at_ms, until_ms)| at_ms > until_ms) {
            return Passes::Beyond;
        }
        let is_older = at_ms.zip(self.since_ms).is_some_and(|(at_ms, since_ms)| at_ms < since_ms);
        let is_lighter = line.level.zip(self.level).is_some_and(|(is, least)| is < least);
        let matches = self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&line.text));
        if is_older || is_lighter || !matches { Passes::No } else { Passes::Yes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_is_asked_of_each_line() {
        let line = |raw: &str| Line::parse_text(raw);
        let error = line("0.00.001.000 E srv: out of memory");
        let raw = line("terminate called after throwing");
        let info = line("0.00.001.000 I srv: fine");
        let level = Filter { level: Some(LogLevel::Warning), ..Filter::default() };
        assert_eq!(level.passes(&error, None), Passes::Yes);
        assert_eq!(level.passes(&raw, None), Passes::Yes);
        assert_eq!(level.passes(&info, None), Passes::No);
        let found = Filter { pattern: Some(pattern("out of (mem|disk)").unwrap()), ..level };
        assert_eq!(found.passes(&error, None), Passes::Yes);
        assert_eq!(found.passes(&raw, None), Passes::No);
        let times = Filter { since_ms: Some(10), until_ms: Some(20), ..Filter::default() };
        let of = |at_ms| times.passes(&info, at_ms);
        assert_eq!(
            [of(Some(9)), of(Some(10)), of(Some(20))],
            [Passes::No, Passes::Yes, Passes::Yes]
        );
        assert_eq!([of(Some(21)), of(None)], [Passes::Beyond, Passes::Yes]);
        assert!(Filter::default().is_empty() && !times.is_empty());
    }

    #[test]
    fn what_is_no_expression_or_too_large_a_one_is_refused() {
        assert!(pattern("(").unwrap_err().contains("is no regular expression"));
        assert!(pattern("(a{1000}){1000}").unwrap_err().contains("too large"));
    }
}
