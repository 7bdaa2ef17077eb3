//! Asking one llama-server: where it listens, and the key it asks for.
//!
//! The key is only sent to the process it belongs to. On a Unix socket in our own directory nobody
//! else can listen; on a TCP port the listener is looked up first, once, because a process that
//! listens keeps its port for as long as it lives.

use crate::os::listener::listens;
use llama_http::{Bytes, HttpError, Request, StatusCode, Target};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest answer read; `/slots` needs about 1.2 kB a slot.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// A key for llama-server. It shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(pub String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The client of one llama-server.
#[derive(Debug)]
pub struct Client {
    target: Target,
    key: Option<ApiKey>,
    pid: Option<u32>,
    /// The process listens where the key is sent.
    is_its_own: AtomicBool,
}

impl Client {
    /// A client of the llama-server that is process `pid` and listens at `target`.
    #[must_use]
    pub fn new(target: Target, key: Option<ApiKey>, pid: Option<u32>) -> Client {
        Client { target, key, pid, is_its_own: AtomicBool::new(false) }
    }

    /// Asks for `path`; status and body of the answer, whatever the status.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn get(&self, path: &str, limit: Duration) -> Result<(StatusCode, Bytes), HttpError> {
        self.target.fetch(self.request(path), limit, MAX_ANSWER_BYTES).await
    }

    /// A visit, in which several paths are asked for over one connection.
    pub(super) fn visit(&self) -> Visit<'_> {
        Visit { client: self, visit: self.target.visit() }
    }

    fn request<'r>(&'r self, path: &'r str) -> Request<'r> {
        // `/health` asks for no key, so it gets none.
        let key = self.key.as_ref().filter(|_| path != "/health" && self.is_its_own());
        Request::get(path).key(key.map(|key| key.0.as_str()))
    }

    /// Whether it is the process that listens where we ask.
    pub(super) fn is_its_own(&self) -> bool {
        let Target::Address(address) = self.target else { return true };
        if self.is_its_own.load(Ordering::Relaxed) {
            return true;
        }
        let own = self.pid.is_some_and(|pid| listens(pid, address).unwrap_or(false));
        self.is_its_own.store(own, Ordering::Relaxed);
        own
    }
}

/// Requests to one llama-server over one connection, which is closed when this is dropped.
pub(super) struct Visit<'c> {
    client: &'c Client,
    visit: llama_http::Visit<'c>,
}

impl Visit<'_> {
    /// As [`Client::get`].
    pub(super) async fn get(
        &mut self,
        path: &str,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let client = self.client;
        self.visit.fetch(client.request(path), limit, MAX_ANSWER_BYTES).await
    }
}
