//! An answer while it comes.

use crate::sse::Events;
use crate::target::Request;
use crate::{Bytes, HttpError, StatusCode};
use bytes::BytesMut;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
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

/// A connection over which one request after the other can be sent. Dropping it closes it.
pub(crate) struct Open {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection,
}

impl Open {
    pub(crate) async fn over(stream: Box<dyn Stream>) -> Result<Open, HttpError> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Open { sender, connection: Connection(Some(Box::pin(connection))) })
    }

    /// Sends a request; its answer, once status and headers are there.
    pub(crate) async fn send(
        mut self,
        request: Request<'_>,
        host: &str,
        keep: Keep,
    ) -> Result<Answer, HttpError> {
        let whole = request.head(host, keep).body(Full::new(request.json))?;
        let response = self.connection.drive(self.sender.send_request(whole)).await?;
        Ok(Answer { response, open: self })
    }
}

/// Whether a connection is to be kept for another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Yes,
    No,
}

impl Request<'_> {
    fn head(&self, host: &str, keep: Keep) -> hyper::http::request::Builder {
        let mut head =
            hyper::Request::builder().method(&self.method).uri(self.path).header("host", host);
        if keep == Keep::No {
            head = head.header("connection", "close");
        }
        if self.method == Method::POST {
            // Whether the answer is a stream of events is said in the body.
            head = head
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream");
        }
        match self.key {
            Some(key) => head.header("authorization", format!("Bearer {key}")),
            None => head,
        }
    }
}

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
    open: Open,
}

impl Answer {
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
        let Answer { response, open } = self;
        while let Some(frame) = open.connection.drive(response.body_mut().frame()).await {
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
    pub async fn whole(self, max_bytes: usize) -> Result<Bytes, HttpError> {
        Ok(self.whole_and_rest(max_bytes).await?.0)
    }

    /// The same, and the connection it came over.
    pub(crate) async fn whole_and_rest(
        mut self,
        max_bytes: usize,
    ) -> Result<(Bytes, Open), HttpError> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            if body.len() + piece.len() > max_bytes {
                return Err(HttpError::TooLong(max_bytes));
            }
            body.extend_from_slice(&piece);
        }
        Ok((body.freeze(), self.open))
    }

    /// The body as server-sent events.
    #[must_use]
    pub fn events(self) -> Events {
        Events::of(self)
    }
}
