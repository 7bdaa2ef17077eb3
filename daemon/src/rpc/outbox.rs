//! Messages to a peer: a queue bounded in bytes, and the task that writes it out.
//!
//! ```text
//!   answers ──╮ each with             as many per
//!             ├─ its room ──▶ queue ──▶ write as wait ──▶ socket
//!   items ────╯      ╰─ a small answer, and nothing waits ──╯╰─▶ room and call slots given back
//! ```
//!
//! Whoever sends has room for it, first come first served. A message carries what must be held
//! until it is written: its room, and the call slot of the request it answers.

use super::budget::{Budget, Closed, Room};
use super::limits::Limits;
use super::session::lock;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

/// How many bytes are gathered for one write.
const WRITE_BYTES: usize = 64 << 10;

/// The longest answer that is written where it was made, when nothing else waits.
const AT_ONCE_BYTES: usize = 16 << 10;

/// The peer is gone, or its connection is being closed.
pub(super) type Gone = Closed;

/// Writes bytes to the peer without waiting; how many it took.
pub(super) type WriteNow = Box<dyn Fn(&[u8]) -> io::Result<usize> + Send + Sync>;

/// The sending side. The queue ends when the last one is dropped.
#[derive(Clone)]
pub(super) struct Outbox {
    queue: mpsc::UnboundedSender<Queued>,
    budget: Budget,
    unwritten: Arc<Mutex<usize>>,
    write_now: Arc<WriteNow>,
}

/// The writing side.
pub(super) struct Queue {
    messages: mpsc::UnboundedReceiver<Queued>,
    budget: Budget,
    unwritten: Arc<Mutex<usize>>,
}

#[derive(Debug)]
struct Queued {
    line: Vec<u8>,
    held: Held,
}

/// What is given back when the message has been written.
#[derive(Debug)]
struct Held {
    _room: Room,
    _call: Option<OwnedSemaphorePermit>,
}

/// A queue with the room of `budget`.
pub(super) fn outbox(budget: Budget, write_now: WriteNow) -> (Outbox, Queue) {
    // The channel's length is bounded by the room: a message enters it holding its share.
    let (queue, messages) = mpsc::unbounded_channel();
    let unwritten = Arc::new(Mutex::new(0));
    let queue = Outbox {
        queue,
        budget: budget.clone(),
        unwritten: Arc::clone(&unwritten),
        write_now: Arc::new(write_now),
    };
    (queue, Queue { messages, budget, unwritten })
}

