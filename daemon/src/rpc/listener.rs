//! Accepts connections, turns away what is too much, and stops in order.
//!
//! ```text
//!   accept ──▶ who? ──▶ one more? ──▶ task per connection
//!               ╰─────────┴──▶ one line that says why not, closed unread
//!
//!   stop: no more accepting and reading ─▶ calls finish, streams end, queues flush ─▶ cut off
//! ```

use super::answer::refusal_line;
use super::budget::Census;
use super::connection;
use super::counters::Counters;
use super::hangup::hung_up;
use super::limits::Limits;
use super::peer::Authority;
use super::service::Routes;
use super::session::Signals;
use llamactl_protocol::{Failure, Kind};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The first pause after an `accept` that failed, and the longest.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a connection that is turned away stays open, so that its peer can read why; and how
/// many may at a time.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGERING: usize = 16;

/// What a listener serves, to whom, and within what bounds.
pub struct Server {
    /// The table of methods and streams that a connection may call.
    pub routes: Arc<Routes>,
    /// Who may connect.
    pub authority: Authority,
    /// How much one connection, and all of them, may cost.
    pub limits: Limits,
    /// Where it counts.
    pub counters: Arc<Counters>,
}

impl Server {
    /// Serves `listener`, and in its place each that comes from `renewed`, until `stop`; then lets running calls finish, ends the streams and flushes what is
    /// queued, within [`Limits::stop_deadline`]; what is left then is cut off. Returns when every
    /// connection is closed.
    ///
    /// # Errors
    /// The listener cannot be used at all. A failing `accept` is not an error: it is tried again.
    pub async fn serve(
        self,
        listener: StdListener,
        renewed: mpsc::Receiver<StdListener>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let listener = asynchronous(listener)?;
        let stop_deadline = self.limits.stop_deadline;
        let (abort, connections) = (CancellationToken::new(), TaskTracker::new());
        let accepting = Accepting {
            routes: self.routes,
            authority: self.authority,
            limits: self.limits,
            counters: self.counters,
            census: Census::new(),
            connections: connections.clone(),
            lingering: Arc::new(Semaphore::new(MAX_LINGERING)),
            stop: stop.clone(),
            abort: abort.clone(),
        };
        // The listener is dropped with this: whoever connects from here on finds nobody, and may
        // look for the next daemon. Unless somebody keeps another handle on it.
        stop.run_until_cancelled(accepting.run(listener, renewed)).await;
        connections.close();
        if timeout(stop_deadline, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "connections are cut off");
            abort.cancel();
            connections.wait().await;
        }
        Ok(())
    }
}

fn asynchronous(listener: StdListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

struct Accepting {
    routes: Arc<Routes>,
    authority: Authority,
    limits: Limits,
    counters: Arc<Counters>,
    census: Arc<Census>,
    connections: TaskTracker,
    lingering: Arc<Semaphore>,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl Accepting {
    async fn run(&self, mut listener: UnixListener, mut renewed: mpsc::Receiver<StdListener>) {
        let mut spare = Spare::new();
        let mut pause = PAUSE;
        loop {
            let accepted = tokio::select! {
                biased;
                Some(next) = renewed.recv() => {
                    match asynchronous(next) {
                        Ok(next) => self.change(&mut listener, next),
                        Err(error) => tracing::error!(%error, "the new socket cannot be used"),
                    }
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    pause = PAUSE;
                    self.admit(stream);
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    if spare.release() {
                        // With the spare's descriptor the one at the door can be told. It is
                        // there already, so this accept does not wait.
                        let told = timeout(PAUSE, listener.accept()).await;
                        if let Ok(Ok((stream, _))) = told {
                            self.counters.connection_refused();
                            say(&stream, &out_of_descriptors());
                        }
                    }
                    sleep(pause).await;
                    spare.renew();
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Goes over to another listener. Those who wait at the old one are let in first.
    fn change(&self, listener: &mut UnixListener, next: UnixListener) {
        // Asked directly: the runtime may not have heard of them yet.
        let Ok(old) = std::mem::replace(listener, next).into_std() else { return };
        while let Ok((stream, _)) = old.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
            match stream {
                Ok(stream) => self.admit(stream),
                Err(error) => tracing::warn!(%error, "a connection cannot be served"),
            }
        }
    }

    /// Starts serving a connection, or turns it away.
    fn admit(&self, stream: UnixStream) {
        let admitted = self.authority.admit(&stream).and_then(|peer| {
            let budget = self.census.enter(peer.uid, &self.limits)?;
            Ok((peer, budget))
        });
        let (peer, budget) = match admitted {
            Ok(admitted) => admitted,
            Err(failure) => return self.turn_away(stream, &failure),
        };
        self.counters.connection_opened();
        let signals = Signals::new(self.stop.clone(), self.abort.child_token());
        let (routes, counters) = (Arc::clone(&self.routes), Arc::clone(&self.counters));
        let limits = self.limits;
        self.connections.spawn(async move {
            let _open = Open(Arc::clone(&counters));
            connection::serve(stream, peer, routes, limits, budget, counters, signals).await;
        });
    }

    /// Says why not, and closes. Nothing of what the peer sent is read.
    fn turn_away(&self, stream: UnixStream, failure: &Failure) {
        self.counters.connection_refused();
        tracing::debug!(why = failure.message, "a connection is refused");
        say(&stream, failure);
        // Closed at once, a peer that writes before it reads would see a broken pipe and not the
        // reason. A few may have a moment; in a flood the others are closed at once.
        if let Ok(permit) = Arc::clone(&self.lingering).try_acquire_owned() {
            let stop = self.stop.clone();
            self.connections.spawn(async move {
                let left = timeout(LINGER, hung_up(stream.as_fd()));
                stop.run_until_cancelled(left).await;
                drop(permit);
            });
        }
    }
}

/// Writes the reason and ends the writing direction. Best effort: a fresh connection has room.
fn say(stream: &UnixStream, failure: &Failure) {
    let mut line = refusal_line(failure, usize::MAX);
    line.push('\n');
    let said = stream.try_write(line.as_bytes());
    let ended = rustix::net::shutdown(stream, rustix::net::Shutdown::Write);
    if let (Err(error), _) | (_, Err(error)) = (said, ended.map_err(io::Error::from)) {
        tracing::debug!(%error, "a refused peer did not wait for the reason");
    }
}

fn out_of_descriptors() -> Failure {
    Failure::new(Kind::TooManyConnections, "the daemon has no file descriptor left")
        .hint("raise its limit of open files, or close connections")
}

/// Failures of `accept` that mean the peer gave up, not that we lack something.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// A descriptor held back, so that when there are none a peer can still be told.
struct Spare(Option<File>);

impl Spare {
    fn new() -> Self {
        let mut spare = Spare(None);
        spare.renew();
        spare
    }

    /// Frees the descriptor. False when there is none to free.
    fn release(&mut self) -> bool {
        self.0.take().is_some()
    }

    fn renew(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }
}

/// Counts a connection as open until it is dropped.
struct Open(Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}
