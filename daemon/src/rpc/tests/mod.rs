//! The wire as a peer sees it.
pub(super) mod kit;
