//! Bytes from a peer, cut into lines.
//!
//! ```text
//!   socket ──▶ buffer ──▶ Line | TooLong | Late | End
//! ```
//!
//! The buffer never holds more than one message and one read, and no more than there is room for:
//! beyond its first bytes a line grows in steps, and takes room for each before it is read. A line's
//! clock starts with its first byte and only runs while the connection is being read, or would be if
//! there were room.

use super::budget::{Budget, Room};
use super::limits::Limits;
use bytes::{Buf as _, BufMut as _, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, timeout_at};

/// What each connection may read without room for it.
const FREE_BYTES: usize = 4 << 10;

/// The steps in which a longer line takes room.
const STEP_BYTES: u32 = 64 << 10;

/// What a peer that is being turned away may still write.
const DISCARDED_BYTES: usize = 16 << 20;

/// How much of what a peer says when it is sent away is read at once.
const DISCARD_BYTES: usize = 64 << 10;

/// What the next line of a connection is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A line that is not blank, without its line end.
    Line(BytesMut),
    /// A line longer than a message may be. Nothing sensible can follow.
    TooLong,
    /// A line that was begun and not finished in time. Nothing sensible can follow.
    Late,
    /// The peer writes no more.
    End,
}

/// Lines read from `R`.
pub(super) struct Lines<R> {
    read: R,
    buffer: BytesMut,
    /// Bytes at the front of the buffer known to hold no line end.
    scanned: usize,
    begun: Option<Instant>,
    ended: bool,
    heard: bool,
    message_bytes: usize,
    deadline: Duration,
    budget: Budget,
    /// Room for the buffer beyond its first bytes.
    room: Option<Room>,
    room_bytes: usize,
    /// Room of the line that was taken out last.
    line_room: Option<Room>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(read: R, limits: &Limits, budget: Budget) -> Self {
        let (message_bytes, deadline) = (limits.message_bytes, limits.message_deadline);
        Lines {
            read,
            budget,
            room: None,
            room_bytes: 0,
            line_room: None,
            buffer: BytesMut::new(),
            scanned: 0,
            begun: None,
            ended: false,
            heard: false,
            message_bytes,
            deadline,
        }
    }

    /// What is read from.
    pub(super) fn get_ref(&self) -> &R {
        &self.read
    }

    /// Whether a line was begun and is not finished.
    pub(super) fn is_inside_a_line(&self) -> bool {
        self.begun.is_some()
    }

    /// Whether the peer has sent anything yet.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }

    /// Whether nothing of another line is here yet.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Room for the line that came last. It is to be kept as long as what was made of the line.
    pub(super) fn take_room(&mut self) -> Option<Room> {
        self.line_room.take()
    }

