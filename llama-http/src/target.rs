//! Where a llama-server listens, and sending it a request.

use crate::answer::{Answer, Keep, Open, Stream};
use crate::visit::Visit;
use crate::{Bytes, HttpError, StatusCode};
use hyper::Method;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The host where an address has none.
const LOCALHOST: &str = "localhost";

/// Where a llama-server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A path of a Unix socket.
    Socket(PathBuf),
    /// A TCP address.
    Address(SocketAddr),
}

/// One request, to be sent once.
#[derive(Clone, Debug)]
pub struct Request<'r> {
    pub(crate) method: Method,
    pub(crate) path: &'r str,
    pub(crate) key: Option<&'r str>,
    pub(crate) json: Bytes,
}

impl<'r> Request<'r> {
    /// Asks for a path, such as `/health`.
    #[must_use]
    pub fn get(path: &'r str) -> Request<'r> {
        Request { method: Method::GET, path, key: None, json: Bytes::new() }
    }

    /// Posts a JSON text to a path.
    #[must_use]
    pub fn post(path: &'r str, json: impl Into<Bytes>) -> Request<'r> {
        Request { method: Method::POST, path, key: None, json: json.into() }
    }

    /// Shows an API key with the request, where there is one.
    #[must_use]
    pub fn key(self, key: Option<&'r str>) -> Request<'r> {
        Request { key, ..self }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Socket(socket) => socket.display().fmt(f),
            Target::Address(address) => write!(f, "http://{address}"),
        }
    }
}

impl Target {
    /// The target of an endpoint as llamactl records it: a socket's path, or else the base URL of
    /// the API, `http://ADDRESS:PORT/v1`. `None` when neither says where that is.
    #[must_use]
    pub fn of_endpoint(socket: Option<&Path>, url: Option<&str>) -> Option<Target> {
        match (socket, url) {
            (Some(socket), _) => Some(Target::Socket(socket.to_owned())),
            (None, Some(url)) => {
                let authority = url.strip_prefix("http://")?.split('/').next()?;
                Some(Target::Address(authority.parse().ok()?))
            }
            (None, None) => None,
        }
    }

    /// Sends a request over a connection of its own; its answer, once status and headers are
    /// there. There is no limit in time: a model may think for long.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn send(&self, request: Request<'_>) -> Result<Answer, HttpError> {
        self.open().await?.send(request, &self.host(), Keep::No).await
    }

    /// A visit, in which several requests go over one connection.
    #[must_use]
    pub fn visit(&self) -> Visit<'_> {
        Visit::to(self)
    }

    /// Sends a request over a connection that leads to a llama-server by another way, as
    /// [`Target::send`] does.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn send_over<S>(stream: S, request: Request<'_>) -> Result<Answer, HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Open::over(Box::new(stream)).await?.send(request, LOCALHOST, Keep::No).await
    }

    pub(crate) async fn open(&self) -> Result<Open, HttpError> {
        let stream: Box<dyn Stream> = match self {
            Target::Socket(socket) => {
                Box::new(UnixStream::connect(socket).await.map_err(HttpError::Connect)?)
            }
            Target::Address(address) => {
                Box::new(TcpStream::connect(address).await.map_err(HttpError::Connect)?)
            }
        };
        Open::over(stream).await
    }

    /// What the header `host` says.
    pub(crate) fn host(&self) -> String {
        match self {
            Target::Socket(_) => LOCALHOST.to_owned(),
            Target::Address(address) => address.to_string(),
        }
    }

    /// Asks for a whole answer within `limit`, at most `max_bytes` long; its status and body,
    /// whatever the status.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn fetch(
        &self,
        request: Request<'_>,
        limit: Duration,
        max_bytes: usize,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let exchange = async {
            let answer = self.send(request).await?;
            Ok((answer.status(), answer.whole(max_bytes).await?))
        };
        tokio::time::timeout(limit, exchange).await.map_err(|_| HttpError::TimedOut)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    #[test]
    fn an_endpoint_leads_to_its_target() {
        let of = |socket: Option<&str>, url| Target::of_endpoint(socket.map(Path::new), url);
        assert_eq!(of(Some("/r/m.sock"), None), Some(Target::Socket("/r/m.sock".into())));
        let address = Target::Address("[::1]:8101".parse().unwrap());
        assert_eq!(of(None, Some("http://[::1]:8101/v1")), Some(address));
        assert_eq!(of(None, Some("https://box.lan/v1")), None);
        assert_eq!(of(None, None), None);
    }

    /// What `ask` makes of a server that reads one request, sends these bytes and hangs up; and the
    /// request.
    async fn said<T>(answer: &'static [u8], ask: impl AsyncFnOnce(Target) -> T) -> (T, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n") && !read.ends_with(b"{}") {
                stream.read_buf(&mut read).await.unwrap();
            }
            stream.write_all(answer).await.unwrap();
            String::from_utf8(read).unwrap()
        };
        tokio::join!(ask(Target::Socket(path)), server)
    }

    /// Long enough that a test which waits for it fails by it.
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_whole_answer_and_its_bounds() {
        const OK: &[u8] = b"HTTP/1.1 503 X\r\ncontent-length: 5\r\n\r\nhello";
        let get = async |target: Target| {
            target.fetch(Request::get("/health").key(Some("k")), LONG, 5).await
        };
        let (answer, request) = said(OK, get).await;
        assert_eq!(answer.unwrap(), (StatusCode::SERVICE_UNAVAILABLE, Bytes::from("hello")));
        let request = request.to_lowercase();
        assert!(request.starts_with("get /health http/1.1\r\n"), "{request}");
        assert!(request.contains("authorization: bearer k\r\n"), "{request}");
        let short = async |target: Target| target.fetch(Request::get("/x"), LONG, 4).await;
        assert!(matches!(said(OK, short).await.0, Err(HttpError::TooLong(4))));
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_apart() {
        let get = async |target: Target| target.fetch(Request::get("/x"), LONG, 9).await;
        let nobody = Target::Socket("/nonexistent/x.sock".into());
        assert!(matches!(get(nobody).await, Err(HttpError::Connect(_))));
        for broken in [&b""[..], b"what\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"]
        {
            let (answer, _) = said(broken, get).await;
            assert!(matches!(answer, Err(HttpError::Broken(_))), "{answer:?}");
        }
        let directory = tempfile::tempdir().unwrap();
        let silent = directory.path().join("s.sock");
        let _listens = UnixListener::bind(&silent).unwrap();
        let short = Duration::from_millis(1);
        let answer = Target::Socket(silent).fetch(Request::get("/x"), short, 9).await;
        assert!(matches!(answer, Err(HttpError::TimedOut)), "{answer:?}");
        let bad_key = Request::get("/x").key(Some("a\nb"));
        let open = Open::over(Box::new(tokio::io::empty())).await.unwrap();
        let answer = open.send(bad_key, "localhost", Keep::No).await;
        assert!(matches!(answer, Err(HttpError::Request(_))));
    }

    #[tokio::test]
    async fn events_come_as_they_are_sent() {
        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
            9\r\ndata: a\n\n\r\n8\r\ndata: b\n\r\n1\r\n\n\r\n0\r\n\r\n";
        let post = async |target: Target| {
            let answer = target.send(Request::post("/v1/x", "{}")).await.unwrap();
            let mut events = answer.events();
            let mut seen = Vec::new();
            while let Some(event) = events.next().await.unwrap() {
                seen.push(event.data);
            }
            seen
        };
        let (seen, request) = said(ANSWER, post).await;
        assert_eq!(seen, ["a", "b"]);
        assert!(request.contains("content-type: application/json\r\n"), "{request}");
    }
}
