//! Words as a shell splits them: quotes, continuations, comments, operators, variables. Pure.
//!
//! ```text
//!   text ──▶ Token: Word(pieces) | Array | Redirection | Separator ──▶ Variables::expand ──▶ Expanded
//! ```
//!
//! A line that begins with a dash goes on with the command before it: blocks of YAML have no
//! backslashes. So does one behind a line that ends as PowerShell (`` ` ``) or cmd (`^`) continue theirs;
//! in a text of theirs a backslash is one. Dashes and quotes that a word processor made are what was typed.
//! Nothing is run, and nothing but variables is expanded.

use crate::transfer::position::{At, unreadable};
use llamactl_protocol::Failure;
use std::collections::BTreeMap;
use std::path::Path;

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word, quotes taken off.
    Word(Word),
    /// `NAME=(words)`; `NAME+=(words)` adds to it.
    Array {
        /// The variable.
        name: String,
        /// What it is set to.
        words: Vec<Word>,
        /// Whether that is added to what it is.
        adds: bool,
    },
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
        default: Option<Word>,
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

/// The variables of a text: those it sets itself, and `HOME`. Of some it is known that only a shell
/// knows them.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables(BTreeMap<String, Vec<Expanded>>);

impl Variables {
    pub(super) fn of_home(home: Option<&Path>) -> Variables {
        let mut variables = Variables::default();
        if let Some(home) = home.and_then(Path::to_str) {
            variables.set("HOME", Expanded { text: home.to_owned(), unknown: None });
        }
        variables
    }

    pub(super) fn set(&mut self, name: &str, value: Expanded) {
        self.0.insert(name.to_owned(), vec![value]);
    }

    /// `NAME+=value`.
    pub(super) fn append(&mut self, name: &str, value: Expanded) {
        let mut whole = self.value(name).unwrap_or_default();
        whole.append(value);
        self.set(name, whole);
    }

    pub(super) fn set_array(&mut self, name: &str, mut values: Vec<Expanded>, adds: bool) {
        let there = self.0.entry(name.to_owned()).or_default();
        if !adds {
            there.clear();
        }
        there.append(&mut values);
    }

    /// What a variable is, joined where it is several.
    pub(super) fn value(&self, name: &str) -> Option<Expanded> {
        self.0.get(name).map(|values| joined(values))
    }

