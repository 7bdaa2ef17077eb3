//! One OS thread owns one SQLite connection; everyone else sends it closures.
//!
//! A thread and not a pool: SQLite has one writer anyway, and with one thread there is never a
//! busy database inside the daemon.

use super::registry::{Result, StoreError};
use rusqlite::Connection;
use std::thread;
use tokio::sync::{mpsc, oneshot};

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Callers past this many wait for a place in the queue.
const QUEUE: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts the thread. It ends, and closes the database, when the last handle is dropped.
    pub(super) fn start(name: &'static str, mut connection: Connection) -> Worker {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut connection);
            }
        });
        if let Err(error) = spawned {
            // Every call on this worker then answers `Closed`.
            tracing::error!(%error, name, "could not start a database thread");
        }
        Worker { jobs }
    }

    /// Runs `job` on the thread. A job whose caller went away still runs to its end.
    pub(super) async fn run<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // The caller may have gone; the work is done all the same.
            let _ = done.send(job(connection));
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        result.await.map_err(|_| StoreError::Closed)?
    }
}
