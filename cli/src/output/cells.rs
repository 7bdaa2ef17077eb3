//! Between lines of text and the cells of a screen.
//!
//! ```text
//!   Styled ─▶ put ─▶ cells ─▶ to_ascii, where the terminal shows no more
//!                      ╰────▶ lines ─▶ Styled
//! ```

use super::look::Look;
use super::styled::{Style, Styled};
use super::width::{head, width};
use clap::builder::styling::{AnsiColor, Color as TextColor, Effects};
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier, Style as CellStyle};

impl Styled {
    /// The columns that it takes.
    pub(crate) fn width(&self) -> usize {
        self.pieces().map(|(_, text)| width(text)).sum()
    }

    /// The same, in this style where it has none of its own.
    pub(crate) fn over(&self, style: Style) -> Styled {
        self.pieces().fold(Styled::new(), |line, (own, text)| {
            line.with(if own == Style::new() { style } else { own }, text)
        })
    }

    /// At most so many columns of it, behind the first `skipped`.
    pub(crate) fn columns(&self, skipped: usize, columns: usize) -> Styled {
        let (mut skip, mut room) = (skipped, columns);
        let mut part = Styled::new();
        for (style, text) in self.pieces() {
            let left_out = head(text, skip);
            let text = text.get(left_out.len()..).unwrap_or_default();
            skip = skip.saturating_sub(width(left_out));
            let text = head(text, room);
            room = room.saturating_sub(width(text));
            if !text.is_empty() {
                part = part.with(style, text);
            }
        }
        part
    }

    /// Lines of at most so many columns, broken between words; what is carried over stands below where
    /// the text began.
    pub(crate) fn wrapped(&self, columns: usize) -> Vec<Styled> {
        let first = self.pieces().next().map_or("", |(_, text)| text);
        let indent = width(first) - width(first.trim_start());
        let (mut lines, mut line, mut at) = (Vec::new(), Styled::new(), 0);
        for (style, text) in self.pieces() {
            for word in text.split_inclusive(' ') {
                if at > indent && at + width(word.trim_end()) > columns {
                    lines.push(std::mem::take(&mut line));
                    line = Styled::from(" ".repeat(indent));
                    at = indent;
                }
                at += width(word);
                line = line.with(style, word);
            }
        }
        lines.push(line);
        lines
    }
}

/// Writes a line into a row, as this reader can be given it.
pub(crate) fn put(buffer: &mut Buffer, row: u16, line: &Styled, look: &Look) {
    let end = buffer.area.width;
    let mut at = 0;
    for (style, text) in line.pieces() {
        let text = super::sanitize::one_line(text);
        let style = cell_style(style, look.colour);
        (at, _) = buffer.set_stringn(at, row, text, usize::from(end - at), style);
    }
}

/// How a cell is painted. Without colour, what is bold stays so: it is none.
fn cell_style(style: Style, colour: bool) -> CellStyle {
    let mut cell = CellStyle::new();
    let effects = style.get_effects();
    for (effect, modifier) in [(Effects::BOLD, Modifier::BOLD), (Effects::DIMMED, Modifier::DIM)] {
        if effects.contains(effect) && (colour || effect == Effects::BOLD) {
            cell = cell.add_modifier(modifier);
        }
    }
    match style.get_fg_color().filter(|_| colour) {
        Some(TextColor::Ansi(ansi)) => cell.fg(color_of(ansi)),
        _ => cell,
    }
}

/// The colours that there are on our screens.
const COLORS: [(AnsiColor, Color); 6] = [
    (AnsiColor::Red, Color::Red),
    (AnsiColor::Green, Color::Green),
    (AnsiColor::Yellow, Color::Yellow),
    (AnsiColor::Blue, Color::Blue),
    (AnsiColor::Magenta, Color::Magenta),
    (AnsiColor::Cyan, Color::Cyan),
];

fn color_of(ansi: AnsiColor) -> Color {
    COLORS.iter().find(|(known, _)| *known == ansi).map_or(Color::Reset, |(_, color)| *color)
}

