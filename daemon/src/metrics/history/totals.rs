//! What each model did over all its runs.
//!
//! ```text
//!   Sample ─▶ add: how far each counter of a run came ─▶ written with each batch ─▶ told
//! ```
//!
//! A total goes on from how far its run's counter is in it, so it loses nothing that was counted while no
//! daemon ran. What the daemon counts itself, how often it starts a server, is the counter of its own life.
//! What is told is what was written: a total that went back would look like a counter that began
//! anew, and whoever computes rates would count all of it once more.

use llamactl_protocol::metrics::{LlamaSample, Sample};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A counter that servers have of their own.
type Counted = (&'static str, fn(&LlamaSample) -> Option<u64>);

/// What is added up, by the names in the database.
const COUNTED: [Counted; 3] = [
    ("tokens_generated", |it| it.generated_tokens),
    ("prompt_tokens", |it| it.prompt_tokens_total),
    ("prompt_cached_tokens", |it| it.prompt_tokens_cached_total),
];

/// One total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) value: u64,
    /// The run, or the life of the daemon, that is counted in it now.
    pub(super) run_id: Arc<str>,
    /// How far that run's counter is in it.
    pub(super) counted: u64,
}

/// All of them, by model and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals(BTreeMap<(i64, Arc<str>), Total>);

impl Totals {
    /// Those that were written.
    pub(super) fn of(rows: impl IntoIterator<Item = (i64, Arc<str>, Total)>) -> Totals {
        Totals(rows.into_iter().map(|(model, name, total)| ((model, name), total)).collect())
    }

