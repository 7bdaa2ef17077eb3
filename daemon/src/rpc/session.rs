//! What the calls and streams of one connection share.

use super::counters::Counters;
use super::limits::Limits;
use super::outbox::Outbox;
use super::peer::Peer;
use jsonrpsee::BoundedSubscriptions;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// One connection, as its calls and streams see it. It travels to them in jsonrpsee's extensions.
pub(super) struct Session {
    pub(super) peer: Peer,
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
    pub(super) outbox: Outbox,
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
        outbox: Outbox,
        signals: Signals,
    ) -> Self {
        Session {
            peer,
            limits,
            counters,
            outbox,
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
    slots: BoundedSubscriptions,
    open: Arc<Mutex<HashMap<u64, Open>>>,
    last_id: AtomicU64,
}

struct Open {
    name: &'static str,
    cancel: CancellationToken,
    ended: CancellationToken,
}

/// A stream's place among its connection's; dropping it frees the place.
pub(super) struct Place {
    pub(super) id: u64,
    /// The peer unsubscribed.
    pub(super) cancelled: CancellationToken,
    open: Arc<Mutex<HashMap<u64, Open>>>,
    _slot: OwnedSemaphorePermit,
    _ended: DropGuard,
}

impl Streams {
    fn new(limit: u32) -> Self {
        Streams {
            slots: BoundedSubscriptions::new(limit),
            open: Arc::default(),
            last_id: AtomicU64::new(0),
        }
    }

    /// A slot for one more stream, if there is one.
    pub(super) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.acquire()
    }

    /// Enters a stream of the method `name`. Ids count up from 1 in each connection.
    pub(super) fn enter(&self, name: &'static str, slot: OwnedSemaphorePermit) -> Place {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let (cancel, ended) = (CancellationToken::new(), CancellationToken::new());
        let open = Open { name, cancel: cancel.clone(), ended: ended.clone() };
        lock(&self.open).insert(id, open);
        let (cancelled, open) = (cancel, Arc::clone(&self.open));
        Place { id, cancelled, open, _slot: slot, _ended: ended.drop_guard() }
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

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.id);
    }
}

/// Locks. Nothing panics while one of these is held, and the values are whole at every instant,
/// so a poisoned lock is as good as another.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
