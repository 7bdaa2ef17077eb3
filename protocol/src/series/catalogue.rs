//! The entries.

use super::Keep::{History, Live};
use super::SeriesKind::{Counter, Gauge};
use super::Unit::{Bytes, Celsius, Hertz, Joules, Number, Ratio, Seconds, Tokens, Watts};
use super::{Get, Keep, Series, SeriesKind, Source, Unit};
use crate::metrics::{Gpu, Host, LlamaSample, ProcessSample, ServerSample};
use crate::server::State;
use crate::totals::{ModelSample, Totals};

/// The series of this name.
#[must_use]
pub fn of_name(name: &str) -> Option<&'static Series> {
    SERIES.iter().find(|series| series.name == name)
}

type Taken<T> = fn(&T) -> Option<f64>;

const fn entry(
    name: &'static str,
    kind: SeriesKind,
    unit: Unit,
    keep: Keep,
    help: &'static str,
    source: Source,
) -> Series {
    Series { name, kind, unit, keep, help, source }
}

/// A gauge: what is shown is what was read.
const fn same<T>(of: Taken<T>) -> Get<T> {
    Get { shown: of, raw: of }
}

const fn host(of: Taken<Host>) -> Source {
    Source::Host(same(of))
}

const fn gpu(of: Taken<Gpu>) -> Source {
    Source::Gpu(same(of))
}

const fn server(of: Taken<ServerSample>) -> Source {
    Source::Server(same(of))
}

const fn daemon(of: Taken<ProcessSample>) -> Source {
    Source::Daemon(same(of))
}

