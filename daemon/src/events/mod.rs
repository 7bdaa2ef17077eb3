//! What happened, in plain words. The events themselves are kept by the store.

pub mod why;
