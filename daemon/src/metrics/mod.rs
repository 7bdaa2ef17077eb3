//! Metrics: how the machine, the GPUs and the servers are doing, once a second, always.
//!
//! ```text
//!   /proc ─▶ host, process ─┐
//!   NVML ──▶ gpu (thread) ──┼─▶ sampler ─▶ Sample ─┬─▶ latest()      the last one
//!   supervisor ─▶ llama ────┘    every interval    └─▶ subscribe()   the last one, then each
//! ```
//!
//! - One task takes the samples. It reads `/proc` itself (tens of microseconds, from memory) and
//!   takes what the other sources said last; it waits for none of them and speaks no HTTP.
//! - A source that is missing or broken gives `None` and one line in the log. Nothing unknown is
//!   ever 0.
//! - Counters become rates over monotonic time. A machine that slept leaves one gap in the
//!   samples and no burst of them.
//! - A subscriber that is slow loses samples, knows how many, and holds nobody up.

mod file;
mod gpu;
mod host;
mod nvml;
mod process;
mod procfs;
mod rate;
mod sampler;

use gpu::{GpuFeed, GpuSource};
use llamactl_protocol::UnixMs;
use llamactl_protocol::metrics::{LlamaSample, Sample};
use llamactl_protocol::server::State;
use sampler::Sampler;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Samples a subscriber may be behind before it loses the oldest.
const BACKLOG: usize = 64;
/// Sampling more often than this measures the sampling.
const INTERVAL_AT_LEAST: Duration = Duration::from_millis(100);
/// How long the first sample waits for GPUs to answer, so that it usually has them.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How to sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time between samples; less than 100 ms is taken as 100 ms.
    pub interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1) }
    }
}

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
}

/// Sampling has stopped and there was never a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metrics are no longer sampled")]
pub struct Stopped;

/// The samples. Cheap to clone; cloning or dropping it does not touch the sampling.
#[derive(Clone, Debug)]
pub struct Metrics {
    latest: watch::Receiver<Option<Arc<Sample>>>,
    live: broadcast::WeakSender<Arc<Sample>>,
}

impl Metrics {
    /// The latest sample; waits for the very first. After sampling has stopped, the last one.
    ///
    /// # Errors
    /// [`Stopped`] when there was no sample and there will be none.
    pub async fn latest(&self) -> Result<Arc<Sample>, Stopped> {
        self.subscribe().await.map(|(latest, _)| latest)
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

/// Starts sampling this machine and `servers`, until `stop` is cancelled.
///
/// Must be called within a tokio runtime with time enabled.
pub fn spawn(
    settings: &Settings,
    servers: watch::Receiver<Vec<RunningServer>>,
    stop: CancellationToken,
) -> Metrics {
    spawn_with(settings, servers, stop, vec![Box::new(nvml::NvmlSource::default())])
}

fn spawn_with(
    settings: &Settings,
    servers: watch::Receiver<Vec<RunningServer>>,
    stop: CancellationToken,
    gpu_sources: Vec<Box<dyn GpuSource>>,
) -> Metrics {
    let interval = settings.interval.max(INTERVAL_AT_LEAST);
    let gpus = gpu_sources.into_iter().map(|source| GpuFeed::spawn(source, interval)).collect();
    let sampler = Sampler::new(gpus, servers);
    let (latest_sender, latest) = watch::channel(None);
    let (live_sender, _) = broadcast::channel(BACKLOG);
    let live = live_sender.downgrade();
    let publisher = Publisher { latest: latest_sender, live: live_sender };
    tokio::spawn(async move {
        stop.run_until_cancelled(run(sampler, interval, publisher)).await;
    });
    Metrics { latest, live }
}

/// Where samples go. Dropping it tells everybody that there are no more.
struct Publisher {
    latest: watch::Sender<Option<Arc<Sample>>>,
    live: broadcast::Sender<Arc<Sample>>,
}

impl Publisher {
    fn publish(&self, sample: Sample) {
        let sample = Arc::new(sample);
        // Both under the watch's lock: a subscriber sees both or neither.
        self.latest.send_modify(|latest| {
            *latest = Some(Arc::clone(&sample));
            // An error says that nobody follows.
            self.live.send(sample).ok();
        });
    }
}

async fn run(mut sampler: Sampler, interval: Duration, publisher: Publisher) {
    tokio::time::timeout(FIRST_WAIT, sampler.gpus_answered()).await.ok();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        publisher.publish(sampler.sample(Instant::now().into_std(), unix_ms()));
    }
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
    use super::gpu::tests::{Call, Scripted, answer, silent_gpu};
    use super::process::tests::Victim;
    use super::*;
    use llamactl_protocol::metrics::ProcessSample;
    use std::sync::mpsc;
    use tokio::sync::broadcast::error::{RecvError, TryRecvError};

    const TICK: Duration = Duration::from_millis(100);

    /// The loop, its servers and its end.
    struct Loop {
        metrics: Metrics,
        servers: watch::Sender<Vec<RunningServer>>,
        stop: CancellationToken,
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            self.stop.cancel();
        }
    }

