//! The life of a server as functions of values: nothing here does I/O or reads a clock.

pub mod admission;
pub mod device;
pub mod hang;
pub mod limits;
pub mod machine;
pub mod recovery;
pub mod restart;
pub(super) mod warning;
