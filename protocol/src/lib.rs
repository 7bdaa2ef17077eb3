//! What crosses llamactld's socket, and nothing else.
//!
//! ```text
//!   llamactl, scripts ──▶ one JSON text per line ──▶ llamactld
//!                    ◀── replies and stream items ◀──
//! ```
//!
//! One type describes each method ([`Method`]) and each stream ([`Subscription`]): its name, its
//! parameters, its answer, who may call it. The daemon registers handlers by these types, the
//! client calls by them, and `docs/openrpc.json` is generated from them.
//!
//! This crate knows no database, no process and no terminal. Its types are the daemon's too: what a
//! model, a server or an event is to a client it is inside, and databases keep the same words and
//! JSON. So a field is added here only with a default that older texts are read with, and a word
//! that lies in databases is never renamed.

pub mod actor;
pub mod bounds;
pub mod cause;
pub mod configuration;
pub mod daemon;
pub mod defaults;
pub mod doctor;
pub mod environment;
pub mod event;
pub mod exchange;
pub mod failure;
pub mod hint;
pub mod library;
pub mod log;
pub mod method;
pub mod metrics;
pub mod model;
pub mod name;
pub mod options;
pub mod path;
pub mod place;
pub mod prose;
pub mod runtime;
pub mod series;
pub mod server;
pub mod stream;
pub mod totals;
pub mod warning;
mod word;

#[cfg(feature = "client")]
pub mod client;

pub use actor::Actor;
pub use failure::{Failure, Kind};
pub use hint::{Hint, Hints};
pub use method::{Access, Answer, Method, Subscription};
pub use path::WirePath;
pub use stream::Item;

/// The version of the wire contract. It rises when an old client would misread a new daemon;
/// adding a method, a field or a stream does not change it.
pub const PROTOCOL: u32 = 1;

/// The longest message either side sends or accepts, in bytes, without its line end.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMs = i64;
