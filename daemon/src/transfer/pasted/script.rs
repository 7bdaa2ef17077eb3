//! The commands of a script that run a llama-server, with what is set before them put in. Pure.
//!
//! ```text
//!   cd /m ─▶ base     N=5 ─▶ known     export A=1 ─▶ exported
//!   llama-server -c $N ─▶ Command { A=1, llama-server -c 5, in /m }
//! ```

use super::program::{self, is_server};
use super::shell::{self, Expanded, Token, Variables};
use super::unexpanded;
use crate::transfer::omissions::Omissions;
use llamactl_protocol::Failure;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How deep a command may stand in the quotes of others.
const MAX_DEPTH: usize = 3;

/// What a shell's language puts before and behind commands.
const KEYWORDS: &[&str] =
    &["{", "}", "do", "done", "then", "else", "fi", "!", "if", "while", "until"];

/// What sets variables of a shell.
const SETTERS: &[&str] = &["export", "set", "declare", "typeset", "local", "readonly"];

/// A command, with what was exported to it and the directory that it runs in.
#[derive(Debug, Default)]
pub(super) struct Command {
    pub(super) exported: Vec<(String, Expanded)>,
    pub(super) words: Vec<Expanded>,
    pub(super) base: PathBuf,
}

/// Those of a text's commands that run a llama-server, or the one that seems to. Redirections and other
/// commands are left out. A text that only sets variables is one for a llama-server that is given them.
///
/// # Errors
/// A quote that is not closed.
pub(super) fn commands(
    text: &str,
    known: &mut Variables,
    base: &Path,
    left_out: &mut Omissions,
) -> Result<Vec<Command>, Failure> {
    within(text, known, base, left_out, 0)
}

fn within(
    text: &str,
    known: &mut Variables,
    base: &Path,
    left_out: &mut Omissions,
    depth: usize,
) -> Result<Vec<Command>, Failure> {
    let mut base = base.to_owned();
    let mut commands: Vec<Command> = Vec::new();
    let mut set = Set::default();
    let tokens = shell::split(text)?;
    for tokens in tokens.split(|token| *token == Token::Separator) {
        let tokens = without_keywords(tokens);
        if tokens.is_empty() || sets_variables(tokens, known, &mut set) {
            continue;
        }
        let words = words(tokens, known, left_out);
        if let [command, directory] = words.as_slice()
            && ["cd", "pushd"].contains(&command.text.as_str())
        {
            match &directory.unknown {
                None => base.push(&directory.text),
                Some(of_shell) => {
                    left_out.add(format!("cd {}", directory.text), unexpanded(of_shell));
                }
            }
            continue;
        }
        let exported = values(&set.exported, known);
        commands.push(Command { exported, words, base: base.clone() });
    }
    if commands.is_empty() {
        return Ok(vec![Command { exported: values(&set.all, known), words: vec![], base }]);
    }
    let runs = |command: &Command| program::server_at(&command.words).is_some();
    if !commands.iter().any(runs)
        && depth < MAX_DEPTH
        && let Some((runner, inner)) = in_quotes(commands.iter().map(|it| it.words.as_slice()))
    {
        left_out.add(runner, "llamactl starts llama-server itself");
        return within(&inner, known, &base, left_out, depth + 1);
    }
    let seems = [names_model, has_options];
    let seeming = seems.iter().find_map(|seems| commands.iter().position(seems)).unwrap_or(0);
    let seeming = (!commands.iter().any(runs)).then_some(seeming);
    let mut chosen = Vec::new();
    for (index, command) in commands.into_iter().enumerate() {
        if seeming.map_or_else(|| runs(&command), |seeming| seeming == index) {
            chosen.push(command);
        } else if let Some(first) = command.words.first() {
            let what = format!("the command {} …", first.text);
            left_out.add(what, "only llama-server's own is taken in");
        }
    }
    Ok(chosen)
}

/// A command that another one is given as one word, `bash -c "llama-server …"`; with that one's name.
pub(super) fn in_quotes<'w>(
    mut commands: impl Iterator<Item = &'w [Expanded]>,
) -> Option<(String, String)> {
    const ENDS: [char; 9] = [' ', '\n', '\t', ';', '&', '|', '\'', '"', '='];
    commands.find_map(|words| {
        let inner = words.iter().find(|word| {
            word.text.contains(char::is_whitespace) && word.text.split(ENDS).any(is_server)
        })?;
        // `alias NAME='llama-server …'`.
        let text = match inner.text.split_once('=') {
            Some((name, text)) if shell::is_name(&name.replace('-', "_")) => text,
            _ => inner.text.as_str(),
        };
        Some((words.first()?.text.clone(), text.to_owned()))
    })
}

fn names_model(command: &Command) -> bool {
    let of_model = |text: &str| ["-m", "--model"].contains(&text) || text.starts_with("--model=");
    command.words.iter().any(|word| of_model(&word.text))
}

fn has_options(command: &Command) -> bool {
    command.words.iter().any(|word| word.text.starts_with('-'))
}

