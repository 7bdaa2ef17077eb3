//! Watching one run: three tasks that turn what they see into [`Observation`]s.
//!
//! ```text
//!   poller (HTTP) ─────╮
//!   stdout of the run ─┼─▶ channel ─▶ the server's task
//!   stderr of the run ─╯
//! ```
//!
//! They end with the run: dropping [`Observers`] aborts them. A ready server that is quiet is asked
//! nothing until its [`Activity`] has a sign, or for half a minute.

use super::command_line;
use super::core::driver::Attention;
use super::core::hang::Look;
use crate::clock::now_ms;
use crate::llama::{self, Client, Pace, Poll, Seen};
use crate::logs::file::{self, RunLog, Stream, Trim, Whereabouts};
use crate::logs::index::TimeFile;
use crate::logs::line::Line;
use crate::logs::progress::{self, ChildState};
use crate::logs::tail::{Chunk, Start, Tail, TailError};
use crate::logs::watch::Watcher;
use crate::metrics::Activity;
use crate::os::process;
use llamactl_protocol::WirePath;
use llamactl_protocol::metrics::LlamaSample;
use llamactl_protocol::server::InForce;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

/// Something that was seen of a run.
#[derive(Debug)]
pub(super) enum Observation {
    /// `/health` was asked of a server that is not ready yet.
    Health(Seen),
    /// A ready server was looked at: what `/health` said, what it does, and what the system says its
    /// process does.
    Looked { seen: Seen, look: Look, process_state: Option<char> },
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

/// The tasks that watch a run.
pub(super) struct Observers {
    pub(super) seen: mpsc::Receiver<Observation>,
    attention: watch::Sender<Attention>,
    llama: watch::Receiver<Option<LlamaSample>>,
    activity: Arc<Activity>,
    /// Never turns true: when the run ends, the tasks are ended with it.
    _ended: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// In the place of a size that no log has told of.
const UNTOLD: u64 = u64::MAX;

/// The logs of one stream of one run keep at most this much.
pub const LOG_KEEP_BYTES: u64 = 32 << 20;
/// How much more may be written before the head is freed again.
const TRIM_STEP_BYTES: u64 = 4 << 20;

/// What the command line of a server says of how to watch it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manners {
    /// It may unload its model by itself.
    may_sleep: bool,
    logs_requests: bool,
    logs_its_cache: bool,
    prompt_cache_limit_bytes: Option<u64>,
}

impl Manners {
    pub(super) fn of(argv: &[WirePath]) -> Manners {
        Manners {
            may_sleep: command_line::may_sleep(argv),
            logs_requests: command_line::logs_requests(argv),
            logs_its_cache: command_line::logs_its_cache(argv),
            prompt_cache_limit_bytes: command_line::prompt_cache_limit_bytes(argv),
        }
    }

    /// How long it is left alone while it is quiet.
    fn rest(self) -> Duration {
        if self.logs_requests { Pace::QUIET } else { Pace::QUIET_WITHOUT_LOG }
    }
}

impl Observers {
    /// Watches a run. `from_now` for an adopted one: what its logs say of its start is old.
    pub(super) fn start(
        watcher: &Watcher,
        log: &RunLog,
        client: Client,
        pid: i32,
        manners: Manners,
        from_now: bool,
    ) -> Observers {
        let (sender, seen) = mpsc::channel(64);
        let (attention, attentive) = watch::channel(Attention::Starting);
        let (llama_sender, llama) = watch::channel(None);
        let (ended, run_ended) = watch::channel(false);
        let hurry = Arc::new(Notify::new());
        let activity = Arc::new(Activity::default());
        let client = Arc::new(client);
        let prompt_cache = Arc::new(AtomicU64::new(UNTOLD));
        let mut tasks = JoinSet::new();
        let poller = Poller {
            poll: Poll::new(Arc::clone(&client), manners.may_sleep),
            client,
            pid,
            manners,
            prompt_cache: Arc::clone(&prompt_cache),
            attention: attentive.clone(),
            hurry: Arc::clone(&hurry),
            activity: Arc::clone(&activity),
            llama: llama_sender,
            seen: sender.clone(),
        };
        tasks.spawn(poller.run());
        for stream in Stream::ALL {
            let reader = LogReader {
                log: log.clone(),
                stream,
                pid,
                start: if from_now { Start::End } else { Start::Floor },
                seen: sender.clone(),
                attention: attentive.clone(),
                hurry: Arc::clone(&hurry),
                activity: Arc::clone(&activity),
                moved: None,
                prompt_cache: manners.logs_its_cache.then(|| Arc::clone(&prompt_cache)),
            };
            tasks.spawn(reader.read(watcher.clone(), run_ended.clone()));
        }
        Observers { seen, attention, llama, activity, _ended: ended, _tasks: tasks }
    }

