//! One sample from all sources.

use super::RunningServer;
use super::family::FamilyReader;
use super::gpu::{GpuFeed, Published};
use super::host::HostReader;
use super::process::ProcessReader;
use llamactl_protocol::UnixMs;
use llamactl_protocol::metrics::{Gpu, ProcessSample, Sample, ServerSample};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The sources, and what they keep between samples.
#[derive(Debug)]
pub(super) struct Sampler {
    seq: u64,
    host: HostReader,
    gpus: Vec<GpuFeed>,
    servers: watch::Receiver<Vec<RunningServer>>,
    families: Vec<FamilyReader>,
    daemon: ProcessReader,
    buffer: Vec<u8>,
}

impl Sampler {
    /// Reads this machine, this process, these GPUs and these servers.
    pub(super) fn new(gpus: Vec<GpuFeed>, servers: watch::Receiver<Vec<RunningServer>>) -> Self {
        Self {
            seq: 0,
            host: HostReader::new(),
            gpus,
            servers,
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
        let host = self.host.sample(now);
        Sample { seq: self.seq, at_ms, host, gpus: gather(gpus), servers, daemon }
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

/// The GPUs of all sources; `None` when no source can be asked.
fn gather(published: Vec<Published>) -> Option<Vec<Gpu>> {
    let mut all = None;
    for gpus in published.into_iter().filter_map(|published| published.gpus) {
        all.get_or_insert_with(Vec::new).extend(gpus);
    }
    all
}

/// What these processes hold on the GPUs of all sources that name one; `None` when none does, because
/// a source inside a container may know them by other pids.
fn gpu_memory(pids: &[u32], published: &[Published]) -> Option<u64> {
    let memory = published.iter().filter_map(|published| published.process_memory.as_ref());
    let mut held =
        memory.flat_map(|memory| pids.iter().filter_map(|pid| memory.get(pid))).peekable();
    held.peek()?;
    held.try_fold(0u64, |sum, bytes| sum.checked_add((*bytes)?))
}

#[cfg(test)]
mod tests {
    use super::super::gpu::{ProcessMemory, identity};
    use super::*;
    use std::sync::Arc;

    fn published(gpus: Option<&[&str]>, memory: Option<ProcessMemory>) -> Published {
        let gpu = |uuid: &&str| identity((*uuid).to_owned(), 0, None);
        Published {
            gpus: gpus.map(|uuids| uuids.iter().map(gpu).collect()),
            process_memory: memory.map(Arc::new),
        }
    }

    #[test]
    fn no_source_is_unknown_and_a_source_without_gpus_is_none() {
        let count = |sources: Vec<Published>| gather(sources).map(|gpus| gpus.len());
        assert_eq!(count(vec![]), None);
        assert_eq!(count(vec![published(None, None)]), None);
        assert_eq!(count(vec![published(None, None), published(Some(&[]), None)]), Some(0));
        let two = vec![published(Some(&["a"]), None), published(Some(&["b"]), None)];
        assert_eq!(count(two), Some(2));
    }

    #[test]
    fn gpu_memory_is_known_only_where_a_source_says_it() {
        let memory = ProcessMemory::from([(1, Some(10)), (2, None)]);
        let sources = [published(None, None), published(None, Some(memory))];
        assert_eq!(gpu_memory(&[1], &sources), Some(10));
        assert_eq!(gpu_memory(&[2], &sources), None);
        assert_eq!(gpu_memory(&[3], &sources), None);
        assert_eq!(gpu_memory(&[3, 1], &sources), Some(10), "a wrapper holds none");
        assert_eq!(gpu_memory(&[1, 2], &sources), None);
    }
}