fn text_style(cell: &Cell) -> Style {
    let mut style = Style::new();
    if let Some((ansi, _)) = COLORS.iter().find(|(_, color)| *color == cell.fg) {
        style = style.fg_color(Some(TextColor::Ansi(*ansi)));
    }
    if cell.modifier.contains(Modifier::BOLD) {
        style = style.bold();
    }
    if cell.modifier.contains(Modifier::DIM) {
        style = style.dimmed();
    }
    style
}

/// The rows as lines, without what is blank behind them.
pub(crate) fn lines(buffer: &Buffer) -> Vec<Styled> {
    let rows = buffer.content().chunks(usize::from(buffer.area.width).max(1));
    rows.map(|row| {
        let blank = row.iter().rev().take_while(|cell| cell.symbol() == " ").count();
        let mut line = Styled::new();
        let mut behind_wide = 0;
        for cell in row.iter().take(row.len() - blank) {
            // A sign of two columns hides the cell behind it.
            if behind_wide > 0 {
                behind_wide -= 1;
                continue;
            }
            behind_wide = width(cell.symbol()).saturating_sub(1);
            line = line.joined(text_style(cell), cell.symbol());
        }
        line
    })
    .collect()
}

/// The signs on our screens, and what stands for them in a cell where only ASCII can be shown.
const SIGNS: [(char, &str); 25] = [
    ('▁', "."),
    ('▂', ":"),
    ('▃', "-"),
    ('▄', "="),
    ('▅', "+"),
    ('▆', "*"),
    ('▇', "#"),
    ('█', "@"),
    ('│', "|"),
    ('─', "-"),
    ('└', "+"),
    ('┘', "+"),
    ('┌', "+"),
    ('┐', "+"),
    ('┬', "+"),
    ('┴', "+"),
    ('├', "+"),
    ('┤', "+"),
    ('●', "*"),
    ('○', "o"),
    ('×', "x"),
    ('↻', "~"),
    ('→', ">"),
    ('…', "."),
    ('°', " "),
];

/// Puts signs that every terminal shows into the place of those that it may not.
pub(crate) fn to_ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        let symbol = cell.symbol();
        if symbol.is_ascii() {
            continue;
        }
        let sign = symbol.chars().next().unwrap_or(' ');
        let ascii = SIGNS.iter().find(|(known, _)| *known == sign).map_or("?", |(_, ascii)| ascii);
        cell.set_symbol(ascii);
    }
}

#[cfg(test)]
mod tests {
    use super::super::styled::{BOLD, RED};
    use super::*;
    use ratatui::layout::Rect;

    fn look(colour: bool) -> Look {
        Look { terminal: true, columns: Some(20), colour, unicode: true, full: false, rows: None }
    }

    fn plain(lines: &[Styled]) -> Vec<String> {
        lines.iter().map(|line| line.pieces().map(|(_, text)| text).collect()).collect()
    }

    #[test]
    fn a_line_comes_back_from_its_cells() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 20, 2));
        let line = Styled::from("a ").with(RED, "日本").with(BOLD, "c\u{1b}[2J\td");
        put(&mut buffer, 0, &line, &look(true));
        let back = lines(&buffer);
        let back: Vec<(Style, &str)> = back[0].pieces().collect();
        assert_eq!(back, [(Style::new(), "a "), (RED, "日本"), (BOLD, "c d")]);
        put(&mut buffer, 1, &line, &look(false));
        assert!(buffer.content()[20..].iter().all(|cell| cell.fg == Color::Reset));
        to_ascii(&mut buffer);
        assert!(buffer.content().iter().all(|cell| cell.symbol().is_ascii()));
    }

    #[test]
    fn a_line_is_cut_and_wrapped_by_what_it_takes_on_a_screen() {
        let line = Styled::from("  one 日本 ").with(RED, "three four");
        assert_eq!(line.width(), 21);
        assert_eq!(plain(&[line.columns(4, 6)]), ["e 日本"]);
        assert_eq!(plain(&line.wrapped(12)), ["  one 日本 ", "  three four"]);
        assert_eq!(plain(&[line.over(BOLD)]), ["  one 日本 three four"]);
        assert_eq!(plain(&Styled::from("averylongword").wrapped(5)), ["averylongword"]);
    }
}
