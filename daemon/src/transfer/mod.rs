//! Models in and out of the registry.
//!
//! ```text
//!   TOML, INI, a command line, a Modelfile, the old dashboard ─▶ ImportSpec ─▶ located files ─▶ checked ─▶ Plan ─▶ one transaction
//!   the registry ─▶ TOML, INI
//! ```
//!
//! * Readers are functions from bytes to an `ImportSpec`; they know neither the registry nor a disk,
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
pub mod names;
pub mod omissions;
pub mod pasted;
mod plan;
pub mod position;
pub mod preset;
mod source;
pub mod spec;
pub mod toml_value;
