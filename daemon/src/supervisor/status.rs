//! What everybody sees of a server.

use super::machine::{RunId, Rung};
use crate::clock::now_ms;
use crate::logs::classify::Exit;
use crate::store::registry::RunRecord;
use llamactl_protocol::Failure;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{POLICY, Settings, layers, secret};
use llamactl_protocol::server::{Desired, Run, Server, State};

/// A server without a process, from what the registry knows: the last run and the wish.
#[must_use]
pub(super) fn at_rest(model: &Model, desired: Option<Desired>, last: Option<&RunRecord>) -> Server {
    let cause = last.and_then(|run| run.cause.clone());
    let mut server = Server {
        model_id: model.id,
        model: model.name.clone(),
        state: State::Stopped,
        since_ms: last
            .and_then(|run| run.ended_at_ms)
            .or(desired.as_ref().map(|desired| desired.at_ms))
            .unwrap_or(model.added_at_ms),
        desired,
        run: last.map(run),
        endpoint: None,
        progress_ratio: None,
        stage: None,
        queue: None,
        cause,
        restarts: 0,
        restart_at_ms: None,
        on_cpu: None,
        device: None,
        in_force: None,
        pending: vec![],
        overrides: Settings::new(),
        warnings: vec![],
    };
    let failed = server.cause.as_ref().is_some_and(|cause| cause.code != CauseCode::Requested);
    if failed && server.is_to_run() {
        server.state = State::Failed;
    }
    server
}

/// Brings in what comes from the model and not from the process: its name, the settings that
/// changed since the process was started, and those of its run alone.
pub(super) fn of_model(
    server: &mut Server,
    model: &Model,
    defaults: &Settings,
    live: Option<&RunRecord>,
) {
    server.model.clone_from(&model.name);
    server.pending = live.map_or_else(Vec::new, |run| {
        let now = layers::effective(defaults, &model.settings);
        let mut pending = layers::differences(&run.settings, &now);
        pending.retain(|key| !POLICY.contains(&key.as_str()));
        pending
    });
    server.overrides = live.map_or_else(Settings::new, |run| secret::masked(&run.overrides));
    if live.is_none() && server.state.is_settled_down() {
        server.endpoint = None;
    }
}

/// A run that was accepted and is not written yet.
pub(super) fn begin_run(server: &mut Server, run: &RunId, revision: i64) {
    server.run = Some(Run {
        id: run.clone(),
        pid: None,
        started_at_ms: now_ms(),
        ready_at_ms: None,
        load_ms: None,
        ended_at_ms: None,
        revision,
    });
    server.cause = None;
    server.restarts = 0;
}

/// A run as it is shown.
pub(super) fn run(record: &RunRecord) -> Run {
    Run {
        id: record.id.clone(),
        pid: record.pid,
        started_at_ms: record.started_at_ms,
        ready_at_ms: record.ready_at_ms,
        load_ms: record.load_ms,
        ended_at_ms: record.ended_at_ms,
        revision: record.revision,
    }
}

/// The cause of a start that failed before there was a process.
pub(super) fn cause_of_failure(failure: &Failure) -> Cause {
    Cause { hints: failure.hints.clone(), ..cause(failure.kind.into(), failure.message.clone()) }
}

/// A cause that is no more than a code and a sentence.
pub(super) fn cause(code: CauseCode, message: impl Into<String>) -> Cause {
    Cause::new(code, message, now_ms())
}

/// The exit code and the signal of an end.
pub(super) fn exit_parts(exit: Exit) -> (Option<i32>, Option<i32>) {
    match exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
        Exit::Unknown => (None, None),
    }
}

/// The cause of a stop that was asked for: what it took, and what it cut.
pub(super) fn stopped_cause(rung: Rung, cut: Option<u32>, exit: Exit) -> Cause {
    let how = match rung {
        Rung::Draining => "it ended while its last requests were waited for",
        Rung::Terminated => "it ended when asked",
        Rung::TerminatedAgain => "it ended when asked a second time",
        Rung::Killed => "it did not end when asked and was killed",
    };
    let cut = match cut {
        None | Some(0) => String::new(),
        Some(1) => "; one request was cut".to_owned(),
        Some(count) => format!("; {count} requests were cut"),
    };
    let (exit_code, signal) = exit_parts(exit);
    Cause {
        exit_code,
        signal,
        ..cause(CauseCode::Requested, format!("stopped as asked: {how}{cut}"))
    }
}
