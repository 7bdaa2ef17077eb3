//! Rows of numbers that come one after the other, so that a later one cannot make its column wider.

use super::Output;
use super::styled::{BOLD, Styled};
use super::width::{cut_middle, width};
use crate::exit::Outcome;
use llamactl_protocol::prose::counted;

/// Columns of numbers that come row by row, each as wide as its name asks. At a terminal names that make
/// them too wide are cut, and columns that do not fit left out.
#[derive(Default)]
pub(crate) struct Heading {
    names: Vec<String>,
    /// The width of each that is shown.
    widths: Vec<usize>,
}

/// A number is seldom wider.
const NUMBER: usize = 9;
/// To what a name is cut.
const NAME: usize = 20;

impl Heading {
    /// Says what the columns are, unless that was said last; `first` is the column of the time.
    pub(crate) fn tell(&mut self, output: &mut Output, first: &str, names: Vec<String>) -> Outcome {
        if names == self.names {
            return Ok(());
        }
        let look = output.look;
        let room = look.columns.filter(|_| !look.full).unwrap_or(usize::MAX);
        let needs = |names: &[String]| -> Vec<usize> {
            names.iter().map(|name| width(name).max(NUMBER)).collect()
        };
        let mut shown: Vec<String> = names.iter().map(|name| look.fit_line(name)).collect();
        let taken =
            |widths: &[usize]| widths.iter().map(|it| it + GAP).sum::<usize>() + first.len();
        if taken(&needs(&shown)) > room {
            shown.iter_mut().for_each(|name| *name = cut_middle(name, NAME, look.ellipsis()));
        }
        self.widths = needs(&shown);
        while taken(&self.widths) > room && self.widths.len() > 1 {
            self.widths.pop();
        }
        let line = self.line(shown.iter().map(String::as_str));
        output.line_unflushed(Styled::new().with(BOLD, format!("{first}{line}")))?;
        let left_out = names.len() - self.widths.len();
        if left_out > 0 {
            output
                .note(format!("{} left out; --full shows all", counted(left_out as u64, "column")));
        }
        self.names = names;
        Ok(())
    }

    /// Cells beneath it.
    pub(crate) fn line<'a>(&self, cells: impl Iterator<Item = &'a str>) -> String {
        let mut line = String::new();
        for (cell, wide) in cells.zip(&self.widths) {
            let space = (wide + GAP).saturating_sub(width(cell)).max(GAP);
            line.push_str(&" ".repeat(space));
            line.push_str(cell);
        }
        line
    }
}

/// Between two columns.
const GAP: usize = 2;
