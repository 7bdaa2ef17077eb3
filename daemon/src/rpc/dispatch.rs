//! What one line asked for, carried out and answered.

use super::answer::refuse;
use super::budget::Room;
use super::counters::Counters;
use super::frame::LineRoom;
use super::message::{Entry, Message};
use super::service::{Incoming, Reply, Routes, Traits};
use super::session::Session;
use crate::os::memory::thread_time;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jsonrpsee_types::Id;
use llamactl_protocol::{Answer as Length, Failure, Kind};
use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a call may keep a thread of the runtime at a time.
const SLOW: Duration = Duration::from_millis(10);

/// What each answer of a batch not yet made is sure to find room for, in bytes: a refusal.
const REFUSAL_BYTES: usize = 2 << 10;

/// A message on its way.
pub(super) struct Work {
    pub(super) message: Message,
    /// Room for the line it came in and what was made of it.
    pub(super) _room: LineRoom,
    /// The last change sent before it, if that still runs.
    pub(super) after: Option<CancellationToken>,
    /// Held while it runs, when it changes state itself.
    pub(super) done: Option<DropGuard>,
    /// Held until it is answered.
    pub(super) slot: OwnedSemaphorePermit,
    /// The peer has said no more so far.
    pub(super) alone: bool,
}

/// Carries out a message in its turn, and queues its answer.
pub(super) async fn dispatch(session: Arc<Session>, routes: Arc<Routes>, work: Work) {
    let Work { message, _room, after, done, slot, alone } = work;
    let signals = &session.signals;
    // Nobody will read what a look finds; a change is finished all the same.
    let pointless = if done.is_some() { &signals.abort } else { &signals.gone };
    if pointless.is_cancelled() {
        return;
    }
    let answer = async {
        if let Some(after) = after {
            after.cancelled().await;
        }
        // Changes of a connection run one after the other; of what looks a few may run at once.
        let _look = match done {
            Some(_) => None,
            None => session.looks.acquire().await.ok(),
        };
        answer(&session, &routes, message).await
    };
    let answer = tokio::select! {
        // What answers at once waits for nothing, nor for its end.
        biased;
        answer = answer => answer,
        () = pointless.cancelled() => None,
    };
    session.touch();
    if let Some(Answer { json, room, streams }) = answer
        && session.outbox.answer(json, slot, room, alone).is_ok()
    {
        streams.into_iter().for_each(|stream| drop(session.tasks.spawn(stream)));
    }
    // The next change begins when this one's answer is queued: answers keep the order too.
    drop(done);
}

/// What goes back, and the streams that begin when it is queued.
struct Answer {
    json: String,
    room: Room,
    streams: Vec<BoxFuture<'static, ()>>,
}

async fn answer(session: &Arc<Session>, routes: &Routes, message: Message) -> Option<Answer> {
    match message {
        Message::One(entry) => answer_one(session, routes, entry).await,
        Message::Batch(entries) => answer_batch(session, routes, entries).await,
    }
}

async fn answer_one(session: &Arc<Session>, routes: &Routes, entry: Entry) -> Option<Answer> {
    let Traits { answer: mut length, changes_state } = traits(routes, &entry);
    let is_look = !changes_state;
    let in_turn = is_look && length != Length::Small;
    loop {
        let room = session.budget.answer(length).await.ok()?;
        // A change is not made twice, so its answer is as long as it comes out.
        let max_bytes = if is_look { room.bytes() - 1 } else { session.limits.message_bytes };
        let answered = answer_entry(session, routes, &entry, max_bytes, in_turn);
        let (reply, _, too_long) = answered.await?;
        if !too_long || !is_look || length == Length::Whole {
            let Reply { json, stream } = reply;
            return Some(Answer { json, room, streams: stream.into_iter().collect() });
        }
        // What only looks can look again, with room for more.
        length = Length::Whole;
    }
}

