//! What only this command can see, daemon or not: facts in, findings out.
//!
//! ```text
//!   look ─▶ Facts ─▶ findings ──╮
//!   daemon.check ───────────────┼─▶ llamactl doctor
//!   llamactld --check-up ───────╯   where no daemon answers
//! ```

use crate::connection::Reach;
use llamactl_protocol::Failure;
use llamactl_protocol::doctor::{Finding, sort};
use serde::Serialize;

mod facts;
mod findings;
mod fix;
mod look;

pub(crate) use facts::DaemonIs;
pub(crate) use fix::fix;

/// What was found and done.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Examined {
    /// The worst first.
    pub(crate) findings: Vec<Finding>,
    /// What could not be looked at.
    pub(crate) not_checked: Vec<String>,
    /// What was mended.
    pub(crate) fixed: Vec<String>,
    /// What was to be mended and could not be.
    pub(crate) not_fixed: Vec<String>,
}

/// Looks at everything; also how the daemon is.
///
/// # Errors
/// Nothing says where the daemon would be.
pub(crate) async fn examine(reach: &Reach) -> Result<(Examined, DaemonIs), Failure> {
    let (facts, checked) = look::look(reach).await?;
    let mut findings = findings::findings(&facts);
    findings.extend(checked.findings);
    sort(&mut findings);
    let examined = Examined { findings, not_checked: checked.not_checked, ..Examined::default() };
    Ok((examined, facts.daemon))
}
