//! Every setting there is, a file for each group.
//!
//! An entry is written with the `const` functions below: a key, what values it takes, what it
//! does, then only what it has besides. Every option of b10434 is here, also those that cannot be
//! set, which say what to do instead.

mod advanced;
mod gpu;
mod llamactl;
mod logging;
mod lora;
mod memory;
mod meta;
mod model;
mod multimodal;
mod sampling;
mod server;
mod speculative;

pub use llamactl::{POLICY, VARIABLE};

use super::{Group, Item, NO_WORDS, Setting, Told, Values, Words};
use std::collections::HashMap;
use std::sync::LazyLock;

/// All settings, by group, in the order they are shown.
const ALL: &[&[Setting<'static>]] = &[
    llamactl::SETTINGS,
    model::SETTINGS,
    sampling::SETTINGS,
    memory::SETTINGS,
    gpu::SETTINGS,
    advanced::SETTINGS,
    lora::SETTINGS,
    multimodal::SETTINGS,
    speculative::SETTINGS,
    server::SETTINGS,
    logging::SETTINGS,
    meta::SETTINGS,
];

/// All settings in the order they are shown, also those that cannot be set.
pub fn catalogue() -> impl Iterator<Item = &'static Setting<'static>> + Clone {
    ALL.iter().copied().flatten()
}

/// The setting of exactly this key.
pub(super) fn of_key(key: &str) -> Option<&'static Setting<'static>> {
    static BY_KEY: LazyLock<HashMap<&str, &Setting<'_>>> =
        LazyLock::new(|| catalogue().map(|setting| (setting.key, setting)).collect());
    BY_KEY.get(key).copied()
}

/// A setting that says nothing.
pub(super) const BLANK: Setting<'static> = Setting {
    key: "",
    long: &[],
    short: &[],
    negations: NO_WORDS,
    variable: "",
    old_names: &[],
    group: Group::Llamactl,
    values: Values::Text,
    spelled: &[],
    told: Told::Flag,
    unit: "",
    default: "",
    help: "",
    example: "",
    reported: "",
    builds: "",
    refused: "",
    inferred: false,
};

/// A setting of `group`.
const fn setting(
    group: Group,
    key: &'static str,
    values: Values<'static>,
    help: &'static str,
) -> Setting<'static> {
    Setting { key, group, values, help, ..BLANK }
}

/// An option that cannot be set: why, and what to do instead.
const fn refused(group: Group, key: &'static str, instead: &'static str) -> Setting<'static> {
    Setting { refused: instead, ..setting(group, key, Values::Text, instead) }
}

impl Setting<'static> {
    const fn long(self, long: &'static [&'static str]) -> Self {
        Setting { long, ..self }
    }
    const fn short(self, short: &'static [&'static str]) -> Self {
        Setting { short, ..self }
    }
    /// The flags that switch it off, the long one first.
    const fn off(self, negations: &'static [&'static str]) -> Self {
        Setting { negations: Words::These(negations), ..self }
    }
    const fn variable(self, variable: &'static str) -> Self {
        Setting { variable, ..self }
    }
    const fn old(self, old_names: &'static [&'static str]) -> Self {
        Setting { old_names, ..self }
    }
    const fn unit(self, unit: &'static str) -> Self {
        Setting { unit, ..self }
    }
    const fn default(self, default: &'static str) -> Self {
        Setting { default, ..self }
    }
    const fn example(self, example: &'static str) -> Self {
        Setting { example, ..self }
    }
    const fn reported(self, reported: &'static str) -> Self {
        Setting { reported, ..self }
    }
    const fn builds(self, builds: &'static str) -> Self {
        Setting { builds, ..self }
    }
    const fn told(self, told: Told<'static>) -> Self {
        Setting { told, ..self }
    }
    const fn spelled(self, spelled: &'static [(&'static str, &'static str)]) -> Self {
        Setting { spelled, ..self }
    }
    /// What values a refused option takes, so that a pasted command line can be read past it.
    const fn values(self, values: Values<'static>) -> Self {
        Setting { values, ..self }
    }
}

/// How llama-server lets on, off and auto be written (`common/arg.cpp`).
const ON_OFF_AUTO: &[(&str, &str)] = &[
    ("true", "on"),
    ("1", "on"),
    ("yes", "on"),
    ("enabled", "on"),
    ("false", "off"),
    ("0", "off"),
    ("no", "off"),
    ("disabled", "off"),
    ("-1", "auto"),
];

