use super::*;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::{Desired, DesiredState, Queue, Run};
use llamactl_protocol::warning::{Warning, WarningCode};
use serde_json::json;

/// The moment of the question: 1000 s after the epoch of these stories.
const NOW: i64 = 1_000_000;

fn server(state: State, since_ms: i64) -> Server {
    Server {
        model_id: 1,
        model: "m".into(),
        state,
        since_ms,
        desired: Some(Desired {
            state: DesiredState::Running,
            by: Actor::from_text("server.start by uid 0, pid 7"),
            at_ms: 0,
        }),
        run: Some(Run {
            id: "r2".into(),
            pid: Some(4711),
            started_at_ms: since_ms,
            ready_at_ms: None,
            load_ms: None,
            ended_at_ms: None,
            revision: 1,
        }),
        endpoint: None,
        progress_ratio: None,
        stage: None,
        queue: None,
        cause: None,
        restarts: 0,
        restart_at_ms: None,
        on_cpu: None,
        device: None,
        in_force: None,
        pending: vec![],
        overrides: Settings::new(),
        warnings: vec![],
    }
}

fn cause(code: &str, message: &str, at_ms: i64) -> Cause {
    Cause::new(code.into(), message, at_ms)
}

/// An event of the model, or of the daemon.
fn event(at_ms: i64, kind: EventKind, by: &str, details: Value) -> Event {
    Event {
        seq: at_ms,
        at_ms,
        model_id: (kind.subject() != Subject::Daemon).then_some(1),
        model: None,
        run_id: Some("r2".into()),
        by: Actor::from_text(by),
        message: format!("{kind} happened"),
        kind,
        details: (!details.is_null()).then_some(details),
    }
}

/// What is said, as one text.
fn told(server: Server, events: Vec<Event>) -> String {
    let why = explain(server, &[], events, NOW);
    let mut lines = vec![why.summary];
    lines.extend(why.next.map(|next| format!("next: {next}")));
    lines.extend(why.hints.iter().map(|hint| format!("hint: {hint}")));
    lines.extend(why.remarks.iter().map(|remark| format!("also: {remark}")));
    lines.extend(why.evidence.iter().map(|line| format!("says: {line}")));
    lines.extend(why.by.map(|by| format!("by: {by}")));
    lines.push(format!("failures: {}", why.failures));
    lines.join("\n")
}

#[test]
fn never_started() {
    let mut never = server(State::Stopped, 0);
    (never.run, never.desired) = (None, None);
    assert_eq!(
        told(never, vec![event(5, EventKind::ModelAdded, "model.add by uid 0", Value::Null)]),
        "It was never started.\n\
         hint: start it: llamactl start m\n\
         failures: 0"
    );
}

#[test]
fn stopped_by_request() {
    let mut stopped = server(State::Stopped, NOW - 300_000);
    stopped.desired = Some(Desired {
        state: DesiredState::Stopped,
        by: Actor::from_text("server.stop by uid 0, pid 9"),
        at_ms: NOW - 300_000,
    });
    stopped.cause = Some(cause(
        "requested",
        "stopped as asked: it ended when asked; 2 requests were cut (server.stop by uid 0, pid 9)",
        NOW - 300_000,
    ));
    let events = vec![event(
        NOW - 300_000,
        EventKind::ServerStopped,
        "server.stop by uid 0, pid 9",
        Value::Null,
    )];
    assert_eq!(
        told(stopped, events),
        "Stopped by uid 0 (server.stop); 2 requests were cut.\n\
         hint: start it: llamactl start m\n\
         by: uid 0 (server.stop)\n\
         failures: 0"
    );
}

#[test]
fn stopped_with_the_daemon_and_still_wanted() {
    let mut stopped = server(State::Stopped, NOW - 300_000);
    stopped.cause =
        Some(cause("requested", "stopped as asked: it ended when asked (SIGTERM)", NOW - 300_000));
    let said =
        told(stopped, vec![event(NOW - 300_000, EventKind::ServerStopped, "SIGTERM", Value::Null)]);
    assert!(said.contains("next: It was to run when"), "{said}");
    assert!(said.ends_with("by: SIGTERM\nfailures: 0"), "{said}");
}

