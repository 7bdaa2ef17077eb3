//! The shape every stream's items share.
//!
//! ```text
//!   snapshot ─▶ change ─▶ change ─▶ … ─▶ end
//!                  │
//!                  ╰─ missed (the reader fell behind, or its cursor is too old) ─▶ live again
//! ```
//!
//! The first item is the state now; nothing is lost between it and the first change. What had to
//! be left out is counted and said with `missed`. `cursor` is opaque; where a stream has history
//! it stays valid across daemon restarts, and `after: cursor` goes on behind it.

use crate::{Failure, UnixMs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One item of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Item<T> {
    /// The state at the moment of subscribing. A long one comes in several items.
    Snapshot {
        /// When the daemon made the item.
        at_ms: UnixMs,
        /// Where a later subscription can go on.
        cursor: Option<String>,
        /// The state, or a piece of it.
        data: T,
    },
    /// Something that happened since.
    Change {
        /// When the daemon made the item.
        at_ms: UnixMs,
        /// Where a later subscription can go on.
        cursor: Option<String>,
        /// The change, or the new state.
        data: T,
    },
    /// The reader fell behind, or its cursor lies before what is kept.
    Missed {
        /// When the daemon made the item.
        at_ms: UnixMs,
        /// Where a later subscription can go on.
        cursor: Option<String>,
        /// How much was left out.
        data: Missed,
    },
    /// Nothing more will come.
    End {
        /// When the daemon made the item.
        at_ms: UnixMs,
        /// Where a later subscription can go on.
        cursor: Option<String>,
        /// Why the stream ends.
        data: End,
    },
}

impl<T> Item<T> {
    /// When the daemon made the item.
    pub fn at_ms(&self) -> UnixMs {
        match self {
            Item::Snapshot { at_ms, .. }
            | Item::Change { at_ms, .. }
            | Item::Missed { at_ms, .. }
            | Item::End { at_ms, .. } => *at_ms,
        }
    }

    /// The state or change, where the item has one.
    pub fn data(&self) -> Option<&T> {
        match self {
            Item::Snapshot { data, .. } | Item::Change { data, .. } => Some(data),
            Item::Missed { .. } | Item::End { .. } => None,
        }
    }

    /// Where a later subscription can go on.
    pub fn cursor(&self) -> Option<&str> {
        match self {
            Item::Snapshot { cursor, .. }
            | Item::Change { cursor, .. }
            | Item::Missed { cursor, .. }
            | Item::End { cursor, .. } => cursor.as_deref(),
        }
    }
}

/// What a reader did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missed {
    /// How many items; `null` where they were bytes of a log, or cannot be counted.
    pub items: Option<u64>,
    /// How many bytes of a log.
    pub bytes: Option<u64>,
}

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// In one word.
    pub reason: EndReason,
    /// What went wrong, when something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Why a stream ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// All that was asked for has been sent.
    Done,
    /// The daemon is stopping.
    DaemonStopping,
    /// It cannot go on: see `failure`.
    Failed,
}
