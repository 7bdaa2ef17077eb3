//! How servers and models look in a cell or a line.

use crate::output::styled::{CYAN, DIM, GREEN, RED, Style, Styled, YELLOW};
use crate::output::table::Cell;
use crate::output::units;
use llamactl_protocol::event::{Event, Subject};
use llamactl_protocol::metrics::{Gpu, ProcessSample, Sample, ServerSample};
use llamactl_protocol::model::FileState;
use llamactl_protocol::options;
use llamactl_protocol::prose::{clause, listed};
use llamactl_protocol::server::{Queue, QueueReason, Server, State};
use llamactl_protocol::warning::{Level, Warning, WarningCode};
use llamactl_protocol::{Actor, Hint};
use serde_json::Value;

/// What a server does for a person who looks at many: its state, and two more that a state alone
/// does not tell. The worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    Stuck,
    Failed,
    NotAnswering,
    Backoff,
    Queued,
    Starting,
    Loading,
    Adopting,
    Stopping,
    /// Ready, and there is something to warn of.
    ReadyBut,
    Ready,
    Sleeping,
    Stopped,
}

impl Standing {
    /// Of this server.
    pub(crate) fn of(server: &Server) -> Standing {
        match server.state {
            State::Stuck => Standing::Stuck,
            State::Failed => Standing::Failed,
            State::Ready if silence(server).is_some() => Standing::NotAnswering,
            State::Backoff => Standing::Backoff,
            State::Queued => Standing::Queued,
            State::Starting => Standing::Starting,
            State::Loading => Standing::Loading,
            State::Adopting => Standing::Adopting,
            State::Stopping => Standing::Stopping,
            State::Ready if worst(server).is_some() => Standing::ReadyBut,
            State::Ready => Standing::Ready,
            State::Sleeping => Standing::Sleeping,
            State::Stopped => Standing::Stopped,
        }
    }

    /// How it is painted.
    pub(crate) fn style(self) -> Style {
        match self {
            Standing::Ready | Standing::ReadyBut => GREEN,
            Standing::Failed | Standing::Stuck | Standing::NotAnswering => RED,
            Standing::Backoff => YELLOW,
            Standing::Queued
            | Standing::Starting
            | Standing::Loading
            | Standing::Stopping
            | Standing::Adopting => CYAN,
            Standing::Stopped | Standing::Sleeping => DIM,
        }
    }

    /// The mark before a name: up, stopped or asleep, failed, on its way.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Standing::Ready | Standing::ReadyBut | Standing::NotAnswering => "●",
            Standing::Stopped | Standing::Sleeping => "○",
            Standing::Failed | Standing::Stuck => "×",
            _ => "↻",
        }
    }

    /// Whether something is amiss that a person should look into.
    pub(crate) fn is_trouble(self) -> bool {
        self <= Standing::Backoff || self == Standing::ReadyBut
    }
}

/// Servers in the order that a person needs: the worst first, then by name.
pub(crate) fn worst_first(servers: &mut [Server]) {
    servers.sort_by(|a, b| {
        (Standing::of(a), a.model.as_str()).cmp(&(Standing::of(b), b.model.as_str()))
    });
}

/// That it does not answer although it is ready, if so.
pub(crate) fn silence(server: &Server) -> Option<&Warning> {
    server.warnings.iter().find(|it| it.code == WarningCode::NotAnswering)
}

/// The worst that there is to warn of; what is only worth knowing is left out.
pub(crate) fn worst(server: &Server) -> Option<&Warning> {
    server.warnings.iter().find(|warning| warning.level == Level::Warning)
}

