//! Noticing that the reader of stdout has gone, before there is anything to write.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::future::pending;
use std::io::stdout;

/// Until the reader of stdout has gone; of a file nobody ever goes.
pub(crate) async fn reader_gone() {
    // On a thread: the runtime would have to own stdout to watch it. It ends with the process.
    let watching = tokio::task::spawn_blocking(|| {
        let stdout = stdout();
        // Nothing is asked for: an error and a hangup are told all the same.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        loop {
            match poll(&mut watched, None) {
                Err(Errno::INTR) => {}
                Err(_) => return false,
                Ok(_) => return true,
            }
        }
    });
    match watching.await {
        Ok(true) => {}
        _ => pending().await,
    }
}