    fn start(gpu_sources: Vec<Box<dyn GpuSource>>) -> Loop {
        let (servers, running) = watch::channel(vec![]);
        let stop = CancellationToken::new();
        let settings = Settings { interval: TICK };
        let metrics = spawn_with(&settings, running, stop.clone(), gpu_sources);
        Loop { metrics, servers, stop }
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
        }
    }

    #[tokio::test(start_paused = true)]
    async fn samples_come_at_every_tick_and_follow_the_latest_without_a_gap() {
        let sampling = start(vec![]);
        let started = Instant::now();
        let (first, mut live) = sampling.metrics.subscribe().await.unwrap();
        assert_eq!(first.seq, 1);
        assert_eq!(first.gpus, None);
        for seq in 2..20 {
            assert_eq!(live.recv().await.unwrap().seq, seq);
        }
        assert_eq!(started.elapsed().as_millis() / TICK.as_millis(), 18);
        let (latest, mut second) = sampling.metrics.subscribe().await.unwrap();
        assert_eq!(latest.seq, 19);
        assert_eq!(second.recv().await.unwrap().seq, 20);
        assert_eq!(sampling.metrics.latest().await.unwrap().seq, 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_pause_is_a_gap_and_no_burst() {
        let sampling = start(vec![]);
        let (_, mut live) = sampling.metrics.subscribe().await.unwrap();
        tokio::time::advance(Duration::from_secs(3600)).await;
        tokio::time::sleep(TICK * 3).await;
        let mut taken = 0;
        while live.try_recv().is_ok() {
            taken += 1;
        }
        assert!((1..=5).contains(&taken), "{taken} samples");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_subscriber_is_told_what_it_lost_and_goes_on() {
        let sampling = start(vec![]);
        let (_, mut slow) = sampling.metrics.subscribe().await.unwrap();
        let (_, mut quick) = sampling.metrics.subscribe().await.unwrap();
        for _ in 0..100 {
            quick.recv().await.unwrap();
        }
        assert_eq!(slow.recv().await.unwrap_err(), RecvError::Lagged(36));
        for seq in 38..=110 {
            assert_eq!(slow.recv().await.unwrap().seq, seq);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_stop_there_is_the_last_sample_and_no_more() {
        let sampling = start(vec![]);
        let (first, mut live) = sampling.metrics.subscribe().await.unwrap();
        sampling.stop.cancel();
        assert_eq!(live.recv().await.unwrap_err(), RecvError::Closed);
        let (last, mut closed) = sampling.metrics.subscribe().await.unwrap();
        assert_eq!(last.seq, first.seq);
        assert_eq!(closed.try_recv().unwrap_err(), TryRecvError::Closed);
    }

    #[tokio::test]
    async fn stopped_before_the_first_sample_nobody_waits_for_it() {
        let (_servers, running) = watch::channel(vec![]);
        let stop = CancellationToken::new();
        stop.cancel();
        let metrics = spawn_with(&Settings::default(), running, stop, vec![]);
        assert_eq!(metrics.latest().await.unwrap_err(), Stopped);
    }

    #[tokio::test]
    async fn a_process_is_seen_at_work_and_gone_when_it_ended() {
        let mut process = Victim::busy();
        let sampling = start(vec![]);
        sampling.servers.send(vec![server(&process)]).unwrap();
        let (_, mut live) = sampling.metrics.subscribe().await.unwrap();
        let busy = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                let sample = live.recv().await.unwrap();
                let process = sample.servers.first().map(|server| &server.process);
                if process.and_then(|process| process.cpus_busy).is_some_and(|cpus| cpus > 0.0) {
                    return sample;
                }
            }
        });
        let sample = busy.await.unwrap();
        let seen = &sample.servers[0];
        assert_eq!((seen.model_id, seen.model.as_str(), seen.state), (3, "tiny", State::Ready));
        assert_eq!(seen.llama.as_ref().unwrap().slots, Some(4));
        assert_eq!(seen.process.pid, Some(process.pid()));
        assert!(seen.process.memory_anonymous_bytes.unwrap() > 0);
        assert_eq!(seen.process.threads, Some(1));
        assert_eq!(sample.daemon.pid, Some(std::process::id()));

        process.kill();
        process.reap();
        let (_, mut live) = sampling.metrics.subscribe().await.unwrap();
        let gone = live.recv().await.unwrap();
        assert_eq!(gone.servers[0].process, ProcessSample::default());
        assert_eq!(gone.servers[0].run_id, "run");

        sampling.servers.send(vec![]).unwrap();
        let (_, mut live) = sampling.metrics.subscribe().await.unwrap();
        assert_eq!(live.recv().await.unwrap().servers, []);
    }

    #[tokio::test]
    async fn gpu_memory_reaches_the_process_that_holds_it() {
        let process = Victim::sleeping();
        let pid = process.pid();
        let source = Scripted(move |call| match call {
            Call::Open => Ok(gpu::Readings::default()),
            Call::Read(ask) => {
                let mut readings = answer(ask);
                let memory = readings.process_memory.as_mut();
                memory.map(|memory| memory.insert(pid, Some(1 << 30)));
                Ok(readings)
            }
        });
        let sampling = start(vec![Box::new(source)]);
        sampling.servers.send(vec![server(&process)]).unwrap();
        let (_, mut live) = sampling.metrics.subscribe().await.unwrap();
        let held = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                let sample = live.recv().await.unwrap();
                if let Some(bytes) = sample.servers[0].process.gpu_memory_bytes {
                    assert_eq!(sample.gpus.as_ref().unwrap()[0].busy_ratio, Some(0.5));
                    return bytes;
                }
            }
        });
        assert_eq!(held.await.unwrap(), 1 << 30);
    }

    #[tokio::test(start_paused = true)]
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

        let (latest, mut live) = sampling.metrics.subscribe().await.unwrap();
        let started = Instant::now();
        let mut seq = latest.seq;
        let mut last = None;
        for _ in 0..60 {
            let sample = live.recv().await.unwrap();
            seq += 1;
            assert_eq!(sample.seq, seq);
            last = sample.gpus.clone();
        }
        assert_eq!(started.elapsed(), TICK * 60);
        assert_eq!(last, Some(vec![silent_gpu()]));
    }
}
