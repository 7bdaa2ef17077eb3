//! The catalogue of settings: one entry describes each, and everything else comes from it.
//!
//! ```text
//!   what a person typed ─▶ find ─▶ check ─▶ stored value ─▶ arguments ─▶ llama-server's argv
//!   a pasted command line ─▶ command_line ──╯      │
//!                                                  ╰─▶ text, TOML, completion, documentation
//! ```
//!
//! * A key is llama-server's own long flag. A setting nobody set emits nothing: llama-server's
//!   defaults are the defaults.
//! * The catalogue is an overlay over the help text of a [`Build`]: an option only the build knows
//!   is a setting too, its kind inferred; an option or a choice the build lacks is refused.
//! * Everything here is a function of values: no file, no process, no clock.

pub mod arguments;
pub mod build;
pub mod catalogue;
pub mod command_line;
pub mod document;
pub mod layers;
mod nearest;
pub mod rules;
pub mod secret;
pub mod successors;
mod value;

pub use build::{Build, BuildOption};
pub use catalogue::{POLICY, catalogue};
pub use nearest::nearest;
pub use value::{assignment, change, text, text_of};

use crate::Hint;
use crate::bounds::excerpt;
use crate::failure::{Failure, Kind};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Settings by key, their values as [`Setting::check`] gives them.
pub type Settings = BTreeMap<String, Value>;

/// Settings for a variable of the server's environment have this before the variable's name.
pub const VARIABLE_PREFIX: &str = "env.";

/// One setting: what it is called, what it takes and how llama-server is told.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The key: llama-server's long flag without its dashes, or llamactl's own name.
    pub key: &'a str,
    /// Other long flags it has had or has, without dashes.
    pub long: &'a [&'a str],
    /// Its short flags, without the dash.
    pub short: &'a [&'a str],
    /// The flags that switch it off, with their dashes.
    pub negations: Words<'a>,
    /// The variable llama-server reads it from.
    pub variable: &'a str,
    /// What the old dashboard called it, where that differs by more than `_` for `-`.
    pub old_names: &'a [&'a str],
    /// Which group it belongs to.
    pub group: Group,
    /// What values it takes.
    pub values: Values<'a>,
    /// How llama-server also lets some of its values be written, and the value that is.
    pub spelled: &'a [(&'a str, &'a str)],
    /// How llama-server is told.
    pub told: Told<'a>,
    /// What its number counts, for people: `tokens`, `MiB`, `s`.
    pub unit: &'a str,
    /// llama-server's default as its help says it; empty where it says none.
    pub default: &'a str,
    /// What it does, in one sentence without a full stop.
    pub help: &'a str,
    /// A value worth showing and legal on any machine, as it is typed.
    pub example: &'a str,
    /// What llama-server calls it in the `params` of `/props`, where it reports what is in force.
    pub reported: &'a str,
    /// Which builds renamed, deprecated or dropped it, and what to use instead.
    pub builds: &'a str,
    /// Why it cannot be set and what to do instead; empty where it can.
    pub refused: &'a str,
    /// Whether only the build's own help knows it.
    pub inferred: bool,
}

/// The groups, in the order they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// llamactl's own settings.
    Llamactl,
    /// What is loaded, and how prompts are made of messages.
    Model,
    /// How tokens are chosen.
    Sampling,
    /// Context, batches and caches.
    Memory,
    /// What runs on which GPU.
    Gpu,
    /// Threads, attention, slots.
    Advanced,
    /// Adapters and control vectors.
    Lora,
    /// Images and sound.
    Multimodal,
    /// Drafting tokens ahead.
    Speculative,
    /// What llama-server offers over HTTP.
    Server,
    /// What llama-server writes to its log.
    Logging,
}

