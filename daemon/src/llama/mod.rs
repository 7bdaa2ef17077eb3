//! The client of one llama-server, and its only poller.
//!
//! ```text
//!   look ─▶ GET /health ─────────────▶ Seen::{Unreachable, Loading, Healthy, Asleep}
//!       ╰─▶ GET /metrics, /slots ────▶ LlamaSample      (every 2 s at most, never asleep)
//!
//!   at work, or silent:  every 2 s
//!   quiet twice:         at the next sign of work, or after 30 s
//! ```
//!
//! A look every two seconds costs an idle llama-server more than the daemon: 7 wakeups and 0.6 ms of
//! a processor each second. Nothing is missed without: its counters are cumulative, and what begins
//! gives a sign. So a look is one connection, and one that finds a server quiet is followed by one
//! more, by which its rates are those of rest; then it is left alone.
//!
//! One poller per server, because asking is not free of consequences: llama-server's `/metrics`
//! averages are reset by each scrape, and asking `/slots` or `/metrics` more often than once a
//! second keeps it from noticing that the client of a non-streaming request went away.

mod client;
mod counters;
mod poll;
mod reported;

pub use client::{ApiKey, Client};
pub use counters::{Counters, Slot, parse_metrics};
pub use llama_http::Target;
pub use poll::{Looked, Pace, Poll, Seen, busy, in_force};
pub use reported::{ReportedSettings, reported};
