//! What this process may have of the machine: the limits of its control group and of those above it.
//!
//! ```text
//!   /proc/self/cgroup, mountinfo ─▶ groups, upwards ─▶ memory.max, memory.current, memory.stat ─▶ Limits
//!                                                      cpu.max            (v1: their twins)
//! ```
//!
//! In a container, or a unit with a limit, the memory of the machine is not to be had: what counts is the
//! smallest limit, and what is left below it. The file pages that a group has read count as charged, but the
//! kernel takes them back: only what is not among them is used.

use super::file::KeptFile;
use crate::os::cgroup::{self, Version};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks whether limits were changed.
const LIMITS_EVERY: Duration = Duration::from_secs(10);
/// What version 1 says where there is no limit: the largest whole page.
const NO_LIMIT: u64 = 1 << 62;

/// What may be had, as far as there is a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Limits {
    /// The smallest limit of memory; `None` where there is none.
    pub(super) memory_bytes: Option<u64>,
    /// What is left below the limits.
    pub(super) memory_left_bytes: Option<u64>,
    /// What the group of this process is charged for.
    pub(super) memory_charged_bytes: Option<u64>,
    /// How many processors it may keep busy; `None` where there is no limit.
    pub(super) cpus: Option<f64>,
}

/// The groups, and their files.
#[derive(Debug)]
pub(super) struct ContainerReader {
    memory: Vec<MemoryGroup>,
    cpu: Vec<CpuGroup>,
    limits_due_at: Option<Instant>,
    cpus: Option<f64>,
}

#[derive(Debug)]
struct MemoryGroup {
    version: Version,
    limit: KeptFile,
    charged: KeptFile,
    stat: KeptFile,
    limit_bytes: Option<u64>,
}

#[derive(Debug)]
enum CpuGroup {
    V2(KeptFile),
    V1 { quota: KeptFile, period: KeptFile },
}

impl ContainerReader {
    /// The groups of this process, by what a `/proc` says of them.
    pub(super) fn of(proc: &Path) -> Self {
        let text = |file| fs::read_to_string(proc.join("self").join(file)).unwrap_or_default();
        let (groups, mounts) = (text("cgroup"), text("mountinfo"));
        let dirs = |controller, file: fn(Version) -> &'static str| {
            let (version, dirs) = cgroup::limiting(&groups, &mounts, controller).unzip();
            let has = move |dir: &std::path::PathBuf| {
                version.is_some_and(|it| dir.join(file(it)).is_file())
            };
            let dirs = dirs.into_iter().flatten().filter(has);
            dirs.filter_map(move |dir| Some((version?, dir)))
        };
        let kept = |dir: &Path, file| KeptFile::new(dir.join(file));
        let memory = dirs("memory", limit_file).map(|(version, dir)| MemoryGroup {
            version,
            limit: kept(&dir, limit_file(version)),
            charged: kept(
                &dir,
                if version == Version::V2 { "memory.current" } else { "memory.usage_in_bytes" },
            ),
            stat: kept(&dir, "memory.stat"),
            limit_bytes: None,
        });
        let cpu = dirs("cpu", quota_file).map(|(version, dir)| match version {
            Version::V2 => CpuGroup::V2(kept(&dir, "cpu.max")),
            Version::V1 => CpuGroup::V1 {
                quota: kept(&dir, "cpu.cfs_quota_us"),
                period: kept(&dir, "cpu.cfs_period_us"),
            },
        });
        Self { memory: memory.collect(), cpu: cpu.collect(), limits_due_at: None, cpus: None }
    }

    /// The limits, and what is left below them.
    pub(super) fn sample(&mut self, now: Instant) -> Limits {
        if self.limits_due_at.is_none_or(|at| now >= at) {
            self.limits_due_at = now.checked_add(LIMITS_EVERY);
            for group in &mut self.memory {
                group.limit_bytes = group.limit.parse(now, limit).flatten();
            }
            let cpus = self.cpu.iter_mut().filter_map(|group| group.cpus(now));
            self.cpus = cpus.reduce(f64::min);
        }
        let mut limits = Limits { cpus: self.cpus, ..Limits::default() };
        for (place, group) in self.memory.iter_mut().enumerate() {
            let charged = (place == 0 || group.limit_bytes.is_some())
                .then(|| group.charged.parse(now, |text| text.trim().parse::<u64>().ok()).flatten())
                .flatten();
            if place == 0 {
                limits.memory_charged_bytes = charged;
            }
            let Some(limit) = group.limit_bytes else { continue };
            limits.memory_bytes = least(limits.memory_bytes, Some(limit));
            let pages = group.stat.parse(now, |text| reclaimable(text, group.version)).flatten();
            let used = charged.map(|charged| charged.saturating_sub(pages.unwrap_or(0)));
            let left = used.map(|used| limit.saturating_sub(used));
            limits.memory_left_bytes = least(limits.memory_left_bytes, left);
        }
        limits
    }
}

