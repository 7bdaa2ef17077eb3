//! One life of the daemon, from its arguments to its end or the exec of the next program.
//!
//! ```text
//!   args ─▶ prepare ─▶ detach ─▶ own_log ─▶ serve ── an order ─▶ end
//!             │ lock, program, handover      │ parts, signals     ╰▶ handover ─▶ exec
//!             ╰ or why not, in the foreground╰ watchdog, record, notify
//! ```
//!
//! What can be refused is refused in `prepare`, before the fork, the log and the first thread. Here the
//! parts are joined; what a part does, it does in its own room, and nothing about a server is decided
//! here.

mod activation;
pub mod args;
pub mod check_state;
pub mod check_up;
pub mod detach;
pub mod handover;
mod journal;
mod lock;
mod notify;
pub mod own_log;
mod parts;
pub mod prepare;
pub mod program;
mod record;
pub mod restore;
pub mod serve;
mod signals;
mod watchdog;
