//! The table of methods: from a name on the wire to a typed handler, and back to an answer.
//!
//! ```text
//!   name, params ──▶ access? ──▶ parse ──▶ handler(context, caller, params) ──▶ answer
//!                                          opener ──▶ source ──▶ pump
//! ```
//!
//! A handler is a plain async function over a context that the wire knows nothing of. It sees
//! typed parameters and who calls, and returns a typed answer or a [`Failure`]; everything of the
//! wire is done here. What is registered is also described in [`Service::openrpc`].

use super::answer::answer;
use super::caller::Caller;
use super::document::Document;
use super::peer::Peer;
use super::refusal::{invalid_params, positional_params, unknown_method};
use super::session::Session;
use super::subscription::{Source, pump};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jsonrpsee_types::{Id, Params};
use llamactl_protocol::{Access, Failure, Kind, Method, Subscription};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// The methods and streams of a daemon whose context is `C`.
pub struct Service<C> {
    context: Arc<C>,
    routes: Routes,
    document: Document,
}

/// The methods by name, ready to be called: a finished [`Service`].
#[derive(Default)]
pub struct Routes(HashMap<&'static str, Route>);

struct Route {
    access: Access,
    callback: Callback,
}

type Callback = Box<dyn Fn(Incoming) -> BoxFuture<'static, Result<Reply, Failure>> + Send + Sync>;

/// What goes back to a call.
pub(super) struct Reply {
    /// The answer as one line of JSON, without its line break.
    pub(super) json: String,
    /// What the call opened: begun when the answer is queued, and dropped when it cannot be.
    pub(super) stream: Option<BoxFuture<'static, ()>>,
}

/// An async function that carries out a method, or opens a stream: over the context, with who
/// calls and the parameters `P`, to a `T`. Implemented by every such function.
pub trait Handler<'a, C, P, T>: Send + Sync + 'static {
    /// The call under way.
    type Running: Future<Output = Result<T, Failure>> + Send + 'a;

    /// Begins a call.
    fn call(&self, context: &'a C, caller: Caller, params: P) -> Self::Running;
}

impl<'a, C, P, T, F, Running> Handler<'a, C, P, T> for F
where
    C: 'a,
    F: Fn(&'a C, Caller, P) -> Running + Send + Sync + 'static,
    Running: Future<Output = Result<T, Failure>> + Send + 'a,
{
    type Running = Running;

    fn call(&self, context: &'a C, caller: Caller, params: P) -> Running {
        self(context, caller, params)
    }
}

impl<C: Send + Sync + 'static> Service<C> {
    /// No methods yet.
    #[must_use]
    pub fn new(context: Arc<C>) -> Self {
        Service { context, routes: Routes::default(), document: Document::new() }
    }

    /// Registers a method. Its name must be new: a second registration is a defect, is said in
    /// the log, and changes nothing.
    #[must_use]
    pub fn on<M, H>(mut self, handler: H) -> Self
    where
        M: Method,
        H: for<'a> Handler<'a, C, M, M::Output>,
    {
        let (context, handler) = (Arc::clone(&self.context), Arc::new(handler));
        let callback = move |call: Incoming| {
            let (context, handler) = (Arc::clone(&context), Arc::clone(&handler));
            async move {
                let params: M = call.params(M::NAME, M::ACCESS)?;
                let caller = call.session.identity.caller(M::NAME, M::ACCESS).await;
                let output = handler.call(&context, caller, params).await?;
                call.reply(&output)
            }
            .boxed()
        };
        if self.routes.insert(M::NAME, M::ACCESS, Box::new(callback)) {
            self.document.method::<M>();
        }
        self
    }

    /// Registers a stream, with the method that closes it. The opener checks the parameters,
    /// takes the snapshot and returns the source; the reader gets its items after the answer.
    #[must_use]
    pub fn stream<S, Src, H>(mut self, opener: H) -> Self
    where
        S: Subscription,
        Src: Source<Item = S::Item> + 'static,
        H: for<'a> Handler<'a, C, S, Src>,
    {
        let (context, opener) = (Arc::clone(&self.context), Arc::new(opener));
        let open = move |call: Incoming| {
            let (context, opener) = (Arc::clone(&context), Arc::clone(&opener));
            async move {
                let params: S = call.params(S::NAME, S::ACCESS)?;
                let session = &call.session;
                let permit = session.streams.permit().ok_or_else(|| too_many_streams(session))?;
                let caller = session.identity.caller(S::NAME, S::ACCESS).await;
                let source = opener.call(&context, caller, params).await?;
                let slot = session.streams.enter(S::NAME, permit);
                let reply = call.reply(&slot.id)?;
                let stream = pump::<S, Src>(call.session, slot, source).boxed();
                // A notification has no number to close the stream by: it opens none.
                Ok(Reply { stream: call.id.is_some().then_some(stream), ..reply })
            }
            .boxed()
        };
        let close = |call: Incoming| {
            async move {
                let unsubscribe: Unsubscribe = call.unsubscribe(S::UNSUBSCRIBE)?;
                let streams = &call.session.streams;
                call.reply(&streams.close(S::NAME, unsubscribe.subscription).await)
            }
            .boxed()
        };
        let opens = self.routes.insert(S::NAME, S::ACCESS, Box::new(open));
        if opens && self.routes.insert(S::UNSUBSCRIBE, Access::Observe, Box::new(close)) {
            self.document.stream::<S, Unsubscribe>();
        }
        self
    }

    /// The OpenRPC 1.3.2 document of what is registered. The same methods give the same text.
    #[must_use]
    pub fn openrpc(&self) -> Value {
        self.document.openrpc()
    }

    /// The finished table.
    #[must_use]
    pub fn into_routes(self) -> Arc<Routes> {
        Arc::new(self.routes)
    }
}

impl Routes {
    fn insert(&mut self, name: &'static str, access: Access, callback: Callback) -> bool {
        let Entry::Vacant(free) = self.0.entry(name) else {
            tracing::error!(name, "a method is registered twice");
            debug_assert!(false, "{name} is registered twice");
            return false;
        };
        free.insert(Route { access, callback });
        true
    }

    /// Whether calling `name` changes state, so that its order among other calls matters.
    pub(super) fn changes_state(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|route| route.access > Access::Observe)
    }

    /// Calls a method. What it replies is never longer than a message may be.
    pub(super) async fn call(&self, method: &str, call: Incoming) -> Result<Reply, Failure> {
        match self.0.get(method) {
            Some(route) => (route.callback)(call).await,
            None => {
                let mut known: Vec<_> = self.0.keys().copied().collect();
                known.sort_unstable();
                Err(unknown_method(method, &known))
            }
        }
    }
}

/// A call on its way to its handler.
pub(super) struct Incoming {
    pub(super) session: Arc<Session>,
    /// Absent in a notification.
    pub(super) id: Option<Id<'static>>,
    pub(super) params: Params<'static>,
}

impl Incoming {
    /// The parameters of `method`, if the peer may call it.
    fn params<P: DeserializeOwned>(&self, method: &str, needed: Access) -> Result<P, Failure> {
        let peer = &self.session.identity.peer;
        if peer.access < needed {
            return Err(not_allowed(method, needed, peer));
        }
        let text = self.params.as_str().unwrap_or("{}");
        if text.starts_with('[') {
            return Err(positional_params(method));
        }
        serde_json::from_str(text).map_err(|error| invalid_params(method, &error))
    }

    /// The parameters of a method that closes a stream. Here a list is taken too: JSON-RPC
    /// clients with subscriptions of their own, jsonrpsee's among them, send `[id]`.
    fn unsubscribe(&self, method: &str) -> Result<Unsubscribe, Failure> {
        let text = self.params.as_str().unwrap_or("{}");
        if let Ok([subscription]) = serde_json::from_str::<[u64; 1]>(text) {
            return Ok(Unsubscribe { subscription });
        }
        self.params(method, Access::Observe)
    }

    fn reply(&self, result: &impl Serialize) -> Result<Reply, Failure> {
        let id = self.id.clone().unwrap_or(Id::Null);
        let json = answer(id, result, self.session.limits.message_bytes)?;
        Ok(Reply { json, stream: None })
    }
}

/// Closes a stream of this connection. True when it was open; nothing of it comes after the
/// answer.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Unsubscribe {
    /// The number the stream was opened with.
    subscription: u64,
}

fn too_many_streams(session: &Session) -> Failure {
    let message = format!("this connection has {} streams open", session.limits.subscriptions);
    Failure::new(Kind::TooManySubscriptions, message).hint("close one, or open another connection")
}

fn not_allowed(method: &str, needed: Access, peer: &Peer) -> Failure {
    let message = format!(
        "{method} needs {} access; {} has {}",
        needed.as_str(),
        peer.label(),
        peer.access.as_str()
    );
    Failure::new(Kind::NotAllowed, message).hint(match needed {
        Access::Admin => "the daemon's owner and root have it: try sudo",
        Access::Operate | Access::Observe => "members of the socket's group have it",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_access_says_what_is_needed_and_who_has_it() {
        let peer = Peer { uid: 1000, gid: 1000, pid: Some(42), access: Access::Operate };
        let failure = not_allowed("model.add", Access::Admin, &peer);
        assert_eq!(failure.message, "model.add needs admin access; uid 1000, pid 42 has operate");
        assert!(failure.hints.0[0].text.contains("owner"));
    }
}
