//! How much happened, to see that histories are worth playing.

use llamactl_protocol::server::State;
use llamactld::supervisor::core::machine::Event;
use std::fmt;

const STATES: [State; 11] = [
    State::Stopped,
    State::Queued,
    State::Starting,
    State::Loading,
    State::Ready,
    State::Sleeping,
    State::Stopping,
    State::Backoff,
    State::Failed,
    State::Stuck,
    State::Adopting,
];

const EVENTS: [&str; 15] = [
    "start",
    "stop",
    "restart",
    "shutdown",
    "adopt",
    "resume",
    "admitted",
    "not made",
    "health",
    "announced",
    "progress",
    "idle",
    "hung",
    "timer",
    "exit",
];

/// The place of an event in the table of what was met.
fn column(event: &Event) -> usize {
    match event {
        Event::Start(_) => 0,
        Event::Stop => 1,
        Event::Restart(_) => 2,
        Event::Shutdown => 3,
        Event::Adopt { .. } => 4,
        Event::Resume { .. } => 5,
        Event::Admitted => 6,
        Event::SpawnFailed { .. } => 7,
        Event::Health(_) => 8,
        Event::Announced => 9,
        Event::Progress => 10,
        Event::Idle => 11,
        Event::Hung => 12,
        Event::Timer => 13,
        Event::Exited { .. } => 14,
    }
}

/// The first of the events are what clients ask for.
const ASKS: usize = 3;

/// What happened, how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Things that happened.
    pub(crate) steps: u64,
    /// Processes that were made.
    pub(crate) processes: u64,
    /// Restarts that the policy decided.
    pub(crate) restarts: u64,
    /// Runs that it gave up.
    pub(crate) given_up: u64,
    /// Daemons that were killed.
    pub(crate) killed: u64,
    /// Decisions of new daemons: kept, stopped, renewed, died, ended, started, resumed, left.
    pub(crate) recovered: [u64; 8],
    /// Machines that were booted.
    pub(crate) boots: u64,
    met: [[u64; EVENTS.len()]; STATES.len()],
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            steps: 0,
            processes: 0,
            restarts: 0,
            given_up: 0,
            killed: 0,
            recovered: [0; 8],
            boots: 0,
            met: [[0; EVENTS.len()]; STATES.len()],
        }
    }
}

impl Counts {
    /// An event met a server in this state.
    pub(crate) fn meet(&mut self, state: State, event: &Event) {
        if let Some(row) = STATES.iter().position(|other| *other == state) {
            self.met[row][column(event)] += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.steps += other.steps;
        self.processes += other.processes;
        self.restarts += other.restarts;
        self.given_up += other.given_up;
        self.killed += other.killed;
        self.boots += other.boots;
        for (sum, more) in self.recovered.iter_mut().zip(other.recovered) {
            *sum += more;
        }
        for (sums, more) in self.met.iter_mut().zip(other.met) {
            for (sum, more) in sums.iter_mut().zip(more) {
                *sum += more;
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { steps, processes, restarts, given_up, killed, boots, .. } = self;
        writeln!(f, "  {steps} steps, {processes} processes made")?;
        writeln!(f, "  {restarts} restarts by policy, {given_up} times given up")?;
        writeln!(f, "  {killed} daemons killed, {boots} boots")?;
        let [kept, stopped, renewed, died, ended, started, resumed, left] = self.recovered;
        writeln!(
            f,
            "  new daemons: {kept} kept, {stopped} stopped, {renewed} renewed, {died} died"
        )?;
        write!(
            f,
            "               {ended} ended, {started} started, {resumed} resumed, {left} left"
        )?;
        // The rest depends on what is there; asks can come at any time.
        for (state, row) in STATES.iter().zip(self.met) {
            for (event, _) in EVENTS.iter().zip(row).take(ASKS).filter(|(_, count)| *count == 0) {
                write!(f, "\n  never met: {event} while {}", state.as_str())?;
            }
        }
        Ok(())
    }
}
