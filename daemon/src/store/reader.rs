//! A thread that reads: each job sees the database as it was at one moment.

use super::DatabaseError;
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use tokio::sync::{mpsc, oneshot};

/// Answers its caller by itself; the error is what to fail with instead of reading.
type Job = Box<dyn FnOnce(Result<&Connection, DatabaseError>) + Send>;

/// Callers past this many wait for a place in the queue.
const QUEUE: usize = 256;

/// A handle to a reading thread. It ends, and closes its connection, with the last handle.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    jobs: mpsc::Sender<Job>,
    slot: Slot,
}

/// A connection that only reads: whoever uses it locks it, and whoever takes it out has it opened anew.
pub(super) type Slot = Arc<Mutex<Option<Connection>>>;

/// Waits until nobody reads and closes what they read with; nobody reads before the guards are dropped.
pub(super) fn close(slots: &[Slot]) -> Vec<MutexGuard<'_, Option<Connection>>> {
    let closed = slots.iter().map(|slot| {
        let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
        *held = None;
        held
    });
    closed.collect()
}

impl Reader {
    /// Starts a thread on a connection that `open` makes, and makes anew where a query broke it.
    pub(super) fn start(
        name: String,
        open: impl Fn() -> rusqlite::Result<Connection> + Send + 'static,
    ) -> Result<Reader, DatabaseError> {
        let slot = Slot::new(Mutex::new(Some(open()?)));
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let shared = Arc::clone(&slot);
        let serve = move || {
            while let Some(job) = queue.blocking_recv() {
                let mut held = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let reopened = match held.take() {
                    Some(there) => Ok(there),
                    None => open(),
                };
                match reopened {
                    Ok(there) => {
                        in_one_moment(&there, job);
                        *held = Some(there).filter(Connection::is_autocommit);
                    }
                    Err(error) => job(Err(error.into())),
                }
            }
        };
        thread::Builder::new().name(name).spawn(serve).map_err(DatabaseError::NoThread)?;
        Ok(Reader { jobs, slot })
    }

    /// What it reads with.
    pub(super) fn slot(&self) -> Slot {
        Arc::clone(&self.slot)
    }

    /// Runs `query` on the thread, in one read transaction: what is written meanwhile is not seen.
    ///
    /// # Errors
    /// What the query gives; [`DatabaseError::Panicked`], [`DatabaseError::Closed`].
    pub(super) async fn run<T, E, F>(&self, query: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let (done, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let read = match connection {
                // What the closure owns is dropped with it, and the connection is looked at after.
                Ok(connection) => catch_unwind(AssertUnwindSafe(|| query(connection)))
                    .unwrap_or_else(|_| Err(panicked().into())),
                Err(error) => Err(error.into()),
            };
            // The caller may have gone.
            let _ = done.send(read);
        });
        self.jobs.send(job).await.map_err(|_| DatabaseError::Closed)?;
        answer.await.map_err(|_| DatabaseError::Closed)?
    }
}

/// Logs that a query panicked; its words were logged where it did.
pub(super) fn panicked() -> DatabaseError {
    let thread = thread::current();
    tracing::error!(thread = thread.name(), "a query of the database panicked");
    DatabaseError::Panicked
}

fn in_one_moment(connection: &Connection, job: Job) {
    if let Err(error) = run(connection, "BEGIN") {
        return job(Err(error.into()));
    }
    job(Ok(connection));
    // Nothing was written. A connection that stays in its transaction is not used again.
    if let Err(error) = run(connection, "ROLLBACK") {
        tracing::error!(%error, "a read of the database could not be ended");
    }
}

/// Runs a statement of the transactions around jobs.
pub(super) fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

#[cfg(test)]
#[allow(clippy::panic, reason = "what is tried here")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_query_that_panics_fails_alone() {
        let reader = Reader::start("test".to_owned(), Connection::open_in_memory).unwrap();
        let broken = reader.run::<(), DatabaseError, _>(|_| panic!("on purpose")).await;
        assert!(matches!(broken, Err(DatabaseError::Panicked)), "{broken:?}");
        // In the middle of rows, with statements of its own open.
        let broken = reader.run::<(), DatabaseError, _>(|connection| {
            connection.query_row("SELECT 1", [], |_| panic!("on purpose"))?;
            Ok(())
        });
        assert!(matches!(broken.await, Err(DatabaseError::Panicked)));
        let works = reader.run::<i64, DatabaseError, _>(|connection| {
            Ok(connection.query_row("SELECT 7", [], |row| row.get(0))?)
        });
        assert_eq!(works.await.unwrap(), 7);
    }
}
