//! Notices that a peer is gone, also while nobody reads from it or writes to it.

use std::future::pending;
use std::io;
use std::os::fd::BorrowedFd;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Completes when the peer has closed both directions of the connection.
///
/// A peer that only finished writing is still there: it may wait for answers. The end of its
/// input does not tell the two apart; the hang-up does. It is watched on a duplicate of the
/// descriptor, because the connection's own readiness belongs to its reader and its writer.
pub(super) async fn hung_up(stream: BorrowedFd<'_>) {
    let watched = match duplicate(stream) {
        Ok(watched) => watched,
        // Out of descriptors. The next write will notice.
        Err(error) => {
            tracing::debug!(%error, "a connection cannot be watched for its end");
            return pending().await;
        }
    };
    while let Ok(ready) = watched.ready(Interest::WRITABLE).await {
        if ready.is_write_closed() {
            return;
        }
        // "Writable" is not news: forget it, so that the next wait is for a change.
        let _ = watched.try_io(Interest::WRITABLE, || -> io::Result<()> {
            Err(io::ErrorKind::WouldBlock.into())
        });
    }
    pending::<()>().await;
}

fn duplicate(stream: BorrowedFd<'_>) -> io::Result<UnixStream> {
    UnixStream::from_std(stream.try_clone_to_owned()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn half_a_close_is_not_a_hang_up() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut watch = Box::pin(hung_up(ours.as_fd()));
        theirs.write_all(b"x").await.unwrap();
        theirs.shutdown().await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(30), &mut watch).await;
        assert!(early.is_err(), "the peer still reads");
        drop(theirs);
        watch.await;
    }
}
