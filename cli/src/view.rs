//! How servers and models look in a cell or a line.

use crate::output::styled::{DIM, GREEN, RED, Style, Styled, YELLOW};
use crate::output::table::Cell;
use crate::output::units;
use llamactl_protocol::Hint;
use llamactl_protocol::metrics::{ProcessSample, Sample, ServerSample};
use llamactl_protocol::model::FileState;
use llamactl_protocol::options;
use llamactl_protocol::server::{Queue, QueueReason, Server, State};
use serde_json::Value;

/// How a state is painted.
pub(crate) fn state_style(state: State) -> Style {
    match state {
        State::Ready | State::Sleeping => GREEN,
        State::Failed | State::Stuck | State::Backoff => RED,
        State::Queued | State::Starting | State::Loading | State::Stopping | State::Adopting => {
            YELLOW
        }
        State::Stopped => DIM,
    }
}

/// A state, with how far loading is, or which place in line the server has.
pub(crate) fn state_text(server: &Server) -> String {
    match (server.state, server.progress_ratio, server.queue) {
        (State::Loading, Some(ratio), _) => format!("loading {}", units::percent(ratio)),
        (State::Queued, _, Some(queue)) => format!("queued {}", units::ordinal(queue.position)),
        (state, ..) => state.as_str().to_owned(),
    }
}

/// The same, with the time until the server is started again.
pub(crate) fn state_text_at(server: &Server, now_ms: i64) -> String {
    match (server.state, server.restart_at_ms) {
        (State::Backoff, Some(at_ms)) => format!("backoff {}", units::between(now_ms, at_ms)),
        _ => state_text(server),
    }
}

/// What a server in line waits for.
pub(crate) fn queue_reason(queue: &Queue) -> &'static str {
    match queue.reason {
        QueueReason::Loads => "other models are being loaded first",
        QueueReason::Memory => "others hold the memory it needs",
        QueueReason::Recovery => "the daemon still looks for servers that run already",
    }
}

/// What a server computes on, and the memory it holds there.
pub(crate) fn device(server: &Server, process: Option<&ProcessSample>) -> Option<String> {
    let held = process.and_then(|process| process.gpu_memory_bytes).filter(|&bytes| bytes > 0);
    match (server.device.as_deref(), held) {
        (Some("cpu"), _) => Some("cpu".to_owned()),
        (device, Some(bytes)) => {
            Some(format!("{} {}", device.unwrap_or("gpu"), units::bytes(bytes)))
        }
        (device, None) => device.map(str::to_owned),
    }
}

/// The state as a cell.
pub(crate) fn state_cell(server: &Server) -> Cell {
    Cell::styled(state_style(server.state), state_text(server))
}

/// What is amiss with a model's file, if anything is.
pub(crate) fn file_amiss(state: FileState) -> Option<&'static str> {
    match state {
        FileState::Present => None,
        FileState::Missing => Some("file missing"),
        FileState::Changed => Some("file changed"),
    }
}

/// Where a server listens: a URL, or `unix:` and a path.
pub(crate) fn endpoint(server: &Server) -> Option<String> {
    let endpoint = server.endpoint.as_ref()?;
    match (&endpoint.url, &endpoint.socket) {
        (Some(url), _) => Some(url.clone()),
        (None, Some(socket)) => Some(format!("unix:{socket}")),
        (None, None) => None,
    }
}

/// The same in few columns: only the address of a URL, only the file name of a socket.
pub(crate) fn short_endpoint(server: &Server) -> Option<String> {
    let endpoint = endpoint(server)?;
    if let Some((_, file)) = endpoint.strip_prefix("unix:").and_then(|path| path.rsplit_once('/')) {
        return Some(format!("unix:…/{file}"));
    }
    let address = endpoint.strip_prefix("http://").and_then(|url| url.strip_suffix("/v1"));
    Some(address.map(str::to_owned).unwrap_or(endpoint))
}

/// The line that says a server is ready, and where to reach it.
pub(crate) fn ready_line(server: &Server) -> Styled {
    // The load time is told a moment after the state; until then the two times say the same.
    let took = server.run.as_ref().map(|run| match run.load_ms {
        Some(load_ms) => units::duration(load_ms),
        None => units::between(run.started_at_ms, server.since_ms),
    });
    ready(server, "ready", took)
}

/// The line that says it was ready before.
pub(crate) fn ready_already_line(server: &Server) -> Styled {
    ready(server, "is ready already", None)
}

fn ready(server: &Server, word: &str, took: Option<String>) -> Styled {
    let line = Styled::from(server.model.as_str()).plain(" ").with(GREEN, word);
    let endpoint = server.endpoint.as_ref();
    if let Some(url) = endpoint.and_then(|endpoint| endpoint.url.as_deref()) {
        let took = took.map(|took| format!(" ({took})")).unwrap_or_default();
        return line.plain(format!(" at {url}{took}"));
    }
    match endpoint.and_then(|endpoint| endpoint.socket.as_ref()) {
        Some(socket) => line.plain(format!(
            "; no port is set. Try: curl --unix-socket {socket} http://localhost/v1/models"
        )),
        None => line,
    }
}

/// What to do about a server without a port.
pub(crate) fn port_hint(server: &Server) -> Option<Hint> {
    let without = server.endpoint.as_ref().is_some_and(|endpoint| endpoint.url.is_none());
    without.then(|| {
        Hint::run("give it a port", ["llamactl", "model", "set", &server.model, "port=auto"])
    })
}

