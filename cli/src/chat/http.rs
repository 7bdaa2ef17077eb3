//! HTTP to a server's endpoint, over TCP or its Unix socket.

use super::Place;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use llamactl_protocol::{Failure, Kind};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

/// The longest answer that is read whole, in bytes: a refusal.
const MAX_REFUSAL_BYTES: usize = 1 << 20;

/// An answer being received. Dropping it closes the connection, by which llama-server learns
/// that nobody waits any more.
pub(crate) struct Answer {
    /// Status, headers, and a body that comes piece by piece.
    pub(crate) response: Response<Incoming>,
    connection: JoinHandle<()>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Answer {
    /// The next piece of the body; `None` at its proper end.
    ///
    /// # Errors
    /// The connection broke first.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        while let Some(frame) = self.response.body_mut().frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// What a refusal says, as a failure.
    pub(crate) async fn refusal(mut self) -> Failure {
        let status = self.response.status();
        let body = Limited::new(self.response.body_mut(), MAX_REFUSAL_BYTES).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        refusal(status.as_u16(), &body)
    }
}

fn refusal(status: u16, body: &[u8]) -> Failure {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = body.pointer("/error/message").or(body.get("error")).and_then(Value::as_str);
    let message = match said {
        Some(said) => format!("the server refused: {said}"),
        None => format!("the server answered with HTTP status {status}"),
    };
    Failure::new(Kind::ServerFailed, message)
        .details(serde_json::json!({ "http_status": status, "error": body.get("error") }))
}

/// Posts JSON to a path below the endpoint's base URL.
///
/// # Errors
/// [`Kind::ServerFailed`] when the server cannot be reached.
pub(crate) async fn post(place: &Place, path: &str, body: &Value) -> Result<Answer, Failure> {
    let Place { endpoint, key } = place;
    let key = key.as_deref();
    match (&endpoint.socket, &endpoint.url) {
        (Some(socket), _) => {
            let stream = UnixStream::connect(socket.as_path())
                .await
                .map_err(|error| unreachable(&socket.to_string(), &error))?;
            send(stream, "localhost", &format!("/v1{path}"), key, body).await
        }
        (None, Some(url)) => {
            let base: Uri = url.parse().map_err(|error| unreachable(url, &error))?;
            let host = base.host().unwrap_or_default().trim_matches(['[', ']']);
            let stream = TcpStream::connect((host, base.port_u16().unwrap_or(80)))
                .await
                .map_err(|error| unreachable(url, &error))?;
            let authority = base.authority().map_or("localhost", |authority| authority.as_str());
            let path = format!("{}{path}", base.path().trim_end_matches('/'));
            send(stream, authority, &path, key, body).await
        }
        (None, None) => {
            Err(Failure::new(Kind::NotRunning, "the server listens nowhere that is known"))
        }
    }
}

async fn send<S>(
    stream: S,
    host: &str,
    path: &str,
    key: Option<&str>,
    body: &Value,
) -> Result<Answer, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broke = |error: &dyn std::error::Error| {
        Failure::new(Kind::ServerFailed, format!("the server did not answer: {error}"))
    };
    let request = Request::post(path)
        .header("host", host)
        .header("content-type", "application/json")
        .header("accept", "text/event-stream");
    let request = match key {
        Some(key) => request.header("authorization", format!("Bearer {key}")),
        None => request,
    };
    let request =
        request.body(Full::new(Bytes::from(body.to_string()))).map_err(|error| broke(&error))?;
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| broke(&error))?;
    // Its errors come out of the response too.
    let connection = tokio::spawn(async { drop(connection.await) });
    let response = sender.send_request(request).await;
    match response {
        Ok(response) => Ok(Answer { response, connection }),
        Err(error) => {
            connection.abort();
            Err(broke(&error))
        }
    }
}

fn unreachable(at: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(Kind::ServerFailed, format!("the server at {at} cannot be reached: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::server::Endpoint;

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let said = refusal(400, br#"{"error":{"code":400,"message":"too long","type":"x"}}"#);
        assert_eq!(said.message, "the server refused: too long");
        assert_eq!(said.details.unwrap()["http_status"], 400);
        assert_eq!(refusal(502, b"<html>").message, "the server answered with HTTP status 502");
    }

    #[tokio::test]
    async fn nowhere_to_go_is_said() {
        let endpoint = Endpoint { url: None, socket: Some("/nonexistent/x.sock".into()) };
        let place = Place { endpoint, key: None };
        let failure = post(&place, "/x", &Value::Null).await.err().unwrap();
        assert_eq!(failure.kind, Kind::ServerFailed);
        assert!(failure.message.contains("/nonexistent/x.sock"), "{failure}");
    }
}