/// How llama-server lets the numbers of layers be written that are words today.
const LAYERS: &[(&str, &str)] = &[("-1", "auto"), ("-2", "all")];

/// How llama-server lets the number of threads be written that is each core's.
const EACH_CORE: &[(&str, &str)] = &[("0", "-1")];

/// More tokens than any context has: llama-server takes what it is given, and eats all memory.
const MAX_TOKENS: i64 = 1 << 24;

/// More layers than any model has: people write 999 or 10000 for all.
const MAX_LAYERS: i64 = 1 << 20;

/// ggml computes with no more threads than this.
const MAX_THREADS: i64 = 512;

/// The number types a KV cache can have.
const CACHE_TYPES: &[&str] =
    &["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"];

const fn integer(min: i64, max: i64) -> Values<'static> {
    Values::Integer { min, max, words: NO_WORDS }
}

const fn integer_or(min: i64, max: i64, words: &'static [&'static str]) -> Values<'static> {
    Values::Integer { min, max, words: Words::These(words) }
}

const fn real(min: f64, max: f64) -> Values<'static> {
    Values::Real { min, max }
}

const fn choice(words: &'static [&'static str]) -> Values<'static> {
    Values::Choice(Words::These(words))
}

/// A list whose values are separated by commas.
const fn list(of: Item<'static>) -> Values<'static> {
    Values::List { of, separator: ',' }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::look_up;

    /// The flags of a build, one option on a line: flags, those that switch it off, variable.
    const HELP: &str = include_str!("../testdata/help-b10434.tsv");

    fn lines() -> impl Iterator<Item = (Vec<&'static str>, Vec<&'static str>, &'static str)> {
        HELP.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let mut columns = line.split('\t');
            let mut words = || columns.next().unwrap().split_whitespace().collect::<Vec<_>>();
            (words(), words(), words().first().copied().unwrap_or_default())
        })
    }

    /// The setting whose flag or negation this is.
    fn of_flag(flag: &str) -> &'static Setting<'static> {
        let bare = flag.trim_start_matches('-');
        let mut found = catalogue().filter(|setting| {
            let names = if flag.starts_with("--") {
                // llamactl's own `path` is no flag of llama-server.
                setting.key == bare && bare != "path" || setting.long.contains(&bare)
            } else {
                setting.short.contains(&bare)
            };
            names || setting.negations.contains(flag)
        });
        let setting = found.next().unwrap_or_else(|| panic!("{flag} is in no group"));
        assert!(found.next().is_none(), "{flag} is of two settings");
        setting
    }

    #[test]
    fn every_option_of_the_build_is_one_setting() {
        let mut keys = std::collections::HashSet::new();
        for (flags, negations, variable) in lines() {
            let setting = of_flag(flags[0]);
            assert!(keys.insert(setting.key), "{} is two options", setting.key);
            for flag in &flags {
                assert_eq!(of_flag(flag).key, setting.key, "{flag}");
                assert!(!setting.negations.contains(flag), "{flag} switches it on");
            }
            for negation in &negations {
                assert_eq!(of_flag(negation).key, setting.key, "{negation}");
                assert!(setting.negations.contains(negation), "{negation} switches it off");
            }
            assert_eq!(setting.negations.iter().count(), negations.len(), "{}", setting.key);
            assert_eq!(setting.variable, variable, "{}", setting.key);
            if !variable.is_empty() {
                assert_eq!(look_up(variable, None).unwrap().key, setting.key);
            }
        }
        assert_eq!(keys.len(), 248);
    }

    #[test]
    fn every_setting_is_told_in_a_short_sentence() {
        for setting in catalogue() {
            assert!(!setting.help.is_empty() && !setting.help.ends_with('.'), "{}", setting.key);
            assert!(setting.help.len() <= 140, "{}: {}", setting.key, setting.help.len());
            assert!(setting.help.is_ascii(), "{}", setting.key);
        }
    }

    #[test]
    fn a_negation_stands_behind_switches_only_and_the_long_one_first() {
        for setting in catalogue() {
            let negations: Vec<&str> = setting.negations.iter().collect();
            let Some(first) = negations.first() else { continue };
            assert!(matches!(setting.values, Values::Switch), "{}", setting.key);
            assert!(first.starts_with("--"), "{first}");
        }
    }
}