/// The sample of a server's process, if one was taken.
pub(crate) fn sample_of<'a>(
    sample: Option<&'a Sample>,
    server: &Server,
) -> Option<&'a ServerSample> {
    sample?.servers.iter().find(|sample| sample.model_id == server.model_id)
}

/// Resident memory, own and mapped together.
pub(crate) fn resident_bytes(process: &ProcessSample) -> Option<u64> {
    match (process.memory_anonymous_bytes, process.memory_file_bytes) {
        (None, None) => None,
        (anonymous, file) => Some(anonymous.unwrap_or(0).saturating_add(file.unwrap_or(0))),
    }
}

/// A setting as it is typed; what is longer than a line is cut.
pub(crate) fn assignment(key: &str, value: &Value) -> String {
    format!("{key}={}", setting_value(key, value))
}

/// A setting's value as it is typed; what is longer than a line is cut.
pub(crate) fn setting_value(key: &str, value: &Value) -> String {
    let text = options::text_of(key, value);
    match text.lines().next() {
        Some(first) if text.lines().nth(1).is_some() => format!("{first} …"),
        _ => text,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use llamactl_protocol::Actor;
    use llamactl_protocol::cause::{Cause, CauseCode};
    use llamactl_protocol::server::{Desired, DesiredState, Endpoint, InForce, Run};
    use serde_json::json;

    /// A server with everything known of it.
    pub(crate) fn server(model: &str, state: State) -> Server {
        Server {
            model_id: 1,
            model: model.into(),
            state,
            since_ms: 1_000_000,
            desired: Some(Desired {
                state: DesiredState::Running,
                by: Actor::from_text("server.start by uid 0"),
                at_ms: 900,
            }),
            run: Some(Run {
                id: "0190-run".into(),
                pid: Some(4711),
                started_at_ms: 990_000,
                ready_at_ms: Some(1_000_000),
                load_ms: Some(412),
                ended_at_ms: None,
                revision: 3,
            }),
            endpoint: Some(Endpoint { url: Some("http://127.0.0.1:8101/v1".into()), socket: None }),
            progress_ratio: None,
            stage: None,
            cause: Some(Cause::new(CauseCode::Requested, "started by request", 950)),
            queue: None,
            restarts: 0,
            restart_at_ms: None,
            on_cpu: None,
            device: None,
            in_force: Some(InForce { context_tokens: Some(4096), slots: Some(4), build: None }),
            pending: vec![],
            overrides: Default::default(),
            warnings: vec![],
        }
    }

    #[test]
    fn ready_says_where() {
        let mut server = server("m", State::Ready);
        assert_eq!(
            ready_line(&server).render(false, false),
            "m ready at http://127.0.0.1:8101/v1 (0.4 s)"
        );
        assert_eq!(port_hint(&server), None);
        server.endpoint = Some(Endpoint { url: None, socket: Some("/r/m.sock".into()) });
        assert_eq!(
            ready_line(&server).render(false, false),
            "m ready; no port is set. Try: curl --unix-socket /r/m.sock http://localhost/v1/models"
        );
        assert!(port_hint(&server).unwrap().to_string().contains("model set m port=auto"));
        assert_eq!(endpoint(&server).as_deref(), Some("unix:/r/m.sock"));
        assert_eq!(short_endpoint(&server).as_deref(), Some("unix:…/m.sock"));
    }

    #[test]
    fn a_state_says_how_far_and_how_long() {
        let mut queued = server("m", State::Queued);
        assert_eq!(state_text(&queued), "queued");
        queued.queue = Some(Queue { reason: QueueReason::Loads, position: 2 });
        assert_eq!(state_text(&queued), "queued 2nd");
        let mut backoff = server("m", State::Backoff);
        assert_eq!(state_text_at(&backoff, 1_000), "backoff");
        backoff.restart_at_ms = Some(4_000);
        assert_eq!(state_text_at(&backoff, 1_000), "backoff 3.0 s");
    }

    #[test]
    fn a_device_nobody_knows_is_not_the_cpu() {
        let mut server = server("m", State::Ready);
        let holds = |bytes| ProcessSample { gpu_memory_bytes: Some(bytes), ..Default::default() };
        assert_eq!(device(&server, None), None);
        assert_eq!(device(&server, Some(&holds(0))), None);
        assert_eq!(device(&server, Some(&holds(5 << 30))).as_deref(), Some("gpu 5.0 GiB"));
        server.device = Some("gpu".into());
        assert_eq!(device(&server, None).as_deref(), Some("gpu"));
        server.device = Some("cpu".into());
        assert_eq!(device(&server, Some(&holds(1 << 20))).as_deref(), Some("cpu"));
    }

    #[test]
    fn memory_nobody_knows_is_not_zero() {
        let mut process = ProcessSample::default();
        assert_eq!(resident_bytes(&process), None);
        process.memory_file_bytes = Some(7);
        assert_eq!(resident_bytes(&process), Some(7));
    }

    #[test]
    fn settings_read_as_they_are_typed() {
        assert_eq!(assignment("port", &json!("auto")), "port=auto");
        assert_eq!(assignment("ctx-size", &json!(4096)), "ctx-size=4096");
        assert_eq!(assignment("extra-args", &json!(["--x", "a b"])), "extra-args=--x 'a b'");
        assert_eq!(assignment("lora", &json!(["/a", "/b"])), "lora=/a,/b");
        assert_eq!(assignment("grammar", &json!("a\nb")), "grammar=a …");
    }
}
