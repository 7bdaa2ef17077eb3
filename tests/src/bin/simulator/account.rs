//! The world's own account of failures, against which the policy's decisions are held.

use crate::model::{Model, Promise};
use crate::process::Ms;
use crate::world::{Flow, World, broken, milliseconds};
use llamactl_protocol::server::HEALTHY;
use llamactld::supervisor::core::driver::State;
use llamactld::supervisor::core::limits::Limits;
use llamactld::supervisor::core::machine::Phase;
use llamactld::supervisor::core::restart::{Curable, Ended, Mode};

/// The world's own account of a model's failures, kept beside the machine's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// Failures without a minute of health between them.
    pub(crate) in_a_row: u32,
    /// When the present run became ready.
    pub(crate) ready_at: Option<Ms>,
    /// When its health ended, though the process was still there.
    pub(crate) unhealthy_since: Option<Ms>,
    /// When the policy gave up a run that could have kept the promise, unless it has gone on since.
    pub(crate) given_up_at: Option<Ms>,
    /// Which process the present run has got.
    pub(crate) serial: Option<u32>,
    /// The process that ended had just been taken over.
    pub(crate) left_adopting: bool,
}

impl Model {
    /// A start was refused, or the daemon ends: nobody relies on its running any more.
    pub(crate) fn refused(&mut self) {
        if matches!(self.promise, Promise::Run { .. }) {
            self.promise = Promise::Nothing;
        }
    }
}

impl World {
    /// Holds the policy's decision about a failure against the world's own account.
    pub(crate) fn account_for(&mut self, at: usize, state: &State, ended: Ended) -> Flow {
        let (now, after) = (self.now, &state.life.phase);
        let model = &mut self.models[at];
        let account = &mut model.account;
        let healthy_until = account.unhealthy_since.unwrap_or(now);
        let was_healthy = account
            .ready_at
            .is_some_and(|ready| healthy_until.saturating_sub(ready) >= milliseconds(HEALTHY));
        account.in_a_row = if was_healthy { 1 } else { account.in_a_row + 1 };
        // The end of a process that was to be replaced is no answer.
        let serial = account.serial;
        let needed = match model.promise {
            Promise::Run { after_serial, .. } => after_serial,
            Promise::Nothing | Promise::Rest => 0,
        };
        let given_up = !matches!(after, Phase::Queued { .. } | Phase::Backoff { .. });
        account.given_up_at =
            (given_up && serial.is_none_or(|serial| serial > needed)).then_some(now);
        (account.ready_at, account.unhealthy_since) = (None, None);
        let (row, limits) = (account.in_a_row, Limits::of(&state.model.settings));
        let wanted = match limits.restart {
            Mode::Never => false,
            Mode::OnFailure => !ended.clean,
            Mode::Always => true,
        };
        let helps = match ended.curable {
            Curable::No => false,
            Curable::Once => row == 1,
            Curable::Yes => true,
        };
        let closing = state.life.closing;
        match after {
            Phase::Queued { .. } | Phase::Backoff { .. } => {
                self.counts.restarts += 1;
                if !wanted {
                    return broken!("restarted although `restart` is {:?}", limits.restart);
                }
                if !helps {
                    return broken!("restarted although that cannot help ({ended:?})");
                }
                if row >= limits.restart_limit {
                    return broken!("restarted after {row} failures in a row");
                }
                if (row == 1) != matches!(after, Phase::Queued { .. }) {
                    return broken!("failure {row} in a row, and then {after:?}");
                }
            }
            _ if closing || matches!(model.promise, Promise::Rest) => {}
            _ => {
                self.counts.given_up += 1;
                if wanted && helps && row < limits.restart_limit {
                    return broken!("given up after {row} failures in a row ({ended:?})");
                }
            }
        }
        Ok(())
    }
}
