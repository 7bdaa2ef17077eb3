//! Tables: a heading, a line per item, what there is to say of an item beneath it.
//!
//! ```text
//!   a pipe      all columns, whole; what is said of an item is the last column
//!   a terminal  no column of which nothing is known; then, while it is too wide:
//!               names cut to 32 and other text to 24 ─▶ columns go, least worth first
//!               ─▶ names to 16 ─▶ core columns go but the first two
//!               and what is then free goes back to what was cut
//! ```

use super::look::Look;
use super::styled::{BOLD, DIM, Style, Styled};
use super::units::UNKNOWN;
use super::width::{cut_end, cut_middle, cut_path, width};

/// A table being filled.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Row>,
    /// The heading of what is said of items, where that is a column.
    remarks: Option<&'static str>,
}

/// One item.
struct Row {
    cells: Vec<Cell>,
    remark: Option<String>,
}

/// A column: its heading, and what becomes of it where there is little room.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    heading: &'static str,
    align: Align,
    /// The smaller, the more it is worth; 0 is core.
    worth: u8,
    cut: Cut,
    /// A value that says no more than nothing: a column of it alone is left out.
    nothing: &'static str,
}

/// On which side cells align: text left, numbers right.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// How a cell is cut.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// The first column of a table: its middle goes.
    Name,
    Middle,
    Path,
    End,
    /// Numbers are never cut.
    Never,
}

impl Column {
    /// What an item is called.
    pub(crate) const fn name(heading: &'static str) -> Column {
        Column { heading, align: Align::Left, worth: 0, cut: Cut::Name, nothing: UNKNOWN }
    }

    /// Text, of so much worth: 0 is core, 1 goes last.
    pub(crate) const fn text(heading: &'static str, worth: u8) -> Column {
        Column { heading, align: Align::Left, worth, cut: Cut::Middle, nothing: UNKNOWN }
    }

    /// A sentence: its end goes.
    pub(crate) const fn prose(heading: &'static str, worth: u8) -> Column {
        Column { cut: Cut::End, ..Column::text(heading, worth) }
    }

    /// A path.
    pub(crate) const fn path(heading: &'static str, worth: u8) -> Column {
        Column { cut: Cut::Path, ..Column::text(heading, worth) }
    }

    /// A word or an address, which is never cut.
    pub(crate) const fn word(heading: &'static str, worth: u8) -> Column {
        Column { cut: Cut::Never, ..Column::text(heading, worth) }
    }

    /// A number.
    pub(crate) const fn number(heading: &'static str, worth: u8) -> Column {
        Column { align: Align::Right, cut: Cut::Never, ..Column::text(heading, worth) }
    }

    /// The same, not worth a column where all cells are `nothing`.
    pub(crate) const fn unless_all(self, nothing: &'static str) -> Column {
        Column { nothing, ..self }
    }
}

/// One cell: text on one line, and how it is painted.
#[derive(Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A painted cell.
    pub(crate) fn styled(style: Style, text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        match text.is_empty() {
            true => Cell { text: UNKNOWN.to_owned(), style: DIM },
            false => Cell { text: text.to_owned(), style },
        }
    }

    /// A mark before a row: where there is none the cell is blank, as nothing is unknown.
    pub(crate) fn mark(text: &str) -> Self {
        Cell { text: text.to_owned(), style: Style::new() }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::styled(Style::new(), text)
    }
}

/// The cell of a value that may be unknown.
pub(crate) fn known(text: Option<impl AsRef<str>>) -> Cell {
    text.map_or_else(|| Cell::styled(DIM, UNKNOWN), Cell::from)
}

/// A number that is far above any name: nothing is cut.
const WHOLE: usize = usize::MAX;

/// To what names and other text are cut first, and names then.
const NAME: usize = 32;
const TEXT: usize = 24;
const SHORT_NAME: usize = 16;

/// Between two columns.
const GAP: usize = 2;

impl Table {
    /// An empty table of these columns.
    pub(crate) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Table { columns: columns.into_iter().collect(), rows: Vec::new(), remarks: None }
    }

    /// The same, of whose items something may be said: beneath an item at a terminal, in a pipe in
    /// a last column of this heading.
    pub(crate) fn with_remarks(self, heading: &'static str) -> Self {
        Table { remarks: Some(heading), ..self }
    }

    /// Adds an item.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.row_with(cells, None);
    }

    /// Adds an item of which something is said.
    pub(crate) fn row_with(
        &mut self,
        cells: impl IntoIterator<Item = Cell>,
        remark: Option<String>,
    ) {
        self.rows.push(Row { cells: cells.into_iter().collect(), remark });
    }

    /// The text for this reader, each line ended; nothing at all without rows.
    pub(crate) fn render(&self, look: &Look) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        self.grid(look).text(look)
    }

    /// The lines for this reader, the heading first, without what is said of items.
    pub(crate) fn lines(&self, look: &Look) -> Vec<Styled> {
        let grid = self.grid(look);
        (0..=self.rows.len()).map(|line| grid.line(line, look)).collect()
    }

    fn grid(&self, look: &Look) -> Grid {
        let mut grid = Grid::of(self, look);
        if let Some(columns) = look.columns.filter(|_| look.terminal && !look.full) {
            grid.leave_out_what_is_not_known();
            grid.fit(columns);
        }
        grid
    }
}

