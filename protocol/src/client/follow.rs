//! One stream, read line by line.

use super::call::{CallError, is_reset, versions_differ};
use super::refusal::ErrorObject;
use crate::{Failure, Item, Kind, MAX_MESSAGE_BYTES, Subscription};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::io;
use std::marker::PhantomData;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

/// A stream being followed. Dropping it closes its connection, which ends the subscription.
pub struct Follow<S: Subscription, T> {
    items: Items<T>,
    item: PhantomData<fn() -> S>,
}

/// Opens a stream on a connection of its own.
///
/// # Errors
/// As [`follow_raw`].
pub async fn follow<S, T>(stream: T, params: &S) -> Result<Follow<S, T>, CallError>
where
    S: Subscription,
    T: AsyncRead + AsyncWrite,
{
    let items = follow_raw(stream, S::NAME, params).await?;
    Ok(Follow { items, item: PhantomData })
}

impl<S, T> Follow<S, T>
where
    S: Subscription,
    T: AsyncRead + AsyncWrite,
{
    /// The next item; `None` when the daemon went away without saying `end`.
    ///
    /// # Errors
    /// [`Kind::Internal`] when a line cannot be read as an item of this stream.
    pub async fn next(&mut self) -> Result<Option<Item<S::Item>>, Failure> {
        let Some(item) = self.items.next().await? else { return Ok(None) };
        serde_json::from_str(item.get()).map(Some).map_err(|_| unreadable(S::NAME))
    }

    /// The next item as JSON, unread: for passing on.
    ///
    /// # Errors
    /// As [`Follow::next`].
    pub async fn next_raw(&mut self) -> Result<Option<Box<RawValue>>, Failure> {
        self.items.next().await
    }
}

/// The items of a stream whose type is not known.
pub struct Items<T> {
    name: String,
    lines: FramedRead<ReadHalf<T>, LinesCodec>,
    // Half-closing would be harmless, but some peers read it as "going away".
    _write: WriteHalf<T>,
}

/// Opens any stream by its name, on a connection of its own.
///
/// # Errors
/// The daemon's refusal, or [`CallError::Closed`] when the connection ended first.
pub async fn follow_raw<T>(
    stream: T,
    name: &str,
    params: &impl Serialize,
) -> Result<Items<T>, CallError>
where
    T: AsyncRead + AsyncWrite,
{
    let (read, mut write) = split(stream);
    let request = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": name, "params": params,
    });
    let sent = write.write_all(format!("{request}\n").as_bytes()).await;
    sent.map_err(|_| CallError::Closed { unread: true })?;
    let mut items = Items {
        name: name.to_owned(),
        lines: FramedRead::new(read, LinesCodec::new_with_max_length(MAX_MESSAGE_BYTES)),
        _write: write,
    };
    let reply = items.line().await?.ok_or(CallError::Closed { unread: false })?;
    let reply: Reply<'_> = serde_json::from_str(&reply).map_err(|_| unreadable(name))?;
    match reply.error {
        Some(error) => Err(error.failure().into()),
        None => Ok(items),
    }
}

impl<T: AsyncRead + AsyncWrite> Items<T> {
    /// The next item; `None` when the daemon went away.
    ///
    /// # Errors
    /// [`Kind::Internal`] when a line cannot be read.
    pub async fn next(&mut self) -> Result<Option<Box<RawValue>>, Failure> {
        while let Some(line) = self.line().await? {
            let message: Notification<'_> =
                serde_json::from_str(&line).map_err(|_| unreadable(&self.name))?;
            if message.method.is_some()
                && let Some(params) = message.params
            {
                return Ok(Some(params.result.to_owned()));
            }
        }
        Ok(None)
    }

    async fn line(&mut self) -> Result<Option<String>, CallError> {
        match self.lines.next().await.transpose() {
            Ok(line) => Ok(line),
            Err(LinesCodecError::MaxLineLengthExceeded) => Err(unreadable(&self.name).into()),
            Err(LinesCodecError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(unreadable(&self.name).into())
            }
            // The request is the last that was sent.
            Err(error) => Err(CallError::Closed { unread: is_reset(&error) }),
        }
    }
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    error: Option<ErrorObject<'a>>,
}

#[derive(Deserialize)]
struct Notification<'a> {
    method: Option<String>,
    #[serde(borrow)]
    params: Option<NotificationParams<'a>>,
}

#[derive(Deserialize)]
struct NotificationParams<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
}

fn unreadable(name: &str) -> Failure {
    Failure::new(Kind::Internal, format!("an item of {name} could not be read"))
        .hint(versions_differ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hint;
    use crate::metrics::MetricsFollow;

    #[tokio::test]
    async fn a_refusal_is_the_daemons_own() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs
            .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32006,\"message\":\"m\",\"data\":{\"kind\":\"too_many_subscriptions\",\"hint\":\"h\"}}}\n")
            .await
            .unwrap();
        let refused = Failure::from(follow(ours, &MetricsFollow::default()).await.err().unwrap());
        assert_eq!(
            (refused.kind, refused.hints),
            (Kind::TooManySubscriptions, Hint::to("h").into())
        );
    }

    #[tokio::test]
    async fn a_closed_connection_ends_without_an_item() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":7}\n").await.unwrap();
        let mut follow = follow(ours, &MetricsFollow::default()).await.unwrap();
        drop(theirs);
        assert!(follow.next().await.unwrap().is_none());
    }
}
