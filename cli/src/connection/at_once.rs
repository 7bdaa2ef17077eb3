//! A command that asks this machine's daemon and prints: it is carried out before there is a runtime, which
//! takes longer to build than such a command.
//!
//! ```text
//!   poll ─▶ done
//!     ╰───▶ waits for an answer ─▶ exchange with the daemon ─▶ poll …
//!     ╰───▶ waits for anything else, or for long ─▶ the same future in a runtime
//! ```
//!
//! What needs a runtime (time, signals, processes, streams) waits for [`runtime`] first.

use llamactl_protocol::client::Client;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{sleep, timeout};

/// How long a daemon may take before it is waited for with a runtime.
const PATIENCE: Duration = Duration::from_millis(100);

/// Whether there is a runtime.
fn is_in_a_runtime() -> bool {
    Handle::try_current().is_ok()
}

/// Waits until there is a runtime. Only what is polled whenever its command is may wait for that.
pub(crate) async fn runtime() {
    poll_fn(|_| if is_in_a_runtime() { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Waits so long, and for a runtime before.
pub(super) async fn pause(time: Duration) {
    runtime().await;
    sleep(time).await;
}

/// What comes of `work` before there is a runtime.
pub(super) async fn before_a_runtime<T>(mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| match is_in_a_runtime() {
        true => Poll::Ready(None),
        false => work.as_mut().poll(context).map(Some),
    })
    .await
}

/// What comes of `work` within `limit` from when there is a runtime.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    match before_a_runtime(work.as_mut()).await {
        Some(done) => Some(done),
        None => timeout(limit, work).await.ok(),
    }
}

/// The connection that is used before there is a runtime, once there is one.
#[derive(Clone, Default)]
pub(crate) struct AtOnce(Rc<RefCell<Option<Rc<Client>>>>);

/// Carries a command out, without a runtime as long as it only asks over `at_once`.
///
/// # Errors
/// A runtime is needed and cannot be made.
pub(crate) fn carry_out<T>(at_once: &AtOnce, command: impl Future<Output = T>) -> io::Result<T> {
    let mut command = pin!(command);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(done) = command.as_mut().poll(&mut context) {
            return Ok(done);
        }
        let client = at_once.0.borrow().clone();
        if !client.is_some_and(|client| client.exchange(PATIENCE)) {
            let runtime = built()?;
            let done = runtime.block_on(command);
            // A read of the terminal that still waits ends with the process.
            runtime.shutdown_background();
            return Ok(done);
        }
    }
}

/// Apart, so that a command that does without makes no room for it.
#[inline(never)]
fn built() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().enable_time().build()
}

impl AtOnce {
    /// Connects, if there is no runtime yet; `None` where there is, and where somebody listens and takes no
    /// connections.
    pub(super) fn connect(&self, path: &Path) -> Option<io::Result<UnixStream>> {
        if is_in_a_runtime() {
            return None;
        }
        match connected(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            result => Some(result),
        }
    }

    /// The connection that is used from now on.
    pub(super) fn uses(&self, client: &Rc<Client>) {
        self.0.replace(Some(Rc::clone(client)));
    }
}

fn connected(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Autostart, Reach, Silence, Told};
    use llamactl_protocol::daemon::DaemonPing;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    #[test]
    fn a_daemon_that_is_going_is_looked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = std::thread::spawn(move || {
            // It hears the hello, and ends; then nobody listens.
            let (stream, _) = listener.accept().unwrap();
            drop(listener);
            let _ = BufReader::new(stream).lines().next();
        });
        let reach = to(socket);
        let found = carry_out(&reach.at_once, reach.running()).unwrap().unwrap();
        assert!(found.is_none());
        daemon.join().unwrap();
    }

    fn to(socket: PathBuf) -> Reach {
        Reach {
            host: None,
            socket: Some(socket),
            no_autostart: true,
            silence: Silence::usual(Told::Nobody),
            at_once: AtOnce::default(),
        }
    }

    #[test]
    fn a_question_is_answered_without_a_runtime_and_what_waits_for_more_gets_one() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            // The hello may stay without an answer that can be read.
            assert!(lines.next().unwrap().unwrap().contains("daemon.hello"));
            assert!(lines.next().unwrap().unwrap().contains("daemon.ping"));
            stream
                .write_all(
                    b"{\"id\":0,\"result\":0}\n{\"id\":1,\"result\":{\"n\":1,\"at_ms\":2}}\n",
                )
                .unwrap();
        });
        let reach = to(socket);
        let asked = carry_out(&reach.at_once, async {
            let daemon = reach.daemon(Autostart::Never).await.unwrap();
            let pong = daemon.call(&DaemonPing { n: Some(1) }).await.unwrap();
            let had_one = is_in_a_runtime();
            runtime().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            (pong.n, had_one, is_in_a_runtime())
        });
        assert_eq!(asked.unwrap(), (Some(1), false, true));
        daemon.join().unwrap();
    }
}
