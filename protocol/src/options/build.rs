//! What one llama-server build has, read from its own help text.

use super::{Group, NO_WORDS, Setting, Told, Values, Words, nearest};
use crate::Hint;
use crate::bounds::excerpt;
use crate::failure::{Failure, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;

/// One option of a build, as its help tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildOption {
    /// Its first long flag, without dashes.
    pub key: String,
    /// Every flag that sets it, with dashes.
    pub flags: Vec<String>,
    /// Every flag that switches it off, with dashes.
    pub negations: Vec<String>,
    /// What the help calls its value: `N`, `FNAME`, …; `null` for a switch.
    pub value: Option<String>,
    /// The values the help lists, where it takes no other.
    pub choices: Vec<String>,
    /// Its default as the help tells it.
    pub default: Option<String>,
    /// The variable it is read from.
    pub variable: Option<String>,
    /// The build refuses it and says what to use instead.
    pub removed: bool,
    /// The help calls it deprecated.
    pub deprecated: bool,
    /// What the help says of it, in one line.
    pub help: String,
}

/// The options of one build.
#[derive(Clone, Debug, Default)]
pub struct Build {
    name: String,
    options: Vec<BuildOption>,
    /// By every flag, without dashes.
    index: HashMap<String, usize>,
}

impl Build {
    /// The build of this name with these options.
    #[must_use]
    pub fn new(name: String, options: Vec<BuildOption>) -> Build {
        let mut index = HashMap::new();
        for (at, option) in options.iter().enumerate() {
            for flag in option.flags.iter().chain(&option.negations) {
                index.entry(flag.trim_start_matches('-').to_owned()).or_insert(at);
            }
        }
        Build { name, options, index }
    }

    /// How messages call it: its version and path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every option of the build, in the order of its help.
    #[must_use]
    pub fn options(&self) -> &[BuildOption] {
        &self.options
    }

    /// The option of this flag, given without dashes.
    #[must_use]
    pub fn option(&self, flag: &str) -> Option<&BuildOption> {
        self.index.get(flag).and_then(|at| self.options.get(*at))
    }

    /// Whether it takes this flag, given without dashes.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.option(flag).is_some_and(|option| !option.removed)
    }

    /// The keys of its options.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.options.iter().filter(|option| !option.removed).map(|option| option.key.as_str())
    }

    /// Whether this build takes a setting with this value, which was checked by the catalogue.
    ///
    /// # Errors
    /// [`Kind::UnknownOption`] when it lacks the option, with the nearest it has;
    /// [`Kind::InvalidValue`] when it lacks the choice.
    pub fn accept(&self, setting: &Setting<'_>, value: &Value) -> Result<(), Failure> {
        if !matches!(setting.told, Told::Flag | Told::Repeated) {
            return Ok(());
        }
        let flags = setting.long_flags();
        let option = flags.filter_map(|flag| self.option(flag)).find(|option| !option.removed);
        let Some(option) = option else { return Err(self.lacks(setting)) };
        if *value == Value::Bool(false)
            && setting.negations.iter().next().is_some()
            && setting.negation(Some(self)).is_none()
        {
            return Err(Failure::new(
                Kind::InvalidValue,
                format!("{} cannot be switched off in {}", setting.key, self.name),
            )
            .details(json!({ "key": setting.key, "value": value })));
        }
        if option.choices.is_empty() {
            return Ok(());
        }
        let words = match (&setting.values, value) {
            (Values::Choice(_), Value::String(word)) => vec![word.as_str()],
            (Values::List { of: super::Item::Word(_), .. }, Value::Array(items)) => {
                items.iter().filter_map(Value::as_str).collect()
            }
            _ => return Ok(()),
        };
        let Some(wrong) =
            words.into_iter().find(|word| !option.choices.iter().any(|it| it == word))
        else {
            return Ok(());
        };
        let choices: Vec<&str> = option.choices.iter().map(String::as_str).collect();
        let failure = Failure::new(
            Kind::InvalidValue,
            format!(
                "{} cannot be {:?} in {}: it takes {}",
                setting.key,
                excerpt(wrong),
                self.name,
                choices.join(", ")
            ),
        )
        .details(json!({
            "key": setting.key,
            "value": excerpt(wrong),
            "allowed": choices,
            "instead": nearest(wrong, &choices),
        }));
        Err(match nearest(wrong, &choices) {
            Some(near) => failure.hint(format!("did you mean {near}?")),
            None => failure
                .hint(Hint::run("another runtime may have it", ["llamactl", "runtime", "list"])),
        })
    }

    fn lacks(&self, setting: &Setting<'_>) -> Failure {
        let keys: Vec<&str> = self.keys().collect();
        let near = nearest(setting.key, &keys);
        let failure = Failure::new(
            Kind::UnknownOption,
            format!("{} has no option {}", self.name, setting.key),
        )
        .details(json!({ "key": setting.key, "nearest": near, "build": self.name }));
        let stub = setting.long_flags().find_map(|flag| self.option(flag));
        match (setting.builds, stub, near) {
            (builds, _, _) if !builds.is_empty() => failure.hint(builds.to_owned()),
            (_, Some(stub), _) => failure.hint(stub.help.clone()),
            (_, None, Some(near)) => failure.hint(format!("the nearest it has is {near}")),
            (_, None, None) => failure
                .hint(Hint::run("another runtime may have it", ["llamactl", "runtime", "list"])),
        }
    }
}

