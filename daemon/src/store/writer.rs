//! A thread that writes: jobs that wait in its queue share one transaction.
//!
//! ```text
//!   BEGIN ─▶ job (savepoint) ─▶ job (savepoint) ─▶ … ─▶ COMMIT ─▶ announce ─▶ answers
//!              ╰ failed: rolled back alone           ╰ failed: each again in one of its own
//! ```
//!
//! * What was answered with `Ok` is on disk; what was answered with an error has not happened.
//! * A failure is told to the job that failed, and to no other.
//! * SQLite has one writer, and here it is one thread: inside the daemon no database is ever busy.
//!
//! A commit costs one or two flushes of the disk, a job some tens of microseconds: where many wait,
//! they are written for the price of one.

use super::DatabaseError;
use super::reader::{panicked, run};
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Callers past this many wait for a place in the queue.
const QUEUE: usize = 256;
/// No more jobs than this share a transaction: the first of them waits for the last.
const MOST_JOBS: usize = 64;
/// No job joins a transaction that is older.
const MOST_TIME: Duration = Duration::from_millis(20);

/// A change on its way: made in a transaction, perhaps twice, then answered.
trait Job: Send {
    /// Makes the change. Its outcome is kept until it is told; whether it succeeded is given.
    fn make(&mut self, connection: &Connection) -> bool;
    /// Tells the caller the outcome of the last [`make`](Job::make).
    fn answer(self: Box<Self>);
    /// Tells the caller that the change was not made.
    fn fail(self: Box<Self>, error: DatabaseError);
}

/// What joins a transaction in which so many jobs are made already.
type More<'a> = dyn FnMut(usize) -> Option<Box<dyn Job>> + 'a;

enum Task {
    Change(Box<dyn Job>),
    /// Outside of any transaction.
    Bare(Box<dyn FnOnce(&Connection) + Send>),
}

/// A handle to the writing thread. It ends, and closes its connection, with the last handle.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    tasks: mpsc::Sender<Task>,
}

impl Writer {
    /// Starts the thread on a connection; `open` makes another where a job broke it. `announce` runs
    /// after each commit, before the answers.
    pub(super) fn start(
        name: String,
        connection: Connection,
        open: impl Fn() -> Result<Connection, DatabaseError> + Send + 'static,
        announce: impl FnMut(&Connection) + Send + 'static,
    ) -> Result<Writer, DatabaseError> {
        let (tasks, mut queue) = mpsc::channel(QUEUE);
        let mut work = Work { connection, open, announce };
        let serve = move || {
            let mut next = queue.blocking_recv();
            while let Some(task) = next {
                next = match task {
                    Task::Change(job) => work.changes(job, || queue.try_recv().ok()),
                    Task::Bare(job) => {
                        work.bare(job);
                        None
                    }
                };
                next = next.or_else(|| queue.blocking_recv());
            }
        };
        thread::Builder::new().name(name).spawn(serve).map_err(DatabaseError::NoThread)?;
        Ok(Writer { tasks })
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
        E: From<DatabaseError> + Send + 'static,
        F: Fn(&Connection) -> Result<T, E> + Send + 'static,
    {
        let (done, answer) = oneshot::channel();
        let job = Task::Change(Box::new(Change { change, outcome: None, done }));
        self.tasks.send(job).await.map_err(|_| DatabaseError::Closed)?;
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
}

struct Change<T, E, F> {
    change: F,
    outcome: Option<Result<T, E>>,
    done: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Job for Change<T, E, F>
where
    T: Send,
    E: From<DatabaseError> + Send,
    F: Fn(&Connection) -> Result<T, E> + Send,
{
    fn make(&mut self, connection: &Connection) -> bool {
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.change)(connection)))
            .unwrap_or_else(|_| Err(panicked().into()));
        self.outcome.insert(outcome).is_ok()
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // The caller may have gone.
            let _ = self.done.send(outcome);
        }
    }

    fn fail(self: Box<Self>, error: DatabaseError) {
        let _ = self.done.send(Err(error.into()));
    }
}

struct Work<O, A> {
    connection: Connection,
    open: O,
    announce: A,
}

impl<O, A> Work<O, A>
where
    O: Fn() -> Result<Connection, DatabaseError>,
    A: FnMut(&Connection),
{
    /// Makes `first` and the changes that wait behind it. What is given back comes after them.
    fn changes(
        &mut self,
        first: Box<dyn Job>,
        mut waiting: impl FnMut() -> Option<Task>,
    ) -> Option<Task> {
        let mut behind = None;
        let begun = Instant::now();
        self.settle(vec![first], &mut |made| {
            if made == MOST_JOBS || begun.elapsed() > MOST_TIME {
                return None;
            }
            match waiting()? {
                Task::Change(job) => Some(job),
                bare @ Task::Bare(_) => {
                    behind = Some(bare);
                    None
                }
            }
        });
        behind
    }

    /// Makes changes and answers them.
    fn settle(&mut self, mut jobs: Vec<Box<dyn Job>>, more: &mut More<'_>) {
        match self.together(&mut jobs, more) {
            Ok(()) => jobs.into_iter().for_each(Job::answer),
            // Whose failure it was is not known: each is tried again and has its own.
            Err(_) if jobs.len() > 1 => {
                jobs.into_iter().for_each(|job| self.settle(vec![job], &mut |_| None));
            }
            Err(error) => {
                if let Some(job) = jobs.pop() {
                    job.fail(error);
                }
            }
        }
    }

    /// Makes `jobs`, and then each that `more` gives after so many, in one transaction. With an
    /// error none of them has happened.
    fn together(
        &mut self,
        jobs: &mut Vec<Box<dyn Job>>,
        more: &mut More<'_>,
    ) -> Result<(), DatabaseError> {
        run(&self.connection, "BEGIN IMMEDIATE")?;
        let mut made = 0;
        while let Some(job) = jobs.get_mut(made) {
            match in_savepoint(&self.connection, job.as_mut()) {
                // SQLite gave the whole transaction up, as it does when the disk is full. Where there
                // is but one job, it knows why; else the commit fails.
                Ok(false) if self.connection.is_autocommit() && jobs.len() == 1 => return Ok(()),
                Ok(_) if self.connection.is_autocommit() => break,
                Ok(_) => {}
                Err(error) => {
                    self.abandon();
                    return Err(error.into());
                }
            }
            made += 1;
            if made == jobs.len() {
                jobs.extend(more(made));
            }
        }
        if let Err(error) = run(&self.connection, "COMMIT") {
            self.abandon();
            return Err(error.into());
        }
        (self.announce)(&self.connection);
        Ok(())
    }

    fn bare(&mut self, job: Box<dyn FnOnce(&Connection) + Send>) {
        job(&self.connection);
        self.abandon();
    }

    /// Leaves no transaction open, whatever it takes.
    fn abandon(&mut self) {
        if self.connection.is_autocommit() {
            return;
        }
        let Err(error) = run(&self.connection, "ROLLBACK") else { return };
        tracing::error!(%error, "a transaction could not be undone: the database is opened anew");
        match (self.open)() {
            Ok(connection) => self.connection = connection,
            // The next change fails at its beginning and comes here again.
            Err(error) => tracing::error!(%error, "the database could not be opened anew"),
        }
    }
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
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
        let announce = move |_: &Connection| {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let writer = Writer::start("test".to_owned(), connection, open, announce).unwrap();
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
