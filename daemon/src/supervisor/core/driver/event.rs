//! What can happen to a server, from wherever it comes.

use super::super::hang::Look;
use super::super::machine::RunId;
use super::super::restart::Curable;
use super::State;
use super::action::Action;
use super::begin::Beginning;
use crate::arbiter::Orders;
use crate::llama::Seen;
use crate::logs::classify::Exit;
use llamactl_protocol::cause::Cause;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::{Endpoint, InForce};
use llamactl_protocol::{Actor, Failure};
use std::sync::Arc;

/// Names a request until it is answered.
pub type RequestId = u64;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// What the registry and the system tell of it: the first event of every task.
    Begin(Box<Beginning>),
    /// Somebody wants it to run.
    Start {
        /// To be answered.
        request: RequestId,
        /// Settings for its runs alone.
        overrides: Settings,
        /// Who.
        by: Actor,
        /// Whether a start is possible.
        checked: Checked,
    },
    /// Somebody wants a new process with the settings of now.
    Restart {
        /// To be answered.
        request: RequestId,
        /// Settings for its runs alone.
        overrides: Settings,
        /// Who.
        by: Actor,
        /// Whether a start is possible.
        checked: Checked,
    },
    /// Somebody wants it not to run.
    Stop {
        /// To be answered.
        request: RequestId,
        /// Who.
        by: Actor,
    },
    /// The daemon ends, and the process with it.
    Shutdown {
        /// To be answered when it has begun.
        request: RequestId,
        /// Who ends the daemon.
        by: Actor,
    },
    /// The model is to be taken out of the registry.
    Remove {
        /// To be answered.
        request: RequestId,
        /// Who.
        by: Actor,
    },
    /// The model was changed.
    Model(Arc<Model>),
    /// The settings for all models were changed.
    Defaults(Arc<Settings>),
    /// What the arbiter says holds now.
    Orders(Orders),
    /// What a run needs is ready.
    Prepared(Box<Prepared>),
    /// It cannot be made ready.
    NotPrepared {
        /// The run.
        run: RunId,
        /// Why.
        cause: Cause,
        /// Whether another try may help.
        curable: Curable,
    },
    /// The process was made.
    Spawned {
        /// The run.
        run: RunId,
        /// The process.
        pid: Option<u32>,
    },
    /// The process could not be made.
    NotSpawned {
        /// The run.
        run: RunId,
        /// Why.
        cause: Cause,
        /// Whether another try may help.
        curable: Curable,
    },
    /// `/health` was asked of a server that is not ready yet.
    Health(Seen),
    /// A ready server was looked at.
    Looked {
        /// What `/health` said.
        seen: Seen,
        /// What it does.
        look: Look,
        /// What the system says its process does.
        process_state: Option<char>,
    },
    /// It said that it listens.
    Announced,
    /// Its load moved: output, memory, reading.
    Moved,
    /// It said how far its load is.
    Progress {
        /// What is being loaded.
        stage: Option<String>,
        /// How far that is, 0 to 1.
        ratio: Option<f64>,
    },
    /// It said what it uses.
    InForce(InForce),
    /// So many requests are at work; `None` when it does not say. Seen while it drains.
    Busy(Option<u32>),
    /// What the driver says a run's process holds on GPUs.
    GpuMemory {
        /// The run.
        run: RunId,
        /// How much; `None`: nobody can say.
        bytes: Option<u64>,
    },
    /// The timer ran out.
    Timer,
    /// The process has ended.
    Exited,
    /// Why it ended.
    Explained {
        /// The run.
        run: RunId,
        /// What was found out.
        explanation: Explanation,
    },
    /// An action could not be done.
    Failed(Box<Failed>),
}

/// Whether a start is possible, as it was found before the task was asked.
#[derive(Clone, Debug)]
pub enum Checked {
    /// A process is there, or about to be made, and nobody looked.
    NotNeeded,
    /// It is.
    Fits,
    /// It is not.
    Unfit(Failure),
}

/// What a run needs, ready to be made.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The run.
    pub run: RunId,
    /// The model as it is now.
    pub model: Arc<Model>,
    /// The settings it gets, without those of this run alone.
    pub settings: Arc<Settings>,
    /// Where it will listen.
    pub endpoint: Endpoint,
    /// Every program on this machine can use it.
    pub is_open: bool,
    /// The port of its last run, where another program has it now.
    pub port_before: Option<u16>,
    /// Whether the build has devices to offload to.
    pub build_has_devices: Option<bool>,
}

/// What was found out about the end of a process.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    /// How it ended.
    pub exit: Exit,
    /// The end of what it wrote, oldest first.
    pub tail: Vec<String>,
    /// Whether the kernel killed one of its group for want of memory; `None`: not known.
    pub oom_kill_counted: Option<bool>,
    /// When it last wrote anything; it lived then.
    pub last_written_ms: Option<i64>,
    /// Whether another program listens at its address.
    pub address_taken: bool,
    /// The model and the defaults as they were read after the end, where that was possible: what was set
    /// before it holds for what becomes of it, although the feed may not have told of it yet.
    pub now: Option<(Arc<Model>, Arc<Settings>)>,
}

/// An action that could not be done.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The action.
    pub action: Action,
    /// Why not.
    pub failure: Failure,
    /// The state before the event that it came from.
    pub before: State,
    /// What was to be done after it.
    pub rest: Vec<Action>,
}
