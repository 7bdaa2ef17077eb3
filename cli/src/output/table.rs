//! Tables: a header, one line per row, colour laid over the finished text.

use super::sanitize::one_line;
use super::styled::{Style, paint};
use super::units::UNKNOWN;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table as Grid};

/// A table being filled.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A column: its heading, and on which side its cells align.
pub(crate) struct Column(pub(crate) &'static str, pub(crate) Align);

/// On which side cells align: text left, numbers right.
#[derive(Clone, Copy)]
pub(crate) enum Align {
    Left,
    Right,
}

/// One cell: text on one line, and how it is painted.
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A painted cell.
    pub(crate) fn styled(style: Style, text: impl AsRef<str>) -> Self {
        let text = one_line(text.as_ref());
        Cell { text: if text.is_empty() { UNKNOWN.to_owned() } else { text }, style }
    }

    /// A mark before a row: where there is none the cell is blank, as nothing is unknown.
    pub(crate) fn mark(text: &str) -> Self {
        Cell { text: one_line(text), style: Style::new() }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::styled(Style::new(), text)
    }
}

/// The cell of a value that may be unknown.
pub(crate) fn known(text: Option<impl AsRef<str>>) -> Cell {
    text.map_or_else(|| Cell::from(UNKNOWN), Cell::from)
}

impl Table {
    /// An empty table of these columns.
    pub(crate) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Table { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text, each line ended; nothing at all without rows. `width` cuts lines that are longer
    /// (a terminal's), `colour` paints.
    pub(crate) fn render(&self, colour: bool, width: Option<usize>) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut grid = Grid::new();
        grid.load_style(NOTHING);
        grid.set_header(self.columns.iter().map(|column| column.0));
        for row in &self.rows {
            grid.add_row(row.iter().map(|cell| cell.text.as_str()));
        }
        for (column, ours) in grid.column_iter_mut().zip(&self.columns) {
            column.set_padding((0, 2));
            if let Align::Right = ours.1 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let heading = Style::new().bold();
        let header =
            self.columns.iter().map(|column| (column.0, heading)).collect::<Vec<(&str, Style)>>();
        let rows = self.rows.iter().map(|row| {
            row.iter().map(|cell| (cell.text.as_str(), cell.style)).collect::<Vec<(&str, Style)>>()
        });
        let mut text = String::new();
        for (line, cells) in grid.lines().zip(std::iter::once(header).chain(rows)) {
            let line = cut(line.trim_end(), width);
            if colour {
                overlay(&mut text, &line, &cells);
            } else {
                text.push_str(&line);
            }
            text.push('\n');
        }
        text
    }
}

fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if width > 1 && line.chars().count() > width => {
            line.chars().take(width - 1).chain(['…']).collect()
        }
        _ => line.to_owned(),
    }
}

/// Writes `line` with its cells painted. The cells stand in it in order with only spaces between,
/// so each is found by searching on from the one before; a cell that was cut stays plain.
fn overlay(text: &mut String, line: &str, cells: &[(&str, Style)]) {
    let mut rest = line;
    for (cell, style) in cells {
        let Some(at) = rest.find(cell) else { break };
        text.push_str(&rest[..at]);
        paint(text, *style, cell);
        rest = &rest[at + cell.len()..];
    }
    text.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::super::styled::GREEN;
    use super::*;

    fn two() -> Table {
        let mut table = Table::new([
            Column("NAME", Align::Left),
            Column("SIZE", Align::Right),
            Column("PATH", Align::Left),
        ]);
        table.row(["tiny".into(), "1.0 GiB".into(), "/m/tiny.gguf".into()]);
        table.row([Cell::styled(GREEN, "qwen3:8b"), known(None::<&str>), "a\nb".into()]);
        table
    }

    #[test]
    fn plain_text_keeps_everything() {
        assert_eq!(
            two().render(false, None),
            "NAME         SIZE  PATH\n\
             tiny      1.0 GiB  /m/tiny.gguf\n\
             qwen3:8b        -  a b\n"
        );
    }

    #[test]
    fn colour_changes_no_character() {
        let painted = two().render(true, None);
        assert!(painted.contains("\u{1b}[32mqwen3:8b\u{1b}[0m"), "{painted:?}");
        assert_eq!(super::super::sanitize::sanitize(&painted), two().render(false, None));
    }

    #[test]
    fn a_narrow_terminal_cuts_lines() {
        let text = two().render(false, Some(20));
        assert!(text.lines().all(|line| line.chars().count() <= 20), "{text}");
        assert!(text.contains("…"));
    }

    #[test]
    fn an_empty_table_is_nothing() {
        assert_eq!(Table::new([Column("NAME", Align::Left)]).render(true, None), "");
    }
}
