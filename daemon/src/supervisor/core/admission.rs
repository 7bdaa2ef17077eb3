//! Who may run and who may load: pure. One for all servers.
//!
//! ```text
//!   reserve ─▶ a place among those that run (max_running; else refused, naming who runs)
//!   queue ───▶ waits its turn ─▶ enter ─▶ loads (max_loading at once) ─▶ loaded
//! ```
//!
//! A place among those that run is kept from the wish to the rest, over restarts; a place among
//! those that load from the spawn until the server is ready or gone. The queue is first come,
//! first served. A later gateway that queues for memory adds a reason here, not another door.

use std::collections::{BTreeMap, BTreeSet};

/// Places and who holds them, by model id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    max_running: Option<u32>,
    max_loading: u32,
    running: BTreeMap<i64, String>,
    loading: BTreeSet<i64>,
    queue: Vec<i64>,
}

impl Admission {
    /// With these bounds: servers that run, if there is one, and loads at once, at least one.
    #[must_use]
    pub fn new(max_running: Option<u32>, max_loading: u32) -> Admission {
        Admission { max_running, max_loading: max_loading.max(1), ..Admission::default() }
    }

    /// Takes a place among those that run, unless it has one.
    ///
    /// # Errors
    /// The names of those that run, when they are as many as may.
    pub fn reserve(&mut self, model: i64, name: &str) -> Result<(), Vec<String>> {
        if self.running.contains_key(&model) {
            return Ok(());
        }
        if self.max_running.is_some_and(|max| self.running.len() >= max as usize) {
            return Err(self.running.values().cloned().collect());
        }
        self.take(model, name);
        Ok(())
    }

    /// Takes a place whether or not there is one: its process is there already.
    pub fn take(&mut self, model: i64, name: &str) {
        self.running.insert(model, name.to_owned());
    }

    /// Gives every place back: it does not run and will not by itself.
    pub fn release(&mut self, model: i64) {
        self.running.remove(&model);
        self.loaded(model);
        self.leave(model);
    }

    /// Gets in line, behind those who wait.
    pub fn queue(&mut self, model: i64) {
        if !self.queue.contains(&model) {
            self.queue.push(model);
        }
    }

    /// Leaves the line.
    pub fn leave(&mut self, model: i64) {
        self.queue.retain(|other| *other != model);
    }

    /// Goes in, if it is its turn: then it loads.
    pub fn enter(&mut self, model: i64) -> bool {
        let free = (self.max_loading as usize).saturating_sub(self.loading.len());
        let is_its_turn = self.queue.iter().take(free).any(|next| *next == model);
        if is_its_turn {
            self.leave(model);
            self.loading.insert(model);
        }
        is_its_turn
    }

    /// Loads already: its process was found loading.
    pub fn found_loading(&mut self, model: i64) {
        self.loading.insert(model);
    }

    /// It loads no more. True when another may go in for it.
    pub fn loaded(&mut self, model: i64) -> bool {
        self.loading.remove(&model) && !self.queue.is_empty()
    }

    /// Its place in the line: 1 is next.
    #[must_use]
    pub fn position(&self, model: i64) -> Option<u32> {
        let at = self.queue.iter().position(|other| *other == model)?;
        u32::try_from(at + 1).ok()
    }

    /// How many load.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.loading.len()
    }

    /// How many hold a place among those that run.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_comes_first_goes_first() {
        let mut admission = Admission::new(None, 2);
        for model in [1, 2, 3, 4] {
            admission.queue(model);
        }
        assert_eq!([4, 3, 2, 1].map(|model| admission.enter(model)), [false, false, true, true]);
        assert_eq!((admission.position(3), admission.position(4)), (Some(1), Some(2)));
        assert!(!admission.enter(3));
        assert!(admission.loaded(2), "somebody waits for it");
        assert!(admission.enter(3));
        admission.leave(4);
        assert!(!admission.loaded(1), "nobody waits");
    }

    #[test]
    fn one_too_many_is_told_who_runs() {
        let mut admission = Admission::new(Some(1), 1);
        assert_eq!(admission.reserve(1, "a"), Ok(()));
        assert_eq!(admission.reserve(1, "a"), Ok(()), "its place is its own");
        assert_eq!(admission.reserve(2, "b"), Err(vec!["a".to_owned()]));
        admission.take(3, "found");
        admission.release(1);
        assert!(admission.reserve(2, "b").is_err(), "one that was found counts");
        admission.release(3);
        assert_eq!(admission.reserve(2, "b"), Ok(()));
    }

    proptest! {
        #[test]
        fn never_more_than_may_load_and_never_a_place_lost(
            steps in proptest::collection::vec((0u8..4, 0i64..6), 0..80),
        ) {
            let mut admission = Admission::new(None, 2);
            for (step, model) in steps {
                match step {
                    0 => admission.queue(model),
                    1 => { admission.enter(model); }
                    2 => { admission.loaded(model); }
                    _ => admission.release(model),
                }
                prop_assert!(admission.loads() <= 2);
            }
            for model in 0..6 {
                admission.release(model);
            }
            prop_assert_eq!(admission, Admission::new(None, 2));
        }
    }
}
