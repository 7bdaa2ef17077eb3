//! A thread that writes: jobs that wait in its queue share one transaction.
//!
//! ```text
//!   BEGIN ─▶ job (savepoint) ─▶ job (savepoint) ─▶ … ─▶ COMMIT ─▶ in place? ─▶ announce ─▶ answers
//!              ╰ failed: rolled back alone           ╰ failed: each again in one of its own
//!
//!   vital, and the disk in the way ─▶ answered with the error ─▶ kept, in order ─▶ written before anything newer
//! ```
//!
//! * What was answered with `Ok` is on disk; what was answered with an error has not happened. But for
//!   what is vital, like a stop: that is kept, and written as soon as it can be.
//! * A failure is told to the job that failed, and to no other.
//! * SQLite has one writer, and here it is one thread: inside the daemon no database is ever busy.
//! * Where the files were deleted they are put back before the answer ([`place`](super::place)).
//!
//! A commit costs one or two flushes of the disk, a job some tens of microseconds: where many wait,
//! they are written for the price of one.

use super::ballast::Ballast;
use super::place::{Files, Place};
use super::reader::{self, Slot, panicked, run};
use super::{DatabaseError, Health, Intruder, MayPass, Obstacle, migrate};
use rusqlite::{Connection, MAIN_DB};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// Callers past this many wait for a place in the queue.
const QUEUE: usize = 256;
/// No more jobs than this share a transaction: the first of them waits for the last.
const MOST_JOBS: usize = 64;
/// No job joins a transaction that is older.
const MOST_TIME: Duration = Duration::from_millis(20);
/// No more vital jobs than this are kept, nor more bytes of them.
const MOST_KEPT: usize = 1_000;
const MOST_KEPT_BYTES: usize = 4 << 20;
/// How often it is looked whether what is in the way has gone, while something is.
const RETRY: Duration = Duration::from_secs(5);
/// Putting a database back takes a while where it is large: it is not tried for every change.
const RESCUE_RETRY: Duration = Duration::from_secs(1);

/// A change on its way: made in a transaction, perhaps twice, then answered.
trait Job: Send {
    /// Makes the change. Its outcome is kept until it is told; whether it succeeded is given.
    fn make(&mut self, connection: &Connection) -> bool;
    /// What stood in the way of the last [`make`](Job::make), where that may pass.
    fn in_its_way(&self) -> Option<Obstacle>;
    /// Tells the caller the outcome of the last [`make`](Job::make).
    fn answer(&mut self);
    /// Tells the caller that the change was not made.
    fn fail(&mut self, error: DatabaseError);
    /// How many bytes it is about, where it must be made in the end.
    fn vital(&self) -> Option<usize>;
}

/// What joins a transaction in which so many jobs are made already.
type More<'a> = dyn FnMut(usize) -> Option<Box<dyn Job>> + 'a;

enum Task {
    Change(Box<dyn Job>),
    /// Outside of any transaction.
    Bare(Box<dyn FnOnce(&Connection) + Send>),
    /// Looks whether all is in place, and writes what waits.
    Look,
    /// Puts the database back where another file lies; where that is then.
    PutBack(oneshot::Sender<Result<PathBuf, DatabaseError>>),
}

/// What is told on the thread, besides that something was committed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    /// The database was deleted and put back.
    pub(super) restored: bool,
    /// So many vital changes were not kept: there were too many.
    pub(super) lost: u64,
    /// What stood in the way of writing has gone.
    pub(super) writes_again: bool,
}

/// What the thread works on.
pub(super) struct Desk<O, A> {
    /// The connection that it writes with, and its files.
    pub(super) connection: Connection,
    /// `None` for one without files.
    pub(super) files: Option<Files>,
    /// Makes another connection where a job broke it or its files were put back.
    pub(super) open: O,
    /// Runs after each commit, before the answers.
    pub(super) announce: A,
    /// What others read with: closed while files are put back.
    pub(super) readers: Vec<Slot>,
    /// `None` for one without a disk.
    pub(super) ballast: Option<Ballast>,
    /// Why nothing can be written from the beginning on.
    pub(super) unwritable: Option<String>,
}

