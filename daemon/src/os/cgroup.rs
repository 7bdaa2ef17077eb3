//! Control groups: whether the kernel has killed a process because memory ran out, and where the limits
//! of this one stand.
//!
//! ```text
//! of(pid) ──> /proc/PID/cgroup, /proc/self/mountinfo ──> the group's counter ─┐ remembered,
//!             /proc/vmstat ─────────────────────────────> the machine's      ─┤ and read again
//!                                                                             ▼
//! risen() ──> the group's rose ──────────> yes
//!             the machine's did not ─────> no
//!             neither tells ─────────────> the kernel's log names the pid? yes, else unknown
//! ```
//!
//! Only the group's counter speaks of this process alone. It is silent when a wrapper has moved the
//! process into another group since, and gone when the group went with its last process: then the
//! kernel's log, where we may read it, has the last word.

use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The most records of the kernel's log that are read; its usual buffer holds far fewer.
const LOG_MAX_RECORDS: usize = 65_536;
/// The longest record of the kernel's log, as the kernel sees to.
const RECORD_MAX_BYTES: usize = 8192;
/// How far the clock of the kernel's log may be behind ours, in microseconds.
const LOG_CLOCK_SLACK_US: u64 = 1_000_000;

/// Watches the counts of out-of-memory kills that can tell of one process.
#[derive(Clone, Debug)]
pub struct OomWatch {
    pid: i32,
    /// The counter of its memory cgroup.
    group: Option<Counter>,
    /// The counter of the whole machine.
    machine: Option<Counter>,
    made_at_us: u64,
}

impl OomWatch {
    /// Remembers the counts as they are now. To be made when the process starts.
    #[must_use]
    pub fn of(pid: i32) -> Self {
        Self {
            pid,
            group: group_counter(pid).and_then(Counter::at),
            machine: Counter::at("/proc/vmstat".into()),
            made_at_us: monotonic_us(),
        }
    }

    /// Whether the kernel has killed the process, or one of its group, because memory ran out.
    /// `None`: it cannot be told. Two small reads, and the kernel's log where those leave it open.
    #[must_use]
    pub fn risen(&self) -> Option<bool> {
        let group = self.group.as_ref().and_then(Counter::has_risen);
        let machine = self.machine.as_ref().and_then(Counter::has_risen);
        match (group, machine) {
            (Some(true), _) => Some(true),
            (_, Some(false)) | (Some(false), None) => Some(false),
            _ => self.is_in_the_log().then_some(true),
        }
    }

    fn is_in_the_log(&self) -> bool {
        let since_us = self.made_at_us.saturating_sub(LOG_CLOCK_SLACK_US);
        // As the log is read, not waited for: an open that blocks would never end.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg");
        let Ok(mut log) = opened else { return false };
        let mut record = [0; RECORD_MAX_BYTES];
        for _ in 0..LOG_MAX_RECORDS {
            match log.read(&mut record) {
                Ok(0) => return false,
                Ok(length) => {
                    let record = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    if tells_of_kill(&record, self.pid, since_us) {
                        return true;
                    }
                }
                // The record was overwritten before we came to it; the next read gives the next one.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }
}

/// A file with a line `oom_kill N`, and the N it had.
#[derive(Clone, Debug)]
struct Counter {
    file: PathBuf,
    before: u64,
}

impl Counter {
    fn at(file: PathBuf) -> Option<Self> {
        let before = kills_in(&fs::read_to_string(&file).ok()?)?;
        Some(Self { file, before })
    }

    fn has_risen(&self) -> Option<bool> {
        Some(kills_in(&fs::read_to_string(&self.file).ok()?)? > self.before)
    }
}

fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let us = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
    u64::try_from(us).unwrap_or(0)
}

/// The file that counts the kills in the memory cgroup of a process.
fn group_counter(pid: i32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let (version, group) = group_of(&text, "memory")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let (mount, below) = directory(&mounts, version, "memory", &group)?;
    Some(mount.join(below).join(version.counter_file()))
}

/// The directories of the groups that limit this process, its own first, then those above it as far as
/// they can be seen. `controller`: `memory`, `cpu`. By a `/proc/self/cgroup` and a `/proc/self/mountinfo`.
#[must_use]
pub fn limiting(
    cgroup: &str,
    mountinfo: &str,
    controller: &str,
) -> Option<(Version, Vec<PathBuf>)> {
    let (version, group) = group_of(cgroup, controller)?;
    let (mount, below) = directory(mountinfo, version, controller, &group)?;
    let groups = below.ancestors().map(|group| mount.join(group));
    Some((version, groups.collect()))
}

/// The two kinds of hierarchies in which the kernel can limit memory and processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

impl Version {
    fn counter_file(self) -> &'static str {
        match self {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        }
    }
}

/// The cgroup of a controller in a `/proc/PID/cgroup`: lines `number:controllers:path`. Where both
/// versions are mounted, the controller belongs to the first one that names it.
fn group_of(text: &str, controller: &str) -> Option<(Version, String)> {
    let mut unified = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        if controllers.split(',').any(|name| name == controller) {
            return Some((Version::V1, path.to_owned()));
        }
        if number == "0" && controllers.is_empty() {
            unified = Some((Version::V2, path.to_owned()));
        }
    }
    unified
}

