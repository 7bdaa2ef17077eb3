//! Any sequence of changes to models leaves the registry as a simple model of it predicts.

mod keeping;
mod migration;
mod moments;
mod queries;
mod retention;

use super::*;
use llamactl_protocol::Actor;
use llamactl_protocol::WirePath;
use llamactl_protocol::model::{Model, ModelFile};
use llamactl_protocol::options::Settings;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NAMES: [&str; 5] = ["a", "b", "c", "qwen3:8b-q4", "x/y"];

#[derive(Clone, Debug)]
enum Change {
    Add(usize),
    Rename(usize, usize),
    Alias(usize, usize),
    Unalias(usize, usize),
    Copy(usize, usize),
    Set(usize, i64),
    Unset(usize),
    Back(usize, i64),
    Remove(usize),
    Reopen,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let name = 0..NAMES.len();
    let two = (name.clone(), name.clone());
    let change = prop_oneof![
        3 => name.clone().prop_map(Change::Add),
        2 => two.clone().prop_map(|(a, b)| Change::Rename(a, b)),
        2 => two.clone().prop_map(|(a, b)| Change::Alias(a, b)),
        1 => two.clone().prop_map(|(a, b)| Change::Unalias(a, b)),
        1 => two.prop_map(|(a, b)| Change::Copy(a, b)),
        2 => (name.clone(), 1i64..5).prop_map(|(name, value)| Change::Set(name, value)),
        1 => name.clone().prop_map(Change::Unset),
        1 => (name.clone(), 1i64..4).prop_map(|(name, steps)| Change::Back(name, steps)),
        1 => name.prop_map(Change::Remove),
        1 => Just(Change::Reopen),
    ];
    proptest::collection::vec(change, 0..40)
}

const KEY: &str = "ctx-size";

fn set(value: i64) -> ModelChange {
    let set = BTreeMap::from([(KEY.to_owned(), value.into())]);
    ModelChange { set, ..ModelChange::default() }
}

fn value_of(model: &Model) -> Option<i64> {
    model.settings.get(KEY).and_then(serde_json::Value::as_i64)
}

/// What the registry should hold: models by name.
type Expected = BTreeMap<&'static str, (BTreeSet<&'static str>, Option<i64>)>;

fn owner(expected: &Expected, name: &str) -> Option<&'static str> {
    expected
        .iter()
        .find(|(own, (aliases, _))| **own == name || aliases.contains(name))
        .map(|(own, _)| *own)
}

fn new_model(name: &str) -> NewModel {
    NewModel {
        name: name.to_owned(),
        file: NewFile {
            path: WirePath::from("/m.gguf"),
            file: ModelFile::default(),
            seen: vec![],
            chat_template: None,
        },
        settings: BTreeMap::new(),
    }
}

