//! Everything that is printed goes through here.
//!
//! ```text
//!   what was asked for ──▶ Output ──▶ stdout   table, names (-q) or one JSON object per line
//!   everything else ─────▶ error, warning, note, hint, progress ──▶ stderr
//! ```
//!
//! A terminal never gets a control character that came from elsewhere. A reader that closes its
//! end of the pipe has had enough: that is success. `-q` silences all but errors, `--json` what is not told as data.

pub(crate) mod cells;
mod corrected;
pub(crate) mod facts;
pub(crate) mod hangup;
pub(crate) mod look;
pub(crate) mod rows;
pub(crate) mod sanitize;
#[cfg(test)]
pub(crate) mod screen;
#[cfg(test)]
mod screens;
mod stderr;
pub(crate) mod stdout;
pub(crate) mod styled;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod units;
pub(crate) mod width;

use crate::args::Cli;
use crate::exit::{Outcome, Quit};
use crate::remote;
use clap::Parser as _;
use corrected::corrected;
use facts::Facts;
use llamactl_protocol::prose::clause;
use llamactl_protocol::warning::{Level, Warning};
use llamactl_protocol::{Failure, Hint, Kind};
pub(crate) use look::Look;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::io::{self, BufWriter, Write};
use std::rc::Rc;
pub(crate) use stderr::silence_asides;
use stderr::{Label, Stderr};
use styled::{DIM, Styled};
use table::Table;

/// When to paint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColourChoice {
    /// At a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// In a pipe too, whatever NO_COLOR says.
    Always,
    /// Not even at a terminal.
    Never,
}

/// How the command line asked for output.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Format {
    /// `--json`: one JSON object per line.
    pub(crate) json: bool,
    /// `-q`: names and nothing else, one per line.
    pub(crate) quiet: bool,
    /// `--full`: everything, and whole.
    pub(crate) full: bool,
    /// `--color`: when to paint.
    pub(crate) colour: ColourChoice,
}

/// Stdout and stderr, and what is known of them.
pub(crate) struct Output {
    /// Whether programs are to get one JSON object per line (`--json`).
    pub(crate) json: bool,
    /// Whether only names are wanted (`-q`).
    pub(crate) quiet: bool,
    /// What is known of the reader of stdout.
    pub(crate) look: Look,
    stdout: BufWriter<Box<dyn Write>>,
    stderr: Stderr,
}

/// Says on stderr what is worth knowing.
pub(crate) fn note(text: impl Into<Styled>) {
    Stderr::usual().say(Label::Note, text.into());
}

/// Says on stderr what is waited for: at a terminal until it is dropped, elsewhere as a note, if
/// `always`.
pub(crate) fn awaited(what: &str, always: bool) -> Awaited {
    let stderr = Stderr::usual();
    if stderr.look.terminal {
        stderr.progress(&[format!("note: {what}")]);
    } else if always {
        stderr.say(Label::Note, what.into());
    }
    Awaited(stderr)
}

