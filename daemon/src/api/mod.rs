//! What each method does: thin, over the handles of [`App`](app::App). One file per noun.
//!
//! ```text
//!   wire ──▶ registration ──▶ handler: parse, ask one room, answer
//!                                ╰──▶ models, supervisor, library, logs, metrics, runtime
//! ```

pub mod app;
mod daemon;
mod daemon_check;
mod defaults;
mod event;
mod exchange;
mod library;
mod log;
mod metrics;
mod metrics_follow;
mod metrics_models;
mod model;
mod model_follow;
mod model_history;
mod model_settings;
mod page;
mod registration;
mod resolved;
mod running;
mod runtime;
mod server;

use crate::metrics::Stopped;
use llamactl_protocol::{Failure, Kind};

pub use metrics_models::Exposition;
pub use registration::routes;

fn sampling_stopped(_: Stopped) -> Failure {
    Failure::new(Kind::Stopping, "the daemon is stopping: no metrics are sampled any more")
}
