//! Named facts under each other, for screens about one thing.

use super::styled::{BOLD, DIM, Style, Styled};

/// A block of `name  value` lines with the values aligned. Facts without a value are left out.
#[derive(Default)]
pub(crate) struct Facts(Vec<(String, Styled)>);

impl Facts {
    /// No facts yet.
    pub(crate) fn new() -> Self {
        Facts::default()
    }

    /// Adds a fact.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<Styled>) {
        self.0.push((name.into(), value.into().on_one_line()));
    }

    /// Adds a fact that may be unknown.
    pub(crate) fn add_known(&mut self, name: &str, value: Option<impl Into<Styled>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// The facts as lines, a name that stands above left out.
    pub(crate) fn lines(self) -> Vec<Styled> {
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut before = String::new();
        self.0
            .into_iter()
            .map(|(name, value)| {
                let shown = if name == before { "" } else { name.as_str() };
                let line = Styled::new().with(DIM, format!("{shown:width$}  ")).append(value);
                before = name;
                line
            })
            .collect()
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
    fn values_align_and_a_repeated_name_is_said_once() {
        let mut facts = Facts::new();
        facts.add("path", "/m/tiny.gguf");
        facts.add_known("title", None::<&str>);
        facts.add("setting", "port=auto");
        facts.add("setting", "ctx-size=512");
        let lines: Vec<String> =
            facts.lines().iter().map(|line| line.render(false, false)).collect();
        assert_eq!(lines, ["path     /m/tiny.gguf", "setting  port=auto", "         ctx-size=512"]);
    }
}
