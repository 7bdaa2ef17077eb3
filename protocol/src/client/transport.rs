//! JSON-RPC over a byte stream for jsonrpsee's client: one JSON text per line, both ways.

use crate::MAX_MESSAGE_BYTES;
use futures_util::StreamExt as _;
use jsonrpsee::core::client::{ReceivedMessage, TransportReceiverT, TransportSenderT};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    #[error("the daemon closed the connection")]
    Closed,
    #[error("the daemon sent a line that is too long or not text")]
    Read(#[source] LinesCodecError),
    #[error("the connection to the daemon broke")]
    Write(#[source] io::Error),
}

pub(super) struct LineSender<W>(pub(super) W);

impl<W: AsyncWrite + Unpin + Send + 'static> TransportSenderT for LineSender<W> {
    type Error = TransportError;

    async fn send(&mut self, mut message: String) -> Result<(), TransportError> {
        message.push('\n');
        self.0.write_all(message.as_bytes()).await.map_err(TransportError::Write)
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        self.0.shutdown().await.map_err(TransportError::Write)
    }
}

pub(super) struct LineReceiver<R>(FramedRead<R, LinesCodec>);

impl<R: AsyncRead> LineReceiver<R> {
    pub(super) fn new(read: R) -> Self {
        LineReceiver(FramedRead::new(read, LinesCodec::new_with_max_length(MAX_MESSAGE_BYTES)))
    }
}

impl<R: AsyncRead + Unpin + Send + 'static> TransportReceiverT for LineReceiver<R> {
    type Error = TransportError;

    async fn receive(&mut self) -> Result<ReceivedMessage, TransportError> {
        match self.0.next().await {
            Some(line) => Ok(ReceivedMessage::Text(line.map_err(TransportError::Read)?)),
            None => Err(TransportError::Closed),
        }
    }
}
