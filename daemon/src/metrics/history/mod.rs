//! History: what was measured, kept for a year.
//!
//! ```text
//!   sampler ─▶ Recorder ─▶ batch of ten seconds ─▶ thread ─▶ Book: raw ─▶ minutes ─▶ hours ─▶ the oldest go
//!   (thread)      │ rows that are not written           ╰ metrics.db
//!                 ╰──────────────▶ ask ◀── reader ──────────╯
//!                                   ╰─▶ Answer: a summary for each series and step
//! ```
//!
//! - The sampler waits for no disk: it hands a batch over and goes on. What cannot be written waits, ten minutes
//!   of it; what is older is dropped and counted.
//! - Whoever asks sees the last second: what is not written yet is answered from memory.
//! - A crash of the daemon loses the open batch, a power cut a minute at most.
//! - A damaged database is set aside, which is said, and another begun. Nothing but history depends on it.

mod ask;
mod book;
mod codec;
#[doc(hidden)]
pub mod figures;
mod key;
mod record;
mod retention;
mod rollup;
mod steps;
#[cfg(test)]
mod tests;
mod totals;

pub use ask::{Answer, From, LONG_GAP, Question, Wanted};
pub use totals::Totals;

use crate::os::process::{boot_id, boottime_ms};
use crate::store::metrics::{BootRow, Fault, MetricsReader};
use crate::store::{DatabaseError, metrics as store};
use ask::Memory;
use book::{Book, Ids};
use llamactl_protocol::UnixMs;
use llamactl_protocol::metrics::Sample;
use llamactl_protocol::series::Series;
use record::{Batch, Moment, Recorder, series_at};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

/// Batches that wait to be written; older ones are dropped.
const MOST_WAITING: usize = 60;
/// Written batches that stay in memory, for those who follow.
const RECENT: usize = 2;
/// How long what stands in the way is left alone.
const RETRY: Duration = Duration::from_secs(10);

/// Where and how much.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The state directory, in which the database lies.
    pub dir: PathBuf,
    /// How large it may become.
    pub size_bytes: u64,
}

/// How history is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// How much of the database is in use.
    pub size_bytes: u64,
    /// Samples that could not be written and were dropped.
    pub samples_lost: u64,
    /// Why nothing is written now.
    pub problem: Option<String>,
    /// The last damaged database that was set aside, and why.
    pub set_aside: Option<(PathBuf, String)>,
}

/// Shared by the sampler, the thread that writes and those who ask. Held for microseconds.
#[derive(Debug)]
struct State {
    recorder: Recorder,
    /// Not written yet, the oldest first.
    waiting: VecDeque<Arc<Batch>>,
    /// The last that were written.
    recent: VecDeque<Arc<Batch>>,
    boots: Vec<BootRow>,
    ids: Arc<Ids>,
    rolled_until: (i64, i64),
    /// What this life of the daemon is called in totals of what it counts itself.
    life: String,
    /// As they are, and as they are told; `None` until a database was opened.
    totals: Option<(Totals, Arc<Totals>)>,
    /// `None` where there is no database.
    reader: Option<MetricsReader>,
    /// Somebody found the database damaged.
    is_damaged: bool,
    has_ended: bool,
}

impl State {
    /// What is known without the database.
    fn memory(&self) -> Memory {
        let open = self.recorder.open().map(|open| Arc::new(open.clone()));
        let batches: Vec<_> =
            self.recent.iter().chain(&self.waiting).cloned().chain(open).collect();
        let mut boots = self.boots.clone();
        if let Some(last) = batches.last() {
            let (id, wall_offset_ms) = (last.boot, last.wall_offset_ms);
            match boots.iter_mut().find(|boot| boot.id == id) {
                // It is about to be written so.
                Some(boot) => boot.wall_offset_ms = wall_offset_ms,
                None => boots.push(BootRow { id, boot_id: String::new(), wall_offset_ms }),
            }
        }
        Memory { boots, ids: Arc::clone(&self.ids), batches, rolled_until: self.rolled_until }
    }

