//! A change that somebody else overtook is made again from what is there now.
//!
//! ```text
//!   look, validate ─▶ does anybody stand in line? ─ no ──▶ commit ─▶ overtaken? ─▶ get in line, look again
//!                          ╰─ yes: get in line, look again ▲
//! ```

use crate::store::registry::StoreError;
use tokio::sync::{Mutex, MutexGuard};

/// How often a change is tried before the caller is told that others were faster: without an end,
/// changes that do not stand in line could starve it for ever.
const ATTEMPTS: u32 = 8;

/// The attempts at one change.
pub(super) struct Attempts<'a> {
    left: u32,
    /// Who was overtaken stands in line here, and who comes later behind them.
    line: &'a Mutex<()>,
    turn: Option<MutexGuard<'a, ()>>,
}

impl<'a> Attempts<'a> {
    /// Only one, where the caller said which revision is to be changed.
    pub(super) fn at(if_revision: Option<i64>, line: &'a Mutex<()>) -> Attempts<'a> {
        let left = if if_revision.is_some() { 1 } else { ATTEMPTS };
        Attempts { left, line, turn: None }
    }

    /// Whether a change that was validated may be committed; if not, it was waited for those in line,
    /// and must be looked at again. To be asked when nothing slow is left to do: the line stands still
    /// meanwhile.
    pub(super) async fn may_commit(&mut self) -> bool {
        let may = self.left == 1 || self.turn.is_some() || self.line.try_lock().is_ok();
        if !may {
            self.turn = Some(self.line.lock().await);
        }
        may
    }

    /// Counts a refusal; whether another attempt is due.
    pub(super) async fn another(&mut self, refusal: &StoreError) -> bool {
        self.left = self.left.saturating_sub(1);
        let another = self.left > 0 && matches!(refusal, StoreError::RevisionConflict { .. });
        if another && self.turn.is_none() {
            self.turn = Some(self.line.lock().await);
        }
        another
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_of_changes_starves_nobody_for_ever() {
        let line = Mutex::new(());
        let conflict = StoreError::RevisionConflict { of: "m".into(), expected: 1, found: 2 };
        for (if_revision, expected) in [(None, 8), (Some(1), 1)] {
            let mut attempts = Attempts::at(if_revision, &line);
            let mut tries = 1;
            while attempts.another(&conflict).await {
                tries += 1;
            }
            assert_eq!(tries, expected);
        }
        assert!(!Attempts::at(None, &line).another(&StoreError::Closed).await);
    }

    #[tokio::test]
    async fn who_comes_later_waits_for_who_was_overtaken() {
        let line = Mutex::new(());
        let conflict = StoreError::RevisionConflict { of: "m".into(), expected: 1, found: 2 };
        let mut overtaken = Attempts::at(None, &line);
        assert!(overtaken.may_commit().await && overtaken.another(&conflict).await);
        let mut later = Attempts::at(None, &line);
        {
            let waiting = later.may_commit();
            tokio::pin!(waiting);
            assert!(futures_util::poll!(&mut waiting).is_pending());
            assert!(overtaken.may_commit().await);
            drop(overtaken);
            assert!(!waiting.await, "it must look again");
        }
        assert!(later.may_commit().await);
    }
}
