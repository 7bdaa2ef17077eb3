//! Calls over a socket of this machine, before there is a runtime.
//!
//! ```text
//!   calls ─ lines ─▶ exchange: one write, one wait, what came ─▶ answers
//!                        ╰─ nothing came ─▶ the tasks of a runtime go on with what is left
//! ```
//!
//! A command that asks and prints is over sooner than a runtime is built.

use super::call::Calls;
use crate::MAX_MESSAGE_BYTES;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How much is read at a time.
const READ_BYTES: usize = 16 << 10;

/// A socket, with what is to be sent and what came of a line.
pub(super) struct Socket {
    pub(super) stream: UnixStream,
    /// Of the first line what was not sent of it.
    pub(super) unsent: VecDeque<(u64, Vec<u8>)>,
    pub(super) begun: Vec<u8>,
}

impl Socket {
    pub(super) fn new(stream: UnixStream) -> Self {
        Socket { stream, unsent: VecDeque::new(), begun: Vec::new() }
    }

    /// Sends what is to be sent and takes what comes, at least a line; whether it came within `limit`.
    /// That the connection ended is told to the calls too.
    pub(super) fn exchange(&mut self, calls: &Calls, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let limited = self.stream.set_read_timeout(Some(limit));
        if limited.and_then(|()| self.stream.set_write_timeout(Some(limit))).is_err() {
            return false;
        }
        match self.send(calls) {
            Ok(()) => {}
            Err(error) if is_timeout(&error) => return false,
            // What comes next says why.
            Err(_) => calls.cut(),
        }
        loop {
            match self.receive(calls) {
                Ok(true) => return true,
                Ok(false) if Instant::now() < end => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(false) => return false,
                Err(error) if is_timeout(&error) => return false,
                Err(error) => {
                    calls.close(error.kind() == io::ErrorKind::ConnectionReset);
                    return true;
                }
            }
        }
    }

    fn send(&mut self, calls: &Calls) -> io::Result<()> {
        let all: Vec<u8> = self.unsent.iter().flat_map(|(_, line)| line).copied().collect();
        let mut sent = 0;
        while let Some((id, line)) = self.unsent.front_mut() {
            calls.begin(*id);
            if sent == 0 {
                sent = match self.stream.write(&all) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    sent => sent?,
                };
            }
            let of_line = sent.min(line.len());
            line.drain(..of_line);
            sent -= of_line;
            if !line.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.unsent.pop_front();
        }
        Ok(())
    }

    /// Reads once; whether that ended a line.
    fn receive(&mut self, calls: &Calls) -> io::Result<bool> {
        // The stack was as deep before: there the kernel has no page to make.
        let mut bytes = [0; READ_BYTES];
        let read = self.stream.read(&mut bytes)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let came = bytes.get(..read).unwrap_or_default();
        let last = came.iter().rposition(|&byte| byte == b'\n').map(|at| self.begun.len() + at);
        self.begun.extend_from_slice(came);
        let Some(last) = last else {
            let is_too_long = self.begun.len() > MAX_MESSAGE_BYTES;
            return if is_too_long { Err(io::ErrorKind::InvalidData.into()) } else { Ok(false) };
        };
        let rest = self.begun.split_off(last + 1);
        let lines = std::mem::replace(&mut self.begun, rest);
        let lines = str::from_utf8(&lines).map_err(|_| io::ErrorKind::InvalidData)?;
        lines.lines().for_each(|line| calls.take(line));
        Ok(true)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use crate::client::{CallError, Client, connect_at_once};
    use crate::daemon::DaemonPing;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    const ANSWERS: &str = "{\"id\":1,\"result\":{\"n\":11,\"at_ms\":0}}\n{\"id\":0,\"result\":{\"n\":10,\"at_ms\":0}}\n";

    const fn ping(n: u64) -> DaemonPing {
        DaemonPing { n: Some(n) }
    }

    /// What comes of `work` as long as exchanges get on with it.
    fn exchanged<T>(
        client: &Client,
        mut work: Pin<&mut impl Future<Output = T>>,
        limit: Duration,
    ) -> Option<T> {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
                return Some(done);
            }
            if !client.exchange(limit) {
                return None;
            }
        }
    }

    #[test]
    fn calls_go_out_together_and_are_answered_without_a_runtime() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let client = connect_at_once(ours);
        let (ten, eleven) = (ping(10), ping(11));
        let calls = async { tokio::join!(client.call(&ten), client.call(&eleven)) };
        theirs.write_all(ANSWERS.as_bytes()).unwrap();
        let answers = exchanged(&client, pin!(calls), Duration::from_secs(60)).unwrap();
        assert_eq!((answers.0.unwrap().n, answers.1.unwrap().n), (Some(10), Some(11)));
        let mut asked = [0; 1000];
        let length = theirs.read(&mut asked).unwrap();
        assert_eq!(asked[..length].iter().filter(|&&byte| byte == b'\n').count(), 2);
        assert!(!client.exchange(Duration::from_secs(60)), "nothing is waited for");
    }

    #[test]
    fn what_takes_long_goes_on_in_a_runtime() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let client = connect_at_once(ours);
        let (ten, eleven) = (ping(10), ping(11));
        let mut calls = pin!(async { tokio::join!(client.call(&ten), client.call(&eleven)) });
        let (begun, rest) = ANSWERS.split_at(50);
        theirs.write_all(begun.as_bytes()).unwrap();
        assert!(exchanged(&client, calls.as_mut(), Duration::from_millis(1)).is_none());
        theirs.write_all(rest.as_bytes()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let answers = runtime.block_on(calls);
        assert_eq!((answers.0.unwrap().n, answers.1.unwrap().n), (Some(10), Some(11)));
    }

    #[test]
    fn a_connection_that_was_never_accepted_has_read_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let client = connect_at_once(UnixStream::connect(dir.path().join("s")).unwrap());
        drop(listener);
        let ten = ping(10);
        let answer = exchanged(&client, pin!(client.call(&ten)), Duration::from_secs(60));
        assert!(matches!(answer, Some(Err(CallError::Closed { unread: true }))), "{answer:?}");
        let later = exchanged(&client, pin!(client.call(&ten)), Duration::from_secs(60));
        assert!(matches!(later, Some(Err(CallError::Closed { unread: true }))), "{later:?}");
    }

    #[test]
    fn a_daemon_that_ends_after_it_read_is_not_asked_again_by_mistake() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let client = connect_at_once(ours);
        let ten = ping(10);
        let mut call = pin!(client.call(&ten));
        assert!(exchanged(&client, call.as_mut(), Duration::from_millis(1)).is_none());
        let mut line = [0; 1000];
        assert!(theirs.read(&mut line).unwrap() > 0);
        drop(theirs);
        let answer = exchanged(&client, call, Duration::from_secs(60));
        assert!(matches!(answer, Some(Err(CallError::Closed { unread: false }))), "{answer:?}");
    }
}
