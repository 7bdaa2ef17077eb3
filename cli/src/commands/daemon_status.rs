//! `llamactl daemon status`

use super::status;
use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::{Outcome, Quit};
use crate::output::Output;
use crate::output::facts::{Facts, listed};
use crate::output::time::now_ms;
use crate::output::units;
use clap::Args;
use llamactl_protocol::Kind;
use llamactl_protocol::daemon::{ConfigReport, DaemonReport, DaemonStatus, RegistryReport};
use llamactl_protocol::prose::counted;

/// Show the daemon's state
///
/// Starts no daemon. With -q nothing is printed, and the exit code says whether one answers.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon status",
    "llamactl daemon status -q && echo it runs";
    "0 it answers, 6 it does not"
))]
pub(crate) struct Status {}

/// Shows the daemon.
pub(crate) async fn run(output: &mut Output, reach: &Reach, _: Status) -> Outcome {
    let daemon = match reach.daemon(Autostart::Never).await {
        // That none answers is the answer, and with -q the exit code has it.
        Err(failure) if output.quiet && failure.kind == Kind::DaemonUnreachable => {
            return Err(Quit::Told(failure.kind.exit_status()));
        }
        daemon => daemon?,
    };
    let report = daemon.call(&DaemonStatus {}).await?;
    if output.json {
        return output.json(&report);
    }
    if output.quiet {
        return Ok(());
    }
    output.facts(facts(&report, now_ms()))
}

fn facts(report: &DaemonReport, now_ms: i64) -> Facts {
    let mut facts = Facts::new();
    let up = units::between(report.started_at_ms, now_ms);
    facts.add("daemon", format!("llamactld {}, pid {}, up {up}", report.version, report.pid));
    facts.add("socket", report.socket.to_string());
    facts.add("state", report.state_dir.to_string());
    facts.add_known("log", report.log.as_ref().map(ToString::to_string));
    facts.add_known("config", report.config.as_ref().map(config));
    facts.add("runtime", runtime(report));
    facts.add("models", format!("{}, {} running", report.models, report.servers_active));
    facts.add("connections", connections(report));
    facts.add_known("slow calls", slow_calls(report));
    facts.add_known("dropped", dropped(report));
    facts.add_known("not written", not_written(report));
    facts.add_known("memory", report.memory_bytes.map(units::bytes));
    let registry = report.registry.as_ref();
    facts.add_known("last copy", registry.and_then(|registry| copy(registry, now_ms)));
    facts.add_known("history", report.history.as_ref().map(|it| units::bytes(it.size_bytes)));
    status::remarks(&mut facts, &report.warnings);
    facts
}

/// Where the newest copy of the registry lies, and how old it is.
fn copy(registry: &RegistryReport, now_ms: i64) -> Option<String> {
    let (path, at_ms) = registry.copy.as_ref().zip(registry.copied_at_ms)?;
    Some(format!("{path}, {} ago", units::between(at_ms, now_ms)))
}

/// The configuration's file, and what holds.
fn config(report: &ConfigReport) -> String {
    let path = report.path.as_ref().map_or_else(|| "no file".to_owned(), ToString::to_string);
    let set = report.config.entries().into_iter().filter(|(_, value)| !value.is_null());
    let set = set.map(|(key, value)| {
        Some(format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
    });
    format!("{path}: {}", listed(set).unwrap_or_default())
}

fn connections(report: &DaemonReport) -> String {
    match report.connections_refused_total {
        0 => report.connections.to_string(),
        refused => format!("{}, {refused} refused", report.connections),
    }
}

/// How often a call held all others up, where one did.
fn slow_calls(report: &DaemonReport) -> Option<String> {
    match report.slow_calls {
        0 => None,
        count => Some(format!("{count}; `llamactl daemon logs` names them")),
    }
}

/// What was lost since it started, where something was.
fn dropped(report: &DaemonReport) -> Option<String> {
    let samples = report.history.as_ref().map_or(0, |history| history.samples_lost);
    let some = |count, thing| (count > 0).then(|| counted(count, thing));
    listed([
        some(samples, "sample").map(|it| it + " of the history"),
        some(report.log_lines_lost, "line").map(|it| it + " of its log"),
    ])
}

/// What waits for room on the disk, where something does.
fn not_written(report: &DaemonReport) -> Option<String> {
    let waiting = report.registry.as_ref()?.waiting_records;
    (waiting > 0).then(|| counted(waiting, "record") + " of what happened")
}

/// Which llama-server is used, or why none is.
pub(crate) fn runtime(report: &DaemonReport) -> String {
    match (&report.runtime, &report.runtime_problem) {
        (Some(runtime), _) => match &runtime.version {
            Some(version) => format!("{} (the default), llama-server {version}", runtime.name),
            None => format!("{} (the default), {}", runtime.name, runtime.path),
        },
        (None, Some(problem)) => format!("none: {problem}"),
        (None, None) => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_screen};
    use llamactl_protocol::daemon::HistoryReport;
    use llamactl_protocol::warning::{Warning, WarningCode};

    #[test]
    fn how_the_daemon_is() {
        let well = scene::report();
        let broken = DaemonReport {
            slow_calls: 2,
            log_lines_lost: 12,
            history: Some(HistoryReport { samples_lost: 31, ..HistoryReport::default() }),
            registry: Some(RegistryReport { waiting_records: 1, ..RegistryReport::default() }),
            config: Some(ConfigReport::default()),
            runtime: None,
            runtime_problem: Some("there is no llama-server in PATH".into()),
            warnings: vec![
                Warning::new(WarningCode::RegistryReplaced, "another file lies in its place")
                    .command(["llamactl", "daemon", "restore", "--running"])
                    .command(["llamactl", "daemon", "restart"]),
                Warning::new(WarningCode::DiskFull, "the disk of /home is full"),
            ],
            ..scene::report()
        };
        for (name, report) in [("daemon-status", well), ("daemon-status-no-runtime", broken)] {
            assert_screen(name, |output| output.facts(facts(&report, NOW_MS)));
        }
    }
}
