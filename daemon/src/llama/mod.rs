//! The client of one llama-server, and its only poller.
//!
//! ```text
//!   poll() ─▶ GET /health ─────────────▶ Seen::{Unreachable, Loading, Healthy, Asleep}
//!         ╰─▶ GET /slots, /metrics ────▶ LlamaSample      (every 2 s at most, never asleep)
//! ```
//!
//! One poller per server, because asking is not free of consequences: llama-server's `/metrics`
//! averages are reset by each scrape, and asking `/slots` or `/metrics` more often than once a
//! second keeps it from noticing that the client of a non-streaming request went away.

mod client;
mod counters;
mod poll;
mod reported;

pub use client::{ApiKey, Client};
pub use llama_http::Target;
pub use poll::{Looked, Pace, Poll, Seen, busy, in_force};
pub use reported::{ReportedSettings, reported};
