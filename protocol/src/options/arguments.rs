//! A stored value as llama-server gets it: its flag, then the value as an argument of its own.
//!
//! Never joined by `=`: b10434 refuses `--ctx-size=4096` as an unknown flag. It takes whatever
//! follows a flag as the flag's value, so a value that begins with a dash is no danger.

use super::{Build, Item, Setting, Told, Values};
use crate::WirePath;
use serde_json::Value;

/// The arguments for one setting, in order. Nothing for what is not told by arguments.
///
/// `build` decides which of a flag's names is used; without one, today's.
#[must_use]
pub fn of(setting: &Setting<'_>, value: &Value, build: Option<&Build>) -> Vec<WirePath> {
    if !matches!(setting.told, Told::Flag | Told::Repeated) {
        return vec![];
    }
    let flag = setting.flag(build);
    let words = |words: &[&str]| words.iter().map(|word| WirePath::from(*word)).collect();
    match (&setting.values, value) {
        (Values::Switch, Value::Bool(true)) => words(&[&flag]),
        // A flag without a negation is off unless it is given.
        (Values::Switch, _) => setting.negation(build).map_or_else(Vec::new, |off| words(&[&off])),
        (Values::List { separator, .. }, Value::Array(items)) if setting.told == Told::Flag => {
            let mut joined = Vec::new();
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    let mut buffer = [0; 4];
                    joined.extend_from_slice(separator.encode_utf8(&mut buffer).as_bytes());
                }
                joined.extend_from_slice(argument(item).as_bytes());
            }
            vec![WirePath::from(flag.as_str()), WirePath::from_bytes(joined)]
        }
        (Values::List { .. }, Value::Array(items)) => {
            items.iter().flat_map(|item| [WirePath::from(flag.as_str()), argument(item)]).collect()
        }
        (Values::Pair, Value::Array(items)) => std::iter::once(WirePath::from(flag.as_str()))
            .chain(items.iter().map(argument))
            .collect(),
        (_, value) => vec![WirePath::from(flag.as_str()), argument(value)],
    }
}

/// One value as one argument.
fn argument(value: &Value) -> WirePath {
    match value {
        Value::String(text) => WirePath::from(text.as_str()),
        Value::Object(_) => serde_json::from_value(value.clone())
            .unwrap_or_else(|_| WirePath::from(value.to_string().as_str())),
        other => WirePath::from(other.to_string().as_str()),
    }
}

impl Setting<'_> {
    /// The flag a build knows it by, with its dashes.
    #[must_use]
    pub fn flag(&self, build: Option<&Build>) -> String {
        // llamactl's own words for a setting need not be a flag: `static-path` is `--path`.
        let known = |name: &&str| build.is_none_or(|build| build.has(name));
        let long = self.long_flags().find(known);
        let name = match (build, long) {
            (None, _) => self.long.first().filter(|_| self.renamed()).unwrap_or(&self.key),
            (Some(_), Some(name)) => name,
            (Some(_), None) => self.key,
        };
        format!("--{name}")
    }

    /// Whether the key is llamactl's word, because llama-server's own would be taken for
    /// something else.
    pub(super) fn renamed(&self) -> bool {
        self.key == "static-path"
    }

    /// The flag that switches it off, with its dashes, where there is one.
    #[must_use]
    pub fn negation(&self, build: Option<&Build>) -> Option<String> {
        let known = |flag: &&str| build.is_none_or(|build| build.has(flag.trim_start_matches('-')));
        let long = self.negations.iter().filter(|flag| flag.starts_with("--"));
        long.chain(self.negations.iter()).find(known).map(str::to_owned)
    }

    /// Whether several values stand behind one flag.
    #[must_use]
    pub fn takes_two_arguments(&self) -> bool {
        matches!(self.values, Values::Pair)
    }

    /// Whether a value stands behind the flag.
    #[must_use]
    pub fn takes_argument(&self) -> bool {
        !matches!(self.values, Values::Switch)
    }

    /// Whether it takes a list.
    #[must_use]
    pub fn takes_several(&self) -> bool {
        matches!(self.values, Values::List { .. })
    }

    /// Whether its values are paths, which whoever types them means from where they are.
    #[must_use]
    pub fn takes_path(&self) -> bool {
        matches!(
            self.values,
            Values::File
                | Values::Directory
                | Values::List { of: Item::File | Item::ScaledFile, .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::find;
    use serde_json::json;

    fn arguments(key: &str, value: Value) -> Vec<String> {
        let setting = find(key, None).unwrap();
        let value = setting.check(&value).unwrap();
        of(&setting, &value, None).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn flag_and_value_are_two_arguments() {
        assert_eq!(arguments("ctx-size", json!("4096")), ["--ctx-size", "4096"]);
        assert_eq!(arguments("gpu-layers", json!("all")), ["--gpu-layers", "all"]);
        assert!(arguments("port", json!(8101)).is_empty(), "llamactl decides where it listens");
    }
}