/// Makes a change in both; they must agree on whether it can be made.
async fn make(registry: &Registry, expected: &mut Expected, change: &Change) {
    let by = || Actor::Policy;
    match *change {
        Change::Add(name) => {
            let name = NAMES[name];
            let free = owner(expected, name).is_none();
            assert_eq!(registry.add_model(new_model(name), by()).await.is_ok(), free);
            if free {
                expected.insert(name, (BTreeSet::new(), None));
            }
        }
        Change::Rename(from, to) => {
            let (from, to) = (owner(expected, NAMES[from]), NAMES[to]);
            let Some(from) = from else { return };
            let possible = owner(expected, to).is_none_or(|owner| owner == from);
            assert_eq!(registry.rename_model(from, to.to_owned(), by()).await.is_ok(), possible);
            if possible {
                let (mut aliases, value) = expected.remove(from).unwrap();
                aliases.remove(to);
                expected.insert(to, (aliases, value));
            }
        }
        Change::Alias(model, alias) => {
            let (model, alias) = (owner(expected, NAMES[model]), NAMES[alias]);
            let Some(model) = model else { return };
            let has = expected[model].0.contains(alias);
            let possible = has || owner(expected, alias).is_none();
            let add = vec![alias.to_owned()];
            assert_eq!(registry.change_aliases(model, add, vec![], by()).await.is_ok(), possible);
            if possible {
                expected.get_mut(model).unwrap().0.insert(alias);
            }
        }
        Change::Unalias(model, alias) => {
            let (model, alias) = (owner(expected, NAMES[model]), NAMES[alias]);
            let Some(model) = model else { return };
            registry.change_aliases(model, vec![], vec![alias.to_owned()], by()).await.unwrap();
            expected.get_mut(model).unwrap().0.remove(alias);
        }
        Change::Copy(from, to) => {
            let (from, to) = (owner(expected, NAMES[from]), NAMES[to]);
            let Some(from) = from else { return };
            let possible = owner(expected, to).is_none();
            assert_eq!(
                registry.copy_model(from, to.to_owned(), None, by()).await.is_ok(),
                possible
            );
            if possible {
                let value = expected[from].1;
                expected.insert(to, (BTreeSet::new(), value));
            }
        }
        Change::Set(model, value) => {
            let Some(model) = owner(expected, NAMES[model]) else { return };
            let before = registry.model(model).await.unwrap().revision;
            let (after, changed) =
                registry.change_model(model, set(value), Some(before), by()).await.unwrap();
            assert_eq!(changed, expected[model].1 != Some(value));
            assert_eq!(after.revision, before + i64::from(changed));
            expected.get_mut(model).unwrap().1 = Some(value);
        }
        Change::Unset(model) => {
            let Some(model) = owner(expected, NAMES[model]) else { return };
            let unset = ModelChange { unset: vec![KEY.to_owned()], ..ModelChange::default() };
            let (_, changed) = registry.change_model(model, unset, None, by()).await.unwrap();
            assert_eq!(changed, expected[model].1.is_some());
            expected.get_mut(model).unwrap().1 = None;
        }
        Change::Back(model, steps) => {
            let Some(model) = owner(expected, NAMES[model]) else { return };
            let now = registry.model(model).await.unwrap();
            let to = (now.revision - steps).max(1);
            let then = registry.revision(now.id, to).await.unwrap().unwrap();
            let unset = now.settings.keys().filter(|key| !then.settings.contains_key(*key));
            let unset = unset.cloned().collect();
            let back = ModelChange { set: then.settings, unset, ..ModelChange::default() };
            let (after, _) = registry.change_model(model, back, None, by()).await.unwrap();
            // What each revision was like is told by the revisions; that they are told rightly, by
            // the settings of now.
            expected.get_mut(model).unwrap().1 = value_of(&after);
            let kept = registry.revision(after.id, after.revision).await.unwrap().unwrap();
            assert_eq!(kept.settings, after.settings);
        }
        Change::Remove(model) => {
            let Some(model) = owner(expected, NAMES[model]) else { return };
            let id = registry.model(model).await.unwrap().id;
            registry.remove_model(id, by()).await.unwrap();
            expected.remove(model);
        }
        Change::Reopen => {}
    }
}

async fn held(registry: &Registry) -> BTreeMap<String, (BTreeSet<String>, Option<i64>)> {
    let models = registry.models(None, 100).await.unwrap();
    models
        .into_iter()
        .map(|model| {
            let value = value_of(&model);
            (model.name, (model.aliases.into_iter().collect(), value))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_registry_holds_what_was_acknowledged(history in changes()) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut registry = Registry::open(dir.path()).unwrap();
            let mut expected = Expected::new();
            for change in &history {
                if matches!(change, Change::Reopen) {
                    registry = Registry::open(dir.path()).unwrap();
                }
                make(&registry, &mut expected, change).await;
            }
            let expected: BTreeMap<String, (BTreeSet<String>, Option<i64>)> = expected
                .into_iter()
                .map(|(name, (aliases, value))| {
                    (name.to_owned(), (aliases.into_iter().map(str::to_owned).collect(), value))
                })
                .collect();
            prop_assert_eq!(held(&registry).await, expected);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_change_based_on_an_old_look_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let model = registry.add_model(new_model("m"), Actor::Policy).await.unwrap();
    let change =
        |value| registry.change_model("m", set(value), Some(model.revision), Actor::Policy);
    change(1).await.unwrap();
    let lost = change(2).await.unwrap_err();
    assert!(matches!(lost, StoreError::RevisionConflict { expected: 1, found: 2, .. }), "{lost}");
    assert_eq!(registry.model("m").await.unwrap().settings, set(1).set);
}

#[tokio::test]
async fn ids_are_never_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let first = registry.add_model(new_model("m"), Actor::Policy).await.unwrap();
    registry.remove_model(first.id, Actor::Policy).await.unwrap();
    let second = registry.add_model(new_model("m"), Actor::Policy).await.unwrap();
    assert!(second.id > first.id);
}

#[tokio::test]
async fn an_import_is_whole_or_has_not_happened() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let by = || Actor::Policy;
    let model = registry.add_model(new_model("m"), by()).await.unwrap();
    let import = |revision: i64, name: &str| Import {
        what: "imported from x".to_owned(),
        seen: vec![(model.id, revision)],
        defaults: Some(set(3).set),
        added: vec![(new_model(name), vec!["alias".to_owned()])],
        changed: vec![ImportedChange {
            id: model.id,
            aliases: vec!["a".to_owned()],
            change: set(5),
        }],
        ..Import::default()
    };
    // Made from another revision; then with a name that is taken.
    let overtaken = registry.import(import(model.revision + 1, "n"), by()).await.unwrap_err();
    assert!(matches!(overtaken, StoreError::Overtaken(_)), "{overtaken}");
    let taken = registry.import(import(model.revision, "m"), by()).await.unwrap_err();
    assert!(matches!(taken, StoreError::NameTaken { .. }), "{taken}");
    let everything = registry.everything().await.unwrap();
    assert_eq!((everything.models, everything.defaults.revision), (vec![model.clone()], 0));

    registry.import(import(model.revision, "n"), by()).await.unwrap();
    let now = registry.everything().await.unwrap();
    assert_eq!((now.models.len(), now.defaults.settings), (2, set(3).set));
    let changed = registry.model("a").await.unwrap();
    assert_eq!((changed.revision, value_of(&changed)), (model.revision + 1, Some(5)));
    let added = registry.model("alias").await.unwrap();
    let first = registry.revision(added.id, 1).await.unwrap().unwrap();
    assert_eq!((first.aliases, first.what.as_str()), (vec!["alias".to_owned()], "imported from x"));
}