/// Where the hierarchy of a cgroup is mounted and what the cgroup is called below that, by a
/// `/proc/self/mountinfo`: `id parent device root mount options tags… - type source super-options`.
/// `None` when what is mounted does not show it.
fn directory(
    mountinfo: &str,
    version: Version,
    controller: &str,
    group: &str,
) -> Option<(PathBuf, PathBuf)> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, mount) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let wanted = match version {
            Version::V1 => kind == "cgroup" && options.split(',').any(|it| it == controller),
            Version::V2 => kind == "cgroup2",
        };
        // A container may see a part of the tree only: what is below the root of its mount.
        let below = Path::new(group).strip_prefix(root).ok()?;
        let inside = below.components().all(|part| part != std::path::Component::ParentDir);
        (wanted && inside).then(|| (mount.into(), below.into()))
    })
}

/// The number of the line `oom_kill N`, which all three files have.
fn kills_in(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Whether a record of the kernel's log (`priority,sequence,microseconds,flags;text`), made at
/// `since_us` or later, says that this process was killed for want of memory.
fn tells_of_kill(record: &str, pid: i32, since_us: u64) -> bool {
    let Some((head, text)) = record.split_once(';') else { return false };
    let made_at_us = head.split(',').nth(2).and_then(|field| field.parse::<u64>().ok());
    made_at_us.is_some_and(|at| at >= since_us)
        && text.to_ascii_lowercase().contains("out of memory")
        && text.contains(&format!("Killed process {pid} ("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_group_is_found_in_every_layout() {
        let v1 = "9:name=systemd:/\n8:pids:/\n4:memory:/api/18fc\n3:cpuset:/\n0::/\n";
        assert_eq!(group_of(v1, "memory"), Some((Version::V1, "/api/18fc".into())));
        let joined = "5:cpu,cpuacct:/\n2:hugetlb,memory:/a:b\n";
        assert_eq!(group_of(joined, "memory"), Some((Version::V1, "/a:b".into())));
        let v2 = "0::/user.slice/user-1000.slice/user@1000.service/app.slice\n";
        let (version, path) = group_of(v2, "memory").unwrap();
        assert_eq!((version, path.rsplit('/').next()), (Version::V2, Some("app.slice")));
        // memory_recursiveprot and the like are not the controller.
        assert_eq!(group_of("3:memoryx:/\n", "memory"), None);
        assert_eq!(group_of("", "memory"), None);
        assert_eq!(group_of("nonsense\n", "memory"), None);
    }

    const V1_MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
36 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn its_directory_is_found_by_the_mounts() {
        let found = |mounts, version, group| {
            directory(mounts, version, "memory", group).map(|(mount, below)| mount.join(below))
        };
        assert_eq!(
            found(V1_MOUNTS, Version::V1, "/api/18fc"),
            Some("/sys/fs/cgroup/memory/api/18fc".into())
        );
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(found(v2, Version::V2, "/a.slice"), Some("/sys/fs/cgroup/a.slice".into()));
        assert_eq!(found(v2, Version::V1, "/a.slice"), None);
        // A container that shows a part of the tree, with and without a namespace of its own.
        let part = "9 8 0:26 /docker/7f /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(found(part, Version::V2, "/docker/7f/in"), Some("/sys/fs/cgroup/in".into()));
        assert_eq!(found(part, Version::V2, "/elsewhere"), None);
        assert_eq!(found(v2, Version::V2, "/../outside"), None);
    }

    #[test]
    fn the_groups_above_limit_too_as_far_as_they_are_seen() {
        let dirs = |cgroup, mounts, controller| {
            let (_, dirs) = limiting(cgroup, mounts, controller)?;
            Some(dirs.into_iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>())
        };
        let memory = ["/api/18fc", "/api", "/"].map(|dir| format!("/sys/fs/cgroup/memory{dir}"));
        assert_eq!(dirs("4:memory:/api/18fc\n1:cpu:/\n", V1_MOUNTS, "memory").unwrap(), memory);
        assert_eq!(
            dirs("4:memory:/api\n1:cpu:/\n", V1_MOUNTS, "cpu").unwrap(),
            ["/sys/fs/cgroup/cpu/"]
        );
        // A container with a namespace of its own is at the root of what it sees.
        let part = "9 8 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(dirs("0::/\n", part, "memory").unwrap(), ["/sys/fs/cgroup/"]);
        assert_eq!(dirs("0::/\n", "", "memory"), None);
    }

    #[test]
    fn the_count_is_read_from_all_three_files() {
        assert_eq!(kills_in("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        let events =
            "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\nsock_throttled 0\n";
        assert_eq!(kills_in(events), Some(1));
        assert_eq!(kills_in("pgmajfault 77\noom_kill 5\nnuma_hit 1\n"), Some(5));
        assert_eq!(kills_in("oom_kill_disable 0\nunder_oom 0\n"), None);
        assert_eq!(kills_in("oom_kill many\n"), None);
    }

    #[test]
    fn the_kernels_log_names_the_process() {
        let group = "3,812,5500000,-;Memory cgroup out of memory: Killed process 4711 (llama-server) total-vm:1140840kB, anon-rss:52916kB";
        let whole =
            "3,812,5500000,-;Out of memory: Killed process 4711 (llama-server) total-vm:1140840kB";
        for record in [group, whole] {
            assert!(tells_of_kill(record, 4711, 5_500_000), "{record}");
            assert!(!tells_of_kill(record, 471, 0), "{record}");
            // An earlier process with the same pid.
            assert!(!tells_of_kill(record, 4711, 5_500_001), "{record}");
        }
        assert!(!tells_of_kill("6,1,5500000,-;Killed process 4711 (x)", 4711, 0));
        assert!(!tells_of_kill("nonsense", 4711, 0));
    }

    #[test]
    fn nothing_has_risen_for_a_process_that_lives() {
        let watch = OomWatch::of(std::process::id().cast_signed());
        assert!(watch.machine.is_some(), "/proc/vmstat has the count since Linux 4.13");
        // Somebody else's process may be killed while this runs; this one was not.
        assert_ne!(watch.risen(), Some(true));
    }

    #[test]
    fn a_counter_that_rises_is_seen_and_one_that_goes_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.events");
        fs::write(&file, "oom 0\noom_kill 1\n").unwrap();
        let counter = Counter::at(file.clone()).unwrap();
        assert_eq!(counter.has_risen(), Some(false));
        fs::write(&file, "oom 1\noom_kill 2\n").unwrap();
        assert_eq!(counter.has_risen(), Some(true));
        fs::remove_file(&file).unwrap();
        assert_eq!(counter.has_risen(), None);
    }
}
