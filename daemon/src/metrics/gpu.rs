//! GPUs: asked on a thread of their own, because a driver may take its time, or for ever.
//!
//! ```text
//!   GpuSource ◀── Poller ──▶ watch ──▶ GpuFeed ──▶ sampling loop
//!   (NVML, …)     its own thread       what was said last, unless it is too old
//! ```
//!
//! The loop never waits for a GPU: it takes what was published last, and once that is too old
//! only the identities (UUID, index, name), with every reading `None`. A source that fails is
//! reopened, later each time. Cheap readings are taken at every tick; fans, counts of faults and the
//! memory of processes cost milliseconds of a lock the whole driver shares and are asked every ten
//! seconds, the latter only while there is a server to ask for, or when somebody wants to see it.

use llamactl_protocol::metrics::Gpu;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Between two looks at fans or at the memory of processes.
const COSTLY_EVERY: Duration = Duration::from_secs(10);
/// The same where somebody asks for the processes.
const ASKED_EVERY: Duration = Duration::from_secs(5);
/// How long who asks for them waits.
const LONGEST_ANSWER: Duration = Duration::from_secs(2);
/// The first wait before a source is reopened; it doubles up to the longest.
const REOPEN_AFTER: Duration = Duration::from_secs(2);
const REOPEN_AFTER_AT_MOST: Duration = Duration::from_secs(300);
/// Readings older than this, or than three ticks, are no readings.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// A way to ask for GPUs. Its calls may block; they are made from one thread only.
pub(super) trait GpuSource: Send + 'static {
    /// What people call it.
    fn name(&self) -> &'static str;

    /// Opens the library behind it, anew if it is open.
    fn open(&mut self) -> Result<(), GpuError>;

    /// Reads every GPU. Not called before [`open`](Self::open) succeeded.
    fn read(&mut self, ask: Ask) -> Result<Readings, GpuError>;
}

/// What to read beside what is cheap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// The fans and the counts of faults; otherwise these may stay `None`.
    pub(super) slow: bool,
    /// The memory of processes.
    pub(super) processes: bool,
}

/// What a source says.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// Every GPU; one that fell silent keeps its identity.
    pub(super) gpus: Vec<Gpu>,
    /// Memory by process, when it was asked for.
    pub(super) processes: Option<Processes>,
    /// Why some GPU fell silent: the source should be reopened.
    pub(super) trouble: Option<GpuError>,
}

/// Memory processes hold on one GPU, in bytes, by pid. A process a source names without saying how
/// much has `None`.
pub(super) type ProcessMemory = HashMap<u32, Option<u64>>;

/// The processes on each GPU of a source, by the GPU's id; `None` on one that does not say.
pub(super) type Processes = Vec<(String, Option<ProcessMemory>)>;

/// A source that cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct GpuError(pub(super) String);

/// A GPU of which nothing but its identity is known.
pub(super) fn identity(uuid: String, index: u32, name: Option<String>) -> Gpu {
    Gpu { uuid, index, name, ..Gpu::default() }
}

fn without_readings(gpus: &[Gpu]) -> Vec<Gpu> {
    gpus.iter().map(|gpu| identity(gpu.uuid.clone(), gpu.index, gpu.name.clone())).collect()
}

/// What a source said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    /// `None` while there is no way to ask.
    pub(super) gpus: Option<Vec<Gpu>>,
    /// The processes on them and when that was asked; `None` while nobody asks.
    pub(super) processes: Option<Listed>,
}

/// The processes as they were listed.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    at: Instant,
    pub(super) on: Arc<Processes>,
}

impl Listed {
    /// Listed just now.
    pub(super) fn now(on: Processes) -> Listed {
        Listed { at: Instant::now(), on: Arc::new(on) }
    }
}

/// Asks a source who is on its GPUs, for those who want to see it.
#[derive(Clone, Debug)]
pub(super) struct GpuAsker {
    published: watch::Receiver<Published>,
    asked: Arc<AtomicBool>,
    wake: Sender<()>,
}

impl GpuAsker {
    /// The processes, as they were a few seconds ago; `None` where the source does not answer.
    pub(super) async fn processes(&mut self) -> Option<Arc<Processes>> {
        let is_recent = |listed: &Listed| listed.at.elapsed() < ASKED_EVERY;
        let known =
            |it: &Published| it.gpus.is_none() || it.processes.as_ref().is_some_and(is_recent);
        if !known(&self.published.borrow()) {
            self.asked.store(true, Ordering::Relaxed);
            self.wake.send(()).ok();
            let answer = self.published.wait_for(known);
            tokio::time::timeout(LONGEST_ANSWER, answer).await.ok()?.ok()?;
        }
        let published = self.published.borrow();
        published.processes.as_ref().filter(|it| is_recent(it)).map(|it| Arc::clone(&it.on))
    }
}

