//! One stream to one reader, through all of the wire, beside a program that writes the same lines one by one.

use llamactl_protocol::Actor;
use llamactl_protocol::event::{Event, EventFollow, EventKind};
use llamactld::rpc::{Authority, Caller, Emission, Limits, Server, Service, Source};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// So many messages are timed.
pub(super) const MESSAGES: usize = 500_000;

/// What was measured, in messages a second.
pub(super) struct Figures {
    pub(super) floor: f64,
    pub(super) stream: f64,
    pub(super) line_bytes: usize,
}

/// The better of five runs of each, in turn.
pub(super) fn measure() -> Figures {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let service =
        Service::default().stream(async |_: &(), _: Caller, _: EventFollow| Ok(Same::new()));
    let server = Server {
        routes: service.into_routes(&Arc::new(())),
        authority: Authority::user(rustix::process::geteuid().as_raw()),
        limits: Limits::with_test_deadline(None),
        counters: Arc::default(),
    };
    let closing = CancellationToken::new();
    let (_renewed, new_listeners) = mpsc::channel(1);
    let serving = runtime.spawn(server.serve(listener, new_listeners, closing.clone()));

    let (mut floor, mut stream, mut line) = (0.0_f64, 0.0_f64, String::new());
    for _ in 0..5 {
        let mut client = UnixStream::connect(&path).unwrap();
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "event.follow", "params": {} });
        writeln!(client, "{call}").unwrap();
        let mut reader = BufReader::with_capacity(64 << 10, client);
        // The answer, and a first item to begin behind.
        for _ in 0..2 {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        stream = stream.max(per_second(&mut reader));
        floor = floor.max(bare(line.clone()));
    }
    closing.cancel();
    runtime.block_on(serving).unwrap().unwrap();
    Figures { floor, stream, line_bytes: line.len() }
}

/// How fast lines come.
fn per_second(reader: &mut BufReader<UnixStream>) -> f64 {
    let (mut lines, start) = (0, Instant::now());
    while lines < MESSAGES {
        let read = reader.fill_buf().unwrap();
        let bytes = read.len();
        assert!(bytes > 0, "it goes on");
        lines += read.iter().filter(|byte| **byte == b'\n').count();
        reader.consume(bytes);
    }
    lines as f64 / start.elapsed().as_secs_f64()
}

/// The same lines, a write each.
fn bare(line: String) -> f64 {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let writing = thread::spawn(move || while ours.write_all(line.as_bytes()).is_ok() {});
    let mut reader = BufReader::with_capacity(64 << 10, theirs);
    let fast = per_second(&mut reader);
    drop(reader);
    writing.join().unwrap();
    fast
}

/// One event, again and again.
struct Same(Event);

impl Same {
    fn new() -> Same {
        Same(Event {
            seq: 123_456,
            at_ms: 1_700_000_000_000,
            kind: EventKind::ServerReady,
            model_id: Some(7),
            model: Some("qwen3-8b".to_owned()),
            run_id: Some("0198c0de-0000-7000-8000-000000000000".to_owned()),
            by: Actor::Process,
            message: "it is ready after 3.2 s".to_owned(),
            details: None,
        })
    }
}

impl Source for Same {
    type Item = Event;

    async fn next(&mut self) -> Emission<Event> {
        Emission::Change { cursor: Some("123456".to_owned()), data: self.0.clone() }
    }
}
