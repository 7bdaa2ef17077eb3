//! What the wire counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// Running totals of the wire, shared by all connections. Read them at any time.
#[derive(Debug, Default)]
pub struct Counters {
    open: AtomicU64,
    accepted_total: AtomicU64,
    refused_total: AtomicU64,
    dropped_messages_total: AtomicU64,
    panics_total: AtomicU64,
    slow_calls: AtomicU64,
}

impl Counters {
    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections served since the start.
    pub fn accepted_total(&self) -> u64 {
        self.accepted_total.load(Ordering::Relaxed)
    }

    /// Connections turned away since the start.
    pub fn refused_total(&self) -> u64 {
        self.refused_total.load(Ordering::Relaxed)
    }

    /// Stream items that slow readers did not get, since the start. Each was also said to its
    /// reader, with `missed`.
    pub fn dropped_messages_total(&self) -> u64 {
        self.dropped_messages_total.load(Ordering::Relaxed)
    }

    /// Handlers and streams that panicked since the start. Each is a defect.
    pub fn panics_total(&self) -> u64 {
        self.panics_total.load(Ordering::Relaxed)
    }

    /// How often a call has held a thread of the runtime for more than ten milliseconds of CPU time,
    /// since the start. Each is a defect: everybody else waited.
    pub fn slow_calls(&self) -> u64 {
        self.slow_calls.load(Ordering::Relaxed)
    }

    pub(super) fn connection_opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connection_closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn connection_refused(&self) {
        self.refused_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn messages_dropped(&self, count: u64) {
        self.dropped_messages_total.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn call_was_slow(&self) {
        self.slow_calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn panicked(&self) {
        self.panics_total.fetch_add(1, Ordering::Relaxed);
    }
}
