//! `event.*`: what happened and why, in order.

use crate::UnixMs;
use crate::actor::Actor;
use crate::bounds::{Bounded, Name};
use crate::method::{method, subscription};
use crate::word::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing that happened. Events are numbered without gaps across daemon restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its number; also the stream's cursor.
    pub seq: i64,
    /// When it happened.
    pub at_ms: UnixMs,
    /// What happened: `model.added`, `server.ready`, `daemon.started`, …
    pub kind: EventKind,
    /// The model it concerns.
    pub model_id: Option<i64>,
    /// That model's name at the time.
    pub model: Option<String>,
    /// The run it concerns.
    pub run_id: Option<String>,
    /// Who asked for it.
    pub by: Actor,
    /// What happened, in one sentence for people; it may change.
    pub message: String,
    /// Particulars, by kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

/// Lists past events, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventList {
    /// Only events behind this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Only events before this number, and of them the newest: a page from the end. The greatest
    /// number there is gives the last events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Only events of this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<UnixMs>,
    /// Only events of this model, by name, alias or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Name>,
    /// Only events of these kinds: `server.failed`, or `server` for all that begin so, which may
    /// be written `server.*` too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Bounded<Vec<Bounded<String, 64>>, 32>,
    /// At most this many (1 to 500, 100 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of events.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventPage {
    /// The events of this page, oldest first.
    pub items: Vec<Event>,
    /// Pass as `after` for the next page, or as `before` where that was given; `null` on the last.
    pub next: Option<i64>,
    /// The number of the last event of any kind when this page was made, 0 before the first:
    /// `event.follow` with `after` set to it has what comes from then on, and nothing twice.
    #[serde(default)]
    pub last: i64,
    /// How many events behind `after`, of any kind, are kept no more; `null`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
}

method!(EventList, "event.list", Observe -> EventPage);

/// Follows events. The snapshot is the last event there is (or the first after `after`).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventFollow {
    /// Replay everything behind this number first. Absent: only what happens from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Replay everything since this time first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<UnixMs>,
    /// Only events of this model, by name, alias or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Name>,
    /// Only events of these kinds: `server.failed`, or `server` for all that begin so, which may
    /// be written `server.*` too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Bounded<Vec<Bounded<String, 64>>, 32>,
}

subscription!(EventFollow, "event", Observe => Event);

words! {
    /// What happened. It lies in databases and is never renamed.
    EventKind, "EventKind":
    DaemonRestarted "daemon.restarted" "The daemon was replaced by a new one; its servers went on",
    DaemonStarted "daemon.started" "The daemon began",
    DaemonStopped "daemon.stopped" "The daemon ended as asked",
    DefaultsSet "defaults.set" "Settings for all models were changed",
    LibraryForgotten "library.forgotten" "A directory is looked through no more",
    LibraryRemembered "library.remembered" "A directory is looked through at each start",
    MetricsSetAside "metrics.set_aside" "The history of metrics was damaged, and another was begun",
    ModelAdded "model.added" "A model was registered",
    ModelAliased "model.aliased" "A model's other names were changed",
    ModelRefreshed "model.refreshed" "A model's file was read again",
    ModelRemoved "model.removed" "A model was taken out of the registry",
    ModelRenamed "model.renamed" "A model got another name",
    ModelSet "model.set" "A model's settings were changed",
    RegistryRestored "registry.restored" "The registry's file was deleted, and put back",
    RegistryUnwritten "registry.unwritten" "Records of what happened could not be written",
    RuntimeAdded "runtime.added" "A llama-server build was named",
    RuntimeChanged "runtime.changed" "A llama-server build was changed or replaced",
    RuntimeRemoved "runtime.removed" "A llama-server build was taken out of the registry",
    RuntimeUsed "runtime.used" "Another llama-server build is the default",
    ServerAdopted "server.adopted" "A new daemon took a running server over",
    ServerBackoff "server.backoff" "A server failed and will be started again",
    ServerFailed "server.failed" "A server failed",
    ServerHung "server.hung" "A server did not answer, or made no progress",
    ServerOnCpu "server.on_cpu" "A server that was to use a GPU holds no GPU memory",
    ServerQueued "server.queued" "A server waits for its turn to start",
    ServerReady "server.ready" "A server answers requests",
    ServerSleeping "server.sleeping" "A server unloaded its model by itself",
    ServerStalled "server.stalled" "Loading made no progress",
    ServerStarting "server.starting" "A server's process was made",
    ServerStopped "server.stopped" "A server ended as asked",
    ServerStopping "server.stopping" "A server was told to stop",
    ServerStray "server.stray" "A process without a record was found",
    ServerStuck "server.stuck" "A server does not end even when killed",
    ServerWoken "server.woken" "A server loaded its model again",
}

/// What an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The daemon itself.
    Daemon,
    /// Where models are looked for.
    Library,
    /// A model, the settings for all models, or a runtime.
    Models,
    /// The server of a model.
    Server,
    /// Something this version does not know.
    Unknown,
}

impl EventKind {
    /// What it tells of.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self {
            EventKind::DaemonRestarted
            | EventKind::DaemonStarted
            | EventKind::DaemonStopped
            | EventKind::RegistryRestored
            | EventKind::MetricsSetAside
            | EventKind::RegistryUnwritten => Subject::Daemon,
            EventKind::LibraryForgotten | EventKind::LibraryRemembered => Subject::Library,
            EventKind::DefaultsSet
            | EventKind::ModelAdded
            | EventKind::ModelAliased
            | EventKind::ModelRefreshed
            | EventKind::ModelRemoved
            | EventKind::ModelRenamed
            | EventKind::ModelSet
            | EventKind::RuntimeAdded
            | EventKind::RuntimeChanged
            | EventKind::RuntimeRemoved
            | EventKind::RuntimeUsed => Subject::Models,
            EventKind::ServerAdopted
            | EventKind::ServerBackoff
            | EventKind::ServerFailed
            | EventKind::ServerHung
            | EventKind::ServerOnCpu
            | EventKind::ServerQueued
            | EventKind::ServerReady
            | EventKind::ServerSleeping
            | EventKind::ServerStalled
            | EventKind::ServerStarting
            | EventKind::ServerStopped
            | EventKind::ServerStopping
            | EventKind::ServerStray
            | EventKind::ServerStuck
            | EventKind::ServerWoken => Subject::Server,
            EventKind::Other(_) => Subject::Unknown,
        }
    }

    /// Whether it tells of a change that those who follow the models must know of.
    #[must_use]
    pub fn changes_a_model(&self) -> bool {
        self.subject() == Subject::Models
    }
}
