//! NVIDIA GPUs through NVML, the library that comes with the driver.
//!
//! The library is loaded when it is there; nothing links against it. A reading a card does not
//! have is `None`. A card that is lost keeps its identity and asks for the library to be
//! reopened, which is also how a driver that was reloaded or updated comes back. PCIe counters
//! are never read: NVML measures them by waiting.

use super::gpu::{Ask, GpuError, GpuSource, ProcessMemory, Readings, identity};
use llamactl_protocol::metrics::Gpu;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};
use std::ffi::OsStr;

/// The driver's own name for the library, and the one that development packages add.
const LIBRARY_NAMES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];

/// No card has more fans than this.
const MAX_FANS: u32 = 16;

/// NVML, once it is open.
#[derive(Debug, Default)]
pub(super) struct NvmlSource {
    nvml: Option<Nvml>,
    driver: Option<String>,
    cards: Vec<Card>,
}

#[derive(Clone, Debug)]
struct Card {
    index: u32,
    uuid: String,
    name: Option<String>,
}

impl GpuSource for NvmlSource {
    fn name(&self) -> &'static str {
        "NVML"
    }

    fn open(&mut self) -> Result<(), GpuError> {
        // The old one first: a driver that was updated brings a new library.
        self.nvml = None;
        let nvml = load().map_err(said)?;
        let count = nvml.device_count().map_err(said)?;
        let found: Vec<_> = (0..count).map(|index| card(&nvml, index)).collect();
        self.cards = remember(found, &self.cards)?;
        self.driver = nvml.sys_driver_version().ok();
        self.nvml = Some(nvml);
        Ok(())
    }

    fn read(&mut self, ask: Ask) -> Result<Readings, GpuError> {
        let Some(nvml) = &self.nvml else { return Err(GpuError("it is not open".to_owned())) };
        let mut readings =
            Readings { processes: ask.processes.then(Vec::new), ..Readings::default() };
        for card in &self.cards {
            let device = nvml.device_by_index(card.index);
            if let Some(processes) = &mut readings.processes {
                processes.push((card.uuid.clone(), device.as_ref().ok().and_then(processes_on)));
            }
            let gpu = device.and_then(|device| read(card, &device, ask.slow));
            readings.gpus.push(match gpu {
                Ok(gpu) => Gpu { driver: self.driver.clone(), ..gpu },
                Err(error) => {
                    readings.trouble = Some(GpuError(format!("GPU {}: {error}", card.index)));
                    card.without_readings()
                }
            });
        }
        Ok(readings)
    }
}

impl Card {
    fn without_readings(&self) -> Gpu {
        identity(self.uuid.clone(), self.index, self.name.clone())
    }
}

fn load() -> Result<Nvml, NvmlError> {
    let [first, second] = LIBRARY_NAMES;
    let load = |name| Nvml::builder().lib_path(OsStr::new(name)).init();
    load(first).or_else(|error| match error {
        NvmlError::LibloadingError(_) => load(second).map_err(|_| error),
        error => Err(error),
    })
}

fn said(error: NvmlError) -> GpuError {
    GpuError(match error {
        NvmlError::LibloadingError(error) => format!("its library cannot be loaded: {error}"),
        error => error.to_string(),
    })
}

fn card(nvml: &Nvml, index: u32) -> Result<Card, NvmlError> {
    let device = nvml.device_by_index(index)?;
    Ok(Card { index, uuid: device.uuid()?, name: device.name().ok() })
}

/// The cards in the driver's order. One that cannot say who it is is the one that had its index
/// before, if there was one and it is nowhere else.
fn remember(found: Vec<Result<Card, NvmlError>>, before: &[Card]) -> Result<Vec<Card>, GpuError> {
    let uuids: Vec<String> = found.iter().flatten().map(|card| card.uuid.clone()).collect();
    let mut cards = Vec::with_capacity(found.len());
    let mut trouble = None;
    for (index, card) in (0..).zip(found) {
        match card {
            Ok(card) => cards.push(card),
            Err(error) => {
                let known = before.iter().find(|card| card.index == index);
                cards.extend(known.filter(|card| !uuids.contains(&card.uuid)).cloned());
                trouble = Some(error);
            }
        }
    }
    match trouble {
        Some(error) if cards.is_empty() => Err(said(error)),
        _ => Ok(cards),
    }
}

