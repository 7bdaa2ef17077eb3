//! The way to the daemon: which socket, whether to start one, and the first words.
//!
//! ```text
//!   choose ─▶ connected ───────────────▶ Daemon: hello and the first call in one round trip
//!      ╰────▶ nobody ─▶ launch ─▶ connect ─╯
//! ```

mod choose;
mod launch;

use crate::output;
use choose::{Choice, Places, Tried, choose, field_of, name_of_id, unreachable};
use launch::{Launched, launch};
use llamactl_protocol::client::{Client, Follow, connect, follow};
use llamactl_protocol::daemon::{DaemonHello, Hello};
use llamactl_protocol::{Failure, Kind, Method, PROTOCOL, Subscription, place};
use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

/// How long the daemon may take to say hello. It does nothing for it, so a daemon that does not
/// answer by then hangs.
const HELLO_LIMIT: Duration = Duration::from_secs(15);
/// How long a daemon that was started by somebody else may take until it answers.
const RACE_LIMIT: Duration = Duration::from_secs(10);
/// How long a full accept queue may take to drain.
const QUEUE_LIMIT: Duration = Duration::from_secs(5);

/// This program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// When a command may start a daemon that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Autostart {
    /// Never: it asks about the daemon itself.
    Never,
    /// Unless the daemon was stopped by request: the command only looks or stops.
    UnlessStopped,
    /// Always: the command changes something.
    Always,
}

/// How the command line says to reach the daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// The socket that was named.
    pub(crate) socket: Option<PathBuf>,
    /// Start nothing.
    pub(crate) no_autostart: bool,
}

/// A connection to the daemon.
pub(crate) struct Daemon {
    /// Its socket.
    pub(crate) socket: PathBuf,
    client: Client,
    hello: Cell<Option<Hello>>,
    greeted: Cell<bool>,
}

impl Reach {
    /// Connects, and starts the daemon first where that is allowed.
    ///
    /// # Errors
    /// [`Kind::DaemonUnreachable`], with every path tried.
    pub(crate) async fn daemon(&self, autostart: Autostart) -> Result<Daemon, Failure> {
        let places = self.places()?;
        let tried = match choose(&places, probe).await {
            Choice::Connected(path, stream) => return Ok(Daemon::over(path, stream)),
            Choice::Unreachable(failure) => return Err(failure),
            Choice::Vacant(tried) => tried,
        };
        self.may_start(autostart, &places.user, &tried)?;
        let launched = launch(true, None).await?;
        let daemon = reconnect(&places.user).await?;
        if launched == Launched::Ours {
            let hello = daemon.hello().await?;
            output::note(format!("started the daemon (llamactld, pid {})", hello.pid));
        }
        Ok(daemon)
    }

    /// Connects to the daemon, or starts one because a person asks for it; whether it was started.
    ///
    /// # Errors
    /// As [`Reach::daemon`].
    pub(crate) async fn start_daemon(&self) -> Result<(Daemon, bool), Failure> {
        let places = self.places()?;
        let (path, socket) = match choose(&places, probe).await {
            Choice::Connected(path, stream) => return Ok((Daemon::over(path, stream), false)),
            Choice::Vacant(_) => (&places.user, None),
            Choice::Unreachable(failure) => match &places.named {
                Some(named) => (named, Some(named.as_path())),
                None => return Err(failure),
            },
        };
        let launched = launch(false, socket).await?;
        Ok((reconnect(path).await?, launched == Launched::Ours))
    }

    /// Connects to the daemon that runs; `None` where there is none.
    ///
    /// # Errors
    /// [`Kind::DaemonUnreachable`] where one may not be reached.
    pub(crate) async fn running(&self) -> Result<Option<Daemon>, Failure> {
        let places = self.places()?;
        match choose(&places, probe).await {
            Choice::Connected(path, stream) => Ok(Some(Daemon::over(path, stream))),
            Choice::Vacant(_) => Ok(None),
            Choice::Unreachable(_) if places.named.as_deref().is_some_and(is_vacant) => Ok(None),
            Choice::Unreachable(failure) => Err(failure),
        }
    }

    fn places(&self) -> Result<Places, Failure> {
        let user = match (place::state_dir(), &self.socket) {
            (Ok(dir), _) => place::socket_in(&dir),
            // Not needed where the socket is named.
            (Err(_), Some(named)) => named.clone(),
            (Err(failure), None) => return Err(failure),
        };
        Ok(Places { named: self.socket.clone(), user, system: place::SYSTEM_SOCKET.into() })
    }

