//! What one line asked for, carried out and answered.

use super::message::{Call, Entry, Message};
use super::refusal::refuse;
use super::service::Routes;
use super::session::Session;
use futures_util::FutureExt as _;
use jsonrpsee::core::server::{MethodResponse, MethodResponseNotifyTx};
use jsonrpsee::types::Id;
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
pub(super) async fn carry_out(session: Arc<Session>, routes: Arc<Routes>, work: Work) {
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
    if let Some(Answer { json, sent }) = answer
        && session.outbox.send(json, Some(slot)).await.is_ok()
    {
        sent.into_iter().for_each(|(notify, is_success)| notify.notify(is_success));
    }
    // The next change begins when this one's answer is queued: answers keep the order too.
    drop(done);
}

/// What goes back, and who wants to know when it is queued.
struct Answer {
    json: Box<str>,
    sent: Vec<(MethodResponseNotifyTx, bool)>,
}

async fn answer(session: &Arc<Session>, routes: &Routes, message: Message) -> Option<Answer> {
    match message {
        Message::One(entry) => {
            let (response, _) = answer_entry(session, routes, entry).await?;
            let is_success = response.is_success();
            let (json, notify, _) = response.into_parts();
            let sent = notify.map(|notify| (notify, is_success)).into_iter().collect();
            Some(Answer { json: json.into(), sent })
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
    let (mut json, mut sent) = (String::new(), Vec::new());
    for entry in entries {
        left = left.saturating_sub(1);
        let Some((response, id)) = answer_entry(session, routes, entry).await else { continue };
        let kept_free = left.saturating_mul(REFUSAL_BYTES).saturating_add(json.len() + 2);
        let fits = response.as_json().get().len() <= max_bytes.saturating_sub(kept_free);
        let response = if fits { response } else { refuse(id, &batch_too_large(), max_bytes) };
        json.push(if json.is_empty() { '[' } else { ',' });
        let is_success = response.is_success();
        let (text, notify, _) = response.into_parts();
        json.push_str(text.get());
        sent.extend(notify.map(|notify| (notify, is_success)));
    }
    if json.is_empty() {
        return None; // notifications only
    }
    json.push(']');
    Some(Answer { json: json.into(), sent })
}

/// The answer to one entry, with its id; none to a notification.
async fn answer_entry(
    session: &Arc<Session>,
    routes: &Routes,
    entry: Entry,
) -> Option<(MethodResponse, Id<'static>)> {
    let max_bytes = session.limits.message_bytes;
    let Call { id, method, params } = match entry {
        Entry::Call(call) => call,
        Entry::Bad { id, failure } => return Some((refuse(id.clone(), &failure, max_bytes), id)),
    };
    let is_notification = id.is_none();
    let id = id.unwrap_or(Id::Null);
    let called = AssertUnwindSafe(routes.call(session, id.clone(), &method, params));
    let response = match called.catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            session.counters.panicked();
            tracing::error!(method, panic = panic_text(&*panic), "a handler panicked");
            let failure = Failure::new(Kind::Internal, format!("{method} broke off"))
                .hint("this is a defect of the daemon: its log has the particulars");
            refuse(id.clone(), &failure, max_bytes)
        }
    };
    (!is_notification).then_some((response, id))
}

fn batch_too_large() -> Failure {
    Failure::new(Kind::AnswerTooLarge, "the answers of the batch are too long together")
        .hint("send fewer calls in one batch")
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
