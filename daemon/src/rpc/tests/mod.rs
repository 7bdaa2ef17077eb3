//! The wire as a peer sees it: bytes in, bytes out.

pub(super) mod kit;

mod calls;
mod limits;
mod listener;
mod streams;
