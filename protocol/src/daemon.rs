//! `daemon.*` and `rpc.*`: the daemon itself.

use crate::bounds::{Bounded, Short};
use crate::method::method;
use crate::server::OtherServer;
use crate::warning::Warning;
use crate::{Access, UnixMs, WirePath};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

/// The most of its command that a client says, in bytes.
pub const MAX_COMMAND_BYTES: usize = 64 << 10;

/// Says who is calling and asks who answers. Send it together with the first call.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonHello {
    /// The caller's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_version: Option<Short>,
    /// The wire contract the caller speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// The command this connection serves, as a person would know it again: `llamactl start qwen3`.
    /// Records of what is asked on this connection name it; without one they name the method. Of
    /// more than 256 characters the first are kept, and control characters are replaced. It must
    /// hold no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Bounded<String, MAX_COMMAND_BYTES>>,
}

/// The daemon that answers, and what the caller may do there.
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

method!(DaemonHello, "daemon.hello", Observe -> Hello, Small);

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

method!(DaemonPing, "daemon.ping", Observe -> Pong, Small);

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
    /// What its configuration file says; `None` from a daemon that reads none.
    #[serde(default)]
    pub config: Option<ConfigReport>,
    /// How many models are registered.
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
    /// How often a call has kept everybody else waiting for more than ten milliseconds, since the
    /// start. Each is a defect of the daemon, and its log names the method.
    #[serde(default)]
    pub slow_calls: u64,
    /// Lines of its own log that were dropped since it started, because that could not be written as fast.
    #[serde(default)]
    pub log_lines_lost: u64,
    /// Resident memory of the daemon.
    pub memory_bytes: Option<u64>,
    /// How the registry is kept; `None` from a daemon that does not say.
    #[serde(default)]
    pub registry: Option<RegistryReport>,
    /// How the history of metrics is kept; `None` from a daemon that keeps none.
    #[serde(default)]
    pub history: Option<HistoryReport>,
    /// What a person should know although it runs, the worst first.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// llama-servers on this machine that no llamactld started.
    #[serde(default)]
    pub other_servers: Vec<OtherServer>,
}

/// How the history of metrics is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryReport {
    /// How much room it takes.
    pub size_bytes: u64,
    /// Samples that could not be written since the daemon started.
    pub samples_lost: u64,
    /// Where a damaged one was set aside since then.
    pub set_aside: Option<WirePath>,
}

/// How the registry is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistryReport {
    /// The longest that one write held up all others since the daemon started.
    pub longest_write_ms: u64,
    /// How many records of what happened wait to be written, because the disk does not let them.
    pub waiting_records: u64,
    /// The newest copy of it; `None` where there is none yet.
    pub copy: Option<WirePath>,
    /// When that was made.
    pub copied_at_ms: Option<UnixMs>,
}

/// What the daemon was configured to do, and by which file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConfigReport {
    /// The file it was read from; `None` where there is none and the defaults hold.
    pub path: Option<WirePath>,
    /// What the file says, with the defaults in the place of what it does not say.
    #[serde(flatten)]
    pub config: Config,
}

/// Keys that only a later daemon has are left out: a file that has them is refused, an answer is not.
impl<'de> Deserialize<'de> for ConfigReport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut told = serde_json::Map::deserialize(deserializer)?;
        let path = told.remove("path").map(serde_json::from_value).transpose();
        told.retain(|key, _| Config::KEYS.contains(&key.as_str()));
        if let Some(Value::Object(metrics)) = told.get_mut("metrics") {
            metrics.retain(|key, _| MetricsConfig::KEYS.contains(&key.as_str()));
        }
        let config = serde_json::from_value(Value::Object(told)).map_err(D::Error::custom)?;
        Ok(ConfigReport { path: path.map_err(D::Error::custom)?.flatten(), config })
    }
}

impl Config {
    const KEYS: [&str; 5] = ["max_running", "max_loading", "on_daemon_exit", "strays", "metrics"];
}

impl MetricsConfig {
    const KEYS: [&str; 3] = ["history_bytes", "listen", "listen_group"];
}

/// The daemon's configuration: what `llamactld.toml` may say. A field is a key of the file; one
/// whose type is another such struct is a table in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// At most this many servers run at a time; `None` is no limit.
    pub max_running: Option<NonZeroU32>,
    /// At most this many servers load at a time.
    pub max_loading: NonZeroU32,
    /// What becomes of the servers when the daemon ends unasked.
    pub on_daemon_exit: OnDaemonExit,
    /// What becomes of servers of ours that no record tells of.
    pub strays: Strays,
    /// What is kept of metrics, and who may read them.
    pub metrics: MetricsConfig,
}

/// What is kept of metrics, and who may read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// The room that their history may take. Where a day of seconds, a month of minutes and a year of
    /// hours take more, less is kept.
    pub history_bytes: NonZeroU64,
    /// Where Prometheus may read them, by HTTP: an address of this machine alone, or the path of a
    /// socket. `None`: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<MetricsAddress>,
    /// The group whose members may read them at that socket, beside the daemon's user. `None`: in
    /// system mode the group that may connect to the daemon, else nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_group: Option<String>,
}

/// Where metrics may be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum MetricsAddress {
    /// At an address that only this machine has.
    Tcp(SocketAddr),
    /// At a Unix socket.
    Socket(PathBuf),
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricsAddress::Tcp(address) => address.fmt(f),
            MetricsAddress::Socket(path) => path.display().fmt(f),
        }
    }
}

impl From<MetricsAddress> for String {
    fn from(address: MetricsAddress) -> String {
        address.to_string()
    }
}

