//! What only this command can see, daemon or not: facts in, findings out.
//!
//! ```text
//!   look ─▶ Facts ─▶ findings ──╮
//!   daemon.check ───────────────┼─▶ llamactl doctor
//!   llamactld --check-up ───────╯   where no daemon answers
//! ```

mod facts;
mod findings;
mod fix;
mod look;

pub(crate) use facts::DaemonIs;
pub(crate) use findings::findings;
pub(crate) use fix::fix;
pub(crate) use look::look;
