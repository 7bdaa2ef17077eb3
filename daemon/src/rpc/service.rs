//! The table of methods: from a name on the wire to a typed handler, and back to an answer.
//!
//! ```text
//!   name, params ──▶ access? ──▶ parse ──▶ handler(context, caller, params) ──▶ answer
//!                                          opener ──▶ source ──▶ pump
//! ```
//!
//! A handler is a plain async function over a context that the wire knows nothing of. It sees
//! typed parameters and who calls, and returns a typed answer or a [`Failure`]; everything of the
//! wire is done here.

use super::answer::answer;
use super::budget::Budget;
use super::caller::Caller;
use super::message::Call;
use super::peer::Peer;
use super::refusal::{invalid_params, positional_params, unknown_method};
use super::session::Session;
use super::subscription::{Source, pump};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jsonrpsee_types::Id;
use llamactl_protocol::{Access, Answer, Failure, Kind, Method, Subscription};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Vacancy;
use std::panic::resume_unwind;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

/// The methods and streams of a daemon whose context is `C`.
pub struct Service<C> {
    routes: HashMap<&'static str, Registered<C>>,
    #[cfg(test)]
    document: super::document::Document,
}

struct Registered<C> {
    access: Access,
    answer: Answer,
    over: Over<C>,
}

/// The methods by name, ready to be called: a finished [`Service`].
#[derive(Default)]
pub struct Routes(HashMap<&'static str, Route>);

struct Route {
    access: Access,
    answer: Answer,
    callback: Callback,
}

/// What is to be known of a method before it is called; of one that is not there, what a refusal needs.
#[derive(Clone, Copy)]
pub(super) struct Traits {
    /// How long its answer can become.
    pub(super) answer: Answer,
    /// Calling it changes state, so that its order among other calls matters.
    pub(super) changes_state: bool,
}

impl Default for Traits {
    fn default() -> Self {
        Traits { answer: Answer::Small, changes_state: false }
    }
}

type Callback = Box<dyn Fn(Incoming) -> BoxFuture<'static, Result<Reply, Failure>> + Send + Sync>;

/// Makes a callback over a context.
type Over<C> = Box<dyn FnOnce(&Arc<C>) -> Callback>;

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

impl<C: Send + Sync + 'static> Default for Service<C> {
    fn default() -> Self {
        Service {
            routes: HashMap::new(),
            #[cfg(test)]
            document: super::document::Document::new(),
        }
    }
}

impl<C: Send + Sync + 'static> Service<C> {
    /// Registers a method. Its name must be new: a second registration is a defect, is said in
    /// the log, and changes nothing.
    #[must_use]
    pub fn on<M, H>(self, handler: H) -> Self
    where
        M: Method,
        H: for<'a> Handler<'a, C, M, M::Output>,
    {
        self.method(handler, false)
    }

    /// Registers a method that takes long by its nature: reading a text, telling of every model. It
    /// runs beside the runtime, where it keeps nobody else waiting, one of each user's and few in all
    /// at a time.
    #[must_use]
    pub fn on_long<M, H>(self, handler: H) -> Self
    where
        M: Method,
        H: for<'a> Handler<'a, C, M, M::Output>,
    {
        self.method(handler, true)
    }

    fn method<M, H>(mut self, handler: H, is_long: bool) -> Self
    where
        M: Method,
        H: for<'a> Handler<'a, C, M, M::Output>,
    {
        let handler = Arc::new(handler);
        let over = move |context: &Arc<C>| -> Callback {
            let context = Arc::clone(context);
            Box::new(move |call: Incoming| {
                let (context, handler) = (Arc::clone(&context), Arc::clone(&handler));
                let budget = is_long.then(|| call.session.budget.clone());
                let running = async move {
                    let params: M = call.params(M::NAME, M::ACCESS)?;
                    let caller = call.session.identity.caller(M::NAME, M::ACCESS).await;
                    let output = handler.call(&context, caller, params).await?;
                    call.reply(&output)
                };
                match budget {
                    Some(budget) => beside_the_runtime(budget, running).boxed(),
                    None => running.boxed(),
                }
            })
        };
        if self.insert(M::NAME, M::ACCESS, M::ANSWER, over) {
            #[cfg(test)]
            self.document.method::<M>();
        }
        self
    }

    /// Registers a method that always answers the same JSON.
    #[must_use]
    pub fn constant<M: Method>(mut self, json: &'static RawValue) -> Self {
        let over = move |_: &Arc<C>| -> Callback {
            Box::new(move |call: Incoming| {
                async move {
                    let _: M = call.params(M::NAME, M::ACCESS)?;
                    call.reply(json)
                }
                .boxed()
            })
        };
        if self.insert(M::NAME, M::ACCESS, M::ANSWER, over) {
            #[cfg(test)]
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
        let opener = Arc::new(opener);
        let open = move |context: &Arc<C>| -> Callback {
            let context = Arc::clone(context);
            Box::new(move |call: Incoming| {
                let (context, opener) = (Arc::clone(&context), Arc::clone(&opener));
                async move {
                    let params: S = call.params(S::NAME, S::ACCESS)?;
                    let session = Arc::clone(&call.session);
                    let permit =
                        session.streams.permit().ok_or_else(|| too_many_streams(&session))?;
                    let caller = session.identity.caller(S::NAME, S::ACCESS).await;
                    let source = opener.call(&context, caller, params).await?;
                    let slot = session.streams.enter(S::NAME, permit);
                    let reply = call.reply(&slot.id)?;
                    let stream = pump::<S, Src>(session, slot, source).boxed();
                    // A notification has no number to close the stream by: it opens none.
                    Ok(Reply { stream: call.id().is_some().then_some(stream), ..reply })
                }
                .boxed()
            })
        };
        let close = |_: &Arc<C>| -> Callback {
            Box::new(|call: Incoming| {
                async move {
                    let unsubscribe: Unsubscribe = call.unsubscribe(S::UNSUBSCRIBE)?;
                    let streams = &call.session.streams;
                    call.reply(&streams.close(S::NAME, unsubscribe.subscription).await)
                }
                .boxed()
            })
        };
        let opens = self.insert(S::NAME, S::ACCESS, Answer::Small, open);
        if opens && self.insert(S::UNSUBSCRIBE, Access::Observe, Answer::Small, close) {
            #[cfg(test)]
            self.document.stream::<S, Unsubscribe>();
        }
        self
    }

    /// The OpenRPC 1.3.2 document of what is registered. The same methods give the same text.
    #[cfg(test)]
    pub(crate) fn openrpc(&self) -> serde_json::Value {
        self.document.openrpc()
    }

    /// The finished table, over a context.
    #[must_use]
    pub fn into_routes(self, context: &Arc<C>) -> Arc<Routes> {
        let finished = self.routes.into_iter().map(|(name, registered)| {
            let Registered { access, answer, over } = registered;
            (name, Route { access, answer, callback: over(context) })
        });
        Arc::new(Routes(finished.collect()))
    }

    fn insert(
        &mut self,
        name: &'static str,
        access: Access,
        answer: Answer,
        over: impl FnOnce(&Arc<C>) -> Callback + 'static,
    ) -> bool {
        let Vacancy::Vacant(free) = self.routes.entry(name) else {
            tracing::error!(name, "a method is registered twice");
            debug_assert!(false, "{name} is registered twice");
            return false;
        };
        free.insert(Registered { access, answer, over: Box::new(over) });
        true
    }
}

