//! What is wrong, or may become so: facts in, findings out.
//!
//! ```text
//!   state directory ─▶ look ──╮
//!   rooms ─▶ api/daemon_check ┴─▶ Facts ─▶ findings ─▶ [Finding]     llamactl doctor
//! ```
//!
//! A daemon answers with both; `llamactld --check-up`, which needs none, with what the state directory shows.

mod facts;
mod findings;
mod look;
mod untended;

pub use facts::{CopyFacts, Disk, Machine, ModelFacts, RegistryIs, StateFacts, Stranger};
pub use findings::{of_machine, of_state};
pub use look::{limits, nvidia_cards, state, strangers};
pub use untended::OtherServers;
