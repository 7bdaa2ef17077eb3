//! What the llama-server processes write.
//!
//! ```text
//! llama-server ──O_APPEND──> <run>.stderr.log ──┬─> tail   lines as they come ─> runs  for people
//!              ──O_APPEND──> <run>.stdout.log ──┤         └─ progress  "loading 40 %", "ready"
//!                                  ^            └─> tail_lines ─> classify   why it ended
//!                                  │
//!                        file::trim frees the head; index says which offset was written when
//! ```
//!
//! Invariants:
//! - Nothing but the child writes a log, and no pipe ties the child to us.
//! - A byte keeps its offset for ever, so an offset is a cursor that survives restarts. (Where the
//!   file system cannot free a head, the file is emptied instead, and that is said.)
//! - What is above the floor is complete: no line is lost or doubled.
//! - Whatever a child writes, a reader's memory is bounded.
//!
//! `filter`, `line`, `lines`, `split`, `progress`, `classify`, `rules` and `cures` are functions of values; `file`, `last_lines`,
//! `tail`, `watch` and the file half of `index` do the reading and writing.

pub mod classify;
pub mod cures;
pub mod file;
pub mod filter;
pub mod index;
pub mod last_lines;
pub mod line;
pub mod lines;
pub mod progress;
pub mod rules;
pub mod runs;
pub mod split;
pub mod tail;
pub mod watch;