    /// Nobody watches it: its record is damaged.
    pub(super) fn none() -> Observers {
        let (_, seen) = mpsc::channel(1);
        let (_, llama) = watch::channel(None);
        Observers {
            seen,
            attention: watch::channel(Attention::Ending).0,
            llama,
            activity: Arc::default(),
            _ended: watch::channel(false).0,
            _tasks: JoinSet::new(),
        }
    }

    pub(super) fn attend(&self, to: Attention) {
        self.attention.send_if_modified(|now| std::mem::replace(now, to) != to);
    }

    /// What the server says of itself, as it is asked.
    pub(super) fn llama(&self) -> watch::Receiver<Option<LlamaSample>> {
        self.llama.clone()
    }

    /// Where a sign of work is left.
    pub(super) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }
}

/// Signs that a load moves are told no more often than this.
const MOVED_PACE: Duration = Duration::from_secs(1);

/// While it drains, it is looked this often whether the process still uses a processor. Asking
/// llama-server itself so often would keep it from noticing that clients have left.
const QUIET_PACE: Duration = Duration::from_millis(100);

/// How often the growth of a log is noted that nobody reads.
const NOTE_PACE: Duration = Duration::from_secs(1);

/// The only one who asks a server anything while it runs.
struct Poller {
    poll: Poll,
    client: Arc<Client>,
    pid: i32,
    manners: Manners,
    /// How large its prompt cache is, as its log told last.
    prompt_cache: Arc<AtomicU64>,
    attention: watch::Receiver<Attention>,
    hurry: Arc<Notify>,
    activity: Arc<Activity>,
    llama: watch::Sender<Option<LlamaSample>>,
    seen: mpsc::Sender<Observation>,
}

