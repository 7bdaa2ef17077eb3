//! Where a command runs and has its files when it is about another machine. Each says it at its entry in
//! the table of commands.
//!
//! ```text
//!   ASKS     from here, and asks the daemon there     WHOLE    by llamactl there, word for word
//!   HERE     asks no daemon                           REFUSED  it is about the machine that it runs on
//! ```

use super::{carry_out, elsewhere};
use crate::commands::SIDES;
use crate::connection::{Reach, runtime};
use crate::exit::Outcome;
use crate::output::table::{Cell, Column, Table};
use llamactl_protocol::{Failure, Hint, Kind};

/// Where a command is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runs {
    /// Here, and it asks the daemon there.
    Asks,
    /// Here, and nobody is asked.
    Here,
    /// By llamactl there.
    There,
    /// Not at all.
    Nowhere,
}

impl Runs {
    fn words(self) -> &'static str {
        match self {
            Runs::Asks => "here, and asks there",
            Runs::Here => "here",
            Runs::There => "there",
            Runs::Nowhere => "refused",
        }
    }
}

/// On which machine a command is carried out and has its files.
#[derive(Clone, Copy)]
pub(crate) struct Side {
    runs: Runs,
    /// What it has there, in words.
    there: &'static str,
    /// What it has here.
    here: &'static str,
    /// It asks the daemon for what it prints and does nothing else, so it can begin without a runtime.
    is_question: bool,
    /// The commands that it only groups.
    below: &'static [(&'static str, Side)],
}

const PLAIN: Side = Side { runs: Runs::Asks, there: "", here: "", is_question: false, below: &[] };

/// It asks the daemon, and names no files.
pub(crate) const ASKS: Side = PLAIN;
/// The same, and asks it for what it prints and nothing else.
pub(crate) const LOOKS: Side = Side { is_question: true, ..ASKS };
/// It asks the daemon with settings.
pub(crate) const SETTINGS: Side =
    ASKS.there("paths among the settings").here("secrets: KEY=@FILE, KEY=-");
/// It asks nobody.
pub(crate) const HERE: Side = Side { runs: Runs::Here, ..PLAIN };
/// It asks the machine itself.
pub(crate) const WHOLE: Side = Side { runs: Runs::There, ..PLAIN };
/// It is about the machine that it runs on.
pub(crate) const REFUSED: Side = Side { runs: Runs::Nowhere, ..PLAIN };

impl Side {
    /// That of a command which only groups others.
    pub(crate) const fn of_all(below: &'static [(&'static str, Side)]) -> Side {
        Side { below, ..PLAIN }
    }

    /// The same with these files on the other machine.
    pub(crate) const fn there(self, there: &'static str) -> Side {
        Side { there, ..self }
    }

    /// The same with these files on this machine.
    pub(crate) const fn here(self, here: &'static str) -> Side {
        Side { here, ..self }
    }

    /// What the command comes to where it is about another machine and is not carried out here.
    pub(crate) async fn elsewhere(&self, reach: &Reach) -> Option<Outcome> {
        if !self.is_question {
            runtime().await;
        }
        let host = reach.host.as_ref()?;
        match self.runs {
            Runs::Asks | Runs::Here => None,
            Runs::There => Some(carry_out(host).await),
            Runs::Nowhere => {
                let why = "this command is about the machine that it runs on";
                let words = elsewhere::words(host, std::env::args_os().skip(1));
                let words = words.iter().map(|word| word.to_string_lossy().into_owned());
                let line: Vec<String> = ["llamactl".to_owned()].into_iter().chain(words).collect();
                let hint = Hint::run("run it there", host.shell(&line));
                Some(Err(Failure::new(Kind::Usage, why).hint(hint).into()))
            }
        }
    }
}

/// Where everything runs and lies, for people.
pub(crate) fn table() -> Table {
    let mut table = Table::new([
        Column::name("COMMAND"),
        Column::text("RUNS", 3),
        Column::prose("THERE", 2),
        Column::prose("HERE", 1),
    ]);
    for (name, side) in all("", SIDES) {
        let cells = [&name, side.runs.words(), side.there, side.here];
        table.row(cells.map(Cell::from));
    }
    table
}

/// Each command by its whole name.
fn all(before: &str, sides: &[(&str, Side)]) -> Vec<(String, Side)> {
    let each = sides.iter().map(|(name, side)| (format!("{before}{name}"), *side));
    each.flat_map(|(name, side)| match side.below {
        [] => vec![(name, side)],
        below => all(&format!("{name} "), below),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_document;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/remote.md");
    const BEGIN: &str = "<!-- written by the test that compares it -->\n";
    const END: &str = "<!-- end -->";

    #[test]
    fn the_page_says_where_each_command_has_its_files() {
        let mut table =
            String::from("| command | is carried out | there | here |\n|---|---|---|---|\n");
        for (name, side) in all("", SIDES) {
            let (runs, there, here) = (side.runs.words(), side.there, side.here);
            table.push_str(&format!("| `{name}` | {runs} | {there} | {here} |\n"));
        }
        let page = std::fs::read_to_string(PAGE).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        assert_document("remote.md", &format!("{before}{BEGIN}{table}{END}{after}"));
    }
}