impl Outbox {
    /// Sends one JSON text of a stream, or a refusal of what was no call, once there is room.
    pub(super) async fn send(
        &self,
        json: String,
        call: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Gone> {
        let line = one_line(json);
        let room = self.budget.item(line.len()).await?;
        self.push(line, Held { _room: room, _call: call }, false)
    }

    /// Sends an answer that has its room already. `call` is released when it has been written. When
    /// it comes `alone`, because the peer has said no more so far, and nothing waits to be written, it
    /// is written at once: to wake a task for it would take longer than the rest of a small call.
    pub(super) fn answer(
        &self,
        json: String,
        call: OwnedSemaphorePermit,
        mut room: Room,
        alone: bool,
    ) -> Result<(), Gone> {
        let mut line = one_line(json);
        line.shrink_to_fit();
        room.shrink_to(line.len());
        let at_once = alone && line.len() <= AT_ONCE_BYTES;
        self.push(line, Held { _room: room, _call: Some(call) }, at_once)
    }

    /// Queues a line, or writes it if nothing is before it.
    fn push(&self, mut line: Vec<u8>, held: Held, at_once: bool) -> Result<(), Gone> {
        let mut unwritten = lock(&self.unwritten);
        if at_once && *unwritten == 0 {
            match (self.write_now)(&line) {
                Ok(written) if written == line.len() => return Ok(()),
                Ok(written) => drop(line.drain(..written)),
                // It has no room, or is gone: the writer waits for that, or finds out.
                Err(_) => {}
            }
        }
        self.queue.send(Queued { line, held }).map_err(|_| Closed)?;
        *unwritten += 1;
        Ok(())
    }

    /// Waits until something could be queued. Asking first keeps a slow reader's next item fresh:
    /// it is made when it can be sent, not before.
    pub(super) async fn has_room(&self) -> Result<(), Gone> {
        self.budget.has_room().await
    }
}

/// A JSON text as a line. Inside JSON's strings line ends are escaped; between its tokens they mean
/// nothing. So a text passed on from elsewhere stays what it is, on one line.
fn one_line(json: String) -> Vec<u8> {
    let mut line = json.into_bytes();
    // Without a branch, which lets the compiler take many bytes at a time: documents are long.
    for byte in &mut line {
        *byte = if matches!(*byte, b'\n' | b'\r') { b' ' } else { *byte };
    }
    line.push(b'\n');
    line
}

impl Queue {
    /// Writes the queue out until every [`Outbox`] is dropped and all is written, then says so to
    /// the peer by closing the writing direction.
    ///
    /// # Errors
    /// The peer's end is closed; or it took nothing for [`Limits::stall_deadline`] while `may_stall`
    /// said it had no stream open to be slow with, or for [`Limits::short_stall_deadline`] while
    /// it held room that others of its user wait for ([`io::ErrorKind::TimedOut`]).
    pub(super) async fn write_to(
        mut self,
        mut write: impl AsyncWrite + Unpin,
        limits: &Limits,
        may_stall: impl Fn() -> bool,
    ) -> io::Result<()> {
        let look = limits.short_stall_deadline.min(limits.stall_deadline);
        let mut written = Vec::new();
        let mut buffer = Vec::new();
        while let Some(Queued { mut line, mut held }) = self.messages.recv().await {
            loop {
                buffer.append(&mut line);
                written.push(held);
                if buffer.len() >= WRITE_BYTES {
                    break;
                }
                let Ok(next) = self.messages.try_recv() else { break };
                Queued { line, held } = next;
            }
            let mut rest = buffer.as_slice();
            let mut stalled = Duration::ZERO;
            while !rest.is_empty() {
                match timeout(look, write.write(rest)).await {
                    Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(Ok(count)) => {
                        rest = rest.get(count..).unwrap_or_default();
                        stalled = Duration::ZERO;
                    }
                    Ok(Err(error)) => return Err(error),
                    Err(_) => {
                        stalled += look;
                        let is_over = stalled >= limits.stall_deadline && !may_stall();
                        if is_over || self.budget.is_in_the_way() {
                            return Err(io::ErrorKind::TimedOut.into());
                        }
                    }
                }
            }
            buffer.clear();
            if buffer.capacity() > WRITE_BYTES * 2 {
                buffer = Vec::new();
            }
            *lock(&self.unwritten) -= written.len();
            written.clear();
        }
        write.shutdown().await
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Whoever still waits for room learns that there will be none.
        self.budget.close();
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Census;
    use super::*;
    use llamactl_protocol::Answer;
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
    use tokio::sync::Semaphore;

    fn limits(queued_bytes: u32) -> Limits {
        Limits { queued_bytes, ..Limits::default() }
    }

    fn outbox(limits: &Limits) -> (Outbox, Queue) {
        let budget = Census::new().enter(1, limits).unwrap();
        super::outbox(budget, Box::new(|_| Err(io::ErrorKind::WouldBlock.into())))
    }

    fn message(bytes: usize) -> String {
        "x".repeat(bytes)
    }

    #[tokio::test]
    async fn a_text_with_line_ends_goes_out_as_one_line() {
        let limits = limits(1024);
        let (outbox, queue) = outbox(&limits);
        outbox.send("{\n  \"a\": \"\\n\"\r\n}".into(), None).await.unwrap();
        outbox.send("[1]".into(), None).await.unwrap();
        drop(outbox);
        let (ours, mut theirs) = tokio::io::duplex(1024);
        queue.write_to(ours, &limits, || false).await.unwrap();
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "{   \"a\": \"\\n\"  }\n[1]\n");
    }