    /// Takes what was read when the database was opened.
    fn take(&mut self, book: &Book) {
        self.boots.clone_from(&book.boots);
        self.ids = Arc::clone(&book.ids);
        self.rolled_until = book.rolled_until();
        self.reader = Some(book.reader());
        // One that is begun anew while the daemon runs gets those of before.
        let written = || (Totals::clone(&book.totals), Arc::clone(&book.totals));
        self.totals.get_or_insert_with(written);
        let of_this = book.boots.iter().find(|boot| boot.id == book.boot());
        self.recorder.set_boot(book.boot(), of_this.map(|boot| boot.wall_offset_ms));
        for batch in self.recent.iter_mut().chain(&mut self.waiting) {
            if batch.boot != book.boot() {
                Arc::make_mut(batch).boot = book.boot();
            }
        }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    latest: watch::Sender<i64>,
    health: watch::Sender<Health>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// History, for those who ask. Cheap to clone.
#[derive(Clone, Debug)]
pub struct History(Arc<Shared>);

/// History, for the one who samples.
#[derive(Debug)]
pub(super) struct Keeper(Arc<Shared>);

/// Opens history and starts the thread that writes it. What stands in the way of the database is said and
/// tried again; what is measured meanwhile can be asked for as long as it is in memory. What is told by the
/// receiver: that all is written.
///
/// # Errors
/// The thread cannot be made.
pub(super) fn start(settings: Settings) -> io::Result<(History, Keeper, oneshot::Receiver<()>)> {
    start_in(settings, boot_id().unwrap_or_default(), boottime_ms())
}

/// The same in a boot of that name, so many milliseconds behind its beginning.
fn start_in(
    settings: Settings,
    boot_id: String,
    began_ms: u64,
) -> io::Result<(History, Keeper, oneshot::Receiver<()>)> {
    let state = State {
        recorder: Recorder::new(1),
        waiting: VecDeque::new(),
        recent: VecDeque::new(),
        boots: Vec::new(),
        ids: Arc::default(),
        rolled_until: (0, 0),
        life: Uuid::now_v7().to_string(),
        totals: None,
        reader: None,
        is_damaged: false,
        has_ended: false,
    };
    let (latest, health) = (watch::Sender::new(0), watch::Sender::default());
    let shared =
        Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new(), latest, health });
    let mut writer =
        Writer { settings, boot_id, began_ms, shared: Arc::clone(&shared), book: None };
    writer.open();
    let (done, written) = oneshot::channel();
    std::thread::Builder::new().name("history".to_owned()).spawn(move || {
        writer.run();
        // Who started it may have gone.
        let _ = done.send(());
    })?;
    Ok((History(Arc::clone(&shared)), Keeper(shared), written))
}

impl Keeper {
    /// Whether somebody waits for the next row.
    pub(super) fn is_followed(&self) -> bool {
        self.0.latest.receiver_count() > 0
    }

    /// Takes in a sample.
    pub(super) fn add(&self, sample: &Sample) {
        let boottime_ms = boottime_ms();
        let wall_offset_ms = super::unix_ms().saturating_sub(boottime_ms.cast_signed());
        self.add_at(sample, Moment { boottime_ms, wall_offset_ms });
    }

    fn add_at(&self, sample: &Sample, now: Moment) {
        let mut state = self.0.state();
        let over = state.recorder.add(sample, now);
        let State { life, totals, .. } = &mut *state;
        totals.iter_mut().for_each(|(totals, _)| totals.add(sample, life));
        let open = state.recorder.open();
        let latest = open.map_or(0, |open| key::key(open.boot, open.last_ms()));
        if let Some(over) = over {
            state.waiting.push_back(Arc::new(over));
            self.0.wake.notify_one();
        }
        drop(state);
        self.0.latest.send_replace(latest);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Some(rest) = state.recorder.close() {
            state.waiting.push_back(Arc::new(rest));
        }
        state.has_ended = true;
        self.0.wake.notify_one();
    }
}

/// The thread that writes.
struct Writer {
    settings: Settings,
    boot_id: String,
    began_ms: u64,
    shared: Arc<Shared>,
    book: Option<Book>,
}