/// A line on a terminal that goes again.
pub(crate) struct Awaited(Stderr);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// What was written, for whoever holds a clone.
#[derive(Clone, Default)]
struct Kept(Rc<RefCell<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow()).into_owned()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    /// What is printed for this reader on stdout, as text.
    pub(crate) fn text(look: Look, show: impl FnOnce(&mut Output) -> Outcome) -> String {
        let kept = Kept::default();
        let sink = RefCell::new(Box::new(io::sink()) as Box<dyn Write>);
        let mut output = Output {
            json: false,
            quiet: false,
            look,
            stdout: BufWriter::new(Box::new(kept.clone())),
            stderr: Stderr { look, sink, block: Cell::new(0) },
        };
        // Nothing that is written to memory fails.
        let _ = show(&mut output).and_then(|()| output.flush());
        kept.text()
    }

    /// Stdout, with what was asked for.
    pub(crate) fn new(format: Format) -> Self {
        Output {
            json: format.json,
            quiet: format.quiet,
            look: Look::of(io::stdout(), format.colour, format.full),
            stdout: BufWriter::with_capacity(64 * 1024, stdout::stdout()),
            stderr: Stderr::of(format),
        }
    }

    /// Whether a person reads stdout.
    pub(crate) fn at_terminal(&self) -> bool {
        self.look.terminal
    }

    /// Whether people read this: neither `--json` nor `-q`.
    pub(crate) fn for_people(&self) -> bool {
        !self.json && !self.quiet
    }

    /// Whether progress can be shown: a person looks at stderr.
    pub(crate) fn shows_progress(&self) -> bool {
        self.stderr.look.terminal && self.for_people()
    }

    /// Prints a line and flushes.
    pub(crate) fn line(&mut self, text: impl Into<Styled>) -> Result<(), Quit> {
        self.line_unflushed(text)?;
        self.flush()
    }

    /// Says on stdout what was done: at a terminal wrapped. Flushes.
    pub(crate) fn told(&mut self, text: impl Into<Styled>) -> Result<(), Quit> {
        self.prose(0, text)?;
        self.flush()
    }

    /// Prints a line; a stream flushes when it has to wait for the next.
    pub(crate) fn line_unflushed(&mut self, text: impl Into<Styled>) -> Result<(), Quit> {
        let line = text.into().render(&self.look) + "\n";
        Ok(self.write(&line)?)
    }

    /// Prints a log line: at a terminal cut at its end, so that it is one line.
    pub(crate) fn log_line(&mut self, text: Styled) -> Result<(), Quit> {
        let line = text.render_cut(&self.look) + "\n";
        Ok(self.write(&line)?)
    }

    /// Prints an entry of a list of what happened: its text wrapped beneath its beginning.
    pub(crate) fn entry(&mut self, head: Styled, text: Styled) -> Result<(), Quit> {
        let indent = width::width(&head.plain_text(&self.look));
        let text = text.on_one_line().render_wrapped(&self.look, indent, None);
        let head = head.render(&self.look);
        Ok(self.write(&format!("{head}{text}\n"))?)
    }

    /// Prints prose: at a terminal wrapped, each line `indent` columns to the right.
    pub(crate) fn prose(&mut self, indent: usize, text: impl Into<Styled>) -> Result<(), Quit> {
        let text = text.into().on_one_line().render_wrapped(&self.look, indent, None);
        Ok(self.write(&format!("{}{text}\n", " ".repeat(indent)))?)
    }

    /// Prints facts.
    pub(crate) fn facts(&mut self, facts: Facts) -> Result<(), Quit> {
        facts.hints().for_each(check);
        let text = facts.render(&self.look);
        Ok(self.write(&text)?)
    }

    /// Below what progress there is: that is taken away first.
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.stderr.clear();
        self.stdout.write_all(text.as_bytes())
    }

    /// Prints lines and flushes behind the last.
    pub(crate) fn lines<T: Into<Styled>>(
        &mut self,
        lines: impl IntoIterator<Item = T>,
    ) -> Result<(), Quit> {
        lines.into_iter().try_for_each(|line| self.line_unflushed(line))?;
        self.flush()
    }

    /// Prints a piece of text without a line end and flushes.
    pub(crate) fn piece(&mut self, text: &str) -> Result<(), Quit> {
        let text = self.look.fit(text).into_owned();
        self.write(&text)?;
        self.flush()
    }

    /// Prints bytes made by this program, as they are, and flushes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Quit> {
        self.stderr.clear();
        self.stdout.write_all(bytes)?;
        self.flush()
    }

    /// Prints one JSON object on one line; JSON escapes control characters itself.
    pub(crate) fn json(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Quit> {
        self.json_unflushed(value)?;
        self.flush()
    }

    /// The same without flushing.
    pub(crate) fn json_unflushed(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Quit> {
        let mut text = serde_json::to_string(value).map_err(io::Error::from)?;
        if self.look.terminal {
            text = escape_for_terminal(text);
        }
        text.push('\n');
        Ok(self.write(&text)?)
    }

    /// Prints one JSON object on several lines, for people.
    pub(crate) fn json_pretty(&mut self, value: &impl Serialize) -> Result<(), Quit> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
        self.line(text)
    }

    /// Prints one JSON object per item.
    pub(crate) fn json_lines<T: Serialize>(&mut self, items: &[T]) -> Result<(), Quit> {
        items.iter().try_for_each(|item| self.json_unflushed(item))?;
        self.flush()
    }

    /// Prints one name per line.
    pub(crate) fn names<T: AsRef<str>>(
        &mut self,
        names: impl IntoIterator<Item = T>,
    ) -> Result<(), Quit> {
        names.into_iter().try_for_each(|name| self.line_unflushed(name.as_ref()))?;
        self.flush()
    }

    /// Prints a table; one without rows prints nothing.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Quit> {
        let text = table.render(&self.look);
        self.bytes(text.as_bytes())
    }

    /// Hands what was printed to the reader.
    pub(crate) fn flush(&mut self) -> Result<(), Quit> {
        Ok(self.stdout.flush()?)
    }

    /// Says on stderr what is worth knowing, and nothing is to be done about.
    pub(crate) fn note(&self, text: impl Into<Styled>) {
        if !self.quiet {
            self.stderr.say(Label::Note, text.into());
        }
    }

    /// Says on stderr what is not as wanted although all went well.
    pub(crate) fn warning(&self, text: impl Into<Styled>) {
        if !self.quiet {
            self.stderr.say(Label::Warning, text.into());
        }
    }

    /// Says on stderr what a person should know of `subject`, or of the daemon, each with what to do.
    pub(crate) fn remarks<'a>(
        &self,
        subject: Option<&str>,
        remarks: impl IntoIterator<Item = &'a Warning>,
    ) {
        for remark in remarks {
            let text = match subject {
                Some(subject) => format!("{subject}: {}", remark.message),
                None => remark.message.clone(),
            };
            match remark.level {
                Level::Warning => self.warning(text),
                Level::Note => self.note(text),
            }
            if let Some(hint) = remark.hints().first() {
                self.hint(hint);
            }
        }
    }

    /// Says on stderr what to do next.
    pub(crate) fn hint(&self, hint: &Hint) {
        let hint = &remote::hint(hint.clone());
        check(hint);
        if self.for_people() {
            self.stderr.hint(hint);
        }
    }

    /// Says on stderr, without flourish, what belongs beside the answer.
    pub(crate) fn aside(&self, text: impl Into<Styled>) {
        if self.for_people() {
            self.stderr.line(&text.into());
        }
    }

    /// Writes a dimmed piece of text to a terminal on stderr; elsewhere nothing.
    pub(crate) fn aside_piece(&self, text: &str) {
        if self.shows_progress() {
            self.stderr.text(&Styled::new().with(DIM, text).render(&self.stderr.look));
        }
    }

    /// Draws progress on stderr anew, a line for each; none takes it away.
    pub(crate) fn progress(&self, lines: &[String]) {
        if self.shows_progress() {
            self.stderr.progress(lines);
        }
    }

    /// Says on stderr why something was not done: for people, or as one line of JSON.
    pub(crate) fn failure(&self, failure: &Failure) {
        let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
        let mut failure = corrected(failure.clone(), &words.collect::<Vec<_>>());
        failure.hints = failure.hints.0.into_iter().map(remote::hint).collect();
        let failure = &failure;
        failure.hints.0.iter().for_each(check);
        if self.json {
            let mut line = serde_json::json!({ "error": failure }).to_string();
            if self.stderr.look.terminal {
                // JSON lets the eight-bit control characters and the bidi marks through.
                line = sanitize::one_line(&line);
            }
            self.stderr.text(&format!("{line}\n"));
            return;
        }
        self.stderr.say(Label::Error, clause(&failure.message).into());
        // What was tried in vain is nobody's log.
        let label = match failure.kind {
            Kind::DaemonUnreachable => Label::Beneath,
            _ => Label::Log,
        };
        for line in evidence(failure) {
            self.stderr.say(label, line.into());
        }
        for hint in failure.hints.0.iter().take(HINTS).filter(|_| !self.quiet) {
            self.stderr.hint(hint);
        }
    }
}

