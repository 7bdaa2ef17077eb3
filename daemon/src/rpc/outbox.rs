//! Messages to a peer: a queue bounded in bytes, and the task that writes it out.
//!
//! ```text
//!   replies ──╮ wait for                     as many per
//!             ├─ room ──▶ queue (bytes) ──▶ write as wait ──▶ socket
//!   items ────╯                                  ╰─▶ room and call slots given back
//! ```
//!
//! Whoever sends waits for room, first come first served. A message carries what must be held
//! until it is written: its room, and the call slot of the request it answers.

use super::limits::Limits;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

/// How many bytes are gathered for one write.
const WRITE_BYTES: usize = 64 << 10;

/// The peer is gone, or its connection is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// The sending side. The queue ends when the last one is dropped.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    queue: mpsc::UnboundedSender<Queued>,
    room: Arc<Semaphore>,
    capacity_bytes: u32,
}

/// The writing side.
pub(super) struct Queue {
    messages: mpsc::UnboundedReceiver<Queued>,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct Queued {
    line: Vec<u8>,
    /// Given back when the line has been written.
    _room: OwnedSemaphorePermit,
    _call: Option<OwnedSemaphorePermit>,
}

/// A queue with the room `limits` allow.
pub(super) fn outbox(limits: &Limits) -> (Outbox, Queue) {
    let capacity_bytes = limits.queued_bytes.max(1);
    let room = Arc::new(Semaphore::new(usize::try_from(capacity_bytes).unwrap_or(1)));
    // The channel's length is bounded by the room: a message enters it holding its share.
    let (queue, messages) = mpsc::unbounded_channel();
    (Outbox { queue, room: Arc::clone(&room), capacity_bytes }, Queue { messages, room })
}

impl Outbox {
    /// Queues one JSON text, once there is room. `call` is released when it has been written.
    pub(super) async fn send(
        &self,
        json: String,
        call: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Gone> {
        let mut line = json.into_bytes();
        // Inside JSON's strings line ends are escaped; between its tokens they mean nothing. So a
        // text passed on from elsewhere stays what it is, on one line.
        for byte in line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
        line.push(b'\n');
        let share = u32::try_from(line.len()).unwrap_or(u32::MAX).min(self.capacity_bytes);
        let room = Arc::clone(&self.room).acquire_many_owned(share).await.map_err(|_| Gone)?;
        self.queue.send(Queued { line, _room: room, _call: call }).map_err(|_| Gone)
    }

    /// Waits until something could be queued. Asking first keeps a slow reader's next item fresh:
    /// it is made when it can be sent, not before.
    pub(super) async fn has_room(&self) -> Result<(), Gone> {
        self.room.acquire().await.map(drop).map_err(|_| Gone)
    }
}

impl Queue {
    /// Writes the queue out until every [`Outbox`] is dropped and all is written, then says so to
    /// the peer by closing the writing direction.
    ///
    /// # Errors
    /// The peer's end is closed; or it took nothing for `stall_deadline` while `may_stall` said
    /// it had no stream open to be slow with ([`io::ErrorKind::TimedOut`]).
    pub(super) async fn write_to(
        mut self,
        mut write: impl AsyncWrite + Unpin,
        stall_deadline: Duration,
        may_stall: impl Fn() -> bool,
    ) -> io::Result<()> {
        let mut written = Vec::new();
        let mut buffer = Vec::new();
        while let Some(mut message) = self.messages.recv().await {
            loop {
                buffer.append(&mut message.line);
                written.push(message);
                if buffer.len() >= WRITE_BYTES {
                    break;
                }
                let Ok(next) = self.messages.try_recv() else { break };
                message = next;
            }
            let mut rest = buffer.as_slice();
            while !rest.is_empty() {
                match timeout(stall_deadline, write.write(rest)).await {
                    Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(Ok(count)) => rest = rest.get(count..).unwrap_or_default(),
                    Ok(Err(error)) => return Err(error),
                    Err(_) if may_stall() => {}
                    Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                }
            }
            written.clear();
            buffer.clear();
            if buffer.capacity() > WRITE_BYTES * 2 {
                buffer = Vec::new();
            }
        }
        write.shutdown().await
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Whoever still waits for room learns that there will be none.
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

    const STALL: Duration = Duration::from_secs(300);

    fn limits(queued_bytes: u32) -> Limits {
        Limits { queued_bytes, ..Limits::default() }
    }

    fn message(bytes: usize) -> String {
        "x".repeat(bytes)
    }

    #[tokio::test]
    async fn a_text_with_line_ends_goes_out_as_one_line() {
        let (outbox, queue) = outbox(&limits(1024));
        outbox.send("{\n  \"a\": \"\\n\"\r\n}".into(), None).await.unwrap();
        outbox.send("[1]".into(), None).await.unwrap();
        drop(outbox);
        let (ours, mut theirs) = tokio::io::duplex(1024);
        queue.write_to(ours, STALL, || false).await.unwrap();
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "{   \"a\": \"\\n\"  }\n[1]\n");
    }

    #[tokio::test]
    async fn only_so_many_bytes_are_queued_and_a_larger_message_goes_alone() {
        let (outbox, queue) = outbox(&limits(100));
        for _ in 0..4 {
            outbox.send(message(24), None).await.unwrap(); // 25 with its line end
        }
        let calls = Arc::new(Semaphore::new(1));
        let call = Arc::clone(&calls).acquire_owned().await.unwrap();
        let sender = outbox.clone();
        let large = tokio::spawn(async move { sender.send(message(5000), Some(call)).await });
        let sender = outbox.clone();
        let small = tokio::spawn(async move { sender.send(message(1), None).await });
        tokio::task::yield_now().await;
        assert!(!large.is_finished() && !small.is_finished(), "the queue is full");

        drop(outbox);
        let (ours, theirs) = tokio::io::duplex(16);
        let writer = tokio::spawn(queue.write_to(ours, STALL, || false));
        let mut theirs = BufReader::new(theirs).lines();
        let mut lengths = Vec::new();
        while let Some(line) = theirs.next_line().await.unwrap() {
            lengths.push(line.len());
            if line.len() == 5000 {
                // Its call slot comes back with its last byte, not before.
                assert!(small.is_finished() || calls.available_permits() <= 1);
            }
        }
        assert_eq!(lengths, [24, 24, 24, 24, 5000, 1], "in the order they asked for room");
        writer.await.unwrap().unwrap();
        assert_eq!(calls.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_given_up_unless_it_follows() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let (sender, queue) = outbox(&limits(1000));
        sender.send(message(100), None).await.unwrap();
        let error = queue.write_to(ours, STALL, || false).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(sender.send(message(1), None).await, Err(Gone));
        assert_eq!(sender.has_room().await, Err(Gone));

        let (ours, _theirs) = tokio::io::duplex(16);
        let (sender, queue) = outbox(&limits(1000));
        sender.send(message(100), None).await.unwrap();
        let follower = tokio::time::timeout(STALL * 50, queue.write_to(ours, STALL, || true));
        assert!(follower.await.is_err(), "a follower may be slow for ever");
    }

    #[tokio::test]
    async fn a_closed_peer_frees_whoever_waits() {
        let (outbox, queue) = outbox(&limits(10));
        outbox.send(message(9), None).await.unwrap();
        let sender = outbox.clone();
        let waiting = tokio::spawn(async move { sender.send(message(9), None).await });
        tokio::task::yield_now().await;
        let (ours, theirs) = tokio::io::duplex(4);
        drop(theirs);
        assert!(queue.write_to(ours, STALL, || false).await.is_err());
        assert_eq!(waiting.await.unwrap(), Err(Gone));
    }
}