    /// What comes next. Cancel safe: nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Frame {
        loop {
            if let Some(line) = self.take_line() {
                if line.len() > self.message_bytes {
                    return Frame::TooLong;
                }
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Frame::Line(line);
            }
            if self.buffer.len() > self.message_bytes {
                return Frame::TooLong;
            }
            if self.ended {
                // Without a line end at the end of the input a request is still a request.
                let rest = self.buffer.split();
                (self.scanned, self.begun) = (0, None);
                self.part_room();
                let blank = rest.iter().all(u8::is_ascii_whitespace);
                return if blank { Frame::End } else { Frame::Line(rest) };
            }
            if self.buffer.is_empty() {
                self.begun = None;
            } else {
                self.begun.get_or_insert_with(Instant::now);
            }
            let late = self.begun.map(|begun| begun + self.deadline);
            let read = self.read_more();
            let read = match late {
                None => read.await,
                Some(late) => match timeout_at(late, read).await {
                    Ok(read) => read,
                    Err(_) => return Frame::Late,
                },
            };
            match read {
                Ok(0) => self.ended = true,
                Ok(_) => self.heard = true,
                Err(_) => {
                    // Whatever was begun will not be finished.
                    self.buffer.clear();
                    self.ended = true;
                }
            }
        }
    }

    /// Reads on, once there is room for it.
    async fn read_more(&mut self) -> io::Result<usize> {
        if self.buffer.len() >= FREE_BYTES + self.room_bytes {
            let more = self.budget.request(STEP_BYTES).await;
            let more = more.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
            match &mut self.room {
                Some(room) => room.join(more),
                none => *none = Some(more),
            }
            self.room_bytes += STEP_BYTES as usize;
        }
        let most = FREE_BYTES + self.room_bytes - self.buffer.len();
        self.buffer.reserve(most.min(STEP_BYTES as usize));
        self.read.read_buf(&mut (&mut self.buffer).limit(most)).await
    }

    /// Gives the room of the buffer to the line that was taken out of it, but for what is left in it.
    fn part_room(&mut self) {
        if self.room_bytes == 0 {
            return;
        }
        let left = self.buffer.len().saturating_sub(FREE_BYTES);
        let kept = left.div_ceil(STEP_BYTES as usize) * STEP_BYTES as usize;
        self.room_bytes = kept.min(self.room_bytes);
        let kept = u32::try_from(self.room_bytes).unwrap_or(u32::MAX);
        self.line_room = self.room.as_mut().and_then(|room| room.without(kept));
        if kept == 0 {
            self.room = None;
        }
        if self.line_room.is_some() {
            // What follows a long line does not keep its memory alive.
            self.buffer = BytesMut::from(self.buffer.as_ref());
        }
    }

    /// Reads and forgets what the peer still writes, so that it gets to reading why. A peer that
    /// goes on for longer than [`DISCARDED_BYTES`] is left to block.
    pub(super) async fn discard(&mut self) {
        self.buffer = BytesMut::with_capacity(DISCARD_BYTES);
        self.room = None;
        let mut discarded = 0;
        while let Ok(read @ 1..) = self.read.read_buf(&mut self.buffer).await {
            self.buffer.clear();
            discarded += read;
            if discarded > DISCARDED_BYTES {
                std::future::pending::<()>().await;
            }
        }
    }

    fn take_line(&mut self) -> Option<BytesMut> {
        let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', unseen) else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.scanned + at);
        self.buffer.advance(1);
        (self.scanned, self.begun) = (0, None);
        self.part_room();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Census;
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn lines<R: AsyncRead + Unpin>(read: R, message_bytes: usize) -> Lines<R> {
        let limits = Limits { message_bytes, message_deadline: DEADLINE, ..Limits::default() };
        Lines::new(read, &limits, Census::new().enter(1, &limits).unwrap())
    }

    async fn frames(bytes: &[u8], limit: usize) -> Vec<String> {
        let mut lines = lines(bytes, limit);
        let mut seen = Vec::new();
        loop {
            match lines.next().await {
                Frame::Line(line) => seen.push(String::from_utf8_lossy(&line).into_owned()),
                Frame::End => return seen,
                other => {
                    seen.push(format!("{other:?}"));
                    return seen;
                }
            }
        }
    }

    #[tokio::test]
    async fn lines_are_cut_at_line_ends() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("\n\n  \r\n\t\n", &[]),
            ("a\nb\n", &["a", "b"]),
            ("a\r\nb", &["a\r", "b"]),
            ("\n\na b\n\n", &["a b"]),
            ("12345678\n", &["12345678"]),
            ("123456789\n", &["TooLong"]),
            ("12345678", &["12345678"]),
            ("123456789", &["TooLong"]),
            ("ok\n         \nno", &["ok", "TooLong"]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(frames(bytes.as_bytes(), 8).await, *expected, "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_has_a_deadline_and_silence_has_none() {
        let (mut peer, ours) = tokio::io::duplex(64);
        let mut lines = lines(ours, 64);
        let silence = tokio::time::timeout(DEADLINE * 100, lines.next()).await;
        assert!(silence.is_err() && !lines.is_inside_a_line() && !lines.has_heard());
        let started = Instant::now();
        let slowly = async {
            loop {
                if peer.write_all(b"x").await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let frame = tokio::select! { frame = lines.next() => frame, () = slowly => Frame::End };
        assert_eq!(frame, Frame::Late);
        assert_eq!(started.elapsed().as_secs(), DEADLINE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn each_line_has_its_own_clock() {
        let (mut peer, ours) = tokio::io::duplex(64);
        let mut lines = lines(ours, 64);
        let writing = async {
            for piece in ["a", "a\nb", "b\n"] {
                peer.write_all(piece.as_bytes()).await.unwrap();
                tokio::time::sleep(DEADLINE * 2 / 3).await;
            }
        };
        let reading = async { (lines.next().await, lines.next().await) };
        let (frames, ()) = tokio::join!(reading, writing);
        let line = |text: &str| Frame::Line(text.into());
        assert_eq!(frames, (line("aa"), line("bb")));
    }

    #[tokio::test]
    async fn an_endless_line_costs_one_message() {
        let (mut peer, ours) = tokio::io::duplex(4096);
        let mut lines = lines(ours, 32 << 10);
        let flood = async {
            while peer.write_all(&[b'x'; 4096]).await.is_ok() {}
            Frame::End
        };
        let frame = tokio::select! { frame = lines.next() => frame, end = flood => end };
        assert_eq!(frame, Frame::TooLong);
        assert!(lines.buffer.len() <= FREE_BYTES + STEP_BYTES as usize);
    }

    proptest! {
        #[test]
        fn how_bytes_arrive_does_not_matter(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(1usize..9, 0..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let whole = runtime.block_on(frames(&bytes, 64));
            let mut builder = in_pieces(&bytes, &cuts);
            let pieces = runtime.block_on(async {
                let mut lines = lines(&mut builder, 64);
                let mut seen = Vec::new();
                loop {
                    match lines.next().await {
                        Frame::Line(line) => seen.push(String::from_utf8_lossy(&line).into_owned()),
                        Frame::End => break seen,
                        other => { seen.push(format!("{other:?}")); break seen }
                    }
                }
            });
            prop_assert_eq!(whole, pieces);
        }
    }

    /// A reader that hands out the bytes in pieces of the given sizes.
    fn in_pieces(bytes: &[u8], cuts: &[usize]) -> Pieces {
        let mut pieces = std::collections::VecDeque::new();
        let (mut rest, mut cuts) = (bytes, cuts.iter());
        while !rest.is_empty() {
            let size = cuts.next().copied().unwrap_or(rest.len()).min(rest.len());
            let (piece, behind) = rest.split_at(size);
            pieces.push_back(piece.to_vec());
            rest = behind;
        }
        Pieces(pieces)
    }

    struct Pieces(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            if let Some(piece) = self.0.pop_front() {
                buffer.put_slice(&piece);
            }
            std::task::Poll::Ready(Ok(()))
        }
    }
}
