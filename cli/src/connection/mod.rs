//! The way to the daemon: which socket, whether to start one, and the first words.
//!
//! ```text
//!   choose ─▶ connected ───────────────▶ Daemon: hello and the first call in one round trip
//!      ╰────▶ nobody ─▶ launch ─▶ connect ─╯
//! ```

mod choose;
mod command;
mod daemon;
mod launch;

pub(crate) use daemon::{Daemon, VERSION};
pub(crate) use launch::ask_program;

use crate::output;
use choose::{Choice, Places, Tried, choose, field_of, name_of_id, unreachable};
use launch::{Launched, launch};
use llamactl_protocol::Hint;
use llamactl_protocol::{Failure, place};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

/// How long a daemon that was started by somebody else may take until it answers.
const RACE_LIMIT: Duration = Duration::from_secs(10);
/// How long a full accept queue may take to drain.
const QUEUE_LIMIT: Duration = Duration::from_secs(5);

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
    /// Whether no daemon may be started (`--no-autostart`).
    pub(crate) no_autostart: bool,
}

impl Reach {
    /// Connects, and starts the daemon first where that is allowed.
    ///
    /// # Errors
    /// [`llamactl_protocol::Kind::DaemonUnreachable`], with every path tried.
    pub(crate) async fn daemon(&self, autostart: Autostart) -> Result<Daemon, Failure> {
        let places = self.places()?;
        let tried = match choose(&places, probe).await {
            Choice::Connected(path, stream) => return Ok(Daemon::over(path, stream)),
            Choice::Unreachable(failure) => return Err(failure),
            Choice::Vacant(tried) => tried,
        };
        self.may_start(autostart, &places.user, &tried)?;
        let (launched, daemon) = launch_until_reached(true, None, &places.user).await?;
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
        let (launched, daemon) = launch_until_reached(false, socket, path).await?;
        Ok((daemon, launched == Launched::Ours))
    }

    /// Connects to the daemon that runs; `None` where there is none.
    ///
    /// # Errors
    /// [`llamactl_protocol::Kind::DaemonUnreachable`] where one may not be reached.
    pub(crate) async fn running(&self) -> Result<Option<Daemon>, Failure> {
        let places = self.places()?;
        if let Some(named) = places.named {
            return match probe(&named).await {
                Ok(stream) => Ok(Some(Daemon::over(named, stream))),
                Err(error) if nobody_listens(&error) => Ok(None),
                Err(error) => Err(unreachable(&[Tried::new(&named, error)])),
            };
        }
        match choose(&places, probe).await {
            Choice::Connected(path, stream) => Ok(Some(Daemon::over(path, stream))),
            Choice::Vacant(_) => Ok(None),
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
        // Absolute: the daemon is started in another directory than this one.
        let named = match &self.socket {
            Some(named) => Some(std::path::absolute(named).map_err(|error| {
                let why = format!("the socket {} cannot be found: {error}", named.display());
                Failure::new(llamactl_protocol::Kind::InvalidValue, why)
            })?),
            None => None,
        };
        Ok(Places { named, user, system: place::system_socket() })
    }

    /// Refuses where nothing may be started, and says why.
    fn may_start(&self, autostart: Autostart, user: &Path, tried: &[Tried]) -> Result<(), Failure> {
        let failure = || unreachable(tried);
        if let Some(uid) = std::env::var("SUDO_UID").ok().filter(|uid| !uid.is_empty()) {
            return Err(failure().hint(sudo_hint(&uid)));
        }
        if autostart == Autostart::Never {
            return Err(failure().hint(Hint::run("start it", ["llamactl", "daemon", "start"])));
        }
        if self.no_autostart {
            return Err(failure().hint(Hint::run(
                "--no-autostart or LLAMACTL_NO_AUTOSTART keeps this command from starting it",
                ["llamactl", "daemon", "start"],
            )));
        }
        let stopped = user.with_file_name("stopped");
        if autostart == Autostart::UnlessStopped && stopped.exists() {
            let mut failure = failure();
            failure.message = "the daemon was stopped".to_owned();
            return Err(failure.hint(Hint::run("start it", ["llamactl", "daemon", "start"])));
        }
        Ok(())
    }
}

/// Whether the attempt to connect says that nobody listens there.
fn nobody_listens(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | ConnectionRefused)
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

/// Starts a daemon and connects to it. Where another one holds the lock it is coming up, or going:
/// both are given time, and in the second case a new one is started after it.
async fn launch_until_reached(
    by_client: bool,
    socket: Option<&Path>,
    path: &Path,
) -> Result<(Launched, Daemon), Failure> {
    let deadline = Instant::now() + RACE_LIMIT;
    loop {
        let launched = launch(by_client, socket).await?;
        match probe(path).await {
            Ok(stream) => return Ok((launched, Daemon::over(path.to_owned(), stream))),
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(20)).await,
            Err(error) => {
                return Err(unreachable(&[Tried::new(path, error)])
                    .hint("another daemon holds the lock: it is starting, or still stopping"));
            }
        }
    }
}

/// What to do instead of starting a daemon as another user.
fn sudo_hint(uid: &str) -> Hint {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = uid.parse().ok().and_then(|uid| name_of_id("/etc/passwd", uid));
    let user = user.unwrap_or_else(|| format!("user {uid}"));
    match field_of(&passwd, 2, uid, 5) {
        Some(home) => {
            let socket = place::socket_in(&Path::new(&home).join(".local/state/llamactl"));
            Hint::to(format!(
                "under sudo no daemon is started; the daemon of {user} is at --socket {}",
                socket.display()
            ))
        }
        None => Hint::to(format!("under sudo no daemon is started; run llamactl as {user}")),
    }
}
