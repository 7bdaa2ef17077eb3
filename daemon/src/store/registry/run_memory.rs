//! What each run held in memory: what plans of later starts of its model are made from.

use super::{Registry, Result};
use rusqlite::params;
use std::collections::BTreeMap;

/// When in a run its memory was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryMoment {
    /// When it became ready.
    Ready,
    /// After its first answer, when everything it needs to work is allocated.
    FirstAnswer,
    /// Just before or when it ended.
    Exit,
}

/// What a llama-server held in memory at one moment; `None` and left out is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunMemory {
    /// Memory of its own, in bytes: `RssAnon` of `/proc/PID/status`.
    pub anonymous_bytes: Option<u64>,
    /// Mapped files and shared memory, in bytes: `RssFile` and `RssShmem`.
    pub file_bytes: Option<u64>,
    /// The most that was resident until now, in bytes: `VmHWM`.
    pub peak_resident_bytes: Option<u64>,
    /// What it held of each GPU, in bytes, by the GPU's UUID, where NVML tells.
    pub gpu_bytes: BTreeMap<String, u64>,
}

impl Registry {
    /// Writes what a run held in memory. What it holds when ready or after its first answer is what
    /// it needs; the highest of all moments is its peak. What is unknown leaves what was known.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn put_memory(
        &self,
        run: String,
        moment: MemoryMoment,
        memory: RunMemory,
    ) -> Result<()> {
        self.write(move |tx| {
            let steady = moment != MemoryMoment::Exit;
            let gpu = Some(&memory.gpu_bytes).filter(|of_each| !of_each.is_empty());
            // max() of SQLite is NULL where one is: each falls back on the other.
            tx.prepare_cached(
                "UPDATE runs SET
                     steady_anonymous_bytes =
                         CASE WHEN ?2 THEN coalesce(?3, steady_anonymous_bytes)
                              ELSE steady_anonymous_bytes END,
                     steady_file_bytes =
                         CASE WHEN ?2 THEN coalesce(?4, steady_file_bytes)
                              ELSE steady_file_bytes END,
                     peak_anonymous_bytes =
                         max(coalesce(?3, peak_anonymous_bytes), coalesce(peak_anonymous_bytes, ?3)),
                     peak_file_bytes =
                         max(coalesce(?4, peak_file_bytes), coalesce(peak_file_bytes, ?4)),
                     peak_resident_bytes =
                         max(coalesce(?5, peak_resident_bytes), coalesce(peak_resident_bytes, ?5)),
                     gpu_memory = coalesce(?6, gpu_memory)
                 WHERE id = ?1",
            )?
            .execute(params![
                run,
                steady,
                memory.anonymous_bytes,
                memory.file_bytes,
                memory.peak_resident_bytes,
                gpu.map(serde_json::to_string).transpose()?,
            ])?;
            Ok(())
        })
        .await
    }
}
