//! What the calls and streams of one connection share.

use super::budget::Budget;
use super::caller::Identity;
use super::counters::Counters;
use super::limits::Limits;
use super::outbox::Outbox;
use super::peer::Peer;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// One connection, as its calls and streams see it.
pub(super) struct Session {
    pub(super) identity: Arc<Identity>,
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
    pub(super) outbox: Outbox,
    pub(super) budget: Budget,
    /// Calls that look and run.
    pub(super) looks: Semaphore,
    /// A call takes a slot before it is read and gives it back when its answer is written.
    pub(super) calls: Arc<Semaphore>,
    /// The running calls and streams.
    pub(super) tasks: TaskTracker,
    pub(super) signals: Signals,
    pub(super) streams: Streams,
    last_active: Mutex<Instant>,
}

/// The three ways a connection is told to end.
#[derive(Clone)]
pub(super) struct Signals {
    /// The daemon stops: finish what runs, start nothing.
    pub(super) stop: CancellationToken,
    /// The peer is gone or was sent away: nobody reads what would be said.
    pub(super) gone: CancellationToken,
    /// Time is up: drop everything. Implies `gone`.
    pub(super) abort: CancellationToken,
}

impl Signals {
    pub(super) fn new(stop: CancellationToken, abort: CancellationToken) -> Self {
        Signals { stop, gone: abort.child_token(), abort }
    }
}

impl Session {
    pub(super) fn new(
        peer: Peer,
        limits: Limits,
        counters: Arc<Counters>,
        budget: Budget,
        outbox: Outbox,
        signals: Signals,
    ) -> Self {
        Session {
            identity: Arc::new(Identity::new(peer)),
            limits,
            counters,
            outbox,
            budget,
            looks: Semaphore::new(limits.looks),
            calls: Arc::new(Semaphore::new(limits.calls_in_flight)),
            tasks: TaskTracker::new(),
            signals,
            streams: Streams::new(limits.subscriptions),
            last_active: Mutex::new(Instant::now()),
        }
    }

    /// Notes that something was asked or answered.
    pub(super) fn touch(&self) {
        *lock(&self.last_active) = Instant::now();
    }

    /// When something was last asked or answered.
    pub(super) fn last_active(&self) -> Instant {
        *lock(&self.last_active)
    }
}

/// The open streams of a connection.
pub(super) struct Streams {
    free: Arc<Semaphore>,
    open: Arc<Mutex<HashMap<u64, Open>>>,
    last_id: AtomicU64,
}

struct Open {
    name: &'static str,
    cancel: CancellationToken,
    ended: CancellationToken,
}

/// One stream among those of its connection; dropping it frees its slot.
pub(super) struct Slot {
    pub(super) id: u64,
    /// The peer unsubscribed.
    pub(super) cancelled: CancellationToken,
    open: Arc<Mutex<HashMap<u64, Open>>>,
    _permit: OwnedSemaphorePermit,
    _ended: DropGuard,
}

impl Streams {
    fn new(limit: usize) -> Self {
        Streams {
            free: Arc::new(Semaphore::new(limit)),
            open: Arc::default(),
            last_id: AtomicU64::new(0),
        }
    }

    /// Leave for one more stream, if there may be one.
    pub(super) fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Enters a stream of the method `name`. Ids count up from 1 in each connection.
    pub(super) fn enter(&self, name: &'static str, permit: OwnedSemaphorePermit) -> Slot {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let (cancel, ended) = (CancellationToken::new(), CancellationToken::new());
        let open = Open { name, cancel: cancel.clone(), ended: ended.clone() };
        lock(&self.open).insert(id, open);
        let (cancelled, open) = (cancel, Arc::clone(&self.open));
        Slot { id, cancelled, open, _permit: permit, _ended: ended.drop_guard() }
    }

    /// Ends one stream of the method `name` and waits until it has. False if it is not open.
    pub(super) async fn close(&self, name: &str, id: u64) -> bool {
        let ended = match lock(&self.open).get(&id) {
            Some(open) if open.name == name => {
                open.cancel.cancel();
                open.ended.clone()
            }
            _ => return false,
        };
        ended.cancelled().await;
        true
    }

    /// Ends all streams.
    pub(super) fn close_all(&self) {
        lock(&self.open).values().for_each(|open| open.cancel.cancel());
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.open).is_empty()
    }

    /// Tells whether any stream is open, without keeping the session alive.
    pub(super) fn any_open(&self) -> impl Fn() -> bool + Send + use<> {
        let open = Arc::clone(&self.open);
        move || !lock(&open).is_empty()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.id);
    }
}

/// Locks. Nothing panics while one of these is held, and the values are whole at every instant,
/// so a poisoned lock is as good as another.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
