//! `metrics.models`: how the server of each model is, and what it did over all its runs.

use crate::UnixMs;
use crate::bounds::Name;
use crate::method::method;
use crate::server::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lists models by name, each with the state of its server and what it did over all its runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsModels {
    /// Only models behind this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Name>,
    /// At most this many (1 to 200, 100 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelSamplePage {
    /// The models of this page, by name.
    pub items: Vec<ModelSample>,
    /// Pass as `after` for the next page; `null` on the last.
    pub next: Option<String>,
}

method!(MetricsModels, "metrics.models", Observe -> ModelSamplePage);

/// How the server of one model is, and what it did over all its runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelSample {
    /// The model's id.
    pub model_id: i64,
    /// The model's name.
    pub model: String,
    /// The state of its server.
    pub state: State,
    /// Its run, while there is a process.
    pub run: Option<RunSample>,
    /// What all its runs did; `null` while the database that keeps it cannot be read.
    pub totals: Option<Totals>,
}

/// A run that has a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSample {
    /// Its id, never reused.
    pub id: String,
    /// The llama-server it executes, as text.
    pub runtime: Option<String>,
    /// What that says of its version.
    pub build: Option<String>,
    /// When it was started.
    pub started_at_ms: UnixMs,
    /// How long loading took; `null` until it is ready.
    pub load_ms: Option<u64>,
}

/// What a model did over all its runs, as far as it is written: a daemon that is killed takes none of
/// it back, and what came last is in it ten seconds later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Tokens generated.
    pub tokens_generated: u64,
    /// Prompt tokens processed, cached ones apart.
    pub prompt_tokens: u64,
    /// Prompt tokens that were in a cache.
    pub prompt_cached_tokens: u64,
    /// Processes that were made for it.
    #[serde(default)]
    pub starts: u64,
    /// Those of them that nobody asked for: the server had ended by itself.
    #[serde(default)]
    pub restarts: u64,
}
