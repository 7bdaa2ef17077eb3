//! When the daemon is killed in a round.

use crate::chance::Chance;
use crate::wishes::Step;
use std::time::Duration;

/// What happens in a round before the next daemon is looked at.
#[derive(Debug)]
pub(crate) struct Plan {
    /// How many wishes the client would make.
    pub(crate) wishes: u64,
    /// What is waited for before the kill; `None`: nothing.
    pub(crate) step: Option<Step>,
    /// How long after that.
    pub(crate) delay: Duration,
    /// How long each daemon lives that is killed before it was looked at.
    pub(crate) early: Vec<Duration>,
}

impl Plan {
    /// Chooses.
    pub(crate) fn choose(chance: &mut Chance) -> Plan {
        let wishes = 1 + chance.below(5);
        let number = chance.below(wishes);
        let (step, delay) = match chance.below(10) {
            // Just begun.
            0 => (None, chance.up_to_ms(40)),
            // Between a wish and its answer.
            1..=3 => (Some(Step::Sent(number)), chance.up_to_ms(4)),
            // Right after the answer: before, at and after the spawn.
            4..=6 => (Some(Step::Answered(number)), chance.up_to_ms(25)),
            // In the middle of a load or of a stop.
            _ => (Some(Step::Answered(wishes - 1)), chance.up_to_ms(250)),
        };
        // Killed again while it takes over what the first left, sometimes before it has begun.
        let early = match chance.below(10) {
            0 | 1 => 1,
            2 => 2,
            _ => 0,
        };
        let early = (0..early).map(|_| chance.up_to_ms(60)).collect();
        Plan { wishes, step, delay, early }
    }
}