impl Group {
    /// Every group, in the order of help and documents.
    pub const ALL: &'static [Group] = &[
        Group::Llamactl,
        Group::Model,
        Group::Sampling,
        Group::Memory,
        Group::Gpu,
        Group::Advanced,
        Group::Lora,
        Group::Multimodal,
        Group::Speculative,
        Group::Server,
        Group::Logging,
    ];

    /// Its name on the command line and in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Group::Llamactl => "llamactl",
            Group::Model => "model",
            Group::Sampling => "sampling",
            Group::Memory => "memory",
            Group::Gpu => "gpu",
            Group::Advanced => "advanced",
            Group::Lora => "lora",
            Group::Multimodal => "multimodal",
            Group::Speculative => "speculative",
            Group::Server => "server",
            Group::Logging => "logging",
        }
    }

    /// What belongs in it.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Group::Llamactl => "llamactl's own settings",
            Group::Model => "what is loaded, and how prompts are made of messages",
            Group::Sampling => "how tokens are chosen, where a request does not say",
            Group::Memory => "context, batches and caches",
            Group::Gpu => "what runs on which GPU",
            Group::Advanced => "threads, attention, slots",
            Group::Lora => "adapters and control vectors",
            Group::Multimodal => "images and sound",
            Group::Speculative => "drafting tokens ahead",
            Group::Server => "what llama-server offers over HTTP",
            Group::Logging => "what llama-server writes to its log",
        }
    }

    /// The group of this name.
    ///
    /// # Errors
    /// [`Kind::UnknownOption`], naming the groups.
    pub fn find(name: &str) -> Result<Group, Failure> {
        let names: Vec<&str> = Group::ALL.iter().map(|group| group.as_str()).collect();
        Group::ALL.iter().copied().find(|group| group.as_str() == name).ok_or_else(|| {
            let name = excerpt(name);
            Failure::new(Kind::UnknownOption, format!("there is no group of settings {name:?}"))
                .hint(format!("the groups are: {}", names.join(", ")))
                .details(json!({ "group": name, "known": names }))
        })
    }
}

/// Some words: of the catalogue, or of a build's help.
#[derive(Clone, Copy, Debug)]
pub enum Words<'a> {
    /// Of the catalogue.
    These(&'a [&'a str]),
    /// Of a build's help.
    Listed(&'a [String]),
    /// Of the catalogue, and those a build's help has besides.
    Either(&'a [&'a str], &'a [String]),
}

impl<'a> Words<'a> {
    /// The words one by one, in the order they are listed in.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let (these, listed): (&[&str], &[String]) = match self {
            Words::These(these) => (these, &[]),
            Words::Listed(listed) => (&[], listed),
            Words::Either(these, listed) => (these, listed),
        };
        let besides = listed.iter().map(String::as_str).filter(|word| !these.contains(word));
        these.iter().copied().chain(besides)
    }

    /// The words in a line.
    #[must_use]
    pub fn join(self, separator: &str) -> String {
        self.iter().collect::<Vec<_>>().join(separator)
    }

    /// Whether `word` is one of them.
    #[must_use]
    pub fn contains(self, word: &str) -> bool {
        self.iter().any(|one| one == word)
    }
}

/// What values a setting takes.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// A whole number in a range, or one of some words.
    Integer {
        /// The least allowed.
        min: i64,
        /// The greatest allowed.
        max: i64,
        /// Words allowed instead of a number.
        words: Words<'a>,
    },
    /// A number in a range.
    Real {
        /// The least allowed.
        min: f64,
        /// The greatest allowed.
        max: f64,
    },
    /// On or off.
    Switch,
    /// One of some words.
    Choice(Words<'a>),
    /// Several values in an order.
    List {
        /// What each is.
        of: Item<'a>,
        /// What stands between them, typed and on the command line.
        separator: char,
    },
    /// Two whole numbers.
    Pair,
    /// A range of CPUs, `lo-hi`.
    CpuRange,
    /// A set of CPUs as a hexadecimal number.
    CpuMask,
    /// The path of a file.
    File,
    /// The path of a directory.
    Directory,
    /// A JSON text; with `object` it must be an object.
    Json {
        /// Whether it must be an object.
        object: bool,
    },
    /// Text of any kind, as it stands.
    Text,
    /// A text that is kept apart and never shown.
    Secret,
    /// A host name or address.
    Host,
    /// The name of a runtime.
    Runtime,
    /// A variable's value; it may be secret.
    Variable,
    /// Arguments handed to llama-server as they are.
    Arguments,
}

/// What the values of a list are.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// Any text without the separator.
    Text,
    /// A whole number in a range.
    Integer {
        /// The least allowed.
        min: i64,
        /// The greatest allowed.
        max: i64,
    },
    /// A number in a range.
    Real {
        /// The least allowed.
        min: f64,
        /// The greatest allowed.
        max: f64,
    },
    /// One of some words.
    Word(Words<'a>),
    /// The path of a file.
    File,
    /// The path of a file and a scale, `FILE:SCALE`.
    ScaledFile,
    /// `KEY=TYPE:VALUE`, a piece of metadata replaced.
    Metadata,
    /// `PATTERN=BUFFER`, where tensors are kept.
    Tensors,
    /// `TOKEN+BIAS` or `TOKEN-BIAS`.
    Bias,
    /// A device as `--list-devices` names it, or `none`.
    Device,
    /// `HOST:PORT`.
    Address,
}

