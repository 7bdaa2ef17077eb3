//! A connection to a daemon: the hello, calls, streams.
//!
//! The hello goes out together with the first call, and costs no round trip of its own. A daemon
//! that does not answer it hangs; nothing waits for such a daemon longer than for its hello.

use super::choose::{Tried, unreachable};
use super::command::told;
use super::probe;
use crate::output;
use llamactl_protocol::client::{Client, Follow, Items, connect, follow, follow_raw};
use llamactl_protocol::daemon::{DaemonHello, Hello};
use llamactl_protocol::{Failure, Kind, Method, PROTOCOL, Subscription};
use serde_json::json;
use std::cell::Cell;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long the daemon may take to say hello. It does nothing for it, so a daemon that does not
/// answer by then hangs.
const HELLO_LIMIT: Duration = Duration::from_secs(15);
/// This program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A connection to the daemon.
pub(crate) struct Daemon {
    /// The socket it was reached by.
    pub(crate) socket: PathBuf,
    client: Client,
    hello: Cell<Option<Hello>>,
    greeted: Cell<bool>,
    patience: Duration,
    /// The hello had no answer in time: whatever else was asked will have none either.
    hangs: Cell<bool>,
    found_to_hang: Notify,
}

impl Daemon {
    /// A connection over `stream`, which leads to `socket`.
    pub(super) fn over(socket: PathBuf, stream: UnixStream) -> Self {
        Daemon {
            socket,
            client: connect(stream),
            hello: Cell::new(None),
            greeted: Cell::new(false),
            patience: HELLO_LIMIT,
            hangs: Cell::new(false),
            found_to_hang: Notify::new(),
        }
    }

    /// Calls a method; the first time together with the hello.
    ///
    /// # Errors
    /// The daemon's, or [`Kind::DaemonUnreachable`].
    pub(crate) async fn call<M: Method>(&self, params: &M) -> Result<M::Output, Failure> {
        self.greeting(self.client.call(params)).await?
    }

    /// Calls a method by name.
    ///
    /// # Errors
    /// As [`Daemon::call`].
    pub(crate) async fn call_raw(
        &self,
        method: &str,
        params: &serde_json::Value,
    ) -> Result<serde_json::Value, Failure> {
        self.greeting(self.client.call_raw(method, params)).await?
    }

    /// Opens a stream, on a connection of its own.
    ///
    /// # Errors
    /// As [`Daemon::call`].
    pub(crate) async fn follow<S: Subscription>(
        &self,
        params: &S,
    ) -> Result<Follow<S, UnixStream>, Failure> {
        self.greeting(async { follow(self.introduced().await?, params).await }).await?
    }

    /// Follows a stream by its name, on a connection of its own.
    ///
    /// # Errors
    /// The daemon's refusal; as [`Daemon::call`].
    pub(crate) async fn follow_raw(
        &self,
        name: &str,
        params: &serde_json::Value,
    ) -> Result<Items<UnixStream>, Failure> {
        self.greeting(async { follow_raw(self.introduced().await?, name, params).await }).await?
    }

    /// A second connection that knows which command asks. The hello is a notification: the first
    /// connection's has the answer.
    async fn introduced(&self) -> Result<UnixStream, Failure> {
        let mut stream = self.another().await?;
        let hello = json!({ "jsonrpc": "2.0", "method": DaemonHello::NAME, "params": ours() });
        // A connection that broke off is told by what is asked next.
        let _ = stream.write_all(format!("{hello}\n").as_bytes()).await;
        Ok(stream)
    }

    /// A second connection.
    ///
    /// # Errors
    /// [`Kind::DaemonUnreachable`].
    pub(crate) async fn another(&self) -> Result<UnixStream, Failure> {
        probe(&self.socket).await.map_err(|error| unreachable(&[Tried::new(&self.socket, error)]))
    }

    /// A connection of its own to whoever listens there now, as one that was made first.
    ///
    /// # Errors
    /// [`Kind::DaemonUnreachable`].
    pub(crate) async fn again(&self) -> Result<Daemon, Failure> {
        let daemon = Daemon::over(self.socket.clone(), self.another().await?);
        daemon.quietly();
        Ok(daemon)
    }

    /// Asks who answers, once: what was heard is kept.
    ///
    /// # Errors
    /// As [`Daemon::call`].
    pub(crate) async fn hello(&self) -> Result<Hello, Failure> {
        self.greeting(async {}).await?;
        match self.hello.take() {
            Some(hello) => {
                self.hello.set(Some(hello.clone()));
                Ok(hello)
            }
            None => {
                timeout(self.patience, self.say_hello()).await.unwrap_or_else(|_| Err(self.hung()))
            }
        }
    }

