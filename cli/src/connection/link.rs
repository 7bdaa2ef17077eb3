//! One connection to a daemon: the hello, then whatever is asked.
//!
//! The hello goes out together with the first call, and costs no round trip of its own. A daemon
//! that does not answer it hangs; nothing waits for such a daemon longer than for its hello.

use super::command::told;
use super::silence::{Listener, Silence};
use super::{Place, Stream};
use crate::output;
use crate::remote::Host;
use llamactl_protocol::client::{CallError, Client, connect, connect_at_once};
use llamactl_protocol::daemon::{DaemonHello, Hello};
use llamactl_protocol::{Failure, Kind, PROTOCOL};
use rustix::net::sockopt::socket_peercred;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::rc::Rc;
use tokio::net::UnixStream;
use tokio::sync::Notify;

/// This program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A connection.
pub(super) struct Link {
    pub(super) client: Rc<Client>,
    pub(super) listener: Listener,
    pub(super) silence: Silence,
    hello: RefCell<Option<Hello>>,
    greeted: Cell<bool>,
    /// The hello is left out: the answer is all that may be said.
    pub(super) quiet: Cell<bool>,
    /// The hello had no answer in time: whatever else was asked will have none either.
    silent: Cell<bool>,
    found_silent: Notify,
}

impl Link {
    /// A connection over `stream`, which leads to `socket` on this machine.
    pub(super) fn over(socket: PathBuf, stream: UnixStream, silence: Silence) -> Self {
        let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
        Link::with(Listener { place: Place::Here(socket), peer }, connect(stream), silence)
    }

    /// The same before there is a runtime.
    pub(super) fn at_once(
        socket: PathBuf,
        stream: std::os::unix::net::UnixStream,
        silence: Silence,
    ) -> Self {
        let peer = socket_peercred(&stream).ok().map(|peer| peer.pid.as_raw_nonzero().get());
        let listener = Listener { place: Place::Here(socket), peer };
        Link::with(listener, connect_at_once(stream), silence)
    }

    /// A connection over `stream` to a daemon of another machine.
    pub(super) fn to_there(
        host: &Rc<Host>,
        socket: PathBuf,
        stream: Stream,
        silence: Silence,
    ) -> Self {
        let place = Place::There(Rc::clone(host), socket);
        Link::with(Listener { place, peer: None }, connect(stream), silence)
    }

    fn with(listener: Listener, client: Client, silence: Silence) -> Self {
        Link {
            client: Rc::new(client),
            listener,
            silence,
            hello: RefCell::default(),
            greeted: Cell::new(false),
            quiet: Cell::new(false),
            silent: Cell::new(false),
            found_silent: Notify::new(),
        }
    }

    /// Asks who answers, once: what was heard is kept.
    ///
    /// # Errors
    /// The daemon's; that it does not answer; that the connection ended.
    pub(super) async fn hello(&self) -> Result<Hello, CallError> {
        if let Some(hello) = self.hello.borrow().clone() {
            return Ok(hello);
        }
        self.greeted.set(true);
        let hello = self.silence.wait(&self.listener, self.say_hello()).await??;
        self.heard(hello.clone());
        Ok(hello)
    }

    async fn say_hello(&self) -> Result<Hello, CallError> {
        let hello = ours();
        match self.client.call(&hello).await {
            // A daemon of before commands were told refuses what it does not know.
            Err(CallError::Refused(failure)) if failure.kind == Kind::InvalidParams => {
                self.client.call(&DaemonHello { command: None, ..hello }).await
            }
            answer => answer,
        }
    }

    /// Runs `work` with the hello beside it, if that was not said yet, and says so when the
    /// versions differ. A hello that fails is not worth failing for: the work tells more. Where the
    /// daemon is there and the work takes long, it is said what for.
    ///
    /// # Errors
    /// That the daemon does not answer.
    pub(super) async fn greeting<F: Future>(
        &self,
        what: Option<&str>,
        work: F,
    ) -> Result<F::Output, Failure> {
        let mut work = pin!(work);
        let to_its_end = async |work: Pin<&mut F>| match what {
            Some(what) => self.silence.told_if_long(what, work).await,
            None => work.await,
        };
        if self.greeted.replace(true) || self.quiet.get() {
            let silent = || self.silence.in_vain(&self.listener);
            if self.silent.get() {
                return Err(silent());
            }
            return tokio::select! {
                biased;
                done = to_its_end(work) => Ok(done),
                () = self.found_silent.notified() => Err(silent()),
            };
        }
        let mut hello = pin!(self.silence.wait(&self.listener, self.say_hello()));
        let (answer, done) = tokio::select! {
            biased;
            answer = &mut hello => (answer, None),
            done = &mut work => (hello.await, Some(done)),
        };
        match answer {
            Ok(Ok(hello)) => self.heard(hello),
            Ok(Err(_)) => {}
            Err(_) if done.is_some() => {}
            Err(silent) => {
                self.silent.set(true);
                self.found_silent.notify_waiters();
                return Err(silent);
            }
        }
        match done {
            Some(done) => Ok(done),
            None => Ok(to_its_end(work).await),
        }
    }

    fn heard(&self, hello: Hello) {
        let differs = hello.version != VERSION || hello.protocol != PROTOCOL;
        if differs && !self.quiet.get() {
            let theirs = &hello.version;
            output::note(match &self.listener.place {
                Place::Here(_) => format!(
                    "this is llamactl {VERSION}, the daemon is llamactld {theirs}; bring them together: \
                     llamactl daemon restart"
                ),
                Place::There(host, _) => format!(
                    "this is llamactl {VERSION}, the daemon on {} is llamactld {theirs}",
                    host.name
                ),
            });
        }
        self.hello.replace(Some(hello));
    }
}

/// What this program says of itself.
pub(super) fn ours() -> DaemonHello {
    DaemonHello {
        client_version: Some(VERSION.into()),
        protocol: Some(PROTOCOL),
        command: Some(told(std::env::args_os()).into()),
    }
}
