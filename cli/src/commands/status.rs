//! `llamactl status [NAME]`

use super::daemon_status::runtime;
use super::{gpus, ps, status_one};
use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::{Facts, listed, painted};
use crate::output::styled::YELLOW;
use crate::output::time::now_ms;
use crate::output::units;
use crate::pages;
use crate::view::worst_first;
use clap::Args;
use llamactl_protocol::daemon::{DaemonReport, DaemonStatus};
use llamactl_protocol::metrics::{Host, MetricsSample, Sample};
use llamactl_protocol::prose::{counted, sentence};
use llamactl_protocol::server::Server;
use llamactl_protocol::warning::{Level, Warning};
use serde_json::json;

/// Show an overview, or one server in detail
///
/// With a name: its state and cause, where it listens, what waits for a restart, what it computes on
/// and what it holds, and its last ten log lines. A stopped server is no failure; with -q only the
/// exit code says that there is such a model.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl status",
    "llamactl status qwen3",
    "llamactl status qwen3 --json | jq -r .state";
    "0 done, whatever the state, 3 no such model, 6 daemon unreachable"
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
    let (report, list) =
        tokio::join!(daemon.call(&DaemonStatus {}), pages::servers(&daemon, false));
    let (report, mut list) = (report?, list?);
    let sample = match list.sample_or_asked(&daemon).await {
        None => daemon.call(&MetricsSample {}).await.ok(),
        sample => sample,
    };
    if output.json {
        let servers = list.servers;
        return output.json(&json!({ "daemon": report, "servers": servers, "sample": sample }));
    }
    if output.quiet {
        return output.names(list.servers.iter().map(|server| &server.model));
    }
    worst_first(&mut list.servers);
    show(output, &report, &list.servers, sample.as_ref(), now_ms())
}

fn show(
    output: &mut Output,
    report: &DaemonReport,
    servers: &[Server],
    sample: Option<&Sample>,
    now_ms: i64,
) -> Outcome {
    output.facts(facts(report, sample, now_ms))?;
    output.line_unflushed("")?;
    if !servers.is_empty() {
        output.table(&ps::table(servers, sample, now_ms, output.at_terminal()))?;
        output.line_unflushed("")?;
    }
    output.prose(0, models(report, servers))?;
    output.flush()
}

/// How many models there are, and which servers wait for a restart.
fn models(report: &DaemonReport, servers: &[Server]) -> String {
    if report.models == 0 {
        return sentence("no models yet: llamactl model add FILE, or llamactl model scan");
    }
    let models = counted(report.models, "model");
    let pending = servers.iter().filter(|server| !server.pending.is_empty());
    let pending: Vec<&str> = pending.map(|server| server.model.as_str()).collect();
    match (pending.as_slice(), servers) {
        ([], []) => format!("{models}. No server is running."),
        ([], _) => format!("{models}."),
        ([one], _) => format!("{models}. 1 server waits for a restart: {one}"),
        (several, _) => {
            let names = several.join(", ");
            format!("{models}. {} servers wait for a restart: {names}", several.len())
        }
    }
}

fn facts(report: &DaemonReport, sample: Option<&Sample>, now_ms: i64) -> Facts {
    let mut facts = Facts::new();
    let up = units::between(report.started_at_ms, now_ms);
    facts.add("daemon", format!("llamactld {}, pid {}, up {up}", report.version, report.pid));
    facts.add("runtime", runtime(report));
    facts.add_known("host", sample.and_then(|sample| host(&sample.host)));
    for gpu in sample.and_then(|sample| sample.gpus.as_deref()).unwrap_or_default() {
        facts.add(format!("GPU {}", gpu.index), gpus::line(gpu));
    }
    for other in &report.other_servers {
        let text = format!("pid {}, not started by llamactl: {}", other.pid, other.program);
        facts.add_more("found", text);
    }
    remarks(&mut facts, &report.warnings);
    facts
}

/// What a person should know, each with what to do beneath; the worst first.
pub(crate) fn remarks<'a>(facts: &mut Facts, remarks: impl IntoIterator<Item = &'a Warning>) {
    for remark in remarks {
        let (name, text) = match remark.level {
            Level::Warning => ("warning", painted(YELLOW, remark.message.as_str())),
            Level::Note => ("note", remark.message.as_str().into()),
        };
        facts.add(name, text);
        remark.commands.iter().for_each(|command| facts.add_beneath(command));
    }
}

/// `cpu 42% of 16, memory 12.3 of 62.7 GiB, load 3.1`
pub(crate) fn host(host: &Host) -> Option<String> {
    let memory = host.memory_total_bytes.zip(host.memory_available_bytes);
    let memory = memory
        .map(|(total, available)| units::bytes_of(total.saturating_sub(available), total))
        .map(|text| format!("memory {text}"));
    let cpu = host.cpu_busy_ratio.map(|ratio| match host.cpus {
        Some(cpus) => format!("cpu {} of {cpus}", units::percent(ratio)),
        None => format!("cpu {}", units::percent(ratio)),
    });
    listed([cpu, memory, host.load_1m.map(|load| format!("load {load:.1}"))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_screen};

    #[test]
    fn one_screen() {
        assert_screen("status", |output| {
            let mut servers = scene::servers();
            worst_first(&mut servers);
            show(output, &scene::report(), &servers, Some(&scene::sample()), NOW_MS)
        });
    }

    #[test]
    fn nothing_runs() {
        let idle = |models| DaemonReport { models, servers_active: 0, ..scene::report() };
        assert_screen("status-idle", |output| {
            (0..3).try_for_each(|models| show(output, &idle(models), &[], None, NOW_MS))
        });
    }
}
