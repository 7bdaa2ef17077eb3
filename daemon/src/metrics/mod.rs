//! Metrics: how the machine, the GPUs and the servers are doing, once a second, always.
//!
//! ```text
//!   /proc ─▶ host, family ──┐
//!   starts ◀─ supervisor ───┤
//!   NVML ──▶ gpu (thread) ──┼─▶ sampler ─▶ Sample ─┬─▶ latest()      the last one
//!   supervisor ─▶ llama ────┘    (thread)          ├─▶ subscribe()   the last one, then each
//!       ▲                        every interval    ├─▶ gpu_memory()  of servers, when it changes
//!       ╰───────── activity ◀────────╯             ╰─▶ history()     a year of them
//!   gpu ◀─ who is on them? ─────────────────────────── gpus()          asked when somebody asks
//! ```
//!
//! - One thread takes the samples. It reads `/proc` itself (tens of microseconds, from memory) and
//!   takes what the other sources said last; it waits for none of them and speaks no HTTP. It is
//!   no task, because a timer of the runtime wakes twice for one tick: it sleeps to a boundary of
//!   64 ms first. While nobody follows, the runtime is not woken.
//! - A source that is missing or broken gives `None` and one line in the log. Nothing unknown is
//!   ever 0.
//! - Counters become rates over monotonic time. A machine that slept leaves one gap in the
//!   samples and no burst of them.
//! - A subscriber that is slow loses samples, knows how many, and holds nobody up.

mod activity;
mod container;
mod family;
mod fdinfo;
mod file;
mod filesystems;
mod gpu;
pub mod history;
mod holders;
mod host;
mod nvml;
mod process;
mod procfs;
mod rate;
mod sampler;
mod starts;
mod sysfs;

pub use activity::Activity;
pub use starts::Starts;

use gpu::{GpuAsker, GpuFeed};
use history::{History, Keeper};
use llamactl_protocol::UnixMs;
use llamactl_protocol::metrics::{GpusInUse, LlamaSample, Sample, ServerSample};
use llamactl_protocol::server::State;
use sampler::Sampler;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{broadcast, oneshot, watch};

/// Samples a subscriber may be behind before it loses the oldest.
const BACKLOG: usize = 64;
/// How long the first sample waits for GPUs to answer, so that it usually has them.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Time between samples.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// A llama-server process that is to be sampled.
#[derive(Clone, Debug)]
pub struct RunningServer {
    /// The model it serves.
    pub model_id: i64,
    /// The model's name.
    pub model: String,
    /// The id of the run, as in the registry.
    pub run_id: String,
    /// The state the server is in: what is asked of its process depends on it.
    pub state: State,
    /// The process id of its llama-server.
    pub pid: u32,
    /// When that process started, in clock ticks since boot (field 22 of `/proc/PID/stat`):
    /// another process that gets the same pid is not taken for it.
    pub start_ticks: u64,
    /// What it last said of itself, from its only poller.
    pub llama: watch::Receiver<Option<LlamaSample>>,
    /// Where that poller is told that a look is worth while.
    pub activity: Arc<Activity>,
}

/// What the process of a run holds on GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuMemory {
    /// The model it serves.
    pub model_id: i64,
    /// The id of the run, as in the registry.
    pub run_id: String,
    /// On all GPUs together.
    pub bytes: u64,
}

/// Sampling, until it is dropped.
#[derive(Debug)]
pub struct Sampling {
    /// Dropped, it ends the thread; nothing is ever sent.
    stop: Sender<Infallible>,
    written: oneshot::Receiver<()>,
}

impl Sampling {
    /// Ends it; returns when all that was measured is written, or that takes too long.
    pub async fn end(self) {
        drop(self.stop);
        if tokio::time::timeout(LAST_WRITE, self.written).await.is_err() {
            tracing::warn!("the last seconds of history may not be written");
        }
    }
}

/// How long the end waits for a disk.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Sampling has stopped and there was never a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metrics are no longer sampled")]
pub struct Stopped;

/// The samples. Cheap to clone; cloning or dropping it does not touch the sampling.
#[derive(Clone, Debug)]
pub struct Metrics {
    latest: watch::Receiver<Option<Arc<Sample>>>,
    live: broadcast::WeakSender<Arc<Sample>>,
    gpu_memory: watch::Receiver<Vec<GpuMemory>>,
    gpus: Vec<GpuAsker>,
    history: History,
}

