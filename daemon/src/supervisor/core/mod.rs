//! The life of a server as functions of values: nothing here does I/O or reads a clock.
//!
//! ```text
//!   Event ─▶ driver ─▶ [Action] ─▶ execute ─▶ hands of whoever runs it
//!              ╰▶ machine      which phase comes next
//!                  ├ restart   again, when, or never
//!                  ├ hang      whether a ready one still works
//!                  ├ recovery  what a new daemon does about it
//!                  ├ demand    whether a process is wanted
//!                  ╰ limits    the settings it goes by
//!   snapshot ─▶ Server: what is shown, with device and warning
//! ```

pub mod demand;
pub mod device;
pub mod driver;
pub mod execute;
pub mod hang;
pub mod limits;
pub mod machine;
pub mod recovery;
pub mod restart;
pub(super) mod warning;