fn without_keywords(mut tokens: &[Token]) -> &[Token] {
    let is_keyword = |token: &Token| match token {
        Token::Word(word) => word.plain().is_some_and(|it| KEYWORDS.contains(&it)),
        _ => false,
    };
    while let [first, rest @ ..] = tokens
        && is_keyword(first)
    {
        tokens = rest;
    }
    match tokens {
        [before @ .., Token::Word(last)] if last.plain() == Some("}") => before,
        _ => tokens,
    }
}

/// The words of a command, variables put in.
fn words(tokens: &[Token], known: &Variables, left_out: &mut Omissions) -> Vec<Expanded> {
    let mut words = Vec::new();
    let mut tokens = tokens.iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            // Nothing is split behind `NAME=`.
            Token::Word(word) if word.assignment().is_some() => {
                words.push(known.expand_whole(word));
            }
            Token::Word(word) => words.extend(known.expand(word)),
            Token::Redirection(sign) => {
                let target = tokens.next_if(|next| matches!(next, Token::Word(_)));
                let target = match target {
                    Some(Token::Word(word)) => format!(" {}", known.expand_whole(word).text),
                    _ => String::new(),
                };
                let reason = "llamactl keeps the logs itself: llamactl logs NAME shows them";
                left_out.add(format!("{sign}{target}"), reason);
            }
            Token::Array { .. } | Token::Separator => {}
        }
    }
    words
}

/// The variables that a text set up to here.
#[derive(Default)]
struct Set {
    all: BTreeSet<String>,
    /// Those that programs are given.
    exported: BTreeSet<String>,
}

fn values(names: &BTreeSet<String>, known: &Variables) -> Vec<(String, Expanded)> {
    names.iter().filter_map(|name| Some((name.clone(), known.value(name)?))).collect()
}

/// Whether a command sets variables and does nothing else; then they are known from here on.
fn sets_variables(tokens: &[Token], known: &mut Variables, set: &mut Set) -> bool {
    // PowerShell: `$NAME = value`.
    if let [Token::Word(target), rest @ ..] = tokens
        && let Some((name, is_given, value)) = target.target()
    {
        let value = match (value, rest) {
            (Some(value), []) => known.expand_whole(&value),
            (None, [Token::Word(equals), Token::Word(value)]) if equals.plain() == Some("=") => {
                known.expand_whole(value)
            }
            _ => return false,
        };
        known.set(name, value);
        set.add(name, is_given);
        return true;
    }
    let plain = |token: &Token| match token {
        Token::Word(word) => word.plain().map(str::to_owned),
        _ => None,
    };
    let setter = tokens.first().and_then(plain).filter(|it| SETTERS.contains(&it.as_str()));
    let setter = setter.as_deref().unwrap_or_default();
    let is_option = |token: &&Token| plain(token).is_some_and(|it| it.starts_with('-'));
    let rest = tokens.get(usize::from(!setter.is_empty())..).unwrap_or_default();
    let options = if setter.is_empty() { 0 } else { rest.iter().take_while(is_option).count() };
    let (options, rest) = rest.split_at(options);
    let exports = |option: &Token| plain(option).is_some_and(|it| it.contains('x'));
    let is_export = setter == "export" || options.iter().any(exports);
    // fish: `set -x NAME value`.
    if setter == "set"
        && let [first, values @ ..] = rest
        && let Some(name) = plain(first).filter(|name| shell::is_name(name))
        && !values.is_empty()
    {
        let values = values.iter().filter_map(|it| match it {
            Token::Word(word) => Some(known.expand(word)),
            _ => None,
        });
        let values = values.flatten().collect();
        known.set_array(&name, values, false);
        set.add(&name, is_export);
        return true;
    }
    // cmd's `set NAME=value` is an export.
    let is_export = is_export || (setter == "set" && options.is_empty());
    let sets = |token: &Token| match token {
        Token::Array { .. } => true,
        Token::Word(word) => {
            let names = || word.plain().is_some_and(shell::is_name);
            word.assignment().is_some() || (!["", "set"].contains(&setter) && names())
        }
        _ => false,
    };
    if rest.is_empty() || !rest.iter().all(sets) {
        return false;
    }
    for token in rest {
        let name = match token {
            Token::Array { name, words, adds } => {
                let values = words.iter().flat_map(|word| known.expand(word)).collect();
                known.set_array(name, values, *adds);
                name.clone()
            }
            Token::Word(word) => match word.assignment() {
                Some(it) => {
                    let value = known.expand_whole(&it.value);
                    if it.adds {
                        known.append(it.name, value);
                    } else {
                        known.set(it.name, value);
                    }
                    it.name.to_owned()
                }
                None => word.plain().unwrap_or_default().to_owned(),
            },
            _ => continue,
        };
        set.add(&name, is_export);
    }
    true
}

impl Set {
    fn add(&mut self, name: &str, is_exported: bool) {
        self.all.insert(name.to_owned());
        if is_exported {
            self.exported.insert(name.to_owned());
        }
    }
}
