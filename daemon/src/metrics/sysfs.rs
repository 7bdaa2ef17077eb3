//! AMD and Intel GPUs, from what their drivers write below `/sys`.
//!
//! ```text
//!   /sys/class/drm/card0/device ─▶ …/0000:03:00.0/   vendor, gpu_busy_percent, mem_info_vram_used, …
//!                                      hwmon/hwmon2/   temp1_input, power1_average, energy1_input, …
//! ```
//!
//! A card is known by its address on the bus, which stays. What its driver does not write is `None`: of
//! Intel's the load and the memory, which need a library of the vendor or rights that we do not have. A
//! card that sleeps is left alone, because to be asked would wake it. Who is on a card is in `fdinfo`.

use super::fdinfo;
use super::gpu::{Ask, GpuError, GpuSource, Processes, Readings, identity};
use llamactl_protocol::metrics::Gpu;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The cards below a directory.
#[derive(Debug)]
pub(super) struct SysfsSource {
    class: PathBuf,
    proc: PathBuf,
    cards: Vec<Card>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vendor {
    Amd,
    Intel,
}

#[derive(Debug)]
struct Card {
    index: u32,
    /// Its address on the bus.
    id: String,
    vendor: Vendor,
    name: Option<String>,
    driver: Option<String>,
    /// `/sys/class/drm/card0`.
    dir: PathBuf,
    /// Where its sensors are.
    sensors: Option<PathBuf>,
    /// Where no power is told: when its energy was read, and how much it was.
    energy: Option<(Instant, u64)>,
}

impl SysfsSource {
    /// The cards of the machine whose `/sys` and `/proc` these are.
    pub(super) fn of(sys: &Path, proc: &Path) -> Self {
        Self { class: sys.join("class/drm"), proc: proc.to_owned(), cards: Vec::new() }
    }

    /// Whether there can be any: a kernel without graphics has no such directory.
    pub(super) fn has_class(&self) -> bool {
        self.class.is_dir()
    }

    fn read_at(&mut self, now: Instant) -> Readings {
        let mut readings = Readings::default();
        for card in &mut self.cards {
            let known = card.dir.join("device/vendor").exists();
            readings.gpus.push(if known { card.read(now) } else { card.identity() });
            if !known {
                readings.trouble = Some(GpuError(format!("{} is not there any more", card.id)));
            }
        }
        readings
    }

    fn processes(&self) -> Processes {
        let without_own = self.cards.iter().filter(|card| !card.has_own_memory());
        let without_own: Vec<&str> = without_own.map(|card| &*card.id).collect();
        let mut held = fdinfo::held(&self.proc, &without_own);
        let mut on = |card: &Card| held.remove(&card.id).unwrap_or_default();
        self.cards.iter().map(|card| (card.id.clone(), Some(on(card)))).collect()
    }
}

impl GpuSource for SysfsSource {
    fn name(&self) -> &'static str {
        "sysfs"
    }

    fn open(&mut self) -> Result<(), GpuError> {
        let entries = fs::read_dir(&self.class)
            .map_err(|error| GpuError(format!("{}: {error}", self.class.display())))?;
        // Its outputs are called card0-HDMI-A-1 and the like.
        let number = |dir: &PathBuf| -> Option<u32> {
            dir.file_name()?.to_str()?.strip_prefix("card")?.parse().ok()
        };
        let mut dirs: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|it| number(it).is_some())
            .collect();
        dirs.sort_by_key(number);
        self.cards = (0..)
            .zip(dirs.iter().filter_map(|dir| Card::at(dir)))
            .map(|(index, card)| Card { index, ..card })
            .collect();
        if self.cards.is_empty() {
            return Err(GpuError("there is no GPU of AMD or Intel".to_owned()));
        }
        Ok(())
    }

    fn read(&mut self, ask: Ask) -> Result<Readings, GpuError> {
        let processes = ask.processes.then(|| self.processes());
        Ok(Readings { processes, ..self.read_at(Instant::now()) })
    }
}

