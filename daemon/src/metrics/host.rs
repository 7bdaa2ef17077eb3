//! The machine: processors, memory, disks, networks, from `/proc`.
//!
//! ```text
//!   /proc/stat /proc/meminfo /proc/loadavg ──▶ procfs (what the text means)
//!   /proc/diskstats /proc/net/dev /proc/uptime     └─▶ rate (per second) ─▶ Host
//!   /proc/pressure/{cpu,memory,io}      container (the limits of our control group) ─╯
//! ```
//!
//! Each file fails on its own: its fields are `None`, the others go on.
//!
//! A byte is counted once. Of block devices only those with hardware (or a hypervisor) behind
//! them count: sysfs gives those a `device` link, and gives none to partitions, loop, RAM, zram,
//! device-mapper and RAID devices, whose traffic is their disks' already. The same goes for
//! network interfaces: bridges, bonds and tunnels move what a card moves. Where no interface has
//! hardware, as in a container, all but loopback count.

use super::container::{ContainerReader, least};
use super::file::KeptFile;
use super::procfs::{self, CpuTimes};
use super::rate::{DeviceRates, Rate};
use llamactl_protocol::metrics::{Host, Pressure};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The files of the machine, and what they said the last time.
#[derive(Debug)]
pub(super) struct HostReader {
    stat: KeptFile,
    meminfo: KeptFile,
    loadavg: KeptFile,
    diskstats: KeptFile,
    net_dev: KeptFile,
    uptime: KeptFile,
    /// Of processors, memory and disks; empty where the kernel does not count.
    pressure: Vec<PressureReader>,
    container: ContainerReader,
    last_cpu_times: Option<CpuTimes>,
    last_core_times: Vec<CpuTimes>,
    disks: DeviceRates,
    disks_at_work: DeviceRates,
    interfaces: DeviceRates,
    disk_kinds: HardwareNames,
    interface_kinds: HardwareNames,
}

impl HostReader {
    /// Reads this machine.
    pub(super) fn new() -> Self {
        Self::of(Path::new("/proc"), Path::new("/sys"))
    }

    /// Reads the files under these directories.
    fn of(proc: &Path, sys: &Path) -> Self {
        Self {
            stat: KeptFile::new(proc.join("stat")),
            meminfo: KeptFile::new(proc.join("meminfo")),
            loadavg: KeptFile::new(proc.join("loadavg")),
            diskstats: KeptFile::new(proc.join("diskstats")),
            net_dev: KeptFile::new(proc.join("net/dev")),
            uptime: KeptFile::new(proc.join("uptime")),
            pressure: PressureReader::all(&proc.join("pressure")),
            container: ContainerReader::of(proc),
            last_cpu_times: None,
            last_core_times: Vec::new(),
            disks: DeviceRates::default(),
            disks_at_work: DeviceRates::default(),
            interfaces: DeviceRates::default(),
            disk_kinds: HardwareNames::new(sys.join("block")),
            interface_kinds: HardwareNames::new(sys.join("class/net")),
        }
    }

    /// The machine now; rates since the last call.
    pub(super) fn sample(&mut self, now: Instant) -> Host {
        let (cpu_times, core_times) = self
            .stat
            .parse(now, |text| (procfs::cpu_times(text), procfs::core_times(text)))
            .unwrap_or_default();
        let last_cpu_times = std::mem::replace(&mut self.last_cpu_times, cpu_times);
        let share = |of: fn(CpuTimes, CpuTimes) -> Option<f64>| of(cpu_times?, last_cpu_times?);
        let last_core_times = std::mem::replace(&mut self.last_core_times, core_times);
        let core = |(now, before): (&CpuTimes, &CpuTimes)| {
            // Of each second, and of a hundred processors: not longer than can be seen.
            now.busy_ratio_since(*before).map(|ratio| (ratio * 1000.0).round() / 1000.0)
        };
        // One that was switched on or off changes who is who.
        let are_same = last_core_times.len() == self.last_core_times.len();
        let cores = self.last_core_times.iter().zip(&last_core_times).filter(|_| are_same);
        let core_busy_ratios = cores.map(core).collect();
        let limits = self.container.sample(now);
        let memory = self.meminfo.parse(now, procfs::memory).unwrap_or_default();
        let [load_1m, load_5m, load_15m] =
            self.loadavg.parse(now, procfs::load_averages).unwrap_or_default();
        let (disk_read, disk_written, disk_ms) = self.sample_disks(now);
        let (received, transmitted) = self.sample_interfaces(now);
        let (disk_read_bytes, disk_written_bytes) = self.disks.grown();
        let (network_receive_bytes, network_transmit_bytes) = self.interfaces.grown();
        let mut pressure = self.pressure.iter_mut().map(|it| it.sample(now));
        let mut pressure = || pressure.next().unwrap_or_default();
        let (cpu_pressure, memory_pressure, io_pressure) = (pressure(), pressure(), pressure());
        Host {
            cpus: u32::try_from(self.last_core_times.len()).ok().filter(|cpus| *cpus > 0),
            cpu_busy_ratio: share(CpuTimes::busy_ratio_since),
            cpu_iowait_ratio: share(CpuTimes::iowait_ratio_since),
            cpu_steal_ratio: share(CpuTimes::steal_ratio_since),
            core_busy_ratios,
            load_1m,
            load_5m,
            load_15m,
            memory_total_bytes: least(memory.total_bytes, limits.memory_bytes),
            memory_available_bytes: least(memory.available_bytes, limits.memory_left_bytes),
            memory_limit_bytes: limits.memory_bytes,
            memory_charged_bytes: limits.memory_charged_bytes,
            cpus_allowed: limits.cpus,
            swap_total_bytes: memory.swap_total_bytes,
            swap_used_bytes: memory.swap_used_bytes,
            disk_read_bytes_per_second: disk_read,
            disk_write_bytes_per_second: disk_written,
            network_receive_bytes_per_second: received,
            network_transmit_bytes_per_second: transmitted,
            uptime_ms: self.uptime.parse(now, procfs::uptime_ms).flatten(),
            disk_read_bytes,
            disk_written_bytes,
            disk_io_ms: self.disks_at_work.grown().0,
            disks_busy: disk_ms.map(|ms| ms / 1000.0),
            network_receive_bytes,
            network_transmit_bytes,
            cpu_pressure,
            memory_pressure,
            io_pressure,
            filesystems: Vec::new(),
        }
    }

