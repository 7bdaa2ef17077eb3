//! One life of the daemon, from its arguments to its end or the exec of the next program.

pub mod args;
pub mod detach;
pub mod handover;
pub mod own_log;
pub mod serve;
mod service_manager;
mod state_lock;
mod watchdog;