    async fn say_hello(&self) -> Result<Hello, Failure> {
        let hello = ours();
        match self.client.call(&hello).await {
            // A daemon of before commands were told refuses what it does not know.
            Err(failure) if failure.kind == Kind::InvalidParams => {
                self.client.call(&DaemonHello { command: None, ..hello }).await
            }
            answer => answer,
        }
    }

    /// Leaves the hello out: for questions whose answer is all that may be said.
    pub(crate) fn quietly(&self) {
        self.greeted.set(true);
    }

    /// Runs `work` with the hello beside it, if that was not said yet, and says so when the
    /// versions differ. A hello that fails is not worth failing for: the work tells more.
    ///
    /// # Errors
    /// [`Kind::DaemonUnreachable`] when the daemon hangs.
    pub(crate) async fn greeting<F: Future>(&self, work: F) -> Result<F::Output, Failure> {
        let mut work = pin!(work);
        if self.greeted.replace(true) {
            if self.hangs.get() {
                return Err(self.hung());
            }
            return tokio::select! {
                biased;
                done = work => Ok(done),
                () = self.found_to_hang.notified() => Err(self.hung()),
            };
        }
        let mut hello = pin!(timeout(self.patience, self.say_hello()));
        let (answer, done) = tokio::select! {
            biased;
            answer = &mut hello => (answer, None),
            done = &mut work => (hello.await, Some(done)),
        };
        match answer {
            Ok(Ok(hello)) => self.heard(hello),
            Ok(Err(_)) => {}
            Err(_) if done.is_some() => {}
            Err(_) => {
                self.hangs.set(true);
                self.found_to_hang.notify_waiters();
                return Err(self.hung());
            }
        }
        match done {
            Some(done) => Ok(done),
            None => Ok(work.await),
        }
    }

    fn hung(&self) -> Failure {
        Failure::new(
            Kind::DaemonUnreachable,
            format!(
                "the daemon at {} takes connections but does not answer",
                self.socket.display()
            ),
        )
        .hint("it may hang or be suspended; its servers are not affected")
    }

    fn heard(&self, hello: Hello) {
        if hello.version != VERSION || hello.protocol != PROTOCOL {
            output::note(format!(
                "this is llamactl {VERSION}, the daemon is llamactld {}: llamactl daemon restart \
                 brings them together",
                hello.version
            ));
        }
        self.hello.set(Some(hello));
    }
}

fn ours() -> DaemonHello {
    DaemonHello {
        client_version: Some(VERSION.to_owned()),
        protocol: Some(PROTOCOL),
        command: Some(told(std::env::args_os())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::daemon::DaemonPing;
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    #[tokio::test]
    async fn hello_and_the_first_call_are_one_round_trip() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let daemon = Daemon::over("/x".into(), ours);
        let server = async {
            let (read, mut write) = theirs.into_split();
            let mut lines = BufReader::new(read).lines();
            // Both are here before either is answered.
            let hello: serde_json::Value =
                serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
            let ping: serde_json::Value =
                serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
            assert_eq!(hello["method"], "daemon.hello");
            assert_eq!(ping["method"], "daemon.ping");
            for (id, result) in [
                (&ping["id"], serde_json::json!({ "n": 1, "at_ms": 2 })),
                (
                    &hello["id"],
                    serde_json::json!({ "version": VERSION, "protocol": PROTOCOL, "pid": 7,
                        "uid": 0, "started_at_ms": 1, "state_dir": "/s", "registry_id": "r",
                        "access": "admin", "capabilities": [] }),
                ),
            ] {
                let reply = serde_json::json!({ "jsonrpc": "2.0", "id": id, "result": result });
                write.write_all(format!("{reply}\n").as_bytes()).await.unwrap();
            }
            (lines, write)
        };
        let (pong, _open) = tokio::join!(daemon.call(&DaemonPing { n: Some(1) }), server);
        assert_eq!(pong.unwrap().n, Some(1));
        assert_eq!(daemon.hello().await.unwrap().pid, 7);
    }

    #[tokio::test]
    async fn a_daemon_that_hangs_is_found_out_by_all_calls() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut daemon = Daemon::over("/x".into(), ours);
        daemon.patience = Duration::from_millis(10);
        let (first, second) = (DaemonPing { n: Some(1) }, DaemonPing { n: Some(2) });
        let (first, second) = tokio::join!(daemon.call(&first), daemon.call(&second));
        let third = daemon.call(&DaemonPing::default()).await;
        for answer in [first, second, third] {
            assert_eq!(answer.unwrap_err().kind, Kind::DaemonUnreachable);
        }
    }

    #[tokio::test]
    async fn a_daemon_that_goes_away_is_unreachable() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let daemon = Daemon::over("/x".into(), ours);
        drop(theirs);
        let failure = daemon.call(&DaemonPing::default()).await.unwrap_err();
        assert_eq!(failure.kind, Kind::DaemonUnreachable);
    }
}
