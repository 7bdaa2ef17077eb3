//! Everything that is printed goes through here.
//!
//! ```text
//!   what was asked for ──▶ Output ──▶ stdout   table, names (-q) or one JSON object per line
//!   everything else ─────▶ note, warning, failure, progress ──▶ stderr
//! ```
//!
//! A terminal never gets a control character that came from elsewhere. A reader that closes its
//! end of the pipe has had enough: that is success.

pub(crate) mod facts;
pub(crate) mod hangup;
pub(crate) mod sanitize;
#[cfg(test)]
pub(crate) mod screen;
pub(crate) mod styled;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod units;

use crate::exit::Quit;
use llamactl_protocol::warning::Warning;
use llamactl_protocol::{Failure, Hint};
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use std::cell::RefCell;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use styled::{DIM, RED, Styled, YELLOW};
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
    /// `--color`: when to paint.
    pub(crate) colour: ColourChoice,
}

/// Stdout and stderr, and what is known of them.
pub(crate) struct Output {
    /// Whether programs are to get one JSON object per line (`--json`).
    pub(crate) json: bool,
    /// Whether only names are wanted (`-q`).
    pub(crate) quiet: bool,
    /// Whether a person reads stdout.
    pub(crate) terminal: bool,
    /// The columns of the terminal on stdout; `None` for a pipe, and where it does not tell.
    columns: Option<usize>,
    colour: bool,
    stdout: BufWriter<Box<dyn Write>>,
    stderr: Stderr,
}

/// Stderr, and what is known of it.
struct Stderr {
    terminal: bool,
    colour: bool,
    sink: RefCell<Box<dyn Write>>,
}

impl Stderr {
    fn of(choice: ColourChoice) -> Self {
        let terminal = io::stderr().is_terminal();
        let sink = RefCell::new(Box::new(io::stderr()) as Box<dyn Write>);
        Stderr { terminal, colour: paints(choice, terminal), sink }
    }

    fn line(&self, text: &Styled) {
        self.text(&(text.render(self.terminal, self.colour) + "\n"));
    }

    fn text(&self, text: &str) {
        // Nobody is left to tell when stderr is gone.
        let _ = self.sink.borrow_mut().write_all(text.as_bytes());
    }
}

fn paints(choice: ColourChoice, terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    match choice {
        ColourChoice::Always => true,
        ColourChoice::Never => false,
        ColourChoice::Auto => {
            terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
        }
    }
}

/// Says something on stderr that is not what was asked for.
pub(crate) fn note(text: impl Into<Styled>) {
    Stderr::of(ColourChoice::Auto).line(&Styled::from("llamactl: ").append(text.into()));
}

/// Says on stderr what is waited for: at a terminal until it is dropped, elsewhere as a note, if
/// `always`.
pub(crate) fn awaited(what: &str, always: bool) -> Awaited {
    let terminal = io::stderr().is_terminal();
    if terminal {
        Stderr::of(ColourChoice::Auto).text(&format!("\r\u{1b}[K{}…", sanitize::one_line(what)));
    } else if always {
        note(what);
    }
    Awaited { terminal }
}

/// A line on a terminal that goes again.
pub(crate) struct Awaited {
    terminal: bool,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if self.terminal {
            Stderr::of(ColourChoice::Auto).text("\r\u{1b}[K");
        }
    }
}

impl Output {
    /// Stdout, with what was asked for.
    pub(crate) fn new(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        Output {
            json: format.json,
            quiet: format.quiet,
            terminal,
            columns: columns().filter(|_| terminal),
            colour: paints(format.colour, terminal),
            stdout: BufWriter::with_capacity(64 * 1024, Box::new(io::stdout())),
            stderr: Stderr::of(format.colour),
        }
    }

    /// Whether people read this: neither `--json` nor `-q`.
    pub(crate) fn for_people(&self) -> bool {
        !self.json && !self.quiet
    }

