//! Typed calls: ids matched to answers.
//!
//! ```text
//!   call ─ id, waiting place ─▶ queue ─▶ writer ─▶ stream
//!     ◀──── its answer ──────────────── reader ◀──╯
//! ```
//!
//! Hand-written because a client of four functions is all there is to it: jsonrpsee's starts a
//! timer thread for each connection (with it `llamactl ps` took 2.6 times a program that does
//! nothing, without it 2.25 times), and does not hear a refusal that answers no call.

use super::at_once::Socket;
use super::refusal::ErrorObject;
use crate::{Failure, Hint, Kind, MAX_MESSAGE_BYTES, Method};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

/// A connection for typed calls. Dropping it closes the connection.
///
/// Calls are sent in the order they were first polled, so `join!(client.call(hello),
/// client.call(list))` costs one round trip.
pub struct Client {
    way: Mutex<Way>,
    calls: Arc<Calls>,
    next_id: AtomicU64,
}

/// How lines come and go.
enum Way {
    /// Whenever somebody calls [`Client::exchange`].
    AtOnce(Socket),
    /// By tasks of a runtime.
    Tasks(Tasks),
}

struct Tasks {
    lines: mpsc::Sender<Line>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

/// A call's line, by its id.
type Line = (u64, Vec<u8>);

/// Lines that wait to be written; past it callers wait.
const QUEUE: usize = 64;

/// Why a call has no result.
#[derive(Clone, Debug)]
pub enum CallError {
    /// The daemon refused it, or its answer cannot be read.
    Refused(Failure),
    /// The connection ended before there was an answer.
    Closed {
        /// The daemon certainly had not read the call, so nothing came of it.
        unread: bool,
    },
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        CallError::Refused(failure)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(failure) => failure,
            CallError::Closed { .. } => closed(),
        }
    }
}

/// The answer to one call: the line that has its result, unread.
type Answer = Result<Box<str>, CallError>;

/// The calls that wait for their answers.
#[derive(Default)]
pub(super) struct Calls(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    /// The call whose line was begun last; whether it could not be written to its end.
    last: Option<u64>,
    cut: bool,
    /// Why no answer will come any more.
    ended: Option<CallError>,
}

/// A client over `stream`. Must be called inside a tokio runtime.
pub fn connect<S>(stream: S) -> Client
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let calls = Arc::new(Calls::default());
    let tasks = Tasks::start(stream, VecDeque::new(), &[], &calls);
    Client { way: Mutex::new(Way::Tasks(tasks)), calls, next_id: AtomicU64::new(0) }
}

/// A client over a socket of this machine. Outside of a runtime its calls are made by whoever calls
/// [`Client::exchange`]; what is polled inside of one goes on by itself.
pub fn connect_at_once(stream: std::os::unix::net::UnixStream) -> Client {
    let way = Mutex::new(Way::AtOnce(Socket::new(stream)));
    Client { way, calls: Arc::default(), next_id: AtomicU64::new(0) }
}

impl Tasks {
    /// Goes on with a connection of which these lines are still to be sent, and this part of a line was read.
    fn start<S>(stream: S, unsent: VecDeque<Line>, begun: &[u8], calls: &Arc<Calls>) -> Tasks
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = split(stream);
        let (lines, queue) = mpsc::channel(QUEUE);
        let mut read = FramedRead::new(read, LinesCodec::new_with_max_length(MAX_MESSAGE_BYTES));
        read.read_buffer_mut().extend_from_slice(begun);
        Tasks {
            lines,
            reader: tokio::spawn(read_answers(read, Arc::clone(calls))),
            // Apart from the reader: a daemon that makes us wait with a request may itself be waiting
            // for us to read an answer.
            writer: tokio::spawn(write_lines(write, unsent, queue, Arc::clone(calls))),
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

impl Client {
    /// Calls a method.
    ///
    /// # Errors
    /// The daemon's own failure, or [`Kind::Internal`] when the answer cannot be read;
    /// [`CallError::Closed`] when the connection ended first.
    pub async fn call<M: Method>(&self, params: &M) -> Result<M::Output, CallError> {
        let answer = self.ask(M::NAME, &written(M::NAME, params)?).await?;
        Ok(read(M::NAME, &answer)?)
    }

    /// Calls a method by name with any parameters; the answer as it came.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_raw(
        &self,
        method: &str,
        params: &serde_json::Value,
    ) -> Result<serde_json::Value, CallError> {
        let answer = self.ask(method, &written(method, params)?).await?;
        Ok(read(method, &answer)?)
    }

    /// Calls a method with what [`written`] gives; the answer is for [`read`]. What differs from method to
    /// method is there, and what takes room in a program here, once for all.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn ask(&self, method: &str, params: &RawValue) -> Result<Box<str>, CallError> {
        #[derive(Serialize)]
        struct Request<'a> {
            jsonrpc: &'static str,
            id: u64,
            method: &'a str,
            params: &'a RawValue,
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = Request { jsonrpc: "2.0", id, method, params };
        let mut line = serde_json::to_vec(&request).map_err(|error| unwritable(method, &error))?;
        line.push(b'\n');
        self.answer_to(id, line).await
    }
}

