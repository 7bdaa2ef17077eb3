//! `llamactld --check-state DIR`: whether this program can open the registry of a daemon that runs.
//!
//! ```text
//!   daemon ── executes the program that is to replace it ─▶ --check-state DIR
//!          ◀── one line of JSON, or the refusal ──────────── migrates a copy, and opens it
//! ```
//!
//! After the exec there is no way back: a program that then cannot open the registry would leave no
//! daemon at all.

use crate::store::registry::try_migration;
use llamactl_protocol::Failure;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What a program answers about a registry. Other versions of it read this: fields are only added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReport {
    /// The registry's version now.
    pub from: usize,
    /// The version this program brings it to.
    pub to: usize,
    /// Where a copy of it from before is kept then; `None` where nothing changes.
    pub copy: Option<PathBuf>,
}

/// Tries the registry in a state directory out, on a copy. Blocks for as long as that takes.
///
/// # Errors
/// Why this program cannot use it.
pub fn check_state(dir: &Path) -> Result<StateReport, Failure> {
    let report = try_migration(dir)?;
    let changes = 0 < report.from && report.from < report.to;
    let copy = changes.then(|| dir.join(format!("registry.db.v{}", report.from)));
    Ok(StateReport { from: report.from, to: report.to, copy })
}
