//! What an import would do, from what is wished for and what is there. Pure.

use super::wish::{Names, Omissions, Wish, WishedModel, placed};
use llamactl_protocol::exchange::{ImportItem, Imported, ItemAction, ItemKind};
use llamactl_protocol::model::{Difference, Model};
use llamactl_protocol::options::{Settings, layers, secret};
use llamactl_protocol::{Failure, Kind, WirePath, name};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// An answer stays well below the longest message.
const MAX_ITEMS_BYTES: usize = 512 << 10;

/// A wished model that found its place.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    /// What is wished, under the name it will have.
    pub(super) wished: WishedModel,
    /// The model of the registry that it changes; `None`: it is new.
    pub(super) before: Option<Model>,
}

/// Finds the name of each wished model, and the model of the registry it means.
///
/// # Errors
/// Of a strict wish: names that are none, or another model's.
pub(super) fn settle(wish: &mut Wish, models: &[Model]) -> Result<Vec<Settled>, Failure> {
    let there = There::of(models);
    let mut names = Names::default();
    let mut settled = Vec::new();
    for mut model in std::mem::take(&mut wish.models) {
        let given = model.name.clone();
        if wish.strict {
            if !name::is_valid(&given) {
                return Err(placed(invalid(&given), model.at));
            }
        } else {
            match name::from_text(&given) {
                Some(name) => model.name = name,
                None => {
                    wish.left_out.add(format!("the model {given:?}"), "no name can be made of it");
                    continue;
                }
            }
            model.name = there.name_for(&model, &mut names);
            if model.name != given {
                wish.notes.push(format!("the model {given:?} is called {}", model.name));
            }
        }
        let before = there.by_name.get(model.name.as_str()).map(|model| (*model).clone());
        if before.is_none() && model.path.is_none() {
            if wish.strict {
                let failure = Failure::new(
                    Kind::InvalidValue,
                    format!("there is no model {}, and the file names no path for it", model.name),
                )
                .hint("add its path");
                return Err(placed(failure, model.at));
            }
            let reason = "there is no model of this name, and no file is named";
            wish.left_out.add(format!("the model {given}"), reason);
            continue;
        }
        settled.push(Settled { wished: model, before });
    }
    check_names(wish.strict, &mut settled, models, &mut wish.left_out)?;
    Ok(settled)
}

fn invalid(given: &str) -> Failure {
    let failure =
        Failure::new(Kind::InvalidName, format!("{given:?} is not a name: {}", name::RULE));
    match name::from_text(given) {
        Some(near) => failure.hint(format!("{near} would do")),
        None => failure,
    }
}

/// The models of the registry, by what a wished one may be known.
struct There<'m> {
    by_name: BTreeMap<&'m str, &'m Model>,
    aliases: BTreeSet<&'m str>,
    by_path: BTreeMap<&'m WirePath, Vec<&'m str>>,
}

impl<'m> There<'m> {
    fn of(models: &'m [Model]) -> There<'m> {
        let mut by_path: BTreeMap<&WirePath, Vec<&str>> = BTreeMap::new();
        for model in models {
            by_path.entry(&model.path).or_default().push(&model.name);
        }
        There {
            by_name: models.iter().map(|model| (model.name.as_str(), model)).collect(),
            aliases: models.iter().flat_map(|it| &it.aliases).map(String::as_str).collect(),
            by_path,
        }
    }

    /// The name of a model of a lenient wish: its own, or the next free one where that is another
    /// model's.
    fn name_for(&self, model: &WishedModel, names: &mut Names) -> String {
        let wanted = model.name.as_str();
        // What it may change: the model of its name, or one that was imported before as this.
        let same_file = model.path.as_ref().and_then(|path| self.by_path.get(path));
        let known = match (model.apart, same_file) {
            (true, Some(there)) => {
                there.iter().copied().find(|name| is_variant(name, wanted) && !names.has(name))
            }
            (true, None) if model.path.is_some() => None,
            _ => self.by_name.get_key_value(wanted).map(|(name, _)| *name),
        };
        match known.filter(|name| !names.has(name)) {
            Some(name) => {
                names.take(name);
                name.to_owned()
            }
            None => names.take_free(wanted, |name| {
                !self.by_name.contains_key(name) && !self.aliases.contains(name)
            }),
        }
    }
}

/// Whether a name is the wanted one, or the wanted one with a number.
fn is_variant(name: &str, wanted: &str) -> bool {
    let number = name.strip_prefix(wanted).and_then(|rest| rest.strip_prefix('-'));
    name == wanted
        || number.is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit()))
}

