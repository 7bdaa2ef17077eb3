//! What is known of a run.

use super::super::hang::HangWatch;
use super::super::machine::{Moment, RunId};
use llamactl_protocol::Actor;
use llamactl_protocol::cause::Cause;
use llamactl_protocol::options::Settings;
use std::sync::Arc;

/// What is known of a run: planned, with a process, or over.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// Its id.
    pub id: RunId,
    /// The revision of the model's settings it has.
    pub revision: i64,
    /// When it was written; of a planned one, when it was planned.
    pub started_at_ms: i64,
    /// Its process.
    pub pid: Option<u32>,
    /// When it was first ready.
    pub ready_at_ms: Option<i64>,
    /// How long loading took.
    pub load_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: Option<i64>,
    /// Its process is there, or its end is not written yet.
    pub has_process: bool,
    /// The settings it was started with, without those of this run alone.
    pub settings: Arc<Settings>,
    /// The settings of this run alone.
    pub overrides: Arc<Settings>,
    /// Every program on this machine can use it.
    pub is_open: bool,
    /// The port of the run before, where another program has it now.
    pub port_before: Option<u16>,
    /// Whether the build has devices to offload to.
    pub build_has_devices: Option<bool>,
    /// The boot it was made in is the present one.
    pub is_of_this_boot: bool,
    /// It ended while no daemon was there to see it.
    pub died_unwatched: bool,
    /// An earlier daemon made its process.
    pub was_adopted: bool,
    /// When its process was made, on the clock that only goes forward.
    pub spawned_at: Option<Moment>,
    /// Requests at work when it was last asked.
    pub busy: Option<u32>,
    /// It has answered a request: its memory is what it will be.
    pub has_answered: bool,
    /// What the driver says it holds on GPUs.
    pub gpu_memory_bytes: Option<u64>,
    /// Whether it moves.
    pub hang: HangWatch,
    /// It has not answered for a while, though it is ready.
    pub silence: Option<Silence>,
    /// That it computes on the processor was told.
    pub told_on_cpu: bool,
    /// Who wanted it to end.
    pub stopped_by: Option<Actor>,
    /// Why it was ended, where nobody wanted that.
    pub fault: Option<Arc<Cause>>,
}

impl RunFacts {
    /// A run that is to come.
    #[must_use]
    pub fn planned(id: RunId, revision: i64, now_ms: i64) -> RunFacts {
        RunFacts {
            id,
            revision,
            started_at_ms: now_ms,
            pid: None,
            ready_at_ms: None,
            load_ms: None,
            ended_at_ms: None,
            has_process: false,
            settings: Arc::default(),
            overrides: Arc::default(),
            is_open: false,
            port_before: None,
            build_has_devices: None,
            is_of_this_boot: false,
            died_unwatched: false,
            was_adopted: false,
            spawned_at: None,
            busy: None,
            has_answered: false,
            gpu_memory_bytes: None,
            hang: HangWatch::default(),
            silence: None,
            told_on_cpu: false,
            stopped_by: None,
            fault: None,
        }
    }
}

/// A server that does not answer, in Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Since when.
    pub since_ms: i64,
    /// When it is ended for that, if it is.
    pub until_ms: Option<i64>,
}
