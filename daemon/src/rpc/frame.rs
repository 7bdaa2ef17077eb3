//! Bytes from a peer, cut into lines.
//!
//! ```text
//!   socket ──▶ buffer ──▶ Line | Full | TooLong | Late | End
//! ```
//!
//! The buffer never holds more than one message and one read, and no more than there is room for:
//! its first bytes are free, then it needs room for a step, then for as long as a line may be. A line's
//! clock starts with its first byte and only runs while the connection is being read, or would be if
//! there were room.

use super::budget::{Budget, Room, STEP_BYTES};
use super::limits::Limits;
use bytes::{Buf as _, BufMut as _, BytesMut};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, timeout_at};

/// What each connection may read without room for it.
const FREE_BYTES: usize = 4 << 10;

/// How much is read at once.
const READ_BYTES: usize = STEP_BYTES as usize;

/// What a peer that is being turned away may still write.
const DISCARDED_BYTES: usize = 16 << 20;

/// How much of what a peer says when it is sent away is read at once.
const DISCARD_BYTES: usize = 64 << 10;

/// What the next line of a connection is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A line that is not blank, without its line end.
    Line(BytesMut),
    /// The line can go on when there is room for it: [`Lines::wait_for_room`].
    Full,
    /// A line longer than a message may be. Nothing sensible can follow.
    TooLong,
    /// A line that was begun and not finished in time. Nothing sensible can follow.
    Late,
    /// The peer writes no more.
    End,
}

/// Room that a line has beyond its first bytes. It is to be kept as long as what was made of the line.
#[derive(Debug, Default)]
pub(super) struct LineRoom {
    step: Option<Room>,
    rest: Option<Room>,
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
    room: LineRoom,
    /// Room of the line that was taken out last.
    line_room: LineRoom,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(read: R, limits: &Limits, budget: Budget) -> Self {
        let (message_bytes, deadline) = (limits.message_bytes, limits.message_deadline);
        Lines {
            read,
            budget,
            room: LineRoom::default(),
            line_room: LineRoom::default(),
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

    /// Room of the line that came last.
    pub(super) fn take_room(&mut self) -> LineRoom {
        std::mem::take(&mut self.line_room)
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
            let most = self.room_bytes().saturating_sub(self.buffer.len()).min(READ_BYTES);
            if most == 0 {
                return Frame::Full;
            }
            self.buffer.reserve(most);
            let late = self.late();
            let mut buffer = (&mut self.buffer).limit(most);
            let read = self.read.read_buf(&mut buffer);
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

    /// Waits for the room that more of the line needs; none when the line came too late for it, or the
    /// connection is being closed.
    pub(super) async fn wait_for_room(&self) -> Option<Room> {
        let room = async {
            match self.room.step {
                None => self.budget.step().await,
                Some(_) => self.budget.rest().await,
            }
        };
        timeout_at(self.late()?, room).await.ok()?.ok()
    }

    /// Takes what was waited for.
    pub(super) fn grow(&mut self, room: Room) {
        let LineRoom { step, rest } = &mut self.room;
        let lacking = if step.is_none() { step } else { rest };
        *lacking = Some(room);
    }

    /// How much the buffer may hold.
    fn room_bytes(&self) -> usize {
        match (&self.room.step, &self.room.rest) {
            (_, Some(_)) => self.message_bytes.saturating_add(READ_BYTES),
            (Some(_), None) => FREE_BYTES + READ_BYTES,
            (None, None) => FREE_BYTES,
        }
    }

    /// When the line that was begun is too late.
    fn late(&self) -> Option<Instant> {
        self.begun.map(|begun| begun + self.deadline)
    }

    /// Gives the room of the buffer to the line that was taken out of it. What is left in the buffer is
    /// of one read, and keeps a step where it needs one.
    fn part_room(&mut self) {
        if self.room.step.is_none() {
            return;
        }
        self.line_room.rest = self.room.rest.take();
        if self.buffer.len() <= FREE_BYTES {
            self.line_room.step = self.room.step.take();
        }
        if self.line_room.step.is_some() || self.line_room.rest.is_some() {
            // What follows a long line does not keep its memory alive.
            self.buffer = BytesMut::from(self.buffer.as_ref());
        }
    }

    /// Reads and forgets what the peer still writes, so that it gets to reading why. A peer that
    /// goes on for longer than [`DISCARDED_BYTES`] is left to block.
    pub(super) async fn discard(&mut self) {
        self.buffer = BytesMut::with_capacity(DISCARD_BYTES);
        self.room = LineRoom::default();
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
        let reading = async {
            loop {
                match lines.next().await {
                    Frame::Full => {
                        let room = lines.wait_for_room().await.unwrap();
                        lines.grow(room);
                    }
                    frame => return frame,
                }
            }
        };
        let frame = tokio::select! { frame = reading => frame, end = flood => end };
        assert_eq!(frame, Frame::TooLong);
        assert!(lines.buffer.len() <= FREE_BYTES + READ_BYTES);
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
