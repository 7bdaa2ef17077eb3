//! The way to the daemon: which socket, whether to start one, and the first words.
//!
//! ```text
//!   choose ─▶ connected ───────────────▶ Daemon: hello and the first call in one round trip
//!      ╰────▶ nobody ─▶ launch ─▶ connect ─╯
//!   --host ─▶ ssh, and the same on the other side ─╯
//! ```

mod at_once;
mod choose;
mod command;
mod daemon;
mod launch;
mod link;
mod silence;
mod stream;

use at_once::pause;
pub(crate) use at_once::{AtOnce, carry_out, runtime, within};
pub(crate) use daemon::Daemon;
pub(crate) use launch::ask_program;
pub(crate) use link::VERSION;
pub(crate) use silence::{Silence, Told};
pub(crate) use stream::{Place, Stream};

use crate::output;
use crate::remote::{self, Host};
use crate::systemd::{Manager, Starter, UNIT, starter};
use choose::{Choice, Places, Tried, choose, field_of, is_silence, name_of_id, unreachable};
use clap::ValueEnum as _;
use launch::{Launched, launch};
use link::Link;
use llamactl_protocol::client::CallError;
use llamactl_protocol::daemon::Hello;
use llamactl_protocol::{Failure, Hint, Kind, place};
use silence::Listener;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::Instant;

/// How long a daemon that comes or goes may take until another one answers.
const RACE_LIMIT: Duration = Duration::from_secs(10);
/// How soon it is looked for again.
const PAUSE: Duration = Duration::from_millis(10);

/// When a command may start a daemon that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Autostart {
    /// Never: it asks about the daemon itself.
    Never,
    /// Unless the daemon was stopped by request: the command only looks or stops.
    UnlessStopped,
    /// Always: the command changes something.
    Always,
}

/// The mark that says of a daemon with this socket that it was stopped on purpose.
pub(crate) fn stopped_mark(socket: &Path) -> PathBuf {
    socket.with_file_name("stopped")
}

/// How the command line says to reach the daemon.
#[derive(Clone)]
pub(crate) struct Reach {
    /// The machine, where it is another one.
    pub(crate) host: Option<Rc<Host>>,
    /// The socket that was named.
    pub(crate) socket: Option<PathBuf>,
    /// Whether no daemon may be started (`--no-autostart`).
    pub(crate) no_autostart: bool,
    /// How long a daemon that does not answer is waited for.
    pub(crate) silence: Silence,
    /// The way to ask it before there is a runtime.
    pub(crate) at_once: AtOnce,
}

impl Reach {
    /// The same for a command about the daemon: it waits no longer than `limit` for one that does not
    /// answer, and then fails with `kind`.
    pub(crate) fn of_daemon_command(&self, limit: Option<Duration>, kind: Kind) -> Reach {
        Reach { silence: self.silence.of_daemon_command(limit, kind), ..self.clone() }
    }

    /// Connects, and starts the daemon first where that is allowed.
    ///
    /// # Errors
    /// [`Kind::DaemonUnreachable`], with every path tried.
    pub(crate) async fn daemon(&self, autostart: Autostart) -> Result<Daemon, Failure> {
        Ok(Daemon::reached(self.connect(autostart).await?, self, autostart))
    }

    async fn connect(&self, autostart: Autostart) -> Result<Link, Failure> {
        let (link, started) = match &self.host {
            Some(host) => Box::pin(self.connect_there(host, autostart)).await?,
            None => self.connect_or_start(autostart).await?,
        };
        if let Some(pid) = started {
            output::note(format!(
                "started the daemon (llamactld, pid {pid}); it runs until llamactl daemon stop"
            ));
        }
        Ok(link)
    }

