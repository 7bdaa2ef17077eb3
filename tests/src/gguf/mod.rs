//! Writes small GGUF files that a real llama-server loads, so that tests need no download.
//!
//! ```text
//! corpus ── vocabulary ──> tokens ── bigram ──> what follows what ── weights ──> tensors ── file ──> model.gguf
//! ```
//!
//! A [`TinyModel`] speaks: it is a table of which word follows which in a short text about a llama and a server, dressed up
//! as a transformer. A token's embedding is a vector with a single 1. The layers add nothing to it, because their last
//! matrices are zero (they still cost their full computation and memory). So the output matrix finds that one 1 again, and
//! its column says which tokens come next. Such a model answers in readable sentences and ends its turn, the same way
//! every time at temperature 0.
//!
//! The weights are F16, never quantized: every CPU runs them. The same builder writes the same bytes every time.

mod bigram;
mod corpus;
mod f16;
mod file;
mod noise;
mod tiny_model;
mod vocabulary;
mod weights;

pub use tiny_model::{Preset, TinyModel};
