//! Words as a shell splits them: quotes, continuations, comments, operators, variables. Pure.
//!
//! ```text
//!   text ──▶ Token: Word(pieces) | Array | Redirection | Separator ──▶ Variables::expand ──▶ Expanded
//! ```
//!
//! A line that begins with a dash goes on with the command before it: blocks of YAML have no
//! backslashes. So does one behind a line that ends as PowerShell (`` ` ``) or cmd (`^`) continue theirs;
//! in a text of theirs a backslash is one. Nothing is run, and nothing but variables is expanded.

use crate::transfer::position::{At, unreadable};
use llamactl_protocol::Failure;
use std::collections::BTreeMap;
use std::path::Path;

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word, quotes taken off.
    Word(Word),
    /// `NAME=(words)`.
    Array(String, Vec<Word>),
    /// `>`, `2>&1`, `<`: what stands behind it, if anything must, is the next word.
    Redirection(String),
    /// `;`, `&`, `|`, `&&` or a line's end: another command begins.
    Separator,
}

/// What a word is made of, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable {
        name: String,
        /// What stands for it where it is not set.
        default: Option<String>,
        /// As it is written.
        written: String,
        quoted: bool,
        /// `[@]`: all values of an array, each a word.
        each: bool,
    },
    /// What only a shell knows.
    Unknown(String),
}

/// A word with its variables put in, and the first of them that nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    pub(super) unknown: Option<String>,
}

/// The variables of a text that are known: those it sets itself, and `HOME`.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    known: BTreeMap<String, Vec<String>>,
    /// Those that are not what they were set to, but what else only a shell knows.
    unknown: BTreeMap<String, String>,
}

impl Variables {
    pub(super) fn of_home(home: Option<&Path>) -> Variables {
        let mut variables = Variables::default();
        if let Some(home) = home.and_then(Path::to_str) {
            variables.known.insert("HOME".to_owned(), vec![home.to_owned()]);
        }
        variables
    }

    pub(super) fn set(&mut self, name: &str, value: Expanded) {
        match value.unknown {
            Some(unknown) => {
                self.known.remove(name);
                self.unknown.insert(name.to_owned(), unknown);
            }
            None => {
                self.unknown.remove(name);
                self.known.insert(name.to_owned(), vec![value.text]);
            }
        }
    }

    pub(super) fn set_array(&mut self, name: &str, values: Vec<String>) {
        self.known.insert(name.to_owned(), values);
    }

    /// What a variable is, joined where it is several.
    pub(super) fn value(&self, name: &str) -> Option<Expanded> {
        match (self.known.get(name), self.unknown.get(name)) {
            (Some(values), _) => Some(Expanded { text: values.join(" "), unknown: None }),
            (None, Some(unknown)) => {
                Some(Expanded { text: unknown.clone(), unknown: Some(unknown.clone()) })
            }
            (None, None) => None,
        }
    }

    /// The words that a word becomes: a variable outside quotes may be several, or none.
    pub(super) fn expand(&self, word: &Word) -> Vec<Expanded> {
        let (mut words, mut current) = (Vec::new(), None::<Expanded>);
        for piece in &word.0 {
            match piece {
                Piece::Text(text) => current.get_or_insert_default().text.push_str(text),
                Piece::Unknown(written) => current.get_or_insert_default().add_unknown(written),
                Piece::Variable { name, default, written, quoted, each } => {
                    let values = match (self.known.get(name), default) {
                        (Some(values), _) => values.clone(),
                        (None, Some(default)) => vec![default.clone()],
                        (None, None) => {
                            let written = self.unknown.get(name).unwrap_or(written);
                            current.get_or_insert_default().add_unknown(written);
                            continue;
                        }
                    };
                    let parts: Vec<String> = match (quoted, each) {
                        (true, false) => vec![values.join(" ")],
                        (true, true) => values,
                        (false, _) => {
                            let split = values.iter().flat_map(|it| it.split_whitespace());
                            split.map(str::to_owned).collect()
                        }
                    };
                    for (index, part) in parts.iter().enumerate() {
                        if index > 0 {
                            words.extend(current.take());
                        }
                        current.get_or_insert_default().text.push_str(part);
                    }
                }
            }
        }
        words.extend(current);
        words
    }

    /// The one word that a word becomes where a shell splits nothing: behind `NAME=`.
    pub(super) fn expand_whole(&self, word: &Word) -> Expanded {
        let quoted = word.0.iter().cloned().map(|mut piece| {
            if let Piece::Variable { quoted, each, .. } = &mut piece {
                (*quoted, *each) = (true, false);
            }
            piece
        });
        self.expand(&Word(quoted.collect())).into_iter().next().unwrap_or_default()
    }
}

