//! The catalogue as Prometheus reads it: its text format 0.0.4.
//!
//! ```text
//!   # HELP llamactl_server_tokens_generated_total Tokens generated, …
//!   # TYPE llamactl_server_tokens_generated_total counter
//!   llamactl_server_tokens_generated_total{model="qwen3"} 1500
//! ```
//!
//! What is not known is left out, so that its series ends there; no line carries a time, which would keep it.
//! Run and build stand in an `_info` of their own: in every line they would make new series at each start.

use super::{Instance, SERIES, SeriesKind};
use crate::metrics::Sample;
use std::fmt::Write as _;

/// A sample as text. `version` is that of the daemon that took it.
#[must_use]
pub fn prometheus(sample: &Sample, version: &str) -> String {
    let mut text = String::with_capacity(16 << 10);
    for series in SERIES {
        let mut lines = String::new();
        let name = series.prometheus();
        series.raw(sample, |instance, value| {
            if let Some(value) = value {
                let _ = writeln!(lines, "{name}{} {value}", labels(&of(instance)));
            }
        });
        let kind = match series.kind {
            SeriesKind::Gauge => "gauge",
            SeriesKind::Counter => "counter",
        };
        family(&mut text, &name, kind, series.help, &lines);
    }
    let mut servers = String::new();
    for server in &sample.servers {
        let state = server.state.as_str();
        let pairs = [("model", &*server.model), ("run", &server.run_id), ("state", state)];
        let _ = writeln!(servers, "llamactl_server_info{} 1", labels(&pairs.map(owned)));
    }
    family(&mut text, "llamactl_server_info", "gauge", "The run of each server", &servers);
    let mut gpus = String::new();
    for gpu in sample.gpus.iter().flatten() {
        let (index, name) = (gpu.index.to_string(), gpu.name.as_deref().unwrap_or(""));
        let pairs = [("gpu", &*index), ("uuid", &gpu.uuid), ("name", name)];
        let _ = writeln!(gpus, "llamactl_gpu_info{} 1", labels(&pairs.map(owned)));
    }
    family(&mut text, "llamactl_gpu_info", "gauge", "What each GPU is called", &gpus);
    let build = format!("llamactl_build_info{} 1\n", labels(&[owned(("version", version))]));
    family(&mut text, "llamactl_build_info", "gauge", "The daemon that measured", &build);
    text
}

type Pair = (&'static str, String);

fn owned((name, value): (&'static str, &str)) -> Pair {
    (name, value.to_owned())
}

fn of(instance: Instance<'_>) -> Vec<Pair> {
    match instance {
        Instance::Host | Instance::Daemon(_) => vec![],
        Instance::Gpu(gpu) => vec![("gpu", gpu.index.to_string())],
        Instance::Server(server) => vec![("model", server.model.clone())],
    }
}

/// `{model="a"}`; nothing where there is none.
fn labels(pairs: &[Pair]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pair = |(name, value): &Pair| format!("{name}=\"{}\"", escaped(value));
    format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(","))
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, lines: &str) {
    if !lines.is_empty() {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Gpu, Host, ProcessSample, ServerSample};
    use crate::server::State;
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
        }
    }

    #[test]
    fn what_is_known_is_there_once_below_its_help_and_type() {
        let text = prometheus(&sample(), "0.1.0");
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
        assert!(!text.contains("host_load1"), "what is not known is left out");
    }

    #[test]
    fn a_counter_ends_with_total_and_nothing_else_does() {
        for series in SERIES {
            let is_total = series.prometheus().ends_with("_total");
            assert_eq!(is_total, series.kind == SeriesKind::Counter, "{}", series.name);
        }
    }
}
