//! `llamactl status NAME`: one server, as systemctl would show it.

use super::logs;
use super::status::remarks;
use crate::connection::Daemon;
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::{Facts, listed, painted};
use crate::output::look::Look;
use crate::output::styled::{BOLD, Styled, YELLOW};
use crate::output::time::{Clock, now_ms};
use crate::output::units;
use crate::view::{
    Standing, assignment, curl, device, endpoint, sample_of, setting_value, since_ms, state_text,
    trouble,
};
use llamactl_protocol::Failure;
use llamactl_protocol::log::{LogFollow, LogLine};
use llamactl_protocol::metrics::{LlamaSample, MetricsSample, ProcessSample, Sample};
use llamactl_protocol::model::{ModelDetail, ModelShow};
use llamactl_protocol::prose::counted;
use llamactl_protocol::server::{Server, State};
use llamactl_protocol::warning::{Level, Warning};

/// Log lines shown.
const LINES: u32 = 10;

/// Shows one server.
pub(super) async fn run(output: &mut Output, daemon: &Daemon, name: String) -> Outcome {
    let show_it = ModelShow { model: name.clone().into(), ..ModelShow::default() };
    if !output.for_people() {
        let detail = daemon.call(&show_it).await?;
        return if output.json { output.json(&detail.server) } else { Ok(()) };
    }
    let resolved = ModelShow { resolved: true, ..show_it };
    let (detail, sample, log) = tokio::join!(
        daemon.call(&resolved),
        daemon.call(&MetricsSample {}),
        last_lines(daemon, name)
    );
    let (detail, sample) = (detail?, sample.ok());
    // A server that never ran has no log; its state says so already.
    let log = log.unwrap_or_default();
    show(output, &detail, sample.as_ref(), &log, &Clock::local(), now_ms())
}