impl Expanded {
    fn add_unknown(&mut self, written: &str) {
        self.text.push_str(written);
        self.unknown.get_or_insert_with(|| written.to_owned());
    }
}

impl Word {
    /// `NAME=value`, as it stands before a command.
    pub(super) fn assignment(&self) -> Option<(&str, Word)> {
        let Some(Piece::Text(first)) = self.0.first() else { return None };
        let (name, rest) = first.split_once('=')?;
        if !is_name(name) {
            return None;
        }
        let rest = std::iter::once(Piece::Text(rest.to_owned()));
        Some((name, Word(rest.chain(self.0.get(1..)?.iter().cloned()).collect())))
    }

    /// What it is where no variable is part of it.
    pub(super) fn plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    fn push(&mut self, character: char) {
        match self.0.last_mut() {
            Some(Piece::Text(text)) => text.push(character),
            _ => self.0.push(Piece::Text(character.to_string())),
        }
    }

    /// An empty quoted word is a word too.
    fn begin(&mut self) {
        if self.0.is_empty() {
            self.0.push(Piece::Text(String::new()));
        }
    }
}

/// Whether a text can be the name of a variable.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Splits a text into words.
///
/// # Errors
/// `Kind::Unreadable` for a quote that is not closed.
pub(super) fn split(text: &str) -> Result<Vec<Token>, Failure> {
    let text = text.replace("\r\n", "\n");
    let mut splitter = Splitter {
        text: &text,
        rest: text.char_indices().peekable(),
        windows: is_of_windows(&text),
        tokens: vec![],
    };
    splitter.run()?;
    Ok(splitter.tokens)
}

/// Whether a text is for a shell in which a backslash is part of a path.
fn is_of_windows(text: &str) -> bool {
    let has_drive = || {
        text.as_bytes()
            .windows(3)
            .any(|it| matches!(it, [drive, b':', b'\\'] if drive.is_ascii_alphabetic()))
    };
    text.contains(" `\n") || text.contains(" ^\n") || has_drive()
}

struct Splitter<'t> {
    text: &'t str,
    rest: std::iter::Peekable<std::str::CharIndices<'t>>,
    windows: bool,
    tokens: Vec<Token>,
}

