//! `llamactl status NAME`: one server, as systemctl would show it.

use super::logs;
use crate::connection::Daemon;
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::{Facts, listed};
use crate::output::styled::{BOLD, DIM, Styled, YELLOW};
use crate::output::time::{Clock, now_ms};
use crate::output::units;
use crate::view::{
    assignment, device, endpoint, queue_reason, sample_of, state_style, state_text_at,
};
use llamactl_protocol::Failure;
use llamactl_protocol::log::{LogFollow, LogLine};
use llamactl_protocol::metrics::{MetricsSample, ProcessSample};
use llamactl_protocol::model::{ModelDetail, ModelShow};
use llamactl_protocol::server::Server;

/// Log lines shown.
const LINES: u32 = 10;

/// Shows one server.
pub(super) async fn run(output: &mut Output, daemon: &Daemon, name: String) -> Outcome {
    if !output.for_people() {
        let detail = daemon.call(&ModelShow { model: name.into(), ..ModelShow::default() }).await?;
        let server = detail.server;
        return if output.json { output.json(&server) } else { output.names([&server.model]) };
    }
    let show = ModelShow { model: name.clone().into(), ..ModelShow::default() };
    let (detail, sample, log) =
        tokio::join!(daemon.call(&show), daemon.call(&MetricsSample {}), last_lines(daemon, name),);
    let (detail, sample) = (detail?, sample.ok());
    let process = sample_of(sample.as_ref(), &detail.server).map(|sample| &sample.process);
    // A server that never ran has no log; its state says so already.
    let log = log.unwrap_or_default();
    output.lines(lines(&detail, process, log, &Clock::local(), now_ms()))
}

fn lines(
    detail: &ModelDetail,
    process: Option<&ProcessSample>,
    log: Vec<LogLine>,
    clock: &Clock,
    now_ms: i64,
) -> Vec<Styled> {
    let mut lines = vec![title(&detail.server, clock, now_ms)];
    lines.extend(facts(detail, process, clock).lines());
    if !log.is_empty() {
        lines.push(Styled::new());
        lines.extend(log.iter().map(|line| logs::styled(line, true)));
    }
    lines
}

async fn last_lines(daemon: &Daemon, model: String) -> Result<Vec<LogLine>, Failure> {
    let params = LogFollow {
        model: model.into(),
        lines: Some(LINES),
        follow: Some(false),
        ..LogFollow::default()
    };
    let mut stream = daemon.follow(&params).await?;
    let mut lines = Vec::new();
    while let Some(item) = stream.next().await? {
        match item {
            llamactl_protocol::Item::Snapshot { data, .. }
            | llamactl_protocol::Item::Change { data, .. } => lines.extend(data.lines),
            llamactl_protocol::Item::Missed { .. } => {}
            llamactl_protocol::Item::End { .. } => break,
        }
    }
    Ok(lines)
}

/// `● m: ready since 2026-01-31 12:00:05 (3m 20s)`
pub(super) fn title(server: &Server, clock: &Clock, now_ms: i64) -> Styled {
    let style = state_style(server.state);
    Styled::new()
        .with(style, "● ")
        .with(BOLD, server.model.as_str())
        .plain(": ")
        .with(style, state_text_at(server, now_ms))
        .plain(format!(" since {}", clock.full(server.since_ms)))
        .with(DIM, format!(" ({})", units::between(server.since_ms, now_ms)))
}