/// A handle to the writing thread. It ends, and closes its connection, with the last handle.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    tasks: mpsc::Sender<Task>,
    longest_us: Arc<AtomicU64>,
    health: watch::Receiver<Health>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start<O, A>(name: String, desk: Desk<O, A>) -> Result<Writer, DatabaseError>
    where
        O: Fn() -> Result<(Connection, Option<Files>), DatabaseError> + Send + 'static,
        A: FnMut(&Connection, News) + Send + 'static,
    {
        let (tasks, mut queue) = mpsc::channel(QUEUE);
        let longest_us = Arc::new(AtomicU64::new(0));
        let (told, health) = watch::channel(Health::default());
        let Desk { connection, files, open, announce, readers, ballast, unwritable } = desk;
        let mut work = Work {
            connection: Some(connection),
            files,
            open,
            announce,
            readers,
            ballast,
            kept: VecDeque::new(),
            kept_bytes: 0,
            lost: 0,
            disk_full: false,
            unwritable,
            gone: None,
            replaced: None,
            told,
            own_tasks: tasks.downgrade(),
            is_looked_after: Arc::default(),
            longest_us: Arc::clone(&longest_us),
        };
        let serve = move || {
            work.tell();
            let mut next = queue.blocking_recv();
            while let Some(task) = next {
                next = match task {
                    Task::Change(job) => work.changes(job, || queue.try_recv().ok()),
                    Task::Bare(job) => {
                        work.bare(job);
                        None
                    }
                    Task::Look => {
                        work.look();
                        None
                    }
                    Task::PutBack(answer) => {
                        let moved = work.put_back();
                        work.tell();
                        // The caller may have gone.
                        let _ = answer.send(moved);
                        None
                    }
                };
                work.tell();
                next = next.or_else(|| queue.blocking_recv());
            }
        };
        thread::Builder::new().name(name).spawn(serve).map_err(DatabaseError::NoThread)?;
        Ok(Writer { tasks, longest_us, health })
    }

    /// The longest that one transaction held all others up, its commit included.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_us.load(Ordering::Relaxed))
    }

    /// How the database is kept.
    pub(super) fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Makes a change, which is on disk when this gives `Ok` and has not happened when it gives
    /// `Err`. `change` may run twice: the first time is undone before the second. A change whose
    /// caller went away is made all the same.
    ///
    /// # Errors
    /// What the change gives, or why it could not be committed.
    pub(super) async fn change<T, E, F>(&self, change: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + MayPass + Send + 'static,
        F: Fn(&Connection) -> Result<T, E> + Send + 'static,
    {
        self.make(change, None).await
    }

    /// The same for a change of about so many bytes that must be made in the end: where the disk is in its
    /// way it gives the error and is kept, and made as soon as it can be.
    ///
    /// # Errors
    /// What the change gives, or why it could not be committed yet.
    pub(super) async fn vital<T, E, F>(&self, bytes: usize, change: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + MayPass + Send + 'static,
        F: Fn(&Connection) -> Result<T, E> + Send + 'static,
    {
        self.make(change, Some(bytes)).await
    }

    async fn make<T, E, F>(&self, change: F, vital: Option<usize>) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + MayPass + Send + 'static,
        F: Fn(&Connection) -> Result<T, E> + Send + 'static,
    {
        let (done, answer) = oneshot::channel();
        let job = Change { change, outcome: None, done: Some(done), vital };
        self.tasks.send(Task::Change(Box::new(job))).await.map_err(|_| DatabaseError::Closed)?;
        answer.await.map_err(|_| DatabaseError::Closed)?
    }

    /// Runs `job` between transactions: for what SQLite does in none.
    ///
    /// # Errors
    /// What the job gives.
    pub(super) async fn bare<T, F>(&self, job: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, DatabaseError> + Send + 'static,
    {
        let (done, answer) = oneshot::channel();
        let job = Task::Bare(Box::new(move |connection| {
            let ran = catch_unwind(AssertUnwindSafe(|| job(connection)));
            let _ = done.send(ran.unwrap_or_else(|_| Err(panicked())));
        }));
        self.tasks.send(job).await.map_err(|_| DatabaseError::Closed)?;
        answer.await.map_err(|_| DatabaseError::Closed)?
    }

    /// Has it looked whether all is in place, and what waits written.
    pub(super) async fn look(&self) {
        // Where the thread has ended there is nothing to be looked after.
        let _ = self.tasks.send(Task::Look).await;
    }

    /// Puts the database back into its place, where another file lies; where that is then.
    ///
    /// # Errors
    /// [`DatabaseError::Gone`] with what stood in the way.
    pub(super) async fn put_back(&self) -> Result<PathBuf, DatabaseError> {
        let (done, answer) = oneshot::channel();
        self.tasks.send(Task::PutBack(done)).await.map_err(|_| DatabaseError::Closed)?;
        answer.await.map_err(|_| DatabaseError::Closed)?
    }
}

struct Change<T, E, F> {
    change: F,
    outcome: Option<Result<T, E>>,
    /// `None`: it was answered.
    done: Option<oneshot::Sender<Result<T, E>>>,
    vital: Option<usize>,
}

impl<T, E, F> Change<T, E, F> {
    fn tell(&mut self, outcome: Result<T, E>) {
        if let Some(done) = self.done.take() {
            // The caller may have gone.
            let _ = done.send(outcome);
        }
    }
}

impl<T, E, F> Job for Change<T, E, F>
where
    T: Send,
    E: From<DatabaseError> + MayPass + Send,
    F: Fn(&Connection) -> Result<T, E> + Send,
{
    fn make(&mut self, connection: &Connection) -> bool {
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.change)(connection)))
            .unwrap_or_else(|_| Err(panicked().into()));
        self.outcome.insert(outcome).is_ok()
    }

    fn in_its_way(&self) -> Option<Obstacle> {
        self.outcome.as_ref()?.as_ref().err()?.obstacle()
    }

    fn answer(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            self.tell(outcome);
        }
    }

    fn fail(&mut self, error: DatabaseError) {
        self.tell(Err(error.into()));
    }

    fn vital(&self) -> Option<usize> {
        self.vital
    }
}