/// How llama-server is told of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// By its flag and a value behind it; a switch by its flag or a negation of it.
    Flag,
    /// By its flag once for each value of a list.
    Repeated,
    /// By this variable, so that it stands in no list of processes.
    Environment(&'a str),
    /// By llamactl's own doing.
    Own,
}

/// No words at all: for a setting that takes any value.
pub const NO_WORDS: Words<'static> = Words::These(&[]);

/// The setting of this key, alias, flag or variable: of the catalogue, else of the build.
///
/// # Errors
/// [`Kind::UnknownOption`], naming the nearest key there is; [`Kind::OptionRefused`] for one that
/// cannot be set, saying what to do instead.
pub fn find<'a>(key: &'a str, build: Option<&'a Build>) -> Result<Setting<'a>, Failure> {
    find_known(key, build)?.ok_or_else(|| unknown(key, build))
}

/// The same; `None` where there is no such setting. To say which is the nearest takes a comparison
/// with each there is, and somebody who has many to ask for does without.
///
/// # Errors
/// [`Kind::OptionRefused`] for one that cannot be set.
pub fn find_known<'a>(
    key: &'a str,
    build: Option<&'a Build>,
) -> Result<Option<Setting<'a>>, Failure> {
    let Some(setting) = seek(key, build)? else { return Ok(None) };
    if setting.refused.is_empty() {
        return Ok(Some(setting));
    }
    // What today's builds dropped is an option like any other of a build that still has it.
    let has = |build: &Build| setting.long_flags().any(|flag| build.has(flag));
    if !setting.builds.is_empty() && build.is_some_and(has) {
        return Ok(Some(Setting { refused: "", ..setting }));
    }
    Err(Failure::new(Kind::OptionRefused, format!("{} cannot be set", setting.key))
        .hint(setting.refused)
        .details(json!({ "key": setting.key })))
}

/// The same, also for one that cannot be set.
///
/// # Errors
/// [`Kind::UnknownOption`], naming the nearest key there is.
pub fn look_up<'a>(key: &'a str, build: Option<&'a Build>) -> Result<Setting<'a>, Failure> {
    seek(key, build)?.ok_or_else(|| unknown(key, build))
}

fn seek<'a>(key: &'a str, build: Option<&'a Build>) -> Result<Option<Setting<'a>>, Failure> {
    let bare = key.trim_start_matches('-');
    if let Some(variable) = bare.strip_prefix(VARIABLE_PREFIX) {
        rules::check_variable(variable)?;
        return Ok(Some(Setting { key: bare, ..catalogue::VARIABLE }));
    }
    let dashed = bare.replace('_', "-");
    let by_key = catalogue::of_key(bare).or_else(|| catalogue::of_key(&dashed));
    let by_name = || catalogue().find(|setting| setting.is_called(bare));
    if let Some(setting) = by_key.or_else(by_name) {
        return Ok(Some(setting.with_choices_of(build)));
    }
    // A flag that switches an option off is no name of it: `no-warmup=true` would switch it on.
    let is_name = |option: &&'a BuildOption| {
        let mut names = option.flags.iter().map(|flag| flag.trim_start_matches('-'));
        names.any(|name| name == bare || name == dashed)
    };
    let option = build.and_then(|it| it.option(bare).or_else(|| it.option(&dashed)));
    Ok(option.filter(is_name).map(BuildOption::inferred))
}

fn unknown(key: &str, build: Option<&Build>) -> Failure {
    let bare = key.trim_start_matches('-');
    let key = excerpt(key);
    let negated = catalogue().find(|setting| {
        setting.negations.iter().any(|negation| negation.trim_start_matches('-') == bare)
    });
    if let Some(since) = successors::came_with(bare) {
        let message = match build {
            Some(build) => format!("{} has no option {bare}", build.name()),
            None => format!("there is no llama-server here that has an option {bare}"),
        };
        return Failure::new(Kind::UnknownOption, message)
            .hint(Hint::run(
                format!("llama.cpp has it since {since}; name such a build"),
                ["llamactl", "runtime", "add", "PATH"],
            ))
            .details(json!({ "key": key, "since": since }));
    }
    let failure = Failure::new(Kind::UnknownOption, format!("there is no setting {key:?}"));
    if let Some(setting) = negated {
        return failure
            .hint(format!("to switch {} off, set {}=false", setting.key, setting.key))
            .details(json!({ "key": key, "nearest": setting.key }));
    }
    let of_build = build.into_iter().flat_map(Build::keys);
    let known: Vec<&str> = catalogue()
        .filter(|setting| setting.refused.is_empty())
        .flat_map(|setting| std::iter::once(setting.key).chain(setting.long.iter().copied()))
        .chain(of_build)
        .collect();
    let nearest = nearest(bare, &known).map(|name| {
        // An old spelling leads to the key of today.
        let today = catalogue().find(|setting| setting.is_called(name));
        today.map_or(name, |setting| setting.key)
    });
    let failure = failure.details(json!({ "key": key, "nearest": nearest }));
    match nearest {
        Some(nearest) => failure.hint(format!("did you mean {nearest}?")),
        None => failure.hint(Hint::run("see which there are", ["llamactl", "help", "settings"])),
    }
}

