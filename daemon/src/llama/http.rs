//! One HTTP request to a llama-server, over TCP or its Unix socket.
//!
//! A connection per request: llama-server closes kept ones after five idle seconds, and a request
//! every two seconds is not worth a pool.

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Where a llama-server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Its Unix socket.
    Socket(PathBuf),
    /// Its TCP address.
    Address(SocketAddr),
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody listens there.
    #[error("nobody listens there")]
    Connect(#[source] std::io::Error),
    /// The connection broke, or what came was not HTTP.
    #[error("the connection broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
}

/// No answer we read is longer; `/slots` needs about 1.2 kB a slot.
const MAX_BODY_BYTES: usize = 4 << 20;

impl Target {
    /// Asks for `path`, with a key where one is given; status and body of the answer, whatever the
    /// status.
    ///
    /// # Errors
    /// [`HttpError`].
    pub(super) async fn get(
        &self,
        path: &str,
        key: Option<&str>,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let exchange = async {
            match self {
                Target::Socket(socket) => {
                    let stream = UnixStream::connect(socket).await.map_err(HttpError::Connect)?;
                    get_over(stream, path, key).await
                }
                Target::Address(address) => {
                    let stream = TcpStream::connect(address).await.map_err(HttpError::Connect)?;
                    get_over(stream, path, key).await
                }
            }
        };
        tokio::time::timeout(limit, exchange).await.map_err(|_| HttpError::TimedOut)?
    }
}

async fn get_over<S>(
    stream: S,
    path: &str,
    key: Option<&str>,
) -> Result<(StatusCode, Bytes), HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| HttpError::Broken(error.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut request = Request::get(path).header("host", "localhost").header("connection", "close");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let request =
        request.body(Empty::<Bytes>::new()).map_err(|error| HttpError::Broken(error.into()))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_BODY_BYTES)
            .collect()
            .await
            .map_err(HttpError::Broken)?;
        Ok((status, body.to_bytes()))
    };
    // Driven here and not in a task of its own, so that dropping this future closes the socket.
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        done = &mut exchange => done,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(broken(error)),
        },
    }
}