    /// Has llamactl there connect, and start the daemon by its own rules; the process of one that was
    /// started.
    async fn connect_there(
        &self,
        host: &Rc<Host>,
        autostart: Autostart,
    ) -> Result<(Link, Option<u32>), Failure> {
        runtime().await;
        let start = autostart.to_possible_value();
        let start = start.map(|word| format!("--start={}", word.get_name())).unwrap_or_default();
        let words = ["connect", "--stdio", "--until-eof", start.as_str()];
        let mut words: Vec<OsString> = words.map(Into::into).into();
        if self.no_autostart {
            words.push("--no-autostart".into());
        }
        if let Some(socket) = &self.socket {
            words.extend(["--socket".into(), socket.into()]);
        }
        let (stream, greeting) = remote::open(host, words).await?;
        let socket = greeting.socket.map(|socket| socket.0).unwrap_or_default();
        Ok((Link::to_there(host, socket, stream, self.silence), greeting.started_pid))
    }

    /// Connects on this machine, and starts the daemon first where that is allowed; the process of one
    /// that was started.
    async fn connect_or_start(&self, autostart: Autostart) -> Result<(Link, Option<u32>), Failure> {
        let places = self.places()?;
        let (failure, is_vacant) = match self.choose(&places).await {
            Choice::Connected(link) => return Ok((link, None)),
            Choice::Silent(path) => return Err(self.silence.in_vain(&Listener::at(&path))),
            Choice::Unreachable(failure) if places.named.is_some() => return Err(failure),
            Choice::Unreachable(failure) => (failure, false),
            Choice::Vacant(tried) => (unreachable(&tried), true),
        };
        // Apart: a command that finds its daemon makes no room for this.
        Box::pin(self.begin(autostart, &places, failure, is_vacant)).await
    }

    /// Has a daemon started where that is allowed: nobody answers, and `is_vacant` where nobody should.
    async fn begin(
        &self,
        autostart: Autostart,
        places: &Places,
        failure: Failure,
        is_vacant: bool,
    ) -> Result<(Link, Option<u32>), Failure> {
        runtime().await;
        let starter = starter(&places.user).await;
        match starter {
            Starter::UserUnit => {}
            _ if !is_vacant => return Err(failure),
            Starter::SystemUnit => return Err(machines_is_stopped(failure)),
            Starter::Client => {}
        }
        self.may_start(autostart, &places.user, failure)?;
        let (launched, link) = match starter {
            Starter::UserUnit => (Launched::Ours, self.start_unit(&places.user).await?),
            _ => self.launch_until_reached(true, None, &places.user).await?,
        };
        let started = match launched {
            Launched::Ours => Some(link.hello().await?.pid),
            Launched::Theirs => None,
        };
        Ok((link, started))
    }

    /// A plain connection to the daemon of this machine, for another machine's client: its socket, and
    /// the process of a daemon that was started for it. Or why there is none, and whether the daemon
    /// was stopped on purpose.
    pub(crate) async fn socket_stream(
        &self,
        autostart: Autostart,
    ) -> Result<(UnixStream, PathBuf, Option<u32>), (Failure, bool)> {
        let connected = async {
            let (link, started) = self.connect_or_start(autostart).await?;
            let socket = link.listener.place.socket().to_owned();
            // The link has said hello, or waits to: the other machine's client says its own.
            let stream = self.silence.connect(&socket).await;
            let stream = stream.map_err(|error| not_connected(&self.silence, &socket, error))?;
            Ok((stream, socket, started))
        };
        connected.await.map_err(|failure| {
            let socket = self.places().map(|places| places.named.unwrap_or(places.user));
            let was_stopped = socket.is_ok_and(|socket| stopped_mark(&socket).exists());
            (failure, was_stopped)
        })
    }

    /// A connection to the server of a model of the daemon, which is on another machine.
    ///
    /// # Errors
    /// There is no such server, or it cannot be reached; as [`Reach::daemon`].
    pub(crate) async fn server(&self, model: &str) -> Result<Stream, Failure> {
        let Some(host) = &self.host else {
            return Err(Failure::new(Kind::Internal, "the daemon is on this machine"));
        };
        let words = ["--no-autostart", "connect", "--stdio", "--until-eof", "--server", model];
        let mut words: Vec<OsString> = words.map(Into::into).into();
        if let Some(socket) = &self.socket {
            words.extend(["--socket".into(), socket.into()]);
        }
        Ok(remote::open(host, words).await?.0)
    }

