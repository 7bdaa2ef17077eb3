//! What each method does: thin, over the handles of [`App`]. One file per noun.

pub mod app;
mod daemon;
mod defaults;
mod event;
mod exchange;
mod library;
mod log;
mod metrics;
mod model;
mod model_history;
mod model_settings;
mod old_build;
mod page;
mod resolved;
mod runtime;
mod server;
mod vetting;

use crate::api::app::App;
use crate::metrics::Stopped;
use crate::rpc::{Peer, Service};
use llamactl_protocol::daemon::RpcDiscover;
use llamactl_protocol::{Actor, Failure, Kind, Method, Subscription};
use serde_json::Value;
use std::sync::{Arc, OnceLock};

/// The table of methods.
#[must_use]
pub fn service(app: Arc<App>) -> Service<App> {
    let document = Arc::new(OnceLock::<Value>::new());
    let filled = Arc::clone(&document);
    let service = Service::new(app);
    let service = daemon::register(service);
    let service = model::register(service);
    let service = model_settings::register(service);
    let service = model_history::register(service);
    let service = defaults::register(service);
    let service = exchange::register(service);
    let service = library::register(service);
    let service = server::register(service);
    let service = runtime::register(service);
    let service = log::register(service);
    let service = metrics::register(service);
    let service = event::register(service).on(move |_, _, _: RpcDiscover| {
        let document = filled.get().cloned().unwrap_or_default();
        async move { Ok(document) }
    });
    let _ = document.set(service.openrpc());
    service
}

/// Who asked, for records: the user and the method.
fn asker<M: Method>(peer: &Peer) -> Actor {
    client(peer, M::NAME)
}

/// The same for a stream.
fn follower<S: Subscription>(peer: &Peer) -> Actor {
    client(peer, S::NAME)
}

fn client(peer: &Peer, method: &str) -> Actor {
    Actor::Client { user: format!("uid {}", peer.uid), command: Some(method.to_owned()) }
}

fn sampling_stopped(_: Stopped) -> Failure {
    Failure::new(Kind::Stopping, "the daemon is stopping: no metrics are sampled any more")
}