impl Poller {
    async fn run(mut self) {
        let pace = Pace::of_start();
        let mut asked_in_force = false;
        let mut growth = (Instant::now(), self.growth());
        loop {
            let now = *self.attention.borrow_and_update();
            if now == Attention::Starting && growth.0.elapsed() >= MOVED_PACE {
                let grown = self.growth();
                if grown != growth.1 && self.seen.send(Observation::Moved).await.is_err() {
                    return;
                }
                growth = (Instant::now(), grown);
            }
            let (observation, wait) = match now {
                Attention::Starting => {
                    (Some(Observation::Health(self.poll.first_health().await)), pace.wait())
                }
                Attention::Ready => {
                    if !asked_in_force && let Some(in_force) = llama::in_force(&self.client).await {
                        asked_in_force = true;
                        let _ = self.seen.send(Observation::InForce(in_force)).await;
                    }
                    (Some(self.look().await), Pace::READY)
                }
                Attention::Draining => {
                    (Some(Observation::Busy(llama::busy(&self.client).await)), Pace::READY)
                }
                Attention::Ending => {
                    self.llama.send_replace(None);
                    (None, Duration::from_secs(3600))
                }
            };
            if let Some(observation) = observation
                && self.seen.send(observation).await.is_err()
            {
                return;
            }
            let is_quiet = now == Attention::Ready && self.poll.is_quiet();
            let rest = is_quiet.then(|| self.manners.rest());
            tokio::select! {
                () = pause(wait, rest, &self.activity) => {}
                () = self.hurry.notified() => {}
                () = falls_quiet(self.pid, &self.activity), if now == Attention::Draining => {}
                changed = self.attention.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn look(&mut self) -> Observation {
        let worked = self.activity.has_worked();
        let looked = self.poll.look(worked).await;
        let prompt_cache = self.prompt_cache.load(Ordering::Relaxed);
        self.llama.send_replace(looked.sample.map(|sample| LlamaSample {
            prompt_cache_bytes: Some(prompt_cache).filter(|bytes| *bytes != UNTOLD),
            prompt_cache_limit_bytes: self.manners.prompt_cache_limit_bytes,
            ..sample
        }));
        let ticks = cpu_ticks(self.pid, &self.activity);
        // Behind the look, so that what it costs is not taken for work.
        self.activity.looked(ticks);
        let look = Look {
            answered: matches!(looked.seen, Seen::Healthy | Seen::Asleep),
            working: looked.works,
            progress: looked.progress,
            cpu: ticks.map(process::time_of_ticks),
        };
        let process_state = process::state(self.pid);
        Observation::Looked { seen: looked.seen, look, process_state }
    }

    /// What moves while it loads, of each of its processes.
    fn growth(&self) -> Vec<(Option<u64>, Option<u64>)> {
        let others = self.activity.others().into_iter().map(u32::cast_signed);
        std::iter::once(self.pid).chain(others).map(process::growth).collect()
    }
}

/// What they have used of processors, in clock ticks; `None` when there is no such server.
fn cpu_ticks(pid: i32, activity: &Activity) -> Option<u64> {
    let own = process::stat(pid)?.cpu_ticks;
    let of = |pid: u32| Some(process::stat(pid.cast_signed())?.cpu_ticks);
    Some(activity.others().into_iter().filter_map(of).fold(own, u64::saturating_add))
}

/// Waits for so long; and, where a rest is due, until it is over or there is a sign of work.
async fn pause(wait: Duration, rest: Option<Duration>, activity: &Activity) {
    let next = tokio::time::Instant::now() + wait;
    if let Some(rest) = rest {
        let _ = tokio::time::timeout(rest, activity.sign()).await;
    }
    tokio::time::sleep_until(next).await;
}

/// Waits until a process that used a processor uses none any more: its requests may be done.
async fn falls_quiet(pid: i32, activity: &Activity) {
    let mut before = cpu_ticks(pid, activity);
    let mut worked = false;
    loop {
        tokio::time::sleep(QUIET_PACE).await;
        let now = cpu_ticks(pid, activity);
        match now != before {
            true => worked = true,
            false if worked => return,
            false => {}
        }
        before = now;
    }
}

/// Reads one output of a run for as long as it lasts: for the signs in it, for the time index,
/// and to keep the file bounded.
struct LogReader {
    log: RunLog,
    stream: Stream,
    pid: i32,
    start: Start,
    seen: mpsc::Sender<Observation>,
    attention: watch::Receiver<Attention>,
    hurry: Arc<Notify>,
    activity: Arc<Activity>,
    /// When output was last told of as a sign that the load moves.
    moved: Option<Instant>,
    /// Where it is told how large the prompt cache is, where the log says so.
    prompt_cache: Option<Arc<AtomicU64>>,
}

impl LogReader {
    async fn read(mut self, watcher: Watcher, ended: watch::Receiver<bool>) {
        let path = self.log.path(self.stream);
        let mut times = match self.stream {
            Stream::Stderr => TimeFile::open(&self.log.times_path()).ok(),
            Stream::Stdout => None,
        };
        // Kept for as long as the run: the log stays bounded whatever becomes of its name.
        let opened = match self.open().await {
            Ok(file) => {
                let file = Arc::new(file);
                let tail = Tail::of(Arc::clone(&file), self.start, ended, &watcher).await;
                tail.map(|tail| (file, tail))
            }
            Err(error) => Err(error.into()),
        };
        let (file, mut tail) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a server's log");
                return;
            }
        };
        let mut length: u64 = 0;
        let mut trimmed_at = 0;
        let mut pace = NOTE_PACE;
        loop {
            // What llama-server says in its log matters until it is ready; from then on only how
            // much it is, unless it tells of its prompt cache. Its progress lines tell of sleep, later
            // too.
            let reads = self.stream == Stream::Stdout
                || self.prompt_cache.is_some()
                || *self.attention.borrow() == Attention::Starting;
            let grown = match reads {
                true => self.read_on(&mut tail).await,
                false => {
                    // A server that writes much is noted once in a while.
                    tokio::time::sleep(pace).await;
                    tail.length_after(length).await
                }
            };
            let before = length;
            length = match grown {
                Ok(Some(grown)) => {
                    if *self.attention.borrow() == Attention::Ready {
                        self.activity.works();
                    }
                    grown
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "stopped reading a server's log");
                    return;
                }
            };
            pace = match length.saturating_sub(before) {
                // So that a fast one cannot fill the disk between two looks.
                grown if grown > TRIM_STEP_BYTES => NOTE_PACE / 20,
                _ => NOTE_PACE,
            };
            if let Some(times) = &mut times
                && let Err(error) = times.note(now_ms(), length)
            {
                tracing::debug!(%error, "cannot keep the time index of a log");
            }
            // Somebody emptied it.
            trimmed_at = trimmed_at.min(length);
            if length > trimmed_at + LOG_KEEP_BYTES + TRIM_STEP_BYTES {
                trimmed_at = match trim(&file, &path).await {
                    // Where a head cannot be freed the file begins anew.
                    Some(Trim::Emptied { .. }) => 0,
                    _ => length.saturating_sub(LOG_KEEP_BYTES),
                };
            }
        }
    }