/// So many hints are told of a failure.
const HINTS: usize = 2;

/// In a debug build: each command of ours that a hint names is one. So every test that shows a hint,
/// of whatever part, tries it.
fn check(hint: &Hint) {
    let is_ours = hint.argv.first().is_some_and(|program| program == "llamactl");
    if cfg!(debug_assertions) && is_ours {
        let parsed = Cli::try_parse_from(&hint.argv);
        debug_assert!(parsed.is_ok(), "{hint}: {:?}", parsed.err());
    }
}

/// The log lines that say so.
fn evidence(failure: &Failure) -> Vec<&str> {
    let details = failure.details.as_ref();
    ["/evidence", "/cause/evidence"]
        .iter()
        .filter_map(|pointer| details?.pointer(pointer)?.as_array())
        .flatten()
        .filter_map(|line| line.as_str())
        .flat_map(str::lines)
        .collect()
}

/// JSON leaves C1 controls and direction marks as they are; a terminal gets them as `\u` escapes.
fn escape_for_terminal(text: String) -> String {
    if !text.chars().any(sanitize::is_harmful) {
        return text;
    }
    text.chars()
        .map(|character| match character {
            harmful if sanitize::is_harmful(harmful) => format!("\\u{:04x}", u32::from(harmful)),
            harmless => harmless.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::screen::assert_screen;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_failure_reads_what_why_and_what_to_do() {
        let failure = Failure::new(Kind::ServerFailed, "m failed: the file ends early")
            .hint("download it again")
            .hint(Hint::run("or see which there are", ["llamactl", "model", "list"]))
            .details(json!({ "cause": { "evidence": ["E tensor \u{1b}[31mtoo big", "E bye"] } }));
        assert_screen("failure", |_| Err(failure.clone().into()));
    }

    #[test]
    fn json_at_a_terminal_is_still_the_same_json() {
        let text = serde_json::to_string(&json!({ "a": "x\u{9b}\u{202e}y" })).unwrap();
        let escaped = escape_for_terminal(text);
        assert!(!escaped.chars().any(sanitize::is_harmful));
        let back: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(back["a"], "x\u{9b}\u{202e}y");
    }
}