/// Runs a call on a thread that may be kept, in its turn. It ends when nobody waits for it any more.
async fn beside_the_runtime<T: Send + 'static>(
    budget: Budget,
    call: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let stopping = || Failure::new(Kind::Stopping, "the daemon is stopping");
    let turn = budget.long_call().await.ok_or_else(stopping)?;
    let wanted = CancellationToken::new();
    let _wanted = wanted.clone().drop_guard();
    let runtime = Handle::current();
    let running = spawn_blocking(move || {
        let _turn = turn;
        runtime.block_on(wanted.run_until_cancelled(call))
    });
    match running.await {
        Ok(outcome) => outcome.unwrap_or_else(|| Err(stopping())),
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => Err(stopping()),
    }
}

impl Routes {
    /// What is to be known of a method before it is called.
    pub(super) fn traits(&self, name: &str) -> Traits {
        self.0.get(name).map_or_else(Traits::default, |route| Traits {
            answer: route.answer,
            changes_state: route.access > Access::Observe,
        })
    }

    /// Calls a method. What it replies is never longer than the call has room for.
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
    pub(super) call: Arc<Call>,
    /// How long the answer may be.
    pub(super) max_bytes: usize,
}

impl Incoming {
    /// Absent in a notification.
    fn id(&self) -> Option<&Id<'static>> {
        self.call.id.as_ref()
    }

    /// The parameters of `method`, if the peer may call it.
    fn params<P: DeserializeOwned>(&self, method: &str, needed: Access) -> Result<P, Failure> {
        let peer = &self.session.identity.peer;
        if peer.access < needed {
            return Err(not_allowed(method, needed, peer));
        }
        let text = self.call.params.as_str().unwrap_or("{}");
        if text.starts_with('[') {
            return Err(positional_params(method));
        }
        serde_json::from_str(text).map_err(|error| invalid_params(method, &error))
    }

    /// The parameters of a method that closes a stream. Here a list is taken too: JSON-RPC
    /// clients with subscriptions of their own, jsonrpsee's among them, send `[id]`.
    fn unsubscribe(&self, method: &str) -> Result<Unsubscribe, Failure> {
        let text = self.call.params.as_str().unwrap_or("{}");
        if let Ok([subscription]) = serde_json::from_str::<[u64; 1]>(text) {
            return Ok(Unsubscribe { subscription });
        }
        self.params(method, Access::Observe)
    }

    fn reply(&self, result: &(impl Serialize + ?Sized)) -> Result<Reply, Failure> {
        let id = self.id().cloned().unwrap_or(Id::Null);
        let json = answer(id, &result, self.max_bytes)?;
        Ok(Reply { json, stream: None })
    }
}

/// Closes a stream of this connection. True when it was open; nothing of it comes after the
/// answer.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
