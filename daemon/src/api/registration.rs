//! The table of methods, and what the handlers have of the wire.
//!
//! This is the only file of the room that knows the wire. A handler is an async function of the
//! [`App`], the [`Caller`] and the method's parameters to its answer; one that opens a stream
//! answers with a [`Source`] of [`Emission`]s.

use super::app::App;
use super::{
    daemon, daemon_check, defaults, event, exchange, library, log, metrics, metrics_models, model,
    model_follow, model_history, model_settings, runtime, server,
};
pub(super) use crate::rpc::{Broadcast, Caller, Counters, Emission, Latest, Source};
use crate::rpc::{Routes, Service};
use llamactl_protocol::daemon::RpcDiscover;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The text of `docs/openrpc.json`, which a test below compares with what is registered.
const OPENRPC: &str = include_str!("../../../docs/openrpc.json");

/// All methods and streams, over the handles of `app`.
#[must_use]
pub fn routes(app: &Arc<App>) -> Arc<Routes> {
    service().into_routes(app)
}

fn service() -> Service<App> {
    // What a test has read is JSON.
    let document = serde_json::from_str(OPENRPC).unwrap_or(RawValue::NULL);
    Service::default()
        .constant::<RpcDiscover>(document)
        .on(daemon::hello)
        .on(daemon::ping)
        .on(daemon::status)
        .on(daemon::stop)
        .on(daemon::restart)
        .on(daemon::backup)
        .on(daemon::restore)
        .on(daemon_check::check)
        .on(model::add)
        .on(model::list)
        .on(model::show)
        .on(model::rename)
        .on(model::copy)
        .on(model::alias)
        .on(model::remove)
        .stream(model_follow::follow)
        .on(model_settings::set)
        .on(model_settings::args)
        .on(model_settings::key)
        .on(model_history::history)
        .on(model_history::diff)
        .on(model_history::rollback)
        .on(defaults::show)
        .on(defaults::set)
        .on_long(exchange::export)
        .on_long(exchange::import)
        .on_long(exchange::document)
        .on_long(exchange::put_document)
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
        .on(metrics::query)
        .on(metrics_models::models)
        .stream(metrics::follow)
        .on(metrics::gpus)
        .on(event::list)
        .stream(event::follow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::{env, fs};

    #[test]
    fn docs_openrpc_is_what_is_registered() {
        let text = format!("{}\n", serde_json::to_string_pretty(&service().openrpc()).unwrap());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openrpc.json");
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(path, &text).unwrap();
        }
        assert!(
            fs::read_to_string(path).unwrap_or_default() == text,
            "docs/openrpc.json is not what is registered; write it anew with UPDATE_DOCS=1 tests/run docs"
        );
    }

    /// Whether a schema lets nothing in that is not bounded.
    fn unbounded(schema: &Value, definitions: &Value, at: &str, found: &mut Vec<String>) {
        if let Some(name) = schema["$ref"].as_str().and_then(|it| it.rsplit('/').next()) {
            return unbounded(&definitions[name], definitions, at, found);
        }
        let is = |kind: &str| match &schema["type"] {
            Value::Array(kinds) => kinds.iter().any(|it| it == kind),
            one => one == kind,
        };
        let is_word = !schema["enum"].is_null() || !schema["const"].is_null();
        if is("string") && !is_word && schema["maxLength"].is_null()
            || is("array") && schema["maxItems"].is_null()
            || is("object")
                && schema["additionalProperties"] != false
                && schema["properties"].is_null()
                && schema["maxProperties"].is_null()
        {
            found.push(format!("{at}: {schema}"));
        }
        for several in ["anyOf", "oneOf", "allOf"] {
            for one in schema[several].as_array().into_iter().flatten() {
                unbounded(one, definitions, at, found);
            }
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(property, definitions, &format!("{at}.{name}"), found);
        }
        if !schema["items"].is_null() {
            unbounded(&schema["items"], definitions, &format!("{at}[]"), found);
        }
    }

    #[test]
    fn every_text_list_and_map_that_a_method_takes_is_bounded() {
        let document = service().openrpc();
        let (mut found, mut seen) = (Vec::new(), 0);
        for method in document["methods"].as_array().unwrap() {
            for param in method["params"].as_array().unwrap() {
                let at = format!("{} {}", method["name"], param["name"]);
                let definitions = &document["components"]["schemas"];
                unbounded(&param["schema"], definitions, &at, &mut found);
                seen += 1;
            }
        }
        assert!(found.is_empty(), "{found:#?}");
        assert!(seen > 90, "{seen} parameters");
    }
}