/// The parameters of a call as they are sent.
///
/// # Errors
/// [`Kind::Internal`]: they cannot be.
pub fn written<P: Serialize + ?Sized>(method: &str, params: &P) -> Result<Box<RawValue>, Failure> {
    to_raw_value(params).map_err(|error| unwritable(method, &error))
}

fn unwritable(method: &str, error: &serde_json::Error) -> Failure {
    Failure::new(Kind::Internal, format!("{method}: {error}"))
}

/// The answer to a call, out of what [`Client::ask`] gave.
///
/// # Errors
/// [`Kind::Internal`]: it is another than this program knows.
pub fn read<T: DeserializeOwned>(method: &str, answer: &str) -> Result<T, Failure> {
    #[derive(Deserialize)]
    struct Answered<T> {
        result: T,
    }
    let read = serde_json::from_str::<Answered<T>>(answer).map(|answered| answered.result);
    read.map_err(|error| unreadable(method, &error))
}

fn unreadable(method: &str, error: &serde_json::Error) -> Failure {
    let why = format!("the daemon's answer to {method} could not be read: {error}");
    Failure::new(Kind::Internal, why).hint(versions_differ())
}

impl Client {
    /// Sends the line of a call and waits for its answer.
    async fn answer_to(&self, id: u64, line: Vec<u8>) -> Answer {
        let mut answer = pin!(self.calls.wait_for(id)?);
        if let Some((lines, line)) = self.queue((id, line)) {
            // Where the writer is gone the reader soon says why.
            let _ = lines.send(line).await;
        }
        let answer = poll_fn(|context| {
            self.go_on();
            answer.as_mut().poll(context)
        });
        answer.await.unwrap_or(Err(CallError::Closed { unread: false }))
    }

    /// Sends what was called and gives each answer that comes to its call; whether there was one within
    /// `limit`, or the connection ended. Blocks. It makes the calls of a client that was connected at once,
    /// until one is polled inside of a runtime.
    pub fn exchange(&self, limit: Duration) -> bool {
        match &mut *lock(&self.way) {
            Way::AtOnce(socket) => {
                self.calls.are_waited_for() && socket.exchange(&self.calls, limit)
            }
            Way::Tasks(_) => false,
        }
    }

    /// Keeps a line to be sent, or says where to.
    fn queue(&self, line: Line) -> Option<(mpsc::Sender<Line>, Line)> {
        self.go_on();
        match &mut *lock(&self.way) {
            Way::AtOnce(socket) => {
                socket.unsent.push_back(line);
                None
            }
            Way::Tasks(tasks) => Some((tasks.lines.clone(), line)),
        }
    }

    /// Leaves what is to be done to tasks, where there may be some.
    fn go_on(&self) {
        let mut way = lock(&self.way);
        let Way::AtOnce(socket) = &mut *way else { return };
        if Handle::try_current().is_err() || self.calls.is_over() {
            return;
        }
        let (unsent, begun) =
            (std::mem::take(&mut socket.unsent), std::mem::take(&mut socket.begun));
        let stream = socket.stream.set_nonblocking(true).and_then(|()| socket.stream.try_clone());
        match stream.and_then(UnixStream::from_std) {
            Ok(stream) => *way = Way::Tasks(Tasks::start(stream, unsent, &begun, &self.calls)),
            Err(_) => self.calls.close(false),
        }
    }
}

