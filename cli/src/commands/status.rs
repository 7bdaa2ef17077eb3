//! `llamactl status [NAME]`

use super::daemon_status::runtime;
use super::{gpus, ps, status_one};
use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::{Facts, listed};
use crate::output::time::now_ms;
use crate::output::units;
use crate::pages;
use clap::Args;
use llamactl_protocol::daemon::{DaemonReport, DaemonStatus};
use llamactl_protocol::metrics::{Host, MetricsSample, Sample};
use llamactl_protocol::server::Server;
use llamactl_protocol::warning::Warning;
use serde_json::json;

/// Show how everything is, or how one model's server is and why
///
/// With a name: its state and cause, where it listens, what is in force beside what was asked
/// for, what waits for a restart, and its last ten log lines. A stopped server is no failure.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl status",
    "llamactl status qwen3",
    "llamactl status qwen3 --json | jq -r .state";
    "0 done, whatever the state  3 no such model  6 daemon unreachable"
))]
pub(crate) struct Status {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: Option<String>,
}

/// Shows how things are.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Status) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    if let Some(name) = args.name {
        return status_one::run(output, &daemon, name).await;
    }
    let (report, servers, sample) = tokio::join!(
        daemon.call(&DaemonStatus {}),
        pages::servers(&daemon, false),
        daemon.call(&MetricsSample {}),
    );
    let (report, servers, sample) = (report?, servers?, sample.ok());
    if output.json {
        return output.json(&json!({ "daemon": report, "servers": servers, "sample": sample }));
    }
    if output.quiet {
        return output.names(servers.iter().map(|server| &server.model));
    }
    show(output, &report, &servers, sample.as_ref(), now_ms())
}

fn show(
    output: &mut Output,
    report: &DaemonReport,
    servers: &[Server],
    sample: Option<&Sample>,
    now_ms: i64,
) -> Outcome {
    output.lines(facts(report, sample, now_ms).lines())?;
    output.line_unflushed("")?;
    match (servers.is_empty(), report.models) {
        (false, _) => output.table(&ps::table(servers, sample, now_ms, output.terminal)),
        (true, 0) => output.line("No models yet: llamactl model add PATH registers one."),
        (true, 1) => output.line("No server runs; 1 model is registered."),
        (true, n) => output.line(format!("No server runs; {n} models are registered.")),
    }
}

fn facts(report: &DaemonReport, sample: Option<&Sample>, now_ms: i64) -> Facts {
    let mut facts = Facts::new();
    let up = units::between(report.started_at_ms, now_ms);
    facts.add("daemon", format!("llamactld {}, pid {}, up {up}", report.version, report.pid));
    facts.add("socket", report.socket.to_string());
    facts.add("llama-server", runtime(report));
    facts.add_known("host", sample.and_then(|sample| host(&sample.host)));
    for gpu in sample.and_then(|sample| sample.gpus.as_deref()).unwrap_or_default() {
        facts.add(format!("GPU {}", gpu.index), gpus::line(gpu));
    }
    warnings(&mut facts, &report.warnings);
    facts
}

/// What a person should know of the daemon, each with what to do beneath.
pub(crate) fn warnings(facts: &mut Facts, warnings: &[Warning]) {
    for warning in warnings {
        facts.add("warning", warning.message.clone());
        for command in &warning.commands {
            facts.add("", command.join(" "));
        }
    }
}

fn host(host: &Host) -> Option<String> {
    let memory = host.memory_total_bytes.zip(host.memory_available_bytes);
    let memory = memory.map(|(total, available)| {
        let used = units::bytes(total.saturating_sub(available));
        format!("{used} of {} memory", units::bytes(total))
    });
    let cpu = host.cpu_busy_ratio.map(|ratio| match host.cpus {
        Some(cpus) => format!("{} of {cpus} CPUs busy", units::percent(ratio)),
        None => format!("{} CPU busy", units::percent(ratio)),
    });
    listed([cpu, memory, host.load_1m.map(|load| format!("load {load:.2}"))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_screen};

    #[test]
    fn one_screen() {
        let (report, servers, sample) = (scene::report(), scene::servers(), scene::sample());
        assert_screen("status", |output| show(output, &report, &servers, Some(&sample), NOW_MS));
    }

    #[test]
    fn nothing_runs() {
        let idle = |models| DaemonReport { models, servers_active: 0, ..scene::report() };
        assert_screen("status-idle", |output| {
            (0..3).try_for_each(|models| show(output, &idle(models), &[], None, NOW_MS))
        });
    }
}
