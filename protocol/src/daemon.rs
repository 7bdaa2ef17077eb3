//! `daemon.*` and `rpc.*`: the daemon itself.

use crate::method::method;
use crate::{Access, UnixMs, WirePath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Says who is calling and asks who answers. Send it together with the first call.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonHello {
    /// The caller's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_version: Option<String>,
    /// The wire contract the caller speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
    /// The daemon's version.
    pub version: String,
    /// The wire contract it speaks.
    pub protocol: u32,
    /// Its process id.
    pub pid: u32,
    /// The user it runs as.
    pub uid: u32,
    /// When it started.
    pub started_at_ms: UnixMs,
    /// Its state directory: databases, logs, the run directory.
    pub state_dir: WirePath,
    /// The id of its registry.
    pub registry_id: String,
    /// What the caller may do.
    pub access: Access,
    /// Names of things this daemon can do that a client may want to know before asking.
    pub capabilities: Vec<String>,
}

method!(DaemonHello, "daemon.hello", Observe -> Hello);

/// Answers at once: is anybody there?
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonPing {
    /// Returned as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
}

/// The answer to a ping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pong {
    /// What the ping carried.
    pub n: Option<u64>,
    /// The daemon's clock.
    pub at_ms: UnixMs,
}

method!(DaemonPing, "daemon.ping", Observe -> Pong);

/// How the daemon is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonStatus {}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonReport {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started_at_ms: UnixMs,
    /// The socket it listens on.
    pub socket: WirePath,
    /// Its state directory.
    pub state_dir: WirePath,
    /// Its own log, when it is detached.
    pub log: Option<WirePath>,
    /// Models registered.
    pub models: u64,
    /// Servers that are not stopped or failed.
    pub servers_active: u64,
    /// The llama-server that models use which name no other, when one was found.
    pub runtime: Option<Runtime>,
    /// Why none was found.
    pub runtime_problem: Option<String>,
    /// Connections open now.
    pub connections: u64,
    /// Connections refused since the start.
    pub connections_refused_total: u64,
    /// Resident memory of the daemon.
    pub memory_bytes: Option<u64>,
}

/// The llama-server build in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Runtime {
    /// Its id, never reused.
    pub id: i64,
    /// The runtime's name.
    pub name: String,
    /// The executable.
    pub path: WirePath,
    /// What it says of its version.
    pub version: Option<String>,
    /// Whether it reports load progress to the program that starts it.
    pub reports_progress: bool,
}

method!(DaemonStatus, "daemon.status", Observe -> DaemonReport);

/// Stops the daemon: servers first, unless told to keep them. Answers when stopping has begun;
/// the connection closes when it is done.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonStop {
    /// Leave the servers running; the next daemon adopts them.
    #[serde(default)]
    pub keep_servers: bool,
}

/// Stopping has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopBegun {
    /// The daemon's process id.
    pub pid: u32,
    /// Servers that will be stopped first.
    pub servers: u64,
}

method!(DaemonStop, "daemon.stop", Admin -> StopBegun);

/// The OpenRPC document of this daemon.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RpcDiscover {}

method!(RpcDiscover, "rpc.discover", Observe -> Value);
