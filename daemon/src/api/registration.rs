//! The table of methods, and what the handlers have of the wire.
//!
//! This is the only file of the room that knows the wire. A handler is an async function of the
//! [`App`], the [`Caller`] and the method's parameters to its answer; one that opens a stream
//! answers with a [`Source`] of [`Emission`]s.

use super::app::App;
use super::{
    daemon, defaults, event, exchange, library, log, metrics, model, model_history, model_settings,
    runtime, server,
};
pub(super) use crate::rpc::{Broadcast, Caller, Counters, Emission, Latest, Source};
use crate::rpc::{Routes, Service};
use llamactl_protocol::daemon::RpcDiscover;
use serde_json::Value;
use std::sync::{Arc, OnceLock};

/// All methods and streams, over the handles of `app`.
#[must_use]
pub fn routes(app: Arc<App>) -> Arc<Routes> {
    let document = Arc::new(OnceLock::<Value>::new());
    let filled = Arc::clone(&document);
    let service = Service::new(app)
        .on(move |_: &App, _: Caller, _: RpcDiscover| {
            let document = filled.get().cloned().unwrap_or_default();
            async move { Ok(document) }
        })
        .on(daemon::hello)
        .on(daemon::ping)
        .on(daemon::status)
        .on(daemon::stop)
        .on(daemon::restart)
        .on(daemon::backup)
        .on(daemon::restore)
        .on(model::add)
        .on(model::list)
        .on(model::show)
        .on(model::rename)
        .on(model::copy)
        .on(model::alias)
        .on(model::remove)
        .on(model_settings::set)
        .on(model_settings::args)
        .on(model_settings::key)
        .on(model_history::history)
        .on(model_history::diff)
        .on(model_history::rollback)
        .on(defaults::show)
        .on(defaults::set)
        .on(exchange::export)
        .on(exchange::import)
        .on(exchange::document)
        .on(exchange::put_document)
        .stream(library::scan)
        .on(library::list)
        .on(library::forget)
        .on(library::verify)
        .on(server::list)
        .on(server::show)
        .on(server::why)
        .on(server::start)
        .on(server::stop)
        .on(server::restart)
        .stream(server::follow)
        .on(runtime::add)
        .on(runtime::list)
        .on(runtime::show)
        .on(runtime::choose)
        .on(runtime::set)
        .on(runtime::remove)
        .on(runtime::refresh)
        .stream(log::follow)
        .on(log::clear)
        .on(metrics::sample)
        .stream(metrics::follow)
        .on(event::list)
        .stream(event::follow);
    // What the table says of itself is one of its methods, so that is filled in last.
    let _ = document.set(service.openrpc());
    service.into_routes()
}