    /// Bytes read and written, and milliseconds at work, in a second.
    fn sample_disks(&mut self, now: Instant) -> (Option<f64>, Option<f64>, Option<f64>) {
        let Self { diskstats, disks, disks_at_work, disk_kinds, .. } = self;
        let rates = diskstats.parse(now, |text| {
            let counted = procfs::disks(text).filter(|(name, ..)| disk_kinds.is_hardware(name));
            let (read, written) = disks.advance(now, counted);
            let at_work = procfs::disks_at_work(text);
            let at_work = at_work.filter(|(name, ..)| disk_kinds.is_hardware(name));
            (read, written, disks_at_work.advance(now, at_work).0)
        });
        rates.unwrap_or_else(|| {
            disks.forget();
            disks_at_work.forget();
            (None, None, None)
        })
    }

    fn sample_interfaces(&mut self, now: Instant) -> (Option<f64>, Option<f64>) {
        let Self { net_dev, interfaces, interface_kinds, .. } = self;
        let rates = net_dev.parse(now, |text| {
            let any = procfs::interfaces(text).any(|(name, ..)| interface_kinds.is_hardware(name));
            let counted = procfs::interfaces(text).filter(|(name, ..)| {
                if any { interface_kinds.is_hardware(name) } else { *name != "lo" }
            });
            interfaces.advance(now, counted)
        });
        rates.unwrap_or_else(|| {
            interfaces.forget();
            (None, None)
        })
    }
}

/// A file of `/proc/pressure`.
#[derive(Debug)]
struct PressureReader {
    file: KeptFile,
    waiting: Rate,
    stalled: Rate,
}

impl PressureReader {
    /// Those of processors, memory and disks. Many kernels are built without, which is no trouble.
    fn all(dir: &Path) -> Vec<PressureReader> {
        let new = |name| PressureReader {
            file: KeptFile::new(dir.join(name)),
            waiting: Rate::default(),
            stalled: Rate::default(),
        };
        if dir.is_dir() { ["cpu", "memory", "io"].map(new).into() } else { Vec::new() }
    }

    fn sample(&mut self, now: Instant) -> Pressure {
        let [waiting_ms, stalled_ms] =
            self.file.parse(now, procfs::pressure_ms).unwrap_or_default();
        let share = |rate: &mut Rate, ms| rate.advance(now, ms).map(|ms| ms / 1000.0);
        Pressure {
            waiting_ms,
            waiting_ratio: share(&mut self.waiting, waiting_ms),
            stalled_ms,
            stalled_ratio: share(&mut self.stalled, stalled_ms),
        }
    }
}

/// Which names of a sysfs class are devices of their own. Asked once for each name: what a
/// driver calls its devices does not change.
#[derive(Debug)]
struct HardwareNames {
    class: PathBuf,
    known: HashMap<String, bool>,
}

/// Names remembered; containers make up new interface names without end.
const MAX_NAMES: usize = 1024;

impl HardwareNames {
    fn new(class: PathBuf) -> Self {
        Self { class, known: HashMap::new() }
    }

