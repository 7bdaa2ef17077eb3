//! Where readers connect.

use crate::os::descriptors::path_of;
use crate::rpc::{group_id, socket};
use llamactl_protocol::daemon::MetricsAddress;
use llamactl_protocol::place::locked_by;
use std::fs::{self, Permissions};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// How often it is looked at whether the socket is in its place.
const LOOK: Duration = Duration::from_secs(60);

/// Where metrics may be read, and by whom.
#[derive(Clone, Debug)]
pub struct Access {
    /// Where.
    pub address: MetricsAddress,
    /// The name of the group whose members may connect to the socket; `None`: its owner alone.
    pub group: Option<String>,
}

/// A reader.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What one program of the daemon leaves to the next, so that no reader is refused. `D` is a descriptor: its
/// number as it was written, or the open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left<D> {
    /// What listens.
    pub listener: D,
    /// Of a socket: the file that its lock is on, device and inode of its node.
    pub held: Option<(D, (u64, u64))>,
}

/// What listens there.
pub enum Listener {
    /// At a port.
    Tcp(TcpListener),
    /// At a socket, which is removed with this.
    Socket(UnixListener, Option<socket::SocketGuard>),
}

impl Listener {
    /// Listens; why that cannot be, in words. It may wait for a moment: another daemon may be about to say
    /// who it is.
    pub(super) fn bind(access: &Access) -> Result<Listener, String> {
        match &access.address {
            MetricsAddress::Tcp(address) => {
                // Bound by std, which sets SO_REUSEADDR: who read before leaves the port behind.
                let listener = std::net::TcpListener::bind(address).map_err(|it| it.to_string())?;
                let ready =
                    listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
                ready.map(Listener::Tcp).map_err(|it| it.to_string())
            }
            MetricsAddress::Socket(path) => {
                let place = socket::Place::Given(path.clone());
                let bound = socket::bind(&place).map_err(|error| error.to_string())?;
                let listener = Listener::of(bound).map_err(|error| error.to_string())?;
                open_to(path, access.group.as_deref())?;
                Ok(listener)
            }
        }
    }

    fn of(bound: socket::Bound) -> io::Result<Listener> {
        let socket::Bound { listener, guard } = bound;
        let ready = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
        match ready {
            Ok(listener) => Ok(Listener::Socket(listener, Some(guard))),
            Err(error) => {
                // What nobody may connect to shall not lie there.
                let _ = guard.release();
                Err(error)
            }
        }
    }

    /// Takes what the program before left. Nothing where it is not what it was said to be: then it is
    /// bound anew.
    #[must_use]
    pub fn take(left: Left<OwnedFd>) -> Option<Listener> {
        let taken = match left.held {
            None => {
                let listener = std::net::TcpListener::from(left.listener);
                listener.set_nonblocking(true).ok()?;
                TcpListener::from_std(listener).map(Listener::Tcp)
            }
            Some((lock, node)) => {
                // Its own name may be one that it was made with and has no more.
                let place = socket::Place::Given(locked_by(&path_of(&lock)?)?);
                Listener::of(socket::inherit(&place, left.listener, lock, node, false).ok()?)
            }
        };
        taken.ok()
    }

    /// This, if it listens where that is wanted now, for those who may read there now. What listens
    /// elsewhere is closed.
    pub(super) fn at(self, access: &Access) -> Option<Listener> {
        let is_there = match (&self, &access.address) {
            (Listener::Tcp(listener), MetricsAddress::Tcp(address)) => {
                listener.local_addr().is_ok_and(|it: SocketAddr| it == *address)
            }
            (Listener::Socket(_, Some(guard)), MetricsAddress::Socket(path)) => {
                guard.path() == path && open_to(path, access.group.as_deref()).is_ok()
            }
            _ => false,
        };
        is_there.then_some(self)
    }

    /// Leaves it to the next program.
    ///
    /// # Errors
    /// As the system says.
    pub fn leave(mut self) -> io::Result<Left<OwnedFd>> {
        match &mut self {
            Listener::Tcp(listener) => Ok(Left { listener: socket_of(listener)?, held: None }),
            Listener::Socket(listener, guard) => {
                let listener = socket_of(listener)?;
                // Taken, so that its node is not removed.
                let guard = guard.take().ok_or(io::ErrorKind::NotFound)?;
                let (_, lock, node) = guard.for_handover().ok_or(io::ErrorKind::NotFound)?;
                Ok(Left { listener, held: Some((lock.try_clone_to_owned()?, node)) })
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
            Listener::Socket(listener, _) => Box::new(listener.accept().await?.0),
        })
    }

    /// Comes back when the socket is in its place no more.
    pub(super) async fn lost(&self) {
        let Listener::Socket(_, Some(guard)) = self else { return pending().await };
        while guard.is_whole() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Socket(_, guard) = self
            && let Some(guard) = guard.take()
            && let Err(error) = guard.release()
        {
            tracing::debug!(%error, "the socket of metrics stays behind");
        }
    }
}

fn socket_of(listener: &impl AsFd) -> io::Result<OwnedFd> {
    listener.as_fd().try_clone_to_owned()
}

/// Lets the members of a group connect, or its owner alone; why that cannot be. Nobody else can replace what
/// lies there: `bind` has seen to that.
fn open_to(path: &Path, group: Option<&str>) -> Result<(), String> {
    let gid = group.map(group_id).transpose().map_err(|failure| failure.message)?;
    let opened = match gid {
        Some(gid) => chown(path, None, Some(gid)).map(|()| 0o660),
        None => Ok(0o600),
    };
    let set = opened.and_then(|mode| fs::set_permissions(path, Permissions::from_mode(mode)));
    set.map_err(|error| error.to_string())
}
