//! Models in and out of the registry.
//!
//! ```text
//!   TOML, INI, a command line, the old dashboard ─▶ Wish ─▶ located files ─▶ checked ─▶ Plan ─▶ one transaction
//!   the registry ─▶ TOML, INI
//! ```
//!
//! * Readers are functions from bytes to a `Wish`; they know neither the registry nor a disk,
//!   apart from the one that opens the old dashboard's database.
//! * A plan says what differs. A dry run answers it; carrying it out is all or nothing, and only
//!   if nobody changed meanwhile what it was made from.

mod check;
pub mod dashboard;
pub mod document;
pub mod edit;
pub mod export;
pub mod format;
pub mod import;
mod locate;
pub mod pasted;
mod plan;
pub mod preset;
mod source;
pub mod toml_value;
pub mod wish;