/// Makes sure that no two models will answer to one name.
fn check_names(
    strict: bool,
    settled: &mut [Settled],
    models: &[Model],
    left_out: &mut Omissions,
) -> Result<(), Failure> {
    let changed: BTreeSet<i64> =
        settled.iter().filter_map(|it| Some(it.before.as_ref()?.id)).collect();
    // Who will have which name: names first, then the aliases of models that stay as they are.
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for model in models {
        owners.insert(model.name.clone(), model.name.clone());
        let stay = model.aliases.iter().filter(|_| !changed.contains(&model.id));
        owners.extend(stay.map(|alias| (alias.clone(), model.name.clone())));
    }
    for model in settled.iter() {
        let name = &model.wished.name;
        if let Some(owner) = owners.insert(name.clone(), name.clone()).filter(|it| it != name) {
            return Err(placed(taken(name, &owner), model.wished.at));
        }
    }
    for model in settled.iter_mut() {
        let name = model.wished.name.clone();
        let before = model.before.as_ref().map(|model| model.aliases.clone()).unwrap_or_default();
        let wished = model.wished.aliases.clone().unwrap_or(before);
        let mut aliases: Vec<String> = Vec::new();
        for alias in wished {
            let failure = match owners.get(&alias) {
                _ if !name::is_valid(&alias) => invalid(&alias),
                Some(owner) if *owner == name => continue,
                Some(owner) => taken(&alias, owner),
                None => {
                    owners.insert(alias.clone(), name.clone());
                    aliases.push(alias);
                    continue;
                }
            };
            if strict {
                return Err(placed(failure, model.wished.at));
            }
            left_out.refused(format!("{name}: the alias {alias}"), &failure);
        }
        aliases.sort();
        model.wished.aliases = Some(aliases);
    }
    Ok(())
}

fn taken(name: &str, by: &str) -> Failure {
    Failure::new(Kind::NameTaken, format!("the name {name} is taken, by the model {by}"))
        .details(json!({ "name": name, "taken_by": by }))
}

/// What a model will be.
#[derive(Clone, Debug)]
pub(super) struct Desired {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) path: WirePath,
    /// Secrets that are given stand here as they were given.
    pub(super) settings: Settings,
    pub(super) notes: Vec<String>,
}

/// What becomes of a model.
pub(super) fn model_item(before: Option<&Model>, after: &Desired) -> ImportItem {
    let mut changes = Vec::new();
    let mut differ = |key: &str, from: Option<Value>, to: Value| {
        if from.as_ref() != Some(&to) {
            changes.push(Difference { key: key.to_owned(), from, to: Some(to) });
        }
    };
    differ("path", before.map(|it| json!(it.path)), json!(after.path));
    let aliases = before.map_or_else(|| Some(json!([])), |it| Some(json!(sorted(&it.aliases))));
    differ("aliases", aliases, json!(sorted(&after.aliases)));
    let nothing = Settings::new();
    let there = before.map_or(&nothing, |model| &model.settings);
    changes.extend(differences(there, &after.settings));
    item(ItemKind::Model, &after.name, before.is_some(), changes, after.notes.clone())
}

fn sorted(list: &[String]) -> Vec<String> {
    let mut list = list.to_vec();
    list.sort();
    list
}

/// An item, its action told from what differs.
pub(super) fn item(
    kind: ItemKind,
    name: &str,
    is_there: bool,
    changes: Vec<Difference>,
    notes: Vec<String>,
) -> ImportItem {
    let action = match (is_there, changes.is_empty()) {
        (false, _) => ItemAction::Add,
        (true, true) => ItemAction::Same,
        (true, false) => ItemAction::Change,
    };
    ImportItem { kind, name: name.to_owned(), action, changes, notes }
}

/// What differs between settings, secrets not shown.
pub(super) fn differences(before: &Settings, after: &Settings) -> Vec<Difference> {
    let masked = |value: Option<&Value>| {
        value.map(|value| if secret::is_secret(value) { secret::shown() } else { value.clone() })
    };
    let keys = layers::differences(before, after);
    keys.into_iter()
        .map(|key| Difference { from: masked(before.get(&key)), to: masked(after.get(&key)), key })
        .collect()
}

