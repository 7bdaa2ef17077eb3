//! What a new daemon does about a model, from what is written and what was found: pure.
//!
//! ```text
//!   its process is there ────────────▶ adopt; then stop it or make it anew, if that was asked for
//!                                      since it was begun
//!   a run without an end, no process ▶ never made, or a restart was asked for: start;
//!                                      else it died: the policy decides
//!   ended, and to be started again ──▶ go on waiting
//!   desired since the last end ──────▶ start: it was accepted and not begun
//!   anything else ───────────────────▶ leave it
//! ```
//!
//! What was written in an earlier boot is history: after a boot `autostart` alone decides.
//!
//! A new daemon may be killed too, at any time. So whoever writes off a run in order to start again
//! writes into the same record that it is to be started again.

use super::demand::wants_process;
use llamactl_protocol::server::DesiredState;

/// What is desired, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desired {
    /// What.
    pub state: DesiredState,
    /// When it was written.
    pub at_ms: i64,
    /// It is for another process than the one that was there when it was written, and no other was
    /// written since: neither that one nor its end fulfils it.
    pub restart_requested: bool,
}

/// The last run, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// When it was written, just before its process was made.
    pub started_at_ms: i64,
    /// Its process was written down.
    pub was_made: bool,
    /// When it ended; `None`: nobody wrote that.
    pub ended_at_ms: Option<i64>,
    /// When policy was to start it again.
    pub restart_at_ms: Option<i64>,
}

/// What is done about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Take its process over.
    Adopt(Next),
    /// Its process died while nobody watched.
    Died,
    /// It ended while nobody watched, as it was asked to, or the machine went down.
    Ended,
    /// Start it: that was accepted and not begun.
    Start,
    /// Start it again then, as policy had decided.
    Resume(i64),
    /// Leave it.
    Leave,
}

/// What comes after an adoption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Keep,
    /// A stop that was accepted.
    Stop,
    /// A restart that was accepted.
    Restart,
}

/// Decides. `refused`: the last start was refused before there was a run; `found`: the last run's
/// process is there for certain.
#[must_use]
pub fn decide(
    wanted: Option<Desired>,
    last: Option<LastRun>,
    refused: bool,
    found: bool,
    booted_at_ms: i64,
) -> Recovery {
    let this_boot = wanted.filter(|wanted| wanted.at_ms >= booted_at_ms);
    let wants_to_run =
        this_boot.is_some_and(|wanted| wants_process(Some(wanted.state), false)) && !refused;
    // A stop is for the runs that were begun before it; what is younger was demanded since.
    let stopped = |last: &LastRun| {
        wanted.is_some_and(|it| it.state == DesiredState::Stopped && it.at_ms >= last.started_at_ms)
    };
    // An accepted restart that the last run, or its end, does not fulfil.
    let restarts = wants_to_run && this_boot.is_some_and(|wanted| wanted.restart_requested);
    match last {
        Some(last) if found && stopped(&last) => Recovery::Adopt(Next::Stop),
        Some(_) if found && restarts => Recovery::Adopt(Next::Restart),
        Some(_) if found => Recovery::Adopt(Next::Keep),
        Some(last) => match last.ended_at_ms {
            None if stopped(&last) => Recovery::Ended,
            // Its end was not written before a start was accepted in this boot: the disk was full.
            None if last.started_at_ms < booted_at_ms && wants_to_run => Recovery::Start,
            None if last.started_at_ms < booted_at_ms => Recovery::Ended,
            // Its end was asked for, and so was what comes after.
            None if restarts => Recovery::Start,
            None if last.was_made => Recovery::Died,
            None if wants_to_run => Recovery::Start,
            None => Recovery::Ended,
            // In the same millisecond: better a start too many than one forgotten.
            Some(ended) if wants_to_run && this_boot.is_some_and(|it| it.at_ms >= ended) => {
                Recovery::Start
            }
            Some(_) if restarts => Recovery::Start,
            Some(_) => match last.restart_at_ms {
                Some(at_ms) if wants_to_run => Recovery::Resume(at_ms),
                _ => Recovery::Leave,
            },
        },
        None if wants_to_run => Recovery::Start,
        None => Recovery::Leave,
    }
}

