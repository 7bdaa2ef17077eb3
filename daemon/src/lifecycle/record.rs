//! What happens to the daemon itself, written into the events.

use crate::api::app::{Beginning, StopOrder};
use crate::metrics::history::Health;
use crate::store::registry::{NewEvent, Registry};
use llamactl_protocol::Actor;
use llamactl_protocol::event::EventKind;
use tokio::sync::watch;

pub(super) async fn start(registry: &Registry, beginning: Beginning) {
    let (by, how) = match beginning {
        Beginning::Asked => (Actor::Boot, "started"),
        // A client of the daemon's own user: another's is not given a daemon.
        Beginning::ByClient => {
            let user = format!("uid {}", rustix::process::getuid().as_raw());
            (Actor::Client { user, command: None }, "started")
        }
        Beginning::InPlace => (Actor::Policy, "took over"),
    };
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    let message = format!("llamactld {version} {how}, pid {pid}");
    record(registry, NewEvent::of_daemon(EventKind::DaemonStarted, &by, message)).await;
}

pub(super) async fn restart(registry: &Registry, by: &Actor, version: &str) {
    let message = format!("llamactld {version} takes over; its servers go on");
    record(registry, NewEvent::of_daemon(EventKind::DaemonRestarted, by, message)).await;
}

pub(super) async fn stop(registry: &Registry, order: &StopOrder) {
    let what = if order.keep_servers { "; its servers go on" } else { "" };
    let message = format!("llamactld stopped{what}");
    record(registry, NewEvent::of_daemon(EventKind::DaemonStopped, &order.by, message)).await;
}

/// What becomes of the history of metrics, each time it is set aside.
pub(super) async fn history(mut health: watch::Receiver<Health>, registry: Registry) {
    let mut known = None;
    loop {
        let aside = health.borrow_and_update().set_aside.clone();
        if let Some((path, why)) = aside.clone().filter(|_| aside != known) {
            let path = path.display();
            let message =
                format!("the history of metrics was damaged ({why}) and set aside: {path}");
            let kind = EventKind::MetricsSetAside;
            record(&registry, NewEvent::of_daemon(kind, &Actor::Policy, message)).await;
            known = aside;
        }
        if health.changed().await.is_err() {
            return;
        }
    }
}

/// A full disk must not keep the daemon from starting and ending: servers may have to be stopped.
async fn record(registry: &Registry, event: NewEvent) {
    let kind = event.kind.clone();
    if let Err(error) = registry.append_event(event).await {
        tracing::error!(%kind, %error, "cannot record what happens to the daemon");
    }
}
