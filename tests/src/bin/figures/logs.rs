//! From a line in a log to who follows it, beside a program that waits for the same file with
//! inotify and reads it; and what following costs the daemon.

use super::Times;
use super::processor::Threads;
use llamactl_tests::{Daemon, Home};
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use serde_json::json;
use std::fs::{self, File};
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

const LINES: usize = 2000;
/// As a busy llama-server writes.
const PAUSE: Duration = Duration::from_millis(3);
const BURST_LINES: u64 = 200_000;
const LINE_BYTES: u64 = 110;

/// What was measured.
pub(super) struct Figures {
    /// A bare reader that waits with inotify.
    pub(super) floor: Times,
    /// `log.follow`.
    pub(super) follow: Times,
    /// For so many followers, the daemon's time for a line and follower, in microseconds.
    pub(super) costs: Vec<(u64, f64)>,
}

pub(super) fn measure() -> Figures {
    let home = Home::with_fake_llama_server();
    let daemon = home.daemon();
    home.fake_model("m", &json!({}));
    home.cli(["start", "m"]).ok();
    let pid = home.call("server.show", json!({ "model": "m" }))["run"]["pid"].clone();
    let path = fs::read_link(format!("/proc/{pid}/fd/2")).unwrap();

    let (told, waits) = channel();
    let watched = path.clone();
    let (ready, begun) = channel();
    thread::spawn(move || wait_bare(&watched, &ready, &told));
    begun.recv().unwrap();
    let floor = write_and_time(&path, &waits);
    drop(waits);

    let (told, waits) = channel();
    let mut stream = home.follow("log.follow", json!({ "model": "m", "lines": 0 }));
    thread::spawn(move || {
        while let Some(item) = stream.next_item() {
            let now = Instant::now();
            for _ in item["data"]["lines"].as_array().into_iter().flatten() {
                if told.send(now).is_err() {
                    return;
                }
            }
        }
    });
    let follow = write_and_time(&path, &waits);
    drop(waits);
    let costs = [1, 10].map(|followers| (followers, cost(&home, &daemon, &path, followers)));
    Figures { floor, follow, costs: costs.to_vec() }
}

/// Says when each change of the file was read.
fn wait_bare(path: &Path, ready: &Sender<()>, told: &Sender<Instant>) {
    let inotify = init(CreateFlags::empty()).unwrap();
    add_watch(&inotify, path, WatchFlags::MODIFY).unwrap();
    let file = File::open(path).unwrap();
    let mut offset = file.metadata().unwrap().len();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(&inotify, &mut buffer);
    let mut text = vec![0; 64 * 1024];
    ready.send(()).unwrap();
    while events.next().is_ok() {
        let read = file.read_at(&mut text, offset).unwrap();
        offset += read as u64;
        let now = Instant::now();
        for _ in text[..read].iter().filter(|byte| **byte == b'\n') {
            if told.send(now).is_err() {
                return;
            }
        }
    }
}

fn write_and_time(path: &Path, waits: &Receiver<Instant>) -> Times {
    let mut log = File::options().append(true).open(path).unwrap();
    let mut once = || {
        thread::sleep(PAUSE);
        let start = Instant::now();
        log.write_all(&[&[b'x'; LINE_BYTES as usize - 1][..], b"\n"].concat()).unwrap();
        waits.recv().unwrap().saturating_duration_since(start)
    };
    for _ in 0..100 {
        once();
    }
    Times::of((0..LINES).map(|_| once()).collect(), 99)
}

/// The daemon's processor time for a line and follower of a burst.
fn cost(home: &Home, daemon: &Daemon, path: &PathBuf, followers: u64) -> f64 {
    let streams: Vec<_> = (0..followers)
        .map(|_| home.follow("log.follow", json!({ "model": "m", "lines": 0 })))
        .collect();
    let before = Threads::of(daemon.pid());
    let reading: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            thread::spawn(move || {
                let mut lines = 0;
                while lines < BURST_LINES {
                    // Only counted, so that the followers are faster than the daemon.
                    let line = stream.next_line().unwrap();
                    lines += line.matches("\"end\":").count() as u64;
                }
            })
        })
        .collect();
    let mut log = File::options().append(true).open(path).unwrap();
    let burst = [&[b'x'; LINE_BYTES as usize - 1][..], b"\n"].concat().repeat(500);
    for _ in 0..BURST_LINES / 500 {
        log.write_all(&burst).unwrap();
    }
    for reader in reading {
        reader.join().unwrap();
    }
    before.since().processor_ms() * 1e3 / (BURST_LINES * followers) as f64
}
