//! The daemon, over as many connections as it takes.
//!
//! ```text
//!   call ─▶ connection ─▶ answer
//!               ╰─ ended, and the call only reads or was certainly not read
//!                            ╰─▶ reach a daemon again, as at first ─▶ call
//! ```
//!
//! A listener lives some milliseconds longer than its process after a kill: whoever connects then
//! is cut off before a word, and whoever comes a moment later finds nobody. Both are the same to the
//! command: there is no daemon, and another may be started.

use super::link::{Link, ours};
use super::{Autostart, PAUSE, Place, RACE_LIMIT, Reach, Stream, not_connected, pause, runtime};
use crate::programs::on_path;
use llamactl_protocol::client::{CallError, Follow, Items, follow, follow_raw, read, written};
use llamactl_protocol::daemon::{DaemonHello, Hello};
use llamactl_protocol::{Access, Failure, Hint, Method, Subscription};
use serde_json::{json, value::RawValue};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

/// A failure whose cure is to name a llama-server, with the one that is on the caller's own `PATH`: the
/// daemon's may be of another day.
fn naming_ours(mut failure: Failure) -> Failure {
    let hint =
        failure.hints.0.iter_mut().find(|it| it.argv == ["llamactl", "runtime", "add", "PATH"]);
    if let (Some(hint), Some(ours)) = (hint, llama_server_on_path()) {
        let text = "the daemon does not have your PATH, which leads to one; name it";
        *hint = Hint::run(text, ["llamactl", "runtime", "add", &ours]);
    }
    failure
}

fn llama_server_on_path() -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let found = ["llama-server", "llama"].into_iter().find_map(|name| on_path(name, &path))?;
    found.to_str().map(str::to_owned)
}

/// What takes some seconds the first time.
const ASKING: &str = "asking llama-server for its version and options, once for each build";

/// Whether the daemon may have to ask a llama-server that it has not seen yet, which takes some seconds.
fn asks_a_build(method: &str) -> bool {
    method.starts_with("runtime.")
        || [
            "server.start",
            "server.restart",
            "model.add",
            "model.args",
            "model.import",
            "model.put_document",
            "model.rollback",
            "model.set",
            "model.show",
            "defaults.set",
        ]
        .contains(&method)
}

/// A way to the daemon.
pub(crate) struct Daemon {
    link: RefCell<Rc<Link>>,
    /// How one is reached again; absent: no other than this one will do.
    way: Option<(Reach, Autostart)>,
}

impl Daemon {
    /// The daemon at the other end, and no other.
    pub(super) fn only(link: Link) -> Self {
        Daemon { link: RefCell::new(Rc::new(link)), way: None }
    }

    /// The daemon at the other end, or another that is reached so.
    pub(super) fn reached(link: Link, reach: &Reach, autostart: Autostart) -> Self {
        Daemon { way: Some((reach.clone(), autostart)), ..Daemon::only(link) }
    }

    fn link(&self) -> Rc<Link> {
        Rc::clone(&self.link.borrow())
    }

    /// Where it was reached.
    pub(crate) fn place(&self) -> Place {
        self.link().listener.place.clone()
    }

    /// Calls a method; the first time together with the hello.
    ///
    /// # Errors
    /// The daemon's, or that there is none.
    pub(crate) async fn call<M: Method>(&self, params: &M) -> Result<M::Output, Failure> {
        let params = written(M::NAME, params)?;
        let asked = self.ask(M::ACCESS == Access::Observe, M::NAME, &params).await;
        read(M::NAME, &asked.map_err(|failure| self.named_here(failure))?)
    }

    fn named_here(&self, failure: Failure) -> Failure {
        match self.place() {
            Place::Here(_) => naming_ours(failure),
            Place::There(..) => failure,
        }
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
        read(method, &self.ask(false, method, &written(method, params)?).await?)
    }

    async fn ask(&self, reads: bool, method: &str, params: &RawValue) -> Result<Box<str>, Failure> {
        let what = asks_a_build(method).then_some(ASKING);
        self.again_if_lost(reads, async |link| {
            link.greeting(what, link.client.ask(method, params)).await?
        })
        .await
    }

    /// Calls a method once and waits for its answer as long as the command line says, or else for
    /// `limit`.
    ///
    /// # Errors
    /// As [`Daemon::call`]; that it does not answer.
    pub(crate) async fn call_within<M: Method>(
        &self,
        params: &M,
        limit: Duration,
    ) -> Result<M::Output, Failure> {
        let link = self.link();
        let silence = link.silence.or(limit);
        Ok(silence.wait(&link.listener, link.client.call(params)).await??)
    }

    /// Asks who answers at the same socket now, on a connection of its own, and waits as
    /// [`Daemon::call_within`] does.
    ///
    /// # Errors
    /// That nobody listens or answers; that the connection ended.
    pub(crate) async fn hello_anew(&self, limit: Duration) -> Result<(Daemon, Hello), CallError> {
        let link = self.link();
        let (socket, silence) = (link.listener.place.socket(), link.silence.or(limit));
        let connected = silence.connect(socket).await;
        let stream = connected.map_err(|error| not_connected(&silence, socket, error))?;
        let new = Link::over(socket.to_owned(), stream, silence);
        new.quiet.set(true);
        let hello = new.hello().await?;
        Ok((Daemon::only(new), hello))
    }

    /// Opens a stream, on a connection of its own.
    ///
    /// # Errors
    /// As [`Daemon::call`].
    pub(crate) async fn follow<S: Subscription>(
        &self,
        params: &S,
    ) -> Result<Follow<S, Stream>, Failure> {
        let reads = S::ACCESS == Access::Observe;
        self.again_if_lost(reads, async |link| {
            link.greeting(None, async { follow(introduced(link).await?, params).await }).await?
        })
        .await
    }

