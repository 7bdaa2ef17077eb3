//! Whatever is set, unset, rolled back, exported and imported: the registry ends as a simple model
//! of it predicts.

use llamactl_tests::{Home, Rpc, TestModel};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const MODELS: [&str; 2] = ["a", "unsloth/B:Q4_K_M"];

/// Settings of each kind of value, with values to choose from as they are stored.
fn choices() -> Vec<(&'static str, [Value; 2])> {
    vec![
        ("ctx-size", [json!(512), json!(4096)]),
        ("temp", [json!(0.5), json!(1.0)]),
        ("gpu-layers", [json!("all"), json!(0)]),
        ("jinja", [json!(true), json!(false)]),
        ("samplers", [json!(["top_k"]), json!(["top_k", "temperature"])]),
        ("grammar", [json!("root ::= \"a\"\n"), json!("root ::= [#'\\\\]\n")]),
        ("chat-template-kwargs", [json!("{\"a\": 1}"), json!("{}")]),
        ("env.SOME_VARIABLE", [json!("a b"), json!("= \" ' é")]),
        ("extra-args", [json!(["--threads-http", "2"]), json!(["--threads-http", "3"])]),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize, usize, usize),
    SetTwo(usize, usize, usize),
    Unset(usize, usize),
    Back(usize, i64),
    Export,
    ExportOne(usize),
    Import(usize),
    Default(usize, usize),
    NoDefault(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (model, key) = (0..MODELS.len(), 0..choices().len());
    let step = prop_oneof![
        4 => (model.clone(), key.clone(), 0..2usize).prop_map(|(m, k, v)| Step::Set(m, k, v)),
        2 => (model.clone(), key.clone(), key.clone()).prop_map(|(m, k, l)| Step::SetTwo(m, k, l)),
        2 => (model.clone(), key.clone()).prop_map(|(m, k)| Step::Unset(m, k)),
        2 => (model.clone(), 1i64..5).prop_map(|(m, back)| Step::Back(m, back)),
        1 => Just(Step::Export),
        1 => model.prop_map(Step::ExportOne),
        2 => (0..4usize).prop_map(Step::Import),
        1 => (key.clone(), 0..2usize).prop_map(|(k, v)| Step::Default(k, v)),
        1 => key.prop_map(Step::NoDefault),
    ];
    proptest::collection::vec(step, 1..40)
}

type Settings = Map<String, Value>;

/// What should be there.
#[derive(Clone, Default)]
struct Expected {
    models: BTreeMap<&'static str, Settings>,
    defaults: Settings,
    /// What each model was like at each of its revisions.
    revisions: BTreeMap<&'static str, Vec<Settings>>,
    /// Exports, with what they hold.
    exports: Vec<(String, BTreeMap<&'static str, Settings>, Option<Settings>)>,
}

impl Expected {
    /// A model becomes this: a revision, if it was otherwise.
    fn become_(&mut self, name: &'static str, settings: Settings) {
        if self.models.insert(name, settings.clone()).as_ref() != Some(&settings) {
            self.revisions.entry(name).or_default().push(settings);
        }
    }
}

fn take(rpc: &mut Rpc, expected: &mut Expected, step: &Step) {
    let choices = choices();
    match *step {
        Step::Set(model, key, value) => {
            let (name, (key, values)) = (MODELS[model], &choices[key]);
            rpc.call("model.set", json!({ "model": name, "set": { *key: values[value] } }));
            let mut settings = expected.models[name].clone();
            settings.insert((*key).to_owned(), values[value].clone());
            expected.become_(name, settings);
        }
        Step::SetTwo(model, first, second) => {
            let name = MODELS[model];
            let set: Settings = [first, second]
                .map(|at| (choices[at].0.to_owned(), choices[at].1[1].clone()))
                .into_iter()
                .collect();
            rpc.call("model.set", json!({ "model": name, "set": set }));
            let mut settings = expected.models[name].clone();
            settings.extend(set);
            expected.become_(name, settings);
        }
        Step::Unset(model, key) => {
            let (name, key) = (MODELS[model], choices[key].0);
            rpc.call("model.set", json!({ "model": name, "unset": [key] }));
            let mut settings = expected.models[name].clone();
            settings.remove(key);
            expected.become_(name, settings);
        }
        Step::Back(model, back) => {
            let name = MODELS[model];
            let all = &expected.revisions[name];
            let to = (i64::try_from(all.len()).unwrap() - back).max(1);
            let settings = all[usize::try_from(to - 1).unwrap()].clone();
            rpc.call("model.rollback", json!({ "model": name, "to": to }));
            expected.become_(name, settings);
        }
        Step::Export => {
            let text = export(rpc, json!({}));
            let defaults = Some(expected.defaults.clone());
            expected.exports.push((text, expected.models.clone(), defaults));
        }
        Step::ExportOne(model) => {
            let name = MODELS[model];
            let text = export(rpc, json!({ "models": [name] }));
            let one = BTreeMap::from([(name, expected.models[name].clone())]);
            expected.exports.push((text, one, None));
        }
        Step::Import(which) => {
            let count = expected.exports.len();
            let Some((text, models, defaults)) =
                expected.exports.get(which % count.max(1)).cloned()
            else {
                return;
            };
            let import = json!({ "format": "toml", "source": { "text": text } });
            let mut dry = import.clone();
            dry["dry_run"] = json!(true);
            rpc.call("model.import", dry);
            compare(rpc, expected);
            rpc.call("model.import", import);
            for (name, settings) in models {
                expected.become_(name, settings);
            }
            expected.defaults = defaults.unwrap_or_else(|| expected.defaults.clone());
        }
        Step::Default(key, value) => {
            let (key, values) = &choices[key];
            rpc.call("defaults.set", json!({ "set": { *key: values[value] } }));
            expected.defaults.insert((*key).to_owned(), values[value].clone());
        }
        Step::NoDefault(key) => {
            rpc.call("defaults.set", json!({ "unset": [choices[key].0] }));
            expected.defaults.remove(choices[key].0);
        }
    }
}

/// All pages of an export.
fn export(rpc: &mut Rpc, mut params: Value) -> String {
    let mut text = String::new();
    loop {
        let page = rpc.call("model.export", params.clone());
        text.push_str(page["text"].as_str().unwrap());
        if page["next"].is_null() {
            return text;
        }
        params["after"] = page["next"].clone();
    }
}

fn compare(rpc: &mut Rpc, expected: &Expected) {
    for (name, settings) in &expected.models {
        let shown = rpc.call("model.show", json!({ "model": name }));
        assert_eq!(shown["settings"], json!(settings), "{name}");
        assert_eq!(shown["revision"], json!(expected.revisions[name].len()), "{name}");
    }
    assert_eq!(rpc.call("defaults.show", json!({}))["settings"], json!(expected.defaults));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_settings_ends_as_predicted(history in steps()) {
        let home = Home::new();
        let _daemon = home.daemon();
        let mut rpc = home.connect();
        let path = home.model(TestModel::Tiny);
        let mut expected = Expected::default();
        for name in MODELS {
            rpc.call("model.add", json!({ "path": path, "name": name }));
            expected.become_(name, Settings::new());
        }
        for step in &history {
            take(&mut rpc, &mut expected, step);
            compare(&mut rpc, &expected);
        }
        // Into a registry that has none of it, an export brings all of it.
        let whole = export(&mut rpc, json!({}));
        let empty = Home::new();
        let _other = empty.daemon();
        let mut rpc = empty.connect();
        rpc.call("model.import", json!({ "format": "toml", "source": { "text": whole } }));
        for (name, settings) in &expected.models {
            let shown = rpc.call("model.show", json!({ "model": name }));
            prop_assert_eq!(&shown["settings"], &json!(settings));
        }
        prop_assert_eq!(export(&mut rpc, json!({})), whole);
    }
}