impl CpuGroup {
    fn cpus(&mut self, now: Instant) -> Option<f64> {
        let (quota, period) = match self {
            CpuGroup::V2(max) => max.parse(now, |text| {
                let (quota, period) = text.trim().split_once(' ')?;
                Some((quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?))
            })??,
            CpuGroup::V1 { quota, period } => {
                // Without a limit it is -1.
                let quota = quota.parse(now, |text| text.trim().parse::<u64>().ok())??;
                (quota, period.parse(now, |text| text.trim().parse::<u64>().ok())??)
            }
        };
        (period > 0).then(|| quota as f64 / period as f64)
    }
}

/// The smaller of what is known.
pub(super) fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

fn limit_file(version: Version) -> &'static str {
    match version {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    }
}

fn quota_file(version: Version) -> &'static str {
    match version {
        Version::V1 => "cpu.cfs_quota_us",
        Version::V2 => "cpu.max",
    }
}

/// `max` is no limit, and neither is what version 1 says for it.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

/// File pages that were not used for a while, from a `memory.stat`.
fn reclaimable(stat: &str, version: Version) -> Option<u64> {
    let name = match version {
        Version::V1 => "total_inactive_file ",
        Version::V2 => "inactive_file ",
    };
    stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of files: `/proc/self` and the groups.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(cgroup: &str, kind: &str) -> Machine {
            let machine = Machine(tempfile::tempdir().unwrap());
            machine.write("proc/self/cgroup", cgroup);
            let mount = machine.0.path().join("cg");
            let line = format!("30 23 0:26 / {} rw - {kind}\n", mount.display());
            machine.write("proc/self/mountinfo", &line);
            machine
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn reader(&self) -> ContainerReader {
            ContainerReader::of(&self.0.path().join("proc"))
        }
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_holds_and_what_is_left_is_left_everywhere() {
        let machine = Machine::new("0::/a/b\n", "cgroup2 cgroup2 rw");
        for (name, text) in [
            ("cg/a/b/memory.max", "max\n"),
            ("cg/a/b/memory.current", "700\n"),
            ("cg/a/b/memory.stat", "anon 5\ninactive_file 1\n"),
            ("cg/a/memory.max", "1000\n"),
            ("cg/a/memory.current", "900\n"),
            ("cg/a/memory.stat", "anon 5\ninactive_file 250\nactive_file 9\n"),
            ("cg/a/b/cpu.max", "150000 100000\n"),
            ("cg/a/cpu.max", "max 100000\n"),
        ] {
            machine.write(name, text);
        }
        let (mut reader, now) = (machine.reader(), Instant::now());
        let expected = Limits {
            memory_bytes: Some(1000),
            memory_left_bytes: Some(350),
            memory_charged_bytes: Some(700),
            cpus: Some(1.5),
        };
        assert_eq!(reader.sample(now), expected);
        machine.write("cg/a/b/memory.max", "800\n");
        assert_eq!(reader.sample(now).memory_bytes, Some(1000));
        let later = reader.sample(now + LIMITS_EVERY);
        assert_eq!((later.memory_bytes, later.memory_left_bytes), (Some(800), Some(101)));
    }

    #[test]
    fn version_1_has_other_names_and_says_no_limit_as_a_number() {
        let machine = Machine::new("4:memory:/a\n", "cgroup cgroup rw,memory");
        for (name, text) in [
            ("cg/a/memory.limit_in_bytes", "1000\n"),
            ("cg/a/memory.usage_in_bytes", "400\n"),
            ("cg/a/memory.stat", "inactive_file 9\ntotal_inactive_file 100\n"),
            ("cg/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cg/memory.usage_in_bytes", "5000\n"),
        ] {
            machine.write(name, text);
        }
        let limits = machine.reader().sample(Instant::now());
        assert_eq!((limits.memory_bytes, limits.memory_left_bytes), (Some(1000), Some(700)));
        assert_eq!(limits.cpus, None);
        machine.write("cg/a/memory.limit_in_bytes", "9223372036854771712\n");
        let limits = machine.reader().sample(Instant::now());
        assert_eq!((limits.memory_bytes, limits.memory_left_bytes), (None, None));
        assert_eq!(limits.memory_charged_bytes, Some(400));

        let machine = Machine::new("1:cpu:/\n", "cgroup cgroup rw,cpu,cpuacct");
        machine.write("cg/cpu.cfs_period_us", "100000\n");
        machine.write("cg/cpu.cfs_quota_us", "-1\n");
        assert_eq!(machine.reader().sample(Instant::now()), Limits::default());
        machine.write("cg/cpu.cfs_quota_us", "50000\n");
        assert_eq!(machine.reader().sample(Instant::now()).cpus, Some(0.5));
    }

    #[test]
    fn without_groups_there_is_no_limit() {
        let machine = Machine::new("", "tmpfs tmpfs rw");
        assert_eq!(machine.reader().sample(Instant::now()), Limits::default());
    }
}
