//! Does nothing: the floor under the wall time of any Rust program.

fn main() {}