/// The answer: counts, and as many items as it has room for, those that do something first.
pub(super) fn answer(mut items: Vec<ImportItem>, wish: Wish) -> Imported {
    let count = |action| {
        let count = items.iter().filter(|item: &&ImportItem| item.action == action).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    };
    let (added, changed, same) =
        (count(ItemAction::Add), count(ItemAction::Change), count(ItemAction::Same));
    let mut bytes = 0usize;
    let mut shown = Vec::new();
    let mut not_shown = 0;
    items.sort_by_key(|item| item.action == ItemAction::Same);
    for item in items {
        bytes = bytes.saturating_add(serde_json::to_string(&item).map_or(0, |text| text.len()));
        if bytes > MAX_ITEMS_BYTES {
            not_shown += 1;
        } else {
            shown.push(item);
        }
    }
    let mut notes = wish.notes;
    let too_many = notes.len().saturating_sub(MAX_NOTES);
    if too_many > 0 {
        notes.truncate(MAX_NOTES);
        notes.push(format!("and {too_many} more notes"));
    }
    Imported {
        added,
        changed,
        same,
        items: shown,
        items_not_shown: not_shown,
        left_out: wish.left_out.into_list(),
        notes,
        ..Imported::default()
    }
}

const MAX_NOTES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::model::ModelFile;

    fn model(id: i64, name: &str, path: &str, aliases: &[&str]) -> Model {
        Model {
            id,
            name: name.to_owned(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            path: WirePath::from(path),
            file: ModelFile::default(),
            file_state: None,
            settings: Settings::new(),
            revision: 1,
            added_at_ms: 0,
            changed_at_ms: 0,
        }
    }

    fn wished(name: &str, path: &str, apart: bool) -> WishedModel {
        WishedModel {
            name: name.to_owned(),
            path: Some(WirePath::from(path)),
            apart,
            ..WishedModel::default()
        }
    }

    fn names(wish: &mut Wish, models: &[Model]) -> Vec<(String, Option<i64>)> {
        let settled = settle(wish, models).unwrap();
        settled.into_iter().map(|it| (it.wished.name, it.before.map(|model| model.id))).collect()
    }

    #[test]
    fn a_name_of_another_file_is_another_model_only_where_it_is_meant_so() {
        let there = [model(1, "a", "/a", &["b"]), model(2, "a-2", "/a2", &[])];
        let mut wish = Wish {
            models: vec![
                wished("a", "/a", true),
                wished("a", "/a2", true),
                wished("a", "/a3", true),
                wished("b", "/b", true),
                wished("é!", "/c", true),
            ],
            ..Wish::default()
        };
        let expected = [("a", Some(1)), ("a-2", Some(2)), ("a-3", None), ("b-2", None)];
        let expected: Vec<_> =
            expected.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
        assert_eq!(names(&mut wish, &there), expected);
        assert_eq!(wish.left_out.list().len(), 1);
        let mut wish = Wish { models: vec![wished("a", "/new", false)], ..Wish::default() };
        assert_eq!(names(&mut wish, &there), [("a".to_owned(), Some(1))]);
    }

    #[test]
    fn aliases_may_move_and_may_not_clash() {
        let there = [model(1, "a", "/a", &["x"]), model(2, "b", "/b", &["y"])];
        let with = |name: &str, aliases: &[&str]| WishedModel {
            aliases: Some(aliases.iter().map(|alias| (*alias).to_owned()).collect()),
            ..wished(name, "/n", false)
        };
        let strict = |models| Wish { strict: true, models, ..Wish::default() };
        assert!(settle(&mut strict(vec![with("a", &[]), with("b", &["x"])]), &there).is_ok());
        assert!(settle(&mut strict(vec![with("a", &[]), with("x", &[])]), &there).is_ok());
        let taken = settle(&mut strict(vec![with("b", &["x"])]), &there).unwrap_err();
        assert_eq!(taken.kind, Kind::NameTaken);
        assert!(settle(&mut strict(vec![with("x", &[])]), &there).is_err());
        let mut lenient = Wish { models: vec![with("b", &["x", "z"])], ..Wish::default() };
        let settled = settle(&mut lenient, &there).unwrap();
        assert_eq!(settled[0].wished.aliases, Some(vec!["z".to_owned()]));
        assert_eq!(lenient.left_out.list().len(), 1);
    }

    #[test]
    fn an_answer_has_room_for_so_much() {
        let long = |index: usize| {
            let to = Some(json!("x".repeat(60_000)));
            let change = Difference { key: "grammar".to_owned(), from: None, to };
            item(ItemKind::Model, &index.to_string(), false, vec![change], vec![])
        };
        let answer = answer((0..20).map(long).collect(), Wish::default());
        assert_eq!(answer.added, 20);
        assert_eq!(answer.items.len() as u64 + answer.items_not_shown, 20);
        assert!(answer.items_not_shown > 0);
    }
}
