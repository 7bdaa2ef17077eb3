//! The one way to change a model, the defaults for all models or a runtime, and to hear of it.
//!
//! ```text
//!   a change ─▶ validate ─▶ NewSecrets ─▶ Registry: rows and event, one transaction ─▶ Feed
//!                  │            ╰─ taken back when the registry refuses                 ╰─▶ supervisor
//!                  ├─ catalogue, rules, files
//!                  ╰─ build: only where the catalogue cannot judge
//!
//!   defaults, model, run ─▶ Layers ─▶ effective ─▶ accepted by the build ─▶ a start's plan
//! ```
//!
//! Handlers, imports and scans ask [`Models`]; nobody else writes such a change. Nobody is told of one
//! by hand either: a change's event is the news of it, and who must know follows the [`Feed`]. Two
//! things are left to others: the removal of a model to its server's task, so that no start comes
//! between, and what a file says that was read anew to the library.

mod build;
mod change;
mod defaults;
mod feed;
mod file;
mod files;
mod import;
mod layers;
mod model;
mod retry;
mod runtimes;
mod secrets;
mod validate;

pub use build::{accepted, build_of, place_of};
pub use change::Checked;
pub use defaults::check_with_defaults;
pub use feed::Feed;
pub use file::{gguf_failure, model_file, names_of, not_a_model, read, stamps};
pub use files::{
    MODEL_PATH, Named, StartFiles, check_before_start, check_files, named_in, unreadable,
    where_it_is,
};
pub use layers::{Layers, Served};
pub use secrets::{key_of, remove_unused};
pub use validate::needs_no_build;

use crate::store::registry::{Memo, Registry};
use llamactl_protocol::model::Difference;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The setting that names a model's llama-server build.
pub const RUNTIME: &str = "runtime";

/// A handle to all models, to the defaults and the runtimes, for changing them. Clones share it.
#[derive(Clone, Debug)]
pub struct Models {
    registry: Registry,
    /// Where changes that were overtaken stand in line.
    line: Arc<Mutex<()>>,
    served: Memo<(i64, Option<String>), Served>,
}

impl Models {
    /// The models of a registry.
    #[must_use]
    pub fn new(registry: Registry) -> Models {
        Models { registry, line: Arc::default(), served: Memo::default() }
    }
}

/// What became of a change that was not refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<T> {
    /// What was to be changed, as it is now. Secrets are by reference.
    pub now: T,
    /// `false` when it was like this already.
    pub changed: bool,
    /// What is different.
    pub changes: Vec<Difference>,
    /// What the caller should know.
    pub notes: Vec<String>,
}
