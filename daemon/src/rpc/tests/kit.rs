//! A small service, and a plain client for it.

use super::super::budget::Census;
use super::super::connection;
use super::super::peer::Peer;
use super::super::session::{Signals, lock};
use super::super::{
    Broadcast, Caller, Counters, Emission, Latest, Limits, Routes, Service, Source,
};
use llamactl_protocol::{Access, Failure, Hint, Kind, Method, Subscription};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::future::pending;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, Semaphore, broadcast, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What no test waits longer for. Only a failing one does.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

macro_rules! method {
    ($(#[$doc:meta])* $name:ident $wire:literal $access:ident $output:ty { $($field:ident: $type:ty),* }) => {
        $(#[$doc])*
        #[derive(Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(in super::super) struct $name { $(pub(in super::super) $field: $type),* }

        impl Method for $name {
            const NAME: &'static str = $wire;
            const ACCESS: Access = Access::$access;
            type Output = $output;
        }
    };
}

macro_rules! stream {
    ($name:ident $noun:literal $item:ty) => {
        /// Follows.
        #[derive(Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(in super::super) struct $name {}

        impl Subscription for $name {
            const NAME: &'static str = concat!($noun, ".follow");
            const UNSUBSCRIBE: &'static str = concat!($noun, ".unfollow");
            const NOTIFICATION: &'static str = concat!($noun, ".item");
            const ACCESS: Access = Access::Observe;
            type Item = $item;
        }
    };
}

method!(
    /// Adds a word.
    Add "word.add" Operate usize { word: String }
);
method!(/// Lists the words.
    List "word.list" Observe Vec<String> {});
method!(/// Answers when told to.
    Wait "wait.here" Observe bool {});
method!(/// Answers with so many letters.
    Big "big.text" Observe String { bytes: usize });
method!(/// Answers how many of it run on threads at once.
    Busy "busy.now" Observe usize {});
method!(/// Panics.
    Boom "boom.now" Observe bool {});
method!(/// Fails.
    Fail "fail.now" Observe bool {});
method!(/// For administrators.
    Secret "secret.tell" Admin bool {});
stream!(Ticks "ticks" u64);
stream!(State "state" u64);
stream!(Flood "flood" String);
stream!(Broken "broken" u64);
stream!(Quiet "quiet" u64);

/// What the handlers share with the test.
pub(super) struct World {
    words: Mutex<Vec<String>>,
    /// One permit lets one waiting call go on.
    pub(super) gate: Semaphore,
    /// Told whenever a call begins to wait at the gate.
    pub(super) at_gate: Notify,
    pub(super) ticks: broadcast::Sender<u64>,
    pub(super) state: watch::Sender<u64>,
    pub(super) calls: AtomicU64,
    busy: AtomicUsize,
    /// Sources of quiet streams alive now.
    pub(super) quiet: Arc<()>,
}

impl World {
    fn new() -> Self {
        World {
            words: Mutex::default(),
            gate: Semaphore::new(0),
            at_gate: Notify::new(),
            ticks: broadcast::channel(32).0,
            state: watch::channel(0).0,
            calls: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            quiet: Arc::default(),
        }
    }

    async fn wait(&self) {
        self.at_gate.notify_one();
        self.gate.acquire().await.unwrap().forget();
    }

    pub(super) fn words(&self) -> Vec<String> {
        lock(&self.words).clone()
    }
}

/// Items as fast as they are asked for, of 4 KiB.
struct Flooding(u64);

impl Source for Flooding {
    type Item = String;

    async fn next(&mut self) -> Emission<String> {
        self.0 += 1;
        let size = if self.0 == 3 { 3 << 20 } else { 4 << 10 };
        Emission::Change { cursor: Some(self.0.to_string()), data: "x".repeat(size) }
    }
}

struct Breaking(bool);

impl Source for Breaking {
    type Item = u64;

    async fn next(&mut self) -> Emission<u64> {
        assert!(!self.0, "this source breaks");
        self.0 = true;
        Emission::Snapshot { cursor: None, data: 1 }
    }
}

struct Silent {
    _alive: Arc<()>,
}

impl Source for Silent {
    type Item = u64;

    async fn next(&mut self) -> Emission<u64> {
        pending().await
    }
}

fn service() -> Service<World> {
    Service::default()
        .on(async |world: &World, _: Caller, Add { word }: Add| {
            if word.starts_with("slow") {
                world.wait().await;
            }
            let mut words = lock(&world.words);
            words.push(word);
            Ok(words.len())
        })
        .on(async |world: &World, _: Caller, List {}: List| {
            world.calls.fetch_add(1, Ordering::Relaxed);
            Ok(world.words())
        })
        .on(async |world: &World, _: Caller, Wait {}: Wait| {
            world.wait().await;
            Ok(true)
        })
        .on(async |world: &World, _: Caller, Big { bytes }: Big| {
            world.calls.fetch_add(1, Ordering::Relaxed);
            Ok("x".repeat(bytes))
        })
        .on(async |world: &World, _: Caller, Busy {}: Busy| {
            let mut most = 0;
            for _ in 0..2 {
                most = most.max(world.busy.fetch_add(1, Ordering::SeqCst) + 1);
                (0..100).for_each(|_| std::thread::yield_now());
                world.busy.fetch_sub(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
            Ok(most)
        })
        .on(async |_: &World, _: Caller, Boom {}: Boom| {
            assert!(std::hint::black_box(false), "this handler breaks");
            Ok(true)
        })
        .on(async |_: &World, caller: Caller, Fail {}: Fail| {
            Err(Failure::new(Kind::ModelNotFound, format!("no model for {}", caller.actor))
                .hint(Hint::run("see which there are", ["llamactl", "model", "list"]))
                .details(json!({"near": ["a"]})))
        })
        .on(async |_: &World, _: Caller, Secret {}: Secret| Ok(true))
        .stream(async |world: &World, _: Caller, Ticks {}: Ticks| {
            let receiver = world.ticks.subscribe();
            let change = |n: u64| Some((Some(n.to_string()), n));
            Ok(Broadcast::new([(Some("0".to_owned()), 0)], receiver, change))
        })
        .stream(async |world: &World, _: Caller, State {}: State| {
            Ok(Latest::new(world.state.subscribe(), |n: &u64| *n))
        })
        .stream(async |_: &World, _: Caller, Flood {}: Flood| Ok(Flooding(0)))
        .stream(async |_: &World, _: Caller, Broken {}: Broken| Ok(Breaking(false)))
        .stream(async |world: &World, _: Caller, Quiet {}: Quiet| {
            Ok(Silent { _alive: Arc::clone(&world.quiet) })
        })
}

/// The service, and connections to it.
pub(super) struct Kit {
    pub(super) world: Arc<World>,
    pub(super) routes: Arc<Routes>,
    pub(super) limits: Limits,
    census: Arc<Census>,
    pub(super) counters: Arc<Counters>,
    pub(super) stop: CancellationToken,
    pub(super) abort: CancellationToken,
    pub(super) connections: TaskTracker,
}

impl Kit {
    pub(super) fn new() -> Self {
        Kit::within(Limits::default())
    }

    pub(super) fn within(limits: Limits) -> Self {
        let world = Arc::new(World::new());
        Kit {
            routes: service().into_routes(&world),
            world,
            limits,
            census: Census::new(),
            counters: Arc::default(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            connections: TaskTracker::new(),
        }
    }

    pub(super) fn connect(&self) -> Client {
        self.connect_as(Access::Admin)
    }

    pub(super) fn connect_as(&self, access: Access) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = Peer { uid: 1000, gid: 1000, pid: Some(42), access };
        let signals = Signals::new(self.stop.clone(), self.abort.clone());
        let (routes, counters) = (Arc::clone(&self.routes), Arc::clone(&self.counters));
        self.connections.spawn(connection::serve(
            theirs,
            peer,
            routes,
            self.limits,
            self.census.enter(peer.uid, &self.limits).unwrap(),
            counters,
            signals,
        ));
        Client::new(ours)
    }

    /// Waits until every connection is closed on the daemon's side.
    pub(super) async fn all_closed(&self) {
        self.connections.close();
        within_patience(self.connections.wait()).await;
    }
}

pub(in super::super) async fn within_patience<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it should not take so long")
}

/// A peer that writes and reads lines.
pub(super) struct Client {
    pub(super) read: Lines<BufReader<OwnedReadHalf>>,
    pub(super) write: OwnedWriteHalf,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Client { read: BufReader::new(read).lines(), write }
    }

    pub(super) async fn send(&mut self, line: impl AsRef<[u8]>) {
        self.write.write_all(line.as_ref()).await.unwrap();
        self.write.write_all(b"\n").await.unwrap();
    }

    pub(super) async fn ask(&mut self, id: u64, method: &str, params: Value) {
        self.send(request(id, method, params)).await;
    }

    /// The next line; `None` when the daemon closed the connection.
    pub(super) async fn line(&mut self) -> Option<Value> {
        let line = within_patience(self.read.next_line()).await.unwrap_or_default()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    pub(super) async fn next(&mut self) -> Value {
        self.line().await.expect("the daemon closed the connection")
    }

    pub(super) async fn call(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.ask(id, method, params).await;
        self.next().await
    }

    /// The kind of the failure that comes next.
    pub(super) async fn failure(&mut self) -> String {
        kind(&self.next().await)
    }

    /// The next stream item: its kind, its data, its cursor.
    pub(super) async fn item(&mut self) -> (String, Value, Value) {
        let item = self.next().await["params"]["result"].take();
        assert!(item["at_ms"].as_i64().unwrap() > 1_600_000_000_000, "{item}");
        (item["kind"].as_str().unwrap().into(), item["data"].clone(), item["cursor"].clone())
    }
}

pub(super) fn request(id: u64, method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// The kind of the failure an answer carries. Checks that its code is that kind's.
pub(super) fn kind(answer: &Value) -> String {
    let error = &answer["error"];
    let name = error["data"]["kind"].as_str().unwrap_or_else(|| panic!("no failure: {answer}"));
    assert_eq!(error["code"], Kind::from_name(name).code(), "{answer}");
    assert!(!error["message"].as_str().unwrap().is_empty(), "{answer}");
    name.to_owned()
}

impl Client {
    /// The next line, however long it takes: for tests that hold the clock.
    pub(super) async fn next_without_patience(&mut self) -> Value {
        let line = self.read.next_line().await.unwrap().expect("the daemon closed the connection");
        serde_json::from_str(&line).unwrap()
    }
}