/// Who wants to know of processes.
#[derive(Debug, Default)]
struct Wants {
    for_servers: AtomicBool,
    asked: Arc<AtomicBool>,
}

impl Wants {
    /// How old what is known of processes may be; `None` where nobody wants it.
    fn every(&self) -> Option<Duration> {
        let for_servers = self.for_servers.load(Ordering::Relaxed).then_some(COSTLY_EVERY);
        self.asked.swap(false, Ordering::Relaxed).then_some(ASKED_EVERY).or(for_servers)
    }
}

/// The loop's end of a source. Dropping it ends the thread as soon as its call returns.
#[derive(Debug)]
pub(super) struct GpuFeed {
    name: &'static str,
    published: watch::Receiver<Published>,
    wants: Arc<Wants>,
    stale_after: Duration,
    renewed_at: Option<Instant>,
    has_spoken: bool,
    silent: bool,
    /// Has it look before its time; dropped, it ends the thread.
    wake: Option<Sender<()>>,
    /// Closed by the thread when the source has answered for the first time.
    answered: Option<Receiver<Infallible>>,
}

impl GpuFeed {
    /// Starts a thread that asks `source` every `interval`.
    pub(super) fn spawn(source: Box<dyn GpuSource>, interval: Duration) -> Self {
        let name = source.name();
        let (publish, published) = watch::channel(Published::default());
        let (wake, woken) = mpsc::channel();
        let (answers, answered) = mpsc::channel();
        let over = Self::over(name, published, interval);
        let feed = Self { wake: Some(wake), answered: Some(answered), ..over };
        let wants = Arc::clone(&feed.wants);
        let thread = std::thread::Builder::new().name("gpu".to_owned()).spawn(move || {
            run(Poller::new(source), interval, &wants, &publish, answers, &woken);
        });
        if let Err(error) = thread {
            tracing::warn!("no GPU readings from {name}: its thread cannot be started: {error}");
        }
        feed
    }

    /// What comes through this channel.
    fn over(name: &'static str, published: watch::Receiver<Published>, interval: Duration) -> Self {
        Self {
            name,
            published,
            wants: Arc::default(),
            stale_after: STALE_AFTER.max(3 * interval),
            renewed_at: None,
            has_spoken: false,
            silent: false,
            wake: None,
            answered: None,
        }
    }

    /// For those who want to see who is on the GPUs.
    pub(super) fn asker(&self) -> Option<GpuAsker> {
        let (published, asked) = (self.published.clone(), Arc::clone(&self.wants.asked));
        Some(GpuAsker { published, asked, wake: self.wake.clone()? })
    }

    /// Returns when the source has answered for the first time or never will, or `longest` is over.
    pub(super) fn wait(&self, longest: Duration) {
        if let Some(answered) = &self.answered {
            answered.recv_timeout(longest).ok();
        }
    }

    /// What the source said last, without the readings when that is too old. `processes_wanted`
    /// says whether the memory of processes will be looked at.
    pub(super) fn latest(&mut self, now: Instant, processes_wanted: bool) -> Published {
        self.wants.for_servers.store(processes_wanted, Ordering::Relaxed);
        if self.published.has_changed().unwrap_or(false) {
            self.published.mark_unchanged();
            self.renewed_at = Some(now);
            self.has_spoken = true;
        }
        let last = self.published.borrow().clone();
        // One that has said that it knows no GPUs has no more to say.
        if self.has_spoken && last.gpus.is_none() {
            return last;
        }
        let renewed_at = *self.renewed_at.get_or_insert(now);
        let was_silent = std::mem::replace(
            &mut self.silent,
            now.saturating_duration_since(renewed_at) > self.stale_after,
        );
        match (was_silent, self.silent) {
            (false, true) => tracing::warn!("{} does not answer: its GPUs are unknown", self.name),
            (true, false) => tracing::info!("{} answers again", self.name),
            _ => {}
        }
        if self.silent {
            let gpus = last.gpus.as_deref().map(without_readings);
            return Published { gpus, processes: None };
        }
        last
    }
}

