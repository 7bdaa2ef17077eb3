//! Several requests over one connection.

use crate::answer::{Keep, Open};
use crate::target::{Request, Target};
use crate::{Bytes, HttpError, StatusCode};
use std::time::Duration;

/// A visit to a server. Dropping it closes the connection.
pub struct Visit<'t> {
    target: &'t Target,
    open: Option<Open>,
}

impl Visit<'_> {
    pub(crate) fn to(target: &Target) -> Visit<'_> {
        Visit { target, open: None }
    }

    /// Asks for a whole answer within `limit`, at most `max_bytes` long; its status and body, whatever
    /// the status. A server that closed the connection behind its last answer is connected to anew:
    /// a visit is for what may be asked twice.
    ///
    /// # Errors
    /// [`HttpError`]. The next request has a connection of its own then.
    pub async fn fetch(
        &mut self,
        request: Request<'_>,
        limit: Duration,
        max_bytes: usize,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let (target, kept) = (self.target, self.open.take());
        let exchange = async {
            if let Some(open) = kept {
                match exchange(target, open, request.clone(), max_bytes).await {
                    // It was closed meanwhile. To ask twice does no harm here.
                    Err(HttpError::Broken(_)) => {}
                    answered => return answered,
                }
            }
            exchange(target, target.open().await?, request, max_bytes).await
        };
        let answered = tokio::time::timeout(limit, exchange).await;
        let (status, body, open) = answered.map_err(|_| HttpError::TimedOut)??;
        self.open = Some(open);
        Ok((status, body))
    }
}

async fn exchange(
    target: &Target,
    open: Open,
    request: Request<'_>,
    max_bytes: usize,
) -> Result<(StatusCode, Bytes, Open), HttpError> {
    let answer = open.send(request, &target.host(), Keep::Yes).await?;
    let status = answer.status();
    let (body, open) = answer.whole_and_rest(max_bytes).await?;
    Ok((status, body, open))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{UnixListener, UnixStream};

    const LONG: Duration = Duration::from_secs(60);

    /// Reads requests of a connection and answers each; how many there were.
    async fn serve(mut stream: UnixStream, answer: &[u8], closes: bool) -> usize {
        let (mut requests, mut read) = (0, Vec::new());
        while stream.read_buf(&mut read).await.unwrap() > 0 {
            if read.ends_with(b"\r\n\r\n") {
                stream.write_all(answer).await.unwrap();
                requests += 1;
                read.clear();
                if closes {
                    break;
                }
            }
        }
        requests
    }

    /// How many requests came over each of the connections of a visit of three.
    async fn requests_of_three(answer: &'static [u8], closes: bool) -> Vec<usize> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let target = Target::Socket(path);
        let visit = async {
            let mut visit = target.visit();
            for path in ["/health", "/metrics", "/slots"] {
                let (status, body) = visit.fetch(Request::get(path), LONG, 9).await.unwrap();
                assert_eq!((status, body), (StatusCode::OK, Bytes::from("ok")));
            }
        };
        let server = async {
            let mut seen = Vec::new();
            while seen.iter().sum::<usize>() < 3 {
                let (stream, _) = listener.accept().await.unwrap();
                seen.push(serve(stream, answer, closes).await);
            }
            seen
        };
        tokio::join!(visit, server).1
    }

    #[tokio::test]
    async fn one_connection_serves_a_whole_visit_and_is_closed_with_it() {
        const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        assert_eq!(requests_of_three(OK, false).await, [3]);
    }

    #[tokio::test]
    async fn a_server_that_closes_behind_each_answer_is_connected_to_anew() {
        const LAST: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
        assert_eq!(requests_of_three(LAST, true).await, [1, 1, 1]);
        // It does not say so, as an older llama-server behind its hundredth answer.
        const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        assert_eq!(requests_of_three(OK, true).await, [1, 1, 1]);
    }
}
