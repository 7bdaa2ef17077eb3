//! What to do about something, as data: words, and a command that works.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// One thing to do: what for, and the command that does it, if one does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hint {
    /// What to do, or what the command is for: one line, lower case, no full stop.
    pub text: String,
    /// The command with its arguments, ready to be run; empty where the cure is no command.
    pub argv: Vec<String>,
}

impl Hint {
    /// A cure that is no command.
    pub fn to(text: impl Into<String>) -> Hint {
        Hint { text: text.into(), argv: vec![] }
    }

    /// A command and what it is for.
    pub fn run<A: Into<String>>(
        text: impl Into<String>,
        argv: impl IntoIterator<Item = A>,
    ) -> Hint {
        Hint { text: text.into(), argv: argv.into_iter().map(Into::into).collect() }
    }

    /// The command as it is typed in a shell; `None` where the cure is no command.
    #[must_use]
    pub fn command(&self) -> Option<String> {
        let words: Vec<Cow<'_, str>> = self.argv.iter().map(|word| quoted(word)).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Hint {
        Hint::to(text)
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Hint {
        Hint::to(text)
    }
}

impl fmt::Display for Hint {
    /// `what for: command`, or what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command() {
            Some(command) if self.text.ends_with('?') => write!(f, "{} {command}", self.text),
            Some(command) => write!(f, "{}: {command}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// A word as a shell reads it back. `=`, `…` and capitals stand for themselves.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |it: char| it.is_alphanumeric() || "-_./:=@%+,…".contains(it);
    match !word.is_empty() && word.chars().all(plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', "'\\''"))),
    }
}

/// Hints, the likeliest first. On the wire they are two fields of what they belong to: `hint`, a
/// line of words for each (`null` without any), and `commands`, an argument list for each, empty
/// where the cure is no command. Meant for `#[serde(flatten)]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints(pub Vec<Hint>);

#[derive(Serialize, Deserialize, JsonSchema)]
struct Shape<'a> {
    /// What to do, a line for each of `commands`; `null` where nothing is to be said.
    #[serde(default)]
    hint: Option<Cow<'a, str>>,
    /// The commands that do it, with their arguments; empty for a line that names none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    commands: Vec<Vec<String>>,
}

impl Serialize for Hints {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lines: Vec<&str> = self.0.iter().map(|hint| hint.text.as_str()).collect();
        let has_commands = self.0.iter().any(|hint| !hint.argv.is_empty());
        let commands = self.0.iter().filter(|_| has_commands).map(|hint| hint.argv.clone());
        let hint = (!lines.is_empty()).then(|| Cow::Owned(lines.join("\n")));
        Shape { hint, commands: commands.collect() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Hints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Shape { hint, commands } = Shape::deserialize(deserializer)?;
        let lines = hint.as_deref().map(str::lines).into_iter().flatten();
        let mut commands = commands.into_iter();
        let hints = lines
            .map(|line| Hint { text: line.to_owned(), argv: commands.next().unwrap_or_default() });
        Ok(Hints(hints.collect()))
    }
}

impl JsonSchema for Hints {
    fn schema_name() -> Cow<'static, str> {
        "Hints".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Shape::json_schema(generator)
    }
}

impl From<Hint> for Hints {
    fn from(hint: Hint) -> Hints {
        Hints(vec![hint])
    }
}

impl FromIterator<Hint> for Hints {
    fn from_iter<T: IntoIterator<Item = Hint>>(hints: T) -> Hints {
        Hints(hints.into_iter().collect())
    }
}

impl Hints {
    /// The same for this model: its name stands where a command has the word `NAME`. Who says what
    /// is wrong may not know whose it is, and a model can be renamed before it is read.
    #[must_use]
    pub fn of_model(mut self, name: &str) -> Hints {
        let words = self.0.iter_mut().flat_map(|hint| &mut hint.argv);
        words.filter(|word| *word == "NAME").for_each(|word| name.clone_into(word));
        self
    }

    /// Each as people read it.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(Hint::to_string)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_two_fields_on_the_wire_and_read_back_as_they_were() {
        let hints = Hints(vec![
            Hint::run("let it go on", ["kill", "-CONT", "7"]),
            Hint::to("or free some memory"),
        ]);
        let text = serde_json::to_value(&hints).unwrap();
        assert_eq!(text["hint"], "let it go on\nor free some memory");
        assert_eq!(text["commands"], serde_json::json!([["kill", "-CONT", "7"], []]));
        assert_eq!(serde_json::from_value::<Hints>(text).unwrap(), hints);
    }

    #[test]
    fn a_hint_without_a_command_is_what_earlier_versions_wrote() {
        let old: Hints = serde_json::from_str(r#"{"hint":"free some memory"}"#).unwrap();
        assert_eq!(old, Hint::to("free some memory").into());
        let none: Hints = serde_json::from_str(r#"{"hint":null}"#).unwrap();
        assert!(none.is_empty());
    }

    #[test]
    fn a_command_is_shown_as_a_shell_reads_it() {
        let hint = Hint::run("set it", ["llamactl", "model", "set", "a b", "temp=1"]);
        assert_eq!(hint.to_string(), "set it: llamactl model set 'a b' temp=1");
    }

    #[test]
    fn a_command_for_a_model_names_it() {
        let hints = Hints::from(Hint::run("NAME it", ["llamactl", "stop", "NAME", "NAME=1"]));
        assert_eq!(hints.of_model("a b").0[0].to_string(), "NAME it: llamactl stop 'a b' NAME=1");
    }
}