    fn is_hardware(&mut self, name: &str) -> bool {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        // sysfs writes a `/` in a device's name as `!`.
        let device = self.class.join(name.replace('/', "!")).join("device");
        let hardware = std::fs::symlink_metadata(device).is_ok();
        if self.known.len() >= MAX_NAMES {
            self.known.clear();
        }
        self.known.insert(name.to_owned(), hardware);
        hardware
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A machine made of files.
    struct Machine {
        root: tempfile::TempDir,
        reader: HostReader,
        now: Instant,
    }

    impl Machine {
        fn new(devices: &[&str]) -> Self {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(root.path().join("proc/net")).unwrap();
            for device in devices {
                std::fs::create_dir_all(root.path().join("sys").join(device)).unwrap();
            }
            let reader = HostReader::of(&root.path().join("proc"), &root.path().join("sys"));
            Self { root, reader, now: Instant::now() }
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.root.path().join("proc").join(name), text).unwrap();
        }

        fn sample_a_second_later(&mut self) -> Host {
            self.now += Duration::from_secs(1);
            self.reader.sample(self.now)
        }
    }

    fn disk(name: &str, sectors: u64) -> String {
        let ms = sectors * 100;
        format!("8 0 {name} 1 0 {sectors} 0 1 0 {sectors} 0 0 {ms} 0\n")
    }

    fn interface(name: &str, bytes: u64) -> String {
        format!("{name}: {bytes} 0 0 0 0 0 0 0 {bytes} 0 0 0 0 0 0 0\n")
    }

    #[test]
    fn every_file_missing_is_every_field_unknown() {
        assert_eq!(Machine::new(&[]).sample_a_second_later(), Host::default());
    }

    #[test]
    fn one_missing_file_takes_only_its_own_fields() {
        let mut machine = Machine::new(&[]);
        machine.write("loadavg", "0.50 0.25 0.10 1/2 3\n");
        let expected = Host {
            load_1m: Some(0.5),
            load_5m: Some(0.25),
            load_15m: Some(0.1),
            ..Host::default()
        };
        assert_eq!(machine.sample_a_second_later(), expected);
    }

    #[test]
    fn the_first_sample_has_no_rates_and_the_second_has() {
        let mut machine = Machine::new(&["block/sda/device"]);
        machine.write("stat", "cpu 0 0 0 100\ncpu0 0 0 0 100\n");
        machine.write("diskstats", &disk("sda", 0));
        let first = machine.sample_a_second_later();
        assert_eq!((first.cpus, first.cpu_busy_ratio), (Some(1), None));
        assert_eq!(first.disk_read_bytes_per_second, None);
        machine.write("stat", "cpu 25 0 0 175\ncpu0 25 0 0 175\n");
        machine.write("diskstats", &disk("sda", 2));
        let second = machine.sample_a_second_later();
        assert_eq!(second.cpu_busy_ratio, Some(0.25));
        assert_eq!(second.core_busy_ratios, [Some(0.25)]);
        assert_eq!(second.disk_read_bytes_per_second, Some(1024.0));
        assert_eq!((second.disks_busy, second.disk_io_ms), (Some(0.2), Some(200)));
    }

    #[test]
    fn partitions_and_stacked_devices_are_not_counted_again() {
        let mut machine = Machine::new(&["block/nvme0n1/device", "block/dm-0", "block/loop0"]);
        for sectors in [0, 1] {
            let names = ["nvme0n1", "nvme0n1p1", "dm-0", "loop0"];
            machine.write("diskstats", &names.map(|name| disk(name, sectors)).concat());
            let host = machine.sample_a_second_later();
            let expected = (sectors > 0).then_some(512.0);
            assert_eq!(host.disk_read_bytes_per_second, expected);
            assert_eq!(host.disk_write_bytes_per_second, expected);
        }
    }

    #[test]
    fn cards_count_and_where_there_are_none_everything_but_loopback() {
        for (devices, expected) in
            [(&["class/net/eth0/device"][..], 100.0), (&["class/net/eth0"][..], 200.0)]
        {
            let mut machine = Machine::new(devices);
            for bytes in [0, 100] {
                let names = ["lo", "eth0", "docker0"];
                machine.write("net/dev", &names.map(|name| interface(name, bytes)).concat());
                let host = machine.sample_a_second_later();
                let expected = (bytes > 0).then_some(expected);
                assert_eq!(host.network_receive_bytes_per_second, expected);
                assert_eq!(host.network_transmit_bytes_per_second, expected);
            }
        }
    }

    #[test]
    fn this_machine_answers() {
        let mut reader = HostReader::new();
        let host = reader.sample(Instant::now());
        assert!(host.cpus.unwrap() >= 1);
        assert!(host.memory_total_bytes.unwrap() > host.memory_available_bytes.unwrap());
        assert!(host.uptime_ms.unwrap() > 0);
        assert!(host.load_1m.is_some());
    }
}
