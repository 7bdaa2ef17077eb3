//! Watching one run: three tasks that turn what they see into [`Observation`]s.
//!
//! ```text
//!   poller (HTTP) ─────╮
//!   stdout of the run ─┼─▶ channel ─▶ the server's task
//!   stderr of the run ─╯
//! ```
//!
//! They end with the run: dropping [`Observers`] aborts them.

use super::hang::Look;
use crate::clock::now_ms;
use crate::llama::{self, Client, Pace, Poll, Seen};
use crate::logs::file::{self, RunLog, Stream, Trim};
use crate::logs::index::TimeFile;
use crate::logs::line::Line;
use crate::logs::progress::{self, ChildState};
use crate::logs::tail::{Chunk, Start, Tail};
use crate::logs::watch::Watcher;
use crate::os::process;
use llamactl_protocol::metrics::LlamaSample;
use llamactl_protocol::server::InForce;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

/// Something that was seen of a run.
#[derive(Debug)]
pub(super) enum Observation {
    /// `/health` was asked of a server that is not ready yet.
    Health(Seen),
    /// A ready server was looked at.
    Looked(Seen, Look),
    /// Its load moved: output, memory, reading.
    Moved,
    /// It said that it listens.
    Announced,
    /// It said how far it is.
    Progress { stage: Option<String>, ratio: Option<f64> },
    /// What it uses, asked once when it became ready.
    InForce(InForce),
    /// So many requests are at work; `None` when it does not say. Seen while draining.
    Busy(Option<u32>),
}

/// What the poller is to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attention {
    /// Is it ready?
    Starting,
    /// How is it?
    Ready,
    /// Is it idle?
    Draining,
    /// Nothing: it was told to end.
    Ending,
}

/// The tasks that watch a run.
pub(super) struct Observers {
    pub(super) seen: mpsc::Receiver<Observation>,
    attention: watch::Sender<Attention>,
    llama: watch::Receiver<Option<LlamaSample>>,
    /// Never turns true: when the run ends, the tasks are ended with it.
    _ended: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// The logs of one stream of one run keep at most this much.
pub const LOG_KEEP_BYTES: u64 = 32 << 20;
/// How much more may be written before the head is freed again.
const TRIM_STEP_BYTES: u64 = 4 << 20;

impl Observers {
    /// Watches a run. `from_now` for an adopted one: what its logs say of its start is old.
    pub(super) fn start(
        watcher: &Watcher,
        log: &RunLog,
        client: Client,
        pid: i32,
        may_sleep: bool,
        from_now: bool,
    ) -> Observers {
        let (sender, seen) = mpsc::channel(64);
        let (attention, attentive) = watch::channel(Attention::Starting);
        let (llama_sender, llama) = watch::channel(None);
        let (ended, run_ended) = watch::channel(false);
        let hurry = Arc::new(Notify::new());
        let client = Arc::new(client);
        let mut tasks = JoinSet::new();
        tasks.spawn(poll(
            Poll::new(Arc::clone(&client), may_sleep),
            client,
            pid,
            attentive.clone(),
            Arc::clone(&hurry),
            llama_sender,
            sender.clone(),
        ));
        for stream in Stream::ALL {
            let reader = LogReader {
                log: log.clone(),
                stream,
                start: if from_now { Start::End } else { Start::Floor },
                seen: sender.clone(),
                attention: attentive.clone(),
                hurry: Arc::clone(&hurry),
                moved: None,
            };
            tasks.spawn(reader.read(watcher.clone(), run_ended.clone()));
        }
        Observers { seen, attention, llama, _ended: ended, _tasks: tasks }
    }

    pub(super) fn attend(&self, to: Attention) {
        self.attention.send_if_modified(|now| std::mem::replace(now, to) != to);
    }