impl Card {
    fn at(dir: &Path) -> Option<Card> {
        let device = dir.join("device");
        let vendor = match &*word(&device.join("vendor"))? {
            "0x1002" => Vendor::Amd,
            "0x8086" => Vendor::Intel,
            _ => return None,
        };
        let end =
            |link: PathBuf| Some(fs::canonicalize(link).ok()?.file_name()?.to_str()?.to_owned());
        let id = end(device.clone()).filter(|id| is_address(id))?;
        let product = word(&device.join("product_name")).filter(|name| !name.is_empty());
        let brand = if vendor == Vendor::Amd { "AMD" } else { "Intel" };
        let number =
            || Some(format!("{brand} {}", word(&device.join("device"))?.trim_start_matches("0x")));
        let sensors = fs::read_dir(device.join("hwmon")).ok();
        let sensors = sensors.and_then(|mut all| Some(all.next()?.ok()?.path()));
        let (name, driver) = (product.or_else(number), end(device.join("driver")));
        let dir = dir.to_owned();
        Some(Card { index: 0, id, vendor, name, driver, dir, sensors, energy: None })
    }

    fn identity(&self) -> Gpu {
        identity(self.id.clone(), self.index, self.name.clone())
    }

    fn read(&mut self, now: Instant) -> Gpu {
        let mut gpu = Gpu { driver: self.driver.clone(), ..self.identity() };
        let device = self.dir.join("device");
        if word(&device.join("power/runtime_status")).as_deref() == Some("suspended") {
            return gpu;
        }
        let of_device = |file: &str| number(&device.join(file));
        let ratio = |file| of_device(file).map(|percent| percent.min(100) as f64 / 100.0);
        gpu.busy_ratio = ratio("gpu_busy_percent");
        gpu.memory_busy_ratio = ratio("mem_busy_percent");
        let has_own = self.has_own_memory();
        let memory = |what: &str| {
            let own = of_device(&format!("mem_info_vram_{what}"))?;
            let shared = of_device(&format!("mem_info_gtt_{what}")).filter(|_| !has_own);
            Some(own.saturating_add(shared.unwrap_or(0)))
        };
        (gpu.memory_total_bytes, gpu.memory_used_bytes) = (memory("total"), memory("used"));
        let sensor = |file: &str| number(&self.sensors.as_ref()?.join(file));
        let millis = |value: u64| value as f64 / 1e3;
        let micros = |value: u64| value as f64 / 1e6;
        gpu.temperature_celsius =
            sensor("temp1_input").or_else(|| sensor("temp2_input")).map(millis);
        let limit = sensor("power1_cap").or_else(|| sensor("power1_max"));
        gpu.power_limit_watts = limit.filter(|limit| *limit > 0).map(micros);
        let energy = sensor("energy1_input");
        gpu.energy_joules = energy.map(micros);
        let power = sensor("power1_average").or_else(|| sensor("power1_input")).map(micros);
        let speed =
            sensor("pwm1").map(|pwm| pwm as f64 / sensor("pwm1_max").unwrap_or(255).max(1) as f64);
        gpu.fan_ratio = speed.map(|speed| speed.min(1.0));
        gpu.core_clock_hertz = sensor("freq1_input").or_else(|| self.clock_of_intel());
        gpu.memory_clock_hertz = sensor("freq2_input");
        gpu.throttled_by = self.throttled_by();
        gpu.power_watts = power.or_else(|| {
            let (then, before) = self.energy?;
            let seconds = now.saturating_duration_since(then).as_secs_f64();
            let grown = energy?.checked_sub(before)?;
            (seconds > 0.0).then(|| micros(grown) / seconds)
        });
        self.energy = energy.map(|energy| (now, energy));
        gpu
    }

