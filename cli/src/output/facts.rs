//! Named facts under each other, for screens about one thing.

use super::look::Look;
use super::styled::{BOLD, DIM, Style, Styled, paint_if};
use super::width::{cut_end, width};
use crate::remote;
use llamactl_protocol::Hint;

/// A block of `name  value` lines with the values aligned. Facts without a value are left out.
pub(crate) struct Facts {
    rows: Vec<Fact>,
    names: Names,
}

/// Where names stand.
enum Names {
    /// To the right, against their values.
    Right,
    /// Behind so many spaces, in a column at least so wide.
    Left(usize, usize),
}

struct Fact {
    name: String,
    value: Styled,
    /// Behind the value, and never broken.
    command: Option<Hint>,
    /// What does not fit is cut and not wrapped: a log line is one line.
    is_log: bool,
    /// It belongs to the fact before, where that has the same name: that is not said again.
    goes_on: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Facts { rows: vec![], names: Names::Right }
    }
}

impl Facts {
    /// No facts yet; their names will stand against their values.
    pub(crate) fn new() -> Self {
        Facts::default()
    }

    /// No facts yet; their names will stand behind so many spaces, in a column at least so wide.
    pub(crate) fn indented(spaces: usize, width: usize) -> Self {
        Facts { rows: vec![], names: Names::Left(spaces, width) }
    }

    /// Adds a fact.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<Styled>) {
        let (name, value) = (name.into(), value.into().on_one_line());
        self.rows.push(Fact { name, value, command: None, is_log: false, goes_on: false });
    }

    /// Adds a fact that may be unknown.
    pub(crate) fn add_known(&mut self, name: &str, value: Option<impl Into<Styled>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// Adds a log line.
    pub(crate) fn add_log(&mut self, name: &str, line: &str) {
        self.add(name, Styled::new().with(DIM, line));
        self.rows
            .iter_mut()
            .rev()
            .take(1)
            .for_each(|fact| (fact.is_log, fact.goes_on) = (true, true));
    }

    /// Adds one of several facts of the same name.
    pub(crate) fn add_more(&mut self, name: &str, value: impl Into<Styled>) {
        self.add(name, value);
        self.rows.iter_mut().rev().take(1).for_each(|fact| fact.goes_on = true);
    }

    /// Adds something to do.
    pub(crate) fn add_hint(&mut self, name: &str, hint: &Hint) {
        let text = match hint.argv.is_empty() || hint.text.is_empty() {
            true => hint.text.clone(),
            false => format!("{}: ", hint.text),
        };
        let command = Some(remote::hint(hint.clone()));
        let value = Styled::from(text).on_one_line();
        self.rows.push(Fact {
            name: name.to_owned(),
            value,
            command,
            is_log: false,
            goes_on: true,
        });
    }

    /// Adds what belongs beneath the fact before: a command that does something about it.
    pub(crate) fn add_beneath(&mut self, command: &[String]) {
        let name = self.rows.last().map(|fact| fact.name.clone()).unwrap_or_default();
        self.add_hint(&name, &Hint::run("", command));
    }

    /// What there is to do.
    pub(crate) fn hints(&self) -> impl Iterator<Item = &Hint> {
        self.rows.iter().filter_map(|fact| fact.command.as_ref())
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines for this reader, each ended.
    pub(crate) fn render(self, look: &Look) -> String {
        let widest = self.rows.iter().map(|fact| width(&fact.name)).max().unwrap_or(0);
        let (spaces, column) = match self.names {
            Names::Right => (0, widest),
            Names::Left(spaces, least) => (spaces, widest.max(least)),
        };
        let indent = spaces + column + 2;
        let mut before: Option<&str> = None;
        let mut text = String::new();
        for fact in &self.rows {
            let is_said = fact.goes_on && before == Some(&fact.name);
            let shown = if is_said { "" } else { fact.name.as_str() };
            before = Some(&fact.name);
            let space = " ".repeat(column - width(shown));
            let name = match self.names {
                Names::Right => format!("{space}{shown}  "),
                Names::Left(..) => format!("{}{shown}{space}  ", " ".repeat(spaces)),
            };
            paint_if(&mut text, look.colour, DIM, &name);
            match look.columns.filter(|_| fact.is_log && !look.full) {
                Some(columns) => {
                    let line = fact.value.plain_text(look);
                    let room = columns.saturating_sub(indent);
                    paint_if(&mut text, look.colour, DIM, &cut_end(&line, room, look.ellipsis()));
                }
                None => {
                    let command = fact.command.as_ref().and_then(Hint::command);
                    text.push_str(&fact.value.render_wrapped(look, indent, command.as_deref()));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// The line above a block of its own.
pub(crate) fn heading(text: &str) -> Styled {
    Styled::new().with(BOLD, text)
}

/// Pieces with a comma between.
pub(crate) fn listed(pieces: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    let pieces: Vec<String> = pieces.into_iter().flatten().collect();
    (!pieces.is_empty()).then(|| pieces.join(", "))
}

/// A painted value.
pub(crate) fn painted(style: Style, text: impl Into<String>) -> Styled {
    Styled::new().with(style, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_align_wrap_and_a_repeated_name_is_said_once() {
        let look = Look {
            terminal: true,
            columns: Some(26),
            rows: None,
            colour: false,
            unicode: true,
            full: false,
        };
        let mut facts = Facts::new();
        facts.add("path", "/m/tiny.gguf");
        facts.add_known("title", None::<&str>);
        facts.add("warning", "its file was replaced");
        facts.add_beneath(&["llamactl".into(), "restart".into(), "tiny".into(), "--all".into()]);
        facts.add_log("log", "0.1 I srv a long line of a log");
        assert_eq!(
            facts.render(&look),
            "   path  /m/tiny.gguf\n\
             warning  its file was\n         \
                      replaced\n         \
                      llamactl restart tiny --all\n    \
                 log  0.1 I srv a long…\n"
        );
    }
}
