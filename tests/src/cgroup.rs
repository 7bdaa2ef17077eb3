//! Control groups of a test's own, where this machine lets it make them.
//!
//! ```text
//!   v1   /sys/fs/cgroup/memory/lc-N/memory.limit_in_bytes    …/freezer/lc-N/freezer.state
//!   v2   /sys/fs/cgroup/lc-N/memory.max
//! ```
//!
//! Freezing is of version 1 alone: there not even SIGKILL reaches a frozen process, as it does not
//! reach one that a driver holds. Version 2 lets it through.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const ROOT: &str = "/sys/fs/cgroup";

/// A group, removed when it is dropped; its processes must have ended by then.
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A group whose memory can be limited; `None` where none can be made.
    #[must_use]
    pub fn memory() -> Option<Cgroup> {
        let root = Path::new(ROOT);
        let v1 = root.join("memory");
        let group = Cgroup::below(if v1.is_dir() { &v1 } else { root })?;
        ["memory.limit_in_bytes", "memory.max"]
            .iter()
            .any(|file| group.path.join(file).is_file())
            .then_some(group)
    }

    /// A group that can be frozen so that nothing reaches its processes; `None` where none can be
    /// made.
    #[must_use]
    pub fn freezer() -> Option<Cgroup> {
        let group = Cgroup::below(&Path::new(ROOT).join("freezer"))?;
        group.path.join("freezer.state").is_file().then_some(group)
    }

    fn below(parent: &Path) -> Option<Cgroup> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("lc-{}-{number}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Cgroup { path })
    }

    /// Where its processes are listed: who writes a pid there moves that process.
    #[must_use]
    pub fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Limits its memory.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn limit_memory(&self, bytes: u64) {
        let v1 = self.path.join("memory.limit_in_bytes");
        let file = if v1.is_file() { v1 } else { self.path.join("memory.max") };
        fs::write(file, bytes.to_string()).unwrap();
        // No way out by swapping, where there is swap.
        let _ = fs::write(self.path.join("memory.swap.max"), "0");
        let _ = fs::write(self.path.join("memory.memsw.limit_in_bytes"), bytes.to_string());
    }

    /// Moves a process into it and freezes it.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn freeze(&self, pid: u32) {
        fs::write(self.processes(), pid.to_string()).unwrap();
        fs::write(self.path.join("freezer.state"), "FROZEN").unwrap();
    }

    /// Lets its processes go on.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn thaw(&self) {
        fs::write(self.path.join("freezer.state"), "THAWED").unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.path.join("freezer.state"), "THAWED");
        // Busy while a process that was killed is not reaped yet; an empty group does no harm.
        let _ = fs::remove_dir(&self.path);
    }
}
