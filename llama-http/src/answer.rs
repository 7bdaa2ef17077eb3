//! An answer while it comes.

use crate::sse::Events;
use crate::target::Request;
use crate::{Bytes, HttpError, StatusCode};
use bytes::BytesMut;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use std::pin::{Pin, pin};
use tokio::io::{AsyncRead, AsyncWrite};

/// What a connection is made of: a TCP stream or a Unix one.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What hyper makes of a stream: it reads and writes while it is polled.
type Driver = http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

/// The half of a connection that reads and writes; `None` once it has ended.
struct Connection(Option<Pin<Box<Driver>>>);

impl Connection {
    /// Awaits what the other half promises, while this one is driven. It is driven here and not in
    /// a task of its own, so that dropping the future closes the socket.
    async fn drive<T>(&mut self, promised: impl Future<Output = T>) -> T {
        let mut promised = pin!(promised);
        if let Some(connection) = &mut self.0 {
            tokio::select! {
                biased;
                done = &mut promised => return done,
                // Its error comes out of the other half too.
                _ = connection => {}
            }
            self.0 = None;
        }
        promised.await
    }
}

/// An answer being received. Dropping it closes the connection.
pub struct Answer {
    response: Response<Incoming>,
    connection: Connection,
}

impl Answer {
    /// Sends a request over a fresh stream; its answer, once status and headers are there.
    pub(crate) async fn to(
        request: Request<'_>,
        host: &str,
        stream: Box<dyn Stream>,
    ) -> Result<Answer, HttpError> {
        let mut head = hyper::Request::builder()
            .method(&request.method)
            .uri(request.path)
            .header("host", host)
            .header("connection", "close");
        if request.method == Method::POST {
            // Whether the answer is a stream of events is said in the body.
            head = head
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream");
        }
        if let Some(key) = request.key {
            head = head.header("authorization", format!("Bearer {key}"));
        }
        let whole = head.body(Full::new(request.json))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut connection = Connection(Some(Box::pin(connection)));
        let response = connection.drive(sender.send_request(whole)).await?;
        Ok(Answer { response, connection })
    }

    /// The answer's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The next piece of the body, as it came; `None` at its proper end.
    ///
    /// # Errors
    /// [`HttpError::Broken`] when the connection broke first.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, HttpError> {
        let Answer { response, connection } = self;
        while let Some(frame) = connection.drive(response.body_mut().frame()).await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body.
    ///
    /// # Errors
    /// [`HttpError::Broken`] when the connection broke first, [`HttpError::TooLong`] when there
    /// is more than `max_bytes`.
    pub async fn whole(mut self, max_bytes: usize) -> Result<Bytes, HttpError> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            if body.len() + piece.len() > max_bytes {
                return Err(HttpError::TooLong(max_bytes));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    /// The body as server-sent events.
    #[must_use]
    pub fn events(self) -> Events {
        Events::of(self)
    }
}
