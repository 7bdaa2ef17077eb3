//! `server.*`: the llama-server process of a model.

use crate::actor::Actor;
use crate::bounds::{GivenSettings, Name};
use crate::cause::Cause;
use crate::event::Event;
use crate::hint::Hint;
use crate::method::{method, subscription};
use crate::metrics::Sample;
use crate::options::Settings;
use crate::warning::Warning;
use crate::{UnixMs, WirePath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not running, and that is how it was wanted.
    Stopped,
    /// Waits for its turn to start.
    Queued,
    /// The process is being started and does not answer yet.
    Starting,
    /// The process answers that it is loading the model.
    Loading,
    /// It answers requests.
    Ready,
    /// It has unloaded the model by itself and will load it at the next request.
    Sleeping,
    /// It was told to stop and has not ended yet.
    Stopping,
    /// It failed and will be started again.
    Backoff,
    /// It failed and will not be started again until someone acts.
    Failed,
    /// It does not end even when killed.
    Stuck,
    /// A process left by an earlier daemon is being looked at.
    Adopting,
}

impl State {
    /// All of them.
    pub const ALL: [State; 11] = [
        State::Stopped,
        State::Queued,
        State::Starting,
        State::Loading,
        State::Ready,
        State::Sleeping,
        State::Stopping,
        State::Backoff,
        State::Failed,
        State::Stuck,
        State::Adopting,
    ];

    /// The word on the wire and on screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Queued => "queued",
            State::Starting => "starting",
            State::Loading => "loading",
            State::Ready => "ready",
            State::Sleeping => "sleeping",
            State::Stopping => "stopping",
            State::Backoff => "backoff",
            State::Failed => "failed",
            State::Stuck => "stuck",
            State::Adopting => "adopting",
        }
    }

    /// Whether nothing will happen from here unless someone asks.
    #[must_use]
    pub fn is_settled_down(self) -> bool {
        matches!(self, State::Stopped | State::Failed)
    }
}

/// What is wanted of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    /// It shall run.
    Running,
    /// It shall not run.
    Stopped,
}

impl DesiredState {
    /// The word on the wire, in databases and on screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DesiredState::Running => "running",
            DesiredState::Stopped => "stopped",
        }
    }
}

/// What demanded a run. A stop applies to the runs that were begun before it; what is begun later was
/// demanded by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// A person, or a program, asked for a start by name.
    Person,
    /// The model is set to start with the machine.
    Boot,
    /// The restart policy.
    Policy,
    /// Somebody who uses it holds a lease.
    Lease,
}

impl Demand {
    /// What demands a run that this actor asks for.
    #[must_use]
    pub fn of(actor: &Actor) -> Demand {
        match actor {
            Actor::Client { .. } | Actor::Signal { .. } => Demand::Person,
            Actor::Boot => Demand::Boot,
            Actor::Policy | Actor::Process => Demand::Policy,
        }
    }

    /// The word on the wire and in databases.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Demand::Person => "person",
            Demand::Boot => "boot",
            Demand::Policy => "policy",
            Demand::Lease => "lease",
        }
    }

    /// What a word means; `None` for a word of a later version.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Demand> {
        [Demand::Person, Demand::Boot, Demand::Policy, Demand::Lease]
            .into_iter()
            .find(|demand| demand.as_str() == word)
    }
}

/// What is wanted of a server, and who said so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Desired {
    /// What is wanted.
    pub state: DesiredState,
    /// Who said so.
    pub by: Actor,
    /// When it was said.
    pub at_ms: UnixMs,
}

/// Where a server listens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// The base URL of its OpenAI-compatible API, when it listens on TCP.
    pub url: Option<String>,
    /// Its Unix socket, when it listens there.
    pub socket: Option<WirePath>,
}

impl Endpoint {
    /// Its TCP port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let (_, rest) = self.url.as_deref()?.split_once("://")?;
        rest.split('/').next()?.rsplit_once(':')?.1.parse().ok()
    }
}

/// What llama-server reports to be using, beside what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InForce {
    /// Context of one slot, in tokens.
    pub context_tokens: Option<u64>,
    /// How many requests it answers at once.
    pub slots: Option<u32>,
    /// What the process calls its build.
    pub build: Option<String>,
}

/// What a server waits for before it may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueReason {
    /// As many models are being loaded as may be at once.
    Loads,
    /// Memory that others hold.
    Memory,
    /// The daemon still looks for servers that run already.
    Recovery,
}

/// Waiting to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Queue {
    /// What it waits for.
    pub reason: QueueReason,
    /// How many are to start before it, and itself: 1 is next.
    pub position: u32,
    /// How many may load at once, where it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// One life of a server, from spawn to exit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Its id, never reused.
    pub id: String,
    /// The process id; `null` while there is no process yet, and where it is not known.
    pub pid: Option<u32>,
    /// When it was started.
    pub started_at_ms: UnixMs,
    /// When it was first ready.
    pub ready_at_ms: Option<UnixMs>,
    /// How long loading took.
    pub load_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: Option<UnixMs>,
    /// The revision of the model's settings it was started with.
    pub revision: i64,
}

