//! What is to be done, as values.

use super::super::machine::{Phase, RunId, StopStage};
use super::event::RequestId;
use crate::arbiter::ToArbiter;
use llamactl_protocol::cause::Cause;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::{Demand, Desired};
use llamactl_protocol::{Actor, Failure};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Something to be done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Write this; what stands behind it in the list waits until it is on disk.
    Write(Record),
    /// Answer a request.
    Answer(RequestId, Reply),
    /// Let everybody see the state as it is now.
    Show,
    /// Tell the arbiter.
    Ask(ToArbiter),
    /// Make ready, beside the task, what the process of this run needs. The answer is
    /// [`Event::Prepared`](super::Event::Prepared) or `NotPrepared`.
    Prepare(RunId),
    /// Make the process of this run. The answer is `Spawned` or `NotSpawned`.
    Spawn(RunId),
    /// Watch the process of an earlier daemon.
    Attach(RunId),
    /// Ask the process to end.
    Terminate,
    /// Kill the process and its group.
    Kill,
    /// Tell those who watch the process what to look for.
    Observe(Attention),
    /// Write what the process takes of memory.
    Measure(Moment),
    /// Find out, beside the task, why the process ended. The answer is `Explained`.
    Explain(RunId),
    /// Set the one timer, in place of what it was; `None`: there is none.
    Timer(Option<Duration>),
    /// The model is gone, and with it the task.
    Retire,
}

/// Something to be written.
#[derive(Clone, Debug)]
pub enum Record {
    /// What is desired.
    Desired {
        /// What, by whom, since when.
        desired: Desired,
        /// It is for another process than the one that is there, or was.
        restart_requested: bool,
        /// What was set for its runs alone.
        overrides: Arc<Settings>,
    },
    /// A start that was refused before there was a process.
    Refusal {
        /// Why.
        cause: Arc<Cause>,
        /// What is told of it.
        event: EventDraft,
    },
    /// A run that is about to get its process.
    Run {
        /// The run.
        run: RunId,
        /// What demanded it.
        demand: Demand,
        /// Who asked.
        by: Actor,
        /// When.
        started_at_ms: i64,
        /// Failures in a row before it.
        failures: u32,
        /// Restarts by policy since somebody last asked.
        restarts: u32,
        /// What is told of it.
        event: EventDraft,
    },
    /// Which process a run is.
    Process(RunId),
    /// A run is ready.
    Ready {
        /// The run.
        run: RunId,
        /// When.
        at_ms: i64,
        /// How long loading took.
        load_ms: u64,
        /// What is told of it.
        event: EventDraft,
    },
    /// A run has ended, and this was decided about it.
    End {
        /// The run.
        run: RunId,
        /// Why.
        cause: Arc<Cause>,
        /// Failures in a row up to it.
        failures: u32,
        /// Restarts by policy, what follows included.
        restarts: u32,
        /// When it will be started again.
        restart_at_ms: Option<i64>,
        /// What is told of it.
        event: EventDraft,
    },
    /// Something that belongs to no other record.
    Event(EventDraft),
    /// The model is taken out of the registry.
    Removal {
        /// Who asked.
        by: Actor,
    },
}

/// An event of a model's server, still without number and time.
#[derive(Clone, Debug, PartialEq)]
pub struct EventDraft {
    /// What happened.
    pub kind: EventKind,
    /// The run it concerns.
    pub run: Option<RunId>,
    /// Who did it, or asked for it.
    pub by: Actor,
    /// One sentence.
    pub message: String,
    /// Particulars: `from`, `to`, `cause`, …
    pub details: Value,
}

/// What a request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A start, a stop or a restart was accepted.
    Accepted {
        /// The run that carries it out, or that is stopped.
        run_id: Option<RunId>,
        /// Whether anything is done because of it.
        changed: bool,
        /// Whether what is desired is on disk.
        durable: bool,
    },
    /// The end of the daemon has reached it.
    Begun,
    /// The model was taken out of the registry.
    Removed,
    /// It was not done.
    Refused(Failure),
}

/// When memory is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The server has become ready.
    Ready,
    /// It has answered its first request.
    Answered,
    /// It has ended: what was its peak.
    Ended,
}

/// What those who watch a process are to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Is it ready?
    Starting,
    /// How is it?
    Ready,
    /// Is it idle?
    Draining,
    /// Nothing: it was told to end.
    Ending,
}

impl Attention {
    /// What to look for in a phase.
    #[must_use]
    pub fn of(phase: &Phase) -> Attention {
        match phase {
            Phase::Starting { .. } | Phase::Adopting { .. } => Attention::Starting,
            Phase::Ready { .. } => Attention::Ready,
            Phase::Stopping { stage: StopStage::Draining, .. } => Attention::Draining,
            Phase::Stopped
            | Phase::Failed
            | Phase::Queued { .. }
            | Phase::Backoff { .. }
            | Phase::Preparing { .. }
            | Phase::Stopping { .. }
            | Phase::Stuck { .. }
            | Phase::Ended { .. } => Attention::Ending,
        }
    }
}