fn facts(detail: &ModelDetail, process: Option<&ProcessSample>, clock: &Clock) -> Facts {
    let (model, server) = (&detail.model, &detail.server);
    let mut facts = Facts::new();
    if let Some(cause) = &server.cause {
        facts.add("    cause", format!("{} ({})", cause.message, cause.code));
        for hint in cause.hints.lines() {
            facts.add("     hint", hint);
        }
        for line in &cause.evidence {
            facts.add(" evidence", Styled::new().with(DIM, line.as_str()));
        }
    }
    if let Some(desired) = &server.desired {
        let at = clock.full(desired.at_ms);
        facts.add("   wanted", format!("{}, by {} at {at}", desired.state.as_str(), desired.by));
    }
    facts.add_known(
        "    queue",
        server.queue.as_ref().map(|queue| {
            format!("{} in line: {}", units::ordinal(queue.position), queue_reason(queue))
        }),
    );
    facts.add_known(
        "    again",
        server
            .restart_at_ms
            .map(|at_ms| format!("it will be started again at {}", clock.full(at_ms))),
    );
    facts.add_known(" endpoint", endpoint(server));
    facts.add_known("   device", device(server, process));
    facts.add_known(
        " in force",
        server.in_force.as_ref().and_then(|force| {
            listed([
                force.context_tokens.map(|tokens| format!("{tokens} tokens of context per slot")),
                force.slots.map(|slots| format!("{slots} slots")),
                force.build.clone(),
            ])
        }),
    );
    let asked = model.settings.iter();
    let asked = listed(asked.map(|(key, value)| Some(assignment(key, value))));
    facts.add("    asked", asked.unwrap_or_else(|| "nothing: llama-server's defaults".to_owned()));
    let only_now = server.overrides.iter();
    let only_now = only_now.map(|(key, value)| Some(assignment(key, value)));
    facts.add_known(" this run", listed(only_now).map(|set| format!("{set} (start --set)")));
    if !server.pending.is_empty() {
        let pending = format!("{}: takes effect on restart", server.pending.join(", "));
        facts.add("  pending", Styled::new().with(YELLOW, pending));
    }
    if let Some(run) = &server.run {
        facts.add_known(
            "      run",
            listed([
                Some(run.id.clone()),
                run.pid.map(|pid| format!("pid {pid}")),
                Some(format!("started {}", clock.full(run.started_at_ms))),
                run.load_ms.map(|ms| format!("loaded in {}", units::duration(ms))),
                run.ended_at_ms.map(|at| format!("ended {}", clock.full(at))),
            ]),
        );
    }
    if server.restarts > 0 {
        facts.add(" restarts", format!("{} since it was started by request", server.restarts));
    }
    facts.add_known("   memory", process.and_then(memory));
    for warning in &server.warnings {
        facts.add("  warning", Styled::new().with(YELLOW, warning.message.as_str()));
    }
    facts.add("    model", model.path.to_string());
    facts
}

fn memory(process: &ProcessSample) -> Option<String> {
    listed([
        process.memory_anonymous_bytes.map(|bytes| format!("{} own", units::bytes(bytes))),
        process.memory_file_bytes.map(|bytes| format!("{} mapped", units::bytes(bytes))),
        process.gpu_memory_bytes.map(|bytes| format!("{} on GPUs", units::bytes(bytes))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_screen};
    use llamactl_protocol::log::LogLevel;

    #[test]
    fn each_state() {
        for state in scene::STATES {
            let detail = scene::detail(scene::server("qwen3-8b", state));
            assert_screen(&format!("status-name-{}", state.as_str()), |output| {
                output.lines(lines(&detail, None, vec![], &Clock::utc(), NOW_MS))
            });
        }
    }

    #[test]
    fn a_server_with_everything_to_remark_on_and_its_log() {
        let detail = scene::detail(scene::remarkable());
        let line = |level, text: &str| LogLine {
            level: Some(level),
            text: text.into(),
            ..LogLine::default()
        };
        let log = || {
            vec![
                line(LogLevel::Info, "I srv  main: loading model"),
                line(LogLevel::Warning, "W load_backend: no GPU \u{1b}[31mfound\u{1b}[0m"),
            ]
        };
        assert_screen("status-name", |output| {
            let process = scene::process();
            output.lines(lines(&detail, Some(&process), log(), &Clock::utc(), NOW_MS))
        });
    }
}
