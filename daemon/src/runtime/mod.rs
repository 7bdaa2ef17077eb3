//! llama-server builds: where they are, what they can do, what they are called.
//!
//! ```text
//!   a name ─▶ its path ─────────────────────────────────╮
//!   system ─▶ $LLAMACTL_LLAMA_SERVER, PATH, usual places ─▶ inspect ─▶ probe (once per file)
//!                                                           whose file?  help, version, devices
//! ```
//!
//! A llama-server is a file of its own, or a part of `llama`, where a word before its arguments leads to
//! it. A build is looked at once. The answer is kept under the file's inode, size and time, so a binary
//! replaced on disk is noticed and looked at again. A file that others could write is never run.

mod add;
mod devices;
mod entries;
mod find;
mod help;
mod inspect;
mod library_path;
mod probe;
mod refresh;
mod resolve;
mod verdict;

pub use add::{add, variables};
pub use entries::{detail, entries, entries_asked, entry};
pub use find::find;
pub use help::options_in;
pub use inspect::{Found, inspect, is_replaced, is_surely_unchanged};
pub use library_path::library_path;
pub use refresh::{refresh, refused_by};
pub use resolve::{Place, look_at, resolve, resolve_at, with_option};
pub use verdict::refusals;

/// The name of the build that is found without being told.
pub const SYSTEM: &str = "system";
