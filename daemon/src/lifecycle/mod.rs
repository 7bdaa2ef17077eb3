//! One life of the daemon, from its arguments to its end or the exec of the next program.

pub mod args;
pub mod check_state;
pub mod detach;
pub mod handover;
mod lock;
mod notify;
pub mod own_log;
mod parts;
pub mod prepare;
pub mod program;
mod record;
pub mod serve;
mod signals;
mod watchdog;
