//! Where a daemon's connections are made: at a socket here, or through ssh at one there.

use super::silence::Silence;
use super::{nobody_listens, not_connected};
use crate::remote::{self, Host};
use llamactl_protocol::client::CallError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a connection is made of: a socket, or the pipes of an ssh.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A connection.
pub(crate) type Stream = Box<dyn Duplex>;

/// Where connections are made.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A socket of this machine.
    Here(PathBuf),
    /// A socket of another machine.
    There(Rc<Host>, PathBuf),
}

impl Place {
    /// The socket's path, on whichever machine.
    pub(crate) fn socket(&self) -> &Path {
        match self {
            Place::Here(socket) | Place::There(_, socket) => socket,
        }
    }

    /// Another connection to the daemon there, which is not started.
    ///
    /// # Errors
    /// That nobody listens, as a connection that has read nothing; why else there is none.
    pub(super) async fn open(&self, silence: &Silence) -> Result<Stream, CallError> {
        match self {
            Place::Here(socket) => match silence.connect(socket).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) if nobody_listens(&error) => Err(CallError::Closed { unread: true }),
                Err(error) => Err(not_connected(silence, socket, error).into()),
            },
            Place::There(host, socket) => {
                let words = ["--no-autostart", "connect", "--stdio", "--until-eof"];
                let words = words.into_iter().map(Into::into);
                let named = ["--socket".into(), socket.clone().into_os_string()];
                let (stream, _) = remote::open(host, words.chain(named)).await?;
                Ok(stream)
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Here(socket) => write!(f, "at {}", socket.display()),
            Place::There(host, _) => write!(f, "on {}", host.name),
        }
    }
}