impl Metrics {
    /// What was measured before.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What servers hold on GPUs, where that is known; changes when it does. Closed when sampling
    /// stops.
    #[must_use]
    pub fn gpu_memory(&self) -> watch::Receiver<Vec<GpuMemory>> {
        self.gpu_memory.clone()
    }

    /// The latest sample; waits for the very first. After sampling has stopped, the last one.
    ///
    /// # Errors
    /// [`Stopped`] when there was no sample and there will be none.
    pub async fn latest(&self) -> Result<Arc<Sample>, Stopped> {
        // Nobody follows for it: a server is not looked at because of this.
        let mut latest = self.latest.clone();
        let sample = latest.wait_for(Option::is_some).await.map_err(|_| Stopped)?;
        sample.as_ref().map(Arc::clone).ok_or(Stopped)
    }

    /// The GPUs, and who holds their memory. Takes two seconds at most for each driver.
    ///
    /// # Errors
    /// [`Stopped`] when there was no sample and there will be none.
    pub async fn gpus(&self) -> Result<GpusInUse, Stopped> {
        let mut lists = Vec::new();
        for mut asker in self.gpus.clone() {
            lists.extend(asker.processes().await);
        }
        let sample = self.latest().await?;
        Ok(holders::of(&sample, &lists, holders::name))
    }

    /// The latest sample, if one was taken yet: nobody waits for it.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Sample>> {
        self.latest.borrow().clone()
    }

    /// The latest sample, and a receiver of each that comes after it: none is missed or doubled
    /// between the two. A receiver more than 64 samples behind gets `Lagged` with the number it
    /// lost, then the rest; it is closed when sampling stops.
    ///
    /// # Errors
    /// [`Stopped`] when there was no sample and there will be none.
    pub async fn subscribe(
        &self,
    ) -> Result<(Arc<Sample>, broadcast::Receiver<Arc<Sample>>), Stopped> {
        let mut latest = self.latest.clone();
        // The guard keeps the loop from publishing until the receiver is there.
        let guard = latest.wait_for(Option::is_some).await.map_err(|_| Stopped)?;
        let sample = guard.as_ref().map(Arc::clone).ok_or(Stopped)?;
        let receiver = match self.live.upgrade() {
            Some(live) => live.subscribe(),
            None => broadcast::channel(1).1,
        };
        Ok((sample, receiver))
    }
}

/// What is sampled beside the machine and its GPUs.
#[derive(Debug)]
pub struct Watched {
    /// The processes there are.
    pub servers: watch::Receiver<Vec<RunningServer>>,
    /// How often they were started.
    pub starts: Starts,
    /// The directories whose file systems are looked at.
    pub directories: watch::Receiver<Vec<PathBuf>>,
}

/// Starts sampling, and keeping what is measured.
///
/// # Errors
/// The threads cannot be made.
pub fn start(kept: history::Settings, watched: Watched) -> io::Result<(Metrics, Sampling)> {
    let nvml = GpuFeed::spawn(Box::new(nvml::NvmlSource::default()), INTERVAL);
    let mut gpus = vec![nvml];
    // Most machines have none, and a thread for those that cannot have one costs memory.
    let sysfs = sysfs::SysfsSource::of(Path::new("/sys"), Path::new("/proc"));
    if sysfs.has_class() {
        gpus.push(GpuFeed::spawn(Box::new(sysfs), INTERVAL));
    }
    let (stop, stopped) = mpsc::channel();
    let (history, keeper, written) = history::start(kept)?;
    let metrics = sample_at(every(INTERVAL, stopped), watched, gpus, (history, keeper))?;
    Ok((metrics, Sampling { stop, written }))
}

/// Samples on a thread of its own whenever `tick` returns, for as long as it gives true.
fn sample_at(
    mut tick: impl FnMut() -> bool + Send + 'static,
    watched: Watched,
    gpus: Vec<GpuFeed>,
    (history, keeper): (History, Keeper),
) -> io::Result<Metrics> {
    let (latest_sender, latest) = watch::channel(None);
    let (live_sender, _) = broadcast::channel(BACKLOG);
    let (gpu_memory_sender, gpu_memory) = watch::channel(vec![]);
    let live = live_sender.downgrade();
    let askers = gpus.iter().filter_map(GpuFeed::asker).collect();
    let publisher =
        Publisher { latest: latest_sender, live: live_sender, gpu_memory: gpu_memory_sender };
    let mut sampler = Sampler::new(gpus, watched);
    std::thread::Builder::new().name("sampler".to_owned()).spawn(move || {
        sampler.wait_for_gpus(FIRST_WAIT);
        while tick() {
            let followed = publisher.live.receiver_count() > 0 || keeper.is_followed();
            let sample = sampler.sample(Instant::now(), unix_ms(), followed);
            keeper.add(&sample);
            publisher.publish(sample);
        }
        // What was counted since the last one.
        keeper.add(&sampler.sample(Instant::now(), unix_ms(), false));
    })?;
    Ok(Metrics { latest, live, gpu_memory, gpus: askers, history })
}

