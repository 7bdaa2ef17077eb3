//! What the handlers of the socket work with: handles to everything, and who the daemon is.

use crate::library::Library;
use crate::metrics::Metrics;
use crate::rpc::Counters;
use crate::store::Registry;
use crate::supervisor::Supervisor;
use llamactl_protocol::place::run_dir;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Handles to everything; built once by `main`.
pub struct App {
    /// The registry.
    pub registry: Registry,
    /// Finding models, and looking after their files.
    pub models: Library,
    /// The servers.
    pub supervisor: Supervisor,
    /// The metrics loop.
    pub metrics: Metrics,
    /// What the listener counts.
    pub counters: Arc<Counters>,
    /// Where things are.
    pub places: Places,
    /// When the daemon started.
    pub started_at_ms: i64,
    /// How to stop it.
    pub stop: StopSwitch,
}

/// Where the daemon's things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// Databases, logs, the run directory.
    pub state_dir: PathBuf,
    /// The socket it listens on.
    pub socket: PathBuf,
    /// Its own log, when it is detached.
    pub log: Option<PathBuf>,
}

impl Places {
    /// Says that the daemon was stopped on purpose, so that clients that only look do not start it.
    #[must_use]
    pub fn stopped_mark(&self) -> PathBuf {
        run_dir(&self.state_dir).join("stopped")
    }
}

/// How the daemon was asked to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopOrder {
    /// Leave the servers running.
    pub keep_servers: bool,
    /// Somebody asked for it by name, so it shall stay stopped.
    pub on_purpose: bool,
    /// Who asked.
    pub by: String,
}

/// Stops the daemon; the first order counts.
#[derive(Clone, Debug)]
pub struct StopSwitch(watch::Sender<Option<StopOrder>>);

impl Default for StopSwitch {
    fn default() -> Self {
        StopSwitch(watch::Sender::new(None))
    }
}

impl StopSwitch {
    /// Asks the daemon to stop.
    pub fn order(&self, keep_servers: bool, on_purpose: bool, by: String) {
        self.0.send_if_modified(|order| {
            let first = order.is_none();
            order.get_or_insert(StopOrder { keep_servers, on_purpose, by });
            first
        });
    }

    /// Waits for an order.
    pub async fn ordered(&self) -> StopOrder {
        let mut orders = self.0.subscribe();
        loop {
            if let Some(order) = orders.borrow_and_update().clone() {
                return order;
            }
            // The sender is `self`, so this cannot end for its absence.
            let _ = orders.changed().await;
        }
    }
}
