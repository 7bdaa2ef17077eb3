//! The HTTP client of one llama-server.
//!
//! ```text
//!   Target ┬─ send(Request) ─▶ Answer ─┬─ whole(limit) ─▶ bytes
//!   address│                           ├─ piece() ──────▶ bytes as they come
//!   or Unix│socket                     ╰─ events() ─────▶ server-sent events
//!          ╰─ visit() ─▶ Visit ─ fetch(Request), one after the other ─▶ bytes
//! ```
//!
//! There is no pool: llama-server closes a connection after five idle seconds. What is asked in one
//! go goes over one connection, a visit, which is over long before. Nothing here runs
//! beside its caller: dropping a future or an [`Answer`] closes the connection, by which
//! llama-server learns that nobody waits any more.

mod answer;
mod sse;
mod target;
mod visit;

pub use answer::Answer;
pub use bytes::Bytes;
pub use hyper::StatusCode;
pub use sse::{Event, EventParser, Events, LineTooLong};
pub use target::{Request, Target};
pub use visit::Visit;

/// Why there is no answer, or no more of one.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody listens at the target.
    #[error("nobody listens there: {0}")]
    Connect(#[source] std::io::Error),
    /// The connection broke, or what came was not HTTP.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The request cannot be written as HTTP, such as one with a line break in its key.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] hyper::http::Error),
    /// No answer in the time its caller gave it.
    #[error("no answer in time")]
    TimedOut,
    /// The answer is longer than its caller takes, in bytes.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

impl From<LineTooLong> for HttpError {
    fn from(_: LineTooLong) -> HttpError {
        HttpError::TooLong(sse::MAX_LINE_BYTES)
    }
}