/// The thread: ask, publish, wait, until nobody listens.
fn run(
    mut poller: Poller,
    interval: Duration,
    wants: &Wants,
    publish: &watch::Sender<Published>,
    answers: Sender<Infallible>,
    woken: &Receiver<()>,
) {
    let mut answers = Some(answers);
    loop {
        let published = poller.poll(Instant::now(), wants.every());
        if publish.send(published).is_err() {
            return;
        }
        answers.take();
        let wait =
            poller.idle_until().map_or(interval, |at| at.saturating_duration_since(Instant::now()));
        if woken.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Decides what to ask a source and when to open it. Knows no thread and no clock.
struct Poller {
    source: Box<dyn GpuSource>,
    open: bool,
    reopen_at: Option<Instant>,
    reopen_after: Duration,
    known: Option<Vec<Gpu>>,
    slow_due_at: Option<Instant>,
    listed: Option<Listed>,
}

impl Poller {
    fn new(source: Box<dyn GpuSource>) -> Self {
        Self {
            source,
            open: false,
            reopen_at: None,
            reopen_after: REOPEN_AFTER,
            known: None,
            slow_due_at: None,
            listed: None,
        }
    }

    /// Until when there is nothing to say; `None` when the next tick may have something.
    fn idle_until(&self) -> Option<Instant> {
        if self.open || self.known.is_some() { None } else { self.reopen_at }
    }

    /// `processes_every`: how old what is known of processes may be, where that is wanted.
    fn poll(&mut self, now: Instant, processes_every: Option<Duration>) -> Published {
        if !self.open || self.reopen_at.is_some() {
            self.try_open(now);
        }
        let age = |listed: &Listed| now.saturating_duration_since(listed.at);
        if self.open {
            let is_old = |every| self.listed.as_ref().is_none_or(|listed| age(listed) >= every);
            let ask = Ask {
                slow: is_due(self.slow_due_at, now),
                processes: processes_every.is_some_and(is_old),
            };
            match self.source.read(ask) {
                Ok(readings) => self.take(now, ask, readings),
                Err(error) => {
                    self.open = false;
                    self.fail(now, &error);
                }
            }
        }
        self.listed.take_if(|listed| !self.open || age(listed) >= 2 * COSTLY_EVERY);
        Published { gpus: self.known.clone(), processes: self.listed.clone() }
    }

    fn try_open(&mut self, now: Instant) {
        if !is_due(self.reopen_at, now) {
            return;
        }
        self.reopen_at = None;
        match self.source.open() {
            Ok(()) => self.open = true,
            Err(error) => {
                self.open = false;
                self.fail(now, &error);
            }
        }
    }

    fn take(&mut self, now: Instant, ask: Ask, mut readings: Readings) {
        if ask.slow {
            self.slow_due_at = now.checked_add(COSTLY_EVERY);
        } else {
            self.carry_over(&mut readings.gpus);
        }
        if let Some(processes) = readings.processes {
            self.listed = Some(Listed { at: now, ..Listed::now(processes) });
        }
        self.known = Some(readings.gpus);
        match readings.trouble {
            Some(error) if self.reopen_at.is_none() => self.fail(now, &error),
            Some(_) => {}
            None => self.recover(),
        }
    }

    /// What is asked rarely keeps its last reading until the next, unless its GPU has fallen silent.
    fn carry_over(&self, gpus: &mut [Gpu]) {
        let before = self.known.as_deref().unwrap_or_default();
        for gpu in gpus {
            let silent = *gpu == identity(gpu.uuid.clone(), gpu.index, gpu.name.clone());
            let known = before.iter().find(|known| known.uuid == gpu.uuid);
            if let Some(known) = known.filter(|_| !silent) {
                gpu.fan_ratio = gpu.fan_ratio.or(known.fan_ratio);
                gpu.ecc_corrected_errors = gpu.ecc_corrected_errors.or(known.ecc_corrected_errors);
                gpu.ecc_uncorrected_errors =
                    gpu.ecc_uncorrected_errors.or(known.ecc_uncorrected_errors);
            }
        }
    }

    /// Notes that the source should be reopened, and says so the first time.
    fn fail(&mut self, now: Instant, error: &GpuError) {
        if self.reopen_after == REOPEN_AFTER {
            let name = self.source.name();
            match self.known {
                None => tracing::info!("no GPU readings from {name}: {error}"),
                Some(_) => tracing::warn!("{name} fails, some GPUs are unknown now: {error}"),
            }
        }
        if !self.open {
            self.known = self.known.as_deref().map(without_readings);
        }
        self.reopen_at = now.checked_add(self.reopen_after);
        self.reopen_after = (self.reopen_after * 2).min(REOPEN_AFTER_AT_MOST);
    }

    fn recover(&mut self) {
        if self.reopen_after != REOPEN_AFTER {
            tracing::info!("{} answers", self.source.name());
            self.reopen_after = REOPEN_AFTER;
        }
        self.reopen_at = None;
    }
}

fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_none_or(|at| now >= at)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A source that does what its script says.
    pub(crate) struct Scripted<F>(pub(crate) F);

    pub(crate) enum Call {
        Open,
        Read(Ask),
    }

    impl<F> GpuSource for Scripted<F>
    where
        F: FnMut(Call) -> Result<Readings, GpuError> + Send + 'static,
    {
        fn name(&self) -> &'static str {
            "the script"
        }

        fn open(&mut self) -> Result<(), GpuError> {
            (self.0)(Call::Open).map(drop)
        }

        fn read(&mut self, ask: Ask) -> Result<Readings, GpuError> {
            (self.0)(Call::Read(ask))
        }
    }

    pub(crate) fn broken() -> GpuError {
        GpuError("it is broken".to_owned())
    }

    /// One GPU, half busy; with a fan when asked for it, and pid 7 holding 70 bytes.
    pub(crate) fn answer(ask: Ask) -> Readings {
        let mut gpu = silent_gpu();
        gpu.busy_ratio = Some(0.5);
        gpu.fan_ratio = ask.slow.then_some(0.25);
        let on = |gpu: &Gpu| vec![(gpu.uuid.clone(), Some(HashMap::from([(7, Some(70))])))];
        let processes = ask.processes.then(|| on(&gpu));
        Readings { gpus: vec![gpu], processes, trouble: None }
    }

    pub(crate) fn silent_gpu() -> Gpu {
        identity("GPU-1".to_owned(), 0, Some("Card".to_owned()))
    }

    /// A poller and the calls it made, by second.
    type Calls = Arc<Mutex<Vec<&'static str>>>;

    fn poller(
        mut script: impl FnMut(Call) -> Result<Readings, GpuError> + Send + 'static,
    ) -> (Poller, Calls) {
        let calls = Calls::default();
        let noted = Arc::clone(&calls);
        let source = Scripted(move |call| {
            noted.lock().unwrap().push(match call {
                Call::Open => "open",
                Call::Read(Ask { slow: true, processes: true }) => "all",
                Call::Read(Ask { slow: true, .. }) => "fans",
                Call::Read(Ask { processes: true, .. }) => "processes",
                Call::Read(_) => "cheap",
            });
            script(call)
        });
        (Poller::new(Box::new(source)), calls)
    }

    fn healthy(call: Call) -> Result<Readings, GpuError> {
        match call {
            Call::Open => Ok(Readings::default()),
            Call::Read(ask) => Ok(answer(ask)),
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn fans_are_asked_every_ten_seconds_and_keep_their_reading() {
        let (mut poller, calls) = poller(healthy);
        let start = Instant::now();
        for second in 0..=10 {
            let gpus = poller.poll(start + seconds(second), None).gpus.unwrap();
            assert_eq!(gpus[0].fan_ratio, Some(0.25), "second {second}");
        }
        let mut expected = vec!["open", "fans"];
        expected.extend(["cheap"; 9]);
        expected.push("fans");
        assert_eq!(*calls.lock().unwrap(), expected);
    }

    #[test]
    fn processes_are_asked_for_only_while_wanted_and_every_ten_seconds() {
        let (mut poller, calls) = poller(healthy);
        let start = Instant::now();
        let mut is_known = |second, every| {
            let published = poller.poll(start + seconds(second), every);
            published.processes.is_some_and(|it| it.on[0].1.as_ref().unwrap()[&7] == Some(70))
        };
        let (rarely, asked) = (Some(COSTLY_EVERY), Some(ASKED_EVERY));
        assert!(!is_known(0, None));
        assert!(is_known(1, rarely) && is_known(2, rarely), "it is asked once");
        assert!(is_known(5, asked), "what is four seconds old is not asked again");
        assert!(is_known(6, asked) && is_known(7, None) && is_known(10, None));
        assert!(!is_known(26, None), "nobody has asked for long");
        let rest = ["cheap", "processes", "cheap", "fans", "fans"];
        assert_eq!(calls.lock().unwrap()[..4], ["open", "fans", "processes", "cheap"]);
        assert_eq!(calls.lock().unwrap()[4..], rest);
    }

    #[test]
    fn without_a_library_there_are_no_gpus_and_it_is_tried_ever_less_often() {
        let (mut poller, calls) = poller(|_| Err(broken()));
        let start = Instant::now();
        let mut now = start;
        let mut attempts = vec![];
        for _ in 0..10 {
            assert!(poller.poll(now, Some(COSTLY_EVERY)).gpus.is_none());
            let next = poller.idle_until().unwrap();
            attempts.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(attempts, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(*calls.lock().unwrap(), ["open"; 10]);
    }

    #[test]
    fn a_source_that_fails_leaves_identities_and_comes_back() {
        let mut reads = 0;
        let (mut poller, calls) = poller(move |call| match call {
            Call::Open => Ok(Readings::default()),
            Call::Read(ask) => {
                reads += 1;
                if reads == 2 { Err(broken()) } else { Ok(answer(ask)) }
            }
        });
        let start = Instant::now();
        assert_eq!(poller.poll(start, None).gpus.unwrap()[0].busy_ratio, Some(0.5));
        for second in 1..3 {
            let gpus = poller.poll(start + seconds(second), None).gpus;
            assert_eq!(gpus, Some(vec![silent_gpu()]), "second {second}");
            assert_eq!(poller.idle_until(), None);
        }
        let again = poller.poll(start + seconds(3), None).gpus.unwrap();
        assert_eq!(again[0].busy_ratio, Some(0.5));
        assert_eq!(*calls.lock().unwrap(), ["open", "fans", "cheap", "open", "cheap"]);
        assert_eq!(poller.reopen_after, REOPEN_AFTER);
    }

    #[test]
    fn one_lost_gpu_does_not_silence_the_others_while_the_library_is_reopened() {
        let (mut poller, calls) = poller(|call| match call {
            Call::Open => Ok(Readings::default()),
            Call::Read(ask) => {
                let mut readings = answer(ask);
                readings.gpus.push(identity("GPU-2".to_owned(), 1, None));
                Ok(Readings { trouble: Some(broken()), ..readings })
            }
        });
        let start = Instant::now();
        for second in 0..7 {
            let gpus = poller.poll(start + seconds(second), None).gpus.unwrap();
            assert_eq!(gpus[0].busy_ratio, Some(0.5));
            assert_eq!(gpus[1], identity("GPU-2".to_owned(), 1, None));
        }
        let opened = calls.lock().unwrap().iter().filter(|call| **call == "open").count();
        assert_eq!(opened, 3); // at 0 s, 2 s and 6 s
    }

    #[test]
    fn what_was_said_last_holds_for_five_seconds_and_identities_for_ever() {
        let (publish, published) = watch::channel(Published::default());
        let mut feed = GpuFeed::over("the script", published, seconds(1));
        let start = Instant::now();
        let mut latest = |second| {
            let latest = feed.latest(start + seconds(second), true);
            latest.gpus.map(|gpus| (gpus[0].busy_ratio, latest.processes.is_some()))
        };
        assert_eq!(latest(0), None);
        assert_eq!(latest(100), None);
        let reading = answer(Ask { slow: true, processes: true });
        let processes = reading.processes.map(Listed::now);
        let said = Published { gpus: Some(reading.gpus), processes };
        publish.send(said.clone()).unwrap();
        assert_eq!(latest(101), Some((Some(0.5), true)));
        assert_eq!(latest(106), Some((Some(0.5), true)));
        assert_eq!(latest(107), Some((None, false)));
        publish.send(said).unwrap();
        assert_eq!(latest(108), Some((Some(0.5), true)));
        drop(publish); // its thread has ended
        assert_eq!(latest(114), Some((None, false)));
    }

    #[tokio::test]
    async fn who_wants_to_see_the_processes_waits_for_no_tick() {
        let feed = GpuFeed::spawn(Box::new(Scripted(healthy)), seconds(3600));
        let mut asker = feed.asker().unwrap();
        feed.wait(seconds(60));
        let on = asker.processes().await.unwrap();
        assert_eq!(on[0].1.as_ref().unwrap()[&7], Some(70));
        let gone = GpuFeed::spawn(Box::new(Scripted(|_| Err(broken()))), seconds(3600));
        gone.wait(seconds(60));
        assert!(gone.asker().unwrap().processes().await.is_none());
    }

    #[test]
    fn the_thread_ends_when_nobody_listens() {
        let (alive, ended) = mpsc::channel::<()>();
        let source = Scripted(move |call| {
            let _held = &alive;
            healthy(call)
        });
        drop(GpuFeed::spawn(Box::new(source), seconds(3600)));
        let outcome = ended.recv_timeout(seconds(60));
        assert_eq!(outcome, Err(RecvTimeoutError::Disconnected));
    }
}