/// Waits for one tick after another; false as soon as the other end of `stopped` is dropped.
fn every(interval: Duration, stopped: Receiver<Infallible>) -> impl FnMut() -> bool {
    // In the middle of each second of the wall clock: a step of a second then has one sample.
    let ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let into = Duration::from_millis(unix_ms().rem_euclid(ms).cast_unsigned());
    let mut next = Instant::now();
    let mut due = next.checked_sub(into).map_or(next, |begin| begin + interval / 2);
    move || {
        let wait = next.saturating_duration_since(Instant::now());
        let goes_on = stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout);
        next = tick_after(due, Instant::now(), interval);
        due = next;
        goes_on
    }
}

/// The tick behind one that was due at `due` and came `now`: those that were slept over are left out.
fn tick_after(due: Instant, now: Instant, interval: Duration) -> Instant {
    let late = now.saturating_duration_since(due).as_nanos() % interval.as_nanos().max(1);
    let late = Duration::from_nanos(u64::try_from(late).unwrap_or(0));
    now.max(due) + interval.saturating_sub(late)
}

/// Where samples go. Dropping it tells everybody that there are no more.
struct Publisher {
    latest: watch::Sender<Option<Arc<Sample>>>,
    live: broadcast::Sender<Arc<Sample>>,
    gpu_memory: watch::Sender<Vec<GpuMemory>>,
}

impl Publisher {
    fn publish(&self, sample: Sample) {
        let held: Vec<GpuMemory> = sample.servers.iter().filter_map(held_on_gpus).collect();
        self.gpu_memory.send_if_modified(|known| {
            let is_news = *known != held;
            *known = held;
            is_news
        });
        let sample = Arc::new(sample);
        // Both under the watch's lock: a subscriber sees both or neither.
        self.latest.send_modify(|latest| {
            *latest = Some(Arc::clone(&sample));
            // An error says that nobody follows.
            self.live.send(sample).ok();
        });
    }
}

fn held_on_gpus(server: &ServerSample) -> Option<GpuMemory> {
    let bytes = server.process.gpu_memory_bytes?;
    Some(GpuMemory { model_id: server.model_id, run_id: server.run_id.clone(), bytes })
}

