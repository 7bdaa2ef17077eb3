//! Why a model's process is wanted.

use llamactl_protocol::server::{Desired, DesiredState};

/// Whether a process is wanted: because somebody said so, or because somebody uses it.
#[must_use]
pub fn wants_process(desired: Option<DesiredState>, leased: bool) -> bool {
    desired == Some(DesiredState::Running) || leased
}

/// Whether a stop applies to a run: it does to every run that was begun before it. What was begun
/// later was demanded by somebody else, a lease say, and is none of its business.
#[must_use]
pub fn stops(desired: &Desired, run_started_at_ms: i64) -> bool {
    desired.state == DesiredState::Stopped && desired.at_ms >= run_started_at_ms
}
