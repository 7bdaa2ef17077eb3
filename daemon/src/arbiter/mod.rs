//! Who may load and run, and when: one task over one ledger.
//!
//! ```text
//!   a server's task ──Want, Found, Loaded, Gone──▶ inbox ─▶ ledger::step ─▶ orders, by watch
//!         ▲                                                                      │
//!         ╰──────────── admit, refused, place: a level, the latest wins ◀────────╯
//!
//!   tasks ─▶ arbiter    await a place in a queue that is always emptied
//!   arbiter ─▶ tasks    a watch: sending never waits
//!   tasks ─▶ registry   the arbiter writes nothing and reads nothing
//! ```
//!
//! No arrow leads back, so nobody waits for who waits for him:
//! * A task never waits for an answer of the arbiter; an order is an event like any other (V8).
//! * The arbiter awaits its inbox and nothing else (V9; a test reads this file).
//!
//! The run's id is the ticket. It is never used again, so an order that comes late names a run that
//! is no more: its task ignores it, and the place comes back by that run's end.

pub mod ledger;

pub use ledger::{Bounds, Orders, QueuePlace, Refusal, ToArbiter};

use ledger::Ledger;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// Messages past this many wait for a place in the inbox.
const INBOX: usize = 1024;

type Watches = Arc<Mutex<HashMap<i64, watch::Sender<Orders>>>>;

/// A handle to the arbiter. Clones share it.
#[derive(Clone, Debug)]
pub struct Arbiter {
    inbox: mpsc::Sender<ToArbiter>,
    watches: Watches,
}

impl Arbiter {
    /// A handle, and the task that is to be spawned. The task ends with the last handle.
    pub fn new(bounds: Bounds) -> (Arbiter, impl Future<Output = ()> + Send + 'static) {
        let (inbox, messages) = mpsc::channel(INBOX);
        let watches = Watches::default();
        (Arbiter { inbox, watches: Arc::clone(&watches) }, decide(bounds, messages, watches))
    }

    /// Tells the arbiter something.
    pub async fn tell(&self, message: ToArbiter) {
        // It ends after everybody who could tell it anything.
        let _ = self.inbox.send(message).await;
    }

    /// What holds for the server of a model, from now on.
    #[must_use]
    pub fn orders(&self, model_id: i64) -> watch::Receiver<Orders> {
        of_model(&mut lock(&self.watches), model_id).subscribe()
    }
}

async fn decide(bounds: Bounds, mut messages: mpsc::Receiver<ToArbiter>, watches: Watches) {
    let mut ledger = Ledger::new(bounds);
    while let Some(message) = messages.recv().await {
        let retired = match message {
            ToArbiter::Retire { model } => Some(model),
            _ => None,
        };
        let changed = ledger.step(message);
        debug_assert_eq!(ledger.check(), Ok(()));
        let mut watches = lock(&watches);
        for (model, orders) in changed {
            of_model(&mut watches, model).send_replace(orders);
        }
        if let Some(model) = retired {
            watches.remove(&model);
        }
    }
}

fn of_model(
    watches: &mut HashMap<i64, watch::Sender<Orders>>,
    model_id: i64,
) -> &watch::Sender<Orders> {
    watches.entry(model_id).or_insert_with(|| watch::Sender::new(Orders::default()))
}

fn lock(watches: &Watches) -> MutexGuard<'_, HashMap<i64, watch::Sender<Orders>>> {
    // Nothing panics while it is held; and if it did, the map is still whole.
    watches.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_awaits_its_inbox_and_nothing_else() {
        let code = include_str!("mod.rs");
        let task = code.split("async fn decide").nth(1).unwrap_or_default();
        let task = task.split("\nfn ").next().unwrap_or_default();
        assert_eq!(task.matches(".await").count(), 1);
        assert!(task.contains("messages.recv().await"));
    }

    #[tokio::test]
    async fn an_order_reaches_who_subscribes_late() {
        let bounds = Bounds { max_running: None, max_loading: 1 };
        let (arbiter, task) = Arbiter::new(bounds);
        tokio::spawn(task);
        arbiter.tell(ToArbiter::Recovered).await;
        let want =
            |model: i64| ToArbiter::Want { model, name: "m".into(), run: format!("r{model}") };
        arbiter.tell(want(1)).await;
        arbiter.tell(want(2)).await;
        let mut second = arbiter.orders(2);
        let waits = second.wait_for(|orders| orders.place.is_some()).await.unwrap().clone();
        assert_eq!(waits.admit, None);
        let mut first = arbiter.orders(1);
        first.wait_for(|orders| orders.admit.as_deref() == Some("r1")).await.unwrap();
        arbiter.tell(ToArbiter::Gone { model: 1, run: "r1".into(), next: None }).await;
        second.wait_for(|orders| orders.admit.as_deref() == Some("r2")).await.unwrap();
    }
}
