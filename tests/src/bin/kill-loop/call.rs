//! Calls to a daemon that may be killed at any moment.

use llamactl_tests::{DEADLINE, Rpc};
use serde_json::{Value, json};
use std::io;
use std::path::Path;

/// How a call went.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was answered: what it asked for is acknowledged.
    Answered(Value),
    /// It was refused, for this reason.
    Refused { kind: String, message: String },
    /// The daemon went away before it answered; what it asked for holds or does not.
    Cut,
    /// The daemon is there and says nothing.
    Silent,
}

/// A connection that may be cut.
pub(crate) struct Connection {
    rpc: Rpc,
    calls: u64,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn open(socket: &Path) -> io::Result<Connection> {
        Ok(Connection { rpc: Rpc::try_connect(socket)?, calls: 0 })
    }

    /// Sends a call; `false` when there is nobody to take it.
    pub(crate) fn send(&mut self, method: &str, params: &Value) -> bool {
        self.calls += 1;
        let call =
            json!({ "jsonrpc": "2.0", "id": self.calls, "method": method, "params": params });
        self.rpc.send_bytes(format!("{call}\n").as_bytes()).is_ok()
    }

    /// The answer to the last call.
    pub(crate) fn answer(&mut self) -> Outcome {
        loop {
            let line = match self.rpc.line_within(DEADLINE) {
                Some(Some(line)) => line,
                Some(None) => return Outcome::Cut,
                None => return Outcome::Silent,
            };
            // A line that is cut off in the middle is no answer.
            let Ok(mut message) = serde_json::from_str::<Value>(&line) else { return Outcome::Cut };
            if message["id"] != json!(self.calls) {
                continue;
            }
            return match message.get("error") {
                None => Outcome::Answered(message["result"].take()),
                Some(error) => Outcome::Refused {
                    kind: error["data"]["kind"].as_str().unwrap_or_default().to_owned(),
                    message: error["message"].as_str().unwrap_or_default().to_owned(),
                },
            };
        }
    }

    /// Calls a method.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Outcome {
        if self.send(method, params) { self.answer() } else { Outcome::Cut }
    }
}
