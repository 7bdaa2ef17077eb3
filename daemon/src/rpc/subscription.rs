//! The core of every stream: from a source to its reader, written once.
//!
//! ```text
//!   Source ── next ──▶ pump ── at_ms, cursor ──▶ outbox ──▶ peer
//!                       │ waits for room before it asks for the next
//!                       ├ unsubscribed, or the peer is gone ──▶ ends at once
//!                       ╰ the daemon stops ──▶ what is ready, then `end`
//! ```
//!
//! A slow reader holds back its own stream only. What its source had to leave out meanwhile the
//! source says with `missed`; the pump counts it. An item that cannot be sent because it is too
//! large is also said so.

use super::refusal::one_line;
use super::session::{Session, Slot};
use crate::clock::now_ms;
use futures_util::FutureExt as _;
use jsonrpsee_types::{SubscriptionId, SubscriptionPayload, SubscriptionResponse};
use llamactl_protocol::stream::{End, EndReason, Missed};
use llamactl_protocol::{Failure, Item, Kind, Subscription, UnixMs};
use serde::Serialize;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The most items a source may still deliver once the daemon stops.
const LAST_ITEMS: usize = 256;

/// How long a source may take over each of them.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Where a stream's items come from.
pub trait Source: Send {
    /// The `data` of its snapshots and changes.
    type Item: Serialize + Send;

    /// The next thing to say. Never returns an item twice, and after [`Emission::End`] is not
    /// called again.
    ///
    /// Must be cancel safe: the pump drops the future when the daemon stops and calls again.
    fn next(&mut self) -> impl Future<Output = Emission<Self::Item>> + Send;
}

/// What a source says. The pump adds the time.
#[derive(Clone, Debug, PartialEq)]
pub enum Emission<T> {
    /// The state at the moment of subscribing.
    Snapshot {
        /// Where a later subscription can go on.
        cursor: Option<String>,
        /// The whole state at this moment, which the changes after it go on from.
        data: T,
    },
    /// Something that happened since.
    Change {
        /// Where a later subscription can go on.
        cursor: Option<String>,
        /// The change, or the new state.
        data: T,
    },
    /// The reader fell behind, or its cursor lies before what is kept.
    Missed {
        /// Where a later subscription can go on.
        cursor: Option<String>,
        /// How much was left out, as far as that is known.
        missed: Missed,
    },
    /// Nothing more will come.
    End {
        /// Where a later subscription can go on.
        cursor: Option<String>,
        /// Why nothing follows.
        end: End,
    },
}

impl<T> Emission<T> {
    /// The end of a stream that has sent all that was asked for.
    #[must_use]
    pub fn done(cursor: Option<String>) -> Self {
        Emission::End { cursor, end: End { reason: EndReason::Done, failure: None } }
    }

    /// The end of a stream that cannot go on.
    #[must_use]
    pub fn failed(cursor: Option<String>, failure: Failure) -> Self {
        Emission::End { cursor, end: End { reason: EndReason::Failed, failure: Some(failure) } }
    }

    fn at(self, at_ms: UnixMs) -> Item<T> {
        match self {
            Emission::Snapshot { cursor, data } => Item::Snapshot { at_ms, cursor, data },
            Emission::Change { cursor, data } => Item::Change { at_ms, cursor, data },
            Emission::Missed { cursor, missed } => Item::Missed { at_ms, cursor, data: missed },
            Emission::End { cursor, end } => Item::End { at_ms, cursor, data: end },
        }
    }
}

/// One stream being pumped.
struct Pump<S> {
    session: Arc<Session>,
    slot: Slot,
    source: S,
    notification: &'static str,
    name: &'static str,
    cursor: Option<String>,
}

/// Sends what `source` says until it ends, the reader unsubscribes or goes, or the daemon stops.
pub(super) async fn pump<S, Src>(session: Arc<Session>, slot: Slot, source: Src)
where
    S: Subscription,
    Src: Source<Item = S::Item>,
{
    let (gone, cancelled) = (session.signals.gone.clone(), slot.cancelled.clone());
    let session_at_end = Arc::clone(&session);
    let (notification, name) = (S::NOTIFICATION, S::NAME);
    let pump = Pump { session, slot, source, notification, name, cursor: None };
    tokio::select! {
        biased;
        () = gone.cancelled() => {}
        () = cancelled.cancelled() => {}
        () = pump.run() => {}
    }
    session_at_end.touch();
}