    #[tokio::test]
    async fn only_so_many_bytes_are_queued_and_a_longer_item_goes_alone() {
        let limits = limits(100);
        let (outbox, queue) = outbox(&limits);
        for _ in 0..4 {
            outbox.send(message(24), None).await.unwrap(); // 25 with its line end
        }
        let sender = outbox.clone();
        let large = tokio::spawn(async move { sender.send(message(5000), None).await });
        let sender = outbox.clone();
        let small = tokio::spawn(async move { sender.send(message(1), None).await });
        tokio::task::yield_now().await;
        assert!(!large.is_finished() && !small.is_finished(), "the queue is full");

        drop(outbox);
        let (ours, theirs) = tokio::io::duplex(16);
        let writer = tokio::spawn(async move { queue.write_to(ours, &limits, || false).await });
        let mut theirs = BufReader::new(theirs).lines();
        let mut lengths = Vec::new();
        while let Some(line) = theirs.next_line().await.unwrap() {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [24, 24, 24, 24, 5000, 1], "in the order they asked for room");
        writer.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_comes_alone_is_written_at_once_and_never_before_another() {
        let limits = Limits::default();
        let budget = Census::new().enter(1, &limits).unwrap();
        let calls = Arc::new(Semaphore::new(9));
        let call = || Arc::clone(&calls).try_acquire_owned().unwrap();
        let there = Arc::new(Mutex::new((Vec::new(), usize::MAX)));
        let (socket, capacity) = (Arc::clone(&there), Arc::clone(&there));
        let write_now = move |bytes: &[u8]| {
            let mut there = lock(&socket);
            let taken = bytes.len().min(there.1);
            there.0.extend_from_slice(&bytes[..taken]);
            if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        };
        let (outbox, queue) = super::outbox(budget.clone(), Box::new(write_now));
        let answer = async |text: &str, alone: bool| {
            let room = budget.answer(Answer::Small).await.unwrap();
            outbox.answer(text.to_owned(), call(), room, alone).unwrap();
        };
        answer("a", true).await;
        assert_eq!((lock(&there).0.as_slice(), calls.available_permits()), (&b"a\n"[..], 9));
        lock(&capacity).1 = 1;
        answer("b", true).await; // half of it
        lock(&capacity).1 = usize::MAX;
        answer("c", true).await; // not before the rest of b
        outbox.send("d".into(), None).await.unwrap();
        assert_eq!((lock(&there).0.as_slice(), calls.available_permits()), (&b"a\nb"[..], 7));

        drop(outbox);
        let (ours, mut theirs) = tokio::io::duplex(1024);
        queue.write_to(ours, &limits, || false).await.unwrap();
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), calls.available_permits()), ("\nc\nd\n", 9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_given_up_unless_it_follows() {
        let limits = limits(1000);
        let (ours, _theirs) = tokio::io::duplex(16);
        let (sender, queue) = outbox(&limits);
        sender.send(message(100), None).await.unwrap();
        let error = queue.write_to(ours, &limits, || false).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(sender.send(message(1), None).await, Err(Closed));
        assert_eq!(sender.has_room().await, Err(Closed));

        let (ours, _theirs) = tokio::io::duplex(16);
        let (sender, queue) = outbox(&limits);
        sender.send(message(100), None).await.unwrap();
        let patience = limits.stall_deadline * 50;
        let follower = tokio::time::timeout(patience, queue.write_to(ours, &limits, || true));
        assert!(follower.await.is_err(), "a follower may be slow for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_in_the_way_of_its_user_is_given_up_sooner_even_if_it_follows() {
        let limits = Limits { answer_bytes_per_uid: 300 << 10, ..limits(1000) };
        let (ours, _theirs) = tokio::io::duplex(16);
        let (sender, queue) = outbox(&limits);
        sender.send(message(100 << 10), None).await.unwrap();
        let begun = tokio::time::Instant::now();
        let error = queue.write_to(ours, &limits, || true).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), limits.short_stall_deadline);
    }

    #[tokio::test]
    async fn a_closed_peer_frees_whoever_waits() {
        let limits = limits(10);
        let (outbox, queue) = outbox(&limits);
        outbox.send(message(9), None).await.unwrap();
        let sender = outbox.clone();
        let waiting = tokio::spawn(async move { sender.send(message(9), None).await });
        tokio::task::yield_now().await;
        let (ours, theirs) = tokio::io::duplex(4);
        drop(theirs);
        assert!(queue.write_to(ours, &limits, || false).await.is_err());
        assert_eq!(waiting.await.unwrap(), Err(Closed));
    }
}
