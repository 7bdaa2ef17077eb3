//! What one build calls otherwise than another: pure.
//!
//! Settings are kept as they were set. A build that has their successor, or only what they succeeded, is
//! told in its own words.

use super::{Build, Settings};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How a model's file is read: one word since b10434, three switches before, which b11434 dropped.
/// `common/arg.cpp` and `src/llama.cpp` of both: mapping was on unless it was switched off, and direct
/// reading stood above it.
const LOAD_MODE: &str = "load-mode";
const SWITCHES: [&str; 3] = ["mmap", "mlock", "direct-io"];
const AS_SWITCHES: &[(&str, &[(&str, bool)])] = &[
    ("auto", &[]),
    ("none", &[("mmap", false)]),
    ("mmap", &[("mmap", true)]),
    ("mlock", &[("mmap", false), ("mlock", true)]),
    ("mmap+mlock", &[("mmap", true), ("mlock", true)]),
    ("dio", &[("direct-io", true)]),
];

/// Options that came later than b10434, with the build they came with; `*` stands for any rest. From the
/// help of b11434, compared with that of b10434.
const LATER: &[(&str, &str)] = &[
    ("kv-unified-per-slot", "b11434"),
    ("lazy-mode", "b11434"),
    ("log-jsonl", "b11434"),
    ("mmproj-device", "b11434"),
    ("n-cpu-ffn", "b11434"),
    ("spec-synth-*", "b11434"),
    ("video-*", "b11434"),
];

/// The build that an option came with, where it is a later one than most people have.
#[must_use]
pub fn came_with(key: &str) -> Option<&'static str> {
    let is_meant = |name: &str| match name.strip_suffix('*') {
        Some(beginning) => key.starts_with(beginning),
        None => key == name,
    };
    LATER.iter().find(|(name, _)| is_meant(name)).map(|(_, build)| *build)
}

/// The settings as a build takes them.
#[must_use]
pub fn for_build(settings: &Settings, build: &Build) -> Settings {
    let mut told = settings.clone();
    let lacks = |key: &&&str| settings.contains_key(**key) && !build.has(key);
    if SWITCHES.iter().any(|key| lacks(&key)) && build.has(LOAD_MODE) {
        let switches = SWITCHES.map(|key| told.remove(key) == Some(json!(true)));
        let maps = settings.get("mmap") != Some(&json!(false));
        let mode = match switches {
            [_, _, true] => "dio",
            [_, true, _] if maps => "mmap+mlock",
            [_, true, _] => "mlock",
            _ if !maps => "none",
            [true, ..] => "mmap",
            _ => "auto",
        };
        told.entry(LOAD_MODE.to_owned()).or_insert_with(|| mode.into());
    } else if let Some(mode) = settings.get(LOAD_MODE).and_then(Value::as_str)
        && !build.has(LOAD_MODE)
        && let Some((_, switches)) = AS_SWITCHES.iter().find(|(known, _)| *known == mode)
        && switches.iter().all(|(key, _)| build.has(key))
    {
        told.remove(LOAD_MODE);
        for (key, on) in *switches {
            told.entry((*key).to_owned()).or_insert_with(|| json!(on));
        }
    }
    told
}

/// What somebody who sets these should know of how a build takes them.
#[must_use]
pub fn note(settings: &Settings, build: &Build) -> Option<String> {
    let told = for_build(settings, build);
    let named = |from: &Settings, than: &Settings| {
        let only = from.iter().filter(|(key, value)| than.get(*key) != Some(value));
        let words = only.map(|(key, value)| format!("{key}={}", super::text_of(key, value)));
        words.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
    };
    let (before, after) = (named(settings, &told), named(&told, settings));
    (before != after).then(|| match after.is_empty() {
        true => format!("{before}: {} does so without being told", build.name()),
        false => format!("{before}: {} is told {after}, as it calls it", build.name()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::BuildOption;

    fn build(flags: &[&str]) -> Build {
        let option = |key: &&str| BuildOption {
            key: (*key).to_owned(),
            flags: vec![format!("--{key}")],
            ..BuildOption::default()
        };
        Build::new("b".to_owned(), flags.iter().map(option).collect())
    }

    fn settings(value: Value) -> Settings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_build_is_told_how_to_read_the_file_in_its_own_words() {
        let newer = build(&["load-mode"]);
        let older = build(&["mmap", "mlock", "direct-io"]);
        let both = build(&["load-mode", "mmap", "mlock", "direct-io"]);
        for (switches, mode) in [
            (json!({ "mmap": false }), "none"),
            (json!({ "mmap": true }), "mmap"),
            (json!({ "mlock": true }), "mmap+mlock"),
            (json!({ "mlock": true, "mmap": false }), "mlock"),
            (json!({ "mlock": false }), "auto"),
            (json!({ "direct-io": true, "mlock": true }), "dio"),
        ] {
            let set = settings(switches);
            assert_eq!(for_build(&set, &newer), settings(json!({ "load-mode": mode })), "{set:?}");
            assert_eq!(for_build(&set, &both), set);
            assert_eq!(for_build(&set, &older), set);
            assert_eq!(note(&set, &both), None);
        }
        for (mode, switches) in [
            ("none", json!({ "mmap": false })),
            ("mlock", json!({ "mlock": true, "mmap": false })),
            ("auto", json!({})),
        ] {
            let set = settings(json!({ "load-mode": mode, "temp": 1 }));
            let mut told = settings(switches);
            told.insert("temp".to_owned(), json!(1));
            assert_eq!(for_build(&set, &older), told);
            assert_eq!(for_build(&set, &newer), set);
        }
        // What was set in its words counts, and what it has in neither is refused.
        let set = settings(json!({ "load-mode": "dio", "mmap": false }));
        assert_eq!(for_build(&set, &newer), settings(json!({ "load-mode": "dio" })));
        assert_eq!(for_build(&settings(json!({ "mlock": true })), &build(&[])).len(), 1);
        let set = settings(json!({ "mlock": true }));
        let told = note(&set, &newer).unwrap();
        assert_eq!(told, "mlock=on: b is told load-mode=mmap+mlock, as it calls it");
    }

    #[test]
    fn what_came_later_is_known() {
        assert_eq!(came_with("lazy-mode"), Some("b11434"));
        assert_eq!(came_with("video-fps"), Some("b11434"));
        assert_eq!(came_with("ctx-siz"), None);
    }
}