impl Splitter<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let mut word = Word::default();
        while let Some((at, character)) = self.rest.next() {
            match character {
                '`' | '^' if self.windows && self.next_is('\n') => {
                    self.rest.next();
                    self.end(&mut word);
                }
                '\\' => match self.rest.peek() {
                    // A line that goes on on the next.
                    Some((_, '\n')) => {
                        self.rest.next();
                    }
                    Some((_, escaped)) if !self.windows => {
                        word.push(*escaped);
                        self.rest.next();
                    }
                    _ => word.push('\\'),
                },
                '\'' => self.quoted(at, '\'', &mut word)?,
                '"' => self.quoted(at, '"', &mut word)?,
                '$' | '`' => self.variable(character, false, &mut word),
                '~' if word.0.is_empty() && self.ends_home() => word.0.push(home()),
                '#' if word.0.is_empty() => {
                    while self.rest.next_if(|(_, it)| *it != '\n').is_some() {}
                }
                '(' if self.begins_array(&word) => self.array(&mut word)?,
                '\n' if self.goes_on() => self.end(&mut word),
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
                    let is_stream = |it: &&str| it.bytes().all(|byte| byte.is_ascii_digit());
                    let mut sign = word.plain().filter(is_stream).unwrap_or_default().to_owned();
                    if !sign.is_empty() {
                        word = Word::default();
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

    /// Whether the line behind this end of a line begins with an option.
    fn goes_on(&self) -> bool {
        let mut behind = self.rest.clone().map(|(_, it)| it).skip_while(|it| it.is_whitespace());
        behind.next() == Some('-') && behind.next().is_some_and(|it| !it.is_whitespace())
    }

    /// Whether `~` alone, or `~/`, stands here: other people's homes are not known.
    fn ends_home(&mut self) -> bool {
        self.rest.peek().is_none_or(|(_, next)| *next == '/' || next.is_whitespace())
    }

    fn begins_array(&self, word: &Word) -> bool {
        word.plain()
            .and_then(|text| text.strip_suffix('='))
            .is_some_and(|name| is_name(name.strip_suffix('+').unwrap_or(name)))
    }

    /// The words up to the bracket that closes.
    fn array(&mut self, word: &mut Word) -> Result<(), Failure> {
        let named = std::mem::take(word);
        let name = named.plain().unwrap_or_default().trim_end_matches(['=', '+']).to_owned();
        let before = std::mem::take(&mut self.tokens);
        let outcome = self.array_words();
        let words = std::mem::replace(&mut self.tokens, before);
        outcome?;
        let only_words = |token| match token {
            Token::Word(word) => Some(word),
            _ => None,
        };
        self.tokens.push(Token::Array(name, words.into_iter().filter_map(only_words).collect()));
        Ok(())
    }

    fn array_words(&mut self) -> Result<(), Failure> {
        let mut word = Word::default();
        while let Some((at, character)) = self.rest.next() {
            match character {
                ')' => break,
                '\\' => match self.rest.next() {
                    Some((_, '\n')) | None => {}
                    Some((_, escaped)) => word.push(escaped),
                },
                '\'' | '"' => self.quoted(at, character, &mut word)?,
                '$' | '`' => self.variable(character, false, &mut word),
                '~' if word.0.is_empty() && self.ends_home() => word.0.push(home()),
                '#' if word.0.is_empty() => {
                    while self.rest.next_if(|(_, it)| *it != '\n').is_some() {}
                }
                blank if blank.is_whitespace() => self.end(&mut word),
                other => word.push(other),
            }
        }
        self.end(&mut word);
        Ok(())
    }

    fn end(&mut self, word: &mut Word) {
        let word = std::mem::take(word);
        if !word.0.is_empty() {
            self.tokens.push(Token::Word(word));
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

    fn quoted(&mut self, at: usize, quote: char, word: &mut Word) -> Result<(), Failure> {
        word.begin();
        while let Some((_, character)) = self.rest.next() {
            match character {
                _ if character == quote => return Ok(()),
                '\\' if quote == '"' && !self.windows => match self.rest.next() {
                    Some((_, '\n')) => {}
                    Some((_, escaped @ ('"' | '\\' | '$' | '`'))) => word.push(escaped),
                    Some((_, other)) => {
                        word.push('\\');
                        word.push(other);
                    }
                    None => {}
                },
                '$' | '`' if quote == '"' => self.variable(character, true, word),
                other => word.push(other),
            }
        }
        Err(unreadable(
            format!("the quote {quote} is not closed"),
            Some(At::of_byte(self.text, at)),
        ))
    }

    /// `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME[@]}`; all else only a shell knows.
    fn variable(&mut self, sign: char, quoted: bool, word: &mut Word) {
        if sign == '`' {
            return word.0.push(Piece::Unknown("`".to_owned()));
        }
        if self.next_is('(') {
            self.rest.next();
            let mut depth = 1;
            while depth > 0
                && let Some((_, next)) = self.rest.next()
            {
                depth += i32::from(next == '(') - i32::from(next == ')');
            }
            return word.0.push(Piece::Unknown("$(…)".to_owned()));
        }
        if let Some((_, special)) = self.rest.next_if(|(_, next)| "@*#?!$-".contains(*next)) {
            return word.0.push(Piece::Unknown(format!("${special}")));
        }
        let braced = self.next_is('{');
        if braced {
            self.rest.next();
        }
        let mut name = String::new();
        let is_name = |it: &(usize, char)| it.1.is_ascii_alphanumeric() || it.1 == '_';
        while let Some((_, next)) = self.rest.next_if(is_name) {
            name.push(next);
        }
        if !braced {
            return match name.as_str() {
                "" => word.push('$'),
                _ => word.0.push(Piece::variable(name, quoted)),
            };
        }
        let mut behind = String::new();
        while let Some((_, next)) = self.rest.next_if(|(_, next)| !['}', '\n'].contains(next)) {
            behind.push(next);
        }
        self.rest.next_if(|(_, next)| *next == '}');
        let written = format!("${{{name}{behind}}}");
        let default = behind.strip_prefix(":-").or_else(|| behind.strip_prefix('-'));
        let each = ["[@]", "[*]"].contains(&behind.as_str());
        word.0.push(match behind.as_str() {
            _ if name.is_empty() => Piece::Unknown(written),
            "" => Piece::Variable { name, default: None, written, quoted, each: false },
            // A default with more variables in it is a shell's work.
            _ if default.is_some_and(|it| !it.contains('$')) => {
                let default = default.map(str::to_owned);
                Piece::Variable { name, default, written, quoted, each: false }
            }
            _ if each => Piece::Variable { name, default: None, written, quoted, each },
            _ => Piece::Unknown(written),
        });
    }
}

impl Piece {
    fn variable(name: String, quoted: bool) -> Piece {
        let written = format!("${name}");
        Piece::Variable { name, default: None, written, quoted, each: false }
    }
}

/// `~`.
fn home() -> Piece {
    Piece::Variable {
        name: "HOME".to_owned(),
        default: None,
        written: "~".to_owned(),
        quoted: true,
        each: false,
    }
}
