//! One connection, from its first byte to its last.
//!
//! ```text
//!           ╭──────────── slot given back when the answer is written ─────────────╮
//!   slot ──▶ line ──▶ message ──▶ task: after earlier changes, call ──▶ answer ──▶ outbox
//! ```
//!
//! * A slot is taken before a line is read. A peer that sends and never reads stops being read
//!   when its slots are used up, and then the kernel stops it: it costs its slots and no more.
//! * Calls that change state run one after another in the order sent. Calls that look run beside
//!   each other, each after the changes sent before it.
//! * The end of the input is not the end of the connection: answers and streams go on until the
//!   peer hangs up.
//! * When the peer hangs up, calls that look are dropped; a change that has begun is finished.

use super::answer::refusal_line;
use super::budget::Budget;
use super::counters::Counters;
use super::dispatch::{Work, dispatch};
use super::frame::{Frame, LineRoom, Lines};
use super::hangup::hung_up;
use super::limits::Limits;
use super::message::parse;
use super::outbox::outbox;
use super::peer::Peer;

use super::service::Routes;
use super::session::{Session, Signals};
use bytes::BytesMut;
use llamactl_protocol::{Failure, Kind};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How long a connection that is sent away stays open, so that its peer can read why.
const LINGER: Duration = Duration::from_secs(1);

/// How long after it connected a peer is still heard when the daemon stops: who connects says at once
/// what it came for, and would otherwise be told nothing.
const FIRST_WORDS: Duration = Duration::from_millis(200);

/// Why reading ended.
enum Ending {
    /// The peer writes no more, or the daemon stops: what runs goes on.
    Quiet,
    /// The peer is gone.
    Gone,
    /// The peer is sent away, with the reason.
    Refused(Failure),
}

/// Serves one connection until it is over.
pub(super) async fn serve(
    stream: UnixStream,
    peer: Peer,
    routes: Arc<Routes>,
    limits: Limits,
    budget: Budget,
    counters: Arc<Counters>,
    signals: Signals,
) {
    let (read, write) = stream.into_split();
    let write = Arc::new(write);
    let at_once = Arc::clone(&write);
    let write_now = Box::new(move |bytes: &[u8]| at_once.try_write(bytes));
    let (outbox, queue) = outbox(budget.clone(), write_now);
    let mut lines = Lines::new(read, &limits, budget.clone());
    let session = Session::new(peer, limits, counters, budget, outbox, signals.clone());
    let session = Arc::new(session);
    let tasks = session.tasks.clone();
    let (gone, follows) = (signals.gone.clone(), session.streams.any_open());
    let mut writer = tokio::spawn(async move {
        let write = queue.write_to(Writing(write), &limits, follows);
        if let Some(Err(error)) = gone.run_until_cancelled(write).await {
            tracing::debug!(%error, peer = peer.label(), "a connection broke off");
            gone.cancel();
        }
    });

    match (Reader { session, routes, last_change: None }).run(&mut lines).await {
        Ending::Quiet => tokio::select! {
            _ = &mut writer => {}
            () = hung_up(descriptor(&lines)) => {}
        },
        Ending::Refused(_) => {
            // Closing with input unread would cut the peer off before it reads the reason, so
            // what it still writes is read and forgotten for a moment.
            let _ = timeout(LINGER, async { tokio::join!(&mut writer, lines.discard()) }).await;
        }
        Ending::Gone => {}
    }
    signals.gone.cancel();
    tasks.close();
    tasks.wait().await;
}

/// The reading half of the loop. While it lives, so does the outbox.
struct Reader {
    session: Arc<Session>,
    routes: Arc<Routes>,
    /// Done when the last change sent so far is.
    last_change: Option<CancellationToken>,
}

impl Reader {
    async fn run(mut self, lines: &mut Lines<OwnedReadHalf>) -> Ending {
        let ending = self.read(lines).await;
        if let Ending::Refused(failure) = &ending {
            self.session.streams.close_all();
            let line = refusal_line(failure, self.session.limits.message_bytes);
            let _ = timeout(LINGER, self.session.outbox.send(line, None)).await;
        }
        ending
    }