impl TryFrom<String> for MetricsAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let path = text.strip_prefix("unix:").unwrap_or(&text);
        if path.starts_with('/') {
            return Ok(MetricsAddress::Socket(path.into()));
        }
        let text = text
            .strip_prefix("localhost:")
            .map_or(text.clone(), |port| format!("127.0.0.1:{port}"));
        match text.parse::<SocketAddr>() {
            Ok(address) if !address.ip().is_loopback() => Err(format!(
                "is an address that only this machine has: anybody who reaches {address} could read it"
            )),
            Ok(address) if address.port() != 0 => Ok(MetricsAddress::Tcp(address)),
            _ => {
                Err("is an address of this machine with a port, or the whole path of a socket"
                    .into())
            }
        }
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        let history_bytes = const { NonZeroU64::new(256 << 20).unwrap() };
        MetricsConfig { history_bytes, listen: None, listen_group: None }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_running: None,
            max_loading: const { NonZeroU32::new(2).unwrap() },
            on_daemon_exit: OnDaemonExit::Keep,
            strays: Strays::Adopt,
            metrics: MetricsConfig::default(),
        }
    }
}

impl Config {
    /// Whether servers outlive a daemon that ends unasked.
    #[must_use]
    pub fn keeps_servers(&self) -> bool {
        self.on_daemon_exit == OnDaemonExit::Keep
    }

    /// Every key with its value, which is `Null` where nothing is set; a key in a table is
    /// `table.key`, as in a file.
    #[must_use]
    pub fn entries(&self) -> Vec<(String, Value)> {
        fn collect(prefix: &str, value: Value, into: &mut Vec<(String, Value)>) {
            match value {
                Value::Object(table) => table.into_iter().for_each(|(key, value)| {
                    let dot = if prefix.is_empty() { "" } else { "." };
                    collect(&format!("{prefix}{dot}{key}"), value, into);
                }),
                value => into.push((prefix.to_owned(), value)),
            }
        }
        let mut entries = Vec::new();
        collect("", serde_json::to_value(self).unwrap_or_default(), &mut entries);
        entries
    }
}

/// What becomes of the servers when the daemon ends without having been told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDaemonExit {
    /// They run on, and the next daemon takes them over.
    Keep,
    /// They are ended with it.
    Stop,
}

/// What becomes of servers that carry this registry's mark and that no record tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strays {
    /// They are taken over.
    Adopt,
    /// They are stopped.
    Stop,
}

/// The llama-server build in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Runtime {
    /// Its id, never reused.
    pub id: i64,
    /// The runtime's name.
    pub name: String,
    /// Where its llama-server lies.
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

method!(DaemonStop, "daemon.stop", Admin -> StopBegun, Small);

/// Replaces the daemon by its program of now, in place: process id, lock, listener and servers stay.
/// Answers when the new program was tried out and the change begins; the connection closes then,
/// and the next call is answered by the new one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonRestart {}

/// The change has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestartBegun {
    /// The daemon's process id, before and after.
    pub pid: u32,
    /// When the daemon that goes was started: the one that comes says another time.
    pub started_at_ms: UnixMs,
    /// What the new program says of its version.
    pub version: String,
    /// Where the new program keeps a copy of the registry from before it changed it: what to put
    /// back to return to the version of now. `None` where it changes nothing.
    #[serde(default)]
    pub registry_copy: Option<WirePath>,
}

method!(DaemonRestart, "daemon.restart", Admin -> RestartBegun, Small);

/// Copies the registry to a file that is not there yet, and looks the copy through.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonBackup {
    /// The file, absolute; the daemon's user writes it.
    pub path: WirePath,
}

/// There is a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackedUp {
    /// The file.
    pub path: WirePath,
    /// How long it is.
    pub size_bytes: u64,
}

method!(DaemonBackup, "daemon.backup", Admin -> BackedUp);

/// Puts the registry that the daemon has open back into its place, where another file was put while it
/// ran. To go back to a copy the daemon must not run.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonRestore {}

/// It is back in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PutBack {
    /// Where the file is now that lay there.
    pub aside: WirePath,
}

method!(DaemonRestore, "daemon.restore", Admin -> PutBack);

/// The OpenRPC document of this daemon.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RpcDiscover {}

method!(RpcDiscover, "rpc.discover", Observe -> Value, Whole);

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::schema_for;
    use serde_json::json;

    #[test]
    fn what_a_later_daemon_says_of_its_configuration_is_read() {
        let later = json!({
            "path": "/c.toml", "max_loading": 3, "later": 1,
            "metrics": { "history_bytes": 5, "listen": "127.0.0.1:9", "later": { "a": 1 } }
        });
        let read: ConfigReport = serde_json::from_value(later).unwrap();
        assert_eq!(read.path.unwrap().to_string(), "/c.toml");
        assert_eq!(
            (read.config.max_loading.get(), read.config.metrics.history_bytes.get()),
            (3, 5)
        );
        assert!(read.config.metrics.listen.is_some());
        serde_json::from_value::<Config>(json!({ "later": 1 })).unwrap_err();
    }

    #[test]
    fn the_keys_are_all_there_are() {
        let is_all = |schema: schemars::Schema, known: &[&str]| {
            let there = schema.as_value()["properties"].as_object().unwrap();
            there.len() == known.len() && known.iter().all(|key| there.contains_key(*key))
        };
        assert!(is_all(schema_for!(Config), &Config::KEYS));
        assert!(is_all(schema_for!(MetricsConfig), &MetricsConfig::KEYS));
    }
}
