//! What one line asked for, carried out and answered.

use super::answer::refuse;
use super::message::{Call, Entry, Message};
use super::service::{Incoming, Reply, Routes};
use super::session::Session;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jsonrpsee_types::Id;
use llamactl_protocol::{Failure, Kind};
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What each answer of a batch not yet made is sure to find room for, in bytes: a refusal.
const REFUSAL_BYTES: usize = 2 << 10;

/// A message on its way.
pub(super) struct Work {
    pub(super) message: Message,
    /// The last change sent before it, if that still runs.
    pub(super) after: Option<CancellationToken>,
    /// Held while it runs, when it changes state itself.
    pub(super) done: Option<DropGuard>,
    /// Held until it is answered.
    pub(super) slot: OwnedSemaphorePermit,
}

/// Carries out a message in its turn, and queues its answer.
pub(super) async fn dispatch(session: Arc<Session>, routes: Arc<Routes>, work: Work) {
    let Work { message, after, done, slot } = work;
    let signals = &session.signals;
    // Nobody will read what a look finds; a change is finished all the same.
    let pointless = if done.is_some() { &signals.abort } else { &signals.gone };
    let answer = pointless.run_until_cancelled(async {
        if let Some(after) = after {
            after.cancelled().await;
        }
        answer(&session, &routes, message).await
    });
    let answer = answer.await.flatten();
    session.touch();
    if let Some(Answer { json, streams }) = answer
        && session.outbox.send(json, Some(slot)).await.is_ok()
    {
        streams.into_iter().for_each(|stream| drop(session.tasks.spawn(stream)));
    }
    // The next change begins when this one's answer is queued: answers keep the order too.
    drop(done);
}

/// What goes back, and the streams that begin when it is queued.
struct Answer {
    json: String,
    streams: Vec<BoxFuture<'static, ()>>,
}

async fn answer(session: &Arc<Session>, routes: &Routes, message: Message) -> Option<Answer> {
    match message {
        Message::One(entry) => {
            let (Reply { json, stream }, _) = answer_entry(session, routes, entry).await?;
            Some(Answer { json, streams: stream.into_iter().collect() })
        }
        Message::Batch(entries) => answer_batch(session, routes, entries).await,
    }
}

/// Calls the entries in their order. Every id gets an answer: one that would make the whole too
/// long is replaced by saying so.
async fn answer_batch(
    session: &Arc<Session>,
    routes: &Routes,
    entries: Vec<Entry>,
) -> Option<Answer> {
    let max_bytes = session.limits.message_bytes;
    let mut left = entries.len();
    let (mut json, mut streams) = (String::new(), Vec::new());
    for entry in entries {
        left = left.saturating_sub(1);
        let Some((reply, id)) = answer_entry(session, routes, entry).await else { continue };
        let kept_free = left.saturating_mul(REFUSAL_BYTES).saturating_add(json.len() + 2);
        json.push(if json.is_empty() { '[' } else { ',' });
        if reply.json.len() <= max_bytes.saturating_sub(kept_free) {
            json.push_str(&reply.json);
            streams.extend(reply.stream);
        } else {
            json.push_str(&refuse(id, &batch_too_large(), max_bytes));
        }
    }
    if json.is_empty() {
        return None; // notifications only
    }
    json.push(']');
    Some(Answer { json, streams })
}

/// The answer to one entry, with its id; none to a notification.
async fn answer_entry(
    session: &Arc<Session>,
    routes: &Routes,
    entry: Entry,
) -> Option<(Reply, Id<'static>)> {
    let max_bytes = session.limits.message_bytes;
    let Call { id, method, params } = match entry {
        Entry::Call(call) => call,
        Entry::Bad { id, failure } => {
            return Some((refusal(&id, &failure, max_bytes), id));
        }
    };
    let incoming = Incoming { session: Arc::clone(session), id: id.clone(), params };
    let called = AssertUnwindSafe(routes.call(&method, incoming)).catch_unwind().await;
    let outcome = called.unwrap_or_else(|panic| {
        session.counters.panicked();
        tracing::error!(method, panic = panic_text(&*panic), "a handler panicked");
        Err(Failure::new(Kind::Internal, format!("{method} broke off"))
            .hint("this is a defect of the daemon: its log has the particulars"))
    });
    let id = id?;
    Some((outcome.unwrap_or_else(|failure| refusal(&id, &failure, max_bytes)), id))
}

fn refusal(id: &Id<'_>, failure: &Failure, max_bytes: usize) -> Reply {
    Reply { json: refuse(id.clone(), failure, max_bytes), stream: None }
}

fn batch_too_large() -> Failure {
    Failure::new(Kind::AnswerTooLarge, "the answers of the batch are too long together")
        .hint("send fewer calls in one batch")
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