/// The server of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Server {
    /// The id of its model.
    pub model_id: i64,
    /// The model's name.
    pub model: String,
    /// What it is doing.
    pub state: State,
    /// When it came into this state.
    pub since_ms: UnixMs,
    /// What is wanted of it; `null` when nobody ever said.
    pub desired: Option<Desired>,
    /// Its present run, or the last.
    pub run: Option<Run>,
    /// Where it listens, or will.
    pub endpoint: Option<Endpoint>,
    /// How far loading is, 0..1, where llama-server says.
    pub progress_ratio: Option<f64>,
    /// What is being loaded: `text_model`, `mmproj_model`, …
    pub stage: Option<String>,
    /// What it waits for, in state `queued`.
    #[serde(default)]
    pub queue: Option<Queue>,
    /// Why it is in this state.
    pub cause: Option<Cause>,
    /// Restarts by policy since it was last started by request.
    pub restarts: u32,
    /// When it will be started again, in state `backoff`.
    #[serde(default)]
    pub restart_at_ms: Option<UnixMs>,
    /// `true` when it was asked to use a GPU and holds no GPU memory; `null` where that cannot be
    /// known, and where no GPU was asked for.
    #[serde(default)]
    pub on_cpu: Option<bool>,
    /// What it computes on as far as known: `cpu` or `gpu`.
    #[serde(default)]
    pub device: Option<String>,
    /// What it reports to be using.
    pub in_force: Option<InForce>,
    /// Settings that changed since it was started and take effect on restart.
    pub pending: Vec<String>,
    /// Settings of the present run alone, over the model's own.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub overrides: Settings,
    /// What a person should know although it runs, the worst first.
    pub warnings: Vec<Warning>,
}

impl Server {
    /// Whether it is wanted to run.
    #[must_use]
    pub fn is_to_run(&self) -> bool {
        self.desired.as_ref().is_some_and(|desired| desired.state == DesiredState::Running)
    }
}

/// Lists servers by model name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerList {
    /// Also the servers of models that are stopped and were not asked to run.
    #[serde(default)]
    pub all: bool,
    /// Only servers of models behind this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Name>,
    /// At most this many (1 to 200, 100 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of servers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ServerPage {
    /// The servers of this page, by model name.
    pub items: Vec<Server>,
    /// Pass as `after` for the next page; `null` on the last.
    pub next: Option<String>,
    /// What a person should know of the daemon, the worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// What was measured last; on the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// llama-servers on this machine that no llamactld started, as they were seen some seconds ago; on
    /// the first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_servers: Vec<OtherServer>,
}

/// A llama-server that no llamactld started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OtherServer {
    /// Its process id.
    pub pid: u32,
    /// The file that it runs.
    pub program: WirePath,
}

method!(ServerList, "server.list", Observe -> ServerPage);

/// Shows the server of one model.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerShow {
    /// By name, alias or id.
    pub model: Name,
}

method!(ServerShow, "server.show", Observe -> Server);

/// Starts a model's server. Answers when what is desired is stored and the start accepted; follow
/// `server.follow` until it is ready.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerStart {
    /// By name, alias or id.
    pub model: Name,
    /// Settings for this run alone, over the model's own. Needs the right to change settings.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub set: GivenSettings,
}

/// A request that was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// The run that will carry it out, or is it already; `null` when there is none to stop.
    pub run_id: Option<String>,
    /// `false` when it was so already and nothing was done.
    pub changed: bool,
    /// `false` when it is being carried out but could not be written yet: the disk is full.
    pub durable: bool,
    /// The server as it is now.
    pub server: Server,
}

method!(ServerStart, "server.start", Operate -> Accepted);

/// Stops a model's server. Answers when what is desired is stored and the stop begun.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerStop {
    /// By name, alias or id.
    pub model: Name,
}

method!(ServerStop, "server.stop", Operate -> Accepted);

/// Stops a model's server, if it runs, and starts it with the settings of now.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerRestart {
    /// By name, alias or id.
    pub model: Name,
    /// Settings for this run alone, over the model's own. Needs the right to change settings.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub set: GivenSettings,
}

method!(ServerRestart, "server.restart", Operate -> Accepted);

/// Follows servers: their state now, then each change. A reader that is slow skips states in
/// between and always gets the last.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerFollow {
    /// Only this model's, by name, alias or id. Absent: all that are not plainly stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Name>,
}

subscription!(ServerFollow, "server", Observe => Server);

/// Tells why a model's server is as it is: the last change in plain words, what says so, what to
/// do, and what happened before.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerWhy {
    /// By name, alias or id.
    pub model: Name,
}

/// Ready for so long, a server has recovered: a later failure is the first of a new row.
pub const HEALTHY: Duration = Duration::from_secs(60);

/// Why a server is as it is. The sentences are for people and may change; programs read `server`
/// and `events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// What there is to say beside its state: what happened, and what follows.
    pub summary: String,
    /// When the last change happened.
    pub at_ms: UnixMs,
    /// Who asked for the last change; `null` where nobody knows.
    pub by: Option<Actor>,
    /// The log lines that say so, the decisive one first.
    pub evidence: Vec<String>,
    /// What to do, most useful first.
    pub hints: Vec<Hint>,
    /// Whether it will be started again by itself, and when; `null` where that is no question.
    pub next: Option<String>,
    /// Failures in a row up to now: without a minute of health between them, since somebody last
    /// asked for a start.
    pub failures: u32,
    /// What a person should know beside that and the server's warnings: settings that wait for a
    /// restart, a daemon that was replaced meanwhile.
    pub remarks: Vec<String>,
    /// What happened to it up to now, oldest first; what happened to the daemon stands among it.
    pub events: Vec<Event>,
    /// The server as it is now.
    pub server: Server,
}

method!(ServerWhy, "server.why", Observe -> Why);
