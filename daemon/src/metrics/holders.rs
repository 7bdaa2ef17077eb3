//! Who holds the memory of GPUs: what drivers list, with the names that people know.
//!
//! ```text
//!   driver: GPU-a: 4711 5 GiB, 812 1 GiB ─╮
//!   sample: 4711 is of qwen3 ─────────────┼─▶ GPU-a: qwen3 5 GiB, python3 (812) 1 GiB
//!   /proc/812/comm: python3 ──────────────╯
//! ```

use super::gpu::{ProcessMemory, Processes};
use crate::os::proc;
use llamactl_protocol::metrics::{Gpu, GpuProcess, GpuUse, GpusInUse, Sample};
use std::sync::Arc;

/// The GPUs of a sample with the processes on them. `name` is asked for what a process is called.
pub(super) fn of(
    sample: &Sample,
    lists: &[Arc<Processes>],
    name: impl Fn(u32) -> Option<String>,
) -> GpusInUse {
    let list = |gpu: &Gpu| -> Option<&ProcessMemory> {
        let mut lists = lists.iter().flat_map(|list| list.iter());
        lists.find(|(uuid, _)| *uuid == gpu.uuid)?.1.as_ref()
    };
    let process = |(pid, memory_bytes): (&u32, &Option<u64>)| {
        let server = sample.servers.iter().find(|server| server.process.pids.contains(pid));
        GpuProcess {
            pid: *pid,
            name: name(*pid),
            model: server.map(|server| server.model.clone()),
            model_id: server.map(|server| server.model_id),
            memory_bytes: *memory_bytes,
        }
    };
    let in_use = |gpu: &Gpu| {
        let processes = list(gpu).map(|list| {
            let mut all: Vec<GpuProcess> = list.iter().map(process).collect();
            all.sort_by_key(|it| (std::cmp::Reverse(it.memory_bytes), it.pid));
            all
        });
        GpuUse { gpu: gpu.clone(), processes }
    };
    GpusInUse { gpus: sample.gpus.as_ref().map(|gpus| gpus.iter().map(in_use).collect()) }
}

/// What a process is called; `None` where it cannot be seen.
pub(super) fn name(pid: u32) -> Option<String> {
    let name = proc::read(i32::try_from(pid).ok()?, "comm")?;
    Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
}