    /// Those that are not the same in `written`.
    pub(super) fn unlike<'t>(
        &'t self,
        written: &'t Totals,
    ) -> impl Iterator<Item = (i64, &'t str, &'t Total)> {
        let is_news =
            |(key, total): &(&(i64, Arc<str>), &Total)| written.0.get(*key) != Some(*total);
        self.0.iter().filter(is_news).map(|((model, name), total)| (*model, &**name, total))
    }

    /// Adds what servers did since they were last seen, and what was done with them. `life` names that of
    /// this daemon.
    pub(super) fn add(&mut self, sample: &Sample, life: &str) {
        for server in &sample.servers {
            for (name, of) in COUNTED {
                if let Some(counter) = server.llama.as_ref().and_then(of) {
                    self.count((server.model_id, name), &server.run_id, counter);
                }
            }
        }
        for model in &sample.models {
            self.count((model.model_id, "starts"), life, model.starts);
            self.count((model.model_id, "restarts"), life, model.restarts);
        }
    }

    /// Adds what a counter grew by, which began with this run.
    fn count(&mut self, (model_id, name): (i64, &str), run_id: &str, counter: u64) {
        let new = || Total { value: 0, run_id: run_id.into(), counted: 0 };
        let total = self.0.entry((model_id, name.into())).or_insert_with(new);
        if *total.run_id != *run_id {
            *total = Total { value: total.value, ..new() };
        }
        // A reading that goes back is a request between two counters: it is in the next one.
        total.value += counter.saturating_sub(total.counted);
        total.counted = total.counted.max(counter);
    }

    /// The total of a model; 0 of one that never ran.
    #[must_use]
    pub fn get(&self, model_id: i64) -> llamactl_protocol::totals::Totals {
        let value = |name: &str| {
            let total = self.0.range((model_id, Arc::from(name))..).next();
            let total = total.filter(|((model, it), _)| *model == model_id && &**it == name);
            total.map_or(0, |(_, total)| total.value)
        };
        llamactl_protocol::totals::Totals {
            tokens_generated: value("tokens_generated"),
            prompt_tokens: value("prompt_tokens"),
            prompt_cached_tokens: value("prompt_cached_tokens"),
            starts: value("starts"),
            restarts: value("restarts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{sample, server};
    use super::*;
    use llamactl_protocol::metrics::ModelStarts;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// The server of a model says that it generated so many more.
        Works(i64, u64),
        /// Its answer did not come, or one request is missing in it.
        Dips(i64),
        /// It is started anew; what it did since it was last seen is lost.
        Restarts(i64),
        /// A batch is written.
        Writes,
        /// The daemon is killed: what was not written is gone.
        Killed,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let model = || 1..3_i64;
        let step = prop_oneof![
            4 => (model(), 0..50_u64).prop_map(|(model, tokens)| Step::Works(model, tokens)),
            1 => model().prop_map(Step::Dips),
            1 => model().prop_map(Step::Restarts),
            2 => Just(Step::Writes),
            1 => Just(Step::Killed),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn totals_never_go_back_and_hold_all_that_runs_said_while_they_were_seen(steps in steps()) {
            let (mut totals, mut written) = (Totals::default(), Totals::default());
            // By model: the number of its run, and its counter.
            let mut runs = BTreeMap::from([(1, (0, 0_u64)), (2, (0, 0))]);
            // What was said by all runs, and what was told of it.
            let (mut said, mut told) = (BTreeMap::from([(1, 0), (2, 0)]), BTreeMap::new());
            let mut lost = BTreeMap::from([(1, 0), (2, 0)]);
            for step in steps {
                let told_before = told.clone();
                match step {
                    Step::Works(model, tokens) => {
                        let (run, counter) = runs.get_mut(&model).unwrap();
                        *counter += tokens;
                        *said.get_mut(&model).unwrap() += tokens;
                        let it = server(model, &format!("{model}-{run}"), 0, Some(*counter));
                        totals.add(&sample(0, vec![it]), "life");
                    }
                    Step::Dips(model) => {
                        let (run, counter) = runs[&model];
                        let less = counter.checked_sub(1);
                        let it = server(model, &format!("{model}-{run}"), 0, less);
                        totals.add(&sample(0, vec![it]), "life");
                    }
                    Step::Restarts(model) => {
                        let run = runs[&model].0;
                        runs.insert(model, (run + 1, 0));
                    }
                    Step::Writes => written = totals.clone(),
                    Step::Killed => totals = written.clone(),
                }
                for model in [1, 2] {
                    // What was seen of a run that is over, and is in no total, is in none for ever.
                    let (run, counter) = runs[&model];
                    let total = totals.0.get(&(model, "tokens_generated".into()));
                    if total.is_none_or(|total| *total.run_id != *format!("{model}-{run}")) {
                        let seen = total.map_or(0, |total| total.value);
                        lost.insert(model, said[&model] - counter - seen);
                    }
                    told.insert(model, written.get(model).tokens_generated);
                    prop_assert!(told.get(&model) >= told_before.get(&model));
                }
            }
            for model in [1, 2] {
                // One more look brings all of the run that goes on.
                let (run, counter) = runs[&model];
                let it = server(model, &format!("{model}-{run}"), 0, Some(counter));
                totals.add(&sample(0, vec![it]), "life");
                prop_assert_eq!(totals.get(model).tokens_generated, said[&model] - lost[&model]);
            }
        }
    }

    #[test]
    fn what_each_life_of_the_daemon_counted_is_added_once() {
        let mut totals = Totals::default();
        for (life, starts, restarts) in
            [("one", 2, 1), ("one", 5, 3), ("one", 5, 3), ("two", 1, 0), ("two", 2, 0)]
        {
            let model = ModelStarts { model_id: 1, model: "a".to_owned(), starts, restarts };
            totals.add(&Sample { models: vec![model], ..sample(0, vec![]) }, life);
        }
        assert_eq!((totals.get(1).starts, totals.get(1).restarts), (7, 3));
    }

    #[test]
    fn only_what_changed_is_written() {
        let mut totals = Totals::default();
        totals
            .add(&sample(0, vec![server(1, "a", 0, Some(5)), server(2, "b", 0, Some(1))]), "life");
        let written = totals.clone();
        assert_eq!(totals.unlike(&written).count(), 0);
        totals
            .add(&sample(0, vec![server(1, "a", 0, Some(6)), server(2, "b", 0, Some(1))]), "life");
        let news: Vec<_> = totals.unlike(&written).map(|(model, name, _)| (model, name)).collect();
        assert_eq!(news, [(1, "tokens_generated")]);
        assert_eq!(totals.get(3), llamactl_protocol::totals::Totals::default());
    }
}
