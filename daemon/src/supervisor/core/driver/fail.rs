//! What becomes of an event when one of its actions could not be done.
//!
//! | could not be | then |
//! |---|---|
//! | written: a start or a restart that is desired, a removal | nothing was done: all is as before, and who asked is told |
//! | written: a stop that is desired | it goes on, and the answer says that it is not on disk |
//! | written: a run | the start failed; a restart by policy goes on where only the disk is in the way |
//! | written: anything else | it goes on: a record must not keep a process from being looked after |
//! | watched: a process that was found | it is made anew, or ended where it is not wanted |

use super::super::machine::{self, RunId};
use super::super::restart::Curable;
use super::Turn;
use super::action::{Action, Record, Reply};
use super::ask::cause_of;
use super::event::Failed;
use llamactl_protocol::server::DesiredState;
use llamactl_protocol::{Actor, Failure, Kind};

impl Turn<'_> {
    pub(super) fn failed(&mut self, failed: Failed) {
        let Failed { action, failure, before, rest } = failed;
        match action {
            Action::Write(Record::Desired { desired, .. }) => {
                // A model that is gone has nothing to stop.
                let goes_on =
                    desired.state == DesiredState::Stopped && failure.kind != Kind::ModelNotFound;
                match goes_on {
                    true => self.actions = rest.into_iter().map(not_durable).collect(),
                    false => self.undo(before, failure, rest),
                }
            }
            Action::Write(Record::Removal { .. }) => self.undo(before, failure, rest),
            Action::Write(Record::Run { run, by, .. }) => {
                // What ran before runs again, written or not: a full disk must not stop a server.
                match is_the_disks(failure.kind) && by == Actor::Policy {
                    true => self.actions = rest,
                    false => self.not_written(&run, &failure),
                }
            }
            Action::Attach(_) => {
                self.actions = rest;
                let wanted = self.state.life.desired == Some(DesiredState::Running);
                let next = self.context.next_run.clone();
                self.step(match wanted {
                    true => machine::Event::Restart(next),
                    false => machine::Event::Stop,
                });
            }
            _ => self.actions = rest,
        }
    }

    /// All is as it was before, and those who would have been answered are told why.
    fn undo(&mut self, before: super::State, failure: Failure, rest: Vec<Action>) {
        let mut asked: Vec<_> = rest
            .into_iter()
            .filter_map(|action| match action {
                Action::Answer(request, _) => Some(request),
                _ => None,
            })
            .collect();
        let waited = before.waiting.iter().map(|(request, _)| *request);
        let new = self.state.waiting.iter().map(|(request, _)| *request);
        let waited: Vec<_> = waited.collect();
        asked.extend(new.filter(|request| !waited.contains(request)));
        self.state = before;
        self.show();
        for request in asked {
            self.push(Action::Answer(request, Reply::Refused(failure.clone())));
        }
    }

    fn not_written(&mut self, run: &RunId, failure: &Failure) {
        let curable = curable(failure);
        let cause = cause_of(failure, self.context.now_ms);
        self.not_spawned(run, cause, curable);
    }
}

/// Whether another try may help where this stood in the way of a start.
#[must_use]
pub fn curable(failure: &Failure) -> Curable {
    match failure.kind {
        Kind::Internal | Kind::IoFailed | Kind::StoreFailed | Kind::RegistryUnwritable => {
            Curable::Yes
        }
        _ => Curable::No,
    }
}

/// Whether what a record tells of is done although it could not be written. The registry keeps such a
/// record until it can be.
#[must_use]
pub fn goes_on_unwritten(record: &Record) -> bool {
    match record {
        Record::Desired { desired, .. } => desired.state == DesiredState::Stopped,
        Record::Removal { .. } | Record::Run { .. } => false,
        Record::Refusal { .. }
        | Record::Process(_)
        | Record::Ready { .. }
        | Record::End { .. }
        | Record::Event(_) => true,
    }
}

/// Whether only the disk, or what somebody did to the registry's file, is in the way.
fn is_the_disks(kind: Kind) -> bool {
    let kinds = [
        Kind::DiskFull,
        Kind::RegistryBusy,
        Kind::RegistryGone,
        Kind::RegistryReplaced,
        Kind::RegistryUnwritable,
    ];
    kinds.contains(&kind)
}

fn not_durable(action: Action) -> Action {
    match action {
        Action::Answer(request, Reply::Accepted { run_id, changed, .. }) => {
            Action::Answer(request, Reply::Accepted { run_id, changed, durable: false })
        }
        other => other,
    }
}
