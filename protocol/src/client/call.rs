//! Typed calls.

use super::transport::{LineReceiver, LineSender};
use crate::{Failure, Kind, Method};
use jsonrpsee::core::client::{ClientT as _, Error as ClientError};
use jsonrpsee::core::traits::ToRpcParams;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, split};

/// A connection for typed calls. Clones share it.
///
/// Calls made without awaiting the one before are sent in the order they were first polled, so
/// `join!(client.call(hello), client.call(list))` costs one round trip.
pub struct Client(jsonrpsee::async_client::Client);

/// A client over `stream`. Must be called inside a tokio runtime.
pub fn connect<S>(stream: S) -> Client
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = split(stream);
    Client(
        jsonrpsee::async_client::ClientBuilder::default()
            // Starting a model, adding a file on a slow disk: the daemon answers when it is done,
            // and how long to wait is the caller's decision.
            .request_timeout(Duration::from_secs(24 * 3600))
            .build_with_tokio(LineSender(write), LineReceiver::new(read)),
    )
}

impl Client {
    /// Calls a method.
    ///
    /// # Errors
    /// The daemon's own failure; [`Kind::DaemonUnreachable`] when the connection ended first;
    /// [`Kind::Internal`] when the answer cannot be read.
    pub async fn call<M: Method>(&self, params: &M) -> Result<M::Output, Failure> {
        self.0.request(M::NAME, ByName(params)).await.map_err(|error| failure(M::NAME, error))
    }

    /// Calls a method by name with any parameters; the answer as it came.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_raw(
        &self,
        method: &str,
        params: &serde_json::Value,
    ) -> Result<serde_json::Value, Failure> {
        self.0.request(method, ByName(params)).await.map_err(|error| failure(method, error))
    }
}

struct ByName<'a, T>(&'a T);

impl<T: Serialize> ToRpcParams for ByName<'_, T> {
    fn to_rpc_params(self) -> Result<Option<Box<RawValue>>, serde_json::Error> {
        to_raw_value(self.0).map(Some)
    }
}

fn failure(method: &str, error: ClientError) -> Failure {
    match error {
        ClientError::Call(error) => {
            from_error_object(method, error.code(), error.message(), error.data())
        }
        ClientError::RestartNeeded(_) | ClientError::Transport(_) => Failure::new(
            Kind::DaemonUnreachable,
            "the daemon closed the connection before it answered",
        )
        .hint("it may have been stopped: see llamactl daemon status"),
        ClientError::RequestTimeout => Failure::new(Kind::TimedOut, "the daemon did not answer"),
        other => Failure::new(
            Kind::Internal,
            format!("the daemon's answer to {method} could not be read: {other}"),
        )
        .hint("llamactl and llamactld may be of different versions: see llamactl version"),
    }
}

/// The failure inside a JSON-RPC error object. Ours carry it in `data`; the wire's own errors are
/// told by their code.
pub(super) fn from_error_object(
    method: &str,
    code: i32,
    message: &str,
    data: Option<&RawValue>,
) -> Failure {
    #[derive(serde::Deserialize)]
    struct Data {
        kind: Kind,
        hint: Option<String>,
        details: Option<serde_json::Value>,
    }
    let data = data.and_then(|data| serde_json::from_str::<Data>(data.get()).ok());
    match data {
        Some(Data { kind, hint, details }) => {
            Failure { kind, message: message.to_owned(), hint, details }
        }
        None => {
            let kind = Kind::from_code(code);
            let message = match kind {
                Kind::UnknownMethod => format!("the daemon has no method {method}"),
                _ => message.to_owned(),
            };
            Failure::new(kind, message)
        }
    }
}
