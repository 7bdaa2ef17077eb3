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
mod exposition;

pub use catalogue::{SERIES, of_name};
pub use document::markdown;
pub use exposition::{CONTENT_TYPE, DaemonFigures, prometheus};

use crate::metrics::{
    Filesystem, Gpu, Host, LlamaSample, ModelStarts, ProcessSample, Sample, ServerSample,
};
use crate::options::nearest;
use crate::totals::ModelSample;
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
    /// Joules.
    Joules,
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
            Unit::Joules => "joules",
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
    /// One model over all its runs, by its id.
    Model,
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
            Scope::Model => "model",
            Scope::Server => "server",
            Scope::Daemon => "daemon",
        }
    }
}

/// One series.
#[derive(Debug)]
pub struct Series {
    /// Its name: `scope.quantity_unit`. Scripts hold it, so it is never renamed.
    pub name: &'static str,
    /// How its values are to be taken.
    pub kind: SeriesKind,
    /// What it counts in.
    pub unit: Unit,
    /// Whether it is kept.
    pub keep: Keep,
    /// What it tells, in one sentence without a full stop.
    pub help: &'static str,
    source: Source,
}

/// Whether a series is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// For a year, and shown.
    History,
    /// Only shown while it is so.
    Live,
}

/// Where a series stands in a sample.
#[derive(Debug)]
enum Source {
    Host(Get<Host>),
    Filesystem(Get<Filesystem>),
    Gpu(Get<Gpu>),
    Server(Get<ServerSample>),
    Llama(Get<LlamaSample>),
    Daemon(Get<ProcessSample>),
    /// Of models, which are listed and not sampled.
    Model(fn(&ModelSample) -> Option<f64>),
    /// Of models, as they are listed; beside it how far the daemon has counted, which is kept.
    Starts(fn(&ModelSample) -> Option<f64>, fn(&ModelStarts) -> u64),
}

/// How it is taken out of there.
#[derive(Debug)]
struct Get<T> {
    /// The gauge, or how fast the counter grows.
    shown: fn(&T) -> Option<f64>,
    /// The gauge, or the counter itself.
    raw: fn(&T) -> Option<f64>,
}