    /// The daemon that runs, or one that is started because a person asks for it; whether it was.
    ///
    /// # Errors
    /// As [`Reach::daemon`].
    pub(crate) async fn start_daemon(&self) -> Result<(Hello, bool), Failure> {
        let places = self.places()?;
        let deadline = self.race_end();
        loop {
            let named = match self.choose(&places).await {
                Choice::Connected(link) => match link.hello().await {
                    Err(CallError::Closed { .. }) if Instant::now() < deadline => {
                        pause(PAUSE).await;
                        continue;
                    }
                    hello => return Ok((hello?, false)),
                },
                Choice::Silent(path) => return Err(self.silence.in_vain(&Listener::at(&path))),
                // Who says it in so many words gets a daemon of one's own, whatever the machine's does.
                Choice::Vacant(_) | Choice::Unreachable(_) => places.named.as_deref(),
            };
            let starter = match named {
                Some(_) => Starter::Client,
                None => starter(&places.user).await,
            };
            if starter == Starter::UserUnit {
                return Ok((self.start_unit(&places.user).await?.hello().await?, true));
            }
            if starter == Starter::SystemUnit {
                output::note(
                    "this daemon is your own; the machine's is started by: systemctl start llamactl",
                );
            }
            let path = named.unwrap_or(&places.user);
            let (launched, link) = self.launch_until_reached(false, named, path).await?;
            if launched == Launched::Ours {
                return Ok((link.hello().await?, true));
            }
        }
    }

    /// The daemon that runs and who it is; `None` where there is none. Says nothing of versions.
    ///
    /// # Errors
    /// [`Kind::DaemonUnreachable`] where one may not be reached; that it does not answer.
    pub(crate) async fn running(&self) -> Result<Option<(Daemon, Hello)>, Failure> {
        let places = self.places()?;
        let deadline = self.race_end();
        loop {
            let found = match &places.named {
                Some(named) => match self.probe(named).await {
                    Ok(link) => Ok(link),
                    Err(error) if nobody_listens(&error) => return Ok(None),
                    Err(error) => Err(not_connected(&self.silence, named, error)),
                },
                None => match self.choose(&places).await {
                    Choice::Connected(link) => Ok(link),
                    Choice::Vacant(_) => return Ok(None),
                    Choice::Silent(path) => Err(self.silence.in_vain(&Listener::at(&path))),
                    Choice::Unreachable(failure) => Err(failure),
                },
            };
            let link = found?;
            link.quiet.set(true);
            match link.hello().await {
                Err(CallError::Closed { .. }) if Instant::now() < deadline => pause(PAUSE).await,
                hello => return Ok(Some((Daemon::only(link), hello?))),
            }
        }
    }

    async fn choose(&self, places: &Places) -> Choice<Link> {
        choose(places, async |path: &Path| self.probe(path).await).await
    }

    async fn probe(&self, path: &Path) -> io::Result<Link> {
        if let Some(connected) = self.at_once.connect(path) {
            let link = Link::at_once(path.to_owned(), connected?, self.silence);
            self.at_once.uses(&link.client);
            return Ok(link);
        }
        runtime().await;
        let stream = self.silence.connect(path).await?;
        Ok(Link::over(path.to_owned(), stream, self.silence))
    }

    /// Until when a daemon that comes or goes is looked for again.
    fn race_end(&self) -> Instant {
        (Instant::now() + RACE_LIMIT).min(self.silence.end())
    }

    /// Starts a daemon and connects to it. Where another one holds the lock it is coming up, or
    /// going: both are given time, and in the second case a new one is started after it.
    async fn launch_until_reached(
        &self,
        by_client: bool,
        socket: Option<&Path>,
        path: &Path,
    ) -> Result<(Launched, Link), Failure> {
        let deadline = self.race_end();
        loop {
            let launched = launch(by_client, socket, &self.silence).await?;
            match self.probe(path).await {
                Ok(link) => return Ok((launched, link)),
                Err(error) if is_silence(&error) => {
                    return Err(self.silence.in_vain(&Listener::at(path)));
                }
                Err(error) => {
                    let failure = unreachable(&[Tried::new(path, error)]);
                    if let Some(there) = self.elsewhere(path).await {
                        let says = format!("its daemon listens at {}", there.display());
                        let argv =
                            ["llamactl", "--socket", &there.to_string_lossy(), "daemon", "status"];
                        return Err(failure.hint(Hint::run(says, argv)));
                    }
                    if Instant::now() >= deadline {
                        let hint =
                            "another daemon holds the lock: it is starting, or still stopping";
                        return Err(failure.hint(hint));
                    }
                    pause(PAUSE).await;
                }
            }
        }
    }

