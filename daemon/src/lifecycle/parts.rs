//! The parts of a daemon, in the order in which they start; they stop in the reverse of it.

use crate::api::app::Order;
use futures_util::future::{BoxFuture, FutureExt as _};
use std::sync::Arc;

/// Ends a part; the order says why the daemon ends.
type Stop = Box<dyn FnOnce(Arc<Order>) -> BoxFuture<'static, ()> + Send>;

/// The parts that run. Dropped without [`Parts::stop`], as where a later part cannot start, they end
/// with the process.
#[derive(Default)]
pub(super) struct Parts(Vec<(&'static str, Stop)>);

impl Parts {
    /// Notes that a part runs, and how it is stopped. It is stopped before all that started earlier:
    /// it may use those until its end.
    pub(super) fn started<F>(
        &mut self,
        name: &'static str,
        stop: impl FnOnce(Arc<Order>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.push((name, Box::new(move |order| stop(order).boxed())));
    }

    /// Stops all of them, one after the other.
    pub(super) async fn stop(self, order: Order) {
        let order = Arc::new(order);
        for (part, stop) in self.0.into_iter().rev() {
            tracing::debug!(part, "stopping");
            stop(Arc::clone(&order)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::Actor;
    use std::sync::Mutex;

    #[tokio::test]
    async fn who_started_last_stops_first_and_each_is_waited_for() {
        let stopped: Arc<Mutex<Vec<&str>>> = Arc::default();
        let mut parts = Parts::default();
        for name in ["registry", "servers", "socket"] {
            let stopped = Arc::clone(&stopped);
            parts.started(name, move |_| async move {
                tokio::task::yield_now().await;
                stopped.lock().unwrap().push(name);
            });
        }
        parts.stop(Order::Restart { by: Actor::Policy, version: "1".into() }).await;
        assert_eq!(*stopped.lock().unwrap(), ["socket", "servers", "registry"]);
    }
}
