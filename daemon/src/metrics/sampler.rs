//! One sample from all sources.

use super::family::FamilyReader;
use super::filesystems::Filesystems;
use super::gpu::{GpuFeed, Published};
use super::host::HostReader;
use super::process::ProcessReader;
use super::{RunningServer, Starts, Watched};
use llamactl_protocol::UnixMs;
use llamactl_protocol::metrics::{Gpu, Host, ProcessSample, Sample, ServerSample};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The sources, and what they keep between samples.
#[derive(Debug)]
pub(super) struct Sampler {
    seq: u64,
    host: HostReader,
    filesystems: Filesystems,
    gpus: Vec<GpuFeed>,
    servers: watch::Receiver<Vec<RunningServer>>,
    starts: Starts,
    families: Vec<FamilyReader>,
    daemon: ProcessReader,
    buffer: Vec<u8>,
}

impl Sampler {
    /// Reads this machine, this process, these GPUs and what else is watched.
    pub(super) fn new(gpus: Vec<GpuFeed>, watched: Watched) -> Self {
        let Watched { servers, starts, directories } = watched;
        Self {
            seq: 0,
            host: HostReader::new(),
            filesystems: Filesystems::of(directories),
            gpus,
            servers,
            starts,
            families: Vec::new(),
            daemon: ProcessReader::of_self(),
            buffer: Vec::new(),
        }
    }

    /// Returns when every GPU source has said something, or `longest` is over.
    pub(super) fn wait_for_gpus(&self, longest: Duration) {
        let until = Instant::now() + longest;
        for feed in &self.gpus {
            feed.wait(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Everything now. `now` is the monotonic time rates are measured by. Where the samples are
    /// `followed`, the servers are looked at for the next ones.
    pub(super) fn sample(&mut self, now: Instant, at_ms: UnixMs, followed: bool) -> Sample {
        // Copied, so that nobody who changes the list waits for the kernel.
        let running = self.servers.borrow().clone();
        if followed {
            running.iter().for_each(|server| server.activity.watched());
        }
        let gpus: Vec<Published> =
            self.gpus.iter_mut().map(|feed| feed.latest(now, !running.is_empty())).collect();

        self.families.retain(|family| running.iter().any(|server| family.is(server)));
        let servers = running.into_iter().map(|server| self.server(now, server, &gpus)).collect();
        let daemon = self.daemon.sample(now, &mut self.buffer);
        self.seq = self.seq.saturating_add(1);
        let filesystems = self.filesystems.sample(now);
        let host = Host { filesystems, ..self.host.sample(now) };
        let models = self.starts.take();
        Sample { seq: self.seq, at_ms, host, gpus: gather(gpus), servers, daemon, models }
    }

    fn server(&mut self, now: Instant, server: RunningServer, gpus: &[Published]) -> ServerSample {
        let mut process = self.process(now, &server);
        process.gpu_memory_bytes = gpu_memory(&process.pids, gpus);
        let llama = server.llama.borrow().clone();
        let RunningServer { model_id, model, run_id, state, .. } = server;
        ServerSample { model_id, model, run_id, state, process, llama }
    }

    fn process(&mut self, now: Instant, server: &RunningServer) -> ProcessSample {
        if let Some(family) = self.families.iter_mut().find(|family| family.is(server)) {
            return family.sample(now, server.state, &mut self.buffer);
        }
        let mut family = FamilyReader::new(server);
        let sample = family.sample(now, server.state, &mut self.buffer);
        self.families.push(family);
        sample
    }
}

/// The GPUs of all sources; `None` when no source can be asked. Each source counts from 0: those of the
/// second come behind those of the first.
fn gather(published: Vec<Published>) -> Option<Vec<Gpu>> {
    let mut all: Option<Vec<Gpu>> = None;
    for gpus in published.into_iter().filter_map(|published| published.gpus) {
        let all = all.get_or_insert_with(Vec::new);
        let first = u32::try_from(all.len()).unwrap_or(u32::MAX);
        all.extend(
            gpus.into_iter().map(|gpu| Gpu { index: first.saturating_add(gpu.index), ..gpu }),
        );
    }
    all
}

/// What these processes hold on the GPUs of all sources that name one; `None` when none does, because
/// a source inside a container may know them by other pids.
fn gpu_memory(pids: &[u32], published: &[Published]) -> Option<u64> {
    let listed = published.iter().filter_map(|published| published.processes.as_ref());
    let mut sum = None;
    for (_, memory) in listed.flat_map(|listed| listed.on.iter()) {
        // On a card that does not say they may hold any.
        let memory = memory.as_ref()?;
        for bytes in pids.iter().filter_map(|pid| memory.get(pid)) {
            sum = Some(sum.unwrap_or(0u64).checked_add((*bytes)?)?);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::gpu::{Listed, ProcessMemory, Processes, identity};
    use super::*;

    fn published(gpus: Option<&[&str]>, on: Vec<Option<ProcessMemory>>) -> Published {
        let gpu = |uuid: &&str| identity((*uuid).to_owned(), 0, None);
        let on: Processes = on.into_iter().map(|memory| ("a".to_owned(), memory)).collect();
        Published {
            gpus: gpus.map(|uuids| uuids.iter().map(gpu).collect()),
            processes: (!on.is_empty()).then(|| Listed::now(on)),
        }
    }

    #[test]
    fn no_source_is_unknown_and_a_source_without_gpus_is_none() {
        let count = |sources: Vec<Published>| gather(sources).map(|gpus| gpus.len());
        assert_eq!(count(vec![]), None);
        assert_eq!(count(vec![published(None, vec![])]), None);
        assert_eq!(count(vec![published(None, vec![]), published(Some(&[]), vec![])]), Some(0));
        let two = vec![published(Some(&["a"]), vec![]), published(Some(&["b"]), vec![])];
        let indices = |gpus: Vec<Gpu>| gpus.iter().map(|gpu| gpu.index).collect::<Vec<_>>();
        assert_eq!(gather(two).map(indices), Some(vec![0, 1]));
    }

    #[test]
    fn gpu_memory_is_known_only_where_a_source_says_it() {
        let memory = ProcessMemory::from([(1, Some(10)), (2, None)]);
        let other = ProcessMemory::from([(1, Some(5))]);
        let both = vec![Some(memory), Some(other)];
        let mut sources = [published(None, vec![]), published(None, both)];
        assert_eq!(gpu_memory(&[1], &sources), Some(15));
        assert_eq!(gpu_memory(&[2], &sources), None);
        assert_eq!(gpu_memory(&[3], &sources), None);
        assert_eq!(gpu_memory(&[3, 1], &sources), Some(15), "a wrapper holds none");
        assert_eq!(gpu_memory(&[1, 2], &sources), None);
        sources[0] = published(None, vec![None]);
        assert_eq!(gpu_memory(&[1], &sources), None);
    }
}
