//! Stderr: what was not asked for, each line with its label.
//!
//! ```text
//!   error:    why it was not done           warning:  not as wanted
//!   log:      the server's own words        note:     worth knowing, nothing to do
//!   hint:     what to do next, the command last
//!   progress  a block of lines at a terminal, drawn anew and taken away at the end
//! ```

use super::look::Look;
use super::styled::{DIM, RED, Style, Styled, YELLOW};
use super::width::cut_end;
use super::{ColourChoice, Format};
use llamactl_protocol::Hint;
use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a line is.
#[derive(Clone, Copy)]
pub(super) enum Label {
    Error,
    Log,
    /// It belongs to the line before.
    Beneath,
    Warning,
    Note,
}

impl Label {
    fn word(self) -> (&'static str, Style) {
        match self {
            Label::Error => ("error: ", RED),
            Label::Log => ("  log: ", DIM),
            Label::Beneath => ("  ", DIM),
            Label::Warning => ("warning: ", YELLOW),
            Label::Note => ("note: ", DIM),
        }
    }
}

/// A screen has the terminal: what is said beside it would be in its way.
static ASIDES_ARE_SILENT: AtomicBool = AtomicBool::new(false);

/// Says nothing beside a screen that has the whole terminal.
pub(crate) fn silence_asides(silent: bool) {
    ASIDES_ARE_SILENT.store(silent, Ordering::SeqCst);
}

/// Stderr, and what is known of it.
pub(super) struct Stderr {
    pub(super) look: Look,
    pub(super) sink: RefCell<Box<dyn Write>>,
    /// So many lines of progress stand above the cursor.
    pub(super) block: Cell<usize>,
}

impl Stderr {
    /// This program's.
    pub(super) fn of(format: Format) -> Self {
        Stderr {
            look: Look::of(io::stderr(), format.colour, format.full),
            sink: RefCell::new(Box::new(io::stderr())),
            block: Cell::new(0),
        }
    }

    /// The same where nobody said how output is wanted; silent beside a screen.
    pub(super) fn usual() -> Self {
        let usual = Stderr::of(Format { colour: ColourChoice::Auto, ..Format::default() });
        match ASIDES_ARE_SILENT.load(Ordering::SeqCst) {
            true => Stderr { sink: RefCell::new(Box::new(io::sink())), ..usual },
            false => usual,
        }
    }

    /// A line behind its label, wrapped beneath its beginning.
    pub(super) fn say(&self, label: Label, text: Styled) {
        let (word, style) = label.word();
        let line = text.on_one_line().render_wrapped(&self.look, word.len(), None);
        self.text(&format!("{}{line}\n", Styled::new().with(style, word).render(&self.look)));
    }

    /// What to do next.
    pub(super) fn hint(&self, hint: &Hint) {
        const HINT: &str = "hint: ";
        let command = hint.command();
        let text = match command {
            Some(_) if hint.text.ends_with('?') => format!("{} ", hint.text),
            Some(_) => format!("{}: ", hint.text),
            None => hint.text.clone(),
        };
        let text = Styled::from(text).on_one_line();
        let line = text.render_wrapped(&self.look, HINT.len(), command.as_deref());
        self.text(&format!("{}{line}\n", Styled::new().with(DIM, HINT).render(&self.look)));
    }

    /// A line without a label.
    pub(super) fn line(&self, text: &Styled) {
        self.text(&(text.render(&self.look) + "\n"));
    }

    /// Text as it is, below what is there but progress.
    pub(super) fn text(&self, text: &str) {
        self.clear();
        self.write(text);
    }

    /// Draws progress anew, a line for each.
    pub(super) fn progress(&self, lines: &[String]) {
        let columns = self.look.columns.unwrap_or(usize::MAX);
        let mut text = self.erasure();
        for line in lines {
            let line = self.look.fit_line(line);
            // One that the terminal wrapped would be two lines to take away.
            text.push_str(&cut_end(&line, columns, self.look.ellipsis()));
            text.push('\n');
        }
        self.block.set(lines.len());
        self.write(&text);
    }

    /// Takes progress away.
    pub(super) fn clear(&self) {
        let erasure = self.erasure();
        self.block.set(0);
        self.write(&erasure);
    }

    fn erasure(&self) -> String {
        match self.block.get() {
            0 => String::new(),
            lines => format!("\u{1b}[{lines}F\u{1b}[J"),
        }
    }

    fn write(&self, text: &str) {
        // Nobody is left to tell when stderr is gone.
        let _ = self.sink.borrow_mut().write_all(text.as_bytes());
    }
}
