//! A raw client of the daemon's socket: bytes out, lines in, under a deadline.
//!
//! It knows nothing of the protocol crate, so that what it sees is what any program would see.

use crate::DEADLINE;
use serde_json::{Value, json};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A connection.
pub struct Rpc {
    stream: BufReader<UnixStream>,
    partial: Vec<u8>,
    next_id: u64,
}

/// An answer that says no.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// JSON-RPC's `code`.
    pub code: i64,
    /// The sentence.
    pub message: String,
    /// `data.kind`; empty where there is none.
    pub kind: String,
    /// `data`, whole.
    pub data: Value,
}

impl Rpc {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    pub fn connect(socket: &Path) -> Rpc {
        Rpc::try_connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()))
    }

    /// Connects.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn try_connect(socket: &Path) -> io::Result<Rpc> {
        let stream = UnixStream::connect(socket)?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Rpc { stream: BufReader::new(stream), partial: Vec::new(), next_id: 0 })
    }

    /// Lets writing fail with `WouldBlock` when the daemon reads nothing for this long.
    ///
    /// # Panics
    /// When the time is zero.
    pub fn set_write_timeout(&self, timeout: Duration) {
        self.stream.get_ref().set_write_timeout(Some(timeout)).unwrap();
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// What the operating system says: the daemon may have closed the connection.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends one line.
    ///
    /// # Panics
    /// When the connection is closed.
    pub fn send_line(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes()).expect("the daemon takes a line");
    }

    /// Sends a request without waiting for its answer; its id.
    ///
    /// # Panics
    /// When the connection is closed.
    pub fn send(&mut self, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.send_line(&request.to_string());
        id
    }

    /// Says that nothing more will be sent; answers can still be read.
    ///
    /// # Panics
    /// When the connection is closed.
    pub fn finish_sending(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// The next line; `None` when the daemon has closed the connection.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn line(&mut self) -> Option<String> {
        self.line_within(DEADLINE).unwrap_or_else(|| panic!("no line in {DEADLINE:?}"))
    }

    /// The next line as in [`Rpc::line`]; the outer `None` when none comes in this time.
    ///
    /// # Panics
    /// When the connection breaks in another way than by being closed.
    pub fn line_within(&mut self, deadline: Duration) -> Option<Option<String>> {
        let end = Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.get_ref().set_read_timeout(Some(left)).unwrap();
            match self.stream.read_until(b'\n', &mut self.partial) {
                Ok(0) => return Some(None),
                Ok(_) if self.partial.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.partial);
                    return Some(Some(String::from_utf8(line).expect("the daemon writes UTF-8")));
                }
                Ok(_) => {} // the end, behind a line without one; the next read says so
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() >= end {
                        return None;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Some(None),
                Err(error) => panic!("the connection broke: {error}"),
            }
        }
    }

    /// The next line, as JSON.
    ///
    /// # Panics
    /// When none comes in time, or it is not JSON.
    pub fn message(&mut self) -> Value {
        let line = self.line().expect("the daemon keeps the connection");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Reads messages up to the answer with this id; others are passed over.
    ///
    /// # Errors
    /// The daemon's refusal.
    pub fn answer(&mut self, id: u64) -> Result<Value, Refusal> {
        loop {
            let mut message = self.message();
            if message["id"] == json!(id) {
                return match message.get("error") {
                    Some(error) => Err(Refusal::read(error)),
                    None => Ok(message["result"].take()),
                };
            }
        }
    }

    /// Calls a method.
    ///
    /// # Errors
    /// The daemon's refusal.
    pub fn try_call(&mut self, method: &str, params: Value) -> Result<Value, Refusal> {
        let id = self.send(method, params);
        self.answer(id)
    }

    /// Calls a method; the result.
    ///
    /// # Panics
    /// When the daemon refuses.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|refusal| panic!("{method}: {refusal:?}"))
    }

    /// Calls a method that must be refused.
    ///
    /// # Panics
    /// When it is not, or for another reason than `kind`.
    pub fn expect_refusal(&mut self, method: &str, params: Value, kind: &str) -> Refusal {
        match self.try_call(method, params) {
            Ok(result) => panic!("{method} was not refused: {result}"),
            Err(refusal) => {
                assert_eq!(refusal.kind, kind, "{refusal:?}");
                refusal
            }
        }
    }

    /// Reads one message that must be a refusal.
    ///
    /// # Panics
    /// When it is none.
    pub fn refusal(&mut self) -> Refusal {
        let message = self.message();
        let error = message.get("error").unwrap_or_else(|| panic!("not a refusal: {message}"));
        Refusal::read(error)
    }

    /// Opens a stream on this connection, which then serves nothing else.
    ///
    /// # Panics
    /// When the daemon refuses.
    #[must_use]
    pub fn follow(mut self, method: &str, params: Value) -> Stream {
        let _ = self.call(method, params);
        Stream { rpc: self }
    }
}

impl Refusal {
    fn read(error: &Value) -> Refusal {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Refusal {
            code: error["code"].as_i64().expect("an error has a code"),
            message: text(&error["message"]),
            kind: text(&error["data"]["kind"]),
            data: error["data"].clone(),
        }
    }
}

/// A stream being read.
pub struct Stream {
    rpc: Rpc,
}

impl Stream {
    /// The next line as it came; `None` when the daemon closed the connection.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn next_line(&mut self) -> Option<String> {
        self.rpc.line()
    }

    /// The next item: `{kind, at_ms, cursor, data}`; `None` when the daemon closed the connection.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn next_item(&mut self) -> Option<Value> {
        self.item_within(DEADLINE).unwrap_or_else(|| panic!("no item in {DEADLINE:?}"))
    }

    /// The next item as in [`Stream::next_item`]; the outer `None` when none comes in this time.
    ///
    /// # Panics
    /// When the daemon sends what is no message.
    pub fn item_within(&mut self, deadline: Duration) -> Option<Option<Value>> {
        loop {
            let Some(line) = self.rpc.line_within(deadline)? else { return Some(None) };
            let mut message: Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            let item = message["params"]["result"].take();
            if item["kind"].is_string() {
                return Some(Some(item));
            }
        }
    }

    /// The next item.
    ///
    /// # Panics
    /// When none comes in time or the daemon closed the connection.
    pub fn item(&mut self) -> Value {
        self.next_item().expect("the stream goes on")
    }

    /// Reads items until the data of one fulfils `condition`, and gives that item.
    ///
    /// # Panics
    /// When none comes in time, or the stream ends before.
    pub fn item_where(&mut self, mut condition: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        loop {
            match self.item_within(DEADLINE) {
                Some(Some(item)) if item["kind"] == "end" => panic!("{item} came behind {last}"),
                Some(Some(item)) if condition(&item["data"]) => return item,
                Some(Some(item)) => last = item,
                Some(None) => panic!("the stream broke off behind {last}"),
                None => panic!("nothing came in {DEADLINE:?} behind {last}"),
            }
        }
    }

    /// Reads the items up to the `end`, that one too.
    ///
    /// # Panics
    /// When the stream does not end in time, or breaks off.
    pub fn to_end(&mut self) -> Vec<Value> {
        let mut items = vec![self.item()];
        while items.last().is_some_and(|item| item["kind"] != "end") {
            items.push(self.item());
        }
        items
    }

    /// Reads a `server.follow` stream until its server is in this state; the server.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn until_state(&mut self, state: &str) -> Value {
        self.item_where(|server| server["state"] == state)["data"].take()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A reader that goes away says so at once.
        let _ = self.rpc.stream.get_ref().shutdown(Shutdown::Both);
    }
}