impl Calls {
    /// Whether no answer will come any more.
    fn is_over(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// Whether there is a call that has no answer yet.
    fn are_waited_for(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// Takes a line of the daemon's.
    pub(super) fn take(&self, line: &str) {
        #[derive(Deserialize)]
        struct Message<'a> {
            id: Option<u64>,
            #[serde(borrow)]
            result: Option<&'a RawValue>,
            #[serde(borrow)]
            error: Option<ErrorObject<'a>>,
        }
        // A long answer is read once, by who asked.
        if let Some(id) = id_of_result(line) {
            return self.answer(id, Ok(line.into()));
        }
        let Ok(message) = serde_json::from_str::<Message<'_>>(line) else { return };
        match (message.id, message.result, message.error) {
            (Some(id), _, Some(error)) => self.answer(id, Err(error.failure().into())),
            (Some(id), Some(_), None) => self.answer(id, Ok(line.into())),
            // It answers no call: the connection itself is refused.
            (None, _, Some(error)) => self.refuse(&error.failure()),
            (None, _, None) | (Some(_), None, None) => {}
        }
    }

    fn wait_for(&self, id: u64) -> Result<oneshot::Receiver<Answer>, CallError> {
        let mut state = self.lock();
        if let Some(ended) = &state.ended {
            return Err(ended.clone());
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting.insert(id, sender);
        Ok(receiver)
    }

    fn answer(&self, id: u64, answer: Answer) {
        if let Some(waiting) = self.lock().waiting.remove(&id) {
            // The caller may have given up.
            let _ = waiting.send(answer);
        }
    }

    /// The line of a call is being written.
    pub(super) fn begin(&self, id: u64) {
        self.lock().last = Some(id);
    }

    /// The line begun last cannot be written to its end.
    pub(super) fn cut(&self) {
        self.lock().cut = true;
    }

    /// The daemon refuses the connection: no answer will come any more.
    fn refuse(&self, failure: &Failure) {
        self.end(&CallError::Refused(failure.clone()), |_, _| CallError::Refused(failure.clone()));
    }

    /// The connection ended. `reset`: there was something that the daemon had not read, which is the
    /// end of what was sent, so the last line at least.
    pub(super) fn close(&self, reset: bool) {
        self.end(&CallError::Closed { unread: true }, |state, id| CallError::Closed {
            unread: match state.last {
                Some(last) if id == last => reset || state.cut,
                Some(last) => id > last,
                None => true,
            },
        });
    }

    /// No answer will come any more: `later` to calls that are made from now on.
    fn end(&self, later: &CallError, why: impl Fn(&State, u64) -> CallError) {
        let mut state = self.lock();
        for (id, waiting) in std::mem::take(&mut state.waiting) {
            let _ = waiting.send(Err(why(&state, id)));
        }
        state.ended.get_or_insert_with(|| later.clone());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

async fn write_lines<S: AsyncWrite>(
    mut write: WriteHalf<S>,
    mut unsent: VecDeque<Line>,
    mut queue: mpsc::Receiver<Line>,
    calls: Arc<Calls>,
) {
    loop {
        let next = match unsent.pop_front() {
            Some(line) => Some(line),
            None => queue.recv().await,
        };
        let Some((id, line)) = next else { return };
        calls.begin(id);
        if write.write_all(&line).await.is_err() {
            return calls.cut();
        }
    }
}

async fn read_answers<S: AsyncRead>(
    mut lines: FramedRead<ReadHalf<S>, LinesCodec>,
    calls: Arc<Calls>,
) {
    let reset = loop {
        match lines.next().await {
            Some(Ok(line)) => calls.take(&line),
            Some(Err(error)) => break is_reset(&error),
            None => break false,
        }
    };
    calls.close(reset);
}

/// The call whose result this is, of a line as llamactld writes it.
fn id_of_result(line: &str) -> Option<u64> {
    let (id, rest) = line.strip_prefix(r#"{"jsonrpc":"2.0","id":"#)?.split_once(',')?;
    rest.starts_with(r#""result":"#).then(|| id.parse().ok()).flatten()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one of these is held, and what is in it is whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the other side closed a Unix socket before it had read all that was sent to it: then, and
/// where it never accepted the connection, Linux says so by a reset instead of an end.
pub(super) fn is_reset(error: &LinesCodecError) -> bool {
    matches!(error, LinesCodecError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset)
}

fn closed() -> Failure {
    Failure::new(Kind::DaemonUnreachable, "the daemon closed the connection").hint(Hint::run(
        "it may have been stopped: see whether it answers",
        ["llamactl", "daemon", "status"],
    ))
}

/// What to do where the two sides do not understand each other.
pub fn versions_differ() -> Hint {
    Hint::run(
        "llamactl and llamactld may be of different versions: see which",
        ["llamactl", "version"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::DaemonPing;
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
    use tokio::net::UnixListener;

    const fn ping(n: u64) -> DaemonPing {
        DaemonPing { n: Some(n) }
    }

    /// Answers as many lines as there are replies, in the order of the replies.
    fn daemon(replies: &'static [&'static str]) -> Client {
        let (ours, theirs) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let (read, mut write) = split(theirs);
            let mut lines = BufReader::new(read).lines();
            for _ in replies {
                lines.next_line().await.unwrap();
            }
            for reply in replies {
                write.write_all(format!("{reply}\n").as_bytes()).await.unwrap();
            }
        });
        connect(ours)
    }

    #[tokio::test]
    async fn answers_find_their_calls_in_any_order() {
        let client = daemon(&[
            r#"{"id":1,"result":{"n":11,"at_ms":0}}"#,
            r#"{"jsonrpc":"2.0","id":0,"result":{"n":10,"at_ms":0,"a_newer_field":1},"another":[]}"#,
        ]);
        let (ten, eleven) = (ping(10), ping(11));
        let (first, second) = tokio::join!(client.call(&ten), client.call(&eleven));
        assert_eq!((first.unwrap().n, second.unwrap().n), (Some(10), Some(11)));
    }

    #[tokio::test]
    async fn a_refusal_of_the_connection_reaches_every_call() {
        let client = daemon(&[
            r#"{"id":null,"error":{"code":-32009,"message":"full","data":{"kind":"too_many_connections"}}}"#,
        ]);
        for _ in 0..2 {
            let refused = Failure::from(client.call(&ping(1)).await.unwrap_err());
            assert_eq!(refused.kind, Kind::TooManyConnections);
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_fails_the_calls_that_wait() {
        let client = daemon(&[r#"{"id":99,"result":null}"#]);
        let closed = client.call(&ping(1)).await.unwrap_err();
        assert!(matches!(closed, CallError::Closed { unread: false }), "{closed:?}");
        assert_eq!(Failure::from(closed).kind, Kind::DaemonUnreachable);
        // Nobody is asked any more.
        let later = client.call(&ping(2)).await.unwrap_err();
        assert!(matches!(later, CallError::Closed { unread: true }), "{later:?}");
    }

    /// Whether the daemon had certainly not read two calls that were sent in this order, where it
    /// closes after `lines` lines of them.
    async fn unread(lines: usize) -> [bool; 2] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let client = connect(ours);
        let (one, two) = (ping(1), ping(2));
        let daemon = async {
            let mut line = Vec::new();
            for _ in 0..lines {
                while line.last() != Some(&b'\n') {
                    line.push(theirs.read_u8().await.unwrap());
                }
                line.clear();
            }
            // What is still to come has arrived by then.
            theirs.readable().await.unwrap();
            drop(theirs);
        };
        let (first, second, ()) = tokio::join!(client.call(&one), client.call(&two), daemon);
        [first, second].map(|answer| match answer {
            Err(CallError::Closed { unread }) => unread,
            other => panic!("{other:?}"),
        })
    }

    #[tokio::test]
    async fn a_call_is_unread_only_where_that_is_certain() {
        // Of the first nobody knows: the daemon may have read it alone.
        assert_eq!(unread(0).await, [false, true]);
        assert_eq!(unread(1).await, [false, true]);
        // All was read; what came of it nobody knows.
        assert_eq!(unread(2).await, [false, false]);
    }

    #[tokio::test]
    async fn a_connection_that_was_never_accepted_has_read_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let client = connect(UnixStream::connect(dir.path().join("s")).await.unwrap());
        let ping = ping(1);
        let end = async { drop(listener) };
        let (answer, ()) = tokio::join!(client.call(&ping), end);
        assert!(matches!(answer, Err(CallError::Closed { unread: true })), "{answer:?}");
    }

    #[tokio::test]
    async fn another_servers_error_is_told_by_its_code() {
        let client = daemon(&[r#"{"id":0,"error":{"code":-32601,"message":"Method not found"}}"#]);
        let unknown = Failure::from(client.call(&ping(1)).await.unwrap_err());
        assert_eq!(unknown.kind, Kind::UnknownMethod);
    }
}