/// The cells as they are printed, column by column.
struct Grid {
    shown: Vec<Shown>,
    remarks: Vec<Option<String>>,
}

/// A column as it is printed.
struct Shown {
    column: Column,
    /// The heading first.
    cells: Vec<Cell>,
    /// What its widest cell needs.
    needs: usize,
    /// What it gets.
    gets: usize,
    place: usize,
}

impl Grid {
    fn of(table: &Table, look: &Look) -> Grid {
        let mut columns = table.columns.clone();
        let in_a_column = table.remarks.filter(|_| !look.terminal);
        columns.extend(in_a_column.map(|heading| Column::prose(heading, 0)));
        let shown = columns.into_iter().enumerate().map(|(place, column)| {
            let heading = Cell::styled(BOLD, column.heading);
            let cells = table.rows.iter().map(|row| {
                let cell = row.cells.get(place).cloned();
                let cell = cell.unwrap_or_else(|| known(row.remark.as_ref()));
                let text = match column.cut {
                    Cut::Path => look.fit_line(&look.tidy(&cell.text)),
                    _ => look.fit_line(&cell.text),
                };
                Cell { text, ..cell }
            });
            let heading = if column.heading.is_empty() { Cell::mark("") } else { heading };
            let cells: Vec<Cell> = std::iter::once(heading).chain(cells).collect();
            let needs = cells.iter().map(|cell| width(&cell.text)).max().unwrap_or(0);
            Shown { column, cells, needs, gets: needs, place }
        });
        let remarks = table.rows.iter().map(|row| row.remark.clone().filter(|_| look.terminal));
        Grid { shown: shown.collect(), remarks: remarks.collect() }
    }

    fn width(&self) -> usize {
        let columns: usize = self.shown.iter().map(|shown| shown.gets + GAP).sum();
        columns.saturating_sub(GAP)
    }

    fn leave_out_what_is_not_known(&mut self) {
        self.shown.retain(|shown| {
            let nothing = shown.column.nothing;
            let mut said = shown.cells.iter().skip(1);
            shown.place < 2 || said.any(|cell| cell.text != nothing && cell.text != UNKNOWN)
        });
    }

    /// Cuts and drops until it is at most so wide.
    fn fit(&mut self, columns: usize) {
        if self.width() <= columns {
            return;
        }
        self.cut(NAME, TEXT);
        self.drop_while_too_wide(columns, |column| column.worth > 0);
        if self.width() > columns {
            self.cut(SHORT_NAME, TEXT);
            self.drop_while_too_wide(columns, |_| true);
        }
        let mut free = columns.saturating_sub(self.width());
        for shown in &mut self.shown {
            let back = free.min(shown.needs - shown.gets);
            shown.gets += back;
            free -= back;
        }
    }

    fn cut(&mut self, name: usize, text: usize) {
        for shown in &mut self.shown {
            let most = match shown.column.cut {
                Cut::Name => name,
                Cut::Never => WHOLE,
                Cut::Middle | Cut::Path | Cut::End => text,
            };
            shown.gets = shown.gets.min(most.max(width(shown.column.heading)));
        }
    }

    /// Columns go, least worth first, and of the same worth the last; never the first two.
    fn drop_while_too_wide(&mut self, columns: usize, may_go: impl Fn(&Column) -> bool) {
        while self.width() > columns {
            let least = self.shown.iter().enumerate().filter(|(_, shown)| shown.place >= 2);
            let least = least.filter(|(_, shown)| may_go(&shown.column));
            match least.max_by_key(|(at, shown)| (shown.column.worth, *at)).map(|(at, _)| at) {
                Some(at) => drop(self.shown.remove(at)),
                None => return,
            }
        }
    }

