//! What the text of the kernel's `/proc` files about the machine means. Pure: text in, numbers out.
//!
//! A field an old or odd kernel does not write is `None`; a line that cannot be read is as if it
//! were not there. Formats: proc(5) and the kernel's `Documentation/admin-guide/iostats.rst`.

use std::time::Duration;

/// `/proc/diskstats` counts in sectors of this size on every disk.
const SECTOR_BYTES: u64 = 512;

/// Time that one processor spent, or all of them, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuTimes {
    /// Idle, waiting for disks apart.
    pub(super) idle: u64,
    /// Idle because a disk had to be waited for.
    pub(super) iowait: u64,
    /// Given to others by the host of a virtual machine.
    pub(super) steal: u64,
    /// All of it.
    pub(super) total: u64,
}

impl CpuTimes {
    /// Busy share of the time since `before`, 0..1; `None` when no time passed or the counters
    /// went back.
    pub(super) fn busy_ratio_since(self, before: CpuTimes) -> Option<f64> {
        let idle = |times: CpuTimes| times.idle.saturating_add(times.iowait);
        self.share_since(before, idle).map(|idle| 1.0 - idle)
    }

    /// The share that waited for disks.
    pub(super) fn iowait_ratio_since(self, before: CpuTimes) -> Option<f64> {
        self.share_since(before, |times| times.iowait)
    }

    /// The share that others had.
    pub(super) fn steal_ratio_since(self, before: CpuTimes) -> Option<f64> {
        self.share_since(before, |times| times.steal)
    }

    fn share_since(self, before: CpuTimes, of: impl Fn(CpuTimes) -> u64) -> Option<f64> {
        let total = self.total.checked_sub(before.total).filter(|total| *total > 0)?;
        // The kernel lets iowait shrink a little; that is no reset.
        Some(of(self).saturating_sub(of(before)).min(total) as f64 / total as f64)
    }
}

/// The sum over all processors from `/proc/stat`.
pub(super) fn cpu_times(stat: &str) -> Option<CpuTimes> {
    times(stat.lines().find_map(|line| line.strip_prefix("cpu "))?)
}

/// Each processor that is online, from `/proc/stat`.
pub(super) fn core_times(stat: &str) -> Vec<CpuTimes> {
    let of_processor = |line: &str| {
        let (number, fields) = line.strip_prefix("cpu")?.split_once(' ')?;
        number.parse::<u32>().ok()?;
        times(fields)
    };
    stat.lines().filter_map(of_processor).collect()
}

fn times(fields: &str) -> Option<CpuTimes> {
    let mut times = CpuTimes::default();
    let mut count = 0;
    // user nice system idle iowait irq softirq steal; guest time, after them, is in user already.
    for (position, field) in fields.split_ascii_whitespace().take(8).enumerate() {
        let ticks: u64 = field.parse().ok()?;
        times.total = times.total.checked_add(ticks)?;
        match position {
            3 => times.idle = ticks,
            4 => times.iowait = ticks,
            7 => times.steal = ticks,
            _ => {}
        }
        count += 1;
    }
    (count >= 4).then_some(times)
}

/// What `/proc/meminfo` says, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total_bytes: Option<u64>,
    pub(super) available_bytes: Option<u64>,
    pub(super) swap_total_bytes: Option<u64>,
    pub(super) swap_used_bytes: Option<u64>,
}

/// Reads `/proc/meminfo`.
pub(super) fn memory(meminfo: &str) -> Memory {
    let mut memory = Memory::default();
    let mut swap_free = None;
    for line in meminfo.lines() {
        match line.split_once(':') {
            Some(("MemTotal", value)) => memory.total_bytes = kilobytes(value),
            Some(("MemAvailable", value)) => memory.available_bytes = kilobytes(value),
            Some(("SwapTotal", value)) => memory.swap_total_bytes = kilobytes(value),
            Some(("SwapFree", value)) => swap_free = kilobytes(value),
            _ => {}
        }
    }
    memory.swap_used_bytes =
        memory.swap_total_bytes.zip(swap_free).and_then(|(total, free)| total.checked_sub(free));
    memory
}