impl<'a> Setting<'a> {
    /// Whether this is another name of it: a flag, a variable, or what it was called before.
    fn is_called(&self, name: &str) -> bool {
        self.long.iter().chain(self.old_names).any(|one| same(one, name))
            || self.short.contains(&name)
            || (!self.variable.is_empty() && self.variable == name)
    }

    /// All names it is accepted under, its key first.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let key = self.key;
        let variable = Some(self.variable).filter(|variable| !variable.is_empty());
        std::iter::once(key)
            .chain(self.long.iter().copied())
            // `-fit` and `--fit` are one name here.
            .chain(self.short.iter().copied().filter(move |name| *name != key))
            .chain(variable)
            .chain(self.old_names.iter().copied())
    }

    /// Its long flags, the one of today first, without dashes.
    pub fn long_flags(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        std::iter::once(self.key).chain(self.long.iter().copied())
    }

    /// Whether values given to it twice are put together; of anything else the last counts.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        match self.values {
            Values::List { of, .. } => {
                self.told == Told::Repeated
                    || self.key == "tags"
                    || matches!(
                        of,
                        Item::File
                            | Item::ScaledFile
                            | Item::Metadata
                            | Item::Tensors
                            | Item::Address
                    )
            }
            _ => false,
        }
    }

    /// Whether it is llamactl's own and no option of llama-server.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.told == Told::Own
    }

    /// Whether its value is kept apart and never shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self.values, Values::Secret)
    }
}

impl Setting<'static> {
    /// The same with the choices a build has besides: llama.cpp gains one every few weeks.
    fn with_choices_of<'a>(&self, build: Option<&'a Build>) -> Setting<'a> {
        let option = build.and_then(|build| {
            let options = self.long_flags().filter_map(|flag| build.option(flag));
            options.into_iter().find(|option| !option.removed && !option.choices.is_empty())
        });
        let Some(option) = option else { return *self };
        let values = match self.values {
            Values::Choice(Words::These(these)) => {
                Values::Choice(Words::Either(these, &option.choices))
            }
            Values::List { of: Item::Word(Words::These(these)), separator } => {
                Values::List { of: Item::Word(Words::Either(these, &option.choices)), separator }
            }
            other => other,
        };
        Setting { values, ..*self }
    }
}

/// Whether two names differ by nothing but `_` for `-`.
fn same(a: &str, b: &str) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    a.len() == b.len() && a.bytes().map(dashed).eq(b.bytes().map(dashed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_settings_share_a_name() {
        let mut seen = HashSet::new();
        for setting in catalogue() {
            assert!(seen.insert(setting.key), "{}", setting.key);
        }
        for setting in catalogue() {
            for name in setting.names().skip(1) {
                // llamactl's own `path` is a key, and llama-server's flag of that name another's.
                if catalogue().any(|other| other.key == name) {
                    assert_eq!(name, "path");
                    continue;
                }
                assert!(seen.insert(name), "{name}");
                assert_eq!(look_up(name, None).unwrap().key, setting.key);
            }
        }
    }

    #[test]
    fn a_wrong_key_names_the_nearest() {
        let hint = |key| look_up(key, None).unwrap_err().hints.0[0].to_string();
        assert_eq!(hint("ctx-siz"), "did you mean ctx-size?");
        assert_eq!(hint("prot"), "did you mean port?");
        assert_eq!(hint("no-mmap"), "to switch mmap off, set mmap=false");
        assert!(hint("qqqqqqqqqq").contains("help settings"));
        let build = Build::new("b10434".into(), vec![]);
        let lacking = look_up("--lazy-mode", Some(&build)).unwrap_err();
        assert_eq!(lacking.message, "b10434 has no option lazy-mode");
        assert!(lacking.hints.0[0].text.contains("since b11434"), "{lacking}");
    }
}
