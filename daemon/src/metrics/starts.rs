//! How often servers were started: counted where it is done, because many a run is over before a sample
//! could see it.
//!
//! ```text
//!   supervisor ─▶ Starts ─▶ sampler ─▶ models of a Sample: those whose servers run or are to, and what is news
//! ```

use llamactl_protocol::metrics::ModelStarts;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The counts of all models since the daemon began. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Starts(Arc<Mutex<BTreeMap<i64, Count>>>);

#[derive(Debug)]
struct Count {
    of: ModelStarts,
    /// Its server runs, or is to.
    is_at_work: bool,
    /// It is in no sample yet.
    is_news: bool,
}

impl Starts {
    fn all(&self) -> MutexGuard<'_, BTreeMap<i64, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process was made for a model; `again` says that nobody asked for it.
    pub fn made(&self, model_id: i64, model: &str, again: bool) {
        let mut all = self.all();
        let count = all.entry(model_id).or_insert_with(|| Count::new(model_id, model));
        count.of.starts += 1;
        count.of.restarts += u64::from(again);
        count.is_news = true;
    }

    /// Says what a model is called, and whether its server runs or is to.
    pub fn show(&self, model_id: i64, model: &str, is_at_work: bool) {
        let mut all = self.all();
        if is_at_work || all.contains_key(&model_id) {
            let count = all.entry(model_id).or_insert_with(|| Count::new(model_id, model));
            count.is_at_work = is_at_work;
            if count.of.model != model {
                model.clone_into(&mut count.of.model);
            }
        }
    }

    /// What is to be in the next sample: of models at rest only what is in none yet.
    pub(super) fn take(&self) -> Vec<ModelStarts> {
        let told = |count: &mut Count| {
            let is_news = std::mem::take(&mut count.is_news);
            (is_news || count.is_at_work).then(|| count.of.clone())
        };
        self.all().values_mut().filter_map(told).collect()
    }
}

impl Count {
    fn new(model_id: i64, model: &str) -> Count {
        let of = ModelStarts { model_id, model: model.to_owned(), starts: 0, restarts: 0 };
        Count { of, is_at_work: false, is_news: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_at_rest_is_told_of_only_where_it_was_started_since_the_last_sample() {
        let starts = Starts::default();
        starts.show(1, "a", false);
        assert_eq!(starts.take(), []);
        let told = |starts: u64, restarts: u64, model: &str| {
            vec![ModelStarts { model_id: 1, model: model.to_owned(), starts, restarts }]
        };
        starts.show(1, "a", true);
        assert_eq!(starts.take(), told(0, 0, "a"));
        // Two runs that are over before anybody looks.
        starts.made(1, "a", false);
        starts.made(1, "a", true);
        starts.show(1, "b", false);
        assert_eq!(starts.take(), told(2, 1, "b"));
        assert_eq!(starts.take(), []);
        starts.made(1, "b", false);
        assert_eq!(starts.take(), told(3, 1, "b"));
    }
}