    /// The words that a word becomes: a variable outside quotes may be several, or none.
    pub(super) fn expand(&self, word: &Word) -> Vec<Expanded> {
        let (mut words, mut current) = (Vec::new(), None::<Expanded>);
        for piece in &word.0 {
            match piece {
                Piece::Text(text) => current.get_or_insert_default().text.push_str(text),
                Piece::Unknown(written) => current.get_or_insert_default().add_unknown(written),
                Piece::Variable { name, default, written, quoted, each } => {
                    let values = match (self.0.get(name), default) {
                        (Some(values), _) => values.clone(),
                        (None, Some(default)) => vec![self.expand_whole(default)],
                        (None, None) => {
                            current.get_or_insert_default().add_unknown(written);
                            continue;
                        }
                    };
                    let parts: Vec<Expanded> = match (quoted, each) {
                        (true, false) => vec![joined(&values)],
                        (true, true) => values,
                        (false, _) => values.into_iter().flat_map(Expanded::split).collect(),
                    };
                    for (index, part) in parts.into_iter().enumerate() {
                        if index > 0 {
                            words.extend(current.take());
                        }
                        current.get_or_insert_default().append(part);
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

/// Several values as one.
fn joined(values: &[Expanded]) -> Expanded {
    let text = values.iter().map(|it| it.text.as_str()).collect::<Vec<_>>().join(" ");
    Expanded { text, unknown: values.iter().find_map(|it| it.unknown.clone()) }
}

impl Expanded {
    fn append(&mut self, more: Expanded) {
        self.text.push_str(&more.text);
        self.unknown = self.unknown.take().or(more.unknown);
    }

    /// The words it is outside quotes; what only a shell knows may be any.
    fn split(self) -> Vec<Expanded> {
        if self.unknown.is_some() {
            return vec![self];
        }
        let word = |text: &str| Expanded { text: text.to_owned(), unknown: None };
        self.text.split_whitespace().map(word).collect()
    }

    fn add_unknown(&mut self, written: &str) {
        self.text.push_str(written);
        self.unknown.get_or_insert_with(|| written.to_owned());
    }
}

impl Word {
    /// `NAME=value`, as it stands before a command.
    pub(super) fn assignment(&self) -> Option<Assignment<'_>> {
        let Some(Piece::Text(first)) = self.0.first() else { return None };
        let (name, rest) = first.split_once('=')?;
        let bare = name.strip_suffix('+').unwrap_or(name);
        if !is_name(bare) {
            return None;
        }
        let rest = std::iter::once(Piece::Text(rest.to_owned()));
        let value = Word(rest.chain(self.0.get(1..)?.iter().cloned()).collect());
        Some(Assignment { name: bare, value, adds: bare != name })
    }

    /// The variable that it sets as PowerShell does, `$x = 1` or `$env:X="1"`; whether programs are given
    /// it; and its value, where that is part of the word.
    pub(super) fn target(&self) -> Option<(&str, bool, Option<Word>)> {
        let (first, rest) = self.0.split_first()?;
        let Piece::Variable { name, written, quoted: false, .. } = first else { return None };
        let value = match rest {
            [] => None,
            [Piece::Text(text), more @ ..] => {
                let text = Piece::Text(text.strip_prefix('=')?.to_owned());
                Some(Word(std::iter::once(text).chain(more.iter().cloned()).collect()))
            }
            _ => return None,
        };
        Some((name, written.starts_with("$env:"), value))
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

/// `NAME=value` or `NAME+=value`.
pub(super) struct Assignment<'w> {
    pub(super) name: &'w str,
    pub(super) value: Word,
    pub(super) adds: bool,
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
    let text = as_typed(text);
    let mut splitter = Splitter {
        text: &text,
        rest: text.char_indices().peekable(),
        windows: is_of_windows(&text),
        depth: 0,
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
    let is_windows_word = |word: &str| {
        let word = word.trim_matches(['"', '\'']).to_ascii_lowercase();
        word.ends_with(".exe") || word.starts_with(".\\") || word.starts_with("$env:")
    };
    text.contains(" `\n")
        || text.contains(" ^\n")
        || has_drive()
        || text.split_whitespace().any(is_windows_word)
}

/// A text as it was typed: without a terminal's prompts, the fences of Markdown, and what word processors
/// make of dashes and quotes.
fn as_typed(text: &str) -> String {
    let mut typed = String::with_capacity(text.len());
    let mut goes_on = false;
    // Where some quotes are as they were typed, the others are meant.
    let all_typeset = !text.contains(['"', '\'']);
    for line in text.replace("\r\n", "\n").split_inclusive('\n') {
        if line.starts_with("```") {
            continue;
        }
        let line = match line.strip_prefix("> ") {
            Some(line) if goes_on => line,
            _ => without_prompt(line),
        };
        goes_on = line.trim_end().ends_with('\\');
        let mut before = ' ';
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            let is_dash = (before.is_whitespace() || "—–−".contains(before))
                && characters
                    .peek()
                    .is_some_and(|next| next.is_alphanumeric() || "-—–−".contains(*next));
            match character {
                '—' if is_dash => typed.push_str("--"),
                '–' | '−' if is_dash => typed.push('-'),
                '“' | '”' | '„' if all_typeset => typed.push('"'),
                '‘' | '’' if all_typeset => typed.push('\''),
                '\u{a0}' => typed.push(' '),
                other => typed.push(other),
            }
            before = character;
        }
    }
    typed
}

/// A line without what a shell shows before it: `me@box:~$ `, `PS C:\llama> `, `C:\llama>`.
fn without_prompt(line: &str) -> &str {
    let ends = [("$ ", "@"), ("# ", "@"), ("% ", "@"), ("> ", "PS "), (">", ":\\")];
    let behind = ends.iter().find_map(|(end, part)| {
        let (prompt, behind) = line.split_once(end)?;
        let is_prompt = match *part {
            ":\\" => prompt.find(part) == Some(1) && !prompt.contains(".exe"),
            "PS " => prompt.starts_with(part),
            _ => prompt.split_whitespace().count() <= 2 && prompt.contains(part),
        };
        is_prompt.then_some(behind)
    });
    behind.unwrap_or(line)
}

struct Splitter<'t> {
    text: &'t str,
    rest: std::iter::Peekable<std::str::CharIndices<'t>>,
    windows: bool,
    /// How many braces stand around it.
    depth: usize,
    tokens: Vec<Token>,
}

/// How deep defaults of variables may stand in each other.
const MAX_DEPTH: usize = 4;

impl Splitter<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let mut word = Word::default();
        while let Some((at, character)) = self.rest.next() {
            match character {
                '`' | '^' if self.windows && self.next_is('\n') => {
                    self.rest.next();
                    self.end(&mut word);
                }
                // A line that goes on on the next, also where blanks were left behind the sign.
                '\\' if self.line_ends() => {
                    while self.rest.next().is_some_and(|(_, it)| it != '\n') {}
                }
                '\\' => match self.rest.peek() {
                    None if !self.windows => {}
                    Some((_, escaped)) if !self.windows => {
                        word.push(*escaped);
                        self.rest.next();
                    }
                    _ => word.push('\\'),
                },
                '\'' => self.quoted(at, '\'', &mut word)?,
                '"' => self.quoted(at, '"', &mut word)?,
                '$' | '`' | '%' => self.variable(character, false, &mut word),
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

    /// Whether nothing but blanks follows on this line, and another line after it.
    fn line_ends(&self) -> bool {
        let mut rest =
            self.rest.clone().map(|(_, it)| it).skip_while(|it| [' ', '\t'].contains(it));
        rest.next() == Some('\n')
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
        let name = named.plain().unwrap_or_default().trim_end_matches('=');
        let (name, adds) = name.strip_suffix('+').map_or((name, false), |bare| (bare, true));
        let before = std::mem::take(&mut self.tokens);
        let outcome = self.array_words();
        let words = std::mem::replace(&mut self.tokens, before);
        outcome?;
        let only_words = |token| match token {
            Token::Word(word) => Some(word),
            _ => None,
        };
        let words = words.into_iter().filter_map(only_words).collect();
        self.tokens.push(Token::Array { name: name.to_owned(), words, adds });
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
                '$' | '`' | '%' => self.variable(character, false, &mut word),
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
        let mut word = std::mem::take(word);
        if self.windows
            && let Some(Piece::Text(text)) = word.0.first_mut()
            && (text.starts_with(".\\") || text.starts_with("..\\"))
        {
            *text = text.replace('\\', "/");
        }
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
                '$' | '`' | '%' if quote == '"' => self.variable(character, true, word),
                other => word.push(other),
            }
        }
        Err(unreadable(
            format!("the quote {quote} is not closed"),
            Some(At::of_byte(self.text, at)),
        ))
    }

    /// `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME[@]}`, `$env:NAME`, cmd's `%NAME%`; all else only a
    /// shell knows. A comment between backticks is none of a command's words.
    fn variable(&mut self, sign: char, quoted: bool, word: &mut Word) {
        if sign == '%' {
            let name = self.windows.then(|| self.up_to('%')).flatten().filter(|name| is_name(name));
            return match name {
                Some(name) => {
                    let written = format!("%{name}%");
                    self.rest.nth(name.len());
                    word.0.push(Piece::Variable {
                        name,
                        default: None,
                        written,
                        quoted,
                        each: false,
                    });
                }
                None => word.push('%'),
            };
        }
        if sign == '`' {
            let inner = self.up_to('`').filter(|_| !self.windows);
            if let Some(inner) = &inner {
                self.rest.nth(inner.chars().count());
            }
            return match inner {
                Some(comment) if comment.starts_with('#') => {}
                Some(command) => word.0.push(Piece::Unknown(format!("`{command}`"))),
                None => word.0.push(Piece::Unknown("`".to_owned())),
            };
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
        if !braced && name == "env" && self.next_is(':') {
            self.rest.next();
            let mut name = String::new();
            while let Some((_, next)) = self.rest.next_if(is_name) {
                name.push(next);
            }
            let written = format!("$env:{name}");
            return word.0.push(Piece::Variable {
                name,
                default: None,
                written,
                quoted,
                each: false,
            });
        }
        if !braced {
            return match name.as_str() {
                "" => word.push('$'),
                _ => word.0.push(Piece::variable(name, quoted)),
            };
        }
        let (mut behind, mut depth) = (String::new(), 1);
        while let Some((_, next)) = self.rest.next_if(|(_, next)| *next != '\n') {
            depth += i32::from(next == '{') - i32::from(next == '}');
            if depth == 0 {
                break;
            }
            behind.push(next);
        }
        let written = format!("${{{name}{behind}}}");
        let default = [":-", "-", ":=", "="].iter().find_map(|sign| behind.strip_prefix(sign));
        let default = default.filter(|_| self.depth < MAX_DEPTH).map(|text| self.inner(text));
        let each = ["[@]", "[*]"].contains(&behind.as_str());
        word.0.push(match behind.as_str() {
            _ if name.is_empty() => Piece::Unknown(written),
            _ if behind.is_empty() || default.is_some() || each => {
                Piece::Variable { name, default, written, quoted, each }
            }
            _ => Piece::Unknown(written),
        });
    }

    /// What follows up to a sign on this line, which is not taken.
    fn up_to(&self, sign: char) -> Option<String> {
        let mut found = String::new();
        for (_, next) in self.rest.clone() {
            match next {
                '\n' => return None,
                _ if next == sign => return Some(found),
                _ => found.push(next),
            }
        }
        None
    }

    /// A text within braces as one word.
    fn inner(&self, text: &str) -> Word {
        let rest = text.char_indices().peekable();
        let (windows, depth) = (self.windows, self.depth + 1);
        let mut inner = Splitter { text, rest, windows, depth, tokens: vec![] };
        let mut word = Word(vec![Piece::Text(String::new())]);
        while let Some((_, character)) = inner.rest.next() {
            match character {
                '"' => {}
                '$' | '`' => inner.variable(character, true, &mut word),
                other => word.push(other),
            }
        }
        word
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