struct Work<O, A> {
    /// `None` until it is opened anew.
    connection: Option<Connection>,
    files: Option<Files>,
    open: O,
    announce: A,
    readers: Vec<Slot>,
    ballast: Option<Ballast>,
    /// Vital changes that wait, the oldest first.
    kept: VecDeque<Box<dyn Job>>,
    kept_bytes: usize,
    /// Vital changes that there was no room for here either.
    lost: u64,
    disk_full: bool,
    /// Why nothing could be written at the last try, though there is room.
    unwritable: Option<String>,
    /// Why the deleted database could not be put back, and when that was tried.
    gone: Option<(String, Instant)>,
    replaced: Option<Intruder>,
    told: watch::Sender<Health>,
    own_tasks: mpsc::WeakSender<Task>,
    /// Whether somebody comes back to look.
    is_looked_after: Arc<AtomicBool>,
    longest_us: Arc<AtomicU64>,
}

/// Why a transaction came to nothing.
struct Undone {
    error: DatabaseError,
    /// It was committed to a file that has no name: it cannot be made again, and is not kept.
    committed: bool,
}

impl<E: Into<DatabaseError>> From<E> for Undone {
    fn from(error: E) -> Undone {
        Undone { error: error.into(), committed: false }
    }
}

impl<O, A> Work<O, A>
where
    O: Fn() -> Result<(Connection, Option<Files>), DatabaseError>,
    A: FnMut(&Connection, News),
{
    /// Makes `first` and the changes that wait behind it. What is given back comes after them.
    fn changes(
        &mut self,
        first: Box<dyn Job>,
        mut waiting: impl FnMut() -> Option<Task>,
    ) -> Option<Task> {
        if let Err(error) = self.write_kept() {
            // What is older goes first, or not at all.
            self.finish(first, Some(error));
            return None;
        }
        let mut behind = None;
        let begun = Instant::now();
        let vital = first.vital().is_some();
        self.settle(vec![first], &mut |made| {
            if made == MOST_JOBS || begun.elapsed() > MOST_TIME {
                return None;
            }
            match waiting()? {
                // The room that is kept for what is vital is not for others.
                Task::Change(job) if job.vital().is_some() == vital => Some(job),
                other => {
                    behind = Some(other);
                    None
                }
            }
        });
        behind
    }

    /// Makes changes and answers them.
    fn settle(&mut self, mut jobs: Vec<Box<dyn Job>>, more: &mut More<'_>) {
        let is_for_others = jobs.iter().any(|job| job.vital().is_none());
        if is_for_others && self.ballast.as_mut().is_some_and(Ballast::is_missing) {
            jobs.into_iter().for_each(|job| self.finish(job, Some(Obstacle::DiskFull.into())));
            return;
        }
        match self.together(&mut jobs, more) {
            Ok(()) => {
                let full = matches!(&*jobs, [job] if job.in_its_way() == Some(Obstacle::DiskFull));
                match full && self.makes_room(&jobs) {
                    true => self.settle(jobs, more),
                    false => jobs.into_iter().for_each(|job| self.finish(job, None)),
                }
            }
            Err(Undone { error, committed: true }) => {
                self.tell();
                jobs.into_iter().for_each(|mut job| job.fail(again(&error)));
            }
            // Whose failure it was is not known: each is tried again and has its own.
            Err(_) if jobs.len() > 1 => {
                jobs.into_iter().for_each(|job| self.settle(vec![job], &mut |_| None));
            }
            Err(Undone { error, .. }) if error.is_disk_full() && self.makes_room(&jobs) => {
                self.settle(jobs, more);
            }
            Err(Undone { error, .. }) => {
                jobs.into_iter().for_each(|job| self.finish(job, Some(again(&error))));
            }
        }
    }

    /// Whether there is room now for what is vital.
    fn makes_room(&mut self, jobs: &[Box<dyn Job>]) -> bool {
        jobs.iter().all(|job| job.vital().is_some())
            && self.ballast.as_mut().is_some_and(Ballast::release)
    }

    /// Tells a caller what came of a change, and keeps what is vital where the disk was in its way.
    fn finish(&mut self, mut job: Box<dyn Job>, error: Option<DatabaseError>) {
        let in_its_way = match &error {
            Some(error) => error.obstacle(),
            None => job.in_its_way(),
        };
        let waits = in_its_way.as_ref().and_then(|_| job.vital());
        self.meet(in_its_way);
        let room = self.kept.len() < MOST_KEPT
            && waits.is_none_or(|bytes| self.kept_bytes + bytes <= MOST_KEPT_BYTES);
        self.lost += u64::from(waits.is_some() && !room);
        let answer = |job: &mut Box<dyn Job>| match error {
            Some(error) => job.fail(error),
            None => job.answer(),
        };
        // Who is answered finds the database told of as the answer leaves it.
        match waits.filter(|_| room) {
            Some(bytes) => {
                self.kept_bytes += bytes;
                self.kept.push_back(job);
                self.tell();
                if let Some(job) = self.kept.back_mut() {
                    answer(job);
                }
            }
            None => {
                self.tell();
                answer(&mut job);
            }
        }
    }

    /// What stands in the way, so that it is told.
    fn meet(&mut self, obstacle: Option<Obstacle>) {
        match obstacle {
            Some(Obstacle::DiskFull) => self.disk_full = true,
            Some(Obstacle::Unwritable(why)) => self.unwritable = Some(why),
            Some(Obstacle::Other) | None => {}
        }
    }

    /// Makes the vital changes that wait, in their order.
    ///
    /// # Errors
    /// What is still in the way.
    fn write_kept(&mut self) -> Result<(), DatabaseError> {
        let mut at_once = MOST_JOBS;
        while !self.kept.is_empty() {
            let mut jobs: Vec<_> = self.kept.drain(..at_once.min(self.kept.len())).collect();
            let done = self.together(&mut jobs, &mut |_| None);
            let stuck = match &done {
                // One that did not fail by the disk would fail for ever.
                Ok(()) | Err(Undone { committed: true, .. }) => {
                    jobs.iter().position(|job| job.in_its_way().is_some()).unwrap_or(jobs.len())
                }
                Err(Undone { error, .. }) if jobs.len() == 1 && !error.may_pass() => 1,
                Err(_) => 0,
            };
            let error = match done {
                Err(Undone { error, .. }) => Some(error),
                Ok(()) => jobs.get(stuck).and_then(|job| job.in_its_way()).map(DatabaseError::from),
            };
            let waiting = jobs.split_off(stuck);
            self.kept_bytes -= jobs.iter().filter_map(|job| job.vital()).sum::<usize>();
            waiting.into_iter().rev().for_each(|job| self.kept.push_front(job));
            match error {
                None => {}
                Some(_) if stuck > 0 => {}
                Some(_) if at_once > 1 => at_once = 1,
                Some(error) if error.is_disk_full() => {
                    self.meet(Some(Obstacle::DiskFull));
                    if !self.ballast.as_mut().is_some_and(Ballast::release) {
                        return Err(error);
                    }
                }
                Some(error) => {
                    self.meet(error.obstacle());
                    return Err(error);
                }
            }
        }
        if self.lost > 0
            && let Some(connection) = &self.connection
        {
            let lost = std::mem::take(&mut self.lost);
            (self.announce)(connection, News { lost, ..News::default() });
        }
        Ok(())
    }

    /// Makes `jobs`, and then each that `more` gives after so many, in one transaction. With an
    /// error none of them has happened.
    fn together(
        &mut self,
        jobs: &mut Vec<Box<dyn Job>>,
        more: &mut More<'_>,
    ) -> Result<(), Undone> {
        let begun = Instant::now();
        let done = self.in_transaction(jobs, more);
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.longest_us.fetch_max(took, Ordering::Relaxed);
        done
    }

    fn in_transaction(
        &mut self,
        jobs: &mut Vec<Box<dyn Job>>,
        more: &mut More<'_>,
    ) -> Result<(), Undone> {
        if self.gone.is_some() || self.replaced.is_some() {
            self.in_place()?;
        }
        if let Err(error) = transact(self.connection()?, jobs, more) {
            self.abandon(&error);
            return Err(error.into());
        }
        self.in_place().map_err(|error| Undone { error, committed: true })?;
        self.has_written();
        if let Some(connection) = &self.connection {
            (self.announce)(connection, News::default());
        }
        Ok(())
    }

    /// What a commit that went well says of the disk: nothing, where the database may only be read.
    fn has_written(&mut self) {
        let Some(connection) = &self.connection else { return };
        if is_read_only(connection) {
            return;
        }
        (self.disk_full, self.unwritable) = (false, None);
        if let Some(files) = &mut self.files
            && let Err(error) = files.shorten_log(connection)
        {
            tracing::warn!(%error, "the registry's write-ahead log grows");
        }
    }

    fn connection(&mut self) -> Result<&Connection, DatabaseError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let (connection, files) = (self.open)()?;
                self.files = files;
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    fn bare(&mut self, job: Box<dyn FnOnce(&Connection) + Send>) {
        match self.connection() {
            Ok(connection) => job(connection),
            Err(error) => tracing::error!(%error, "the database could not be opened anew"),
        }
        if self.replaced.is_none()
            && let (Some(connection), Some(files)) = (&self.connection, &mut self.files)
        {
            // Where it is gone there is nothing to be told apart.
            let _ = files.own_contents(connection);
        }
        if self.connection.as_ref().is_some_and(|connection| !connection.is_autocommit()) {
            self.abandon(&rusqlite::Error::InvalidQuery);
        }
    }

    /// Leaves no transaction open, whatever it takes.
    fn abandon(&mut self, why: &rusqlite::Error) {
        let Some(connection) = &self.connection else { return };
        // What the disk has of it after that is not known: not even SQLite's own idea of it counts.
        let is_broken = why.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure);
        let is_open = !connection.is_autocommit() && run(connection, "ROLLBACK").is_err();
        if is_broken || is_open {
            if self.unwritable.is_none() {
                tracing::error!(error = %why, "the database is opened anew");
            }
            if let Some(Err(error)) = self.files.as_ref().map(|files| files.cut_log(connection)) {
                tracing::debug!(%error, "what was not written may be found in the log");
            }
            // By the next change.
            self.connection = None;
        }
    }

    // ---- Its files, and the disk they lie on -------------------------------------------------------

    /// Looks whether all is as it should be, and mends what can be mended.
    fn look(&mut self) {
        if let Err(error) = self.in_place() {
            tracing::error!(%error, "the database is not in its place");
        } else if let Err(error) = self.try_to_write().and_then(|()| self.write_kept()) {
            tracing::debug!(%error, "what waits cannot be written yet");
        }
        self.disk_full &= self.ballast.as_ref().is_some_and(Ballast::is_disk_full);
    }

    /// Writes what changes nothing where nothing could be written, to see whether that works again.
    fn try_to_write(&mut self) -> Result<(), DatabaseError> {
        if self.unwritable.is_none() {
            return Ok(());
        }
        if self.connection.as_ref().is_some_and(is_read_only) {
            // It stays so, and what is shared with those who read, until nobody has it open. On a disk that
            // fails they stay: the first to open a log plays what is in it, be it flushed or not.
            let readers = self.readers.clone();
            let _nobody_reads = reader::close(&readers);
            self.connection = None;
            self.connection()?;
        }
        let connection = self.connection()?;
        let version = migrate::version(connection)?;
        let written = connection.pragma_update(None, "user_version", version as u64);
        if let Err(error) = written {
            self.meet(error.obstacle());
            self.abandon(&error);
            return Err(error.into());
        }
        self.unwritable = None;
        self.in_place()
    }

    /// Sees to it that the files are in their place.
    ///
    /// # Errors
    /// [`DatabaseError::Gone`], [`DatabaseError::Replaced`]: they are not.
    fn in_place(&mut self) -> Result<(), DatabaseError> {
        let Some(files) = &mut self.files else { return Ok(()) };
        if self.replaced == Some(Intruder::Contents) {
            // There is no way back: the next daemon takes what lies there.
            return Err(files.replaced(Intruder::Contents));
        }
        let place = files.look(self.connection.as_ref());
        if place == Place::Whole {
            (self.gone, self.replaced) = (None, None);
            return Ok(());
        }
        if let (Place::Gone, Some((why, at))) = (place, &self.gone)
            && at.elapsed() < RESCUE_RETRY
        {
            return Err(files.gone(why));
        }
        let mended = self.mend(place);
        match &mended {
            Ok(()) => (self.gone, self.replaced) = (None, None),
            Err(DatabaseError::Replaced { by, .. }) => {
                (self.gone, self.replaced) = (None, Some(*by));
            }
            Err(error) => {
                let why = match error {
                    DatabaseError::Gone { why, .. } => why.clone(),
                    error => error.to_string(),
                };
                (self.gone, self.replaced) = (Some((why, Instant::now())), None);
            }
        }
        mended
    }

    fn mend(&mut self, place: Place) -> Result<(), DatabaseError> {
        let was_replaced = self.replaced.is_some();
        let (Some(connection), Some(files)) = (&self.connection, &self.files) else {
            return Ok(());
        };
        if place == Place::Replaced(Intruder::Contents) {
            // Those who read go on with the log that they have open.
            if let Err(error) = files.leave_log(connection) {
                tracing::error!(%error, "the registry's write-ahead log lies beside what is not its own");
            }
            return Err(files.replaced(Intruder::Contents));
        }
        // A reader that opens the new files beside one that has the old would read nonsense.
        let readers = self.readers.clone();
        let _nobody_reads = reader::close(&readers);
        match place {
            Place::Whole | Place::Replaced(Intruder::Contents) => return Ok(()),
            Place::LogGone => {
                tracing::warn!("the registry's write-ahead log was deleted: nothing is lost");
                files.empty_log(connection)?;
                files.clear_log().map_err(|error| files.gone(&error.to_string()))?;
            }
            Place::Gone => {
                files.put_back(connection)?;
                tracing::warn!("the registry was deleted, and put back: nothing is lost");
            }
            Place::Replaced(by) => {
                // Beside the other file our log would be played into it.
                if !was_replaced && let Err(error) = files.empty_log(connection) {
                    tracing::error!(%error, "the registry's write-ahead log was not emptied");
                }
                return Err(files.replaced(by));
            }
        }
        // Closed before it is opened anew: both would share what SQLite knows of the log.
        self.connection = None;
        let restored = place == Place::Gone;
        self.connection()?;
        if restored && let Some(connection) = &self.connection {
            (self.announce)(connection, News { restored, ..News::default() });
        }
        Ok(())
    }

    /// Puts the database back where another file lies; where that is then.
    fn put_back(&mut self) -> Result<PathBuf, DatabaseError> {
        let Err(DatabaseError::Replaced { by, .. }) = self.in_place() else {
            return Err(DatabaseError::InPlace);
        };
        let Some(files) = &self.files else { return Err(DatabaseError::InPlace) };
        if by == Intruder::Contents {
            return Err(files.replaced(by));
        }
        let moved = files.move_aside().map_err(|error| files.gone(&error.to_string()))?;
        self.in_place()?;
        Ok(moved)
    }

    /// Tells how the database is kept, and has somebody come back to look where not all is well.
    fn tell(&mut self) {
        let is_missing = self.ballast.as_mut().is_some_and(Ballast::is_missing);
        let health = Health {
            disk_full: self.disk_full || is_missing,
            unwritable: self.unwritable.clone(),
            gone: self.gone.as_ref().map(|(why, _)| why.clone()),
            replaced: self.replaced,
            waiting: self.kept.len(),
        };
        let is_well = health == Health::default();
        let writes_again = is_well && *self.told.borrow() != health;
        self.told.send_if_modified(|told| {
            let is_news = *told != health;
            *told = health;
            is_news
        });
        if writes_again && let Some(connection) = &self.connection {
            (self.announce)(connection, News { writes_again, ..News::default() });
        }
        if is_well || self.is_looked_after.swap(true, Ordering::SeqCst) {
            return;
        }
        let (tasks, is_looked_after) = (self.own_tasks.clone(), Arc::clone(&self.is_looked_after));
        let come_back = move || {
            thread::sleep(RETRY);
            is_looked_after.store(false, Ordering::SeqCst);
            if let Some(tasks) = tasks.upgrade() {
                // A thread that has ended has nothing to look after.
                let _ = tasks.blocking_send(Task::Look);
            }
        };
        if let Err(error) = thread::Builder::new().name("store-retry".to_owned()).spawn(come_back) {
            tracing::warn!(%error, "nobody tries again by itself to write what waits");
            self.is_looked_after.store(false, Ordering::SeqCst);
        }
    }
}

