//! A small HTTP/1.1 client for a server's endpoint, over TCP or a Unix socket.

use crate::DEADLINE;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Where a llama-server listens.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// `host:port`
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The body, whole.
    pub body: String,
}

impl Answer {
    /// The body, as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{}: {error}", self.body))
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

impl Endpoint {
    /// The endpoint of a server as the daemon gives it: `{url, socket}`.
    ///
    /// # Panics
    /// When it gives neither.
    #[must_use]
    pub fn of(server: &Value) -> Endpoint {
        let endpoint = &server["endpoint"];
        match (endpoint["url"].as_str(), endpoint["socket"].as_str()) {
            (Some(url), _) => Endpoint::from_url(url),
            (None, Some(socket)) => Endpoint::Unix(socket.into()),
            (None, None) => panic!("no endpoint: {server}"),
        }
    }

    /// The endpoint of a URL such as `http://127.0.0.1:8101/v1`.
    ///
    /// # Panics
    /// When it is not like that.
    #[must_use]
    pub fn from_url(url: &str) -> Endpoint {
        let rest = url.strip_prefix("http://").expect("an http URL");
        Endpoint::Tcp(rest.split('/').next().unwrap_or_default().to_owned())
    }

    /// Sends a GET.
    ///
    /// # Errors
    /// What the operating system says: nobody may listen.
    pub fn get(&self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, "")
    }

    /// Sends a POST with a JSON body.
    ///
    /// # Errors
    /// As [`Endpoint::get`].
    pub fn post(&self, path: &str, body: &Value) -> io::Result<Answer> {
        self.request("POST", path, &body.to_string())
    }

    /// Asks the model for an answer to `prompt`, always the same one, of at most this many tokens.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn chat(&self, prompt: &str, max_tokens: u32) -> Value {
        let body = serde_json::json!({
            "messages": [{ "role": "user", "content": prompt }],
            "temperature": 0, "max_tokens": max_tokens,
        });
        let answer = self.post("/v1/chat/completions", &body).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    fn request(&self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let mut stream: Box<dyn ReadWrite> = match self {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(DEADLINE))?;
                Box::new(stream)
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(DEADLINE))?;
                Box::new(stream)
            }
        };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let unreadable = || String::from_utf8_lossy(&bytes).into_owned();
        parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, unreadable()))
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let (head, body) = split_at(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(head).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body)? } else { body.to_owned() };
    Some(Answer { status, body: String::from_utf8(body).ok()? })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (length, behind) = split_at(rest, b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(length).ok()?.trim(), 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(behind.get(..length)?);
        rest = behind.get(length..)?.strip_prefix(b"\r\n")?;
    }
}

fn split_at<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    Some((bytes.get(..at)?, bytes.get(at + mark.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_whole_or_in_chunks() {
        let whole = parse(b"HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\nok").unwrap();
        assert_eq!((whole.status, whole.body.as_str()), (503, "ok"));
        let chunked = parse(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
        );
        assert_eq!(chunked.unwrap().body, "abcd");
    }
}
