//! Whether a ready server hangs: a function of what was seen of it, clock passed in.
//!
//! ```text
//!   /health not answered ─────────────────────────╮
//!   requests at work, and neither tokens nor       ├─▶ for the limit, and no processor used: hung
//!   prompt progress nor decoded batches ───────────╯   for ten limits, though one is used:   hung
//! ```
//!
//! A long prompt on a slow processor is no hang: llama-server computes a batch (2048 tokens at
//! first) without moving any of its numbers, 15 to 20 s for a 0.5 B model on two cores (measured)
//! and minutes for a large one, but it uses the processor all that time. One that is stopped, waits
//! for a lock or for a driver uses none.

use super::machine::Moment;
use std::time::Duration;

/// Looks further apart than this say nothing of the time between: we did not run ourselves.
const GAP: Duration = Duration::from_secs(10);
/// How much longer one that uses a processor may stand still.
const PATIENCE_WITH_BUSY: u32 = 10;
/// Less than this share of one processor is none.
const BUSY_RATIO: f64 = 0.05;

/// What was seen at one look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// It answered `/health`.
    pub answered: bool,
    /// Requests are at work; `None` when it does not say.
    pub working: Option<bool>,
    /// A number that changes with every token, batch and step of a prompt; `None` when it does not
    /// say.
    pub progress: Option<u64>,
    /// Processor time used since it started; `None` when it cannot be read.
    pub cpu: Option<Duration>,
}

/// How it hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hung {
    /// It has not answered for so long.
    Silent(Duration),
    /// Its requests have not moved for so long.
    Still(Duration),
}

/// What is remembered between looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HangWatch {
    last: Option<(Moment, Look)>,
    silent_since: Option<Moment>,
    still_since: Option<Moment>,
    quiet_since: Option<Moment>,
}

impl HangWatch {
    /// Takes in a look; says so when it hangs. `limit` is the setting `hang-timeout`.
    pub fn look(&mut self, at: Moment, look: Look, limit: Option<Duration>) -> Option<Hung> {
        let before = self.last.filter(|(then, _)| at.saturating_sub(*then) <= GAP);
        if before.is_none() {
            *self = HangWatch::default();
        }
        self.last = Some((at, look));
        let (then, before) = before?;
        since(&mut self.silent_since, !look.answered, at);
        let stands = look.answered
            && look.working == Some(true)
            && look.progress.is_some()
            && look.progress == before.progress;
        since(&mut self.still_since, stands, at);
        since(&mut self.quiet_since, !used_cpu(then, before, at, look), then);
        let limit = limit?;
        let lasts = |since: Option<Moment>| {
            let lasted = at.saturating_sub(since?);
            let quiet = self.quiet_since.map(|quiet| at.saturating_sub(quiet));
            let quiet = quiet.is_some_and(|quiet| quiet >= limit);
            let patience = if quiet { limit } else { limit * PATIENCE_WITH_BUSY };
            (lasted >= patience).then_some(lasted)
        };
        lasts(self.silent_since)
            .map(Hung::Silent)
            .or_else(|| lasts(self.still_since).map(Hung::Still))
    }

    /// Whether the last looks went unanswered, and since when.
    #[must_use]
    pub fn silent_since(&self) -> Option<Moment> {
        self.silent_since
    }
}

fn since(since: &mut Option<Moment>, holds: bool, at: Moment) {
    *since = if holds { since.or(Some(at)) } else { None };
}

/// Whether a processor was used between two looks; yes, where it cannot be told.
fn used_cpu(then: Moment, before: Look, at: Moment, look: Look) -> bool {
    let (Some(before), Some(now)) = (before.cpu, look.cpu) else { return true };
    now.saturating_sub(before).as_secs_f64() >= at.saturating_sub(then).as_secs_f64() * BUSY_RATIO
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);
    const IDLE: Look =
        Look { answered: true, working: Some(false), progress: Some(7), cpu: Some(Duration::ZERO) };

    /// Looks every two seconds until it hangs, at most `seconds`; when, and how.
    fn watch(seconds: u64, look: impl Fn(u64) -> Look) -> Option<Hung> {
        let mut watch = HangWatch::default();
        (0..=seconds)
            .step_by(2)
            .find_map(|second| watch.look(Duration::from_secs(second), look(second), Some(LIMIT)))
    }

    #[test]
    fn one_that_does_not_answer_and_uses_no_processor_hangs() {
        let stopped = |_| Look { answered: false, working: None, progress: None, ..IDLE };
        assert_eq!(watch(60, stopped), Some(Hung::Silent(LIMIT)));
    }

    #[test]
    fn one_that_stands_still_with_requests_hangs() {
        let dead = |_| Look { working: Some(true), ..IDLE };
        assert_eq!(watch(60, dead), Some(Hung::Still(LIMIT)));
    }

    #[test]
    fn a_long_prompt_on_a_slow_processor_does_not_hang() {
        let busy =
            |second| Look { working: Some(true), cpu: Some(Duration::from_secs(second)), ..IDLE };
        assert_eq!(watch(180, busy), None);
        // Silent too: an older build that answers nothing behind a batch.
        let silent = |second| Look { answered: false, ..busy(second) };
        assert_eq!(watch(180, silent), None);
        assert!(watch(1000, busy).is_some(), "not for ever");
    }

    #[test]
    fn one_that_moves_or_rests_does_not_hang() {
        assert_eq!(watch(600, |_| IDLE), None);
        let moves = |second| Look { working: Some(true), progress: Some(second), ..IDLE };
        assert_eq!(watch(600, moves), None);
        let does_not_say = |_| Look { working: None, progress: None, ..IDLE };
        assert_eq!(watch(600, does_not_say), None);
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let mut watch = HangWatch::default();
        let silent = Look { answered: false, ..IDLE };
        let at = |second| Duration::from_secs(second);
        for second in [0, 2, 4, 3600, 3602] {
            assert_eq!(watch.look(at(second), silent, Some(LIMIT)), None, "{second}");
        }
    }

    #[test]
    fn never_means_never() {
        let mut watch = HangWatch::default();
        let silent = Look { answered: false, ..IDLE };
        for second in (0..10_000).step_by(2) {
            assert_eq!(watch.look(Duration::from_secs(second), silent, None), None);
        }
    }
}