fn show(
    output: &mut Output,
    detail: &ModelDetail,
    sample: Option<&Sample>,
    log: &[LogLine],
    clock: &Clock,
    now_ms: i64,
) -> Outcome {
    title(output, &detail.server, clock, now_ms)?;
    let shown = facts(&output.look, detail, sample, clock, now_ms);
    output.facts(shown)?;
    if !log.is_empty() {
        output.line_unflushed("")?;
        log.iter().try_for_each(|line| output.log_line(logs::styled(line, true)))?;
    }
    output.flush()
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

/// Prints `● m: ready for 3m20s, since 12:00:05`.
pub(super) fn title(output: &mut Output, server: &Server, clock: &Clock, now_ms: i64) -> Outcome {
    let standing = Standing::of(server);
    let since_ms = since_ms(server);
    let lasts = units::between(since_ms, now_ms);
    let when = match server.state {
        // Its last end is when it began to be so.
        State::Failed | State::Stopped => {
            format!(" {lasts} ago, {}", clock.of_day(since_ms, now_ms))
        }
        State::Backoff => format!(", failed {lasts} ago"),
        State::Ready | State::Sleeping if standing != Standing::NotAnswering => {
            format!(" for {lasts}, since {}", clock.of_day(since_ms, now_ms))
        }
        _ => format!(" for {lasts}"),
    };
    let state = match (server.state, server.restart_at_ms) {
        (State::Stopped, _) if server.run.is_none() => "never started".to_owned(),
        (State::Backoff, Some(at_ms)) if at_ms > now_ms => {
            format!("starts again in {}", units::between(now_ms, at_ms))
        }
        (State::Backoff, _) => "starts again at once".to_owned(),
        _ => state_text(server),
    };
    let when = if state == "never started" { String::new() } else { when };
    let mark = Styled::new().with(standing.style(), format!("{} ", standing.mark()));
    let text = Styled::new()
        .with(BOLD, server.model.as_str())
        .plain(": ")
        .with(standing.style(), state)
        .plain(when);
    output.entry(mark, text)
}

fn facts(
    look: &Look,
    detail: &ModelDetail,
    sample: Option<&Sample>,
    clock: &Clock,
    now_ms: i64,
) -> Facts {
    let (model, server) = (&detail.model, &detail.server);
    let name = server.model.as_str();
    let measured = sample_of(sample, server).map(|sample| (&sample.process, &sample.llama));
    let process = measured.map(|(process, _)| process);
    let mut facts = Facts::new();
    let standing = Standing::of(server);
    let is_down = matches!(server.state, State::Failed | State::Stuck | State::Backoff);
    if let Some(trouble) = trouble(server, &[], now_ms).filter(|_| standing <= Standing::Queued) {
        facts.add("cause", painted(standing.style(), trouble));
    }
    if let Some(cause) = server.cause.as_ref().filter(|_| is_down) {
        cause.evidence.iter().for_each(|line| facts.add_log("log", line));
        cause.hints.0.iter().for_each(|hint| facts.add_hint("to do", hint));
        let next = match server.restart_at_ms {
            Some(at_ms) => format!("it starts again at {}", clock.of_day(at_ms, now_ms)),
            None => "it is not started again by itself".to_owned(),
        };
        facts.add("next", next);
    } else if server.state != State::Stopped {
        facts.add_known("endpoint", endpoint(server));
        curl(server).iter().for_each(|command| facts.add_beneath(command));
    }
    remarks(&mut facts, of_level(server, Level::Warning));
    if !server.pending.is_empty() {
        facts.add("pending", painted(YELLOW, pending(detail)));
        facts.add_beneath(&["llamactl", "restart", name].map(str::to_owned));
    }
    if !server.overrides.is_empty() {
        let set = server.overrides.iter().map(|(key, value)| assignment(key, value));
        let set = set.collect::<Vec<_>>().join(" ");
        facts.add("note", format!("for this run only: {set}"));
    }
    remarks(&mut facts, of_level(server, Level::Note));
    let gpus = sample.and_then(|sample| sample.gpus.as_deref());
    facts.add_known("device", device(server, process, gpus).filter(|_| process.is_some()));
    facts.add_known("context", context(server, measured.and_then(|(_, llama)| llama.as_ref())));
    facts.add_known("memory", process.and_then(memory));
    if server.restarts > 0 {
        let times = counted(server.restarts.into(), "time");
        facts.add("restarts", format!("{times} by itself since it was started"));
    }
    facts.add_known("started", started(server, clock, now_ms));
    let has_ended = server.run.as_ref().is_some_and(|run| run.ended_at_ms.is_some());
    facts.add_known(if has_ended { "last run" } else { "process" }, process_of(server));
    facts.add(
        "model",
        format!("{}, revision {}", look.tidy(&model.path.to_string()), model.revision),
    );
    facts
}

fn of_level(server: &Server, level: Level) -> impl Iterator<Item = &Warning> {
    server.warnings.iter().filter(move |warning| warning.level == level)
}

/// `ctx-size 4096 → 8192, temp → 0.7`
fn pending(detail: &ModelDetail) -> String {
    let resolved = detail.resolved.as_deref().unwrap_or_default();
    let change = |key: &String| {
        let Some(setting) = resolved.iter().find(|setting| setting.key == *key) else {
            return key.clone();
        };
        let text = |value: &Option<_>| value.as_ref().map(|value| setting_value(key, value));
        let before = text(&setting.in_force).map(|it| format!(" {it}")).unwrap_or_default();
        match text(&setting.value) {
            Some(after) => format!("{key}{before} → {after}"),
            None => format!("{key}{before} → default"),
        }
    };
    detail.server.pending.iter().map(change).collect::<Vec<_>>().join(", ")
}

/// `4096 tokens in each of 4 slots, 1 busy`
fn context(server: &Server, llama: Option<&LlamaSample>) -> Option<String> {
    let force = server.in_force.as_ref().filter(|_| !server.state.is_settled_down())?;
    let tokens = force.context_tokens.map(|tokens| format!("{tokens} tokens"));
    let slots = force.slots.map(|slots| match slots {
        1 => "1 slot".to_owned(),
        _ => format!("each of {slots} slots"),
    });
    let busy = llama.and_then(|llama| llama.slots_busy).map(|busy| format!(", {busy} busy"));
    match (tokens, slots) {
        (Some(tokens), Some(slots)) => {
            Some(format!("{tokens} in {slots}{}", busy.unwrap_or_default()))
        }
        (tokens, slots) => tokens.or(slots),
    }
}

/// `612 MiB own, 4.4 GiB of the file mapped`
fn memory(process: &ProcessSample) -> Option<String> {
    listed([
        process.memory_anonymous_bytes.map(|bytes| format!("{} own", units::bytes(bytes))),
        process.memory_file_bytes.map(|bytes| format!("{} of files mapped", units::bytes(bytes))),
    ])
}

/// `2h5m ago by anna (llamactl start qwen3), loaded in 3.1s`
fn started(server: &Server, clock: &Clock, now_ms: i64) -> Option<String> {
    let run = server.run.as_ref()?;
    let by = server.desired.as_ref().filter(|_| server.is_to_run());
    let by = by.map(|desired| format!(" by {}", desired.by)).unwrap_or_default();
    let loaded = run.load_ms.map(|ms| format!(", loaded in {}", units::duration(ms)));
    let ended = run.ended_at_ms.map(|at| format!(", ended {}", clock.of_day(at, now_ms)));
    Some(format!(
        "{} ago{by}{}{}",
        units::between(run.started_at_ms, now_ms),
        loaded.unwrap_or_default(),
        ended.unwrap_or_default()
    ))
}

/// `pid 4711, run 01a2245e, llama-server b10434`
fn process_of(server: &Server) -> Option<String> {
    let run = server.run.as_ref()?;
    let build = server.in_force.as_ref().and_then(|force| force.build.clone());
    listed([
        // The number may be another's by now.
        run.pid.filter(|_| run.ended_at_ms.is_none()).map(|pid| format!("pid {pid}")),
        Some(match run.ended_at_ms {
            Some(_) => run.id.clone(),
            None => format!("run {}", run.id),
        }),
        build.map(|build| format!("llama-server {build}")),
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
        for state in State::ALL {
            assert_screen(&format!("status-name-{}", state.as_str()), |output| {
                let detail = scene::detail(scene::server("qwen3-8b", state));
                show(output, &detail, None, &[], &Clock::utc(), NOW_MS)
            });
        }
    }

    #[test]
    fn a_server_with_everything_to_remark_on_and_its_log() {
        assert_screen("status-name", |output| {
            let detail = scene::detail(scene::remarkable());
            let line = |level, text: &str| LogLine {
                level: Some(level),
                text: text.into(),
                ..LogLine::default()
            };
            let log = [
                line(LogLevel::Info, "I srv  main: loading model"),
                line(LogLevel::Warning, "W load_backend: no GPU \u{1b}[31mfound\u{1b}[0m"),
                line(LogLevel::Info, &"I srv  a line that is as long as some are ".repeat(4)),
            ];
            let sample = scene::sample();
            show(output, &detail, Some(&sample), &log, &Clock::utc(), NOW_MS)
        });
    }
}
