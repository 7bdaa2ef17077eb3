//! The live screen of `llamactl top`.
//!
//! ```text
//!   keys ────╮
//!   daemon ──┼─▶ Event ─▶ Top::step ─▶ Wish ─▶ sources (start, stop, why, …)
//!   clock ───╯              │
//!                           ╰─▶ frame::draw ─▶ a buffer ─▶ what differs ─▶ the terminal
//! ```
//!
//! `state`, `history` and `frame` are pure: values in, values out. `sources` asks the daemon,
//! `terminal` takes the terminal and gives it back, and `commands/top.rs` joins them.

pub(crate) mod frame;
pub(crate) mod history;
pub(crate) mod sources;
pub(crate) mod state;
pub(crate) mod terminal;

#[cfg(test)]
pub(crate) mod tests;
