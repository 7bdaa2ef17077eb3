//! Lines made of painted pieces.
//!
//! Colour is added after text from elsewhere was made safe, so the two cannot be confused: what
//! is printed to a terminal holds no escape sequence but ours.

use super::look::Look;
use super::width::{head, width};
pub(crate) use clap::builder::styling::Style;
use clap::builder::styling::{AnsiColor, Color};
use std::fmt::Write as _;

const fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

/// Good: ready, done.
pub(crate) const GREEN: Style = colour(AnsiColor::Green);
/// On its way.
pub(crate) const CYAN: Style = colour(AnsiColor::Cyan);
/// Worth a look.
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
#[derive(Clone, Debug, Default)]
pub(crate) struct Styled(Vec<(Style, String)>);

impl Styled {
    /// No text yet.
    pub(crate) fn new() -> Self {
        Styled::default()
    }

    /// The pieces of a line that was [rendered](Styled::render) here: no sequence in it is from elsewhere.
    pub(crate) fn of_painted(line: &str) -> Self {
        let mut pieces = line.split("\u{1b}[");
        let mut line = Styled::new().plain(pieces.next().unwrap_or_default());
        let mut style = Style::new();
        for piece in pieces {
            let (code, text) = piece.split_once('m').unwrap_or(("0", piece));
            style = match code {
                "1" => style.bold(),
                "2" => style.dimmed(),
                "31" => style.fg_color(RED.get_fg_color()),
                "32" => style.fg_color(GREEN.get_fg_color()),
                "33" => style.fg_color(YELLOW.get_fg_color()),
                "36" => style.fg_color(CYAN.get_fg_color()),
                _ => Style::new(),
            };
            line = line.joined(style, text);
        }
        line
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

    /// The pieces, each with its style.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (Style, &str)> {
        self.0.iter().map(|(style, text)| (*style, text.as_str()))
    }

    /// Adds to the last piece where that has the same style.
    #[must_use]
    pub(crate) fn joined(mut self, style: Style, text: &str) -> Self {
        match self.0.last_mut() {
            Some((last, piece)) if *last == style => piece.push_str(text),
            _ => self.0.push((style, text.to_owned())),
        }
        self
    }

    /// The text as this reader can be given it.
    pub(crate) fn render(&self, look: &Look) -> String {
        let mut line = String::new();
        for (style, piece) in &self.0 {
            paint_if(&mut line, look.colour, *style, &look.fit(piece));
        }
        line
    }

    /// The text in one line that is no wider than the reader's, its end cut.
    pub(crate) fn render_cut(&self, look: &Look) -> String {
        let columns = look.columns.filter(|_| !look.full).unwrap_or(usize::MAX);
        let plain = self.plain_text(look);
        if width(&plain) <= columns {
            return self.render(look);
        }
        let mut left = columns.saturating_sub(width(look.ellipsis()));
        let mut line = String::new();
        for (style, piece) in &self.0 {
            let piece = look.fit(piece);
            let piece = head(&piece, left);
            left -= width(piece);
            paint_if(&mut line, look.colour, *style, piece);
        }
        line + look.ellipsis()
    }

    /// The text without paint.
    pub(crate) fn plain_text(&self, look: &Look) -> String {
        self.0.iter().map(|(_, piece)| look.fit(piece)).collect()
    }

    /// The text in lines that are no wider than prose is, each but the first `indent` columns to
    /// the right, where the first begins too; for a pipe one line. A `command` behind it is never
    /// broken, so that it can be pasted: what is too wide for the rest of a line has its own.
    pub(crate) fn render_wrapped(
        &self,
        look: &Look,
        indent: usize,
        command: Option<&str>,
    ) -> String {
        let mut text = Wrapped { indent, end: look.prose_columns(), ..Wrapped::default() };
        (text.at, text.is_painted) = (indent, look.colour);
        for (style, piece) in &self.0 {
            for word in look.fit(piece).split_inclusive(' ') {
                text.word(*style, word);
            }
        }
        if let Some(command) = command {
            let command = look.fit_line(command);
            if text.is_too_wide(&command) && !text.text.is_empty() {
                text.break_line();
            }
            text.put(BOLD, &command);
        }
        text.unpaint();
        text.text
    }
}