/// The wall clock; before 1970 on a machine whose clock is not set.
fn unix_ms() -> UnixMs {
    let ms = |duration: Duration| UnixMs::try_from(duration.as_millis()).unwrap_or(UnixMs::MAX);
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => ms(since),
        Err(before) => -ms(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::gpu::GpuSource;
    use super::gpu::tests::{Call, Scripted, answer};
    use super::process::tests::Victim;
    use super::*;
    use futures_util::FutureExt as _;
    use llamactl_protocol::metrics::{GpuProcess, ProcessSample};
    use tokio::sync::broadcast::error::{RecvError, TryRecvError};

    /// Sampling, its servers and its ticks.
    struct Loop {
        metrics: Metrics,
        servers: watch::Sender<Vec<RunningServer>>,
        ticks: mpsc::Sender<()>,
        _dir: tempfile::TempDir,
    }

    impl Loop {
        fn tick(&self) {
            self.ticks.send(()).unwrap();
        }

        /// The first sample for which `is` holds, after as many ticks as it takes.
        async fn until(&self, is: impl Fn(&Sample) -> bool) -> Arc<Sample> {
            self.tick();
            let (mut sample, mut live) = self.metrics.subscribe().await.unwrap();
            let start = Instant::now();
            while !is(&sample) {
                assert!(start.elapsed() < Duration::from_secs(60), "{sample:?}");
                self.tick();
                sample = live.recv().await.unwrap();
            }
            sample
        }
    }

    /// Samples that are taken when the test says so.
    fn start(gpu_sources: Vec<Box<dyn GpuSource>>) -> Loop {
        let (servers, running) = watch::channel(vec![]);
        let (ticks, ticked) = mpsc::channel();
        let interval = Duration::from_millis(100);
        let gpus = gpu_sources.into_iter().map(|source| GpuFeed::spawn(source, interval)).collect();
        let dir = tempfile::tempdir().unwrap();
        let kept = history::Settings { dir: dir.path().to_owned(), size_bytes: 1 << 20 };
        let (history, keeper, _) = history::start(kept).unwrap();
        let kept = (history, keeper);
        let directories = watch::channel(vec![]).1;
        let watched = Watched { servers: running, starts: Starts::default(), directories };
        let metrics = sample_at(move || ticked.recv().is_ok(), watched, gpus, kept).unwrap();
        Loop { metrics, servers, ticks, _dir: dir }
    }

    fn server(process: &Victim) -> RunningServer {
        let llama = LlamaSample { slots: Some(4), ..LlamaSample::default() };
        RunningServer {
            model_id: 3,
            model: "tiny".to_owned(),
            run_id: "run".to_owned(),
            state: State::Ready,
            pid: process.pid(),
            start_ticks: process.start_ticks(),
            llama: watch::channel(Some(llama)).1,
            activity: Arc::default(),
        }
    }

    #[tokio::test]
    async fn samples_come_at_every_tick_and_follow_the_latest_without_a_gap() {
        let sampling = start(vec![]);
        sampling.tick();
        let (first, mut live) = sampling.metrics.subscribe().await.unwrap();
        assert_eq!(first.seq, 1);
        assert_eq!(first.gpus, None);
        for seq in 2..20 {
            sampling.tick();
            assert_eq!(live.recv().await.unwrap().seq, seq);
        }
        let (latest, mut second) = sampling.metrics.subscribe().await.unwrap();
        assert_eq!(latest.seq, 19);
        sampling.tick();
        assert_eq!(second.recv().await.unwrap().seq, 20);
        assert_eq!(sampling.metrics.latest().await.unwrap().seq, 20);
    }

    #[test]
    fn a_long_pause_is_a_gap_and_no_burst() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let after = |due, now| tick_after(start + due, start + now, second) - start;
        let ms = Duration::from_millis;
        assert_eq!(after(ms(0), ms(0)), ms(1_000));
        assert_eq!(after(ms(1_000), ms(1_003)), ms(2_000), "it does not drift");
        assert_eq!(after(ms(1_000), ms(3_600_400)), ms(3_601_000));
        assert_eq!(after(ms(1_000), ms(999)), ms(2_000));
    }

    #[test]
    fn ticks_come_until_sampling_is_dropped() {
        let (stop, stopped) = mpsc::channel();
        let mut tick = every(Duration::from_millis(1), stopped);
        assert!(tick() && tick());
        drop(stop);
        assert!(!tick());
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_lost_and_goes_on() {
        let sampling = start(vec![]);
        sampling.tick();
        let (_, mut slow) = sampling.metrics.subscribe().await.unwrap();
        let (_, mut quick) = sampling.metrics.subscribe().await.unwrap();
        for _ in 0..100 {
            sampling.tick();
            quick.recv().await.unwrap();
        }
        assert_eq!(slow.recv().await.unwrap_err(), RecvError::Lagged(36));
        for seq in 38..=101 {
            assert_eq!(slow.recv().await.unwrap().seq, seq);
        }
    }

    #[tokio::test]
    async fn after_the_stop_there_is_the_last_sample_and_no_more() {
        let sampling = start(vec![]);
        sampling.tick();
        let (first, mut live) = sampling.metrics.subscribe().await.unwrap();
        drop(sampling.ticks);
        assert_eq!(live.recv().await.unwrap_err(), RecvError::Closed);
        let (last, mut closed) = sampling.metrics.subscribe().await.unwrap();
        assert_eq!(last.seq, first.seq);
        assert_eq!(closed.try_recv().unwrap_err(), TryRecvError::Closed);
    }

    #[tokio::test]
    async fn stopped_before_the_first_sample_nobody_waits_for_it() {
        let sampling = start(vec![]);
        drop(sampling.ticks);
        assert_eq!(sampling.metrics.latest().await.unwrap_err(), Stopped);
    }

    #[tokio::test]
    async fn who_follows_has_the_servers_looked_at_and_a_halted_one_is() {
        let process = Victim::sleeping();
        let sampling = start(vec![]);
        let server = server(&process);
        let activity = Arc::clone(&server.activity);
        sampling.servers.send(vec![server]).unwrap();
        sampling.tick();
        let (_, mut live) = sampling.metrics.subscribe().await.unwrap();
        sampling.tick();
        live.recv().await.unwrap();
        activity.sign().await;
        drop(live);
        let pid = rustix::process::Pid::from_raw(process.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        sampling.until(|_| activity.sign().now_or_never().is_some()).await;
    }

    #[tokio::test]
    async fn a_process_is_seen_at_work_and_gone_when_it_ended() {
        let mut process = Victim::busy();
        let sampling = start(vec![]);
        sampling.servers.send(vec![server(&process)]).unwrap();
        let sample = sampling
            .until(|sample| {
                let process = sample.servers.first().map(|server| &server.process);
                process.and_then(|process| process.cpus_busy).is_some_and(|cpus| cpus > 0.0)
            })
            .await;
        let seen = &sample.servers[0];
        assert_eq!((seen.model_id, seen.model.as_str(), seen.state), (3, "tiny", State::Ready));
        assert_eq!(seen.llama.as_ref().unwrap().slots, Some(4));
        assert_eq!(seen.process.pid, Some(process.pid()));
        assert!(seen.process.memory_anonymous_bytes.unwrap() > 0);
        assert_eq!(seen.process.threads, Some(1));
        assert_eq!(sample.daemon.pid, Some(std::process::id()));

        process.kill();
        process.reap();
        let gone =
            sampling.until(|sample| sample.servers[0].process == ProcessSample::default()).await;
        assert_eq!(gone.servers[0].run_id, "run");

        sampling.servers.send(vec![]).unwrap();
        sampling.until(|sample| sample.servers.is_empty()).await;
    }

    #[tokio::test]
    async fn gpu_memory_reaches_the_process_that_holds_it() {
        let process = Victim::sleeping();
        let pid = process.pid();
        let source = Scripted(move |call| match call {
            Call::Open => Ok(gpu::Readings::default()),
            Call::Read(ask) => {
                let mut readings = answer(ask);
                for (_, memory) in readings.processes.iter_mut().flatten() {
                    memory.as_mut().unwrap().insert(pid, Some(1 << 30));
                }
                Ok(readings)
            }
        });
        let sampling = start(vec![Box::new(source)]);
        sampling.servers.send(vec![server(&process)]).unwrap();
        let mut held = sampling.metrics.gpu_memory();
        let sample =
            sampling.until(|sample| sample.servers[0].process.gpu_memory_bytes.is_some()).await;
        assert_eq!(sample.gpus.as_ref().unwrap()[0].busy_ratio, Some(0.5));
        let bytes = 1 << 30;
        let run_id = "run".to_owned();
        assert_eq!(*held.borrow_and_update(), [GpuMemory { model_id: 3, run_id, bytes }]);
        let in_use = sampling.metrics.gpus().await.unwrap().gpus.unwrap();
        let of = |it: &GpuProcess| (it.pid, it.model.clone(), it.memory_bytes);
        let holders: Vec<_> = in_use[0].processes.iter().flatten().map(of).collect();
        assert_eq!(holders, [(pid, Some("tiny".to_owned()), Some(bytes)), (7, None, Some(70))]);
        // Whoever waits for it hears nothing of a sample that says the same.
        let seq = sample.seq;
        sampling.until(|sample| sample.seq > seq + 1).await;
        assert!(!held.has_changed().unwrap());
    }

    #[tokio::test]
    async fn a_gpu_call_that_hangs_stops_its_readings_and_nothing_else() {
        let (hanging, hung) = tokio::sync::oneshot::channel();
        let mut hanging = Some(hanging);
        let (_release, released) = mpsc::channel::<()>();
        let mut reads = 0;
        let source = Scripted(move |call| match call {
            Call::Open => Ok(gpu::Readings::default()),
            Call::Read(ask) => {
                reads += 1;
                if reads > 1 {
                    hanging.take().map(|hanging| hanging.send(()));
                    released.recv_timeout(Duration::from_secs(60)).ok();
                }
                Ok(answer(ask))
            }
        });
        let sampling = start(vec![Box::new(source)]);
        hung.await.unwrap();
        sampling.tick();
        // What becomes of what it said last: see `gpu`.
        for _ in 0..20 {
            let seq = sampling.metrics.latest().await.map_or(0, |sample| sample.seq);
            sampling.until(|sample| sample.seq > seq).await;
        }
    }
}
