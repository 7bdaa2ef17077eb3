//! The real socket: who is let in, how many, and how it stops.

use super::super::{Authority, Limits, Server};
use super::kit::{Client, Kit, kind, within_patience};
use serde_json::json;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A server on a real socket.
struct Home {
    kit: Kit,
    path: PathBuf,
    served: JoinHandle<io::Result<()>>,
    _directory: tempfile::TempDir,
}

impl Home {
    fn new(limits: Limits, authority: Authority) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let kit = Kit::within(limits);
        let served = serve(&kit, authority, &path);
        Home { kit, path, served, _directory: directory }
    }

    async fn connect(&self) -> Client {
        Client::new(UnixStream::connect(&self.path).await.unwrap())
    }

    async fn stop(self) -> Kit {
        self.kit.stop.cancel();
        within_patience(self.served).await.unwrap().unwrap();
        self.kit
    }
}

fn serve(kit: &Kit, authority: Authority, path: &Path) -> JoinHandle<io::Result<()>> {
    let server = Server {
        routes: Arc::clone(&kit.routes),
        authority,
        limits: kit.limits,
        counters: Arc::clone(&kit.counters),
    };
    tokio::spawn(server.serve(
        UnixListener::bind(path).unwrap(),
        tokio::sync::mpsc::channel(1).1,
        kit.stop.clone(),
    ))
}

#[tokio::test]
async fn one_user_has_so_many_connections_and_the_next_is_told() {
    let limits = Limits { connections_per_uid: 3, ..Limits::default() };
    let home = Home::new(limits, Authority::user(our_uid()));
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = home.connect().await;
        client.call(1, "word.list", json!({})).await;
        open.push(client);
    }
    // A client writes before it reads, and is told all the same.
    let mut refused = home.connect().await;
    refused.ask(1, "word.list", json!({})).await;
    assert_eq!(refused.failure().await, "too_many_connections");
    assert_eq!(refused.line().await, None);
    let counters = Arc::clone(&home.kit.counters);
    let counts = || (counters.open(), counters.accepted_total(), counters.refused_total());
    assert_eq!(counts(), (3, 3, 1));

    drop(open.pop());
    within_patience(async {
        while counters.open() == 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut client = home.connect().await;
    assert!(client.call(1, "word.list", json!({})).await["result"].is_array());
    drop((client, open));
    home.stop().await;
    assert_eq!(counts(), (0, 4, 1));
}

#[tokio::test]
async fn another_user_is_refused_before_a_byte_is_read() {
    if our_uid() != 0 {
        return; // only root can come as somebody else
    }
    let home = Home::new(Limits::default(), Authority::user(our_uid()));
    std::fs::set_permissions(&home.path, std::fs::Permissions::from_mode(0o777)).unwrap();
    let directory = home.path.parent().unwrap();
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = home.path.clone();
    let told = tokio::task::spawn_blocking(move || {
        // The credentials of a thread are its own; this one ends with the test.
        std::thread::spawn(move || {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let mut stream = StdUnixStream::connect(path).unwrap();
            stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"word.list\"}\n").unwrap();
            let mut told = String::new();
            let _ = stream.read_to_string(&mut told); // ends in a reset: what it sent is unread
            told
        })
        .join()
        .unwrap()
    });
    let told = within_patience(told).await.unwrap();
    assert_eq!(kind(&serde_json::from_str(&told).unwrap()), "peer_refused");
    let kit = home.stop().await;
    assert_eq!((kit.counters.accepted_total(), kit.counters.refused_total()), (0, 1));
}