    /// Refuses where nothing may be started, and says why.
    fn may_start(&self, autostart: Autostart, user: &Path, tried: &[Tried]) -> Result<(), Failure> {
        let failure = || unreachable(tried);
        if let Some(uid) = std::env::var("SUDO_UID").ok().filter(|uid| !uid.is_empty()) {
            return Err(failure().hint(sudo_hint(&uid)));
        }
        if autostart == Autostart::Never {
            return Err(failure().hint("llamactl daemon start starts it"));
        }
        if self.no_autostart {
            return Err(failure().hint(
                "llamactl daemon start starts it; --no-autostart or LLAMACTL_NO_AUTOSTART keeps \
                 this command from doing so",
            ));
        }
        let stopped = user.with_file_name("stopped");
        if autostart == Autostart::UnlessStopped && stopped.exists() {
            let mut failure = failure();
            failure.message = "the daemon was stopped".to_owned();
            return Err(failure.hint("llamactl daemon start starts it"));
        }
        Ok(())
    }
}

impl Daemon {
    fn over(socket: PathBuf, stream: UnixStream) -> Self {
        Daemon {
            socket,
            client: connect(stream),
            hello: Cell::new(None),
            greeted: Cell::new(false),
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
        self.greeting(async { follow(self.another().await?, params).await }).await?
    }

    /// A second connection.
    ///
    /// # Errors
    /// [`Kind::DaemonUnreachable`].
    pub(crate) async fn another(&self) -> Result<UnixStream, Failure> {
        probe(&self.socket).await.map_err(|error| unreachable(&[Tried::new(&self.socket, error)]))
    }

    /// Who answers.
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
            None => self.client.call(&ours()).await,
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
        if self.greeted.replace(true) {
            return Ok(work.await);
        }
        let params = ours();
        let mut hello = pin!(timeout(HELLO_LIMIT, self.client.call(&params)));
        let mut work = pin!(work);
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
                return Err(Failure::new(
                    Kind::DaemonUnreachable,
                    format!(
                        "the daemon at {} takes connections but does not answer",
                        self.socket.display()
                    ),
                )
                .hint("it may hang or be suspended; its servers are not affected"));
            }
        }
        match done {
            Some(done) => Ok(done),
            None => Ok(work.await),
        }
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

/// Whether nobody can listen at this path.
fn is_vacant(path: &Path) -> bool {
    let attempt = std::os::unix::net::UnixStream::connect(path);
    attempt.is_err_and(|error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    })
}

fn ours() -> DaemonHello {
    DaemonHello { client_version: Some(VERSION.to_owned()), protocol: Some(PROTOCOL) }
}

/// Connects; a full accept queue is given time to drain.
async fn probe(path: &Path) -> io::Result<UnixStream> {
    let deadline = Instant::now() + QUEUE_LIMIT;
    loop {
        match UnixStream::connect(path).await {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline =>
            {
                sleep(Duration::from_millis(10)).await;
            }
            result => return result,
        }
    }
}

/// Connects to a daemon that is coming up.
async fn reconnect(path: &Path) -> Result<Daemon, Failure> {
    let deadline = Instant::now() + RACE_LIMIT;
    loop {
        match probe(path).await {
            Ok(stream) => return Ok(Daemon::over(path.to_owned(), stream)),
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(unreachable(&[Tried::new(path, error)])),
        }
    }
}

/// What to do instead of starting a daemon as another user.
fn sudo_hint(uid: &str) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = uid.parse().ok().and_then(|uid| name_of_id("/etc/passwd", uid));
    let user = user.unwrap_or_else(|| format!("user {uid}"));
    match field_of(&passwd, 2, uid, 5) {
        Some(home) => {
            let socket = place::socket_in(&Path::new(&home).join(".local/state/llamactl"));
            format!(
                "under sudo no daemon is started; the daemon of {user} is at --socket {}",
                socket.display()
            )
        }
        None => format!("under sudo no daemon is started; run llamactl as {user}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::daemon::DaemonPing;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

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
    async fn a_daemon_that_goes_away_is_unreachable() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let daemon = Daemon::over("/x".into(), ours);
        drop(theirs);
        let failure = daemon.call(&DaemonPing::default()).await.unwrap_err();
        assert_eq!(failure.kind, Kind::DaemonUnreachable);
    }
}