    async fn open(&self) -> std::io::Result<File> {
        let (log, stream, pid) = (self.log.clone(), self.stream, self.pid);
        let opened = tokio::task::spawn_blocking(move || log.open(stream, Some(pid), true)).await;
        let (file, whereabouts) = opened.map_err(std::io::Error::other)??;
        if whereabouts != Whereabouts::Usual {
            let path = self.log.path(stream);
            tracing::warn!(path = %path.display(), ?whereabouts, "a log is not where it was made");
        }
        Ok(file)
    }

    /// Reads what comes next and looks for signs in it; how far the log was read. A line that is
    /// waited for while the server becomes ready is not waited for any longer.
    async fn read_on(&mut self, tail: &mut Tail) -> Result<Option<u64>, TailError> {
        loop {
            let mut attention = self.attention.clone();
            let chunk = tokio::select! {
                chunk = tail.next() => chunk?,
                // The sender lives as long as the run.
                _ = attention.wait_for(|now| *now != Attention::Starting),
                    if self.stream == Stream::Stderr && self.prompt_cache.is_none() =>
                        return Ok(Some(tail.offset())),
            };
            match chunk {
                Some(Chunk::Lines(lines)) => {
                    for line in lines.iter() {
                        self.look_at(&line.bytes).await;
                    }
                    self.tell_of_movement().await;
                    if let Some(line) = lines.last() {
                        return Ok(Some(line.end_offset));
                    }
                }
                Some(Chunk::Missed { .. } | Chunk::Deleted) => {}
                None => return Ok(None),
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
        if let Some(told) = &self.prompt_cache
            && let Some(bytes) = progress::prompt_cache_bytes(raw)
        {
            told.store(bytes, Ordering::Relaxed);
        }
        let told = match self.stream {
            Stream::Stderr => None,
            Stream::Stdout => progress::parse(&String::from_utf8_lossy(raw)),
        };
        let observation = match told {
            Some(ChildState::Loading { current, done_ratio, .. }) => {
                Some(Observation::Progress { stage: current, ratio: done_ratio })
            }
            Some(ChildState::Ready { .. }) => Some(Observation::Announced),
            Some(ChildState::Sleeping) => Some(Observation::Health(Seen::Asleep)),
            // With `log-jsonl` the log is on stdout.
            None if *self.attention.borrow() == Attention::Starting => {
                let line = Line::parse(raw);
                progress::is_listening_line(&line.text).then_some(Observation::Announced)
            }
            None => None,
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

async fn trim(file: &Arc<File>, path: &Path) -> Option<Trim> {
    let trimmed = {
        let file = Arc::clone(file);
        tokio::task::spawn_blocking(move || file::trim(&file, LOG_KEEP_BYTES)).await
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
