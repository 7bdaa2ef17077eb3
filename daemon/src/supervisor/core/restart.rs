//! Whether a server that ended is started again, and when: a function of values, clock and jitter
//! passed in.
//!
//! ```text
//!   ended, and a restart may cure it ─▶ 1st failure: at once
//!                                       2nd, 3rd, …: after 1 s, 2 s, 4 s … 60 s, give or take a quarter
//!                                       as many as the limit: given up
//!   60 s of health between two failures ─▶ the next one is the first again
//! ```

use super::machine::Moment;
use llamactl_protocol::server::HEALTHY;
use std::time::Duration;

/// The wait before the second restart; each after it is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// No wait is longer, but for the quarter that jitter adds.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// When to start it again: the setting `restart`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// After every end that was no clean one.
    #[default]
    OnFailure,
    /// Also after a clean exit, or a polite signal of somebody else.
    Always,
    /// Never.
    Never,
}

/// Whether starting again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curable {
    /// No: it would end the same way.
    No,
    /// Once: what stood in the way is gone round.
    Once,
    /// It may.
    Yes,
}

/// How a run ended, as far as the policy cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whether starting again can help.
    pub curable: Curable,
    /// It exited with 0, or at a signal that asks for an end, and not ours.
    pub clean: bool,
}

/// The failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    /// How many, without 60 s of health between them.
    pub failures: u32,
    /// Restarts since somebody last asked for a start.
    pub restarts: u32,
    /// When the present run became ready.
    pub ready_at: Option<Moment>,
}

impl Streak {
    /// Its health ended at this time, though its process is still there.
    pub fn health_ended(&mut self, at: Moment) {
        self.ready_at = self.ready_at.filter(|ready| at.saturating_sub(*ready) >= HEALTHY);
    }
}

/// What is done about an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start again, after so long.
    Again(Duration),
    /// Leave it until somebody acts.
    GiveUp,
}

/// Counts a failure and decides. `jitter` is random, 0 to 1.
#[must_use]
pub fn decide(
    mode: Mode,
    limit: u32,
    streak: Streak,
    ended: Ended,
    at: Moment,
    jitter: f64,
) -> (Streak, Decision) {
    let was_healthy = streak.ready_at.is_some_and(|ready| at.saturating_sub(ready) >= HEALTHY);
    let before = if was_healthy { 0 } else { streak.failures };
    let failures = before.saturating_add(1);
    let wanted = match mode {
        Mode::Never => false,
        Mode::OnFailure => !ended.clean,
        Mode::Always => true,
    };
    let may_help = match ended.curable {
        Curable::No => false,
        Curable::Once => failures == 1,
        Curable::Yes => true,
    };
    let again = wanted && may_help && failures < limit;
    let restarts = streak.restarts.saturating_add(u32::from(again));
    let decision = if again { Decision::Again(wait(failures, jitter)) } else { Decision::GiveUp };
    (Streak { failures, restarts, ready_at: None }, decision)
}

/// How long to wait after so many failures in a row. The jitter keep servers that fell together from
/// rising together.
fn wait(failures: u32, jitter: f64) -> Duration {
    let Some(doublings) = failures.checked_sub(2) else { return Duration::ZERO };
    let wait = FIRST_WAIT.saturating_mul(1 << doublings.min(10)).min(LONGEST_WAIT);
    wait.mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CRASH: Ended = Ended { curable: Curable::Yes, clean: false };

    fn row(limit: u32, gaps: &[u64]) -> Vec<Decision> {
        let mut at = Moment::from_secs(1000);
        let mut streak = Streak::default();
        let mut decisions = Vec::new();
        for gap in gaps {
            streak.ready_at = Some(at);
            at += Duration::from_secs(*gap);
            let (next, decision) = decide(Mode::OnFailure, limit, streak, CRASH, at, 0.5);
            (streak, decisions) = (next, [decisions, vec![decision]].concat());
        }
        decisions
    }

    #[test]
    fn at_once_then_later_and_later_then_never() {
        let after = |seconds| Decision::Again(Duration::from_secs(seconds));
        assert_eq!(
            row(5, &[0, 0, 0, 0, 0]),
            [after(0), after(1), after(2), after(4), Decision::GiveUp]
        );
        assert_eq!(row(100, &[0; 20]).last(), Some(&after(60)), "no wait is longer");
        assert_eq!(row(1, &[0]), [Decision::GiveUp]);
    }

    #[test]
    fn a_minute_of_health_ends_the_row_and_less_does_not() {
        assert_eq!(row(5, &[0, 0, 60])[2], Decision::Again(Duration::ZERO));
        assert_eq!(row(5, &[59, 59, 59, 59, 59])[4], Decision::GiveUp);
    }

    #[test]
    fn what_a_restart_cannot_cure_is_not_restarted_whatever_is_set() {
        let lost = Ended { curable: Curable::No, clean: false };
        for mode in [Mode::OnFailure, Mode::Always, Mode::Never] {
            let (_, decision) = decide(mode, 5, Streak::default(), lost, Moment::ZERO, 0.0);
            assert_eq!(decision, Decision::GiveUp);
        }
        let port = Ended { curable: Curable::Once, clean: false };
        let (streak, first) =
            decide(Mode::OnFailure, 5, Streak::default(), port, Moment::ZERO, 0.0);
        assert_eq!(first, Decision::Again(Duration::ZERO));
        let (_, second) = decide(Mode::OnFailure, 5, streak, port, Moment::ZERO, 0.0);
        assert_eq!(second, Decision::GiveUp);
    }

    #[test]
    fn a_clean_end_is_for_always_alone() {
        let clean = Ended { curable: Curable::Yes, clean: true };
        let decision = |mode| decide(mode, 5, Streak::default(), clean, Moment::ZERO, 0.0).1;
        assert_eq!(decision(Mode::OnFailure), Decision::GiveUp);
        assert_eq!(decision(Mode::Always), Decision::Again(Duration::ZERO));
        assert_eq!(decision(Mode::Never), Decision::GiveUp);
    }

    proptest! {
        #[test]
        fn no_row_of_failures_is_longer_than_the_limit(
            limit in 1u32..20,
            jitter in proptest::collection::vec(0.0f64..1.0, 40),
        ) {
            let mut streak = Streak::default();
            let mut again = 0;
            for jitter in jitter {
                let (next, decision) =
                    decide(Mode::Always, limit, streak, CRASH, Moment::ZERO, jitter);
                streak = next;
                match decision {
                    Decision::Again(wait) => {
                        again += 1;
                        prop_assert!(wait <= LONGEST_WAIT.mul_f64(1.25));
                    }
                    Decision::GiveUp => break,
                }
            }
            prop_assert_eq!(again, limit - 1);
            prop_assert_eq!(streak.restarts, limit - 1);
        }
    }
}
