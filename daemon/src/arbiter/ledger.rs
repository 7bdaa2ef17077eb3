//! The arbiter's decisions, as a function of values: who holds which place, and who waits.
//!
//! ```text
//!   Want ─▶ a running place (max_running), else refused ─▶ in line ─▶ admitted: loads
//!   Found ▶ a running place, whatever is allowed                        │ Loaded: runs
//!   Hold ─▶ a running place, and waits for its time to come             ▼
//!   Gone ─▶ both places back, or the running place to the run that follows
//! ```
//!
//! Invariants, looked at after every step in debug builds, by the tests and by the simulator:
//! * V1: no free load place while somebody is in line, unless nothing may be admitted (V6).
//! * V2: no more load than may, but for those that were found loading.
//! * V3: a run is entered once and leaves once; a model has one run in the ledger.
//! * V6: nothing is admitted before everything that runs was found, nor after the end began.
//! * V7: nothing changes but by a message.
//!
//! First come, first served. What memory and leases will need (a need per run, victims, ageing) is
//! another column of the same ledger and another reason to wait, not another way in.

use llamactl_protocol::server::QueueReason;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The id of a run: the ticket.
pub type RunId = String;

/// How many may do something at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Servers that run; `None`: as many as there are.
    pub max_running: Option<u32>,
    /// Servers that load; at least one may.
    pub max_loading: u32,
}

/// What the arbiter is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToArbiter {
    /// A server's task wants to load.
    Want {
        /// The model.
        model: i64,
        /// Its name, for who is refused because of it.
        name: Arc<str>,
        /// The run it will be.
        run: RunId,
    },
    /// A server will be started again later, and keeps its running place until then.
    Hold {
        /// The model.
        model: i64,
        /// Its name.
        name: Arc<str>,
        /// The run it will be.
        run: RunId,
    },
    /// A process was found running. Said again of the same run it corrects what was said.
    Found {
        /// The model.
        model: i64,
        /// Its name.
        name: Arc<str>,
        /// Its run.
        run: RunId,
        /// It loads, or may.
        loading: bool,
    },
    /// A run loads no more.
    Loaded {
        /// The model.
        model: i64,
        /// The run.
        run: RunId,
    },
    /// A run is over.
    Gone {
        /// The model.
        model: i64,
        /// The run.
        run: RunId,
        /// The run that follows and keeps the running place; it is still to be wanted.
        next: Option<RunId>,
    },
    /// A model has another name.
    Named {
        /// The model.
        model: i64,
        /// Its name now.
        name: Arc<str>,
    },
    /// A model's task is no more: everything it held is free.
    Retire {
        /// The model.
        model: i64,
    },
    /// Every process of an earlier daemon was found.
    Recovered,
    /// The daemon ends: nothing is admitted any more.
    Close,
}

/// What holds for the server of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// This run may load.
    pub admit: Option<RunId>,
    /// This run may not run.
    pub refused: Option<Refusal>,
    /// Where its run is in line.
    pub place: Option<QueuePlace>,
}

/// Why a run may not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The run.
    pub run: RunId,
    /// How many may run.
    pub max_running: u32,
    /// The names of the models that do.
    pub running: Vec<Arc<str>>,
}

/// A place in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePlace {
    /// The run that waits.
    pub run: RunId,
    /// What it waits for.
    pub reason: QueueReason,
    /// 1 is next.
    pub position: u32,
    /// How many may load at once, where that is what it waits for.
    pub limit: Option<u32>,
}

/// What a run holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A running place.
    Running,
    /// A running place, and its turn is still to come.
    Waiting,
    /// A running place and a load place.
    Loading {
        /// It was found so, whatever is allowed.
        found: bool,
    },
    /// Nothing: as many run as may.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    run: RunId,
    name: Arc<str>,
    place: Place,
}

/// Who holds what, and who waits.
#[derive(Clone, Debug)]
pub struct Ledger {
    bounds: Bounds,
    entries: BTreeMap<i64, Entry>,
    /// Models in line, the first is next.
    queue: VecDeque<i64>,
    recovered: bool,
    closed: bool,
    orders: BTreeMap<i64, Orders>,
}

impl Ledger {
    /// An empty one: nothing is admitted until it is told that everything was found.
    #[must_use]
    pub fn new(bounds: Bounds) -> Ledger {
        Ledger {
            bounds: Bounds { max_loading: bounds.max_loading.max(1), ..bounds },
            entries: BTreeMap::new(),
            queue: VecDeque::new(),
            recovered: false,
            closed: false,
            orders: BTreeMap::new(),
        }
    }

    /// Takes a message in. What holds from now on, for the models for which that is news.
    pub fn step(&mut self, message: ToArbiter) -> Vec<(i64, Orders)> {
        match message {
            ToArbiter::Want { model, name, run } => self.want(model, name, run),
            ToArbiter::Hold { model, name, run } => self.enter(model, name, run, Place::Running),
            ToArbiter::Found { model, name, run, loading } => {
                let place = if loading { Place::Loading { found: true } } else { Place::Running };
                self.enter(model, name, run, place);
            }
            ToArbiter::Loaded { model, run } => {
                if let Some(entry) = self.of_run(model, &run)
                    && matches!(entry.place, Place::Loading { .. })
                {
                    entry.place = Place::Running;
                }
            }
            ToArbiter::Gone { model, run, next } => self.gone(model, &run, next),
            ToArbiter::Retire { model } => {
                self.entries.remove(&model);
                self.queue.retain(|other| *other != model);
            }
            ToArbiter::Named { model, name } => {
                if let Some(entry) = self.entries.get_mut(&model) {
                    entry.name = name;
                }
            }
            ToArbiter::Recovered => self.recovered = true,
            ToArbiter::Close => self.closed = true,
        }
        self.admit();
        self.news()
    }