/// What a number was measured of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Instance<'a> {
    /// The machine.
    Host,
    /// This file system of the machine.
    Filesystem(&'a Filesystem),
    /// This GPU.
    Gpu(&'a Gpu),
    /// The server of this model.
    Server(&'a ServerSample),
    /// This model.
    Model(&'a ModelStarts),
    /// The daemon.
    Daemon(&'a ProcessSample),
}

impl Instance<'_> {
    /// What stays the same of it over restarts, renames and a new order of GPUs; empty where there is
    /// but one.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Instance::Host | Instance::Daemon(_) => String::new(),
            Instance::Filesystem(it) => it.mount_point.clone(),
            Instance::Gpu(gpu) => gpu.uuid.clone(),
            Instance::Server(server) => server.model_id.to_string(),
            Instance::Model(model) => model.model_id.to_string(),
        }
    }

    /// Whether that is `id`, without making it.
    #[must_use]
    pub fn has_id(&self, id: &str) -> bool {
        match self {
            Instance::Host | Instance::Daemon(_) => id.is_empty(),
            Instance::Filesystem(it) => it.mount_point == id,
            Instance::Gpu(gpu) => gpu.uuid == id,
            Instance::Server(server) => id.parse() == Ok(server.model_id),
            Instance::Model(model) => id.parse() == Ok(model.model_id),
        }
    }

    /// The process whose counters begin anew with it.
    #[must_use]
    pub fn process(&self) -> Option<&ProcessSample> {
        match self {
            Instance::Host | Instance::Filesystem(_) | Instance::Gpu(_) | Instance::Model(_) => {
                None
            }
            Instance::Server(server) => Some(&server.process),
            Instance::Daemon(process) => Some(process),
        }
    }
}

impl Series {
    /// What it is measured of.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self.source {
            Source::Host(_) | Source::Filesystem(_) => Scope::Host,
            Source::Gpu(_) => Scope::Gpu,
            Source::Model(_) | Source::Starts(..) => Scope::Model,
            Source::Server(_) | Source::Llama(_) => Scope::Server,
            Source::Daemon(_) => Scope::Daemon,
        }
    }

    /// What Prometheus calls it: a rule, and no second name.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let total = if self.kind == SeriesKind::Counter { "_total" } else { "" };
        format!("llamactl_{}{total}", self.name.replace('.', "_"))
    }

    /// Each of its numbers in a sample as it is shown: a counter as its growth per second.
    pub fn shown<'a>(&self, sample: &'a Sample, tell: impl FnMut(Instance<'a>, Option<f64>)) {
        self.visit(sample, false, tell);
    }

    /// Its number of one model, where it is a series of models.
    #[must_use]
    pub fn of_model(&self, model: &ModelSample) -> Option<f64> {
        match self.source {
            Source::Model(get) | Source::Starts(get, _) => get(model),
            _ => None,
        }
    }

    /// Each of its numbers in a sample as it was read: a counter as it stands.
    pub fn raw<'a>(&self, sample: &'a Sample, tell: impl FnMut(Instance<'a>, Option<f64>)) {
        self.visit(sample, true, tell);
    }

    fn visit<'a>(
        &self,
        sample: &'a Sample,
        raw: bool,
        mut tell: impl FnMut(Instance<'a>, Option<f64>),
    ) {
        fn get<T>(get: &Get<T>, raw: bool, of: &T) -> Option<f64> {
            if raw { (get.raw)(of) } else { (get.shown)(of) }
        }
        match &self.source {
            Source::Host(it) => tell(Instance::Host, get(it, raw, &sample.host)),
            Source::Filesystem(it) => {
                for filesystem in &sample.host.filesystems {
                    tell(Instance::Filesystem(filesystem), get(it, raw, filesystem));
                }
            }
            Source::Gpu(it) => {
                for gpu in sample.gpus.iter().flatten() {
                    tell(Instance::Gpu(gpu), get(it, raw, gpu));
                }
            }
            Source::Server(it) => {
                for server in &sample.servers {
                    tell(Instance::Server(server), get(it, raw, server));
                }
            }
            Source::Llama(it) => {
                for server in &sample.servers {
                    let llama = server.llama.as_ref();
                    tell(Instance::Server(server), llama.and_then(|llama| get(it, raw, llama)));
                }
            }
            Source::Daemon(it) => {
                tell(Instance::Daemon(&sample.daemon), get(it, raw, &sample.daemon));
            }
            // What is shown of it is its total.
            Source::Starts(_, counted) if raw => {
                for model in &sample.models {
                    tell(Instance::Model(model), Some(counted(model) as f64));
                }
            }
            Source::Model(_) | Source::Starts(..) => {}
        }
    }

    /// The shortest time between two readings: what it grew by in one row it grew by in this time at
    /// least.
    #[must_use]
    pub fn read_every_ms(&self) -> u64 {
        match self.source {
            Source::Llama(_) => 2000,
            Source::Host(_)
            | Source::Filesystem(_)
            | Source::Gpu(_)
            | Source::Model(_)
            | Source::Starts(..)
            | Source::Server(_)
            | Source::Daemon(_) => 0,
        }
    }

    /// A value as it is kept: whole where that loses nothing that can be seen. Seconds of a counter
    /// are kept as milliseconds, shares to a thousandth.
    #[must_use]
    pub fn to_kept(&self, value: f64) -> f64 {
        match (self.unit, self.kind) {
            (Unit::Seconds, SeriesKind::Counter) => (value * 1000.0).round(),
            (Unit::Ratio, _) => (value * 1000.0).round() / 1000.0,
            _ => value,
        }
    }

    /// A kept value in its unit.
    #[must_use]
    pub fn from_kept(&self, value: f64) -> f64 {
        match (self.unit, self.kind) {
            (Unit::Seconds, SeriesKind::Counter) => value / 1000.0,
            _ => value,
        }
    }
}

/// The series that `wanted` picks, in the order of the catalogue; all where nothing is wanted. A word
/// is a whole name, or the words before a dot of it, which may be written `host.*` too.
///
/// # Errors
/// [`Kind::InvalidValue`] for a word that picks nothing, with the nearest names.
pub fn select<T: AsRef<str>>(wanted: &[T]) -> Result<Vec<&'static Series>, Failure> {
    for word in wanted.iter().map(AsRef::as_ref) {
        if !SERIES.iter().any(|series| picks(word, series.name)) {
            return Err(unknown(word));
        }
    }
    let is_wanted =
        |it: &&Series| wanted.is_empty() || wanted.iter().any(|word| picks(word.as_ref(), it.name));
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
            let words =
                ["bytes", "celsius", "hertz", "joules", "ratio", "seconds", "tokens", "watts"];
            let unit = words.iter().find(|unit| rest.split('_').any(|part| part == **unit));
            let unit = unit.unwrap_or(&"number");
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
        assert_eq!(select::<&str>(&[]).unwrap().len(), SERIES.len());
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