    /// Whether progress can be shown: a person looks at stderr.
    pub(crate) fn shows_progress(&self) -> bool {
        self.stderr.terminal && self.for_people()
    }

    /// Prints a line and flushes.
    pub(crate) fn line(&mut self, text: impl Into<Styled>) -> Result<(), Quit> {
        self.line_unflushed(text)?;
        self.flush()
    }

    /// Prints a line; a stream flushes when it has to wait for the next.
    pub(crate) fn line_unflushed(&mut self, text: impl Into<Styled>) -> Result<(), Quit> {
        let line = text.into().render(self.terminal, self.colour) + "\n";
        Ok(self.stdout.write_all(line.as_bytes())?)
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
        let text = Styled::from(text).render(self.terminal, false);
        self.stdout.write_all(text.as_bytes())?;
        self.flush()
    }

    /// Prints bytes made by this program, as they are, and flushes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Quit> {
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
        if self.terminal {
            text = escape_for_terminal(text);
        }
        text.push('\n');
        Ok(self.stdout.write_all(text.as_bytes())?)
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
        let text = table.render(self.colour, self.columns);
        self.bytes(text.as_bytes())
    }

    /// Hands what was printed to the reader.
    pub(crate) fn flush(&mut self) -> Result<(), Quit> {
        Ok(self.stdout.flush()?)
    }

    /// Says something on stderr that is not what was asked for.
    pub(crate) fn note(&self, text: impl Into<Styled>) {
        self.stderr.line(&Styled::from("llamactl: ").append(text.into()));
    }

    /// Says on stderr what a person should know although all went well.
    pub(crate) fn warning(&self, text: &str) {
        if !self.json {
            self.stderr.line(&Styled::new().with(YELLOW, "warning:").plain(format!(" {text}")));
        }
    }

    /// Says on stderr what a person should know of the daemon, each with what to do.
    pub(crate) fn warnings(&self, warnings: &[Warning]) {
        for warning in warnings {
            self.warning(&warning.message);
            for command in &warning.commands {
                self.hint(&Hint::run("one way out", command));
            }
        }
    }

    /// Says on stderr what to do next.
    pub(crate) fn hint(&self, hint: &Hint) {
        if self.for_people() {
            self.stderr.line(&Styled::new().with(DIM, "hint:").plain(format!(" {hint}")));
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
            self.stderr.text(&Styled::new().with(DIM, text).render(true, self.stderr.colour));
        }
    }

    /// Rewrites the progress line on stderr; an empty text removes it.
    pub(crate) fn progress(&self, text: &str) {
        if self.shows_progress() {
            self.stderr.text(&format!("\r\u{1b}[K{}", sanitize::one_line(text)));
        }
    }

    /// Says on stderr why something was not done: for people, or as one line of JSON.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            let mut line = serde_json::json!({ "error": failure }).to_string();
            if self.stderr.terminal {
                // JSON lets the eight-bit control characters and the bidi marks through.
                line = sanitize::one_line(&line);
            }
            self.stderr.text(&format!("{line}\n"));
            return;
        }
        for line in describe(failure) {
            self.stderr.line(&line);
        }
    }
}

/// What the terminal on stdout says of its width.
fn columns() -> Option<usize> {
    tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col)).filter(|&w| w > 0)
}

/// A failure as lines for people: what and why, what to do, the evidence.
fn describe(failure: &Failure) -> Vec<Styled> {
    let mut lines =
        vec![Styled::new().with(RED, "llamactl:").plain(format!(" {}", failure.message))];
    for hint in failure.hints.lines() {
        lines.push(Styled::new().with(YELLOW, "hint:").plain(format!(" {hint}")));
    }
    for line in evidence(failure) {
        lines.push(Styled::new().with(DIM, format!("  {line}")));
    }
    lines
}

fn evidence(failure: &Failure) -> Vec<&str> {
    let details = failure.details.as_ref();
    // What says so; or, where too many servers run, which.
    ["/evidence", "/cause/evidence", "/running"]
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
    use llamactl_protocol::Kind;
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
