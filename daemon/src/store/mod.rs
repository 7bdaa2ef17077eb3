//! The databases: a generic SQLite worker, and the registry on it.
//!
//! Nothing outside this folder opens a database of ours.

pub mod registry;
mod worker;