    /// One of AMD's without memory of its own does not tell how busy that is, and computes in the machine's.
    /// Of Intel's the processes tell.
    fn has_own_memory(&self) -> bool {
        self.vendor == Vendor::Intel || self.dir.join("device/mem_busy_percent").exists()
    }

    /// What holds the clocks of Intel's down, which two drivers write into two places; `None` where neither
    /// does.
    fn throttled_by(&self) -> Option<Vec<String>> {
        const PLACES: [(&str, &str); 2] =
            [("device/tile0/gt0/freq0/throttle", ""), ("gt/gt0", "throttle_")];
        const WORDS: [(&str, &[&str]); 3] = [
            ("power", &["pl1", "pl2", "pl4"]),
            ("heat", &["thermal", "ratl", "vr_thermalert"]),
            ("hardware", &["prochot", "vr_tdc"]),
        ];
        let status = |dir: &str, prefix: &str| {
            let names = [format!("{prefix}status"), format!("{prefix}reason_status")];
            names.iter().find_map(|name| number(&self.dir.join(dir).join(name)))
        };
        let mut places = PLACES.iter().filter(|_| self.vendor == Vendor::Intel);
        let (dir, prefix, is_held) =
            places.find_map(|(dir, prefix)| Some((dir, prefix, status(dir, prefix)? != 0)))?;
        let says = |reason: &&str| {
            number(&self.dir.join(dir).join(format!("{prefix}reason_{reason}")))
                .is_some_and(|it| it != 0)
        };
        let words = WORDS.iter().filter(|(_, reasons)| is_held && reasons.iter().any(&says));
        let mut words: Vec<String> = words.map(|(word, _)| (*word).to_owned()).collect();
        if is_held && words.is_empty() {
            // For a reason that a later driver has.
            words.push("hardware".to_owned());
        }
        Some(words)
    }

    /// The clock in force, which three drivers write into three places.
    fn clock_of_intel(&self) -> Option<u64> {
        const PLACES: [&str; 3] =
            ["device/tile0/gt0/freq0/act_freq", "gt/gt0/rps_act_freq_mhz", "gt_act_freq_mhz"];
        let places = PLACES.iter().filter(|_| self.vendor == Vendor::Intel);
        let megahertz = places.filter_map(|place| number(&self.dir.join(place))).next()?;
        megahertz.checked_mul(1_000_000)
    }
}

/// `0000:03:00.0`.
fn is_address(text: &str) -> bool {
    let is_hex =
        |part: &str, length| part.len() == length && part.bytes().all(|it| it.is_ascii_hexdigit());
    let mut parts = text.split([':', '.']);
    let lengths = [4, 2, 2, 1];
    lengths.iter().all(|length| parts.next().is_some_and(|part| is_hex(part, *length)))
        && parts.next().is_none()
}

fn word(file: &Path) -> Option<String> {
    let text = fs::read(file).ok()?;
    Some(String::from_utf8_lossy(text.trim_ascii()).into_owned())
}

