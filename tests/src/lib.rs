//! The test kit: everything an end-to-end test needs besides the test itself.
//!
//! ```text
//!   Home ──▶ a directory of its own, an environment built from nothing
//!    ├─ Daemon     a real llamactld on it: start, SIGKILL, SIGTERM, start again
//!    ├─ Invocation a real llamactl: its output, its exit status, its lines as they come, a terminal
//!    ├─ Tmux       a terminal with a shell, worked from the keyboard
//!    ├─ Rpc        a raw client of the socket, for what llamactl would never send
//!    ├─ Remote     two homes and an sshd between them
//!    ├─ TestModel  small GGUF files that a real llama-server loads
//!    ├─ Build      a llama-server that answers questions only when it is let
//!    └─ drop       stops the daemon, and fails the test if a process or a listener is left
//! ```
//!
//! The llama-server is the real one (`packaging/provide-llama-server`), except in homes made
//! [`Home::with_fake_llama_server`]: the fake does what the real one cannot be made to do on
//! demand.
//!
//! The kit knows llamactl from outside: executables, arguments, sockets and files. It never links
//! the daemon or the CLI. `llamactl` and `llamactld` must have been built into the target
//! directory the tests run from (`cargo build`), because cargo builds no other package's
//! executables for a test.
//!
//! A test that needs a program or a privilege this machine may lack says so with [`need!`] and is
//! listed as skipped below `target/test-skips`; with `LLAMACTL_REQUIRE_TOOLS=1` it fails instead.
//! `LLAMACTL_TEST_KEEP=1` keeps the home of a test that failed.

// A kit exists to fail tests loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

pub mod artifacts;
pub mod build;
pub mod cgroup;
pub mod cli;
pub mod daemon;
pub mod dashboard;
pub mod fake_nvml;
pub mod faulty_disk;
pub mod gguf;
pub mod home;
pub mod http;
pub mod llama;
pub mod models;
pub mod mount;
pub mod pages;
pub mod processes;
pub mod registry;
pub mod remote;
pub mod rpc;
pub mod set_clock;
pub mod skip;
pub mod specification;
pub mod terminal;
pub mod tmux;
pub mod user;
pub mod wait;
pub mod wrapper;

pub use build::Build;
pub use cli::{Follower, Invocation, Output};
pub use daemon::Daemon;
pub use home::Home;
pub use models::TestModel;
pub use remote::Remote;
pub use rpc::{Refusal, Rpc, Stream};
pub use tmux::Tmux;
pub use wait::eventually;

/// How long anything that should happen soon may take before a test gives up. It is far above
/// what a loaded machine needs, so that reaching it means a fault.
pub const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);