/// Every reading of one card; an error when the card is lost.
fn read(card: &Card, device: &Device<'_>, slow: bool) -> Result<Gpu, NvmlError> {
    let mut asked = Asked::default();
    let mut gpu = card.without_readings();
    if let Some(rates) = asked.for_(|| device.utilization_rates()) {
        gpu.busy_ratio = Some(percent(rates.gpu));
        gpu.memory_busy_ratio = Some(percent(rates.memory));
    }
    if let Some(memory) = asked.for_(|| device.memory_info()) {
        gpu.memory_total_bytes = Some(memory.total);
        gpu.memory_used_bytes = Some(memory.used);
    }
    gpu.temperature_celsius =
        asked.for_(|| device.temperature(TemperatureSensor::Gpu)).map(f64::from);
    gpu.power_watts = asked.for_(|| device.power_usage()).map(watts);
    gpu.power_limit_watts = asked.for_(|| device.enforced_power_limit()).map(watts);
    gpu.core_clock_hertz = asked.for_(|| device.clock_info(Clock::Graphics)).map(hertz);
    gpu.memory_clock_hertz = asked.for_(|| device.clock_info(Clock::Memory)).map(hertz);
    gpu.throttled_by = asked.for_(|| device.current_throttle_reasons()).map(throttled_by);
    gpu.energy_joules = asked
        .for_(|| device.total_energy_consumption())
        .map(|millijoules| millijoules as f64 / 1e3);
    if slow {
        gpu.fan_ratio = asked.for_(|| fastest_fan(device)).flatten();
        let mut errors = |kind| asked.for_(|| device.total_ecc_errors(kind, EccCounter::Volatile));
        gpu.ecc_corrected_errors = errors(MemoryError::Corrected);
        gpu.ecc_uncorrected_errors = errors(MemoryError::Uncorrected);
    }
    match asked.error {
        Some(error) if asked.lost || !asked.answered => Err(error),
        _ => Ok(gpu),
    }
}

/// Asks a card for one thing after the other and stops once it is clear that it is lost.
#[derive(Default)]
struct Asked {
    answered: bool,
    lost: bool,
    error: Option<NvmlError>,
}

impl Asked {
    fn for_<T>(&mut self, reading: impl FnOnce() -> Result<T, NvmlError>) -> Option<T> {
        if self.lost {
            return None;
        }
        match reading() {
            Ok(value) => {
                self.answered = true;
                Some(value)
            }
            Err(error) => {
                self.lost = is_lost(&error);
                self.error = Some(error);
                None
            }
        }
    }
}

/// Whether the error is about the card or the driver as a whole, not about one reading.
fn is_lost(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::GpuLost
            | NvmlError::ResetRequired
            | NvmlError::Uninitialized
            | NvmlError::DriverNotLoaded
            | NvmlError::LibRmVersionMismatch
    )
}

/// The speed of the fastest fan; `None` for a card without fans.
fn fastest_fan(device: &Device<'_>) -> Result<Option<f64>, NvmlError> {
    // Drivers before 460 cannot say how many there are.
    let fans = device.num_fans().unwrap_or(1).min(MAX_FANS);
    let mut fastest: Option<u32> = None;
    for fan in 0..fans {
        fastest = fastest.max(Some(device.fan_speed(fan)?));
    }
    Ok(fastest.map(percent))
}

/// What holds its clocks down. That nothing runs, or that somebody set them so, does not.
fn throttled_by(reasons: ThrottleReasons) -> Vec<String> {
    const WORDS: [(ThrottleReasons, &str); 4] = [
        (ThrottleReasons::SW_POWER_CAP, "power"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN.union(ThrottleReasons::HW_THERMAL_SLOWDOWN), "heat"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "power_brake"),
        (ThrottleReasons::HW_SLOWDOWN, "hardware"),
    ];
    let holds = WORDS.iter().filter(|(bits, _)| reasons.intersects(*bits));
    holds.map(|(_, word)| (*word).to_owned()).collect()
}

/// What the processes of one card hold. `None` when the card does not say.
fn processes_on(device: &Device<'_>) -> Option<ProcessMemory> {
    let compute = device.running_compute_processes().ok()?;
    // Not every card has graphics.
    let graphics = device.running_graphics_processes().unwrap_or_default();
    Some(of_both(&by_process(&compute), &by_process(&graphics)))
}

/// One list of one card: several entries of a process are its parts on instances of the card.
fn by_process(list: &[ProcessInfo]) -> ProcessMemory {
    let mut memory = ProcessMemory::new();
    for process in list {
        let used = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        add(memory.entry(process.pid).or_insert(Some(0)), used);
    }
    memory
}

