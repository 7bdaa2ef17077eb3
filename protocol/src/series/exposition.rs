//! The catalogue as Prometheus reads it: its text format 0.0.4.
//!
//! ```text
//!   # HELP llamactl_server_tokens_generated_total Tokens generated, …
//!   # TYPE llamactl_server_tokens_generated_total counter
//!   llamactl_server_tokens_generated_total{model="qwen3"} 1500
//! ```
//!
//! What is not known is left out, so that its series ends there; no line carries a time, which would keep it.
//! Run, runtime and build stand in an `_info` of their own: in every line they would make new series at each
//! start. A counter that appears with a value loses that value to whoever computes rates, so what a model did
//! over all its runs is there for every model, running or not.

use super::{Instance, SERIES, Scope, SeriesKind};
use crate::UnixMs;
use crate::daemon::DaemonReport;
use crate::metrics::Sample;
use crate::server::State;
use crate::totals::{ModelSample, RunSample};
use std::fmt::Write as _;

/// How an HTTP answer says that it is such a text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the daemon that measures says of itself, beside what is sampled of it.
#[derive(Clone, Debug, Default)]
pub struct DaemonFigures {
    /// Its version.
    pub version: String,
    /// When it started.
    pub started_at_ms: UnixMs,
    /// Connections open now.
    pub connections: u64,
    /// Connections refused since it started.
    pub connections_refused: u64,
    /// Calls that kept others waiting since it started.
    pub slow_calls: u64,
    /// Lines of its own log that were dropped since it started.
    pub log_lines_lost: u64,
    /// How much room the history of metrics takes, and samples that it lost; `None` where none is kept.
    pub history: Option<(u64, u64)>,
}

impl From<&DaemonReport> for DaemonFigures {
    fn from(report: &DaemonReport) -> DaemonFigures {
        DaemonFigures {
            version: report.version.clone(),
            started_at_ms: report.started_at_ms,
            connections: report.connections,
            connections_refused: report.connections_refused_total,
            slow_calls: report.slow_calls,
            log_lines_lost: report.log_lines_lost,
            history: report.history.as_ref().map(|it| (it.size_bytes, it.samples_lost)),
        }
    }
}

/// A sample and the models as text, with what the daemon says that took it.
#[must_use]
pub fn prometheus(sample: &Sample, models: &[ModelSample], daemon: &DaemonFigures) -> String {
    let mut text = Text(String::with_capacity(32 << 10));
    for series in SERIES {
        let mut lines = Lines::of(series.prometheus());
        if series.scope() == Scope::Model {
            for model in models {
                lines.add(&[("model", &model.model)], series.of_model(model));
            }
        } else {
            series.raw(sample, |instance, value| lines.add(&of(instance), value));
        }
        let kind = match series.kind {
            SeriesKind::Gauge => "gauge",
            SeriesKind::Counter => "counter",
        };
        text.family(kind, series.help, lines);
    }
    of_models(&mut text, models);
    let mut gpus = Lines::of("llamactl_gpu_info".to_owned());
    for gpu in sample.gpus.iter().flatten() {
        let (index, name) = (gpu.index.to_string(), gpu.name.as_deref().unwrap_or(""));
        let driver = gpu.driver.as_deref().unwrap_or("");
        let labels = [("gpu", &*index), ("uuid", &gpu.uuid), ("name", name), ("driver", driver)];
        gpus.add(&labels, Some(1.0));
    }
    text.family("gauge", "What each GPU and its driver are called", gpus);
    of_sources(&mut text, sample);
    of_daemon(&mut text, sample, daemon);
    text.0
}

/// Which sources answer: what vanishes with one is told from what is not there.
fn of_sources(text: &mut Text, sample: &Sample) {
    let is_up = |is_up: bool| Some(f64::from(u8::from(is_up)));
    let mut sources = Lines::of("llamactl_source_up".to_owned());
    sources.add(&[("source", "gpu")], is_up(sample.gpus.is_some()));
    for server in sample.servers.iter().filter(|it| it.state == State::Ready) {
        let labels = [("source", "llama_server"), ("model", &*server.model)];
        sources.add(&labels, is_up(server.llama.is_some()));
    }
    text.family("gauge", "Whether what numbers are read from answers: 1 or 0", sources);
}

