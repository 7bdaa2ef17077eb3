//! The table of methods: from a name on the wire to a typed handler, and back to an answer.
//!
//! ```text
//!   name, params ──▶ access? ──▶ parse ──▶ handler(context, peer, params) ──▶ answer
//!                                          opener ──▶ source ──▶ pump
//! ```
//!
//! A handler is a plain async function over the daemon's context. It sees typed parameters and
//! returns a typed answer or a [`Failure`]; everything of the wire is done here. The table itself
//! is jsonrpsee's [`Methods`]; what is registered here is also described in [`Service::openrpc`].

use super::document::Document;
use super::peer::Peer;
use super::refusal::{invalid_params, positional_params, refuse, unknown_method};
use super::session::{Place, Session};
use super::subscription::{Source, pump};
use jsonrpsee::core::server::{MethodCallback, MethodResponse, Methods, ResponsePayload};
use jsonrpsee::types::{Id, Params};
use jsonrpsee::{ConnectionId, Extensions};
use llamactl_protocol::{Access, Failure, Kind, Method, Subscription};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The methods and streams of a daemon whose context is `C`.
pub struct Service<C> {
    context: Arc<C>,
    routes: Routes,
    document: Document,
}

/// The methods by name, ready to be called: a finished [`Service`]. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    methods: Methods,
    access: BTreeMap<&'static str, Access>,
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
    pub fn on<M, F>(
        mut self,
        handler: impl Fn(Arc<C>, Peer, M) -> F + Send + Sync + 'static,
    ) -> Self
    where
        M: Method,
        F: Future<Output = Result<M::Output, Failure>> + Send + 'static,
    {
        let context = Arc::clone(&self.context);
        let handler = Arc::new(handler);
        let callback = route(move |call| {
            let (context, handler) = (Arc::clone(&context), Arc::clone(&handler));
            async move {
                let params: M = call.params(M::NAME, M::ACCESS)?;
                let output = handler(context, call.session.peer, params).await?;
                Ok(ResponsePayload::success(Answer(Arc::new(output))))
            }
        });
        if self.routes.insert(M::NAME, M::ACCESS, callback) {
            self.document.method::<M>();
        }
        self
    }

    /// Registers a stream, with the method that closes it. The opener checks the parameters,
    /// takes the snapshot and returns the source; the reader gets its items after the answer.
    #[must_use]
    pub fn stream<S, Src, F>(
        mut self,
        opener: impl Fn(Arc<C>, Peer, S) -> F + Send + Sync + 'static,
    ) -> Self
    where
        S: Subscription,
        Src: Source<Item = S::Item> + 'static,
        F: Future<Output = Result<Src, Failure>> + Send + 'static,
    {
        let context = Arc::clone(&self.context);
        let opener = Arc::new(opener);
        let open = route(move |call| {
            let (context, opener) = (Arc::clone(&context), Arc::clone(&opener));
            async move {
                let params: S = call.params(S::NAME, S::ACCESS)?;
                let session = call.session;
                let slot = session.streams.slot().ok_or_else(|| too_many_streams(&session))?;
                let source = opener(context, session.peer, params).await?;
                let place = session.streams.enter(S::NAME, slot);
                Ok(start::<S, Src>(session, place, source))
            }
        });
        let close = route(|call| async move {
            let unsubscribe: Unsubscribe = call.unsubscribe(S::UNSUBSCRIBE)?;
            let closed = call.session.streams.close(S::NAME, unsubscribe.subscription).await;
            Ok(ResponsePayload::success(closed))
        });
        let opens = self.routes.insert(S::NAME, S::ACCESS, open);
        if opens && self.routes.insert(S::UNSUBSCRIBE, Access::Observe, close) {
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
    pub fn into_routes(self) -> Routes {
        self.routes
    }
}

impl Routes {
    fn insert(&mut self, name: &'static str, access: Access, callback: MethodCallback) -> bool {
        if let Err(error) = self.methods.verify_and_insert(name, callback) {
            tracing::error!(%error, "a method is registered twice");
            debug_assert!(false, "{error}");
            return false;
        }
        self.access.insert(name, access);
        true
    }

    /// Whether calling `name` changes state, so that its order among other calls matters.
    pub(super) fn changes_state(&self, name: &str) -> bool {
        self.access.get(name).is_some_and(|access| *access > Access::Observe)
    }

    /// Calls a method. The answer may be an error, and is never longer than a message may be.
    pub(super) async fn call(
        &self,
        session: &Arc<Session>,
        id: Id<'static>,
        method: &str,
        params: Params<'static>,
    ) -> MethodResponse {
        let max_bytes = session.limits.message_bytes;
        match self.methods.method(method) {
            Some(MethodCallback::Async(callback)) => {
                let mut extensions = Extensions::new();
                extensions.insert(Arc::clone(session));
                // jsonrpsee's id of the connection is not used: the session says it all.
                callback(id, params, ConnectionId(0), max_bytes, extensions).await
            }
            _ => refuse(id, &unknown_method(method, self.access.keys().copied()), max_bytes),
        }
    }
}

/// A call on its way to its handler.
struct Incoming {
    session: Arc<Session>,
    params: Params<'static>,
}

impl Incoming {
    /// The parameters of `method`, if the peer may call it.
    fn params<P: DeserializeOwned>(&self, method: &str, needed: Access) -> Result<P, Failure> {
        let peer = self.session.peer;
        if peer.access < needed {
            return Err(not_allowed(method, needed, &peer));
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
}

/// Closes a stream of this connection. True when it was open; nothing of it comes after the
/// answer.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Unsubscribe {
    /// The number the stream was opened with.
    subscription: u64,
}

/// Makes jsonrpsee's callback from a function that answers or fails.
fn route<T, F>(run: impl Fn(Incoming) -> F + Send + Sync + 'static) -> MethodCallback
where
    T: Serialize + Clone + 'static,
    F: Future<Output = Result<ResponsePayload<'static, T>, Failure>> + Send + 'static,
{
    let run = Arc::new(run);
    MethodCallback::Async(Arc::new(move |id, params, _, max_bytes, extensions: Extensions| {
        let run = Arc::clone(&run);
        Box::pin(async move {
            let Some(session) = extensions.get::<Arc<Session>>().cloned() else {
                let failure = Failure::new(Kind::Internal, "a call came without its connection");
                return refuse(id, &failure, max_bytes);
            };
            match run(Incoming { session, params }).await {
                Ok(payload) => bounded(id, payload, max_bytes),
                Err(failure) => refuse(id, &failure, max_bytes),
            }
        })
    }))
}

/// The answer with this payload, or why it cannot be sent.
fn bounded<T: Serialize + Clone>(
    id: Id<'static>,
    payload: ResponsePayload<'static, T>,
    max_bytes: usize,
) -> MethodResponse {
    let answer = MethodResponse::response(id.clone(), payload, max_bytes);
    let failure = match answer.as_error_code().map(Kind::from_code) {
        None => return answer,
        Some(Kind::AnswerTooLarge) => Failure::new(
            Kind::AnswerTooLarge,
            format!("the answer would be longer than {max_bytes} bytes"),
        )
        .hint("ask for less: most lists take limit and after"),
        Some(_) => Failure::new(Kind::Internal, "the answer could not be written as JSON")
            .hint("this is a defect of the daemon"),
    };
    refuse(id, &failure, max_bytes)
}

/// An answer's value. jsonrpsee wants it to be `Clone`, which answers need not be.
struct Answer<T>(Arc<T>);

impl<T> Clone for Answer<T> {
    fn clone(&self) -> Self {
        Answer(Arc::clone(&self.0))
    }
}

impl<T: Serialize> Serialize for Answer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Answers with the stream's number; its items follow once that answer is queued.
fn start<S, Src>(session: Arc<Session>, place: Place, source: Src) -> ResponsePayload<'static, u64>
where
    S: Subscription,
    Src: Source<Item = S::Item> + 'static,
{
    let (payload, answered) = ResponsePayload::success(place.id).notify_on_completion();
    let tasks = session.tasks.clone();
    tasks.spawn(async move {
        // Not answered: the peer went, or asked by a notification and has no number to close by.
        if answered.await.is_ok() {
            pump::<S, Src>(session, place, source).await;
        }
    });
    payload
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
        assert!(failure.hint.is_some_and(|hint| hint.contains("owner")));
    }
}
