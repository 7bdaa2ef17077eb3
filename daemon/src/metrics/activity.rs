//! Signs that a server is worth a look: who looks waits for them, and looks rarely without.
//!
//! ```text
//!   sampler: two ticks of a processor, or halted ─╮
//!   log of the run: it grew ──────────────────────┼─▶ Activity ─▶ the server's only poller
//!   somebody follows the metrics ─────────────────╯
//! ```
//!
//! Both are needed: a request of one token uses less than two ticks (of 20 on a 50 MB model, 12 were
//! noticed by them and 20 by the log), and one that says little writes no log.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

/// A look itself may use one tick, a hundredth of a second.
const WORTH_A_LOOK_TICKS: u64 = 2;

/// What was seen of a server since it was last looked at.
#[derive(Debug, Default)]
pub struct Activity {
    looked_at_ticks: AtomicU64,
    worked: AtomicBool,
    sign: Notify,
    others: watch::Sender<Vec<u32>>,
}

impl Activity {
    /// It seems to work: its log grew.
    pub fn works(&self) {
        self.worked.store(true, Ordering::Relaxed);
        self.sign.notify_one();
    }

    /// The system's word: the processor time it has used, in clock ticks, and its state letter.
    pub(super) fn sampled(&self, cpu_ticks: u64, state: char) {
        let looked_at_ticks = self.looked_at_ticks.load(Ordering::Relaxed);
        if cpu_ticks >= looked_at_ticks.saturating_add(WORTH_A_LOOK_TICKS) {
            self.works();
        }
        // Whether it still answers is to be found out.
        if matches!(state, 'T' | 't') {
            self.sign.notify_one();
        }
    }

    /// Which processes it has beside the one that was started.
    pub(super) fn has_others(&self, pids: impl Iterator<Item = u32>) {
        let pids: Vec<u32> = pids.collect();
        self.others.send_if_modified(|known| {
            let is_news = *known != pids;
            *known = pids;
            is_news
        });
    }

    /// The processes it had at the last sample beside the one that was started.
    #[must_use]
    pub fn others(&self) -> Vec<u32> {
        self.others.borrow().clone()
    }

    /// Somebody wants to see how it is now.
    pub(super) fn watched(&self) {
        self.sign.notify_one();
    }

    /// It is about to be looked at: whether it seems to have worked since the last look.
    pub fn has_worked(&self) -> bool {
        self.worked.swap(false, Ordering::Relaxed)
    }

    /// It was looked at, and has used so many clock ticks until now.
    pub fn looked(&self, cpu_ticks: Option<u64>) {
        if let Some(ticks) = cpu_ticks {
            self.looked_at_ticks.store(ticks, Ordering::Relaxed);
        }
    }

    /// Waits for the next sign; one that came since the last wait counts.
    pub async fn sign(&self) {
        self.sign.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn has_sign(activity: &Activity) -> bool {
        activity.sign().now_or_never().is_some()
    }

    #[test]
    fn two_ticks_are_work_and_what_a_look_costs_is_none() {
        let activity = Activity::default();
        activity.looked(Some(100));
        activity.sampled(101, 'S');
        assert!(!has_sign(&activity) && !activity.has_worked());
        activity.sampled(102, 'S');
        assert!(has_sign(&activity));
        assert!(activity.has_worked());
        activity.looked(Some(103));
        activity.sampled(104, 'S');
        assert!(!has_sign(&activity) && !activity.has_worked(), "since the last look it did not");
    }

    #[test]
    fn a_log_that_grew_is_work_and_a_halt_or_a_watcher_is_a_sign_alone() {
        let activity = Activity::default();
        for (sign, is_work) in [
            (Activity::works as fn(&Activity), true),
            (|activity: &Activity| activity.sampled(0, 'T'), false),
            (Activity::watched, false),
        ] {
            sign(&activity);
            assert!(has_sign(&activity));
            assert!(!has_sign(&activity), "it is used up");
            assert_eq!(activity.has_worked(), is_work);
        }
    }
}
