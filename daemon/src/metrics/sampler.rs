//! One sample from all sources.

use super::RunningServer;
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
    server_processes: Vec<ProcessReader>,
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
            server_processes: Vec::new(),
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

        self.server_processes
            .retain(|process| running.iter().any(|s| process.is(s.pid, s.start_ticks)));
        let servers = running.into_iter().map(|server| self.server(now, server, &gpus)).collect();
        let daemon = self.daemon.sample(now, &mut self.buffer);
        self.seq = self.seq.saturating_add(1);
        let host = self.host.sample(now);
        Sample { seq: self.seq, at_ms, host, gpus: gather(gpus), servers, daemon }
    }

    fn server(&mut self, now: Instant, server: RunningServer, gpus: &[Published]) -> ServerSample {
        let mut process = self.process(now, &server);
        process.gpu_memory_bytes = process.pid.and_then(|pid| gpu_memory(pid, gpus));
        let llama = server.llama.borrow().clone();
        let RunningServer { model_id, model, run_id, state, .. } = server;
        ServerSample { model_id, model, run_id, state, process, llama }
    }

    fn process(&mut self, now: Instant, server: &RunningServer) -> ProcessSample {
        let is_its = |process: &&mut ProcessReader| process.is(server.pid, server.start_ticks);
        if let Some(process) = self.server_processes.iter_mut().find(is_its) {
            return process.sample(now, &mut self.buffer);
        }
        let mut process = ProcessReader::new(server);
        let sample = process.sample(now, &mut self.buffer);
        self.server_processes.push(process);
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

/// What a process holds on the GPUs of all sources that name it; `None` when none does, because
/// a source inside a container may know the process by another pid.
fn gpu_memory(pid: u32, published: &[Published]) -> Option<u64> {
    let memory = published.iter().filter_map(|published| published.process_memory.as_ref());
    let mut held = memory.filter_map(|memory| memory.get(&pid)).peekable();
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
        assert_eq!(gpu_memory(1, &sources), Some(10));
        assert_eq!(gpu_memory(2, &sources), None);
        assert_eq!(gpu_memory(3, &sources), None);
    }
}
