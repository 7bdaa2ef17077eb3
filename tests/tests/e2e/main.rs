//! End-to-end tests: the real daemon, the real CLI, a real llama-server; one file per capability.
//! They are one executable so that they are linked once, and run in parallel.

// A test exists to fail loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]

mod adopt;
mod bounds;
mod broken_tasks;
mod clocks;
mod crashes;
mod daemon_life;
mod disks;
mod docs;
mod doctor;
mod draining;
mod environments;
mod events;
mod exchange;
mod faults;
mod files;
mod followers;
mod gpus;
mod hints;
mod histories;
mod hostile;
mod instance;
mod kept;
mod kills;
mod libraries;
mod library;
mod limits;
mod logs;
mod metrics;
mod old_files;
mod packages;
mod pages;
mod pipes;
mod private;
mod prometheus;
mod queue;
mod readme;
mod records;
mod refused_starts;
mod registry;
mod remote;
mod removals;
mod report;
mod runtime;
mod script;
mod scripting;
mod secrets;
mod serve_first;
mod settings;
mod shells;
mod socket;
mod start;
mod structure;
mod supervision;
mod top;
mod unanswered;
mod unified;
mod variables;
mod why;
mod widths;