fn whole(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

fn seconds(ms: Option<u64>) -> Option<f64> {
    ms.map(|ms| ms as f64 / 1000.0)
}

const fn llama(of: Taken<LlamaSample>) -> Source {
    Source::Llama(same(of))
}

fn total(model: &ModelSample, of: fn(&Totals) -> u64) -> Option<f64> {
    whole(model.totals.as_ref().map(of))
}

/// Every series, in the order in which they are shown.
pub const SERIES: &[Series] = &[
    entry(
        "host.cpu_busy_ratio",
        Gauge,
        Ratio,
        History,
        "Busy share of all processors",
        host(|it| it.cpu_busy_ratio),
    ),
    entry(
        "host.cpu_iowait_ratio",
        Gauge,
        Ratio,
        History,
        "Share of time in which processors waited for disks",
        host(|it| it.cpu_iowait_ratio),
    ),
    entry(
        "host.cpu_steal_ratio",
        Gauge,
        Ratio,
        History,
        "Share of time that the host of a virtual machine gave to others",
        host(|it| it.cpu_steal_ratio),
    ),
    entry(
        "host.cpus",
        Gauge,
        Number,
        Live,
        "How many processors are online",
        host(|it| it.cpus.map(f64::from)),
    ),
    entry(
        "host.cpus_allowed",
        Gauge,
        Number,
        Live,
        "How many processors the daemon's control group may keep busy, where that is limited",
        host(|it| it.cpus_allowed),
    ),
    entry(
        "host.load1",
        Gauge,
        Number,
        History,
        "Load average over one minute",
        host(|it| it.load_1m),
    ),
    entry(
        "host.load5",
        Gauge,
        Number,
        Live,
        "Load average over five minutes",
        host(|it| it.load_5m),
    ),
    entry(
        "host.load15",
        Gauge,
        Number,
        Live,
        "Load average over fifteen minutes",
        host(|it| it.load_15m),
    ),
    entry(
        "host.memory_size_bytes",
        Gauge,
        Bytes,
        Live,
        "Memory in the machine, or the limit of the container",
        host(|it| whole(it.memory_total_bytes)),
    ),
    entry(
        "host.memory_available_bytes",
        Gauge,
        Bytes,
        History,
        "Memory that can be had without swapping",
        host(|it| whole(it.memory_available_bytes)),
    ),
    entry(
        "host.memory_limit_bytes",
        Gauge,
        Bytes,
        Live,
        "The limit of the daemon's control group or of one above it",
        host(|it| whole(it.memory_limit_bytes)),
    ),
    entry(
        "host.memory_charged_bytes",
        Gauge,
        Bytes,
        History,
        "What the daemon's control group is charged for, file pages that it read included",
        host(|it| whole(it.memory_charged_bytes)),
    ),
    entry(
        "host.swap_size_bytes",
        Gauge,
        Bytes,
        Live,
        "Swap there is",
        host(|it| whole(it.swap_total_bytes)),
    ),
    entry(
        "host.swap_used_bytes",
        Gauge,
        Bytes,
        History,
        "Swap in use",
        host(|it| whole(it.swap_used_bytes)),
    ),
    entry(
        "host.disk_read_bytes",
        Counter,
        Bytes,
        History,
        "Read from disks",
        Source::Host(Get {
            shown: |it| it.disk_read_bytes_per_second,
            raw: |it| whole(it.disk_read_bytes),
        }),
    ),
    entry(
        "host.disk_written_bytes",
        Counter,
        Bytes,
        History,
        "Written to disks",
        Source::Host(Get {
            shown: |it| it.disk_write_bytes_per_second,
            raw: |it| whole(it.disk_written_bytes),
        }),
    ),
    entry(
        "host.disk_io_seconds",
        Counter,
        Seconds,
        History,
        "Time in which disks had something to do, all of them together",
        Source::Host(Get { shown: |it| it.disks_busy, raw: |it| seconds(it.disk_io_ms) }),
    ),
    entry(
        "host.filesystem_size_bytes",
        Gauge,
        Bytes,
        Live,
        "How large a file system is that models lie on",
        Source::Filesystem(same(|it| whole(it.size_bytes))),
    ),
    entry(
        "host.filesystem_available_bytes",
        Gauge,
        Bytes,
        History,
        "What any user may still write on it",
        Source::Filesystem(same(|it| whole(it.available_bytes))),
    ),
    entry(
        "host.network_receive_bytes",
        Counter,
        Bytes,
        History,
        "Received from networks, loopback apart",
        Source::Host(Get {
            shown: |it| it.network_receive_bytes_per_second,
            raw: |it| whole(it.network_receive_bytes),
        }),
    ),
    entry(
        "host.network_transmit_bytes",
        Counter,
        Bytes,
        History,
        "Sent to networks, loopback apart",
        Source::Host(Get {
            shown: |it| it.network_transmit_bytes_per_second,
            raw: |it| whole(it.network_transmit_bytes),
        }),
    ),
    entry(
        "host.pressure_cpu_waiting_seconds",
        Counter,
        Seconds,
        History,
        "Time in which some program waited for a processor",
        Source::Host(Get {
            shown: |it| it.cpu_pressure.waiting_ratio,
            raw: |it| seconds(it.cpu_pressure.waiting_ms),
        }),
    ),
    entry(
        "host.pressure_memory_waiting_seconds",
        Counter,
        Seconds,
        History,
        "Time in which some program waited for memory",
        Source::Host(Get {
            shown: |it| it.memory_pressure.waiting_ratio,
            raw: |it| seconds(it.memory_pressure.waiting_ms),
        }),
    ),
    entry(
        "host.pressure_memory_stalled_seconds",
        Counter,
        Seconds,
        History,
        "Time in which all programs waited for memory",
        Source::Host(Get {
            shown: |it| it.memory_pressure.stalled_ratio,
            raw: |it| seconds(it.memory_pressure.stalled_ms),
        }),
    ),
    entry(
        "host.pressure_io_waiting_seconds",
        Counter,
        Seconds,
        History,
        "Time in which some program waited for a disk",
        Source::Host(Get {
            shown: |it| it.io_pressure.waiting_ratio,
            raw: |it| seconds(it.io_pressure.waiting_ms),
        }),
    ),
    entry(
        "host.pressure_io_stalled_seconds",
        Counter,
        Seconds,
        History,
        "Time in which all programs waited for a disk",
        Source::Host(Get {
            shown: |it| it.io_pressure.stalled_ratio,
            raw: |it| seconds(it.io_pressure.stalled_ms),
        }),
    ),
    entry(
        "host.uptime_seconds",
        Gauge,
        Seconds,
        Live,
        "Time since boot",
        host(|it| seconds(it.uptime_ms)),
    ),
    entry(
        "gpu.busy_ratio",
        Gauge,
        Ratio,
        History,
        "Share of time a kernel ran",
        gpu(|it| it.busy_ratio),
    ),
    entry(
        "gpu.memory_busy_ratio",
        Gauge,
        Ratio,
        History,
        "Share of time its memory was read or written",
        gpu(|it| it.memory_busy_ratio),
    ),
    entry(
        "gpu.memory_size_bytes",
        Gauge,
        Bytes,
        Live,
        "Memory on the device",
        gpu(|it| whole(it.memory_total_bytes)),
    ),
    entry(
        "gpu.memory_used_bytes",
        Gauge,
        Bytes,
        History,
        "Memory in use",
        gpu(|it| whole(it.memory_used_bytes)),
    ),
    entry(
        "gpu.temperature_celsius",
        Gauge,
        Celsius,
        History,
        "Temperature of the core",
        gpu(|it| it.temperature_celsius),
    ),
    entry("gpu.power_watts", Gauge, Watts, History, "Power it draws", gpu(|it| it.power_watts)),
    entry(
        "gpu.power_limit_watts",
        Gauge,
        Watts,
        Live,
        "Power it may draw",
        gpu(|it| it.power_limit_watts),
    ),
    entry(
        "gpu.core_clock_hertz",
        Gauge,
        Hertz,
        History,
        "Clock of the cores",
        gpu(|it| whole(it.core_clock_hertz)),
    ),
    entry(
        "gpu.memory_clock_hertz",
        Gauge,
        Hertz,
        Live,
        "Clock of the memory",
        gpu(|it| whole(it.memory_clock_hertz)),
    ),
    entry(
        "gpu.fan_ratio",
        Gauge,
        Ratio,
        Live,
        "Speed of the fan, as a share of its maximum",
        gpu(|it| it.fan_ratio),
    ),
    entry(
        "gpu.energy_joules",
        Counter,
        Joules,
        History,
        "Energy it used",
        Source::Gpu(Get { shown: |it| it.power_watts, raw: |it| it.energy_joules }),
    ),
    entry(
        "gpu.throttled_ratio",
        Gauge,
        Ratio,
        History,
        "Whether its clocks are held down, by power, heat or its hardware: 1 or 0; the mean is the share of time",
        gpu(|it| it.throttled_by.as_ref().map(|by| f64::from(u8::from(!by.is_empty())))),
    ),
    entry(
        "gpu.ecc_corrected_errors",
        Gauge,
        Number,
        History,
        "Faults of its memory that were corrected since its driver was loaded",
        gpu(|it| whole(it.ecc_corrected_errors)),
    ),
    entry(
        "gpu.ecc_uncorrected_errors",
        Gauge,
        Number,
        History,
        "Faults of its memory that could not be corrected since its driver was loaded",
        gpu(|it| whole(it.ecc_uncorrected_errors)),
    ),
    entry(
        "model.tokens_generated",
        Counter,
        Tokens,
        Live,
        "Tokens generated by all its runs",
        Source::Model(|it| total(it, |totals| totals.tokens_generated)),
    ),
    entry(
        "model.prompt_tokens",
        Counter,
        Tokens,
        Live,
        "Prompt tokens processed by all its runs, cached ones apart",
        Source::Model(|it| total(it, |totals| totals.prompt_tokens)),
    ),
    entry(
        "model.prompt_cached_tokens",
        Counter,
        Tokens,
        Live,
        "Prompt tokens that were in the caches of all its runs",
        Source::Model(|it| total(it, |totals| totals.prompt_cached_tokens)),
    ),
    entry(
        "model.starts",
        Counter,
        Number,
        History,
        "Processes that were made for it, over all its runs",
        Source::Starts(|it| total(it, |totals| totals.starts), |it| it.starts),
    ),
    entry(
        "model.restarts",
        Counter,
        Number,
        History,
        "Those of them that nobody asked for: its server had ended by itself",
        Source::Starts(|it| total(it, |totals| totals.restarts), |it| it.restarts),
    ),
    entry(
        "server.cpu_seconds",
        Counter,
        Seconds,
        History,
        "Processor time of its processes",
        Source::Server(Get {
            shown: |it| it.process.cpus_busy,
            raw: |it| seconds(it.process.cpu_ms),
        }),
    ),
    entry(
        "server.memory_anonymous_bytes",
        Gauge,
        Bytes,
        History,
        "Resident memory of its own: heap, stacks, KV cache",
        server(|it| whole(it.process.memory_anonymous_bytes)),
    ),
    entry(
        "server.memory_file_bytes",
        Gauge,
        Bytes,
        History,
        "Resident memory that is a file's: mapped weights",
        server(|it| whole(it.process.memory_file_bytes)),
    ),
    entry(
        "server.memory_swapped_bytes",
        Gauge,
        Bytes,
        History,
        "Memory of its own that was written to swap",
        server(|it| whole(it.process.memory_swapped_bytes)),
    ),
    entry(
        "server.gpu_memory_bytes",
        Gauge,
        Bytes,
        History,
        "Memory it holds on GPUs",
        server(|it| whole(it.process.gpu_memory_bytes)),
    ),
    entry(
        "server.memory_grown_bytes",
        Gauge,
        Bytes,
        Live,
        "Memory of its own beyond what it had when it became ready, above all its prompt cache",
        server(|it| whole(it.process.memory_grown_bytes)),
    ),
    entry(
        "server.ready_ratio",
        Gauge,
        Ratio,
        History,
        "Whether it is ready: 1 or 0; the mean is the share of the time that it ran",
        server(|it| Some(f64::from(u8::from(it.state == State::Ready)))),
    ),
    entry(
        "server.uptime_seconds",
        Gauge,
        Seconds,
        Live,
        "How long its process has run",
        server(|it| seconds(it.process.uptime_ms)),
    ),
    entry(
        "server.threads",
        Gauge,
        Number,
        Live,
        "How many threads it has",
        server(|it| whole(it.process.threads)),
    ),
    entry(
        "server.processes",
        Gauge,
        Number,
        Live,
        "How many processes it has: a wrapper and its llama-server are two",
        server(|it| (!it.process.pids.is_empty()).then_some(it.process.pids.len() as f64)),
    ),
    entry(
        "server.io_read_bytes",
        Counter,
        Bytes,
        History,
        "Read from storage by its processes",
        Source::Server(Get {
            shown: |it| it.process.disk_read_bytes_per_second,
            raw: |it| whole(it.process.disk_read_bytes),
        }),
    ),
    entry(
        "server.io_written_bytes",
        Counter,
        Bytes,
        History,
        "Written to storage by its processes",
        Source::Server(Get {
            shown: |it| it.process.disk_write_bytes_per_second,
            raw: |it| whole(it.process.disk_written_bytes),
        }),
    ),
    entry(
        "server.major_faults",
        Counter,
        Number,
        History,
        "Faults that waited for storage: mapped weights that were not in memory",
        Source::Server(Get {
            shown: |it| it.process.major_faults_per_second,
            raw: |it| whole(it.process.major_faults),
        }),
    ),
    entry("server.slots", Gauge, Number, Live, "Slots it has", llama(|it| it.slots.map(f64::from))),
    entry(
        "server.slots_busy",
        Gauge,
        Number,
        History,
        "Slots at work",
        llama(|it| it.slots_busy.map(f64::from)),
    ),
    entry(
        "server.requests_processing",
        Gauge,
        Number,
        History,
        "Requests at work",
        llama(|it| whole(it.requests_processing)),
    ),
    entry(
        "server.requests_waiting",
        Gauge,
        Number,
        History,
        "Requests that wait for a slot",
        llama(|it| whole(it.requests_deferred)),
    ),
    entry(
        "server.prompt_tokens",
        Counter,
        Tokens,
        History,
        "Prompt tokens processed, cached ones apart",
        Source::Llama(Get {
            shown: |it| it.prompt_tokens_per_second,
            raw: |it| whole(it.prompt_tokens_total),
        }),
    ),
    entry(
        "server.prompt_cached_tokens",
        Counter,
        Tokens,
        History,
        "Prompt tokens that were in its cache",
        Source::Llama(Get {
            shown: |it| it.prompt_tokens_cached_per_second,
            raw: |it| whole(it.prompt_tokens_cached_total),
        }),
    ),
    entry(
        "server.prompt_seconds",
        Counter,
        Seconds,
        History,
        "Time spent on prompts; prompt_tokens by it is their speed",
        Source::Llama(Get {
            shown: |it| it.prompt_busy_ratio,
            raw: |it| seconds(it.prompt_ms_total),
        }),
    ),
    entry(
        "server.tokens_generated",
        Counter,
        Tokens,
        History,
        "Tokens generated, those of answers under way included",
        Source::Llama(Get {
            shown: |it| it.generated_tokens_per_second,
            raw: |it| whole(it.generated_tokens),
        }),
    ),
    entry(
        "server.generation_seconds",
        Counter,
        Seconds,
        History,
        "Time spent on generation, of all slots together",
        Source::Llama(Get {
            shown: |it| it.generation_busy_ratio,
            raw: |it| seconds(it.generation_ms_total),
        }),
    ),
    entry(
        "server.context_size_tokens",
        Gauge,
        Tokens,
        Live,
        "Tokens that fit into all slots",
        llama(|it| whole(it.context_size_tokens)),
    ),
    entry(
        "server.context_used_tokens",
        Gauge,
        Tokens,
        History,
        "Tokens that its slots hold, those of the last answers included",
        llama(|it| whole(it.context_used_tokens)),
    ),
    entry(
        "server.context_largest_tokens",
        Gauge,
        Tokens,
        Live,
        "The most tokens that one request had since it started",
        llama(|it| whole(it.context_largest_tokens)),
    ),
    entry(
        "server.decodes",
        Counter,
        Number,
        History,
        "Batches decoded; tokens_generated by it is how many tokens came of one",
        Source::Llama(Get { shown: |it| it.decodes_per_second, raw: |it| whole(it.decodes_total) }),
    ),
    entry(
        "server.drafts",
        Counter,
        Number,
        History,
        "How often tokens were drafted for it",
        Source::Llama(Get { shown: |it| it.drafts_per_second, raw: |it| whole(it.drafts_total) }),
    ),
    entry(
        "server.draft_tokens",
        Counter,
        Tokens,
        History,
        "Tokens that were drafted for it",
        Source::Llama(Get {
            shown: |it| it.draft_tokens_per_second,
            raw: |it| whole(it.draft_tokens_total),
        }),
    ),
    entry(
        "server.draft_tokens_accepted",
        Counter,
        Tokens,
        History,
        "Those of them that it accepted; by draft_tokens it is their share",
        Source::Llama(Get {
            shown: |it| it.draft_tokens_accepted_per_second,
            raw: |it| whole(it.draft_tokens_accepted_total),
        }),
    ),
    entry(
        "server.draft_acceptance_ratio",
        Gauge,
        Ratio,
        Live,
        "Share of the drafted tokens that it accepted since it started",
        llama(|it| Some(whole(it.draft_tokens_accepted_total)? / whole(it.draft_tokens_total)?)),
    ),
    entry(
        "server.prompt_cache_bytes",
        Gauge,
        Bytes,
        History,
        "Memory of prompts that it keeps for later, where its log tells: from verbosity 4 on",
        llama(|it| whole(it.prompt_cache_bytes)),
    ),
    entry(
        "server.prompt_cache_limit_bytes",
        Gauge,
        Bytes,
        Live,
        "The most that it takes for these: the setting cache-ram",
        llama(|it| whole(it.prompt_cache_limit_bytes)),
    ),
    entry(
        "daemon.cpu_seconds",
        Counter,
        Seconds,
        History,
        "Processor time of the daemon",
        Source::Daemon(Get { shown: |it| it.cpus_busy, raw: |it| seconds(it.cpu_ms) }),
    ),
    entry(
        "daemon.memory_anonymous_bytes",
        Gauge,
        Bytes,
        History,
        "Resident memory of the daemon's own",
        daemon(|it| whole(it.memory_anonymous_bytes)),
    ),
    entry(
        "daemon.memory_file_bytes",
        Gauge,
        Bytes,
        History,
        "Resident memory of the daemon that is a file's",
        daemon(|it| whole(it.memory_file_bytes)),
    ),
    entry(
        "daemon.threads",
        Gauge,
        Number,
        Live,
        "How many threads the daemon has",
        daemon(|it| whole(it.threads)),
    ),
];