impl<Src: Source> Pump<Src> {
    async fn run(mut self) {
        let stop = self.session.signals.stop.clone();
        loop {
            let session = Arc::clone(&self.session);
            let emission = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                emission = async {
                    session.outbox.has_room().await.ok()?;
                    Some(self.emission().await)
                } => emission,
            };
            let Some(emission) = emission else { return };
            if self.deliver(emission).await.is_break() {
                return;
            }
        }
        // What led to the stop may be in the source already: it is part of the story.
        for _ in 0..LAST_ITEMS {
            // Some sources have to ask a database for it.
            let Ok(emission) = timeout(LAST_LOOK, self.emission()).await else { break };
            if self.deliver(emission).await.is_break() {
                return;
            }
        }
        let end = End { reason: EndReason::DaemonStopping, failure: None };
        let cursor = self.cursor.take();
        let _ = self.deliver(Emission::End { cursor, end }).await;
    }

    /// The source's next emission; its panic ends this stream and nothing else.
    async fn emission(&mut self) -> Emission<Src::Item> {
        match AssertUnwindSafe(self.source.next()).catch_unwind().await {
            Ok(emission) => emission,
            Err(_) => {
                self.session.counters.panicked();
                tracing::error!(stream = self.name, "a stream's source panicked");
                let failure = Failure::new(Kind::Internal, format!("{} broke off", self.name))
                    .hint("this is a defect of the daemon: its log has the particulars");
                Emission::failed(self.cursor.clone(), failure)
            }
        }
    }

    async fn deliver(&mut self, emission: Emission<Src::Item>) -> ControlFlow<()> {
        let mut next = ControlFlow::Continue(());
        match &emission {
            Emission::Snapshot { cursor, .. } | Emission::Change { cursor, .. } => {
                self.cursor.clone_from(cursor);
            }
            Emission::Missed { cursor, missed } => {
                self.cursor.clone_from(cursor);
                self.session.counters.messages_dropped(missed.items.unwrap_or(1));
            }
            Emission::End { .. } => next = ControlFlow::Break(()),
        }
        let line = match self.line(&emission.at(now_ms())) {
            Ok(line) if line.len() <= self.session.limits.message_bytes => line,
            outcome => {
                let why = outcome.map_or_else(
                    |error| one_line(&error),
                    |line| format!("it has {} bytes", line.len()),
                );
                tracing::warn!(stream = self.name, why, "an item could not be sent");
                self.session.counters.messages_dropped(1);
                let missed = Missed { items: Some(1), bytes: None };
                let cursor = self.cursor.clone();
                let item: Item<Src::Item> = Emission::Missed { cursor, missed }.at(now_ms());
                match self.line(&item) {
                    Ok(line) => line,
                    Err(_) => return ControlFlow::Break(()),
                }
            }
        };
        match self.session.outbox.send(line, None).await {
            Ok(()) => next,
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn line(&self, item: &Item<Src::Item>) -> Result<String, serde_json::Error> {
        let subscription = SubscriptionId::Num(self.slot.id);
        let payload = SubscriptionPayload { subscription, result: item };
        serde_json::to_string(&SubscriptionResponse::new(self.notification.into(), payload))
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Census;
    use super::super::limits::Limits;
    use super::super::outbox::outbox;
    use super::super::peer::Peer;
    use super::super::session::Signals;
    use super::super::tests::kit::{Ticks, within_patience};
    use super::*;
    use llamactl_protocol::Access;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::io::AsyncReadExt as _;

    /// Counts how often it is asked.
    struct Counting(Arc<AtomicU64>);

    impl Source for Counting {
        type Item = u64;

        async fn next(&mut self) -> Emission<u64> {
            let data = self.0.fetch_add(1, Ordering::Relaxed);
            Emission::Change { cursor: None, data }
        }
    }

    #[tokio::test]
    async fn an_item_is_made_when_there_is_room_for_it_and_not_before() {
        let limits = Limits { queued_bytes: 1, ..Limits::default() };
        let budget = Census::new().enter(0, &limits).unwrap();
        let (outbox, queue) =
            outbox(budget.clone(), Box::new(|_| Err(std::io::ErrorKind::WouldBlock.into())));
        let signals = Signals::new(Default::default(), Default::default());
        let peer = Peer { uid: 0, gid: 0, pid: None, access: Access::Observe };
        let session = Session::new(peer, limits, Arc::default(), budget, outbox, signals.clone());
        let session = Arc::new(session);
        session.outbox.send("1".into(), None).await.unwrap();
        let permit = session.streams.permit().unwrap();
        let slot = session.streams.enter("ticks.follow", permit);
        let asked = Arc::new(AtomicU64::new(0));
        let source = Counting(Arc::clone(&asked));
        let pumping = tokio::spawn(pump::<Ticks, _>(session, slot, source));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0, "the queue is full");

        let (ours, mut theirs) = tokio::io::duplex(1);
        let writer = tokio::spawn(async move { queue.write_to(ours, &limits, || true).await });
        let mut two = [0; 2];
        within_patience(theirs.read_exact(&mut two)).await.unwrap();
        assert_eq!(&two, b"1\n");
        within_patience(theirs.read_exact(&mut two)).await.unwrap();
        assert_eq!((&two, asked.load(Ordering::Relaxed)), (b"{\"", 1));
        signals.gone.cancel();
        within_patience(pumping).await.unwrap();
        drop(theirs);
        assert!(writer.await.unwrap().is_err());
    }
}