/// The same error for another caller.
fn again(error: &DatabaseError) -> DatabaseError {
    match error {
        DatabaseError::Sqlite(rusqlite::Error::SqliteFailure(code, words)) => {
            rusqlite::Error::SqliteFailure(*code, words.clone()).into()
        }
        DatabaseError::Gone { path, why } => {
            DatabaseError::Gone { path: path.clone(), why: why.clone() }
        }
        DatabaseError::Replaced { path, by } => {
            DatabaseError::Replaced { path: path.clone(), by: *by }
        }
        DatabaseError::Panicked => DatabaseError::Panicked,
        _ => DatabaseError::Closed,
    }
}

fn is_read_only(connection: &Connection) -> bool {
    connection.is_readonly(MAIN_DB).unwrap_or(false)
}

/// Makes jobs in one transaction; with an error it may still be open.
fn transact(
    connection: &Connection,
    jobs: &mut Vec<Box<dyn Job>>,
    more: &mut More<'_>,
) -> rusqlite::Result<()> {
    run(connection, "BEGIN IMMEDIATE")?;
    let mut made = 0;
    while let Some(job) = jobs.get_mut(made) {
        match in_savepoint(connection, job.as_mut())? {
            // SQLite gave the whole transaction up, as it does when the disk is full. Where there
            // is but one job, it knows why; else the commit fails.
            false if connection.is_autocommit() && jobs.len() == 1 => return Ok(()),
            _ if connection.is_autocommit() => break,
            _ => {}
        }
        made += 1;
        if made == jobs.len() {
            jobs.extend(more(made));
        }
    }
    run(connection, "COMMIT")
}