/// A process that both computes and draws is in both lists of a card with all it holds.
fn of_both(compute: &ProcessMemory, graphics: &ProcessMemory) -> ProcessMemory {
    let mut memory = graphics.clone();
    for (pid, used) in compute {
        let entry = memory.entry(*pid).or_insert(*used);
        *entry = entry.zip(*used).map(|(a, b)| a.max(b));
    }
    memory
}

/// A sum with an unknown part is unknown.
fn add(sum: &mut Option<u64>, part: Option<u64>) {
    *sum = sum.zip(part).and_then(|(sum, part)| sum.checked_add(part));
}

/// NVML's percent as a share. It may say more than 100 of a fan.
fn percent(percent: u32) -> f64 {
    f64::from(percent.min(100)) / 100.0
}

fn watts(milliwatts: u32) -> f64 {
    f64::from(milliwatts) / 1000.0
}

fn hertz(megahertz: u32) -> u64 {
    u64::from(megahertz) * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(index: u32, uuid: &str) -> Card {
        Card { index, uuid: uuid.to_owned(), name: None }
    }

    fn uuids(cards: Result<Vec<Card>, GpuError>) -> Vec<String> {
        cards.unwrap().into_iter().map(|card| card.uuid).collect()
    }

    #[test]
    fn a_card_that_was_known_is_kept_while_it_is_lost() {
        let before = [card(0, "a"), card(1, "b")];
        let found = vec![Ok(card(0, "a")), Err(NvmlError::GpuLost)];
        assert_eq!(uuids(remember(found, &before)), ["a", "b"]);
        // The driver closed the gap: index 1 was "b", which is index 0 now.
        let found = vec![Ok(card(0, "b")), Err(NvmlError::GpuLost)];
        assert_eq!(uuids(remember(found, &before)), ["b"]);
        let found = vec![Err(NvmlError::GpuLost)];
        assert!(remember(found, &[]).is_err());
        assert_eq!(uuids(remember(vec![], &before)), Vec::<String>::new());
    }

    #[test]
    fn a_card_is_lost_by_its_own_errors_not_by_what_it_lacks() {
        let mut asked = Asked::default();
        assert_eq!(asked.for_(|| Err::<u32, _>(NvmlError::NotSupported)), None);
        assert_eq!(asked.for_(|| Ok(5)), Some(5));
        assert_eq!(asked.for_(|| Err::<u32, _>(NvmlError::GpuLost)), None);
        assert_eq!(asked.for_(|| Ok(5)), None);
        assert!(asked.lost);
    }

    #[test]
    fn memory_of_a_process_is_not_summed_over_lists() {
        let list = |entries: &[(u32, u64)]| -> ProcessMemory {
            entries.iter().map(|(pid, bytes)| (*pid, Some(*bytes))).collect()
        };
        let (compute, graphics) = (list(&[(1, 10), (2, 5)]), list(&[(1, 12), (3, 1)]));
        assert_eq!(of_both(&compute, &graphics), list(&[(1, 12), (2, 5), (3, 1)]));
        let unknown = ProcessMemory::from([(3, None)]);
        assert_eq!(of_both(&list(&[(3, 4)]), &unknown), unknown);
    }

    #[test]
    fn parts_of_a_process_on_one_card_are_summed() {
        let part = |used_gpu_memory| ProcessInfo {
            pid: 1,
            used_gpu_memory,
            gpu_instance_id: None,
            compute_instance_id: None,
        };
        let known = [part(UsedGpuMemory::Used(3)), part(UsedGpuMemory::Used(4))];
        assert_eq!(by_process(&known).get(&1), Some(&Some(7)));
        let partly = [part(UsedGpuMemory::Used(3)), part(UsedGpuMemory::Unavailable)];
        assert_eq!(by_process(&partly).get(&1), Some(&None));
    }

    #[test]
    fn clocks_of_an_idle_card_are_not_held_down() {
        let words = |bits| throttled_by(ThrottleReasons::from_bits_truncate(bits));
        assert_eq!(words(0x1 | 0x2 | 0x100), Vec::<String>::new());
        assert_eq!(words(0x4), ["power"]);
        assert_eq!(words(0x8 | 0x20 | 0x40 | 0x80), ["heat", "power_brake", "hardware"]);
    }

    #[test]
    fn units() {
        assert_eq!(percent(37), 0.37);
        assert_eq!(percent(104), 1.0);
        assert_eq!(watts(71_250), 71.25);
        assert_eq!(hertz(u32::MAX), 4_294_967_295_000_000);
    }
}
