//! Looks after the socket while the daemon runs: what deletes it must not make the daemon
//! unreachable.
//!
//! ```text
//!   inotify on the run directory ─▶ a moment of quiet ─▶ directory, lock and node in place?
//!        ▲                                                 │ no: make them again
//!        ╰──────── watch what is there now ◀───────────────┴─▶ listener: the new socket
//! ```

use super::socket::{Place, SocketError, SocketGuard};
use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask, Watches};
use std::fs::{self, Permissions};
use std::future::pending;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Whoever deletes a directory deletes what is in it first; only then is it made again.
const SETTLE: Duration = Duration::from_millis(50);
/// How often what could not be mended is tried again, and the places are looked at where inotify
/// is not to be had.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the socket in its place.
#[derive(Debug)]
pub struct Keeper {
    /// Where it belongs.
    pub place: Place,
    /// What we hold.
    pub guard: SocketGuard,
    /// The directory of the servers' sockets, which lies in a run directory too.
    pub servers_dir: PathBuf,
    /// Where a new listener goes.
    pub renewed: mpsc::Sender<UnixListener>,
    /// The state directory, which nobody else may write to, and who is to look at it when something in it was deleted or replaced.
    pub state: (PathBuf, Arc<Notify>),
}

impl Keeper {
    /// Keeps it until `stop`; then what is held by then.
    pub async fn run(mut self, stop: CancellationToken) -> SocketGuard {
        let mut watch = Watch::start();
        let mut problem = None;
        loop {
            match self.mend().await {
                Ok(()) => problem = None,
                Err(error) => {
                    let error = error.to_string();
                    // Once, not at every try.
                    if problem.as_ref() != Some(&error) {
                        tracing::error!(error, "the daemon cannot be reached at its socket");
                        problem = Some(error);
                    }
                }
            }
            let watched =
                watch.as_mut().is_some_and(|watch| watch.renew(&self.directories(), &self.state.0));
            let retry = async {
                // Something may have gone before the watch was there.
                if watched && problem.is_none() && !self.guard.is_whole() {
                    return sleep(SETTLE).await;
                }
                match watched && problem.is_none() {
                    true => pending().await,
                    false => sleep(RETRY).await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.guard,
                () = retry => {}
                () = changed(&mut watch) => self.state.1.notify_one(),
            }
        }
    }

    /// The directories whose contents are ours to look after.
    fn directories(&self) -> [PathBuf; 3] {
        let of = |path: &Path| path.parent().unwrap_or(path).to_owned();
        [of(self.guard.path()), of(&self.servers_dir), self.state.0.clone()]
    }

    /// Makes again what is gone.
    async fn mend(&mut self) -> Result<(), SocketError> {
        if !self.guard.is_whole() {
            let listener = self.guard.renew(&self.place)?;
            let socket = self.guard.path().display();
            tracing::warn!(%socket, "the socket or its lock was removed or replaced: made again");
            if let Some(listener) = listener {
                // The other end goes when the daemon stops.
                let _ = self.renewed.send(listener).await;
            }
        }
        let mode = fs::metadata(&self.state.0).map_or(0, |facts| facts.mode());
        if mode & 0o022 != 0 {
            let path = &self.state.0;
            let closed = fs::set_permissions(path, Permissions::from_mode(0o700));
            closed.map_err(|source| SocketError::Io {
                deed: "close to others",
                path: path.clone(),
                source,
            })?;
            tracing::warn!(directory = %path.display(), "others could write to it: it is closed again");
        }
        if !self.servers_dir.is_dir() {
            let path = &self.servers_dir;
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| SocketError::Io { deed: "create", path: path.clone(), source })?;
            tracing::warn!(directory = %path.display(), "the servers' sockets were removed");
        }
        Ok(())
    }
}

/// Waits until something in a watched directory has changed, and then for a moment of quiet.
async fn changed(watch: &mut Option<Watch>) {
    let Some(events) = watch.as_mut().map(|watch| &mut watch.events) else {
        return pending().await;
    };
    if events.next().await.is_none_or(|event| event.is_err()) {
        *watch = None;
        return;
    }
    sleep(SETTLE).await;
    while let Some(Some(Ok(_))) = futures_util::FutureExt::now_or_never(events.next()) {}
}

struct Watch {
    watches: Watches,
    events: EventStream<Vec<u8>>,
}

impl Watch {
    /// `None`, with a log line, where inotify is not to be had.
    fn start() -> Option<Watch> {
        let opened = Inotify::init().and_then(|inotify| {
            let watches = inotify.watches();
            Ok(Watch { watches, events: inotify.into_event_stream(vec![0; 4096])? })
        });
        opened
            .inspect_err(|error| tracing::warn!(%error, "inotify is not available: the socket is looked at every 5 s"))
            .ok()
    }

    /// Watches these directories, which may be other ones of the same names by now. False when one
    /// cannot be watched.
    fn renew(&mut self, directories: &[PathBuf], state_dir: &Path) -> bool {
        let mask = WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        // To the watch that it has already. Who closes a file there may have written over one of ours.
        let modes =
            WatchMask::ATTRIB | WatchMask::CLOSE_WRITE | WatchMask::ONLYDIR | WatchMask::MASK_ADD;
        directories.iter().all(|directory| self.watches.add(directory, mask).is_ok())
            && self.watches.add(state_dir, modes).is_ok()
    }
}
