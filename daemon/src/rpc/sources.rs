//! Ready-made sources: changes from a broadcast channel, and the latest state from a watch.

use super::subscription::{Emission, Source};
use llamactl_protocol::stream::Missed;
use serde::Serialize;
use std::collections::VecDeque;
use std::marker::PhantomData;
use tokio::sync::{broadcast, watch};

/// A snapshot, then what a broadcast channel says. A reader too slow for the channel gets
/// `missed` with the number of messages, then what the channel still holds.
///
/// For a stream without a gap, subscribe to the channel first and take the snapshot then; let
/// `change` drop what the snapshot already has.
pub struct Broadcast<T, U, F> {
    snapshot: VecDeque<(Option<String>, U)>,
    receiver: broadcast::Receiver<T>,
    change: F,
    cursor: Option<String>,
}

impl<T, U, F> Broadcast<T, U, F>
where
    F: FnMut(T) -> Option<(Option<String>, U)>,
{
    /// `change` makes an item with its cursor from a message, or drops it by `None`. The stream
    /// is done when all senders are gone.
    pub fn new(
        snapshot: impl IntoIterator<Item = (Option<String>, U)>,
        receiver: broadcast::Receiver<T>,
        change: F,
    ) -> Self {
        Broadcast { snapshot: snapshot.into_iter().collect(), receiver, change, cursor: None }
    }
}

impl<T, U, F> Source for Broadcast<T, U, F>
where
    T: Clone + Send,
    U: Serialize + Send,
    F: FnMut(T) -> Option<(Option<String>, U)> + Send,
{
    type Item = U;

    async fn next(&mut self) -> Emission<U> {
        if let Some((cursor, data)) = self.snapshot.pop_front() {
            self.cursor.clone_from(&cursor);
            return Emission::Snapshot { cursor, data };
        }
        loop {
            match self.receiver.recv().await {
                Ok(message) => {
                    if let Some((cursor, data)) = (self.change)(message) {
                        self.cursor.clone_from(&cursor);
                        return Emission::Change { cursor, data };
                    }
                }
                Err(broadcast::error::RecvError::Lagged(items)) => {
                    let missed = Missed { items: Some(items), bytes: None };
                    return Emission::Missed { cursor: self.cursor.clone(), missed };
                }
                Err(broadcast::error::RecvError::Closed) => {
                    return Emission::done(self.cursor.clone());
                }
            }
        }
    }
}

/// The state now, then each new state. A slow reader gets the newest; states in between are not
/// sent, and not missed: each item is the whole state.
pub struct Latest<T, U, F> {
    receiver: watch::Receiver<T>,
    view: F,
    begun: bool,
    item: PhantomData<fn() -> U>,
}

impl<T, U, F: FnMut(&T) -> U> Latest<T, U, F> {
    /// `view` makes the item from the state; it runs under the channel's lock, so it should only
    /// copy. The stream is done when the sender is gone and its last state was sent.
    pub fn new(receiver: watch::Receiver<T>, view: F) -> Self {
        Latest { receiver, view, begun: false, item: PhantomData }
    }
}

impl<T, U, F> Source for Latest<T, U, F>
where
    T: Send + Sync,
    U: Serialize + Send,
    F: FnMut(&T) -> U + Send,
{
    type Item = U;

    async fn next(&mut self) -> Emission<U> {
        if !self.begun {
            self.begun = true;
            let data = (self.view)(&self.receiver.borrow_and_update());
            return Emission::Snapshot { cursor: None, data };
        }
        if self.receiver.changed().await.is_err() {
            return Emission::done(None);
        }
        let data = (self.view)(&self.receiver.borrow_and_update());
        Emission::Change { cursor: None, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<U: std::fmt::Debug>(emission: Emission<U>) -> String {
        match emission {
            Emission::Snapshot { cursor, data } => format!("snapshot {data:?} {cursor:?}"),
            Emission::Change { cursor, data } => format!("change {data:?} {cursor:?}"),
            Emission::Missed { cursor, missed } => format!("missed {:?} {cursor:?}", missed.items),
            Emission::End { cursor, end } => format!("end {:?} {cursor:?}", end.reason),
        }
    }

    async fn all<S: Source<Item: std::fmt::Debug>>(mut source: S) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let emission = source.next().await;
            let end = matches!(emission, Emission::End { .. });
            seen.push(text(emission));
            if end {
                return seen;
            }
        }
    }

    #[tokio::test]
    async fn a_broadcast_says_what_it_lost_then_goes_on() {
        let (sender, receiver) = broadcast::channel(2);
        let even = |n: u32| n.is_multiple_of(2).then(|| (Some(format!("c{n}")), n));
        let source = Broadcast::new([(Some("c0".to_owned()), 0)], receiver, even);
        for n in 1..=6 {
            sender.send(n).unwrap();
        }
        drop(sender);
        let expected = [
            r#"snapshot 0 Some("c0")"#,
            r#"missed Some(4) Some("c0")"#,
            r#"change 6 Some("c6")"#,
            r#"end Done Some("c6")"#,
        ];
        assert_eq!(all(source).await, expected);
    }

    #[tokio::test]
    async fn the_latest_coalesces_and_ends_with_its_sender() {
        let (sender, receiver) = watch::channel(1);
        let mut source = Latest::new(receiver, |n: &u32| *n * 10);
        assert_eq!(text(source.next().await), "snapshot 10 None");
        sender.send(2).unwrap();
        sender.send(3).unwrap();
        drop(sender);
        assert_eq!(all(source).await, ["change 30 None", "end Done None"]);
    }
}