/// `  16384 kB` in bytes.
fn kilobytes(value: &str) -> Option<u64> {
    value.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// Load averages over one, five and fifteen minutes from `/proc/loadavg`.
pub(super) fn load_averages(loadavg: &str) -> [Option<f64>; 3] {
    let mut fields = loadavg.split_ascii_whitespace();
    std::array::from_fn(|_| fields.next()?.parse().ok().filter(|load: &f64| load.is_finite()))
}

/// Time in which some and in which all programs waited, from a file of `/proc/pressure`, in milliseconds.
pub(super) fn pressure_ms(pressure: &str) -> [Option<u64>; 2] {
    ["some ", "full "].map(|begin| {
        let line = pressure.lines().find_map(|line| line.strip_prefix(begin))?;
        let total = line.split_ascii_whitespace().find_map(|field| field.strip_prefix("total="))?;
        Some(total.parse::<u64>().ok()? / 1000)
    })
}

/// Time since boot from `/proc/uptime`, in milliseconds.
pub(super) fn uptime_ms(uptime: &str) -> Option<u64> {
    let seconds: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    u64::try_from(Duration::try_from_secs_f64(seconds).ok()?.as_millis()).ok()
}

/// Every block device of `/proc/diskstats`: its name, bytes read, bytes written.
pub(super) fn disks(diskstats: &str) -> impl Iterator<Item = (&str, u64, u64)> {
    diskstats.lines().filter_map(|line| {
        // major minor NAME reads merged SECTORS ms writes merged SECTORS …
        let mut fields = line.split_ascii_whitespace().skip(2);
        let name = fields.next()?;
        let read: u64 = fields.nth(2)?.parse().ok()?;
        let written: u64 = fields.nth(3)?.parse().ok()?;
        Some((name, read.checked_mul(SECTOR_BYTES)?, written.checked_mul(SECTOR_BYTES)?))
    })
}

/// Every block device of `/proc/diskstats`: its name, and how long it had requests at work.
pub(super) fn disks_at_work(diskstats: &str) -> impl Iterator<Item = (&str, u64, u64)> {
    diskstats.lines().filter_map(|line| {
        // … SECTORS ms now MS …
        let mut fields = line.split_ascii_whitespace().skip(2);
        let name = fields.next()?;
        Some((name, fields.nth(9)?.parse().ok()?, 0))
    })
}

/// Every network interface of `/proc/net/dev`: its name, bytes received, bytes transmitted.
pub(super) fn interfaces(net_dev: &str) -> impl Iterator<Item = (&str, u64, u64)> {
    net_dev.lines().filter_map(|line| {
        // NAME: BYTES packets errs drop fifo frame compressed multicast BYTES …; old kernels
        // write no space behind the colon, and the two lines of header have none.
        let (name, counters) = line.rsplit_once(':')?;
        let mut counters = counters.split_ascii_whitespace();
        let received = counters.next()?.parse().ok()?;
        let transmitted = counters.nth(7)?.parse().ok()?;
        Some((name.trim(), received, transmitted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  84068 10 10365 277308 2705 0 266 5648 40 2\n\
                        cpu0 41107 0 4483 141459 409 0 28 2679 0 0\n\
                        cpu1 42961 0 5881 135849 2296 0 238 2968 0 0\n\
                        intr 535180 0 0 0\nctxt 1\nbtime 2\nprocesses 3\n";

    #[test]
    fn pressure_is_in_microseconds_and_an_old_kernel_knows_none_of_all() {
        let text = "some avg10=0.00 avg60=0.23 avg300=0.52 total=35834017\n\
                    full avg10=0.00 avg60=0.01 avg300=0.11 total=13999\n";
        assert_eq!(pressure_ms(text), [Some(35_834), Some(13)]);
        assert_eq!(pressure_ms("some avg10=0.00 total=5000\n"), [Some(5), None]);
        assert_eq!(pressure_ms(""), [None, None]);
    }

    #[test]
    fn processor_time_counts_guests_once() {
        let times = cpu_times(STAT).unwrap();
        let expected = CpuTimes { idle: 277_308, iowait: 2705, steal: 5648, total: 380_370 };
        assert_eq!(times, expected);
        let cores: Vec<_> = core_times(STAT).iter().map(|core| core.idle).collect();
        assert_eq!(cores, [141_459, 135_849]);
    }

    #[test]
    fn an_old_kernel_has_four_processor_fields_and_fewer_mean_nothing() {
        let old = CpuTimes { idle: 85, total: 100, ..CpuTimes::default() };
        assert_eq!(cpu_times("cpu 10 0 5 85\n"), Some(old));
        assert_eq!(cpu_times("cpu 10 0 5\n"), None);
        assert_eq!(cpu_times("cpu 10 0 5 -1\n"), None);
        assert_eq!(cpu_times(""), None);
        assert_eq!(core_times("intr 1\ncpufreq 1 2 3 4\n"), []);
    }

    #[test]
    fn the_busy_share_is_of_the_time_between() {
        let at = |idle, total| CpuTimes { idle, total, ..CpuTimes::default() };
        assert_eq!(at(150, 400).busy_ratio_since(at(100, 200)), Some(0.75));
        assert_eq!(at(90, 300).busy_ratio_since(at(100, 200)), Some(1.0));
        assert_eq!(at(500, 300).busy_ratio_since(at(100, 200)), Some(0.0));
        assert_eq!(at(1, 2).busy_ratio_since(at(1, 2)), None);
        assert_eq!(at(1, 2).busy_ratio_since(at(100, 200)), None);
        let waits = CpuTimes { iowait: 50, steal: 20, ..at(150, 400) };
        let shares =
            (waits.iowait_ratio_since(at(100, 200)), waits.steal_ratio_since(at(100, 200)));
        assert_eq!(shares, (Some(0.25), Some(0.1)));
        assert_eq!(waits.busy_ratio_since(at(100, 200)), Some(0.5));
    }

    #[test]
    fn memory_is_in_bytes_and_what_is_not_written_is_unknown() {
        let all = memory(
            "MemTotal:       24689764 kB\nMemFree: 1 kB\nMemAvailable:   23000000 kB\n\
             SwapTotal:       2097148 kB\nSwapFree:        2097000 kB\nHugePages_Total: 0\n",
        );
        assert_eq!(all.total_bytes, Some(24_689_764 * 1024));
        assert_eq!(all.available_bytes, Some(23_000_000 * 1024));
        assert_eq!(all.swap_used_bytes, Some(148 * 1024));

        let old = memory("MemTotal: 1024 kB\nMemFree: 512 kB\n");
        let expected = Memory { total_bytes: Some(1 << 20), ..Memory::default() };
        assert_eq!(old, expected);
        assert_eq!(
            memory("MemTotal: 99999999999999999999 kB\nMemAvailable: 5\n"),
            Memory::default()
        );
    }

    #[test]
    fn loads_and_uptime() {
        assert_eq!(
            load_averages("1.10 0.74 0.58 3/117 14951\n"),
            [Some(1.10), Some(0.74), Some(0.58)]
        );
        assert_eq!(load_averages("0.5 nan"), [Some(0.5), None, None]);
        assert_eq!(uptime_ms("1890.74 2773.08\n"), Some(1_890_740));
        assert_eq!(uptime_ms("-1 0"), None);
        assert_eq!(uptime_ms(""), None);
    }

    #[test]
    fn disks_count_sectors_of_512_bytes() {
        let text = " 254       0 vda 80418 28079 9272650 77903 9506 45036 13551304 83531 0 38824\n\
                    8 1 sda1 5 6 7 8\n\
                    253       0 zram0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let all: Vec<_> = disks(text).collect();
        assert_eq!(all, [("vda", 9_272_650 * 512, 13_551_304 * 512), ("zram0", 0, 0)]);
        let at_work: Vec<_> = disks_at_work(text).collect();
        assert_eq!(at_work, [("vda", 38_824, 0), ("zram0", 0, 0)]);
    }

    #[test]
    fn interfaces_with_and_without_a_space_behind_the_colon() {
        let text = "Inter-|   Receive                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes\n    \
                    lo:    3193      29    0    0    0     0          0         0     3193      29\n  \
                    eth0:154270430    5332    0    0    0     0          0         0   285648  2964\n \
                    odd: 1 2\n";
        let all: Vec<_> = interfaces(text).collect();
        assert_eq!(all, [("lo", 3193, 3193), ("eth0", 154_270_430, 285_648)]);
    }
}
