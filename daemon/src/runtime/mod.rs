//! llama-server builds: where they are, what they can do, what they are called.
//!
//! ```text
//!   a name ─▶ its path ─────────────────────────────────╮
//!   system ─▶ $LLAMACTL_LLAMA_SERVER, PATH, usual places ─▶ inspect ─▶ probe (once per file)
//!                                                           whose file?  help, version, devices
//! ```
//!
//! A build is looked at once. The answer is kept under the file's inode, size and time, so a binary
//! replaced on disk is noticed and looked at again. A file that others could write is never run.

mod add;
mod devices;
mod entries;
mod find;
mod help;
mod inspect;
mod probe;
mod refresh;
mod resolve;
mod verdict;

pub use add::{add, variables};
pub use entries::{detail, entries, entry};
pub use find::{find, library_path};
pub use help::options_in;
pub use inspect::{Found, inspect, is_replaced};
pub use refresh::{refresh, refused_by};
pub use resolve::{Place, resolve, resolve_at};
pub use verdict::refusals;

/// The name of the build that is found without being told.
pub const SYSTEM: &str = "system";
