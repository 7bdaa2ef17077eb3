//! What the handlers of the socket work with: handles to everything, and who the daemon is.

use super::registration::Counters;
use crate::checkup::OtherServers;
use crate::library::Library;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::store::registry::Registry;
use crate::supervisor::Supervisor;
use llamactl_protocol::daemon::ConfigReport;
use llamactl_protocol::place::run_dir;
use llamactl_protocol::{Actor, Failure};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Handles to everything; built once by `main`.
pub struct App {
    /// The registry database: models, settings, runs, events.
    pub registry: Registry,
    /// Changing models, defaults and runtimes.
    pub models: Models,
    /// Finding models, and looking after their files.
    pub model_files: Library,
    /// Starts, stops and watches the servers.
    pub supervisor: Supervisor,
    /// The metrics loop.
    pub metrics: Metrics,
    /// What the listener counts.
    pub counters: Arc<Counters>,
    /// Where things are.
    pub places: Places,
    /// What it was configured to do.
    pub config: ConfigReport,
    /// Why Prometheus cannot read the metrics, where it should.
    pub metrics_problem: watch::Receiver<Option<String>>,
    /// Runs the program that would take over, to see whether it would start, or what is wrong with
    /// it. Blocks for up to some thirty seconds.
    pub try_new_program: Arc<dyn Fn() -> Result<Trial, Failure> + Send + Sync>,
    /// How many lines of its own log were dropped.
    pub log_lines_lost: fn() -> u64,
    /// llama-servers that no daemon started.
    pub other_servers: OtherServers,
    /// When the daemon started.
    pub started_at_ms: i64,
    /// How to stop it.
    pub stop: StopSwitch,
}

/// What a program that would take over said when it was tried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The version the program says it is of.
    pub version: String,
    /// Where it will keep a copy of the registry as it is now; `None` where it changes nothing.
    pub registry_copy: Option<PathBuf>,
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

/// How this life of the daemon began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A person, a service manager or the boot started it.
    Asked,
    /// A client started it because it needed one.
    ByClient,
    /// It took over from the program before it, in the same process.
    InPlace,
}

/// What the daemon was told to do at the end of this life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The daemon is to end.
    Stop(StopOrder),
    /// To let its program of now take over.
    Restart {
        /// The user, and the command, that asked for it.
        by: Actor,
        /// What that program says of its version.
        version: String,
    },
}

/// How the daemon was asked to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopOrder {
    /// Leave the servers running.
    pub keep_servers: bool,
    /// Somebody asked for it by name, so it shall stay stopped.
    pub on_purpose: bool,
    /// The user, and the command, that asked for it.
    pub by: Actor,
}

/// Ends this life of the daemon. The first order counts, but a stop overrules a restart.
#[derive(Clone, Debug)]
pub struct StopSwitch(watch::Sender<Option<Order>>);

impl Default for StopSwitch {
    fn default() -> Self {
        StopSwitch(watch::Sender::new(None))
    }
}

impl StopSwitch {
    /// Asks the daemon to stop.
    pub fn order(&self, keep_servers: bool, on_purpose: bool, by: Actor) {
        self.0.send_if_modified(|order| {
            let counts = !matches!(order, Some(Order::Stop(_)));
            if counts {
                *order = Some(Order::Stop(StopOrder { keep_servers, on_purpose, by }));
            }
            counts
        });
    }

    /// Asks the daemon to let its program of now, which was tried out, take over.
    pub fn restart(&self, by: Actor, version: String) {
        self.0.send_if_modified(|order| {
            let first = order.is_none();
            order.get_or_insert(Order::Restart { by, version });
            first
        });
    }

    /// The stop that was ordered, if one was.
    #[must_use]
    pub fn stopping(&self) -> Option<StopOrder> {
        match &*self.0.borrow() {
            Some(Order::Stop(order)) => Some(order.clone()),
            _ => None,
        }
    }

    /// Waits for an order.
    pub async fn ordered(&self) -> Order {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_order_counts_and_a_stop_overrules_a_restart() {
        let by = Actor::from_text;
        let switch = StopSwitch::default();
        switch.restart(by("a"), "1".into());
        switch.restart(by("b"), "2".into());
        assert_eq!(switch.ordered().await, Order::Restart { by: by("a"), version: "1".into() });
        switch.order(true, true, by("c"));
        switch.order(false, false, by("d"));
        switch.restart(by("e"), "3".into());
        let stop = StopOrder { keep_servers: true, on_purpose: true, by: by("c") };
        assert_eq!(switch.ordered().await, Order::Stop(stop));
        assert!(switch.stopping().is_some_and(|order| order.keep_servers));
    }
}