fn traits(routes: &Routes, entry: &Entry) -> Traits {
    match entry {
        Entry::Call(call) => routes.traits(&call.method),
        Entry::Bad { .. } => Traits::default(),
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
    let room = session.budget.answer(Length::Whole).await.ok()?;
    let mut left = entries.len();
    let (mut json, mut streams) = (String::new(), Vec::new());
    for entry in entries {
        left = left.saturating_sub(1);
        let Traits { answer, changes_state } = traits(routes, &entry);
        let in_turn = !changes_state && answer != Length::Small;
        let answered = answer_entry(session, routes, &entry, max_bytes, in_turn).await;
        let Some((reply, id, _)) = answered else { continue };
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
    Some(Answer { json, room, streams })
}

/// The answer to one entry, with its id, and whether there was no room for a longer one; none to a
/// notification.
async fn answer_entry(
    session: &Arc<Session>,
    routes: &Routes,
    entry: &Entry,
    max_bytes: usize,
    in_turn: bool,
) -> Option<(Reply, Id<'static>, bool)> {
    let call = match entry {
        Entry::Call(call) => call,
        Entry::Bad { id, failure } => {
            return Some((refusal(id, failure, max_bytes), id.clone(), false));
        }
    };
    let (id, method) = (call.id.clone(), &call.method);
    let incoming = Incoming { session: Arc::clone(session), call: Arc::clone(call), max_bytes };
    let called = measured(method, &session.counters, routes.call(method, incoming));
    let called = async {
        match in_turn {
            true => session.budget.in_turn(called).await,
            false => called.await,
        }
    };
    let called = AssertUnwindSafe(called).catch_unwind().await;
    let outcome = called.unwrap_or_else(|panic| {
        session.counters.panicked();
        tracing::error!(method, panic = panic_text(&*panic), "a handler panicked");
        Err(Failure::new(Kind::Internal, format!("{method} broke off"))
            .hint("this is a defect of the daemon: its log has the particulars"))
    });
    let id = id?;
    let too_long = outcome.as_ref().is_err_and(|failure| failure.kind == Kind::AnswerTooLarge);
    Some((outcome.unwrap_or_else(|failure| refusal(&id, &failure, max_bytes)), id, too_long))
}

/// Measures each poll of a call, and counts those that were long. It is the time that the thread
/// has run: what other programs take of the machine is no fault of the call.
async fn measured<F: Future>(method: &str, counters: &Counters, call: F) -> F::Output {
    let mut call = pin!(call);
    poll_fn(|context| {
        let begun = Instant::now();
        let had_run = had_run(begun);
        let polled = call.as_mut().poll(context);
        // A thread has not run for longer than has passed, and that costs no system call to know.
        if begun.elapsed() > SLOW {
            let took = thread_time().saturating_sub(had_run);
            if took > SLOW {
                counters.call_was_slow();
                tracing::warn!(method, took_ms = took.as_millis(), "a call held everybody up");
            }
        }
        polled
    })
    .await
}

thread_local! {
    /// When it was asked last how long this thread had run, and the answer.
    static ASKED: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// How long this thread had run, at most a millisecond before `now`: to ask the kernel takes as long as
/// the rest of a small call does.
fn had_run(now: Instant) -> Duration {
    let asked = ASKED.get().filter(|(at, _)| now.duration_since(*at) < Duration::from_millis(1));
    let (at, had_run) = asked.unwrap_or_else(|| (now, thread_time()));
    ASKED.set(Some((at, had_run)));
    had_run
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_holds_a_thread_is_counted_and_one_that_waits_is_not() {
        let counters = Counters::default();
        let waits = async {
            tokio::time::sleep(2 * SLOW).await;
            // Neither does sleeping in a poll cost anybody the processor.
            std::thread::sleep(2 * SLOW);
        };
        measured("waits", &counters, waits).await;
        assert_eq!(counters.slow_calls(), 0);
        let holds = async {
            let begun = thread_time();
            while thread_time() - begun < 2 * SLOW {}
        };
        measured("holds", &counters, holds).await;
        assert_eq!(counters.slow_calls(), 1);
    }
}