    /// What the server says of itself, as it is asked.
    pub(super) fn llama(&self) -> watch::Receiver<Option<LlamaSample>> {
        self.llama.clone()
    }
}

/// Signs that a load moves are told no more often than this.
const MOVED_PACE: Duration = Duration::from_secs(1);

/// While it drains, a server is asked this often whether it is idle.
const DRAIN_PACE: Duration = Duration::from_millis(100);

async fn poll(
    mut poll: Poll,
    client: Arc<Client>,
    pid: i32,
    mut attention: watch::Receiver<Attention>,
    hurry: Arc<Notify>,
    llama: watch::Sender<Option<LlamaSample>>,
    seen: mpsc::Sender<Observation>,
) {
    let pace = Pace::of_start();
    let mut asked_in_force = false;
    let mut growth = (Instant::now(), process::growth(pid));
    loop {
        let now = *attention.borrow_and_update();
        if now == Attention::Starting && growth.0.elapsed() >= MOVED_PACE {
            let grown = process::growth(pid);
            if grown != growth.1 && seen.send(Observation::Moved).await.is_err() {
                return;
            }
            growth = (Instant::now(), grown);
        }
        let (observation, wait) = match now {
            Attention::Starting => {
                (Some(Observation::Health(poll.first_health().await)), pace.wait())
            }
            Attention::Ready => {
                if !asked_in_force && let Some(in_force) = llama::in_force(&client).await {
                    asked_in_force = true;
                    let _ = seen.send(Observation::InForce(in_force)).await;
                }
                let looked = poll.look().await;
                llama.send_replace(looked.sample);
                let look = Look {
                    answered: matches!(looked.seen, Seen::Healthy | Seen::Asleep),
                    working: looked.works,
                    progress: looked.progress,
                    cpu: process::cpu_time(pid),
                };
                (Some(Observation::Looked(looked.seen, look)), Pace::READY)
            }
            Attention::Draining => {
                (Some(Observation::Busy(llama::busy(&client).await)), DRAIN_PACE)
            }
            Attention::Ending => {
                llama.send_replace(None);
                (None, Duration::from_secs(3600))
            }
        };
        if let Some(observation) = observation
            && seen.send(observation).await.is_err()
        {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = hurry.notified() => {}
            changed = attention.changed() => if changed.is_err() { return },
        }
    }
}

/// Reads one output of a run for as long as it lasts: for the signs in it, for the time index,
/// and to keep the file bounded.
struct LogReader {
    log: RunLog,
    stream: Stream,
    start: Start,
    seen: mpsc::Sender<Observation>,
    attention: watch::Receiver<Attention>,
    hurry: Arc<Notify>,
    /// When output was last told of as a sign that the load moves.
    moved: Option<Instant>,
}

impl LogReader {
    async fn read(mut self, watcher: Watcher, ended: watch::Receiver<bool>) {
        let path = self.log.path(self.stream);
        let mut times = match self.stream {
            Stream::Stderr => TimeFile::open(&self.log.times_path()).ok(),
            Stream::Stdout => None,
        };
        let mut tail = match Tail::open(&path, self.start, ended, &watcher).await {
            Ok(tail) => tail,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a server's log");
                return;
            }
        };
        let mut trimmed_at = 0;
        loop {
            let end_offset = match tail.next().await {
                Ok(Some(Chunk::Lines(lines))) => {
                    for line in &lines {
                        self.look_at(&line.bytes).await;
                    }
                    self.tell_of_movement().await;
                    lines.last().map_or(0, |line| line.end_offset)
                }
                Ok(Some(Chunk::Missed { .. })) => continue,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "stopped reading a server's log");
                    return;
                }
            };
            if let Some(times) = &mut times
                && let Err(error) = times.note(now_ms(), end_offset)
            {
                tracing::debug!(%error, "cannot keep the time index of a log");
            }
            if end_offset > trimmed_at + LOG_KEEP_BYTES + TRIM_STEP_BYTES {
                trimmed_at = match trim(&path).await {
                    // Where a head cannot be freed the file begins anew.
                    Some(Trim::Emptied { .. }) => 0,
                    _ => end_offset.saturating_sub(LOG_KEEP_BYTES),
                };
            }
        }
    }

    async fn tell_of_movement(&mut self) {
        let loads = *self.attention.borrow() == Attention::Starting;
        if loads && self.moved.is_none_or(|moved| moved.elapsed() >= MOVED_PACE) {
            self.moved = Some(Instant::now());
            let _ = self.seen.send(Observation::Moved).await;
        }
    }

    async fn look_at(&self, raw: &[u8]) {
        let observation = match self.stream {
            Stream::Stderr => {
                let line = Line::parse(raw);
                progress::is_listening_line(&line.text).then_some(Observation::Announced)
            }
            Stream::Stdout => match progress::parse(&String::from_utf8_lossy(raw)) {
                Some(ChildState::Loading { current, done_ratio, .. }) => {
                    Some(Observation::Progress { stage: current, ratio: done_ratio })
                }
                Some(ChildState::Ready { .. }) => Some(Observation::Announced),
                Some(ChildState::Sleeping) => Some(Observation::Health(Seen::Asleep)),
                None => None,
            },
        };
        if let Some(observation) = observation {
            let announced = matches!(observation, Observation::Announced);
            let _ = self.seen.send(observation).await;
            if announced {
                // Do not let the poller sleep over it.
                self.hurry.notify_one();
            }
        }
    }
}

async fn trim(path: &Path) -> Option<Trim> {
    let trimmed = {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || file::trim(&path, LOG_KEEP_BYTES)).await
    };
    match trimmed {
        Ok(Ok(trim)) => Some(trim),
        Ok(Err(error)) => {
            tracing::warn!(path = %path.display(), %error, "cannot free the head of a log");
            None
        }
        Err(error) => {
            tracing::error!(%error, "freeing the head of a log");
            None
        }
    }
}
