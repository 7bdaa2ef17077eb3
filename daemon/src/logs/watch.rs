//! Waiting until a file has changed.
//!
//! ```text
//! kernel ──inotify──> one task ──> a channel per watched file ──> FileWatch::changed().await
//! ```
//!
//! There is one inotify instance for the whole daemon. A watch is on the file itself, not on its name.
//! Where inotify cannot be had (its instances and watches are limited per user), files are looked
//! at every 200 ms instead.

use crate::logs::lines::Recent;
use futures_util::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How often a file is looked at without inotify.
const POLL_PERIOD: Duration = Duration::from_millis(200);

/// Makes [`FileWatch`]es. Cheap to clone; all clones share one inotify instance.
#[derive(Clone, Debug)]
pub struct Watcher {
    inotify: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    state: Arc<Mutex<State>>,
    reader: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[derive(Debug)]
struct State {
    /// `None` when inotify has failed.
    watches: Option<Watches>,
    watched: HashMap<WatchDescriptor, Watched>,
}

#[derive(Debug)]
struct Watched {
    changes: watch::Sender<()>,
    recent: Arc<Mutex<Recent>>,
    /// The kernel has one watch per file, however many of us wait for it.
    users: usize,
}

impl Watched {
    fn tell_of_users(&self) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.set_readers(self.users);
    }
}

impl Watcher {
    /// Starts watching. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start() -> Self {
        let opened = Inotify::init().and_then(|inotify| {
            let watches = inotify.watches();
            Ok((watches, inotify.into_event_stream(vec![0; 4096])?))
        });
        match opened {
            Ok((watches, events)) => {
                let state =
                    Arc::new(Mutex::new(State { watches: Some(watches), watched: HashMap::new() }));
                let reader = tokio::spawn(pass_on(events, Arc::clone(&state))).abort_handle();
                Self { inotify: Some(Arc::new(Shared { state, reader })) }
            }
            Err(error) => {
                tracing::warn!(%error, "inotify is not available: log files are polled");
                Self::polling()
            }
        }
    }

    /// A watcher without inotify.
    #[must_use]
    pub fn polling() -> Self {
        Self { inotify: None }
    }

    /// Watches an open file, from now on.
    #[must_use]
    pub fn watch(&self, file: &File) -> FileWatch {
        let by_inotify = self.inotify.as_ref().and_then(|shared| match Shared::add(shared, file) {
            Ok(subscription) => Some(subscription),
            Err(error) => {
                tracing::debug!(%error, "a log file cannot be watched and is polled");
                None
            }
        });
        FileWatch { by_inotify }
    }
}

impl Shared {
    fn add(shared: &Arc<Self>, file: &File) -> io::Result<Subscription> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        // ATTRIB: the number of links, which tells of a deletion.
        let mask = WatchMask::MODIFY | WatchMask::ATTRIB;
        let mut state = lock(&shared.state);
        let watches = state.watches.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let descriptor = watches.add(path, mask)?;
        let new = || Watched { changes: watch::Sender::new(()), recent: Arc::default(), users: 0 };
        let watched = state.watched.entry(descriptor.clone()).or_insert_with(new);
        watched.users += 1;
        watched.tell_of_users();
        let (changes, recent) = (watched.changes.subscribe(), Arc::clone(&watched.recent));
        Ok(Subscription { shared: Arc::clone(shared), descriptor, changes, recent })
    }

    fn remove(&self, descriptor: &WatchDescriptor) {
        let mut state = lock(&self.state);
        let Some(watched) = state.watched.get_mut(descriptor) else { return };
        watched.users -= 1;
        watched.tell_of_users();
        if watched.users == 0 {
            state.watched.remove(descriptor);
            // It fails when the file is gone, and then so is the kernel's watch.
            let _ = state.watches.as_mut().map(|watches| watches.remove(descriptor.clone()));
        }
    }
}

/// The state stays usable after a panic: each change to it is one call.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn pass_on(mut events: EventStream<Vec<u8>>, state: Arc<Mutex<State>>) {
    while let Some(event) = events.next().await {
        match event {
            Ok(event) if event.mask.contains(EventMask::Q_OVERFLOW) => {
                lock(&state).watched.values().for_each(|file| file.changes.send_replace(()));
            }
            Ok(event) => {
                if let Some(file) = lock(&state).watched.get(&event.wd) {
                    file.changes.send_replace(());
                }
            }
            Err(error) => {
                tracing::warn!(%error, "inotify failed: log files are polled");
                break;
            }
        }
    }
    give_up(&state);
}

/// Dropping the senders tells those who wait to look for themselves.
fn give_up(state: &Mutex<State>) {
    let mut state = lock(state);
    state.watches = None;
    state.watched.clear();
}

/// Tells when one file changes: it grew, shrank or was deleted.
#[derive(Debug)]
pub struct FileWatch {
    by_inotify: Option<Subscription>,
}

#[derive(Debug)]
struct Subscription {
    shared: Arc<Shared>,
    descriptor: WatchDescriptor,
    changes: watch::Receiver<()>,
    recent: Arc<Mutex<Recent>>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.remove(&self.descriptor);
    }
}

impl FileWatch {
    /// What was read of the file lately, shared by those who read it; `None` where nobody knows who
    /// does.
    pub fn recent(&self) -> Option<MutexGuard<'_, Recent>> {
        let recent = &self.by_inotify.as_ref()?.recent;
        Some(recent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the file has changed since the last call, or may have. A change between two calls
    /// is not missed. May be dropped and called again.
    pub async fn changed(&mut self) {
        if let Some(subscription) = &mut self.by_inotify
            && subscription.changes.changed().await.is_ok()
        {
            return;
        }
        tokio::time::sleep(POLL_PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[tokio::test]
    async fn a_change_is_told_to_everyone_who_watches_the_file() {
        for watcher in [Watcher::start(), Watcher::polling()] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let (mut one, mut two) = (watcher.watch(file.as_file()), watcher.watch(file.as_file()));
            file.write_all(b"x").unwrap();
            one.changed().await;
            two.changed().await;
            drop(one);
            file.write_all(b"y").unwrap();
            two.changed().await;
            file.close().unwrap();
            two.changed().await;
        }
    }

    #[tokio::test]
    async fn other_files_do_not_wake_it_and_nothing_is_left_behind() {
        let watcher = Watcher::start();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let other = tempfile::NamedTempFile::new().unwrap();
        let (mut watch, mut others) =
            (watcher.watch(file.as_file()), watcher.watch(other.as_file()));
        file.write_all(b"x").unwrap();
        // Events come in order: were this one told to both, the other would have it now.
        watch.changed().await;
        let changes = &mut others.by_inotify.as_mut().unwrap().changes;
        assert!(!changes.has_changed().unwrap());
        drop((watch, others));
        assert!(lock(&watcher.inotify.as_ref().unwrap().state).watched.is_empty());
    }

    #[tokio::test]
    async fn when_inotify_fails_everyone_polls() {
        let watcher = Watcher::start();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut before = watcher.watch(file.as_file());
        give_up(&watcher.inotify.as_ref().unwrap().state);
        before.changed().await;
        watcher.watch(file.as_file()).changed().await;
    }
}