    /// Where the daemon of the state directory answers instead of at this socket.
    async fn elsewhere(&self, path: &Path) -> Option<PathBuf> {
        let own = place::socket_in(&place::state_dir().ok()?);
        (own != path && self.probe(&own).await.is_ok()).then_some(own)
    }

    /// Has the user's systemd start the daemon, which answers by the time that it says so.
    async fn start_unit(&self, path: &Path) -> Result<Link, Failure> {
        let hint = || {
            let argv = Manager::User.typed("journalctl", &["-u", UNIT, "-n", "20"]);
            Hint::run("see what it said", argv)
        };
        let started = Manager::User.systemctl(["start", UNIT], launch::LAUNCH_LIMIT).await;
        started.map_err(|why| {
            let why = format!("the daemon could not be started by its unit: {why}");
            Failure::new(Kind::DaemonUnreachable, why).hint(hint())
        })?;
        let reached = self.probe(path).await;
        reached.map_err(|error| not_connected(&self.silence, path, error).hint(hint()))
    }

    /// The same for what a unit runs: that unit's daemon and no other, which is not started.
    ///
    /// # Errors
    /// Nothing says where the user's daemon is.
    pub(crate) fn of_unit(&self) -> Result<Reach, Failure> {
        let socket = match &self.socket {
            Some(named) => named.clone(),
            None => place::socket_in(&place::state_dir()?),
        };
        Ok(Reach { socket: Some(socket), no_autostart: true, ..self.clone() })
    }

    /// Whether a command would go to the machine's daemon rather than to one's own.
    ///
    /// # Errors
    /// As [`Reach::of_unit`].
    pub(crate) async fn is_for_the_machines(&self) -> Result<bool, Failure> {
        let places = self.places()?;
        Ok(match &places.named {
            Some(named) => *named == places.system,
            None => self.probe(&places.user).await.is_err(),
        })
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
                Failure::new(Kind::InvalidValue, why)
            })?),
            None => None,
        };
        Ok(Places { named, user, system: place::system_socket() })
    }

    /// Refuses where nothing may be started, and says why.
    fn may_start(
        &self,
        autostart: Autostart,
        user: &Path,
        mut failure: Failure,
    ) -> Result<(), Failure> {
        if let Some(uid) = std::env::var("SUDO_UID").ok().filter(|uid| !uid.is_empty()) {
            return Err(failure.hint(sudo_hint(&uid)));
        }
        if autostart == Autostart::Never {
            return Err(failure.hint(Hint::run("start it", ["llamactl", "daemon", "start"])));
        }
        if self.no_autostart {
            return Err(failure.hint(Hint::run(
                "--no-autostart or LLAMACTL_NO_AUTOSTART keeps this command from starting it",
                ["llamactl", "daemon", "start"],
            )));
        }
        if autostart == Autostart::UnlessStopped && stopped_mark(user).exists() {
            failure.message = "the daemon was stopped".to_owned();
            return Err(failure.hint(Hint::run("start it", ["llamactl", "daemon", "start"])));
        }
        Ok(())
    }
}

/// Says that the machine has a daemon, which nobody but its administrator starts.
fn machines_is_stopped(failure: Failure) -> Failure {
    Failure { message: "the machine's daemon is stopped".to_owned(), ..failure }
        .hint(Hint::run("start it", ["systemctl", "start", "llamactl"]))
        .hint(Hint::run("or start one of your own", ["llamactl", "daemon", "start"]))
}

/// Whether the attempt to connect says that nobody listens there.
fn nobody_listens(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | ConnectionRefused)
}

/// Why there is no connection.
fn not_connected(silence: &Silence, path: &Path, error: io::Error) -> Failure {
    match is_silence(&error) {
        true => silence.in_vain(&Listener::at(path)),
        false => unreachable(&[Tried::new(path, error)]),
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
