//! The life of a server as functions of values: nothing here does I/O or reads a clock.

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
