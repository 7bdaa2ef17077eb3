//! A change of settings as it comes over the wire, checked.

use llamactl_protocol::model::SettingsChange;
use llamactl_protocol::options::command_line::{self, Word};
use llamactl_protocol::options::{Build, Settings, find, find_known, rules};
use llamactl_protocol::{Failure, Hint, Kind, WirePath};
use serde_json::json;
use std::path::Path;

/// A change whose keys and values are the catalogue's.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Values to set; secrets as they were given.
    pub set: Settings,
    /// Keys to take back.
    pub unset: Vec<String>,
    /// Another file for the model.
    pub path: Option<WirePath>,
    /// What the caller should know.
    pub notes: Vec<String>,
}

impl Checked {
    /// These settings after the change.
    #[must_use]
    pub fn applied_to(&self, before: &Settings) -> Settings {
        let mut after = before.clone();
        for key in &self.unset {
            after.remove(key);
        }
        after.extend(self.set.clone());
        after
    }
}

/// Checks a change against the catalogue, and against the build where it alone knows an option.
///
/// # Errors
/// [`Kind::UnknownOption`], [`Kind::OptionRefused`], [`Kind::InvalidValue`]: the first one there
/// is; nothing is changed then.
pub(super) fn check(change: &SettingsChange, build: Option<&Build>) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    let base = change.directory.as_ref().map_or(Path::new("/"), WirePath::as_path);
    for word in command_line::read(&change.arguments, build, base) {
        match word {
            Word::Setting { key, value, .. } => {
                command_line::collect(&mut checked.set, key, value);
            }
            Word::Path(path) => checked.path = Some(path),
            Word::Alias(_) => return Err(find("alias", None).err().unwrap_or_else(not_a_setting)),
            Word::Refused { failure, .. } => return Err(failure),
            Word::Unknown { flag, .. } => {
                return Err(find(&flag, build).err().unwrap_or_else(not_a_setting));
            }
        }
    }
    for (key, value) in change.set.iter() {
        let setting = find(key, build)?;
        let value = setting.check(value)?;
        if setting.key == "path" {
            checked.path = serde_json::from_value(value).ok();
        } else if checked.set.insert(setting.key.to_owned(), value).is_some()
            && change.arguments.is_empty()
        {
            return Err(twice(setting.key));
        }
    }
    for key in change.unset.iter() {
        // What no build knows any more, or is refused by now, can still be taken back.
        let known = find_known(key, build).or_else(|failure| match failure.kind {
            Kind::OptionRefused => Ok(None),
            _ => Err(failure),
        })?;
        let key = known.map_or_else(|| key.0.clone(), |setting| setting.key.to_owned());
        if key == "path" {
            return Err(Failure::new(
                Kind::InvalidValue,
                "a model has a file: path cannot be unset",
            )
            .hint(Hint::run(
                "take the model out of the registry",
                ["llamactl", "model", "remove", "NAME"],
            )));
        }
        if checked.set.contains_key(&key) {
            return Err(Failure::new(
                Kind::InvalidValue,
                format!("{key} cannot be set and unset at once"),
            ));
        }
        checked.unset.push(key);
    }
    checked.notes = rules::notes(&checked.set);
    Ok(checked)
}

fn twice(key: &str) -> Failure {
    Failure::new(Kind::InvalidValue, format!("{key} is given twice, under two of its names"))
        .details(json!({ "key": key }))
}

fn not_a_setting() -> Failure {
    Failure::new(Kind::UnknownOption, "this argument is no setting")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn change(set: Value, unset: &[&str], arguments: &[&str]) -> SettingsChange {
        SettingsChange {
            set: serde_json::from_value(set).unwrap(),
            unset: unset.iter().copied().collect(),
            arguments: arguments.iter().map(WirePath::from).collect(),
            directory: Some(WirePath::from("/home/me")),
            if_revision: None,
        }
    }

    #[test]
    fn keys_aliases_and_llama_servers_own_spelling_are_one() {
        let checked =
            check(&change(json!({ "c": "512" }), &["port"], &["-ngl", "99"]), None).unwrap();
        assert_eq!(json!(checked.set), json!({ "ctx-size": 512, "gpu-layers": 99 }));
        assert_eq!(checked.unset, ["port"]);
        let after = checked.applied_to(&Settings::from([("port".to_owned(), json!(1))]));
        assert_eq!(after.len(), 2);
    }

    #[test]
    fn a_file_is_no_setting_among_others() {
        let checked = check(&change(json!({}), &[], &["-m", "x.gguf"]), None).unwrap();
        assert_eq!(checked.path, Some(WirePath::from("/home/me/x.gguf")));
        assert!(check(&change(json!({}), &["path"], &[]), None).is_err());
    }

    #[test]
    fn one_setting_under_two_names_is_refused() {
        let twice = check(&change(json!({ "c": 1, "ctx-size": 2 }), &[], &[]), None);
        assert_eq!(twice.unwrap_err().kind, Kind::InvalidValue);
        let both = check(&change(json!({ "ctx-size": 2 }), &["c"], &[]), None);
        assert!(both.unwrap_err().message.contains("at once"));
    }
}
