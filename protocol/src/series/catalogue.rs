//! The entries.

use super::SeriesKind::{Counter, Gauge};
use super::Unit::{Bytes, Celsius, Hertz, Number, Ratio, Seconds, Tokens, Watts};
use super::{Series, SeriesKind, Source, Unit};
use crate::metrics::{LlamaSample, ServerSample};

/// The series of this name.
#[must_use]
pub fn of_name(name: &str) -> Option<&'static Series> {
    SERIES.iter().find(|series| series.name == name)
}

const fn entry(
    name: &'static str,
    kind: SeriesKind,
    unit: Unit,
    help: &'static str,
    source: Source,
) -> Series {
    Series { name, kind, unit, help, source }
}

fn whole(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

fn seconds(ms: Option<u64>) -> Option<f64> {
    ms.map(|ms| ms as f64 / 1000.0)
}

fn llama<T>(server: &ServerSample, of: impl FnOnce(&LlamaSample) -> Option<T>) -> Option<T> {
    server.llama.as_ref().and_then(of)
}

/// Every series, in the order in which they are shown.
pub const SERIES: &[Series] = &[
    entry(
        "host.cpu_busy_ratio",
        Gauge,
        Ratio,
        "Busy share of all processors",
        Source::Host(|it| it.cpu_busy_ratio),
    ),
    entry(
        "host.cpus",
        Gauge,
        Number,
        "How many processors are online",
        Source::Host(|it| it.cpus.map(f64::from)),
    ),
    entry(
        "host.load1",
        Gauge,
        Number,
        "Load average over one minute",
        Source::Host(|it| it.load_1m),
    ),
    entry(
        "host.load5",
        Gauge,
        Number,
        "Load average over five minutes",
        Source::Host(|it| it.load_5m),
    ),
    entry(
        "host.load15",
        Gauge,
        Number,
        "Load average over fifteen minutes",
        Source::Host(|it| it.load_15m),
    ),
    entry(
        "host.memory_size_bytes",
        Gauge,
        Bytes,
        "Memory in the machine",
        Source::Host(|it| whole(it.memory_total_bytes)),
    ),
    entry(
        "host.memory_available_bytes",
        Gauge,
        Bytes,
        "Memory that can be had without swapping",
        Source::Host(|it| whole(it.memory_available_bytes)),
    ),
    entry(
        "host.swap_size_bytes",
        Gauge,
        Bytes,
        "Swap there is",
        Source::Host(|it| whole(it.swap_total_bytes)),
    ),
    entry(
        "host.swap_used_bytes",
        Gauge,
        Bytes,
        "Swap in use",
        Source::Host(|it| whole(it.swap_used_bytes)),
    ),
    entry(
        "host.disk_read_bytes",
        Counter,
        Bytes,
        "Read from disks",
        Source::Host(|it| it.disk_read_bytes_per_second),
    ),
    entry(
        "host.disk_written_bytes",
        Counter,
        Bytes,
        "Written to disks",
        Source::Host(|it| it.disk_write_bytes_per_second),
    ),
    entry(
        "host.network_receive_bytes",
        Counter,
        Bytes,
        "Received from networks, loopback apart",
        Source::Host(|it| it.network_receive_bytes_per_second),
    ),
    entry(
        "host.network_transmit_bytes",
        Counter,
        Bytes,
        "Sent to networks, loopback apart",
        Source::Host(|it| it.network_transmit_bytes_per_second),
    ),
    entry(
        "host.uptime_seconds",
        Gauge,
        Seconds,
        "Time since boot",
        Source::Host(|it| seconds(it.uptime_ms)),
    ),
    entry(
        "gpu.busy_ratio",
        Gauge,
        Ratio,
        "Share of time a kernel ran",
        Source::Gpu(|it| it.busy_ratio),
    ),
    entry(
        "gpu.memory_busy_ratio",
        Gauge,
        Ratio,
        "Share of time its memory was read or written",
        Source::Gpu(|it| it.memory_busy_ratio),
    ),
    entry(
        "gpu.memory_size_bytes",
        Gauge,
        Bytes,
        "Memory on the device",
        Source::Gpu(|it| whole(it.memory_total_bytes)),
    ),
    entry(
        "gpu.memory_used_bytes",
        Gauge,
        Bytes,
        "Memory in use",
        Source::Gpu(|it| whole(it.memory_used_bytes)),
    ),
    entry(
        "gpu.temperature_celsius",
        Gauge,
        Celsius,
        "Temperature of the core",
        Source::Gpu(|it| it.temperature_celsius),
    ),
    entry("gpu.power_watts", Gauge, Watts, "Power it draws", Source::Gpu(|it| it.power_watts)),
    entry(
        "gpu.power_limit_watts",
        Gauge,
        Watts,
        "Power it may draw",
        Source::Gpu(|it| it.power_limit_watts),
    ),
    entry(
        "gpu.core_clock_hertz",
        Gauge,
        Hertz,
        "Clock of the cores",
        Source::Gpu(|it| whole(it.core_clock_hertz)),
    ),
    entry(
        "gpu.memory_clock_hertz",
        Gauge,
        Hertz,
        "Clock of the memory",
        Source::Gpu(|it| whole(it.memory_clock_hertz)),
    ),
    entry(
        "gpu.fan_ratio",
        Gauge,
        Ratio,
        "Speed of the fan, as a share of its maximum",
        Source::Gpu(|it| it.fan_ratio),
    ),
    entry(
        "server.cpu_seconds",
        Counter,
        Seconds,
        "Processor time of its process",
        Source::Server(|it| it.process.cpus_busy),
    ),
    entry(
        "server.memory_anonymous_bytes",
        Gauge,
        Bytes,
        "Resident memory of its own: heap, stacks, KV cache",
        Source::Server(|it| whole(it.process.memory_anonymous_bytes)),
    ),
    entry(
        "server.memory_file_bytes",
        Gauge,
        Bytes,
        "Resident memory that is a file's: mapped weights",
        Source::Server(|it| whole(it.process.memory_file_bytes)),
    ),
    entry(
        "server.gpu_memory_bytes",
        Gauge,
        Bytes,
        "Memory it holds on GPUs",
        Source::Server(|it| whole(it.process.gpu_memory_bytes)),
    ),
    entry(
        "server.threads",
        Gauge,
        Number,
        "How many threads it has",
        Source::Server(|it| whole(it.process.threads)),
    ),
    entry(
        "server.io_read_bytes",
        Counter,
        Bytes,
        "Read from storage by its process",
        Source::Server(|it| it.process.disk_read_bytes_per_second),
    ),
    entry(
        "server.io_written_bytes",
        Counter,
        Bytes,
        "Written to storage by its process",
        Source::Server(|it| it.process.disk_write_bytes_per_second),
    ),
    entry(
        "server.slots",
        Gauge,
        Number,
        "Slots it has",
        Source::Server(|it| llama(it, |llama| llama.slots).map(f64::from)),
    ),
    entry(
        "server.slots_busy",
        Gauge,
        Number,
        "Slots at work",
        Source::Server(|it| llama(it, |llama| llama.slots_busy).map(f64::from)),
    ),
    entry(
        "server.requests_processing",
        Gauge,
        Number,
        "Requests at work",
        Source::Server(|it| whole(llama(it, |llama| llama.requests_processing))),
    ),
    entry(
        "server.requests_waiting",
        Gauge,
        Number,
        "Requests that wait for a slot",
        Source::Server(|it| whole(llama(it, |llama| llama.requests_deferred))),
    ),
    entry(
        "server.prompt_tokens",
        Counter,
        Tokens,
        "Prompt tokens processed, cached ones apart",
        Source::Server(|it| llama(it, |llama| llama.prompt_tokens_per_second)),
    ),
    entry(
        "server.tokens_generated",
        Counter,
        Tokens,
        "Tokens generated, those of answers under way included",
        Source::Server(|it| llama(it, |llama| llama.generated_tokens_per_second)),
    ),
    entry(
        "daemon.cpu_seconds",
        Counter,
        Seconds,
        "Processor time of the daemon",
        Source::Daemon(|it| it.cpus_busy),
    ),
    entry(
        "daemon.memory_anonymous_bytes",
        Gauge,
        Bytes,
        "Resident memory of the daemon's own",
        Source::Daemon(|it| whole(it.memory_anonymous_bytes)),
    ),
    entry(
        "daemon.memory_file_bytes",
        Gauge,
        Bytes,
        "Resident memory of the daemon that is a file's",
        Source::Daemon(|it| whole(it.memory_file_bytes)),
    ),
    entry(
        "daemon.threads",
        Gauge,
        Number,
        "How many threads the daemon has",
        Source::Daemon(|it| whole(it.threads)),
    ),
];
