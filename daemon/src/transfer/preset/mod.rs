//! The INI file that `llama-server --models-preset` reads, both ways. Pure.
//!
//! ```ini
//! [*]
//! ctx-size = 8192
//! [qwen3:8b]
//! model = /models/x.gguf
//! temp = 0.7
//! ```
//!
//! What b10434 makes of one, found by running it: keys are long or short flags without their
//! dashes, or variables; a value ends at the first `;` or `#` wherever it stands, quotes are part
//! of it, white space around it is not; of a key given twice the last counts, and a section given
//! twice replaces the first; `off`, `false`, `0` and `disabled` switch off, anything else, `no`
//! too, switches on; an option that takes two values, or that it does not know, ends it.

mod read;
mod write;

pub use read::read;
pub use write::{Exported, write_defaults, write_model};

/// Sections that are no model: what holds for all.
const GLOBAL: &str = "*";

/// What switches off and on, in llama-server's eyes.
const OFF: &[&str] = &["off", "false", "0", "disabled"];
const ON: &[&str] = &["on", "true", "1", "enabled"];

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::WirePath;
    use llamactl_protocol::model::{Model, ModelFile};
    use llamactl_protocol::options::{Settings, find};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::path::Path;

    fn model(name: &str, settings: Settings) -> Model {
        Model {
            id: 1,
            name: name.to_owned(),
            aliases: vec!["q".to_owned()],
            path: WirePath::from("/m/a b=c.gguf"),
            file: ModelFile::default(),
            file_state: None,
            settings,
            revision: 1,
            added_at_ms: 0,
            changed_at_ms: 0,
        }
    }

    /// The settings of the first model, as they come back.
    fn back(text: &str) -> Settings {
        let spec = read(text, None, Path::new("/")).unwrap_or_else(|error| panic!("{error}"));
        let settings = spec.models[0].settings.clone().unwrap();
        settings.given.into_iter().map(|(key, given)| (key, given.value)).collect()
    }

    fn settings(value: Value) -> Settings {
        let typed: Settings = serde_json::from_value(value).unwrap();
        let checked = |(key, value): (String, Value)| {
            let value = find(&key, None).unwrap().check(&value).unwrap();
            (key, value)
        };
        typed.into_iter().map(checked).collect()
    }

    #[test]
    fn settings_come_back_and_the_rest_is_named() {
        let set = settings(json!({
            "temp": 0.7, "mmap": false, "gpu-layers": "all", "lora": "/a b.gguf,/c.gguf",
            "static-path": "/srv", "tensor-split": "3,1",
        }));
        let mut all = set.clone();
        all.extend(settings(json!({
            "port": "auto", "env.X": "1", "grammar": "root ::= \"a;b\"",
            "reverse-prompt": "[\"x\",\"y\"]", "control-vector-layer-range": "1 2",
        })));
        let written = write_model(&model("unsloth/Qwen3-8B:Q4_K_M", all), None);
        assert!(written.text.contains("\n[unsloth/Qwen3-8B:Q4_K_M]\nmodel = /m/a b=c.gguf\n"));
        assert!(written.text.contains("\nalias = q\n") && written.text.contains("\npath = /srv\n"));
        assert_eq!(back(&written.text), set);
        for named in ["port", "env.X", "grammar", "reverse-prompt", "control-vector-layer-range"] {
            let told = |line: &str| line.starts_with("; ") && line.contains(named);
            assert!(written.text.lines().any(told), "{named}: {}", written.text);
            assert!(written.notes.iter().any(|note| note.contains(named)), "{named}");
        }
    }

    #[test]
    fn what_stands_behind_the_models_own_is_below_it() {
        let text = "[*]\ntemp = 0.5\nc = 512\nload-on-startup = true\n\n[a]\nmodel = x.gguf ; c\n\
                    temp = 0.7\nno-mmap = true\nno-such = 1\nslots = no\nhost = 0.0.0.0\n";
        let spec = read(text, None, Path::new("/home/me")).unwrap();
        assert_eq!(spec.models[0].path, Some(WirePath::from("/home/me/x.gguf")));
        assert_eq!(json!(back(text)), json!({ "ctx-size": 512, "temp": 0.7, "mmap": false }));
        let what: Vec<&str> = spec.left_out.list().iter().map(|it| it.what.as_str()).collect();
        assert_eq!(what, ["load-on-startup", "a: no-such", "a: slots", "a: host"]);
    }

    #[test]
    fn a_value_that_llama_server_cuts_is_told() {
        let text = "[a]\nmodel = /x ; a comment\nsamplers = top_k;top_p\n";
        let spec = read(text, None, Path::new("/")).unwrap();
        assert_eq!(spec.notes.len(), 1, "{:?}", spec.notes);
        assert!(spec.notes[0].starts_with("line 3: \";top_p\" is a comment"), "{:?}", spec.notes);
    }

    #[test]
    fn a_line_that_is_nothing_is_named() {
        let failure = read("[a]\nmodel = x\njunk\n", None, Path::new("/")).unwrap_err();
        assert_eq!(failure.details.unwrap()["line"], 3);
    }

    #[test]
    fn a_secret_is_never_written_and_never_read() {
        let set =
            Settings::from([("api-key".to_owned(), llamactl_protocol::options::secret::shown())]);
        let written = write_model(&model("a", set), None);
        assert!(back(&written.text).is_empty() && written.text.contains("; api-key"));
        let spec = read("[a]\nmodel = /x\nhf-token = s3cret\n", None, Path::new("/")).unwrap();
        assert!(!format!("{:?}", spec.left_out).contains("s3cret"));
        assert_eq!(spec.left_out.list().len(), 1);
    }

    /// Any settings of the catalogue at their examples.
    fn examples() -> impl Strategy<Value = Settings> {
        let all: Vec<_> = llamactl_protocol::options::catalogue()
            .filter(|it| it.refused.is_empty() && !it.is_own() && !it.is_secret())
            .filter(|it| !it.takes_two_arguments() && !it.example.contains([';', '#']))
            .filter_map(|it| Some((it.key.to_owned(), it.check(&json!(it.example)).ok()?)))
            .collect();
        let count = all.len();
        proptest::sample::subsequence(all, 0..count).prop_map(|list| list.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_can_be_told_comes_back(set in examples()) {
            let written = write_model(&model("m", set.clone()), None);
            prop_assert_eq!(&back(&written.text), &set, "{}", written.text);
        }

        #[test]
        fn nothing_makes_it_panic(text in "(\\[[*a\\]]{0,3}|[a-z-]{0,5} ?= ?\\PC{0,9}|\\PC{0,9}|\r?\n){0,20}") {
            let _ = read(&text, None, Path::new("/"));
        }
    }
}