#[test]
fn failed_for_good() {
    let mut failed = server(State::Failed, NOW - 200_000);
    failed.run.as_mut().unwrap().ended_at_ms = Some(NOW - 200_000);
    failed.cause = Some(Cause {
        hints: Hint::to("Download it again.").into(),
        evidence: vec!["E llama_model_load: tensor data is not within the file bounds".into()],
        exit_code: Some(1),
        ..cause("model_truncated", "The model file is incomplete.", NOW - 200_000)
    });
    // The details as older daemons wrote them: the cause itself.
    let details = serde_json::to_value(failed.cause.as_ref().unwrap()).unwrap();
    let events = vec![
        event(NOW - 201_000, EventKind::ServerStarting, "server.start by uid 0", Value::Null),
        event(NOW - 200_000, EventKind::ServerFailed, "process", details),
    ];
    assert_eq!(
        told(failed, events),
        "The model file is incomplete. It never became ready.\n\
         next: It is not started again by itself.\n\
         hint: Download it again.\n\
         hint: all it wrote: llamactl logs m\n\
         hint: start it: llamactl start m\n\
         says: E llama_model_load: tensor data is not within the file bounds\n\
         by: uid 0 (server.start)\n\
         failures: 1"
    );
}

#[test]
fn waiting_to_be_started_again() {
    let mut backoff = server(State::Backoff, NOW - 1_000);
    backoff.restart_at_ms = Some(NOW + 3_000);
    let run = backoff.run.as_mut().unwrap();
    (run.ready_at_ms, run.ended_at_ms) = (Some(NOW - 11_000), Some(NOW - 1_000));
    backoff.cause = Some(cause("killed", "It was killed by SIGKILL", NOW - 1_000));
    let details = json!({
        "from": "ready", "to": "backoff", "cause": backoff.cause,
        "restart_at_ms": NOW + 3_000, "failures": 2,
    });
    let events = vec![
        event(NOW - 20_000, EventKind::ServerFailed, "process", Value::Null),
        event(NOW - 12_000, EventKind::ServerStarting, "policy", Value::Null),
        event(NOW - 1_000, EventKind::ServerBackoff, "policy", details),
    ];
    assert_eq!(
        told(backoff, events),
        "It was killed by SIGKILL. It was ready for 10s.\n\
         next: It starts again in 3.0s. 2 failures in a row.\n\
         hint: all it wrote: llamactl logs m\n\
         hint: start it now: llamactl start m\n\
         hint: give up: llamactl stop m\n\
         by: uid 0 (server.start)\n\
         failures: 2"
    );
}

#[test]
fn given_up() {
    let mut failed = server(State::Failed, NOW - 5_000);
    failed.cause = Some(cause("killed", "It was killed by SIGKILL.", NOW - 5_000));
    let mut events = vec![
        // Before it was last asked for: of another story.
        event(1, EventKind::ServerFailed, "process", Value::Null),
        event(2, EventKind::ServerStarting, "server.start by uid 0", Value::Null),
    ];
    for round in 1..=5 {
        events.push(event(round * 10, EventKind::ServerFailed, "process", Value::Null));
        events.push(event(round * 10 + 1, EventKind::ServerStarting, "policy", Value::Null));
    }
    let said = told(failed, events);
    assert!(said.contains("It is not started again by itself. 5 failures in a row."), "{said}");
}

#[test]
fn one_that_has_failed_has_failed_once_though_its_events_are_gone() {
    assert_eq!(explain(server(State::Failed, 0), &[], vec![], NOW).failures, 1);
}

#[test]
fn a_minute_of_health_ends_a_row() {
    let story = |healthy_ms: i64| {
        let events = vec![
            event(1_000, EventKind::ServerFailed, "process", Value::Null),
            event(2_000, EventKind::ServerReady, "policy", Value::Null),
            event(2_000 + healthy_ms, EventKind::ServerFailed, "process", Value::Null),
        ];
        explain(server(State::Failed, 0), &[], events, NOW).failures
    };
    assert_eq!((story(59_999), story(60_000)), (2, 1));
}

#[test]
fn in_line_to_start() {
    let mut queued = server(State::Queued, NOW - 2_000);
    queued.queue = Some(Queue { reason: QueueReason::Loads, position: 2, limit: Some(2) });
    let said = told(queued.clone(), vec![]);
    assert!(said.starts_with("It waits to load: other models are loading.\n"), "{said}");
    assert!(said.contains("by: uid 0 (server.start)"), "{said}");
    queued.queue = Some(Queue { reason: QueueReason::Memory, position: 11, limit: None });
    let said = told(queued, vec![]);
    assert!(said.starts_with("It waits for memory that others hold."), "{said}");
}

#[test]
fn on_its_way() {
    assert!(
        told(server(State::Starting, NOW - 500), vec![])
            .starts_with("It is starting, and does not answer yet.")
    );
    let mut loading = server(State::Loading, NOW - 150_000);
    loading.progress_ratio = Some(0.42);
    let said = told(loading, vec![]);
    assert!(said.starts_with("It is loading the model: 42%."), "{said}");
    assert!(
        told(server(State::Stopping, NOW - 4_000), vec![])
            .starts_with("It was told to stop, and has not ended yet.")
    );
    assert!(
        told(server(State::Adopting, NOW), vec![])
            .starts_with("It was left running by an earlier daemon")
    );
}

