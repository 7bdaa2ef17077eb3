//! The wire: JSON-RPC 2.0, one JSON text per line, over a Unix socket.
//!
//! ```text
//!   socket     the path, the lock, the directory: one daemon, its own node
//!     │        keeper makes them again when they are deleted
//!     │
//!   listener   who connects (peer), how many (limits), why not
//!     │
//!   connection frame ─▶ message ─▶ dispatch ─▶ service ─▶ handler
//!     │                                           ╰─▶ subscription ◀─ source
//!   outbox     ◀─ answers and items, bounded in bytes ─╯
//!
//!   budget     what lines and answers may cost, of each user and of each connection
//! ```
//!
//! What a handler is and what it answers is decided elsewhere: handlers are plain async functions
//! registered in a [`Service`] by the protocol's types. What holds here, whoever connects:
//!
//! * A peer is identified, and refused if it must be, before its first byte is read.
//! * A user costs a bounded amount of memory, and waits for nobody else's. It is counted in bytes
//!   before they are spent; its parts are in [`Limits`], and each limit is answered with a kind of its
//!   own.
//! * No call keeps a thread of the runtime for long. Each time a call runs is measured, and more than
//!   ten milliseconds are counted and logged; what takes long by its nature runs beside the runtime.
//!   Of looks whose answer may be long one is on a thread at a time: the other is there for small calls.
//! * A slow reader is slowed itself. What its streams leave out meanwhile is counted and said.
//! * Calls that change state run in the order one connection sent them, and a later look of that
//!   connection sees them.
//! * No line, whatever its bytes, ends more than its own connection. A panic in a handler is an
//!   answer, a log line and a count.
//! * A clean stop finishes what runs, flushes what is queued, and says `end` to every stream.
//!
//! Ids, parameters, errors and the shapes of answers are jsonrpsee's types. The table of methods and
//! the line transport are ours: jsonrpsee's table brings a web server's crates for a map of
//! callbacks, and it has no line transport, but one that accepts calls without bound.

mod answer;
mod budget;
mod caller;
mod connection;
mod counters;
mod dispatch;
#[cfg(test)]
mod document;
mod frame;
mod hangup;
mod keeper;
mod limits;
mod listener;
mod message;
mod outbox;
mod peer;
mod refusal;
mod service;
mod session;
pub mod socket;
mod socket_error;
mod sources;
mod subscription;
mod taken;
#[cfg(test)]
mod tests;

pub use caller::Caller;
pub use counters::Counters;
pub use keeper::Keeper;
pub use limits::{Limits, TEST_MESSAGE_DEADLINE_VARIABLE};
pub use listener::Server;
pub use peer::{Authority, group_id};
pub use service::{Handler, Routes, Service};
pub use sources::{Broadcast, Latest};
pub use subscription::{Emission, Source};