/// Words that are put into lines.
#[derive(Default)]
struct Wrapped {
    text: String,
    at: usize,
    indent: usize,
    end: Option<usize>,
    /// So many spaces stand before what comes next on this line, if anything does.
    gap: usize,
    is_painted: bool,
    /// What holds where the text ends.
    style: Style,
}

impl Wrapped {
    fn is_too_wide(&self, word: &str) -> bool {
        self.end.is_some_and(|end| self.at + width(word.trim_end()) > end)
    }

    fn break_line(&mut self) {
        self.unpaint();
        self.gap = 0;
        self.text.push('\n');
        self.text.push_str(&" ".repeat(self.indent));
        self.at = self.indent;
    }

    fn unpaint(&mut self) {
        if self.style != Style::new() {
            let _ = write!(self.text, "{:#}", self.style);
            self.style = Style::new();
        }
    }

    /// Adds what fits, behind the spaces before it.
    fn put(&mut self, style: Style, part: &str) {
        let style = if self.is_painted { style } else { Style::new() };
        if style != self.style {
            self.unpaint();
        }
        self.text.push_str(&" ".repeat(std::mem::take(&mut self.gap)));
        if style != self.style {
            let _ = write!(self.text, "{style}");
            self.style = style;
        }
        self.text.push_str(part);
    }

    /// Adds a word, with the spaces behind it; one that is wider than a whole line is cut up.
    fn word(&mut self, style: Style, mut word: &str) {
        if self.is_too_wide(word) && self.at > self.indent {
            self.break_line();
        }
        while self.is_too_wide(word)
            && let Some(end) = self.end
            && end > self.indent
        {
            let first = head(word, end - self.indent);
            if first.is_empty() {
                break;
            }
            self.put(style, first);
            word = &word[first.len()..];
            self.break_line();
        }
        let bare = word.trim_end_matches(' ');
        if !bare.is_empty() {
            self.put(style, bare);
        }
        self.gap += word.len() - bare.len();
        self.at += width(word);
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

/// Appends `piece`, between the codes of `style` where it is to be painted.
pub(crate) fn paint_if(text: &mut String, colour: bool, style: Style, piece: &str) {
    if colour {
        paint(text, style, piece);
    } else {
        text.push_str(piece);
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

    fn look(terminal: bool, columns: usize, colour: bool) -> Look {
        Look { terminal, columns: Some(columns), rows: None, colour, unicode: true, full: false }
    }

    #[test]
    fn only_our_own_colour_reaches_a_terminal() {
        let line = Styled::new().with(RED, "bad \u{1b}[2Jname").plain("!");
        assert_eq!(line.render(&look(true, 80, true)), "\u{1b}[31mbad name\u{1b}[0m!");
        assert_eq!(line.render(&look(true, 80, false)), "bad name!");
        assert_eq!(line.render(&look(false, 80, false)), "bad \u{1b}[2Jname!");
    }

    #[test]
    fn prose_is_wrapped_beneath_its_beginning_and_a_command_is_not() {
        let line = Styled::from("no answer for a while; ").plain("it restarts");
        let told = |columns, command| line.render_wrapped(&look(true, columns, false), 4, command);
        assert_eq!(told(80, None), "no answer for a while; it restarts");
        assert_eq!(told(20, None), "no answer for a\n    while; it\n    restarts");
        assert_eq!(
            told(20, Some("a-command with words")).lines().last(),
            Some("    a-command with words")
        );
        let word = Styled::from("x ".to_owned() + &"y".repeat(10));
        let word = word.render_wrapped(&look(true, 12, false), 4, None);
        assert_eq!(word, "x\n    yyyyyyyy\n    yy");
    }

    #[test]
    fn what_is_painted_ends_with_its_line_and_leaves_no_space_there() {
        let line = Styled::new().plain("a ").with(RED, "bb cc dd ").plain("e");
        assert_eq!(
            line.render_wrapped(&look(true, 8, true), 2, None),
            "a \u{1b}[31mbb\u{1b}[0m\n  \u{1b}[31mcc dd\u{1b}[0m\n  e"
        );
    }
}
