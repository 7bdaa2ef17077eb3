//! The catalogue of series: one entry describes each number that is measured.
//!
//! ```text
//!   Sample ─▶ Series::shown ─▶ readings: name, labels, value
//!   what a person typed ─▶ select ─▶ series
//! ```
//!
//! * A name is `scope.quantity_unit`. What it is measured of, a model or a GPU, is a label beside it
//!   and never a part of it: names of models hold dots, and GPU 1 is not GPU 10.
//! * A counter only grows. It is shown as what it grows by in a second.

mod catalogue;
mod document;

pub use catalogue::{SERIES, of_name};
pub use document::markdown;

use crate::metrics::{Gpu, Host, ProcessSample, Sample, ServerSample};
use crate::options::nearest;
use crate::{Failure, Hint, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How the values of a series are to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeriesKind {
    /// It goes up and down.
    Gauge,
    /// It only grows, and begins anew with what it is counted of.
    Counter,
}

/// What a series counts in. Its word ends the series' name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Degrees Celsius.
    Celsius,
    /// Times a second.
    Hertz,
    /// Things: slots, requests, threads.
    Number,
    /// A share, 0..1.
    Ratio,
    /// Seconds.
    Seconds,
    /// Tokens.
    Tokens,
    /// Watts.
    Watts,
}

impl Unit {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Bytes => "bytes",
            Unit::Celsius => "celsius",
            Unit::Hertz => "hertz",
            Unit::Number => "number",
            Unit::Ratio => "ratio",
            Unit::Seconds => "seconds",
            Unit::Tokens => "tokens",
            Unit::Watts => "watts",
        }
    }
}

/// What a series is measured of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The machine.
    Host,
    /// One GPU, by its UUID.
    Gpu,
    /// The llama-server of one model, by the model's id.
    Server,
    /// The daemon itself.
    Daemon,
}

impl Scope {
    /// The word that begins its series' names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Host => "host",
            Scope::Gpu => "gpu",
            Scope::Server => "server",
            Scope::Daemon => "daemon",
        }
    }
}

/// One series.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// Its name: `scope.quantity_unit`. Scripts hold it, so it is never renamed.
    pub name: &'static str,
    /// How its values are to be taken.
    pub kind: SeriesKind,
    /// What it counts in.
    pub unit: Unit,
    /// What it tells, in one sentence without a full stop.
    pub help: &'static str,
    source: Source,
}

/// How a series is taken out of a sample.
#[derive(Clone, Copy, Debug)]
enum Source {
    Host(fn(&Host) -> Option<f64>),
    Gpu(fn(&Gpu) -> Option<f64>),
    Server(fn(&ServerSample) -> Option<f64>),
    Daemon(fn(&ProcessSample) -> Option<f64>),
}

/// What a number was measured of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Instance<'a> {
    /// The machine.
    Host,
    /// This GPU.
    Gpu(&'a Gpu),
    /// The server of this model.
    Server(&'a ServerSample),
    /// The daemon.
    Daemon,
}

impl Series {
    /// What it is measured of.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self.source {
            Source::Host(_) => Scope::Host,
            Source::Gpu(_) => Scope::Gpu,
            Source::Server(_) => Scope::Server,
            Source::Daemon(_) => Scope::Daemon,
        }
    }

    /// Each of its numbers in a sample, a counter as its growth per second.
    pub fn shown<'a>(&self, sample: &'a Sample, mut tell: impl FnMut(Instance<'a>, Option<f64>)) {
        match self.source {
            Source::Host(of) => tell(Instance::Host, of(&sample.host)),
            Source::Gpu(of) => {
                sample.gpus.iter().flatten().for_each(|gpu| tell(Instance::Gpu(gpu), of(gpu)));
            }
            Source::Server(of) => {
                sample.servers.iter().for_each(|it| tell(Instance::Server(it), of(it)));
            }
            Source::Daemon(of) => tell(Instance::Daemon, of(&sample.daemon)),
        }
    }
}

/// The series that `wanted` picks, in the order of the catalogue; all where nothing is wanted. A word
/// is a whole name, or the words before a dot of it, which may be written `host.*` too.
///
/// # Errors
/// [`Kind::InvalidValue`] for a word that picks nothing, with the nearest names.
pub fn select(wanted: &[String]) -> Result<Vec<&'static Series>, Failure> {
    for word in wanted {
        if !SERIES.iter().any(|series| picks(word, series.name)) {
            return Err(unknown(word));
        }
    }
    let is_wanted =
        |series: &&Series| wanted.is_empty() || wanted.iter().any(|word| picks(word, series.name));
    Ok(SERIES.iter().filter(is_wanted).collect())
}