    /// Follows a stream by its name, on a connection of its own.
    ///
    /// # Errors
    /// The daemon's refusal; as [`Daemon::call`].
    pub(crate) async fn follow_raw(
        &self,
        name: &str,
        params: &serde_json::Value,
    ) -> Result<Items<Stream>, Failure> {
        self.again_if_lost(false, async |link| {
            link.greeting(None, async { follow_raw(introduced(link).await?, name, params).await })
                .await?
        })
        .await
    }

    /// Asks who answers.
    ///
    /// # Errors
    /// As [`Daemon::call`].
    pub(crate) async fn hello(&self) -> Result<Hello, Failure> {
        self.again_if_lost(true, async |link| link.hello().await).await
    }

    /// Leaves the hello out: for questions whose answer is all that may be said.
    pub(crate) fn quietly(&self) {
        self.link().quiet.set(true);
    }

    /// Asks, and where the connection ends instead of an answer asks once more over another: if
    /// that can do no harm, because asking changes nothing (`reads`) or was certainly not heard.
    async fn again_if_lost<T>(
        &self,
        reads: bool,
        ask: impl AsyncFn(&Link) -> Result<T, CallError>,
    ) -> Result<T, Failure> {
        let mut deadline = None;
        loop {
            let link = self.link();
            let error = match ask(&link).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let may = matches!(error, CallError::Closed { unread } if unread || reads);
            let in_time = *deadline.get_or_insert_with(|| Instant::now() + RACE_LIMIT);
            let Some((reach, autostart)) =
                self.way.as_ref().filter(|_| may && Instant::now() < in_time)
            else {
                return Err(error.into());
            };
            pause(PAUSE).await;
            // Another call may have been here first.
            if Rc::ptr_eq(&link, &self.link()) {
                let next = Box::pin(reach.connect(*autostart)).await?;
                next.quiet.set(link.quiet.get());
                self.link.replace(Rc::new(next));
            }
        }
    }
}

/// A second connection that knows which command asks. The hello is a notification: the first
/// connection's has the answer.
async fn introduced(link: &Link) -> Result<Stream, CallError> {
    runtime().await;
    let mut stream = link.listener.place.open(&link.silence).await?;
    let hello = json!({ "jsonrpc": "2.0", "method": DaemonHello::NAME, "params": ours() });
    // A connection that broke off is told by what is asked next.
    let _ = stream.write_all(format!("{hello}\n").as_bytes()).await;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::link::VERSION;
    use crate::connection::{AtOnce, Silence, Told};
    use llamactl_protocol::daemon::{DaemonPing, DaemonStop};
    use llamactl_protocol::{Kind, PROTOCOL};
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    use tokio::net::{UnixListener, UnixStream};

    fn daemon(stream: UnixStream, limit: Option<Duration>) -> Daemon {
        let silence = Silence::usual(Told::Nobody);
        let silence = limit.map_or(silence, |limit| silence.or(limit));
        Daemon::only(Link::over("/x".into(), stream, silence))
    }

    #[tokio::test]
    async fn hello_and_the_first_call_are_one_round_trip() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let daemon = daemon(ours, None);
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
        let daemon = daemon(ours, Some(Duration::from_millis(10)));
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
        let daemon = daemon(ours, None);
        drop(theirs);
        let failure = daemon.call(&DaemonPing::default()).await.unwrap_err();
        assert_eq!(failure.kind, Kind::DaemonUnreachable);
    }

    /// A daemon at a socket: it reads what the first connection asks and ends it without a word, and
    /// answers the second with `result`. How many connections there were.
    async fn closes_once(listener: UnixListener, result: &str) -> usize {
        let mut connections = 0;
        while let Ok((stream, _)) = listener.accept().await {
            connections += 1;
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            // The hello, and what was asked with it.
            for _ in 0..2 {
                let Ok(Some(line)) = lines.next_line().await else { return connections };
                let id = serde_json::from_str::<serde_json::Value>(&line).unwrap()["id"].take();
                if connections > 1 {
                    let reply = format!("{{\"id\":{id},\"result\":{result}}}\n");
                    write.write_all(reply.as_bytes()).await.unwrap();
                }
            }
        }
        connections
    }

    #[tokio::test]
    async fn only_what_reads_is_asked_again_when_it_may_have_been_heard() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let silence = Silence::usual(Told::Nobody);
        let reach = Reach {
            host: None,
            socket: Some(socket.clone()),
            no_autostart: true,
            silence,
            at_once: AtOnce::default(),
        };

        let listener = UnixListener::bind(&socket).unwrap();
        let asking = async {
            let daemon = reach.daemon(Autostart::Never).await.unwrap();
            daemon.call(&DaemonPing { n: Some(1) }).await
        };
        let answer = tokio::select! {
            answer = asking => answer,
            _ = closes_once(listener, "{\"n\":1,\"at_ms\":2}") => panic!("the daemon ended"),
        };
        assert_eq!(answer.unwrap().n, Some(1));

        std::fs::remove_file(&socket).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let changing = async {
            let daemon = reach.daemon(Autostart::Never).await.unwrap();
            let failure = daemon.call(&DaemonStop { keep_servers: true }).await.unwrap_err();
            assert_eq!(failure.kind, Kind::DaemonUnreachable);
            drop(daemon);
            // So that the daemon sees the end: a connection that asks nothing.
            drop(UnixStream::connect(&socket).await.unwrap());
        };
        let (connections, ()) = tokio::join!(closes_once(listener, "null"), changing);
        assert_eq!(connections, 2, "the one that changes, and the one of this test");
    }
}