/// What the daemon says of itself.
fn of_daemon(text: &mut Text, sample: &Sample, daemon: &DaemonFigures) {
    let none: [(&str, &str); 0] = [];
    let mut number = |kind, name: &str, labels: &[(&str, &str)], help, value: f64| {
        let mut lines = Lines::of(format!("llamactl_{name}"));
        lines.add(labels, Some(value));
        text.family(kind, help, lines);
    };
    let started = daemon.started_at_ms as f64 / 1000.0;
    let help = "When the daemon started, in seconds since 1970";
    number("gauge", "daemon_start_time_seconds", &none, help, started);
    let open = daemon.connections as f64;
    number("gauge", "daemon_connections", &none, "Connections to it that are open", open);
    let seq = sample.seq as f64;
    number("counter", "daemon_samples_total", &none, "Samples it took since it started", seq);
    let since_it_started = [
        ("connections_refused", "Connections it refused", daemon.connections_refused),
        ("slow_calls", "Calls that kept others waiting, each a defect of it", daemon.slow_calls),
        ("log_lines_lost", "Lines of its own log that it dropped", daemon.log_lines_lost),
    ];
    for (name, help, value) in since_it_started {
        number("counter", &format!("daemon_{name}_total"), &none, help, value as f64);
    }
    if let Some((size_bytes, lost)) = daemon.history {
        let (name, help) = ("daemon_history_samples_lost_total", "Samples that were not kept");
        number("counter", name, &none, help, lost as f64);
        let labels = [("database", "metrics")];
        let help = "How much of a database is in use";
        number("gauge", "daemon_database_bytes", &labels, help, size_bytes as f64);
    }
    let labels = [("version", &*daemon.version)];
    number("gauge", "build_info", &labels, "The daemon that measured", 1.0);
}

/// How each model is, and the run that it has.
fn of_models(text: &mut Text, models: &[ModelSample]) {
    let mut states = Lines::of("llamactl_model_state".to_owned());
    for model in models {
        for state in State::ALL {
            let is_it = f64::from(u8::from(state == model.state));
            states.add(&[("model", &*model.model), ("state", state.as_str())], Some(is_it));
        }
    }
    text.family(
        "gauge",
        "Whether the server of a model is in a state: 1 in the one it is in",
        states,
    );
    let runs = || models.iter().filter_map(|model| Some((&*model.model, model.run.as_ref()?)));
    let mut info = Lines::of("llamactl_server_info".to_owned());
    for (model, RunSample { id, runtime, build, .. }) in runs() {
        let word = |word: &'_ Option<String>| word.clone().unwrap_or_default();
        let (runtime, build) = (word(runtime), word(build));
        let labels = [("model", model), ("run", id), ("runtime", &runtime), ("build", &build)];
        info.add(&labels, Some(1.0));
    }
    text.family(
        "gauge",
        "The run of each server, its llama-server and what that calls itself",
        info,
    );
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let mut started = Lines::of("llamactl_server_start_time_seconds".to_owned());
    runs().for_each(|(model, run)| {
        started.add(&[("model", model)], Some(seconds(run.started_at_ms)));
    });
    text.family("gauge", "When it was started, in seconds since 1970", started);
    let mut loaded = Lines::of("llamactl_server_load_seconds".to_owned());
    runs().for_each(|(model, run)| {
        let ms = run.load_ms.and_then(|ms| i64::try_from(ms).ok());
        loaded.add(&[("model", model)], ms.map(seconds));
    });
    text.family("gauge", "How long loading took", loaded);
}

fn of(instance: Instance<'_>) -> Vec<(&'static str, String)> {
    match instance {
        Instance::Host | Instance::Daemon(_) => vec![],
        Instance::Filesystem(it) => vec![("mount_point", it.mount_point.clone())],
        Instance::Gpu(gpu) => vec![("gpu", gpu.index.to_string())],
        Instance::Server(server) => vec![("model", server.model.clone())],
        Instance::Model(model) => vec![("model", model.model.clone())],
    }
}

/// The lines of one name.
struct Lines {
    name: String,
    text: String,
}

impl Lines {
    fn of(name: String) -> Lines {
        Lines { name, text: String::new() }
    }

    /// `name{model="a"} 1`; nothing where it is not known.
    fn add(&mut self, labels: &[(&str, impl AsRef<str>)], value: Option<f64>) {
        let Some(value) = value else { return };
        let escaped =
            |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let pair = |(name, value): &(&str, _)| {
            format!("{name}=\"{}\"", escaped(AsRef::<str>::as_ref(value)))
        };
        let pairs = labels.iter().map(pair).collect::<Vec<_>>().join(",");
        let (open, close) = if pairs.is_empty() { ("", "") } else { ("{", "}") };
        let _ = writeln!(self.text, "{}{open}{pairs}{close} {value}", self.name);
    }
}

struct Text(String);

