//! Requests to a server's endpoint by the client that daemon and CLI use, for tests that wait.

use crate::DEADLINE;
use llama_http::{HttpError, Request, Target};
use serde_json::Value;
use std::io;
use std::path::Path;

/// Where a llama-server listens.
#[derive(Clone, Debug)]
pub struct Endpoint(pub Target);

/// The most that is taken of an answer.
const MAX_BYTES: usize = 64 << 20;

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

impl Endpoint {
    /// The endpoint of a server as the daemon gives it: `{url, socket}`.
    ///
    /// # Panics
    /// When it gives neither.
    #[must_use]
    pub fn of(server: &Value) -> Endpoint {
        let Value::Object(endpoint) = &server["endpoint"] else { panic!("no endpoint: {server}") };
        let part = |name: &str| endpoint.get(name).and_then(Value::as_str);
        let target = Target::of_endpoint(part("socket").map(Path::new), part("url"));
        Endpoint(target.unwrap_or_else(|| panic!("no endpoint: {server}")))
    }

    /// The endpoint of a URL such as `http://127.0.0.1:8101/v1`.
    ///
    /// # Panics
    /// When it is not like that.
    #[must_use]
    pub fn from_url(url: &str) -> Endpoint {
        Endpoint(Target::of_endpoint(None, Some(url)).expect("an http URL"))
    }

    /// Sends a GET.
    ///
    /// # Errors
    /// What the operating system says: nobody may listen.
    pub fn get(&self, path: &str) -> io::Result<Answer> {
        self.request(Request::get(path))
    }

    /// Sends a POST with a JSON body.
    ///
    /// # Errors
    /// As [`Endpoint::get`].
    pub fn post(&self, path: &str, body: &Value) -> io::Result<Answer> {
        self.request(Request::post(path, body.to_string()))
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

    fn request(&self, request: Request<'_>) -> io::Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(self.0.fetch(request, DEADLINE, MAX_BYTES));
        let (status, body) = answer.map_err(|error| match error {
            HttpError::Connect(error) => error,
            other => io::Error::other(other),
        })?;
        let body = String::from_utf8(body.into()).map_err(io::Error::other)?;
        Ok(Answer { status: status.as_u16(), body })
    }
}