    fn want(&mut self, model: i64, name: Arc<str>, run: RunId) {
        let held = self.entries.get(&model).is_some_and(|entry| entry.place != Place::Refused);
        let full = self.bounds.max_running.is_some_and(|max| self.runs() >= max as usize);
        let place = if full && !held { Place::Refused } else { Place::Waiting };
        self.enter(model, name, run, place);
        if place == Place::Waiting {
            self.queue.push_back(model);
        }
    }

    fn enter(&mut self, model: i64, name: Arc<str>, run: RunId, place: Place) {
        self.queue.retain(|other| *other != model);
        self.entries.insert(model, Entry { run, name, place });
    }

    fn gone(&mut self, model: i64, run: &str, next: Option<RunId>) {
        let Some(entry) = self.of_run(model, run) else { return };
        match next {
            Some(next) if entry.place != Place::Refused => {
                (entry.run, entry.place) = (next, Place::Running);
            }
            _ => {
                self.entries.remove(&model);
            }
        }
        self.queue.retain(|other| *other != model);
    }

    /// Lets in whoever fits, in the order of the line.
    fn admit(&mut self) {
        while self.may_admit() && self.loads() < self.bounds.max_loading as usize {
            let Some(model) = self.queue.pop_front() else { return };
            if let Some(entry) = self.entries.get_mut(&model) {
                entry.place = Place::Loading { found: false };
            }
        }
    }

    fn may_admit(&self) -> bool {
        self.recovered && !self.closed
    }

    /// The orders that differ from what was said last.
    fn news(&mut self) -> Vec<(i64, Orders)> {
        let mut now: BTreeMap<i64, Orders> =
            self.entries.iter().map(|(model, entry)| (*model, self.orders_of(entry))).collect();
        for (place, model) in self.queue.iter().enumerate() {
            let position = u32::try_from(place + 1).unwrap_or(u32::MAX);
            let reason = if self.recovered { QueueReason::Loads } else { QueueReason::Recovery };
            if let (Some(entry), Some(orders)) = (self.entries.get(model), now.get_mut(model)) {
                let limit = self.recovered.then_some(self.bounds.max_loading);
                let run = entry.run.clone();
                orders.place = Some(QueuePlace { run, reason, position, limit });
            }
        }
        let mut news = Vec::new();
        for (model, orders) in &now {
            if self.orders.get(model) != Some(orders) {
                news.push((*model, orders.clone()));
            }
        }
        for model in self.orders.keys().filter(|model| !now.contains_key(model)) {
            news.push((*model, Orders::default()));
        }
        self.orders = now;
        news
    }

    fn orders_of(&self, entry: &Entry) -> Orders {
        let run = &entry.run;
        match entry.place {
            Place::Loading { found: false } => {
                Orders { admit: Some(run.clone()), ..Orders::default() }
            }
            Place::Refused => {
                let holds = |other: &&Entry| other.place != Place::Refused;
                let running =
                    self.entries.values().filter(holds).map(|other| Arc::clone(&other.name));
                let refusal = Refusal {
                    run: run.clone(),
                    max_running: self.bounds.max_running.unwrap_or(u32::MAX),
                    running: running.collect(),
                };
                Orders { refused: Some(refusal), ..Orders::default() }
            }
            Place::Running | Place::Waiting | Place::Loading { found: true } => Orders::default(),
        }
    }

    fn of_run(&mut self, model: i64, run: &str) -> Option<&mut Entry> {
        self.entries.get_mut(&model).filter(|entry| entry.run == run)
    }

    /// How many hold a running place.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.entries.values().filter(|entry| entry.place != Place::Refused).count()
    }

    /// How many hold a load place.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.entries.values().filter(|entry| matches!(entry.place, Place::Loading { .. })).count()
    }

    /// The models that hold anything, with their runs.
    pub fn tickets(&self) -> impl Iterator<Item = (i64, &RunId)> {
        self.entries.iter().map(|(model, entry)| (*model, &entry.run))
    }

    /// Whether the invariants hold.
    ///
    /// # Errors
    /// The sentence that says which does not.
    pub fn check(&self) -> Result<(), String> {
        let max = self.bounds.max_loading as usize;
        if self.may_admit() && !self.queue.is_empty() && self.loads() < max {
            return Err("V1: a load place is free, and somebody waits for it".to_owned());
        }
        let is_admitted = |entry: &&Entry| entry.place == Place::Loading { found: false };
        let admitted = self.entries.values().filter(is_admitted).count();
        if admitted > max {
            return Err(format!("V2: {admitted} were admitted to load, and {max} may"));
        }
        if !self.recovered && admitted > 0 {
            return Err("V6: somebody was admitted before everything was found".to_owned());
        }
        let waits = |model: &i64| {
            self.entries.get(model).is_some_and(|entry| entry.place == Place::Waiting)
        };
        let waiting = self.entries.values().filter(|entry| entry.place == Place::Waiting).count();
        if !self.queue.iter().all(waits) || waiting != self.queue.len() {
            return Err("V3: the line and the ledger tell different things".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
