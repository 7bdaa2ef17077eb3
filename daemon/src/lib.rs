//! llamactld, as a library with a thin `main`.
//!
//! ```text
//!   main ─▶ lifecycle ─▶ rpc, the wire
//!               ╰──────▶ api ─▶ supervisor ─▶ arbiter, llama, logs
//!                         │         ▼
//!                         ├─▶ transfer, library ─▶ models ─▶ runtime ─▶ store
//!                         ╰─▶ metrics, why
//! ```
//!
//! It owns the registry, the llama-server processes, the metrics loop and the logs, and serves
//! JSON-RPC on a Unix socket. It knows nothing of terminals, tables or colours; what it says to
//! people it says in [failures](llamactl_protocol::Failure) and events.

pub mod api;
pub mod arbiter;
pub mod checkup;
pub mod clock;
pub mod config;
pub mod exporter;
pub mod failpoint;
pub mod gguf;
pub mod library;
pub mod lifecycle;
pub mod llama;
pub mod logs;
pub mod metrics;
pub mod models;
pub mod os;
pub mod rpc;
pub mod runtime;
pub mod store;
pub mod supervisor;
pub mod transfer;
pub mod why;
