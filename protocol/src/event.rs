//! `event.*`: what happened and why, in order.

use crate::UnixMs;
use crate::method::{method, subscription};
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
    pub kind: String,
    /// The model it concerns.
    pub model_id: Option<i64>,
    /// That model's name at the time.
    pub model: Option<String>,
    /// The run it concerns.
    pub run_id: Option<String>,
    /// Who asked: a method and the peer's uid and pid, `policy`, `boot` or `process`.
    pub by: String,
    /// One sentence.
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
    /// Only events of this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<UnixMs>,
    /// Only events of this model, by name, alias or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// At most this many (1 to 500, 100 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of events.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventPage {
    /// The events.
    pub items: Vec<Event>,
    /// Pass as `after` for the next page; `null` on the last.
    pub next: Option<i64>,
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
    pub model: Option<String>,
}

subscription!(EventFollow, "event", Observe => Event);
