//! `llamactld --restore [FILE]`: puts a copy of the registry into its place, while no daemon runs.

use super::args::Args;
use super::lock;
use super::prepare::state_dir;
use crate::store::registry::{self, Restored};
use llamactl_protocol::{Failure, Hint, Kind};
use std::path::Path;

/// Restores this copy, or the newest good one. What lay in its place is kept aside. Blocks.
///
/// # Errors
/// [`Kind::AlreadyRunning`] while a daemon has the registry open; what is wrong with the copy.
pub fn restore(args: &Args, file: Option<&Path>) -> Result<Restored, Failure> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let dir = state_dir(args)?;
    let _lock = lock::take(&dir).map_err(|failure| match failure.kind {
        Kind::AlreadyRunning => Failure { hints: Default::default(), ..failure }
            .hint(Hint::run(
                "stop it; its servers run on",
                ["llamactl", "daemon", "stop", "--keep-servers"],
            ))
            .hint(Hint::run(
                "or put back what it has open, where its file was replaced",
                ["llamactl", "daemon", "restore", "--running"],
            )),
        _ => failure,
    })?;
    Ok(registry::restore(&dir, file)?)
}
