//! A look at the world: what the operating system has, and what the daemon shows.

use crate::call::{Connection, Outcome};
use llamactl_tests::Home;
use llamactl_tests::processes::Process;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The variable that says which run a llama-server is of: `REGISTRY/RUN`.
const MARKER: &str = "LLAMACTL_RUN";

/// A llama-server process of this home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) pid: u32,
    pub(crate) run: Option<String>,
    /// The model whose file it serves.
    pub(crate) model: Option<i64>,
}

/// A model with its server, as the daemon shows them.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) aliases: BTreeSet<String>,
    pub(crate) settings: Map<String, Value>,
    pub(crate) state: String,
    pub(crate) cause: String,
    pub(crate) wish: Option<String>,
    pub(crate) run: Option<String>,
    pub(crate) pid: Option<u32>,
    pub(crate) started_at_ms: Option<i64>,
    pub(crate) overrides: Map<String, Value>,
}

impl Shown {
    /// Whether nothing will change until somebody asks for it.
    pub(crate) fn is_at_rest(&self) -> bool {
        matches!(self.state.as_str(), "ready" | "stopped" | "failed" | "stuck")
    }

    fn has_process(&self) -> bool {
        !matches!(self.state.as_str(), "stopped" | "failed" | "queued" | "backoff")
    }
}

/// Both.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) processes: Vec<Server>,
    pub(crate) shown: Vec<Shown>,
}

/// How long a process may take from `exec` to having arguments, and from losing them to its end.
const IN_BETWEEN: Duration = Duration::from_millis(200);

/// The llama-servers of a home; each model has a file of its own, and that tells them apart.
pub(crate) fn servers(home: &Home, files: &[(i64, PathBuf)]) -> Vec<Server> {
    home.llama_servers().iter().filter_map(|process| server(process, files)).collect()
}

/// `None` when it ended meanwhile.
fn server(process: &Process, files: &[(i64, PathBuf)]) -> Option<Server> {
    let end = Instant::now() + IN_BETWEEN;
    loop {
        let command = process.command_line();
        let has = |file: &Path| {
            command.split(|&byte| byte == 0).any(|it| it == file.as_os_str().as_bytes())
        };
        let server = Server {
            pid: process.pid,
            run: process.variable(MARKER).and_then(|it| Some(it.split_once('/')?.1.to_owned())),
            model: files.iter().find(|(_, file)| has(file)).map(|(id, _)| *id),
        };
        if server.run.is_some() && server.model.is_some() || Instant::now() > end {
            return Some(server);
        }
        if process.wait(Duration::from_millis(2)) {
            return None;
        }
    }
}

/// What is wrong whatever anybody wished: a model with two processes, or one of no model.
pub(crate) fn doubled_or_unknown(processes: &[Server]) -> Option<String> {
    let unknown = processes.iter().find(|it| it.model.is_none() || it.run.is_none());
    if let Some(unknown) = unknown {
        return Some(format!("an unknown llama-server: {unknown:?}"));
    }
    let doubled =
        processes.iter().find(|a| processes.iter().any(|b| a.pid != b.pid && a.model == b.model));
    doubled.map(|_| format!("two llama-servers of one model: {processes:?}"))
}

impl World {
    /// Looks. `None` when the daemon went away meanwhile.
    pub(crate) fn look(
        connection: &mut Connection,
        home: &Home,
        files: &[(i64, PathBuf)],
    ) -> Option<World> {
        let mut list = |method: &str, params: Value| match connection.call(method, &params) {
            Outcome::Answered(page) => Some(page),
            _ => None,
        };
        let models = list("model.list", json!({}))?;
        let servers_shown = list("server.list", json!({ "all": true }))?;
        let servers_shown = servers_shown["items"].as_array()?;
        let models = models["items"].as_array()?;
        let shown = models.iter().filter_map(|model| {
            let server = servers_shown.iter().find(|server| server["model_id"] == model["id"])?;
            Some(shown(model, server))
        });
        Some(World { shown: shown.collect(), processes: servers(home, files) })
    }

    /// Where what is shown differs from what there is; for a world at rest.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let mut contradictions = Vec::new();
        for shown in &self.shown {
            let mut own = self.processes.iter().filter(|process| process.model == Some(shown.id));
            let own = own.next();
            let told = shown.has_process().then_some((shown.pid, shown.run.as_deref()));
            let there = own.map(|process| (Some(process.pid), process.run.as_deref()));
            if told != there {
                contradictions.push(format!(
                    "{} is shown {} with {told:?}, and there is {there:?}",
                    shown.name, shown.state
                ));
            }
        }
        contradictions
    }
}

fn shown(model: &Value, server: &Value) -> Shown {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let run = &server["run"];
    let aliases = model["aliases"].as_array().into_iter().flatten();
    let cause = &server["cause"];
    Shown {
        id: model["id"].as_i64().unwrap_or(-1),
        name: text(&model["name"]).unwrap_or_default(),
        aliases: aliases.filter_map(text).collect(),
        settings: map(&model["settings"]),
        state: text(&server["state"]).unwrap_or_default(),
        cause: match (cause["code"].as_str(), cause["message"].as_str()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            _ => "no cause".to_owned(),
        },
        wish: text(&server["desired"]["state"]),
        run: text(&run["id"]),
        pid: run["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()),
        started_at_ms: run["started_at_ms"].as_i64(),
        overrides: map(&server["overrides"]),
    }
}
