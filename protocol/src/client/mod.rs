//! The line client, over any byte stream.
//!
//! ```text
//!   typed calls:  Client ── ids matched to answers ── lines ── stream
//!   followers:    Follow ── one stream's items ────── lines ── stream
//! ```
//!
//! Two ways because they want opposite things. Calls share a connection and are answered in any
//! order. Followers want back-pressure: each reads a connection of its own as fast as its reader
//! does, so a slow pipe behind `--follow` slows the daemon's side of that one stream, which then
//! says what was missed.

mod at_once;
mod call;
mod follow;
mod refusal;

pub use call::{CallError, Client, connect, connect_at_once, read, versions_differ, written};
pub use follow::{Follow, Items, follow, follow_raw};