/// Makes a change such that it can be undone without what was made before it; whether it succeeded.
fn in_savepoint(connection: &Connection, job: &mut dyn Job) -> rusqlite::Result<bool> {
    run(connection, "SAVEPOINT job")?;
    let made = job.make(connection);
    if connection.is_autocommit() {
        return Ok(made);
    }
    if !made {
        run(connection, "ROLLBACK TO job")?;
    }
    run(connection, "RELEASE job")?;
    Ok(made)
}

#[cfg(test)]
#[allow(clippy::panic, reason = "what is tried here")]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use tokio::task::JoinHandle;

    /// A writer on a table whose foreign key is checked at the commit, and how often it committed.
    fn writer() -> (Writer, Arc<AtomicUsize>) {
        let connection = Connection::open_in_memory().unwrap();
        let table = "CREATE TABLE t (id INTEGER PRIMARY KEY,
                                     of INTEGER REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED);
                     PRAGMA foreign_keys = 1";
        connection.execute_batch(table).unwrap();
        let commits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&commits);
        let open = || Err(DatabaseError::Closed);
        let announce = move |_: &Connection, _| {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let (readers, ballast, unwritable) = (vec![], None, None);
        let desk = Desk { connection, files: None, open, announce, readers, ballast, unwritable };
        let writer = Writer::start("test".to_owned(), desk).unwrap();
        (writer, commits)
    }

    /// Inserts a row that refers to another.
    async fn insert(writer: &Writer, id: i64, of: Option<i64>) -> Result<(), DatabaseError> {
        let insert = move |connection: &Connection| {
            connection.execute("INSERT INTO t VALUES (?1, ?2)", (id, of))?;
            Ok(())
        };
        writer.change(insert).await
    }

    async fn rows(writer: &Writer) -> Vec<i64> {
        let rows = writer.change(|connection| {
            let mut statement = connection.prepare("SELECT id FROM t ORDER BY id")?;
            let rows = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok::<Vec<i64>, DatabaseError>(rows)
        });
        rows.await.unwrap()
    }

    /// Holds the writer until the sender is dropped, so that jobs wait behind one another.
    async fn held(writer: &Writer) -> (std::sync::mpsc::Sender<()>, JoinHandle<()>) {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let writer = writer.clone();
        let holding = tokio::spawn(async move {
            let hold = writer.bare(move |_| {
                let _ = begun.send(());
                let _ = held.recv();
                Ok(())
            });
            hold.await.unwrap();
        });
        has_begun.await.unwrap();
        (release, holding)
    }

    #[tokio::test]
    async fn what_waits_is_committed_together_and_a_failure_undoes_only_its_own() {
        let (writer, commits) = writer();
        let (release, holding) = held(&writer).await;
        let panics = writer.change::<(), DatabaseError, _>(|connection| {
            connection.execute("INSERT INTO t VALUES (9, NULL)", [])?;
            panic!("on purpose")
        });
        let jobs = async {
            // Polled in this order, so queued in this order.
            tokio::join!(
                insert(&writer, 1, None),
                insert(&writer, 1, None),
                panics,
                insert(&writer, 2, Some(1)),
                async {
                    drop(release);
                }
            )
        };
        let (first, again, panicked, second, ()) = jobs.await;
        holding.await.unwrap();
        assert!(first.is_ok() && second.is_ok());
        assert!(matches!(again, Err(DatabaseError::Sqlite(_))), "{again:?}");
        assert!(matches!(panicked, Err(DatabaseError::Panicked)), "{panicked:?}");
        assert_eq!(commits.load(Ordering::SeqCst), 1);
        assert_eq!(rows(&writer).await, [1, 2]);
    }

    #[tokio::test]
    async fn a_commit_that_fails_is_told_to_whom_it_concerns() {
        let (writer, commits) = writer();
        let (release, holding) = held(&writer).await;
        let jobs = async {
            tokio::join!(
                insert(&writer, 1, None),
                insert(&writer, 2, Some(77)),
                insert(&writer, 3, None),
                async {
                    drop(release);
                }
            )
        };
        let (first, orphan, third, ()) = jobs.await;
        holding.await.unwrap();
        assert!(first.is_ok() && third.is_ok());
        assert!(matches!(orphan, Err(DatabaseError::Sqlite(_))), "{orphan:?}");
        assert_eq!(commits.load(Ordering::SeqCst), 2);
        assert_eq!(rows(&writer).await, [1, 3]);
    }

    #[tokio::test]
    async fn a_transaction_that_a_job_ended_itself_costs_the_others_nothing() {
        // As SQLite does when the disk is full.
        let (writer, _) = writer();
        let (release, holding) = held(&writer).await;
        let gives_up = writer.change::<(), DatabaseError, _>(|connection| {
            connection.execute_batch("ROLLBACK")?;
            Err(DatabaseError::Closed)
        });
        let jobs = async {
            tokio::join!(insert(&writer, 1, None), gives_up, insert(&writer, 2, None), async {
                drop(release);
            })
        };
        let (first, given_up, second, ()) = jobs.await;
        holding.await.unwrap();
        assert!(first.is_ok() && second.is_ok());
        assert!(matches!(given_up, Err(DatabaseError::Closed)), "{given_up:?}");
        assert_eq!(rows(&writer).await, [1, 2]);
    }
}
