//! The line client, over any byte stream.
//!
//! ```text
//!   typed calls:  Client ── jsonrpsee's async client ── line transport ── stream
//!   followers:    Follow ── raw lines ─────────────────────────────────── stream
//! ```
//!
//! Two ways because they want opposite things. Calls want ids matched to answers, which jsonrpsee
//! does. Followers want back-pressure: jsonrpsee's client drops a subscription whose reader is
//! slow, so a follower reads lines itself, and a slow pipe behind `--follow` slows the daemon's
//! side of that one stream, which then says what was missed.

mod call;
mod follow;
mod transport;

pub use call::{Client, connect};
pub use follow::{Follow, Items, follow, follow_raw};