    /// A line of cells; the first is the heading.
    fn line(&self, line: usize, look: &Look) -> Styled {
        let (mut styled, mut gap) = (Styled::new(), 0);
        for shown in &self.shown {
            let Some(cell) = shown.cells.get(line) else { continue };
            let cut = shown.cut(&cell.text, look.ellipsis());
            let space = shown.gets.saturating_sub(width(&cut));
            let (before, behind) = match shown.column.align {
                Align::Left => (0, space),
                Align::Right => (space, 0),
            };
            gap += before;
            if !cut.is_empty() {
                styled = styled.plain(" ".repeat(gap)).with(cell.style, cut);
                gap = 0;
            }
            gap += behind + GAP;
        }
        styled
    }

    fn text(&self, look: &Look) -> String {
        let mut text = String::new();
        for line in 0..=self.remarks.len() {
            text.push_str(&self.line(line, look).render(look));
            text.push('\n');
            let remark = line.checked_sub(1).and_then(|row| self.remarks.get(row)?.as_deref());
            if let Some(remark) = remark {
                text.push_str(&look.fit(BENEATH));
                let remark = Styled::from(remark).on_one_line();
                text.push_str(&remark.render_wrapped(look, width(&look.fit(BENEATH)), None));
                text.push('\n');
            }
        }
        text
    }
}

/// Before what is said of an item.
const BENEATH: &str = "  └ ";

impl Shown {
    fn cut(&self, text: &str, ellipsis: &str) -> String {
        match self.column.cut {
            Cut::Path => cut_path(text, self.gets, ellipsis),
            Cut::End => cut_end(text, self.gets, ellipsis),
            Cut::Name | Cut::Middle | Cut::Never => cut_middle(text, self.gets, ellipsis),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::styled::GREEN;
    use super::*;

    use super::super::screen::PIPE;

    fn terminal(columns: usize) -> Look {
        Look { terminal: true, columns: Some(columns), ..PIPE }
    }

    fn two() -> Table {
        let mut table = Table::new([
            Column::name("NAME"),
            Column::word("STATE", 0),
            Column::number("SIZE", 1),
            Column::number("LEFT", 2),
            Column::path("PATH", 0),
        ])
        .with_remarks("CAUSE");
        let dash = || known(None::<&str>);
        table.row(["tiny".into(), "ok".into(), "1.0 GiB".into(), dash(), "/m/a/tiny.gguf".into()]);
        table.row_with(
            [Cell::styled(GREEN, "qwen3:8b"), "ok".into(), dash(), dash(), "a\nb".into()],
            Some("the file is gone".into()),
        );
        table
    }

    #[test]
    fn a_pipe_gets_everything() {
        assert_eq!(
            two().render(&PIPE),
            "NAME      STATE     SIZE  LEFT  PATH            CAUSE\n\
             tiny      ok     1.0 GiB     -  /m/a/tiny.gguf  -\n\
             qwen3:8b  ok           -     -  a b             the file is gone\n"
        );
    }

    #[test]
    fn a_terminal_gets_what_is_known_and_what_is_said_beneath() {
        assert_eq!(
            two().render(&terminal(80)),
            "NAME      STATE     SIZE  PATH\n\
             tiny      ok     1.0 GiB  /m/a/tiny.gguf\n\
             qwen3:8b  ok           -  a b\n  \
               └ the file is gone\n"
        );
        let full = Look { full: true, ..terminal(10) };
        assert!(two().render(&full).starts_with("NAME      STATE     SIZE  LEFT  PATH\n"));
    }

    #[test]
    fn where_there_is_little_room_columns_go_by_worth_and_the_core_last() {
        let text = two().render(&terminal(32));
        assert!(
            text.starts_with("NAME      STATE  PATH\ntiny      ok     /m/a/tiny.gguf\n"),
            "{text}"
        );
        let text = two().render(&terminal(15));
        assert!(text.starts_with("NAME      STATE\n"), "{text}");
    }

    #[test]
    fn what_is_free_goes_back_to_what_was_cut() {
        let mut table = Table::new([Column::name("NAME"), Column::word("STATE", 0)]);
        table.row([Cell::from("n".repeat(60)), "ready".into()]);
        let text = table.render(&terminal(50));
        assert!(text.lines().all(|line| width(line) <= 50), "{text}");
        assert!(text.lines().any(|line| width(line) == 50), "{text}");
    }

    #[test]
    fn colour_changes_no_character() {
        let painted = two().render(&Look { colour: true, ..PIPE });
        assert!(painted.contains("\u{1b}[32mqwen3:8b\u{1b}[0m"), "{painted:?}");
        assert_eq!(super::super::sanitize::sanitize(&painted), two().render(&PIPE));
    }

    #[test]
    fn an_empty_table_is_nothing() {
        assert_eq!(Table::new([Column::name("NAME")]).render(&PIPE), "");
    }
}