/// An import of so many new models, and the models in a registry whether they have names or not.
fn many(count: usize) -> Import {
    let settings = (0..30).map(|number| (format!("env.X{number}"), "as long as a path is".into()));
    let settings: Settings = settings.collect();
    let added = (0..count).map(|number| {
        let new = new_model(&format!("n{number:04}"));
        (NewModel { settings: settings.clone(), ..new }, vec![])
    });
    Import { what: "imported from x".to_owned(), added: added.collect(), ..Import::default() }
}

fn rows(dir: &Path) -> i64 {
    let database = Connection::open(REGISTRY.path(dir)).unwrap();
    database.query_row("SELECT count(*) FROM models", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn an_import_of_many_models_holds_nobody_up_and_appears_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let model = registry.add_model(new_model("m"), Actor::Policy).await.unwrap();
    let begun = std::time::Instant::now();
    let importing = registry.import(many(1_000), Actor::Policy);
    tokio::pin!(importing);
    // Polled in turns: each of these changes comes between two parts.
    let mut changes = 0;
    loop {
        tokio::select! {
            biased;
            done = &mut importing => break done.unwrap(),
            changed = registry.change_model("m", set(changes), None, Actor::Policy) => {
                changed.unwrap();
                changes += 1;
                let there = registry.count_models().await.unwrap();
                assert!([1, 1_001].contains(&there), "{there} models are seen");
            }
        }
    }
    let took = begun.elapsed();
    assert!(changes >= 8, "only {changes} changes came between 10 parts");
    let found = registry.models(None, 2_000).await.unwrap();
    assert_eq!(found.len(), 1_001);
    let longest = registry.longest_write();
    assert!(longest * 3 < took, "one transaction took {longest:?} of {took:?}");
    // Its events are in one row behind everything that came between.
    let filter = EventFilter {
        kinds: vec!["model.added".to_owned()],
        limit: 2_000,
        ..EventFilter::default()
    };
    let events = registry.events(filter).await.unwrap().events;
    assert_eq!((events.len(), events[0].model_id), (1_001, Some(model.id)));
    assert_eq!(events[1_000].seq - events[1].seq, 999);
}

#[tokio::test]
async fn an_import_that_is_refused_or_cut_off_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let taken = registry.add_model(new_model("n0249"), Actor::Policy).await.unwrap();
    let refused = registry.import(many(250), Actor::Policy).await.unwrap_err();
    assert!(matches!(refused, StoreError::NameTaken { .. }), "{refused}");
    assert_eq!((registry.count_models().await.unwrap(), rows(dir.path())), (1, 1));

    // Cut off behind its first parts, as by a kill.
    let part =
        registry.write(move |tx| transfer::put_nameless(tx, &many(100), 0..100, &Actor::Policy));
    let ids = part.await.unwrap();
    assert_eq!(rows(dir.path()), 101);
    assert_eq!(registry.count_models().await.unwrap(), 1);
    let taken_id = taken.id;
    assert_eq!(registry.models(None, 200).await.unwrap(), [taken]);
    let nobody = registry.model(&ids[0].to_string()).await.unwrap_err();
    assert!(matches!(nobody, StoreError::ModelNotFound(_)), "{nobody}");
    // Who has a file without a name is nobody.
    registry.remove_model(taken_id, Actor::Policy).await.unwrap();
    let (found, added) = registry.add_found_model(new_model("x"), Actor::Policy).await.unwrap();
    assert!(added && found.id > ids[99]);
    let (again, added) = registry.add_found_model(new_model("y"), Actor::Policy).await.unwrap();
    assert_eq!((again.id, added), (found.id, false));
    drop(registry);
    let registry = Registry::open(dir.path()).unwrap();
    assert_eq!((registry.count_models().await.unwrap(), rows(dir.path())), (1, 1));
}