impl BuildOption {
    /// The option as a setting, its kind inferred from the help.
    #[must_use]
    pub fn inferred(&self) -> Setting<'_> {
        let numeric = |default: &str| default.trim().parse::<f64>().is_ok();
        let values = match self.value.as_deref() {
            None => Values::Switch,
            Some(_) if !self.choices.is_empty() => Values::Choice(Words::Listed(&self.choices)),
            Some("N" | "SECONDS" | "SEED" | "INDEX") => match self.default.as_deref() {
                Some(default) if numeric(default) && !default.contains('.') => {
                    Values::Integer { min: i64::MIN, max: i64::MAX, words: NO_WORDS }
                }
                Some(default) if numeric(default) => {
                    Values::Real { min: f64::NEG_INFINITY, max: f64::INFINITY }
                }
                _ => Values::Text,
            },
            Some("FNAME" | "FILE") => Values::File,
            Some("JSON") => Values::Json { object: false },
            Some(_) => Values::Text,
        };
        Setting {
            key: &self.key,
            group: Group::Advanced,
            values,
            negations: Words::Listed(&self.negations),
            told: Told::Flag,
            default: self.default.as_deref().unwrap_or_default(),
            help: &self.help,
            inferred: true,
            ..super::catalogue::BLANK
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::find;

    fn option(key: &str, value: Option<&str>, choices: &[&str]) -> BuildOption {
        BuildOption {
            key: key.to_owned(),
            flags: vec![format!("--{key}")],
            value: value.map(str::to_owned),
            choices: choices.iter().map(|it| (*it).to_owned()).collect(),
            ..BuildOption::default()
        }
    }

    #[test]
    fn an_option_only_the_build_knows_is_a_setting() {
        let build =
            Build::new("b".to_owned(), vec![option("brand-new", Some("MODE"), &["a", "b"])]);
        let setting = find("brand-new", Some(&build)).unwrap();
        assert!(setting.inferred);
        assert_eq!(setting.check(&json!("a")).unwrap(), json!("a"));
        assert!(setting.check(&json!("c")).is_err());
        assert!(find("brand-new", None).is_err());
    }

    #[test]
    fn what_todays_builds_dropped_is_set_where_a_build_still_has_it() {
        let old = Build::new("old".to_owned(), vec![option("draft-max", Some("N"), &[])]);
        assert_eq!(find("draft-max", None).unwrap_err().kind, Kind::OptionRefused);
        let setting = find("draft-max", Some(&old)).unwrap();
        let value = setting.check(&json!("16")).unwrap();
        old.accept(&setting, &value).unwrap();
        let arguments = crate::options::arguments::of(&setting, &value, Some(&old));
        assert_eq!(arguments, ["--draft-max".into(), "16".into()]);
        // What llamactl itself refuses stays refused.
        let build = Build::new("b".to_owned(), vec![option("log-file", Some("FNAME"), &[])]);
        assert_eq!(find("log-file", Some(&build)).unwrap_err().kind, Kind::OptionRefused);
    }

    #[test]
    fn a_choice_only_the_build_knows_is_allowed_with_it() {
        let newer = option("cache-type-k", Some("TYPE"), &["f16", "q2_new"]);
        let build = Build::new("b".to_owned(), vec![newer]);
        let setting = find("cache-type-k", Some(&build)).unwrap();
        let value = setting.check(&json!("q2_new")).unwrap();
        build.accept(&setting, &value).unwrap();
        assert!(find("cache-type-k", None).unwrap().check(&json!("q2_new")).is_err());
        let lacking = build.accept(&setting, &setting.check(&json!("q8_0")).unwrap()).unwrap_err();
        assert_eq!(lacking.kind, Kind::InvalidValue);
    }

    #[test]
    fn a_flag_that_switches_off_is_no_name_of_the_option() {
        let switch = |key: &str, off: &str| BuildOption {
            negations: vec![off.to_owned()],
            ..option(key, None, &[])
        };
        let options = vec![switch("warmup", "--no-warmup"), switch("newer", "--no-newer")];
        let build = Build::new("b".to_owned(), options);
        let refused = find("no-warmup", Some(&build)).unwrap_err();
        assert_eq!(refused.hints, Hint::to("to switch warmup off, set warmup=false").into());
        assert!(find("no-newer", Some(&build)).is_err());
        assert_eq!(find("newer", Some(&build)).unwrap().key, "newer");
    }

    #[test]
    fn an_option_the_build_lacks_is_refused_with_the_nearest() {
        let build = Build::new("b".to_owned(), vec![option("ctx-sizes", Some("N"), &[])]);
        let setting = find("ctx-size", Some(&build)).unwrap();
        let refused = build.accept(&setting, &json!(1)).unwrap_err();
        assert_eq!(refused.kind, Kind::UnknownOption);
        assert!(refused.hints.0[0].text.contains("ctx-sizes"));
    }
}
