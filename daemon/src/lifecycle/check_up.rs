//! `llamactld --check-up`: what the state directory shows, where no daemon answers.

use super::args::Args;
use super::prepare::state_dir;
use crate::checkup::{self, RegistryIs};
use crate::store::registry::try_migration;
use llamactl_protocol::doctor::{Checked, sort};
use llamactl_protocol::{Failure, Kind};
use std::path::Path;

/// Looks at the state directory; a daemon may have it open. Blocks for as long as it takes.
///
/// # Errors
/// Nothing says where it is.
pub fn check_up(args: &Args) -> Result<Checked, Failure> {
    let dir = state_dir(args)?;
    if !dir.exists() {
        return Ok(Checked::default());
    }
    let (mut findings, not_checked) = checkup::of_state(&checkup::state(&dir, registry(&dir)));
    sort(&mut findings);
    Ok(Checked { findings, not_checked })
}

fn registry(dir: &Path) -> RegistryIs {
    let Err(error) = try_migration(dir) else { return RegistryIs::Whole };
    let failure = Failure::from(error);
    match failure.kind {
        // Nothing is said of what it holds by that.
        Kind::DiskFull | Kind::RegistryBusy | Kind::RegistryUnwritable | Kind::IoFailed => {
            RegistryIs::Unknown(format!("the registry was not looked through: {failure}"))
        }
        _ => RegistryIs::Damaged(failure),
    }
}