    async fn read(&mut self, lines: &mut Lines<OwnedReadHalf>) -> Ending {
        let Signals { stop, gone, .. } = self.session.signals.clone();
        let (mut stop, mut gone) = (pin!(stop.cancelled()), pin!(gone.cancelled()));
        // One timer for the whole connection, moved only when it fires.
        let opened = self.session.last_active();
        let first = opened + self.session.limits.first_byte_deadline;
        let mut idle = pin!(sleep_until(first));
        loop {
            let slots = Arc::clone(&self.session.calls);
            let slot = match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) => tokio::select! {
                    biased;
                    () = &mut stop => return Ending::Quiet,
                    () = &mut gone => return Ending::Gone,
                    // Nothing is read now, so nothing else would notice.
                    () = hung_up(descriptor(lines)) => return Ending::Gone,
                    slot = slots.acquire_owned() => match slot {
                        Ok(slot) => slot,
                        Err(_) => return Ending::Gone,
                    },
                },
            };
            let frame = loop {
                tokio::select! {
                    biased;
                    () = &mut stop => match self.last_frame(lines, opened + FIRST_WORDS).await {
                        Some(frame) => break frame,
                        None => return Ending::Quiet,
                    },
                    () = &mut gone => return Ending::Gone,
                    frame = lines.next() => {
                        if frame != Frame::Full {
                            break frame;
                        }
                        let room = tokio::select! {
                            biased;
                            () = &mut stop => return Ending::Quiet,
                            () = &mut gone => return Ending::Gone,
                            // Nothing is read now, so nothing else would notice.
                            () = hung_up(descriptor(lines)) => return Ending::Gone,
                            room = lines.wait_for_room() => room,
                        };
                        match room {
                            Some(room) => lines.grow(room),
                            None => break Frame::Late,
                        }
                    }
                    () = &mut idle => match self.idle_until(lines) {
                        Ok(later) => idle.as_mut().reset(later),
                        Err(failure) => return Ending::Refused(failure),
                    },
                }
            };
            self.session.touch();
            match frame {
                Frame::Line(line) => {
                    let room = lines.take_room();
                    self.take(line, room, slot, lines.is_empty()).await;
                }
                Frame::End => return Ending::Quiet,
                Frame::TooLong => return Ending::Refused(self.too_long()),
                Frame::Late | Frame::Full => return Ending::Refused(self.late()),
            }
        }
    }

    /// What still comes after the order to stop: what is there already, and what a peer that has
    /// not said anything yet came for, if it says so in time.
    async fn last_frame(&self, lines: &mut Lines<OwnedReadHalf>, until: Instant) -> Option<Frame> {
        let until = if lines.has_heard() { Instant::now() } else { until };
        let frame = tokio::time::timeout_at(until, lines.next()).await.ok()?;
        (frame != Frame::Full).then_some(frame)
    }

    /// Starts what a line asks for; `alone` when nothing of another line is here yet.
    async fn take(
        &mut self,
        line: BytesMut,
        room: LineRoom,
        slot: OwnedSemaphorePermit,
        alone: bool,
    ) {
        let parsed = parse(&line, &self.session.limits);
        drop(line);
        let message = match parsed {
            Ok(message) => message,
            Err(failure) => {
                let line = refusal_line(&failure, self.session.limits.message_bytes);
                // Answered in line: a peer that sends junk waits for its own answers.
                let _ = self.session.outbox.send(line, Some(slot)).await;
                return;
            }
        };
        let after = self.last_change.clone().filter(|change| !change.is_cancelled());
        let done = message.any_call(|method| self.routes.traits(method).changes_state).then(|| {
            let done = CancellationToken::new();
            self.last_change = Some(done.clone());
            done.drop_guard()
        });
        let work = Work { message, _room: room, after, done, slot, alone };
        let (session, routes) = (Arc::clone(&self.session), Arc::clone(&self.routes));
        let mut running = Box::pin(dispatch(session, routes, work));
        // Most calls answer without waiting for anything: those need no task of their own.
        if futures_util::poll!(&mut running).is_pending() {
            self.session.tasks.spawn(running);
        }
    }

    /// When to look again whether the peer has been idle for too long; or that it has.
    fn idle_until(&self, lines: &Lines<OwnedReadHalf>) -> Result<Instant, Failure> {
        let limits = &self.session.limits;
        // The slot for the next line is taken while it is waited for.
        let calls_run = self.session.calls.available_permits() + 1 < limits.calls_in_flight;
        if calls_run || lines.is_inside_a_line() || !self.session.streams.is_empty() {
            return Ok(Instant::now() + limits.idle_deadline);
        }
        let (allowed, what) = match lines.has_heard() {
            true => (limits.idle_deadline, "nothing was asked"),
            false => (limits.first_byte_deadline, "nothing was sent"),
        };
        let until = self.session.last_active() + allowed;
        if until > Instant::now() {
            return Ok(until);
        }
        let message = format!("{what} for {} s: the connection is closed", allowed.as_secs());
        Err(Failure::new(Kind::IdleTimeout, message).hint("open another when there is something"))
    }

    fn too_long(&self) -> Failure {
        let limit = self.session.limits.message_bytes;
        let message = format!("the line is longer than the {limit} bytes a message may have");
        Failure::new(Kind::MessageTooLarge, message).hint("the connection is closed")
    }

    fn late(&self) -> Failure {
        let seconds = self.session.limits.message_deadline.as_secs_f64();
        let message = format!("a line was begun and not finished within {seconds} s");
        Failure::new(Kind::MessageTimeout, message)
            .hint("end each request with a line end; the connection is closed")
    }
}

/// The writing half of a socket that others write to as well.
struct Writing(Arc<OwnedWriteHalf>);

impl AsyncWrite for Writing {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.as_ref().as_ref().poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.0.as_ref().as_ref();
        Poll::Ready(Ok(rustix::net::shutdown(stream, rustix::net::Shutdown::Write)?))
    }
}

fn descriptor(lines: &Lines<OwnedReadHalf>) -> BorrowedFd<'_> {
    lines.get_ref().as_ref().as_fd()
}
