//! How much happened, to see that histories are worth playing.

use llamactl_protocol::server::State;
use llamactld::supervisor::core::driver::Event;
use std::fmt;

const EVENTS: [&str; 5] = ["start", "stop", "restart", "shutdown", "orders"];

/// The place of an event in the table of what was met: what can come at any time.
fn column(event: &Event) -> Option<usize> {
    match event {
        Event::Start { .. } => Some(0),
        Event::Stop { .. } => Some(1),
        Event::Restart { .. } => Some(2),
        Event::Shutdown { .. } => Some(3),
        Event::Orders(_) => Some(4),
        _ => None,
    }
}

/// What happened, how often.
#[derive(Clone, Copy, Debug, Default)]
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
    /// Records that a full disk did not take.
    pub(crate) unwritten: u64,
    /// Clocks that were set.
    pub(crate) clocks: u64,
    /// What new daemons made of models: taken over, being ended, died, started, resumed, left.
    pub(crate) recovered: [u64; 6],
    /// Machines that were booted.
    pub(crate) boots: u64,
    met: [[u64; EVENTS.len()]; State::ALL.len()],
}

impl Counts {
    /// An event met a server in this state.
    pub(crate) fn meet(&mut self, state: State, event: &Event) {
        if let (Some(row), Some(column)) =
            (State::ALL.iter().position(|other| *other == state), column(event))
        {
            self.met[row][column] += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.steps += other.steps;
        self.processes += other.processes;
        self.restarts += other.restarts;
        self.given_up += other.given_up;
        self.killed += other.killed;
        self.unwritten += other.unwritten;
        self.clocks += other.clocks;
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
        let Counts { unwritten, clocks, .. } = self;
        writeln!(f, "  {steps} steps, {processes} processes made")?;
        writeln!(f, "  {restarts} restarts by policy, {given_up} times given up")?;
        writeln!(f, "  {killed} daemons killed, {boots} boots, {clocks} clocks set")?;
        writeln!(f, "  {unwritten} records not written for a full disk")?;
        let [kept, ended, died, started, resumed, left] = self.recovered;
        writeln!(f, "  new daemons: {kept} kept, {ended} ended or made anew, {died} died")?;
        write!(f, "               {started} started, {resumed} resumed, {left} left")?;
        for (state, row) in State::ALL.iter().zip(self.met) {
            for (event, _) in EVENTS.iter().zip(row).filter(|(_, count)| *count == 0) {
                write!(f, "\n  never met: {event} while {}", state.as_str())?;
            }
        }
        Ok(())
    }
}
