//! Words as a shell splits them: quotes, continuations, comments, operators. Nothing is expanded
//! but `~` and `$HOME`. Pure.

use crate::transfer::position::{At, unreadable};
use llamactl_protocol::Failure;
use std::path::Path;

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word, quotes taken off; with what only a shell knows in it.
    Word { text: String, unknown: Option<String> },
    /// `>`, `2>&1`, `<`: what stands behind it, if anything must, is the next word.
    Redirection(String),
    /// `;`, `&`, `|`, `&&` or a line's end: another command begins.
    Separator,
}

/// Splits a text into words.
///
/// # Errors
/// `Kind::Unreadable` for a quote that is not closed.
pub(super) fn split(text: &str, home: Option<&Path>) -> Result<Vec<Token>, Failure> {
    let home = home.and_then(Path::to_str);
    let mut splitter =
        Splitter { text, rest: text.char_indices().peekable(), home, tokens: vec![] };
    splitter.run()?;
    Ok(splitter.tokens)
}

struct Splitter<'t> {
    text: &'t str,
    rest: std::iter::Peekable<std::str::CharIndices<'t>>,
    home: Option<&'t str>,
    tokens: Vec<Token>,
}

#[derive(Default)]
struct Part {
    text: String,
    /// Whether a word has begun: an empty quoted one is a word too.
    begun: bool,
    unknown: Option<String>,
}

impl Splitter<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let mut word = Part::default();
        while let Some((at, character)) = self.rest.next() {
            match character {
                '\\' => match self.rest.next() {
                    // A line that goes on on the next.
                    Some((_, '\n')) => {}
                    Some((_, '\r')) if self.next_is('\n') => {
                        self.rest.next();
                    }
                    Some((_, escaped)) => word.push(escaped),
                    None => word.push('\\'),
                },
                '\'' => self.quoted(at, '\'', &mut word)?,
                '"' => self.quoted(at, '"', &mut word)?,
                '$' | '`' => self.variable(character, &mut word),
                '~' if !word.begun && self.ends_home() => match self.home {
                    Some(home) => word.push_all(home),
                    None => word.unknown("~"),
                },
                '#' if !word.begun => while self.rest.next_if(|(_, it)| *it != '\n').is_some() {},
                '\n' | ';' | '|' | '&' | '(' | ')' => {
                    self.end(&mut word);
                    if character == '&' && self.next_is('>') {
                        self.redirection(String::from("&"));
                    } else {
                        self.separate();
                    }
                }
                '<' | '>' => {
                    // A number right before it is the stream's.
                    let stream = word.begun && word.text.bytes().all(|it| it.is_ascii_digit());
                    let mut sign = String::new();
                    if stream {
                        sign = std::mem::take(&mut word).text;
                    }
                    self.end(&mut word);
                    sign.push(character);
                    self.redirection(sign);
                }
                blank if blank.is_whitespace() => self.end(&mut word),
                other => word.push(other),
            }
        }
        self.end(&mut word);
        Ok(())
    }

    fn next_is(&mut self, wanted: char) -> bool {
        self.rest.peek().is_some_and(|(_, next)| *next == wanted)
    }

    /// Whether `~` alone, or `~/`, stands here: other people's homes are not known.
    fn ends_home(&mut self) -> bool {
        self.rest.peek().is_none_or(|(_, next)| *next == '/' || next.is_whitespace())
    }

    fn end(&mut self, word: &mut Part) {
        let Part { text, begun, unknown } = std::mem::take(word);
        if begun {
            self.tokens.push(Token::Word { text, unknown });
        }
    }

    fn separate(&mut self) {
        if self.tokens.last() != Some(&Token::Separator) {
            self.tokens.push(Token::Separator);
        }
    }

    fn redirection(&mut self, mut sign: String) {
        while let Some((_, next)) = self.rest.next_if(|(_, next)| ['>', '<', '|'].contains(next)) {
            sign.push(next);
        }
        if self.next_is('&') {
            self.rest.next();
            sign.push('&');
            let is_stream = |it: &(usize, char)| it.1.is_ascii_digit() || it.1 == '-';
            while let Some((_, next)) = self.rest.next_if(is_stream) {
                sign.push(next);
            }
        }
        self.tokens.push(Token::Redirection(sign));
    }

    fn quoted(&mut self, at: usize, quote: char, word: &mut Part) -> Result<(), Failure> {
        word.begun = true;
        while let Some((_, character)) = self.rest.next() {
            match character {
                _ if character == quote => return Ok(()),
                '\\' if quote == '"' => match self.rest.next() {
                    Some((_, '\n')) => {}
                    Some((_, escaped @ ('"' | '\\' | '$' | '`'))) => word.push(escaped),
                    Some((_, other)) => {
                        word.push('\\');
                        word.push(other);
                    }
                    None => {}
                },
                '$' | '`' if quote == '"' => self.variable(character, word),
                other => word.push(other),
            }
        }
        Err(unreadable(
            format!("the quote {quote} is not closed"),
            Some(At::of_byte(self.text, at)),
        ))
    }

    /// What a shell would put in: `$HOME` is known, all else is kept as it stands.
    fn variable(&mut self, sign: char, word: &mut Part) {
        if sign == '`' {
            return word.unknown("`");
        }
        let braced = self.next_is('{');
        if self.next_is('(') {
            return word.unknown("$(…)");
        }
        if braced {
            self.rest.next();
        }
        let mut name = String::new();
        let is_name = |it: &(usize, char)| it.1.is_ascii_alphanumeric() || it.1 == '_';
        while let Some((_, next)) = self.rest.next_if(is_name) {
            name.push(next);
        }
        let closed = braced && self.next_is('}');
        if closed {
            self.rest.next();
        }
        match (name.as_str(), self.home) {
            ("", _) if !braced => word.push('$'),
            ("HOME", Some(home)) if closed || !braced => word.push_all(home),
            _ if braced => word.unknown(&format!("${{{name}}}")),
            _ => word.unknown(&format!("${name}")),
        }
    }
}

impl Part {
    fn push(&mut self, character: char) {
        self.begun = true;
        self.text.push(character);
    }

    fn push_all(&mut self, text: &str) {
        self.begun = true;
        self.text.push_str(text);
    }

    fn unknown(&mut self, what: &str) {
        self.push_all(what);
        self.unknown.get_or_insert_with(|| what.to_owned());
    }
}