/// Whether a word picks the series of a name.
#[must_use]
pub fn picks(word: &str, name: &str) -> bool {
    let word = word.strip_suffix(".*").unwrap_or(word);
    word == "*"
        || name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn unknown(word: &str) -> Failure {
    let mut names: Vec<&str> = SERIES.iter().map(|series| series.name).collect();
    let mut near = Vec::new();
    while let Some(name) = nearest(word, &names).filter(|_| near.len() < 3) {
        names.retain(|other| *other != name);
        near.push(name);
    }
    let mut failure = Failure::new(Kind::InvalidValue, format!("there is no series {word}"));
    // Until a catalogue named them, an instance was a part of a name.
    let (scope, instance) = word.split_once('.').unwrap_or_default();
    let command = |option: &str| {
        let scope = format!("{scope}.*");
        vec!["llamactl".to_owned(), "metrics".into(), scope, option.into(), instance.into()]
    };
    if scope == "gpu" && instance.parse::<u32>().is_ok() {
        failure = failure.hint(Hint::run("one GPU is picked by an option", command("--gpu")));
    } else if scope == "server" && near.is_empty() && !instance.is_empty() {
        failure = failure.hint(Hint::run("one model is picked by an option", command("--model")));
    } else if !near.is_empty() {
        failure = failure.hint(format!("near to it are: {}", near.join(", ")));
    }
    failure
        .hint(Hint::run("see which there are", ["llamactl", "metrics", "series"]))
        .details(json!({ "series": word, "nearest": near }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_name_says_scope_and_unit_and_is_there_once() {
        let mut names = BTreeSet::new();
        for series in SERIES {
            let name = series.name;
            assert!(names.insert(name), "{name} is there twice");
            let (scope, rest) = name.split_once('.').unwrap();
            assert_eq!(scope, series.scope().as_str(), "{name}");
            assert!(!rest.contains('.'), "{name}");
            assert!(!rest.contains("total") && !rest.ends_with("_count"), "{name}");
            let words = ["bytes", "celsius", "hertz", "ratio", "seconds", "tokens", "watts"];
            let unit = words.iter().find(|unit| rest.contains(**unit)).unwrap_or(&"number");
            assert_eq!(*unit, series.unit.as_str(), "{name}");
            let legal = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
            assert!(rest.chars().all(legal), "{name}");
            assert!(!series.help.ends_with('.') && !series.help.is_empty(), "{name}");
        }
    }

    #[test]
    fn an_instance_is_no_part_of_a_name() {
        let kind = |word: &str| select(&[word.to_owned()]).unwrap_err();
        let failure = kind("gpu.1");
        assert_eq!(failure.kind, Kind::InvalidValue);
        assert!(format!("{:?}", failure.hints).contains("--gpu"), "{failure:?}");
        assert!(format!("{:?}", kind("server.qwen3:8b")).contains("--model"));
        assert!(format!("{:?}", kind("host.cpu_bussy_ratio")).contains("host.cpu_busy_ratio"));
    }

    #[test]
    fn words_pick_whole_names_or_what_stands_before_a_dot() {
        let count = |word: &str| select(&[word.to_owned()]).map(|picked| picked.len());
        assert_eq!(count("host.load1"), Ok(1));
        assert_eq!(count("host"), count("host.*"));
        assert_eq!(count("*").unwrap(), SERIES.len());
        assert!(count("host.load").is_err() && count("hos").is_err() && count("").is_err());
        assert_eq!(select(&[]).unwrap().len(), SERIES.len());
    }

    proptest! {
        #[test]
        fn a_word_picks_a_name_or_all_below_it(
            word in "[a-c]{0,2}(\\.[a-c]{1,2})?", name in "[a-c]{1,2}\\.[a-c]{1,2}"
        ) {
            let parts: Vec<&str> = word.split('.').collect();
            let begins = name.split('.').zip(&parts).filter(|(a, b)| a == *b).count() == parts.len();
            prop_assert_eq!(picks(&word, &name), begins);
            prop_assert_eq!(picks(&format!("{word}.*"), &name), begins);
        }
    }
}
