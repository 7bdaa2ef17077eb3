//! What an import would do, from what is requested for and what is there. Pure.

use super::names::Names;
use super::omissions::Omissions;
use super::position::placed;
use super::spec::{ImportSpec, ModelSpec};
use llamactl_protocol::exchange::{ImportItem, Imported, ItemAction, ItemKind};
use llamactl_protocol::model::{Difference, Model};
use llamactl_protocol::options::Settings;
use llamactl_protocol::{Failure, Kind, WirePath, name};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// An answer stays well below the longest message.
const MAX_ITEMS_BYTES: usize = 512 << 10;

/// A requested model that found its place.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    /// What is requested, under the name it will have.
    pub(super) requested: ModelSpec,
    /// The model of the registry that it changes; `None`: it is new.
    pub(super) before: Option<Model>,
}

/// Finds the name of each requested model, and the model of the registry it means.
///
/// # Errors
/// Of a strict spec: names that are none, or another model's.
pub(super) fn settle(spec: &mut ImportSpec, models: &[Model]) -> Result<Vec<Settled>, Failure> {
    let there = There::of(models);
    let mut names = Names::default();
    let mut settled = Vec::new();
    for mut model in std::mem::take(&mut spec.models) {
        let given = model.name.clone();
        if spec.strict {
            if !name::is_valid(&given) {
                return Err(placed(invalid(&given), model.at));
            }
        } else {
            match name::from_text(&given) {
                Some(name) => model.name = name,
                None => {
                    spec.left_out.add(format!("the model {given:?}"), "no name can be made of it");
                    continue;
                }
            }
            model.name = there.name_for(&model, &mut names);
            if model.name != given {
                spec.notes.push(format!("the model {given:?} is called {}", model.name));
            }
        }
        let before = there.by_name.get(model.name.as_str()).map(|model| (*model).clone());
        if before.is_none() && model.path.is_none() {
            if spec.strict {
                let failure = Failure::new(
                    Kind::InvalidValue,
                    format!("there is no model {}, and the file names no path for it", model.name),
                )
                .hint("add its path");
                return Err(placed(failure, model.at));
            }
            let reason = "there is no model of this name, and no file is named";
            spec.left_out.add(format!("the model {given}"), reason);
            continue;
        }
        settled.push(Settled { requested: model, before });
    }
    check_names(spec.strict, &mut settled, models, &mut spec.left_out)?;
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

/// The models of the registry, by what a requested one may be known.
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

    /// The name of a model of a lenient spec: its own, or the next free one where that is another
    /// model's.
    fn name_for(&self, model: &ModelSpec, names: &mut Names) -> String {
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
        let name = &model.requested.name;
        if let Some(owner) = owners.insert(name.clone(), name.clone()).filter(|it| it != name) {
            return Err(placed(taken(name, &owner), model.requested.at));
        }
    }
    for model in settled.iter_mut() {
        let name = model.requested.name.clone();
        let before = model.before.as_ref().map(|model| model.aliases.clone()).unwrap_or_default();
        let requested = model.requested.aliases.clone().unwrap_or(before);
        let mut aliases: Vec<String> = Vec::new();
        for alias in requested {
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
                return Err(placed(failure, model.requested.at));
            }
            left_out.refused(format!("{name}: the alias {alias}"), &failure);
        }
        aliases.sort();
        model.requested.aliases = Some(aliases);
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
    changes.extend(Difference::between(there, &after.settings));
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

/// The answer: counts, and as many items as it has room for, those that do something first.
pub(super) fn answer(mut items: Vec<ImportItem>, spec: ImportSpec) -> Imported {
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
    let mut notes = spec.notes;
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
        left_out: spec.left_out.into_list(),
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

    fn requested(name: &str, path: &str, apart: bool) -> ModelSpec {
        ModelSpec {
            name: name.to_owned(),
            path: Some(WirePath::from(path)),
            apart,
            ..ModelSpec::default()
        }
    }

    fn names(spec: &mut ImportSpec, models: &[Model]) -> Vec<(String, Option<i64>)> {
        let settled = settle(spec, models).unwrap();
        settled.into_iter().map(|it| (it.requested.name, it.before.map(|model| model.id))).collect()
    }

    #[test]
    fn a_name_of_another_file_is_another_model_only_where_it_is_meant_so() {
        let there = [model(1, "a", "/a", &["b"]), model(2, "a-2", "/a2", &[])];
        let mut spec = ImportSpec {
            models: vec![
                requested("a", "/a", true),
                requested("a", "/a2", true),
                requested("a", "/a3", true),
                requested("b", "/b", true),
                requested("é!", "/c", true),
            ],
            ..ImportSpec::default()
        };
        let expected = [("a", Some(1)), ("a-2", Some(2)), ("a-3", None), ("b-2", None)];
        let expected: Vec<_> =
            expected.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
        assert_eq!(names(&mut spec, &there), expected);
        assert_eq!(spec.left_out.list().len(), 1);
        let mut spec =
            ImportSpec { models: vec![requested("a", "/new", false)], ..ImportSpec::default() };
        assert_eq!(names(&mut spec, &there), [("a".to_owned(), Some(1))]);
    }

    #[test]
    fn aliases_may_move_and_may_not_clash() {
        let there = [model(1, "a", "/a", &["x"]), model(2, "b", "/b", &["y"])];
        let with = |name: &str, aliases: &[&str]| ModelSpec {
            aliases: Some(aliases.iter().map(|alias| (*alias).to_owned()).collect()),
            ..requested(name, "/n", false)
        };
        let strict = |models| ImportSpec { strict: true, models, ..ImportSpec::default() };
        assert!(settle(&mut strict(vec![with("a", &[]), with("b", &["x"])]), &there).is_ok());
        assert!(settle(&mut strict(vec![with("a", &[]), with("x", &[])]), &there).is_ok());
        let taken = settle(&mut strict(vec![with("b", &["x"])]), &there).unwrap_err();
        assert_eq!(taken.kind, Kind::NameTaken);
        assert!(settle(&mut strict(vec![with("x", &[])]), &there).is_err());
        let mut lenient =
            ImportSpec { models: vec![with("b", &["x", "z"])], ..ImportSpec::default() };
        let settled = settle(&mut lenient, &there).unwrap();
        assert_eq!(settled[0].requested.aliases, Some(vec!["z".to_owned()]));
        assert_eq!(lenient.left_out.list().len(), 1);
    }

    #[test]
    fn an_answer_has_room_for_so_much() {
        let long = |index: usize| {
            let to = Some(json!("x".repeat(60_000)));
            let change = Difference { key: "grammar".to_owned(), from: None, to };
            item(ItemKind::Model, &index.to_string(), false, vec![change], vec![])
        };
        let answer = answer((0..20).map(long).collect(), ImportSpec::default());
        assert_eq!(answer.added, 20);
        assert_eq!(answer.items.len() as u64 + answer.items_not_shown, 20);
        assert!(answer.items_not_shown > 0);
    }
}
