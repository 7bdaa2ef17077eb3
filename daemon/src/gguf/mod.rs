//! GGUF files: bytes in, facts about a model out.
//!
//! ```text
//! path ── inspect ──> each part: open, size ── header ──> metadata, tensor totals ── facts ──> Facts
//!                                                 │
//!                                              source   one 64 KiB buffer, every length checked, a read budget
//! ```
//!
//! - Only `inspect` touches the file system; [`read_header`] works on any `Read + Seek` and is what a fuzzer calls.
//! - No length, count or offset in a file is believed: each is compared with the file's size and with a limit no real model
//!   reaches before anything is done with it. Nothing is allocated by a number from a file.
//! - At most 64 MiB of a file is read and less than 1 MiB is held, whatever it says. Tensor data is never read; that it is
//!   all there is told from the tensor list and the file's size.
//! - Every failure is a [`GgufError`]: the path, a sentence, a stable `kind`, a hint.

mod error;
mod facts;
mod file_type;
mod ggml_type;
mod header;
mod inspect;
mod lookalike;
mod metadata;
mod projector;
mod source;
pub mod split;
mod tensors;
mod value;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

pub use error::{GgufError, Problem, join};
pub use facts::{Facts, Kind, Part};
pub use file_type::name as file_type_name;
pub use header::{Header, read_header};
pub use inspect::{inspect, inspect_alone};
pub use lookalike::Lookalike;
pub use projector::{choose as choose_projector, is_projector};
pub use value::Text;