#[test]
fn ready_for_hours() {
    let ready = server(State::Ready, NOW - 9_000_000);
    let events =
        vec![event(NOW - 9_000_000, EventKind::ServerReady, "server.start by uid 0", Value::Null)];
    assert_eq!(told(ready, events), "It answers requests.\nby: uid 0 (server.start)\nfailures: 0");
}

#[test]
fn ready_again_after_a_failure_with_a_new_daemon_on_the_cpu_and_settings_that_wait() {
    let mut ready = server(State::Ready, NOW - 100_000);
    ready.restarts = 1;
    let on_cpu = "on the CPU, although a GPU was asked for";
    ready.warnings = vec![Warning::new(WarningCode::OnCpu, on_cpu)];
    ready.pending = vec!["ctx-size".into()];
    let failed = json!({ "cause": cause("killed", "It was killed by SIGKILL.", NOW - 101_000) });
    let events = vec![
        event(NOW - 101_000, EventKind::ServerFailed, "process", failed),
        event(NOW - 100_000, EventKind::ServerReady, "policy", Value::Null),
        event(NOW - 50_000, EventKind::DaemonStarted, "boot", Value::Null),
        event(NOW - 50_000, EventKind::ServerAdopted, "boot", Value::Null),
    ];
    assert_eq!(
        told(ready, events),
        "It was restarted once by itself, last 1m41s ago: it was killed by SIGKILL.\n\
         hint: apply the changed settings: llamactl restart m\n\
         also: ctx-size was changed after it started\n\
         also: adopted by this daemon 50s ago\n\
         by: uid 0 (server.start)\n\
         failures: 0"
    );
}

#[test]
fn asleep() {
    let said = told(server(State::Sleeping, NOW - 600_000), vec![]);
    assert!(said.starts_with("It unloaded its model because nobody used it;"), "{said}");
}

#[test]
fn stuck() {
    let said = told(server(State::Stuck, NOW - 60_000), vec![]);
    assert!(
        said.starts_with("The kernel does not end process 4711: it waits for a disk or a driver."),
        "{said}"
    );
    assert!(said.contains("hint: see what it waits for: cat /proc/4711/stack"), "{said}");
}

#[test]
fn settings_that_were_changed_after_the_failure_are_mentioned() {
    let mut failed = server(State::Failed, NOW - 10_000);
    failed.cause = Some(cause("oom", "Not enough memory.", NOW - 10_000));
    let said = told(
        failed,
        vec![event(NOW - 4_000, EventKind::ModelSet, "model.set by uid 0", Value::Null)],
    );
    assert!(
        said.contains("also: its settings were changed 4.0s ago, after that run began"),
        "{said}"
    );
}

#[test]
fn both_shapes_of_details_are_read() {
    let cause = cause("killed", "x", 1);
    for details in [json!(cause), json!({ "from": "ready", "to": "failed", "cause": cause })] {
        assert_eq!(
            cause_of(&event(1, EventKind::ServerFailed, "process", details)),
            Some(cause.clone())
        );
    }
    assert_eq!(
        cause_of(&event(1, EventKind::ServerReady, "process", json!({ "from": "loading" }))),
        None
    );
}

#[test]
fn in_line_behind_those_that_load() {
    let mut queued = server(State::Queued, NOW);
    queued.queue = Some(Queue { reason: QueueReason::Loads, position: 1, limit: None });
    let mut big = Server { model: "big".into(), ..server(State::Loading, NOW) };
    big.progress_ratio = Some(0.62);
    let slow = Server { model: "slow".into(), ..server(State::Starting, NOW) };
    let ready = Server { model: "ready".into(), ..server(State::Ready, NOW) };
    let why = explain(queued, &[big, ready, slow], vec![], NOW);
    assert_eq!(why.summary, "It waits to load: big (62%) and slow are loading.");
}

#[test]
fn one_that_does_not_answer() {
    let mut silent = server(State::Ready, NOW - 312_000);
    silent.warnings = vec![
        Warning {
            since_ms: Some(NOW - 12_000),
            until_ms: Some(NOW + 108_000),
            ..Warning::new(WarningCode::NotAnswering, "it does not answer /health")
        },
        Warning::new(WarningCode::NoApiKey, "no API key"),
    ];
    assert!(told(silent, vec![]).starts_with(
        "It was ready for 5m. It is stopped and started again in 1m48s (hang-timeout)."
    ));
}
