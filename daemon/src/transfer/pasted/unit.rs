//! A systemd unit: its command and what belongs to it. Pure; systemd.exec(5), systemd.service(5).
//!
//! ```text
//!   Environment="A=1" B=2 ─▶ variables     ExecStart=-/usr/bin/llama-server -m %h/x.gguf ─▶ words
//! ```
//!
//! One of podman's says the same as a `podman run`, and one of supervisord's has other keys.

use super::shell::{self, Expanded, Token, Variables};
use crate::transfer::omissions::Omissions;
use llamactl_protocol::Failure;
use std::path::Path;

/// What a unit says of a process.
#[derive(Debug, Default)]
pub(super) struct Unit {
    pub(super) variables: Vec<(String, Expanded)>,
    pub(super) words: Vec<Expanded>,
    /// Where relative paths begin.
    pub(super) directory: Option<String>,
}

/// What stands for nothing in a unit that says nothing of what is run.
const SILENT: &[&str] = &["Type", "Description", "Documentation", "SyslogIdentifier"];

/// Whether a text is a unit, or a line of one.
pub(in crate::transfer) fn is_unit(text: &str) -> bool {
    text.lines().map(str::trim_start).any(|line| {
        line.starts_with("ExecStart=")
            || line.starts_with("[Container]")
            || line.starts_with("[program:")
    })
}

/// Reads a unit.
///
/// # Errors
/// A quote that is not closed.
pub(super) fn read(
    text: &str,
    home: Option<&Path>,
    left_out: &mut Omissions,
) -> Result<Unit, Failure> {
    let mut unit = Unit::default();
    let mut of_service = true;
    let mut container = Vec::new();
    let mut known = Variables::default();
    let mut command = String::new();
    // Comments stand between the lines of a command, too.
    let text: String = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']))
        .map(|line| {
            line.strip_suffix('\\').map_or_else(|| format!("{line}\n"), |it| format!("{it} "))
        })
        .collect();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(section) = line.strip_prefix('[') {
            let sections = ["Service]", "Container]", "program:"];
            of_service = sections.iter().any(|it| section.starts_with(it));
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| of_service) else { continue };
        match (key.trim(), value.trim()) {
            // An empty one takes back those before it.
            ("Environment", "") => unit.variables.clear(),
            ("Environment", value) => {
                for word in words(value, home, &Variables::default())? {
                    if let Some((name, value)) = word.text.split_once('=') {
                        let value =
                            Expanded { text: value.to_owned(), unknown: word.unknown.clone() };
                        known.set(name, value.clone());
                        unit.variables.push((name.to_owned(), value));
                    }
                }
            }
            ("ExecStart", value) => {
                let signs = ['@', '-', ':', '+', '!', '|'];
                value.trim_start_matches(signs).clone_into(&mut command);
            }
            ("Exec" | "command", value) => value.clone_into(&mut command),
            ("Image", image) => container.push(image.to_owned()),
            ("Volume", volume) => container.splice(..0, ["-v".to_owned(), volume.to_owned()]).for_each(drop),
            ("environment", value) => {
                for pair in value.split(',').filter_map(|pair| pair.split_once('=')) {
                    let text = pair.1.trim_matches(['"', '\'']).to_owned();
                    unit.variables.push((pair.0.trim().to_owned(), Expanded { text, unknown: None }));
                }
            }
            ("EnvironmentFile", file) => left_out.add(
                format!("EnvironmentFile={file}"),
                "its variables are not read: llamactl model import --format command FILE reads such a \
                 file, llamactl model set NAME env.VARIABLE=… sets one",
            ),
            ("WorkingDirectory" | "directory", value) => {
                let word = words(value.trim_start_matches('-'), home, &known)?.into_iter().next();
                unit.directory = word.filter(|it| it.unknown.is_none()).map(|it| it.text);
            }
            (key, _) if SILENT.contains(&key) => {}
            (key, value) => left_out.add(
                format!("{key}={value}"),
                "it is for systemd; llamactl looks after the server itself, see llamactl help \
                 settings llamactl",
            ),
        }
    }
    unit.words = words(&command, home, &known)?;
    if !container.is_empty() {
        let run = ["podman".to_owned(), "run".to_owned()].into_iter().chain(container);
        let run = run.map(|text| specified(Expanded { text, unknown: None }, home));
        unit.words = run.chain(unit.words).collect();
    }
    Ok(unit)
}

/// The words of a value: quotes and variables as a shell has them, operators that are none, and what
/// only the manager of units knows behind `%`.
fn words(value: &str, home: Option<&Path>, known: &Variables) -> Result<Vec<Expanded>, Failure> {
    // Signs that are operators in a shell are letters here.
    let mut escaped = String::new();
    let mut quote = None;
    for character in value.chars() {
        match (quote, character) {
            (None, ';' | '|' | '&' | '(' | ')' | '<' | '>' | '#' | '~' | '`') => escaped.push('\\'),
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
        escaped.push(character);
    }
    let words = shell::split(&escaped)?.into_iter().filter_map(|token| match token {
        Token::Word(word) => Some(known.expand(&word)),
        _ => None,
    });
    Ok(words.flatten().map(|word| specified(word, home)).collect())
}

/// A word with its specifiers put in: `%h` is the home directory, `%%` a per cent sign.
fn specified(word: Expanded, home: Option<&Path>) -> Expanded {
    let Expanded { text, mut unknown } = word;
    let mut specified = String::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            specified.push(character);
            continue;
        }
        match (rest.next(), home.and_then(Path::to_str)) {
            (Some('%'), _) => specified.push('%'),
            (Some('h'), Some(home)) => specified.push_str(home),
            (Some(other), _) => {
                specified.extend(['%', other]);
                unknown.get_or_insert_with(|| format!("%{other}"));
            }
            (None, _) => specified.push('%'),
        }
    }
    Expanded { text: specified, unknown }
}