/// A state, with how far loading is, or which place in line the server has.
pub(crate) fn state_text(server: &Server) -> String {
    match (server.state, server.progress_ratio, server.queue) {
        (State::Loading, Some(ratio), _) => format!("loading {}", units::percent(ratio)),
        (State::Queued, _, Some(queue)) => format!("queued {}", units::ordinal(queue.position)),
        (State::Ready, ..) if silence(server).is_some() => "not answering".to_owned(),
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

/// Since when it is so.
pub(crate) fn since_ms(server: &Server) -> i64 {
    let silent = silence(server).filter(|_| server.state == State::Ready);
    silent.and_then(|warning| warning.since_ms).unwrap_or(server.since_ms)
}

/// Why a server is as it is, for a line beneath it: nothing where that is plain. `loading` are the
/// models that are being loaded.
pub(crate) fn trouble(server: &Server, loading: &[&str], now_ms: i64) -> Option<String> {
    let cause = || server.cause.as_ref().map(|cause| clause(&cause.message));
    match Standing::of(server) {
        Standing::Failed | Standing::Backoff => cause(),
        Standing::Stuck => {
            let pid = server.run.as_ref().and_then(|run| run.pid);
            let process = pid.map_or("its process".to_owned(), |pid| format!("process {pid}"));
            Some(format!("the kernel does not end {process}"))
        }
        Standing::Queued => server.queue.as_ref().map(|queue| queue_reason(queue, loading)),
        Standing::NotAnswering => silence(server).map(|warning| silent(warning, now_ms)),
        Standing::ReadyBut => worst(server).map(|warning| warning.message.clone()),
        _ => None,
    }
}

/// `no answer from /health for 12s; restarts in 1m48s (hang-timeout)`
fn silent(warning: &Warning, now_ms: i64) -> String {
    let lasts = warning.since_ms.map(|since| format!(" for {}", units::between(since, now_ms)));
    let ends = warning
        .until_ms
        .map(|until| format!("; restarts in {} (hang-timeout)", units::between(now_ms, until)));
    let (lasts, ends) = (lasts.unwrap_or_default(), ends.unwrap_or_default());
    format!("no answer from /health{lasts}{ends}")
}

/// The models that are being loaded.
pub(crate) fn loading(servers: &[Server]) -> Vec<&str> {
    let loads = |server: &&Server| matches!(server.state, State::Starting | State::Loading);
    servers.iter().filter(loads).map(|server| server.model.as_str()).collect()
}

/// What a server in line waits for; `loading`: the models that are being loaded, as far as known.
pub(crate) fn queue_reason(queue: &Queue, loading: &[&str]) -> String {
    let limit = queue.limit.map(|limit| format!(" (max_loading = {limit})")).unwrap_or_default();
    match (queue.reason, loading) {
        (QueueReason::Loads, []) => format!("waits to load: other models are loading{limit}"),
        (QueueReason::Loads, [one]) => format!("waits to load: {one} is loading{limit}"),
        (QueueReason::Loads, several) => {
            format!("waits to load: {} are loading{limit}", listed(several))
        }
        (QueueReason::Memory, _) => "waits for memory that others hold".to_owned(),
        (QueueReason::Recovery, _) => {
            "waits until the daemon has found the servers that run already".to_owned()
        }
    }
}

/// What a server computes on, and the memory it holds there.
pub(crate) fn device(
    server: &Server,
    process: Option<&ProcessSample>,
    gpus: Option<&[Gpu]>,
) -> Option<String> {
    let held = process.and_then(|process| process.gpu_memory_bytes).filter(|&bytes| bytes > 0);
    // On a machine with one GPU it can be no other.
    let gpu = match gpus {
        Some([only]) => format!("GPU{}", only.index),
        _ => "GPU".to_owned(),
    };
    match (server.device.as_deref(), held) {
        (Some("cpu"), _) => Some("cpu".to_owned()),
        (_, Some(bytes)) => Some(format!("{gpu} {}", units::bytes(bytes))),
        (Some("gpu"), None) => Some(gpu),
        (device, None) => device.map(str::to_owned),
    }
}

/// The state as a cell.
pub(crate) fn state_cell(server: &Server, now_ms: i64) -> Cell {
    Cell::styled(Standing::of(server).style(), state_text_at(server, now_ms))
}

/// What is amiss with a model's file, if anything is.
pub(crate) fn file_amiss(state: FileState) -> Option<&'static str> {
    match state {
        FileState::Present => None,
        FileState::Missing => Some("the file is gone"),
        FileState::Changed => Some("the file changed after it was added"),
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

/// The same in few columns: only the address of a URL, and no path.
pub(crate) fn short_endpoint(server: &Server) -> Option<String> {
    let endpoint = endpoint(server)?;
    if endpoint.starts_with("unix:") {
        return Some("socket".to_owned());
    }
    let address = endpoint.strip_prefix("http://").and_then(|url| url.strip_suffix("/v1"));
    Some(address.map(str::to_owned).unwrap_or(endpoint))
}

/// What asks a server on a Unix socket for its models.
pub(crate) fn curl(server: &Server) -> Option<Vec<String>> {
    let endpoint = server.endpoint.as_ref().filter(|endpoint| endpoint.url.is_none())?;
    let socket = endpoint.socket.as_ref()?.to_string();
    let words = ["curl", "--unix-socket", &socket, "http://localhost/v1/models"];
    Some(words.map(str::to_owned).into())
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
    ready(server, "is ready", None)
}

fn ready(server: &Server, word: &str, took: Option<String>) -> Styled {
    let at = endpoint(server).map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
    let took = took.map(|took| format!(" ({took})")).unwrap_or_default();
    Styled::from(server.model.as_str()).plain(" ").with(GREEN, word).plain(format!("{at}{took}"))
}

/// What to do about a server without a port.
pub(crate) fn port_hint(server: &Server) -> Option<Hint> {
    let without = server.endpoint.as_ref().is_some_and(|endpoint| endpoint.url.is_none());
    let set = ["llamactl", "model", "set", &server.model, "port=auto", "--restart"];
    without.then(|| Hint::run("give it a port", set))
}

/// The sample of a server's process, if one was taken.
pub(crate) fn sample_of<'a>(
    sample: Option<&'a Sample>,
    server: &Server,
) -> Option<&'a ServerSample> {
    sample?.servers.iter().find(|sample| sample.model_id == server.model_id)
}

/// Who did what an event tells of, behind its message: ` (anna: llamactl start qwen3)`; nothing where a
/// process did it by itself, and without the command where the message says all of it: of a change.
pub(crate) fn asked_by(event: &Event) -> String {
    let is_change = event.kind.subject() == Subject::Models;
    match &event.by {
        Actor::Process => String::new(),
        Actor::Client { user, .. } if is_change => format!(" ({user})"),
        Actor::Client { user, command: Some(command) } => format!(" ({user}: {command})"),
        by => format!(" ({by})"),
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
    use crate::output::screen::PIPE;
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
            ready_line(&server).plain_text(&PIPE),
            "m ready at http://127.0.0.1:8101/v1 (0.4s)"
        );
        assert_eq!(port_hint(&server), None);
        server.endpoint = Some(Endpoint { url: None, socket: Some("/r/m.sock".into()) });
        assert_eq!(ready_line(&server).plain_text(&PIPE), "m ready at unix:/r/m.sock (0.4s)");
        assert!(
            port_hint(&server).unwrap().to_string().contains("model set m port=auto --restart")
        );
        assert_eq!(endpoint(&server).as_deref(), Some("unix:/r/m.sock"));
        assert_eq!(short_endpoint(&server).as_deref(), Some("socket"));
    }

    #[test]
    fn a_state_says_how_far_and_how_long() {
        let mut queued = server("m", State::Queued);
        assert_eq!(state_text(&queued), "queued");
        queued.queue = Some(Queue { reason: QueueReason::Loads, position: 2, limit: Some(1) });
        assert_eq!(state_text(&queued), "queued 2nd");
        let mut backoff = server("m", State::Backoff);
        assert_eq!(state_text_at(&backoff, 1_000), "backoff");
        backoff.restart_at_ms = Some(4_000);
        assert_eq!(state_text_at(&backoff, 1_000), "backoff 3.0s");
    }

    #[test]
    fn the_worst_comes_first_whatever_the_order_of_the_warnings() {
        let mut silent = server("silent", State::Ready);
        silent.warnings = vec![
            Warning {
                since_ms: Some(0),
                until_ms: Some(120_000),
                ..Warning::new(WarningCode::NotAnswering, "x")
            },
            Warning::new(WarningCode::NoApiKey, "open"),
        ];
        let mut open = server("open", State::Ready);
        open.warnings = vec![Warning::new(WarningCode::NoApiKey, "open")];
        let mut servers = [open, silent, server("stopped", State::Stopped)];
        worst_first(&mut servers);
        let names: Vec<&str> = servers.iter().map(|server| server.model.as_str()).collect();
        assert_eq!(names, ["silent", "open", "stopped"]);
        assert_eq!(state_text(&servers[0]), "not answering");
        assert_eq!(
            trouble(&servers[0], &[], 12_000).unwrap(),
            "no answer from /health for 12s; restarts in 1m48s (hang-timeout)"
        );
        assert_eq!(trouble(&servers[1], &[], 0), None);
    }

    #[test]
    fn a_device_nobody_knows_is_not_the_cpu() {
        let mut server = server("m", State::Ready);
        let holds = |bytes| ProcessSample { gpu_memory_bytes: Some(bytes), ..Default::default() };
        assert_eq!(device(&server, None, None), None);
        assert_eq!(device(&server, Some(&holds(0)), None), None);
        assert_eq!(device(&server, Some(&holds(5 << 30)), None).as_deref(), Some("GPU 5.0 GiB"));
        server.device = Some("gpu".into());
        assert_eq!(device(&server, None, None).as_deref(), Some("GPU"));
        server.device = Some("cpu".into());
        assert_eq!(device(&server, Some(&holds(1 << 20)), None).as_deref(), Some("cpu"));
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
