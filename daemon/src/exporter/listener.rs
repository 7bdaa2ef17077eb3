//! Where readers connect.

use crate::rpc::{group_id, socket};
use llamactl_protocol::daemon::MetricsAddress;
use std::fs::{self, Permissions};
use std::future::pending;
use std::io;
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

/// What listens there.
pub(super) enum Listener {
    Tcp(TcpListener),
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
                let gid = access.group.as_deref().map(group_id).transpose();
                let gid = gid.map_err(|failure| failure.message)?;
                let place = socket::Place::Given(path.clone());
                let bound = socket::bind(&place).map_err(|error| error.to_string())?;
                let socket::Bound { listener, guard } = bound;
                let opened = gid.map_or(Ok(()), |gid| open_to(path, gid));
                let ready = opened.and_then(|()| {
                    listener.set_nonblocking(true)?;
                    UnixListener::from_std(listener)
                });
                match ready {
                    Ok(listener) => Ok(Listener::Socket(listener, Some(guard))),
                    Err(error) => {
                        // What nobody may connect to shall not lie there.
                        let _ = guard.release();
                        Err(error.to_string())
                    }
                }
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

/// Lets the members of a group connect. Nobody else can replace what lies there: `bind` has seen to that.
fn open_to(path: &Path, gid: u32) -> io::Result<()> {
    chown(path, None, Some(gid))?;
    fs::set_permissions(path, Permissions::from_mode(0o660))
}