impl Text {
    fn family(&mut self, kind: &str, help: &str, Lines { name, text }: Lines) {
        if !text.is_empty() {
            let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Gpu, Host, ModelStarts, ProcessSample, ServerSample};
    use crate::totals::Totals;
    use std::collections::BTreeSet;

    fn sample() -> Sample {
        let server = |model: &str| ServerSample {
            model_id: 1,
            model: model.to_owned(),
            run_id: "run".to_owned(),
            state: State::Ready,
            process: ProcessSample { cpu_ms: Some(1500), ..ProcessSample::default() },
            llama: None,
        };
        let gpu = r#"{"uuid":"GPU-a","index":0,"name":"A","busy_ratio":0.5}"#;
        let gpu: serde_json::Value = serde_json::from_str(gpu).unwrap();
        let gpu: Gpu = serde_json::from_value(gpu).unwrap();
        Sample {
            seq: 1,
            at_ms: 2,
            host: Host { memory_total_bytes: Some(1 << 36), ..Host::default() },
            gpus: Some(vec![gpu]),
            servers: vec![server("a"), server("b\"c\\d")],
            daemon: ProcessSample::default(),
            // It is the total that is told.
            models: vec![ModelStarts {
                model_id: 1,
                model: "a".to_owned(),
                starts: 1,
                restarts: 0,
            }],
        }
    }

    fn model(model: &str, state: State, run: Option<RunSample>) -> ModelSample {
        let totals = Some(Totals { tokens_generated: 7, starts: 3, ..Totals::default() });
        ModelSample { model_id: 1, model: model.to_owned(), state, run, totals }
    }

    fn models() -> Vec<ModelSample> {
        let run = RunSample {
            id: "r-1".to_owned(),
            runtime: Some("/opt/llama-server".to_owned()),
            build: Some("b10434".to_owned()),
            started_at_ms: 1_700_000_000_500,
            load_ms: Some(1250),
        };
        vec![model("a", State::Ready, Some(run)), model("b\"c\\d", State::Stopped, None)]
    }

    #[test]
    fn what_is_known_is_there_once_below_its_help_and_type() {
        let daemon = DaemonFigures {
            version: "0.1.0".to_owned(),
            history: Some((1 << 20, 3)),
            ..DaemonFigures::default()
        };
        let text = prometheus(&sample(), &models(), &daemon);
        let (mut families, mut lines) = (BTreeSet::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                assert!(families.insert(help.split(' ').next().unwrap()), "{line}");
            } else if !line.starts_with("# TYPE ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert!(lines.insert(series), "{series} is there twice");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(families.contains(series.split('{').next().unwrap()), "{line}");
            }
        }
        assert!(text.contains("\nllamactl_host_memory_size_bytes 68719476736\n"), "{text}");
        assert!(text.contains("\nllamactl_server_cpu_seconds_total{model=\"a\"} 1.5\n"), "{text}");
        assert!(text.contains(r#"{model="b\"c\\d"}"#), "{text}");
        assert!(text.contains("llamactl_gpu_busy_ratio{gpu=\"0\"} 0.5\n"), "{text}");
        assert!(text.ends_with("llamactl_build_info{version=\"0.1.0\"} 1\n"), "{text}");
        assert!(text.contains("llamactl_daemon_history_samples_lost_total 3\n"), "{text}");
        assert!(text.contains("llamactl_source_up{source=\"gpu\"} 1\n"), "{text}");
        let silent = "llamactl_source_up{source=\"llama_server\",model=\"a\"} 0\n";
        assert!(text.contains(silent), "{text}");
        assert!(!text.contains("host_load1"), "what is not known is left out");
        assert!(text.contains("llamactl_model_tokens_generated_total{model=\"a\"} 7\n"), "{text}");
        assert!(text.contains("llamactl_model_starts_total{model=\"a\"} 3\n"), "{text}");
        let stopped = |name: &str| format!("llamactl_model_{name}{{model=\"b\\\"c\\\\d\"");
        assert!(text.contains(&(stopped("prompt_tokens_total") + "} 0\n")), "{text}");
        assert!(text.contains(&(stopped("state") + ",state=\"stopped\"} 1\n")), "{text}");
        assert!(text.contains(&(stopped("state") + ",state=\"ready\"} 0\n")), "{text}");
        let run = "model=\"a\",run=\"r-1\",runtime=\"/opt/llama-server\",build=\"b10434\"";
        assert!(text.contains(&format!("llamactl_server_info{{{run}}} 1\n")), "{text}");
        assert!(text.contains("_start_time_seconds{model=\"a\"} 1700000000.5\n"), "{text}");
        assert!(text.contains("llamactl_server_load_seconds{model=\"a\"} 1.25\n"), "{text}");
        assert_eq!(text.matches("r-1").count(), 1, "a run is no label of what is measured");
    }

    #[test]
    fn a_counter_ends_with_total_and_nothing_else_does() {
        for series in SERIES {
            let is_total = series.prometheus().ends_with("_total");
            assert_eq!(is_total, series.kind == SeriesKind::Counter, "{}", series.name);
        }
    }
}
