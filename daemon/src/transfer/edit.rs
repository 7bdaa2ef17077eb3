//! One model's file and settings as a text to edit. Pure.

use super::document::{Reader, parse};
use super::position::{At, Lines, placed, unreadable};
use super::spec::Given;
use super::toml_value::{key, write};
use llamactl_protocol::model::{Model, SettingsChange};
use llamactl_protocol::options::{Settings, find_known};
use llamactl_protocol::{Failure, WirePath};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The text, secrets shown as kept.
#[must_use]
pub fn write_document(model: &Model) -> String {
    let mut text = format!(
        "# The file and the settings of {}, checked and set together when this is saved.\n\
         # A setting whose line is taken out is unset. llamactl help settings explains them all.\n\
         # A secret stays what it is as {{ secret = \"kept\" }}; name and aliases are changed with\n\
         # llamactl model rename and llamactl model alias.\n\npath = {}\n\n[settings]\n",
        model.name,
        write(&json!(model.path))
    );
    for (name, value) in &model.settings {
        if let Ok(Some(setting)) = find_known(name, None) {
            let unit = if setting.unit.is_empty() {
                String::new()
            } else {
                format!(" ({})", setting.unit)
            };
            text.push_str(&format!("# {}{unit}\n", setting.help.replace('\n', " ")));
        }
        text.push_str(&format!("{} = {}\n", key(name), write(value)));
    }
    text
}

/// What an edited text changes.
#[derive(Debug)]
pub struct Edited {
    /// What is set and what is unset by the edited text.
    pub change: SettingsChange,
    /// Where each setting stands, by the key it is given under.
    places: BTreeMap<String, At>,
}

impl Edited {
    /// A refusal of the change, with the place of what it is about.
    #[must_use]
    pub fn placed(&self, failure: Failure) -> Failure {
        let named = failure.details.as_ref().and_then(|details| details.get("key"));
        let named = named.and_then(Value::as_str).map(str::to_owned);
        let at = named.and_then(|named| {
            let exact = self.places.get(&named).copied();
            // A setting may stand there under another of its names.
            exact.or_else(|| {
                let same =
                    |name: &str| matches!(find_known(name, None), Ok(Some(it)) if it.key == named);
                self.places.iter().find(|(name, _)| same(name)).map(|(_, at)| *at)
            })
        });
        placed(failure, at)
    }
}

/// Reads an edited text as a change of the model.
///
/// # Errors
/// `Kind::Unreadable` with line and column.
pub fn read_document(text: &str, model: &Model, revision: i64) -> Result<Edited, Failure> {
    let document = parse(text)?;
    let reader = Reader { text, lines: Lines::of(text), base: Path::new("/") };
    let mut places = BTreeMap::new();
    let mut change = SettingsChange { if_revision: Some(revision), ..SettingsChange::default() };
    let (mut set, mut path) = (Settings::new(), None::<WirePath>);
    for (name, value) in document.get_ref() {
        let at = At::of_byte(text, name.span().start);
        match name.get_ref().as_ref() {
            "path" => {
                places.insert("path".to_owned(), at);
                path = Some(reader.path(value)?);
            }
            "settings" => {
                let table = value.get_ref().as_table();
                let table =
                    table.ok_or_else(|| unreadable("settings must be a table", Some(at)))?;
                for (name, Given { value, at }) in reader.settings(table)? {
                    places.extend(at.map(|at| (name.clone(), at)));
                    set.insert(name, value);
                }
            }
            other => {
                return Err(unreadable(format!("{other:?} means nothing here"), Some(at))
                    .hint("settings stand below [settings], each on a line of its own"));
            }
        }
    }
    // The key itself tells what is gone, whatever name it is given under.
    let given: BTreeSet<String> = set
        .keys()
        .map(|name| match find_known(name, None) {
            Ok(Some(setting)) => setting.key.to_owned(),
            _ => name.clone(),
        })
        .collect();
    let gone = model.settings.keys().filter(|key| !given.contains(*key));
    change.unset = gone.cloned().collect();
    if let Some(path) = path.filter(|path| *path != model.path) {
        set.insert("path".to_owned(), json!(path));
    }
    change.set = set.into();
    Ok(Edited { change, places })
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::Kind;
    use llamactl_protocol::model::ModelFile;
    use llamactl_protocol::options::secret;

    fn model() -> Model {
        Model {
            id: 1,
            name: "m".to_owned(),
            aliases: vec![],
            path: WirePath::from("/m.gguf"),
            file: ModelFile::default(),
            file_state: None,
            settings: Settings::from([
                ("temp".to_owned(), json!(0.7)),
                ("ctx-size".to_owned(), json!(512)),
                ("api-key".to_owned(), secret::shown()),
            ]),
            revision: 3,
            added_at_ms: 0,
            changed_at_ms: 0,
        }
    }

    #[test]
    fn what_is_not_edited_changes_nothing() {
        let model = model();
        let edited = read_document(&write_document(&model), &model, 3).unwrap();
        assert_eq!(edited.change.set.0, model.settings);
        assert!(edited.change.unset.is_empty());
        assert_eq!(edited.change.if_revision, Some(3));
    }

    #[test]
    fn a_line_taken_out_unsets_and_a_name_of_it_will_do() {
        let text = "path = \"/n.gguf\"\n[settings]\nc = 1024\n";
        let edited = read_document(text, &model(), 3).unwrap();
        assert_eq!(json!(edited.change.set), json!({ "c": 1024, "path": "/n.gguf" }));
        assert_eq!(Vec::from(edited.change.unset.clone()), ["api-key", "temp"]);
        let refused = Failure::new(Kind::InvalidValue, "no").details(json!({ "key": "ctx-size" }));
        assert_eq!(edited.placed(refused).details.unwrap()["line"], 3);
    }

    #[test]
    fn what_means_nothing_is_placed() {
        for text in ["temp = 1\n", "[settings]\nx = \n", "settings = 1\n"] {
            let failure = read_document(text, &model(), 3).unwrap_err();
            assert!(failure.details.unwrap()["line"].is_u64(), "{text}");
        }
    }
}