#[tokio::test]
async fn who_connected_just_before_a_stop_is_still_answered() {
    let home = Home::new(Limits::default(), Authority::user(our_uid()));
    let mut client = home.connect().await;
    let counters = Arc::clone(&home.kit.counters);
    within_patience(async {
        while counters.open() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    home.kit.stop.cancel();
    tokio::task::yield_now().await;
    assert!(client.call(1, "word.list", json!({})).await["result"].is_array());
    home.stop().await;
}

#[tokio::test]
async fn those_who_wait_at_the_old_socket_are_let_in_before_the_new_one_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    let kit = Kit::new();
    let server = Server {
        routes: Arc::clone(&kit.routes),
        authority: Authority::user(our_uid()),
        limits: kit.limits,
        counters: Arc::clone(&kit.counters),
    };
    let (renewed, listeners) = tokio::sync::mpsc::channel(1);
    let listener = UnixListener::bind(&old).unwrap();
    // Both are there before the first look at either.
    let _waiting: Vec<_> = (0..3).map(|_| StdUnixStream::connect(&old).unwrap()).collect();
    renewed.send(UnixListener::bind(&new).unwrap()).await.unwrap();
    let _new = StdUnixStream::connect(&new).unwrap();
    let served = tokio::spawn(server.serve(listener, listeners, kit.stop.clone()));
    within_patience(async {
        while kit.counters.open() < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(StdUnixStream::connect(&old).is_err(), "nobody listens there any more");
    kit.stop.cancel();
    within_patience(served).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_finishes_what_runs_and_is_not_held_up_by_who_does_not_read() {
    let limits = Limits { stop_deadline: Duration::from_millis(200), ..Limits::default() };
    let home = Home::new(limits, Authority::user(our_uid()));
    let mut client = home.connect().await;
    client.ask(1, "word.add", json!({"word": "slow"})).await;
    within_patience(home.kit.world.at_gate.notified()).await;
    let mut deaf = home.connect().await;
    deaf.ask(1, "big.text", json!({"bytes": 900_000})).await;
    let mut idle = home.connect().await;
    idle.call(1, "word.list", json!({})).await;

    home.kit.stop.cancel();
    assert_eq!(idle.line().await, None, "closed at once");
    home.kit.world.gate.add_permits(1);
    assert_eq!(client.next().await["result"], 1);
    assert_eq!(client.line().await, None);
    let path = home.path.clone();
    let kit = home.stop().await;
    assert_eq!((kit.counters.open(), kit.world.words().len()), (0, 1));
    assert!(StdUnixStream::connect(path).is_err(), "nobody listens");
    drop(deaf);
}

const CHILD: &str = "LLAMACTL_TEST_SERVE_AT";

/// Not a test: the server of the next one, in a process of its own that has few descriptors.
#[tokio::test]
#[ignore = "run by the test below, as another process"]
async fn server_short_of_descriptors() {
    let Some(path) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let few = rustix::process::Rlimit { current: Some(32), maximum: Some(32) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, few).unwrap();
    let kit = Kit::new();
    let served = serve(&kit, Authority::user(our_uid()), &path);
    println!("listening");
    // Our parent's end closes this, however it ends.
    let over = tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new()));
    over.await.unwrap().unwrap();
    println!("refused {}", kit.counters.refused_total());
    kit.stop.cancel();
    served.await.unwrap().unwrap();
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn without_descriptors_it_waits_tells_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rpc::tests::listener::server_short_of_descriptors"])
        .args(["--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map(Killed)
        .unwrap();
    let mut said = io::BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut says = |what: &str| loop {
        let line = said.next().unwrap().unwrap();
        if let Some(at) = line.find(what) {
            return line[at..].to_owned();
        }
    };
    says("listening");

    let connect = || {
        let stream = StdUnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        stream
    };
    let ask = |mut stream: &StdUnixStream| -> String {
        let _ = stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"word.list\"}\n");
        let mut answer = String::new();
        let _ = io::BufReader::new(stream).read_line(&mut answer);
        answer
    };
    // More than it has descriptors for. Some are served, one or more are told, some wait.
    let clients: Vec<_> = (0..34).map(|_| connect()).collect();
    let answers: Vec<_> = clients.iter().take(30).map(ask).collect();
    let served = answers.iter().filter(|answer| answer.contains("result")).count();
    let told = answers.iter().filter(|answer| answer.contains("too_many_connections")).count();
    assert!(served >= 10 && told >= 1, "{served} served, {told} told");
    assert!(ask(&clients[0]).contains("result"), "those it serves are served on");

    drop(clients);
    let mut recovered = false;
    for _ in 0..40 {
        recovered = ask(&connect()).contains("result");
        if recovered {
            break;
        }
    }
    assert!(recovered, "it serves again when descriptors are free");
    drop(child.0.stdin.take());
    let refused = says("refused ");
    let refused: u32 = refused["refused ".len()..].trim().parse().unwrap();
    // It pauses longer each time; a busy loop would have turned away all there were at once.
    assert!((1..28).contains(&refused), "{refused}");
    assert!(child.0.wait().unwrap().success());
}