fn number(file: &Path) -> Option<u64> {
    word(file)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    /// A `/sys` made of files.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Tree {
            Tree(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            fs::write(self.path(name), format!("{text}\n")).unwrap();
        }

        /// A card at an address, with these files of its device.
        fn card(&self, card: &str, address: &str, driver: &str, files: &[(&str, &str)]) {
            for (name, text) in files {
                self.write(&format!("devices/{address}/{name}"), text);
            }
            fs::create_dir_all(self.path(&format!("class/drm/{card}"))).unwrap();
            fs::create_dir_all(self.path(&format!("drivers/{driver}"))).unwrap();
            let device = self.path(&format!("devices/{address}"));
            symlink(&device, self.path(&format!("class/drm/{card}/device"))).unwrap();
            symlink(self.path(&format!("drivers/{driver}")), device.join("driver")).unwrap();
        }

        fn open(&self) -> SysfsSource {
            let mut source = SysfsSource::of(self.0.path(), &self.path("proc"));
            source.open().unwrap();
            source
        }
    }

    const AMD: &[(&str, &str)] = &[
        ("vendor", "0x1002"),
        ("device", "0x744c"),
        ("gpu_busy_percent", "37"),
        ("mem_busy_percent", "12"),
        ("mem_info_vram_total", "25753026560"),
        ("mem_info_vram_used", "1073741824"),
        ("mem_info_gtt_total", "99"),
        ("mem_info_gtt_used", "99"),
        ("hwmon/hwmon4/temp1_input", "61000"),
        ("hwmon/hwmon4/power1_average", "74600000"),
        ("hwmon/hwmon4/power1_cap", "303000000"),
        ("hwmon/hwmon4/pwm1", "51"),
        ("hwmon/hwmon4/pwm1_max", "255"),
        ("hwmon/hwmon4/freq1_input", "1695000000"),
        ("hwmon/hwmon4/freq2_input", "1249000000"),
    ];

    #[test]
    fn a_card_of_amd_tells_all_and_one_without_its_own_memory_counts_the_machines() {
        let tree = Tree::new();
        tree.card("card1", "0000:03:00.0", "amdgpu", AMD);
        // Without memory of its own, with another sensor of power.
        let apu = [
            ("vendor", "0x1002"),
            ("device", "0x1681"),
            ("gpu_busy_percent", "5"),
            ("mem_info_vram_total", "500"),
            ("mem_info_vram_used", "100"),
            ("mem_info_gtt_total", "4000"),
            ("mem_info_gtt_used", "30"),
            ("hwmon/hwmon1/power1_input", "9000000"),
        ];
        tree.card("card10", "0000:e5:00.0", "amdgpu", &apu);
        tree.card("card2", "0000:01:00.0", "nvidia", &[("vendor", "0x10de")]);
        tree.write("class/drm/card1-DP-1/status", "connected");
        let [card, apu] = &tree.open().read_at(Instant::now()).gpus[..] else { panic!() };
        let expected = Gpu {
            uuid: "0000:03:00.0".to_owned(),
            index: 0,
            name: Some("AMD 744c".to_owned()),
            driver: Some("amdgpu".to_owned()),
            busy_ratio: Some(0.37),
            memory_busy_ratio: Some(0.12),
            memory_total_bytes: Some(25_753_026_560),
            memory_used_bytes: Some(1 << 30),
            temperature_celsius: Some(61.0),
            power_watts: Some(74.6),
            power_limit_watts: Some(303.0),
            fan_ratio: Some(0.2),
            core_clock_hertz: Some(1_695_000_000),
            memory_clock_hertz: Some(1_249_000_000),
            ..Gpu::default()
        };
        assert_eq!(*card, expected);
        assert_eq!((apu.index, &*apu.uuid, apu.power_watts), (1, "0000:e5:00.0", Some(9.0)));
        assert_eq!((apu.memory_total_bytes, apu.memory_used_bytes), (Some(4500), Some(130)));
        assert_eq!((apu.temperature_celsius, apu.fan_ratio), (None, None));
    }

    #[test]
    fn a_card_of_intel_tells_its_clock_and_power_by_the_energy_it_used() {
        let tree = Tree::new();
        let files = [
            ("vendor", "0x8086"),
            ("device", "0x56a0"),
            ("tile0/gt0/freq0/act_freq", "2400"),
            ("hwmon/hwmon3/energy1_input", "1000000"),
        ];
        tree.card("card0", "0000:03:00.0", "xe", &files);
        let (mut source, now) = (tree.open(), Instant::now());
        let first = source.read_at(now).gpus.remove(0);
        assert_eq!((first.core_clock_hertz, first.power_watts), (Some(2_400_000_000), None));
        assert_eq!((first.busy_ratio, first.memory_total_bytes), (None, None));
        tree.write("devices/0000:03:00.0/hwmon/hwmon3/energy1_input", "91000000");
        let second = source.read_at(now + Duration::from_secs(2)).gpus.remove(0);
        assert_eq!((second.power_watts, second.energy_joules), (Some(45.0), Some(91.0)));
    }

    #[test]
    fn what_holds_the_clocks_of_a_card_of_intel_down_is_told_as_of_others() {
        let (xe, i915) = ("device/tile0/gt0/freq0/throttle/", "gt/gt0/throttle_");
        for (driver, prefix, status) in [("xe", xe, "status"), ("i915", i915, "reason_status")] {
            let tree = Tree::new();
            tree.card(
                "card0",
                "0000:03:00.0",
                driver,
                &[("vendor", "0x8086"), ("device", "0x56a0")],
            );
            let mut source = tree.open();
            let mut held = |reasons: &[(&str, &str)]| {
                for (name, value) in reasons {
                    tree.write(&format!("class/drm/card0/{prefix}{name}"), value);
                }
                source.read_at(Instant::now()).gpus.remove(0).throttled_by
            };
            assert_eq!(held(&[]), None, "{driver}: nothing is known");
            let none = [(status, "0"), ("reason_pl1", "0"), ("reason_thermal", "0")];
            assert_eq!(held(&none), Some(vec![]));
            let both = [(status, "1"), ("reason_pl1", "1"), ("reason_thermal", "1")];
            assert_eq!(held(&both), Some(vec!["power".to_owned(), "heat".to_owned()]));
            let other = [("reason_pl1", "0"), ("reason_thermal", "0"), ("reason_new", "1")];
            assert_eq!(held(&other), Some(vec!["hardware".to_owned()]));
        }
    }

    #[test]
    fn who_is_on_a_card_is_told_when_it_is_asked() {
        let tree = Tree::new();
        tree.card("card1", "0000:03:00.0", "amdgpu", AMD);
        tree.write(
            "proc/12/fdinfo/4",
            "drm-pdev: 0000:03:00.0\ndrm-client-id: 1\ndrm-memory-vram: 3 KiB",
        );
        fs::create_dir_all(tree.path("proc/12/fd")).unwrap();
        symlink("/dev/dri/renderD128", tree.path("proc/12/fd/4")).unwrap();
        let mut source = tree.open();
        let mut asked = |processes| source.read(Ask { slow: false, processes }).unwrap().processes;
        assert!(asked(false).is_none());
        let on = vec![("0000:03:00.0".to_owned(), Some(HashMap::from([(12, Some(3072))])))];
        assert_eq!(asked(true), Some(on));
    }

    #[test]
    fn a_card_that_sleeps_is_left_alone_and_one_that_is_gone_is_trouble() {
        let tree = Tree::new();
        tree.card("card0", "0000:03:00.0", "amdgpu", AMD);
        let mut source = tree.open();
        tree.write("devices/0000:03:00.0/power/runtime_status", "suspended");
        let asleep = source.read_at(Instant::now());
        assert_eq!(asleep.gpus[0].busy_ratio, None);
        assert_eq!(asleep.trouble, None);
        tree.write("devices/0000:03:00.0/power/runtime_status", "active");
        assert_eq!(source.read_at(Instant::now()).gpus[0].busy_ratio, Some(0.37));
        fs::remove_dir_all(tree.path("devices/0000:03:00.0")).unwrap();
        let gone = source.read_at(Instant::now());
        assert_eq!((gone.gpus[0].busy_ratio, &*gone.gpus[0].uuid), (None, "0000:03:00.0"));
        assert!(gone.trouble.is_some());
        assert!(source.open().is_err(), "there is no other");
    }

    #[test]
    fn an_address_is_told_from_other_names() {
        assert!(is_address("0000:e5:00.0"));
        for other in ["card0", "0000:e5:00", "0000:e5:00.0.1", "zzzz:00:00.0", "vgem", ""] {
            assert!(!is_address(other), "{other}");
        }
    }
}
