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

use crate::{Failure, Hint, Hints, Kind, MAX_MESSAGE_BYTES, Method};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, LinesCodec};

/// A connection for typed calls. Dropping it closes the connection.
///
/// Calls are sent in the order they were first polled, so `join!(client.call(hello),
/// client.call(list))` costs one round trip.
pub struct Client {
    lines: mpsc::Sender<String>,
    calls: Arc<Calls>,
    next_id: AtomicU64,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

/// Lines that wait to be written; past it callers wait.
const QUEUE: usize = 64;

/// The answer to one call, unread.
type Answer = Result<Box<RawValue>, Failure>;

/// The calls that wait for their answers.
#[derive(Default)]
struct Calls(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    /// Why no answer will come any more.
    ended: Option<Failure>,
}

/// A client over `stream`. Must be called inside a tokio runtime.
pub fn connect<S>(stream: S) -> Client
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = split(stream);
    let (lines, queue) = mpsc::channel(QUEUE);
    let calls = Arc::new(Calls::default());
    Client {
        lines,
        next_id: AtomicU64::new(0),
        reader: tokio::spawn(read_answers(read, Arc::clone(&calls))),
        // Apart from the reader: a daemon that makes us wait with a request may itself be waiting
        // for us to read an answer.
        writer: tokio::spawn(write_lines(write, queue)),
        calls,
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

impl Client {
    /// Calls a method.
    ///
    /// # Errors
    /// The daemon's own failure; [`Kind::DaemonUnreachable`] when the connection ended first;
    /// [`Kind::Internal`] when the answer cannot be read.
    pub async fn call<M: Method>(&self, params: &M) -> Result<M::Output, Failure> {
        self.request(M::NAME, params).await
    }

    /// Calls a method by name with any parameters; the answer as it came.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_raw(
        &self,
        method: &str,
        params: &serde_json::Value,
    ) -> Result<serde_json::Value, Failure> {
        self.request(method, params).await
    }

    async fn request<P, T>(&self, method: &str, params: &P) -> Result<T, Failure>
    where
        P: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        #[derive(Serialize)]
        struct Request<'a, P: ?Sized> {
            jsonrpc: &'static str,
            id: u64,
            method: &'a str,
            params: &'a P,
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = Request { jsonrpc: "2.0", id, method, params };
        let unwritable = |error| Failure::new(Kind::Internal, format!("{method}: {error}"));
        let mut line = serde_json::to_string(&request).map_err(unwritable)?;
        line.push('\n');

        let answer = self.calls.wait_for(id)?;
        // Where the writer is gone the reader soon says why.
        let _ = self.lines.send(line).await;
        let answer = answer.await.map_err(|_| closed())??;
        serde_json::from_str(answer.get()).map_err(|error| {
            Failure::new(
                Kind::Internal,
                format!("the daemon's answer to {method} could not be read: {error}"),
            )
            .hint(versions_differ())
        })
    }
}

impl Calls {
    fn wait_for(&self, id: u64) -> Result<oneshot::Receiver<Answer>, Failure> {
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

    /// No answer will come any more.
    fn end(&self, failure: &Failure) {
        let mut state = self.lock();
        for (_, waiting) in state.waiting.drain() {
            let _ = waiting.send(Err(failure.clone()));
        }
        state.ended.get_or_insert_with(|| failure.clone());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and the map is whole at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write_lines<S: AsyncWrite>(mut write: WriteHalf<S>, mut queue: mpsc::Receiver<String>) {
    while let Some(line) = queue.recv().await {
        if write.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_answers<S: AsyncRead>(read: ReadHalf<S>, calls: Arc<Calls>) {
    #[derive(Deserialize)]
    struct Message<'a> {
        id: Option<u64>,
        #[serde(borrow)]
        result: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<ErrorObject<'a>>,
    }
    let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(MAX_MESSAGE_BYTES));
    while let Some(Ok(line)) = lines.next().await {
        let Ok(message) = serde_json::from_str::<Message<'_>>(&line) else { continue };
        match (message.id, message.result, message.error) {
            (Some(id), _, Some(error)) => calls.answer(id, Err(error.failure())),
            (Some(id), Some(result), None) => calls.answer(id, Ok(result.to_owned())),
            // It answers no call: the connection itself is refused.
            (None, _, Some(error)) => calls.end(&error.failure()),
            (None, _, None) | (Some(_), None, None) => {}
        }
    }
    calls.end(&closed());
}

pub(super) fn closed() -> Failure {
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

/// A JSON-RPC error object.
#[derive(Deserialize)]
pub(super) struct ErrorObject<'a> {
    code: i32,
    message: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl ErrorObject<'_> {
    /// The failure in it. The daemon's carry it in `data`; others are told by their code.
    pub(super) fn failure(self) -> Failure {
        #[derive(Deserialize)]
        struct Data {
            kind: Kind,
            #[serde(flatten)]
            hints: Hints,
            details: Option<serde_json::Value>,
        }
        let data = self.data.and_then(|data| serde_json::from_str::<Data>(data.get()).ok());
        match data {
            Some(Data { kind, hints, details }) => {
                Failure { kind, message: self.message, hints, details }
            }
            None => Failure::new(Kind::from_code(self.code), self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::DaemonPing;
    use tokio::io::{AsyncBufReadExt as _, BufReader};

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
            r#"{"id":0,"result":{"n":10,"at_ms":0,"a_newer_field":1}}"#,
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
            let refused = client.call(&ping(1)).await.unwrap_err();
            assert_eq!(refused.kind, Kind::TooManyConnections);
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_fails_the_calls_that_wait() {
        let client = daemon(&[r#"{"id":99,"result":null}"#]);
        assert_eq!(client.call(&ping(1)).await.unwrap_err().kind, Kind::DaemonUnreachable);
    }

    #[tokio::test]
    async fn another_servers_error_is_told_by_its_code() {
        let client = daemon(&[r#"{"id":0,"error":{"code":-32601,"message":"Method not found"}}"#]);
        assert_eq!(client.call(&ping(1)).await.unwrap_err().kind, Kind::UnknownMethod);
    }
}