impl Writer {
    fn run(mut self) {
        if let Some(Err(error)) = self.book.as_ref().map(Book::look_through) {
            self.failed(&error);
        }
        loop {
            let mut state = self.shared.state();
            while state.waiting.is_empty() && !state.has_ended && !state.is_damaged {
                state = self.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let has_ended = state.has_ended;
            let is_damaged = std::mem::take(&mut state.is_damaged);
            let batch = state.waiting.front().cloned();
            drop(state);
            if is_damaged {
                self.set_aside("what was read of it");
            }
            let Some(batch) = batch else {
                if has_ended {
                    return;
                }
                continue;
            };
            if self.write(&batch) {
                continue;
            }
            if has_ended {
                return;
            }
            self.drop_oldest();
            let state = self.shared.state();
            let waited = self.shared.wake.wait_timeout(state, RETRY);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Writes a batch that waits; whether it is written.
    fn write(&mut self, batch: &Batch) -> bool {
        for _ in 0..2 {
            if self.book.is_none() {
                self.open();
            }
            // Opening it may have given this boot another number.
            let (boot, totals) = {
                let state = self.shared.state();
                let boot = state.waiting.front().map_or(batch.boot, |it| it.boot);
                (boot, state.totals.as_ref().map(|(totals, _)| totals.clone()).unwrap_or_default())
            };
            let renumbered = (boot != batch.boot).then(|| Batch { boot, ..batch.clone() });
            let Some(book) = &mut self.book else { return false };
            match book.write(renumbered.as_ref().unwrap_or(batch), totals) {
                Ok(()) => {
                    self.written();
                    return true;
                }
                // What was set aside is begun anew, once.
                Err(error) => {
                    if !self.failed(&error) {
                        return false;
                    }
                }
            }
        }
        false
    }

    fn written(&mut self) {
        let Some(book) = &mut self.book else { return };
        let used_bytes = book.used_bytes;
        let mut state = self.shared.state();
        state.boots.clone_from(&book.boots);
        state.ids = Arc::clone(&book.ids);
        state.rolled_until = book.rolled_until();
        if let Some((_, told)) = &mut state.totals {
            told.clone_from(&book.totals);
        }
        let written = state.waiting.pop_front();
        state.recent.extend(written);
        while state.recent.len() > RECENT {
            state.recent.pop_front();
        }
        drop(state);
        let mut had_problem = false;
        self.shared.health.send_if_modified(|health| {
            had_problem = health.problem.take().is_some();
            std::mem::replace(&mut health.size_bytes, used_bytes) != used_bytes || had_problem
        });
        if had_problem {
            tracing::info!("history is written again");
        }
        if !book.is_in_place() {
            self.trouble("its file was deleted or replaced; another is begun".to_owned());
            self.close();
        }
    }

    /// What is done about an error: whether there is another database now.
    fn failed(&mut self, error: &DatabaseError) -> bool {
        if error.fault() == Fault::Damaged {
            return self.set_aside(&error.to_string());
        }
        self.trouble(error.to_string());
        // A handle that failed once is not trusted.
        self.close();
        false
    }

    fn close(&mut self) {
        self.book = None;
        self.shared.state().reader = None;
    }

    fn open(&mut self) {
        let opened = self.try_open().or_else(|error| match error.fault() {
            Fault::Damaged if self.set_aside(&error.to_string()) => self.try_open(),
            _ => Err(error),
        });
        if let Err(error) = opened {
            self.trouble(error.to_string());
        }
    }

    fn try_open(&mut self) -> Result<(), DatabaseError> {
        let Settings { dir, size_bytes } = &self.settings;
        let now_ms = key::ms(*self.shared.latest.borrow()).max(self.began_ms);
        let at_least = self.shared.state().recorder.boot();
        let book = Book::open(dir, *size_bytes, &self.boot_id, now_ms, at_least)?;
        self.shared.state().take(&book);
        self.shared.health.send_modify(|health| health.size_bytes = book.used_bytes);
        self.book = Some(book);
        Ok(())
    }

    /// Moves a damaged database out of the way; whether that could be done.
    fn set_aside(&mut self, why: &str) -> bool {
        self.close();
        match store::set_aside(&self.settings.dir) {
            Ok(aside) => {
                tracing::error!(
                    why, aside = %aside.display(),
                    "the history of metrics is damaged and was set aside; another is begun"
                );
                let why = why.to_owned();
                self.shared.health.send_modify(|health| health.set_aside = Some((aside, why)));
                true
            }
            Err(error) => {
                self.trouble(format!("it is damaged and cannot be moved away: {error}"));
                false
            }
        }
    }

    /// Says once that nothing can be written.
    fn trouble(&self, why: String) {
        let mut is_news = false;
        self.shared.health.send_modify(|health| {
            is_news = health.problem.is_none();
            health.problem = Some(why.clone());
        });
        if is_news {
            tracing::warn!(why, "the history of metrics is not written");
        }
    }

    /// Drops what has waited for too long, and counts it.
    fn drop_oldest(&self) {
        let mut state = self.shared.state();
        let mut lost = 0;
        while state.waiting.len() > MOST_WAITING {
            lost += state.waiting.pop_front().map_or(0, |batch| batch.rows() as u64);
        }
        drop(state);
        if lost > 0 {
            self.shared.health.send_modify(|health| health.samples_lost += lost);
        }
    }
}

impl History {
    /// The key of the last row, each time there is one.
    #[must_use]
    pub fn latest(&self) -> watch::Receiver<i64> {
        self.0.latest.subscribe()
    }

    /// How it is kept, as that changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.0.health.subscribe()
    }

    /// When the row of a key was, by the wall clock of now.
    #[must_use]
    pub fn wall_ms(&self, at: i64) -> UnixMs {
        self.0.state().memory().wall_ms(at)
    }

    /// The key of a time, of the last boot that had begun then.
    #[must_use]
    pub fn key_at(&self, wall_ms: UnixMs) -> i64 {
        self.0.state().memory().key_at(wall_ms)
    }

    /// What each model did over all its runs, as far as it is written; `None` while the database was never
    /// open.
    #[must_use]
    pub fn totals(&self) -> Option<Arc<Totals>> {
        self.0.state().totals.as_ref().map(|(_, told)| Arc::clone(told))
    }

    /// Whether a key is of a boot that is known.
    #[must_use]
    pub fn knows(&self, at: i64) -> bool {
        let memory = self.0.state().memory();
        memory.boots.iter().any(|boot| boot.id == key::boot(at))
    }

    /// What was measured.
    ///
    /// # Errors
    /// That the database cannot be read.
    pub async fn ask(&self, question: Question) -> Result<Answer, DatabaseError> {
        let (memory, reader) = {
            let state = self.0.state();
            (state.memory(), state.reader.clone())
        };
        let is_here = matches!(question.from, From::Behind(at) if memory.has_all_behind(at));
        let Some(reader) = reader.filter(|_| !is_here) else {
            return ask::answer(None, &memory, &question);
        };
        let answer = reader.read(move |rows| ask::answer(Some(rows), &memory, &question)).await;
        if let Err(error) = &answer
            && error.fault() == Fault::Damaged
        {
            self.0.state().is_damaged = true;
            self.0.wake.notify_one();
        }
        answer
    }
}

impl Answer {
    /// How many steps there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.steps.count
    }

    /// When the first step begins, and how long each is.
    #[must_use]
    pub fn grid(&self) -> (i64, i64) {
        (self.steps.start_ms, self.steps.step_ms)
    }

    /// Whether a step has any sample.
    #[must_use]
    pub fn has_sample(&self, step: usize) -> bool {
        self.steps.has_sample(step)
    }

    /// The columns of the steps in a range, in the order of the catalogue, each with the instance that it
    /// is of.
    #[must_use]
    pub fn columns(&self, range: std::ops::Range<usize>) -> Vec<(Column, Vec<Option<f64>>)> {
        let mut columns: Vec<&steps::Column> = self.steps.columns.iter().collect();
        columns.sort_by(|a, b| a.key.cmp(&b.key));
        let of = |column: &&steps::Column| {
            let series = series_at(column.key.0)?;
            let values = range.clone().map(|step| column.number(series, step)).collect();
            Some((Column { series, instance: Arc::clone(&column.key.1) }, values))
        };
        columns.iter().filter_map(of).collect()
    }
}

/// A series of an instance.
#[derive(Clone, Debug)]
pub struct Column {
    /// Which series.
    pub series: &'static Series,
    /// The model's id or the GPU's UUID; empty for the machine and the daemon.
    pub instance: Arc<str>,
}

impl PartialEq for Column {
    fn eq(&self, other: &Column) -> bool {
        self.series.name == other.series.name && self.instance == other.instance
    }
}

/// The length of steps for a span of time: as asked, or such that there are not too many.
#[must_use]
pub fn step_ms(asked: Option<u64>, span_ms: i64) -> i64 {
    steps::step_ms(asked, span_ms, 720)
}

/// Where the database lies in a state directory.
#[must_use]
pub fn path(dir: &Path) -> PathBuf {
    store::path(dir)
}
