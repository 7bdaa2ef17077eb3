//! Lines made of painted pieces.
//!
//! Colour is added after text from elsewhere was made safe, so the two cannot be confused: what
//! is printed to a terminal holds no escape sequence but ours.

use super::sanitize::sanitize;
pub(crate) use clap::builder::styling::Style;
use clap::builder::styling::{AnsiColor, Color};
use std::fmt::Write as _;

const fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

/// Good: ready, done.
pub(crate) const GREEN: Style = colour(AnsiColor::Green);
/// On its way, or worth a look.
pub(crate) const YELLOW: Style = colour(AnsiColor::Yellow);
/// Failed, and what says why.
pub(crate) const RED: Style = colour(AnsiColor::Red);
/// Beside the point: times, hints, what is off.
pub(crate) const DIM: Style = Style::new().dimmed();
/// Things of one kind, told apart; none of them means anything.
pub(crate) const CYCLE: [Style; 4] = [
    colour(AnsiColor::Cyan),
    colour(AnsiColor::Magenta),
    colour(AnsiColor::Blue),
    colour(AnsiColor::Green),
];
/// Headings and names.
pub(crate) const BOLD: Style = Style::new().bold();

/// Text in pieces, each with a style.
#[derive(Default)]
pub(crate) struct Styled(Vec<(Style, String)>);

impl Styled {
    /// No text yet.
    pub(crate) fn new() -> Self {
        Styled::default()
    }

    /// Adds a piece.
    #[must_use]
    pub(crate) fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// Adds a piece without style.
    #[must_use]
    pub(crate) fn plain(self, text: impl Into<String>) -> Self {
        self.with(Style::new(), text)
    }

    /// Adds another text's pieces.
    #[must_use]
    pub(crate) fn append(mut self, other: Styled) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The same without line ends, which could make one fact look like two.
    #[must_use]
    pub(crate) fn on_one_line(mut self) -> Self {
        for (_, piece) in &mut self.0 {
            *piece = piece.replace(['\n', '\r'], " ");
        }
        self
    }

    /// The text: made safe for a `terminal`, painted with `colour`.
    pub(crate) fn render(&self, terminal: bool, colour: bool) -> String {
        let mut line = String::new();
        for (style, piece) in &self.0 {
            let piece = if terminal { sanitize(piece) } else { piece.into() };
            if colour {
                paint(&mut line, *style, &piece);
            } else {
                line.push_str(&piece);
            }
        }
        line
    }
}

impl From<&str> for Styled {
    fn from(text: &str) -> Self {
        Styled::new().plain(text)
    }
}

impl From<String> for Styled {
    fn from(text: String) -> Self {
        Styled::new().plain(text)
    }
}

/// Appends `piece` between the codes of `style`.
pub(crate) fn paint(text: &mut String, style: Style, piece: &str) {
    // Writing into a String cannot fail.
    let _ = write!(text, "{style}{piece}{style:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_colour_reaches_a_terminal() {
        let line = Styled::new().with(RED, "bad \u{1b}[2Jname").plain("!");
        assert_eq!(line.render(true, true), "\u{1b}[31mbad name\u{1b}[0m!");
        assert_eq!(line.render(true, false), "bad name!");
        assert_eq!(line.render(false, false), "bad \u{1b}[2Jname!");
    }
}
