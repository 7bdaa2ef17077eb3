//! What a command prints, kept and compared: a snapshot test of a screen.
//!
//! ```text
//!   a function that prints an answer ─▶ at a terminal of 80 columns ─╮
//!                                    ╰▶ in a pipe ───────────────────┴▶ cli/snapshots/NAME.snap
//! ```
//!
//! The answer is a value the test made, times are in UTC and nothing is painted, so that a screen
//! depends on nothing but the code. What a terminal mixes is kept mixed: stderr stands between the
//! lines of stdout where a person would see it.

use super::look::Look;
use super::screens::is_listed;
use super::stderr::Stderr;
use super::width::width;
use super::{Kept, Output};
use crate::commands::scene;
use crate::exit::{Outcome, conclude};
use std::cell::{Cell, RefCell};
use std::io::{BufWriter, Write};
use std::path::Path;

/// The columns of the terminal.
pub(crate) const COLUMNS: usize = 80;

/// The moment of every screen, in Unix milliseconds: 2026-01-31 12:00:00 UTC.
pub(crate) const NOW_MS: i64 = 1_769_860_800_000;

/// Fails unless `show` prints what the snapshot `name` says it prints, at every width, with and without
/// UTF-8, in full, with the nastiest names and in a pipe. No line is wider than its terminal.
pub(crate) fn assert_screen(name: &str, show: impl Fn(&mut Output) -> Outcome) {
    fits(name, &show);
    scene::with_nasty_names(|| fits(name, &show));
    let at = |columns| Look { columns: Some(columns), ..TERMINAL };
    let mut seen_at: Vec<(String, String)> = Vec::new();
    let mut take = |place: &str, text: String| match seen_at.iter_mut().find(|it| it.1 == text) {
        Some((places, _)) => places.push_str(&format!("; {place}")),
        None => seen_at.push((place.to_owned(), text)),
    };
    for columns in WIDTHS {
        take(&format!("{columns} columns"), seen(&show, &at(columns)));
    }
    take("without UTF-8", seen(&show, &Look { unicode: false, ..TERMINAL }));
    take("--full", seen(&show, &Look { full: true, ..TERMINAL }));
    let mut nasty = String::new();
    scene::with_nasty_names(|| nasty = seen(&show, &TERMINAL));
    take("the nastiest names", nasty);
    take("a pipe", in_pipe(&show));
    let text = match seen_at.as_slice() {
        [(_, text)] => text.clone(),
        several => several.iter().map(|(places, text)| format!("== {places}\n{text}\n")).collect(),
    };
    assert_text(name, text.trim_end_matches('\n'));
}

/// The widths that terminals have.
const WIDTHS: [usize; 4] = [60, COLUMNS, 120, 200];

/// The same of what is as wide as it is: lines of a log, a command line, what a model says, CSV. At a
/// terminal and in a pipe.
pub(crate) fn assert_lines(name: &str, show: impl Fn(&mut Output) -> Outcome) {
    let terminal = seen(&show, &TERMINAL);
    let piped = in_pipe(&show);
    let text = if terminal == piped {
        piped
    } else {
        format!("== {COLUMNS} columns\n{terminal}\n== a pipe\n{piped}")
    };
    assert_text(name, &text);
}

fn fits(name: &str, show: &impl Fn(&mut Output) -> Outcome) {
    for (columns, unicode) in
        WIDTHS.into_iter().flat_map(|columns| [(columns, true), (columns, false)])
    {
        let shown = seen(show, &Look { columns: Some(columns), unicode, ..TERMINAL });
        for line in shown.lines() {
            // A name, a path or an address is not broken.
            let is_free = is_command(line) || !line.trim().contains(' ');
            assert!(is_free || width(line) <= columns, "{name}: wider than {columns}: {line}");
            assert!(!line.contains(char::is_control), "{name}: {line:?}");
            assert!(
                unicode || line.chars().all(|it| it.is_ascii() || it.is_alphabetic()),
                "{name}: {line}"
            );
        }
    }
}

/// Whether the line holds nothing but a command.
fn is_command(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.rsplit_once(": ").map_or(line, |(_, command)| command);
    ["llamactl ", "curl ", "sudo ", "kill ", "loginctl "]
        .iter()
        .any(|program| line.starts_with(program))
}

/// A terminal of the usual width.
const TERMINAL: Look = Look {
    terminal: true,
    columns: Some(COLUMNS),
    rows: None,
    colour: false,
    unicode: true,
    full: false,
};

/// A pipe.
pub(crate) const PIPE: Look =
    Look { terminal: false, columns: None, rows: None, colour: false, unicode: true, full: false };

/// Fails unless `docs/NAME` says `text`; where `UPDATE_DOCS` asks for it, it does from then on.
pub(crate) fn assert_document(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "docs/{name} is not what the code says; write it anew with UPDATE_DOCS=1 tests/run docs"
    );
}

/// Fails unless the snapshot `name` says `text`.
pub(crate) fn assert_text(name: &str, text: &str) {
    assert!(is_listed(name), "{name} is in no line of output/screens.rs");
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path("../../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// What is seen where both streams are the terminal.
fn seen(show: &impl Fn(&mut Output) -> Outcome, look: &Look) -> String {
    let both = Kept::default();
    let status = print(show, look, &both, &both);
    both.text() + &ended(status)
}

/// What a pipe gets, and behind it what stderr got where that is none either.
fn in_pipe(show: &impl Fn(&mut Output) -> Outcome) -> String {
    let (stdout, stderr) = (Kept::default(), Kept::default());
    let status = print(show, &PIPE, &stdout, &stderr);
    let said = stderr.text();
    let heading = if said.is_empty() || stdout.text().is_empty() { "" } else { "-- stderr\n" };
    stdout.text() + heading + &said + &ended(status)
}

fn ended(status: u8) -> String {
    if status == 0 { String::new() } else { format!("-- exit {status}\n") }
}

fn print(show: &impl Fn(&mut Output) -> Outcome, look: &Look, stdout: &Kept, stderr: &Kept) -> u8 {
    let sink = RefCell::new(Box::new(stderr.clone()) as Box<dyn Write>);
    let mut output = Output {
        json: false,
        quiet: false,
        look: *look,
        stdout: BufWriter::new(Box::new(stdout.clone())),
        stderr: Stderr { look: *look, sink, block: Cell::new(0) },
    };
    let outcome = show(&mut output);
    conclude(&mut output, outcome)
}