/// Whether a model that is started at boot is to be started now: not if somebody stopped it since
/// the boot.
#[must_use]
pub fn starts_by_itself(wanted: Option<Desired>, booted_at_ms: i64) -> bool {
    !wanted.is_some_and(|it| it.state == DesiredState::Stopped && it.at_ms >= booted_at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: i64 = 1000;

    fn desired(state: DesiredState, at_ms: i64) -> Option<Desired> {
        Some(Desired { state, at_ms, restart_requested: false })
    }

    fn run(started_at_ms: i64, ended_at_ms: Option<i64>) -> LastRun {
        LastRun { started_at_ms, was_made: true, ended_at_ms, restart_at_ms: None }
    }

    fn decided(wanted: Option<Desired>, last: LastRun, found: bool) -> Recovery {
        decide(wanted, Some(last), false, found, BOOT)
    }

    #[test]
    fn what_runs_is_taken_over_and_what_was_asked_of_it_is_done() {
        let running = desired(DesiredState::Running, 1100);
        assert_eq!(decided(running, run(1101, None), true), Recovery::Adopt(Next::Keep));
        let stopped = desired(DesiredState::Stopped, 1200);
        assert_eq!(decided(stopped, run(1101, None), true), Recovery::Adopt(Next::Stop));
        let renewed =
            running.map(|wanted| Desired { at_ms: 1200, restart_requested: true, ..wanted });
        assert_eq!(decided(renewed, run(1101, None), true), Recovery::Adopt(Next::Restart));
    }

    #[test]
    fn what_died_unasked_is_for_the_policy_and_what_was_never_made_is_made() {
        let running = desired(DesiredState::Running, 1100);
        assert_eq!(decided(running, run(1101, None), false), Recovery::Died);
        let never_made = LastRun { was_made: false, ..run(1101, None) };
        assert_eq!(decided(running, never_made, false), Recovery::Start);
        assert_eq!(
            decided(desired(DesiredState::Stopped, 1200), run(1101, None), false),
            Recovery::Ended
        );
    }

    #[test]
    fn a_restart_of_what_ended_meanwhile_is_begun_whatever_the_policy_would_say() {
        let renewed = desired(DesiredState::Running, 1200)
            .map(|wanted| Desired { restart_requested: true, ..wanted });
        assert_eq!(decided(renewed, run(1101, None), false), Recovery::Start);
        assert_eq!(decided(renewed, run(1101, Some(1300)), false), Recovery::Start);
    }

    #[test]
    fn of_two_things_in_one_millisecond_the_wish_is_taken_for_the_later() {
        let running = desired(DesiredState::Running, 1200);
        assert_eq!(decided(running, run(1101, Some(1200)), false), Recovery::Start);
    }

    #[test]
    fn what_a_daemon_that_stopped_had_stopped_stays_stopped() {
        let running = desired(DesiredState::Running, 1100);
        assert_eq!(decided(running, run(1101, Some(1200)), false), Recovery::Leave);
        // A start that came after the end was accepted and not begun.
        assert_eq!(
            decided(desired(DesiredState::Running, 1300), run(1101, Some(1200)), false),
            Recovery::Start
        );
        assert_eq!(decide(running, None, false, false, BOOT), Recovery::Start);
        assert_eq!(decide(None, None, false, false, BOOT), Recovery::Leave);
    }

    #[test]
    fn a_restart_that_was_decided_is_gone_on_with() {
        let last = LastRun { restart_at_ms: Some(1300), ..run(1101, Some(1200)) };
        assert_eq!(
            decided(desired(DesiredState::Running, 1100), last, false),
            Recovery::Resume(1300)
        );
        assert_eq!(decided(desired(DesiredState::Stopped, 1250), last, false), Recovery::Leave);
    }

    #[test]
    fn a_stop_does_not_end_a_run_that_was_begun_after_it() {
        let stopped = desired(DesiredState::Stopped, 1100);
        assert_eq!(decided(stopped, run(1200, None), true), Recovery::Adopt(Next::Keep));
        assert_eq!(decided(stopped, run(1200, None), false), Recovery::Died);
    }

    #[test]
    fn a_start_that_was_refused_is_not_tried_again_by_itself() {
        let running = desired(DesiredState::Running, 1300);
        let last = Some(run(1101, Some(1200)));
        assert_eq!(decide(running, last, true, false, BOOT), Recovery::Leave);
        assert_eq!(decide(running, None, true, false, BOOT), Recovery::Leave);
    }

    #[test]
    fn what_was_before_the_boot_is_history() {
        let running = desired(DesiredState::Running, 900);
        assert_eq!(decided(running, run(901, None), false), Recovery::Ended);
        // A start that was accepted since, though the end of that run could not be written.
        let started = desired(DesiredState::Running, 1100);
        assert_eq!(decided(started, run(901, None), false), Recovery::Start);
        let last = LastRun { restart_at_ms: Some(1300), ..run(901, Some(950)) };
        assert_eq!(decided(running, last, false), Recovery::Leave);
        assert_eq!(decide(running, None, false, false, BOOT), Recovery::Leave);
        assert!(starts_by_itself(running, BOOT));
        assert!(starts_by_itself(desired(DesiredState::Stopped, 900), BOOT));
        assert!(!starts_by_itself(desired(DesiredState::Stopped, 1100), BOOT));
    }
}
