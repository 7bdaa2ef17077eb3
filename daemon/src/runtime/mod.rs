//! llama-server builds: where one is, and what it can do.
//!
//! ```text
//!   $LLAMACTL_LLAMA_SERVER ─▶ PATH ─▶ usual places ─▶ probe (once per file) ─▶ RuntimeRecord
//! ```
//!
//! A build is looked at once: `--version`, `--help`, and whether it prints load progress for the
//! program that starts it. The answer is kept under the file's inode, size and time, so a binary
//! replaced on disk is noticed and looked at again.

mod find;
mod probe;

pub use find::{Found, find, library_path};
pub use probe::present;
