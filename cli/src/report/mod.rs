//! What somebody who mends a fault wants to know, without what is nobody's affair.
//!
//! ```text
//!   daemon, doctor, files ─▶ gather ─▶ Report ─▶ redact ─▶ one text, to be read before it is sent
//! ```
//!
//! A text and no archive: who sends it can read all of it first, and it fits into a bug report as it is.

mod gather;
mod redact;

pub(crate) use gather::gather;
pub(crate) use redact::Redactor;

use serde::{Serialize, Serializer};
use serde_json::Value;
use std::fmt::Write as _;

/// Sections, in their order.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<(String, Value)>);

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Report {
    /// Adds a section; what cannot be had is said in its place.
    pub(crate) fn add(&mut self, name: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).unwrap_or_default();
        self.0.push((name.to_owned(), value));
    }

    /// The same without what is nobody's affair.
    pub(crate) fn redacted(self, redactor: &Redactor) -> Report {
        let sections = self.0.into_iter();
        Report(sections.map(|(name, value)| (name, redactor.value(value))).collect())
    }

    /// As a text: a heading for each section, log lines as they are, everything else as JSON.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            let _ = writeln!(text, "== {name}");
            write_value(&mut text, value);
            text.push('\n');
        }
        text
    }
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::String(said) => {
            let _ = writeln!(text, "{said}");
        }
        // Of what follows each other, such as lines, each is one.
        Value::Array(items) => items.iter().for_each(|item| match item {
            Value::String(line) => {
                let _ = writeln!(text, "{line}");
            }
            item => {
                let _ = writeln!(text, "{item}");
            }
        }),
        value => {
            let _ = writeln!(text, "{value:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_reads_as_a_text_and_holds_no_secret() {
        let mut report = Report::default();
        report.add("made", "by llamactl 1");
        report.add("models", json!({ "m": { "settings": { "alias": "hunter22" } } }));
        report.add("log of m", ["a line", "key hunter22 in /home/ana/x"]);
        let redactor = Redactor::new(vec!["hunter22".into()], Some("/home/ana".as_ref()));
        let text = report.redacted(&redactor).text();
        assert_eq!(
            text,
            "== made\nby llamactl 1\n\n== models\n{\n  \"m\": {\n    \"settings\": {\n      \"alias\": \
             \"[hidden]\"\n    }\n  }\n}\n\n== log of m\na line\nkey [hidden] in ~/x\n\n"
        );
    }
}
