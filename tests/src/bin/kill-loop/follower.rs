//! A follower of all events that resumes by its cursor whenever the daemon is there again, and must
//! see each event exactly once.

use crate::history::History;
use llamactl_tests::{DEADLINE, Rpc};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Of how many events the evidence tells.
const KEPT: usize = 40;

#[derive(Default)]
struct Seen {
    last: i64,
    events: VecDeque<String>,
    resumed: u64,
}

/// A thread that follows.
pub(crate) struct Follower {
    seen: Arc<(Mutex<Seen>, Condvar)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Begins with the first event there ever was.
    pub(crate) fn start(socket: PathBuf, history: History) -> Follower {
        let seen = Arc::<(Mutex<Seen>, Condvar)>::default();
        let stop = Arc::<AtomicBool>::default();
        let thread = {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            thread::spawn(move || follow(&socket, &history, &seen, &stop))
        };
        Follower { seen, stop, thread: Some(thread) }
    }

    /// Waits until it has seen this event; `false` when it has not in time.
    pub(crate) fn has_seen(&self, seq: i64) -> bool {
        let seen = self.seen.0.lock().unwrap();
        let waited = self.seen.1.wait_timeout_while(seen, DEADLINE, |seen| seen.last < seq);
        !waited.unwrap().1.timed_out()
    }

    /// The number of the last event it saw, and how often it had to resume.
    pub(crate) fn position(&self) -> (i64, u64) {
        let seen = self.seen.0.lock().unwrap();
        (seen.last, seen.resumed)
    }

    /// The last events it saw, one per line.
    pub(crate) fn last_events(&self) -> Vec<String> {
        self.seen.0.lock().unwrap().events.iter().cloned().collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn follow(
    socket: &std::path::Path,
    history: &History,
    seen: &(Mutex<Seen>, Condvar),
    stop: &AtomicBool,
) {
    let stopped = || stop.load(Ordering::Relaxed);
    while !stopped() {
        let Ok(mut rpc) = Rpc::try_connect(socket) else {
            // That a socket is there again announces itself by nothing.
            thread::sleep(Duration::from_millis(3));
            continue;
        };
        let after = seen.0.lock().unwrap().last;
        let call = json!({
            "jsonrpc": "2.0", "id": 1, "method": "event.follow", "params": { "after": after },
        });
        if rpc.send_bytes(format!("{call}\n").as_bytes()).is_err() {
            continue;
        }
        seen.0.lock().unwrap().resumed += 1;
        while !stopped() {
            let Some(line) = rpc.line_within(Duration::from_millis(200)) else { continue };
            let Some(line) = line else { break };
            let Ok(message) = serde_json::from_str::<Value>(&line) else { break };
            let item = &message["params"]["result"];
            match item["kind"].as_str() {
                Some("snapshot" | "change") => take(&item["data"], history, seen),
                Some("missed") => history.violation(format!("the events' follower missed: {item}")),
                Some("end") => break,
                _ if message["error"].is_object() => {
                    history.violation(format!("event.follow was refused: {message}"));
                    break;
                }
                _ => {}
            }
        }
    }
}

fn take(event: &Value, history: &History, (seen, changed): &(Mutex<Seen>, Condvar)) {
    let mut seen = seen.lock().unwrap();
    let seq = event["seq"].as_i64().unwrap_or(-1);
    if seq != seen.last + 1 {
        history.violation(format!("event {seq} came to the follower behind {}", seen.last));
    }
    seen.last = seq.max(seen.last);
    seen.events.push_back(format!(
        "{seq} {} {} {} run {} by {}: {}",
        event["at_ms"],
        event["kind"].as_str().unwrap_or_default(),
        event["model"].as_str().unwrap_or("-"),
        event["run_id"].as_str().unwrap_or("-"),
        event["by"],
        event["message"].as_str().unwrap_or_default(),
    ));
    if seen.events.len() > KEPT {
        seen.events.pop_front();
    }
    changed.notify_all();
}

/// Reads what `event.list` has behind `after`, all pages, and says the last number; the numbers
/// must follow one another without a gap.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn list_behind(rpc: &mut Rpc, mut after: i64) -> Result<i64, String> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let page = rpc.call("event.list", json!({ "after": after }));
        for event in page["items"].as_array().into_iter().flatten() {
            let seq = event["seq"].as_i64().unwrap_or(-1);
            if seq != after + 1 {
                return Err(format!("event.list gives event {seq} behind {after}"));
            }
            after = seq;
        }
        if page["next"].is_null() {
            return Ok(after);
        }
        if Instant::now() > deadline {
            return Err("event.list does not come to an end".to_owned());
        }
    }
}
