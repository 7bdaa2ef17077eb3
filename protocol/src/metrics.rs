//! `metrics.*`: how the machine and the servers are doing.
//!
//! Every quantity carries its unit in its name. What is not known is `null`: a source that is
//! missing or broken never shows as 0.

use crate::UnixMs;
use crate::bounds::{Bounded, Name, Short};
use crate::method::{method, subscription};
use crate::series::{Instance, Series, SeriesKind, Unit};
use crate::server::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// Everything sampled at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Counts samples since the daemon started.
    pub seq: u64,
    /// When it was taken.
    pub at_ms: UnixMs,
    /// What was measured of the machine.
    pub host: Host,
    /// The GPUs; `null` where there is no way to ask (no NVML), empty where there are none.
    pub gpus: Option<Vec<Gpu>>,
    /// One for each llama-server process.
    pub servers: Vec<ServerSample>,
    /// The daemon itself.
    pub daemon: ProcessSample,
    /// What was done with the models whose servers run, or are to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelStarts>,
}

/// How often the daemon started the server of a model since it began itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelStarts {
    /// The model's id.
    pub model_id: i64,
    /// The model's name.
    pub model: String,
    /// Processes that were made.
    pub starts: u64,
    /// Those of them that nobody asked for: the server had ended by itself.
    pub restarts: u64,
}

/// What was measured of the machine as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// How many processors are online.
    pub cpus: Option<u32>,
    /// Busy share of all processors since the last sample, 0..1.
    pub cpu_busy_ratio: Option<f64>,
    /// Load average over one minute.
    pub load_1m: Option<f64>,
    /// Load average over five minutes.
    pub load_5m: Option<f64>,
    /// Load average over fifteen minutes.
    pub load_15m: Option<f64>,
    /// Memory in the machine; in a container that has a limit, the limit.
    pub memory_total_bytes: Option<u64>,
    /// Memory that can be had without swapping, or what is left below that limit.
    pub memory_available_bytes: Option<u64>,
    /// Swap there is.
    pub swap_total_bytes: Option<u64>,
    /// Swap in use.
    pub swap_used_bytes: Option<u64>,
    /// Read from disks since the last sample.
    pub disk_read_bytes_per_second: Option<f64>,
    /// Written to disks since the last sample.
    pub disk_write_bytes_per_second: Option<f64>,
    /// Received from networks, loopback apart.
    pub network_receive_bytes_per_second: Option<f64>,
    /// Sent to networks, loopback apart.
    pub network_transmit_bytes_per_second: Option<f64>,
    /// Time since boot.
    pub uptime_ms: Option<u64>,
    /// Read from disks since sampling began.
    #[serde(default)]
    pub disk_read_bytes: Option<u64>,
    /// Written to disks since sampling began.
    #[serde(default)]
    pub disk_written_bytes: Option<u64>,
    /// How long disks had something to do since sampling began, all of them together.
    #[serde(default)]
    pub disk_io_ms: Option<u64>,
    /// How many disks had something to do since the last sample, on average.
    #[serde(default)]
    pub disks_busy: Option<f64>,
    /// Received from networks since sampling began, loopback apart.
    #[serde(default)]
    pub network_receive_bytes: Option<u64>,
    /// Sent to networks since sampling began, loopback apart.
    #[serde(default)]
    pub network_transmit_bytes: Option<u64>,
    /// How much programs wait for processors.
    #[serde(default)]
    pub cpu_pressure: Pressure,
    /// How much they wait for memory: it is read again, or written to swap.
    #[serde(default)]
    pub memory_pressure: Pressure,
    /// How much they wait for disks.
    #[serde(default)]
    pub io_pressure: Pressure,
    /// Share of the time since the last sample in which processors waited for disks, 0..1.
    #[serde(default)]
    pub cpu_iowait_ratio: Option<f64>,
    /// Share of that time that the host of a virtual machine gave to others, 0..1.
    #[serde(default)]
    pub cpu_steal_ratio: Option<f64>,
    /// Busy share of each processor, in their order, 0..1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub core_busy_ratios: Vec<Option<f64>>,
    /// The limit of the daemon's control group or of one above it; `null` where there is none. Then
    /// `memory_total_bytes` is no more than this.
    #[serde(default)]
    pub memory_limit_bytes: Option<u64>,
    /// What that control group is charged for, file pages that it read included.
    #[serde(default)]
    pub memory_charged_bytes: Option<u64>,
    /// How many processors it may keep busy; `null` where there is no limit.
    #[serde(default)]
    pub cpus_allowed: Option<f64>,
    /// The file systems that models and the daemon's own files lie on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filesystems: Vec<Filesystem>,
}

/// A file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Filesystem {
    /// Where it is mounted.
    pub mount_point: String,
    /// How large it is; `null` while it does not answer.
    pub size_bytes: Option<u64>,
    /// What any user may still write.
    pub available_bytes: Option<u64>,
}

/// How much programs wait for something there is too little of, as the kernel counts it (PSI).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pressure {
    /// Time since boot in which some program waited.
    pub waiting_ms: Option<u64>,
    /// Share of the time since the last sample in which some did.
    pub waiting_ratio: Option<f64>,
    /// Time since boot in which all programs waited.
    pub stalled_ms: Option<u64>,
    /// Share of the time since the last sample in which all did.
    pub stalled_ratio: Option<f64>,
}

/// What was measured of one GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gpu {
    /// The id that stays: its UUID, or its address on the bus where the driver gives none.
    pub uuid: String,
    /// Its number in the driver's order, which may change at boot.
    pub index: u32,
    /// What the driver calls it: `NVIDIA A10`.
    pub name: Option<String>,
    /// Share of time a kernel ran, 0..1.
    pub busy_ratio: Option<f64>,
    /// Share of time its memory was read or written, 0..1.
    pub memory_busy_ratio: Option<f64>,
    /// Memory on the device.
    pub memory_total_bytes: Option<u64>,
    /// Memory in use.
    pub memory_used_bytes: Option<u64>,
    /// Temperature of the core.
    pub temperature_celsius: Option<f64>,
    /// Power it draws now.
    pub power_watts: Option<f64>,
    /// Power it may draw.
    pub power_limit_watts: Option<f64>,
    /// Fan speed as a share of its maximum, 0..1; `null` for cards without a fan.
    pub fan_ratio: Option<f64>,
    /// Clock of the cores.
    pub core_clock_hertz: Option<u64>,
    /// Clock of the memory.
    pub memory_clock_hertz: Option<u64>,
    /// Its driver: the version of NVIDIA's, the name of another.
    #[serde(default)]
    pub driver: Option<String>,
    /// Why its clocks are held down now: `power`, `heat`, `power_brake`, `hardware`; empty where they are
    /// not.
    #[serde(default)]
    pub throttled_by: Option<Vec<String>>,
    /// Energy it has used since its driver was loaded.
    #[serde(default)]
    pub energy_joules: Option<f64>,
    /// Faults of its memory that were corrected since its driver was loaded; `null` for memory without ECC.
    #[serde(default)]
    pub ecc_corrected_errors: Option<u64>,
    /// Faults of its memory that could not be.
    #[serde(default)]
    pub ecc_uncorrected_errors: Option<u64>,
}

/// A GPU and who holds its memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuUse {
    /// What was measured of it.
    #[serde(flatten)]
    pub gpu: Gpu,
    /// The processes on it, the largest first; `null` where its driver does not say.
    pub processes: Option<Vec<GpuProcess>>,
}

/// A process that holds memory of a GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuProcess {
    /// Its process id.
    pub pid: u32,
    /// What its executable is called; `null` where that cannot be seen, as from within a container.
    pub name: Option<String>,
    /// The model whose server it is of; `null` for one that is not llamactl's.
    pub model: Option<String>,
    /// The id of that model.
    pub model_id: Option<i64>,
    /// Memory that it holds.
    pub memory_bytes: Option<u64>,
}

/// One llama-server, from outside and from inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerSample {
    /// The id of its model.
    pub model_id: i64,
    /// The model's name.
    pub model: String,
    /// The id of the run that was measured.
    pub run_id: String,
    /// The state its server was in.
    pub state: State,
    /// What the kernel says of its process and those that this started, taken together.
    pub process: ProcessSample,
    /// What it says of itself; `null` until it answers.
    pub llama: Option<LlamaSample>,
}

/// A process, as the kernel sees it; of a server, all of its processes together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessSample {
    /// Its process id; of several, of the one that was started.
    pub pid: Option<u32>,
    /// All that were measured: a wrapper and the llama-server that it runs are two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pids: Vec<u32>,
    /// Processors it kept busy since the last sample (1.0 is one whole processor).
    pub cpus_busy: Option<f64>,
    /// Resident memory of its own: heap, stacks, KV cache.
    pub memory_anonymous_bytes: Option<u64>,
    /// Resident memory that is a file's: mapped weights, which the kernel can take back.
    pub memory_file_bytes: Option<u64>,
    /// How many threads it has.
    pub threads: Option<u64>,
    /// Read from storage since the last sample.
    pub disk_read_bytes_per_second: Option<f64>,
    /// Written to storage since the last sample.
    pub disk_write_bytes_per_second: Option<f64>,
    /// Memory it holds on GPUs.
    pub gpu_memory_bytes: Option<u64>,
    /// How long it has run, sleep of the machine included.
    #[serde(default)]
    pub uptime_ms: Option<u64>,
    /// Processor time it has used.
    #[serde(default)]
    pub cpu_ms: Option<u64>,
    /// Read from storage since it began.
    #[serde(default)]
    pub disk_read_bytes: Option<u64>,
    /// Written to storage since it began.
    #[serde(default)]
    pub disk_written_bytes: Option<u64>,
    /// Faults since it began that had to wait for storage: mapped weights that were not in memory.
    #[serde(default)]
    pub major_faults: Option<u64>,
    /// The same since the last sample.
    #[serde(default)]
    pub major_faults_per_second: Option<f64>,
    /// Memory of its own that was written to swap.
    #[serde(default)]
    pub memory_swapped_bytes: Option<u64>,
    /// Of a server: resident memory of its own beyond what it had when it became ready, above all its prompt
    /// cache; `null` where this daemon did not see that.
    #[serde(default)]
    pub memory_grown_bytes: Option<u64>,
}

/// What a llama-server says of itself. Asked at most every two seconds: asking more often breaks
/// its notice of clients that went away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LlamaSample {
    /// When it was asked.
    pub asked_at_ms: UnixMs,
    /// Slots it has.
    pub slots: Option<u32>,
    /// Slots at work.
    pub slots_busy: Option<u32>,
    /// Requests at work.
    pub requests_processing: Option<u64>,
    /// Requests waiting for a slot.
    pub requests_deferred: Option<u64>,
    /// Prompt tokens processed since the last time it was asked; cached ones are not counted.
    pub prompt_tokens_per_second: Option<f64>,
    /// Tokens generated since the last time it was asked.
    pub generated_tokens_per_second: Option<f64>,
    /// Prompt tokens processed since it started; moves when a prompt is done.
    pub prompt_tokens_total: Option<u64>,
    /// Tokens generated since it started; moves when a request ends.
    pub generated_tokens_total: Option<u64>,
    /// The same with those of answers under way. It never goes back.
    #[serde(default)]
    pub generated_tokens: Option<u64>,
    /// Prompt tokens it had in its cache since it started.
    #[serde(default)]
    pub prompt_tokens_cached_total: Option<u64>,
    /// The same since the last time it was asked.
    #[serde(default)]
    pub prompt_tokens_cached_per_second: Option<f64>,
    /// Time it spent on prompts since it started; moves when a prompt is done.
    #[serde(default)]
    pub prompt_ms_total: Option<u64>,
    /// Share of the time since the last time it was asked that went to prompts.
    #[serde(default)]
    pub prompt_busy_ratio: Option<f64>,
    /// Time it spent on generation since it started; moves when a request ends.
    #[serde(default)]
    pub generation_ms_total: Option<u64>,
    /// The same for generation; over 1 where several slots were at work.
    #[serde(default)]
    pub generation_busy_ratio: Option<f64>,
    /// Tokens that fit into all slots.
    #[serde(default)]
    pub context_size_tokens: Option<u64>,
    /// Tokens that its slots hold, those of the last answers included: what is kept of them.
    #[serde(default)]
    pub context_used_tokens: Option<u64>,
    /// The most tokens that one request had since it started.
    #[serde(default)]
    pub context_largest_tokens: Option<u64>,
    /// Batches it decoded since it started; moves while requests are at work.
    #[serde(default)]
    pub decodes_total: Option<u64>,
    /// The same since the last time it was asked.
    #[serde(default)]
    pub decodes_per_second: Option<f64>,
    /// How often tokens were drafted for it since it started; `null` where nothing is drafted.
    #[serde(default)]
    pub drafts_total: Option<u64>,
    /// The same since the last time it was asked.
    #[serde(default)]
    pub drafts_per_second: Option<f64>,
    /// Tokens that were drafted for it since it started; `null` where nothing is drafted.
    #[serde(default)]
    pub draft_tokens_total: Option<u64>,
    /// The same since the last time it was asked.
    #[serde(default)]
    pub draft_tokens_per_second: Option<f64>,
    /// Those of them that it accepted.
    #[serde(default)]
    pub draft_tokens_accepted_total: Option<u64>,
    /// The same since the last time it was asked.
    #[serde(default)]
    pub draft_tokens_accepted_per_second: Option<f64>,
    /// Memory that prompts take which it keeps for later; `null` where its log does not tell, as below
    /// `verbosity` 4: see `memory_grown_bytes` of its processes.
    #[serde(default)]
    pub prompt_cache_bytes: Option<u64>,
    /// The most that it takes for these (`cache-ram`); `null` where there is no limit.
    #[serde(default)]
    pub prompt_cache_limit_bytes: Option<u64>,
}

/// The latest sample.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsSample {}

method!(MetricsSample, "metrics.sample", Observe -> Sample);

/// The GPUs, and who holds their memory. Drivers are asked for that at most every five seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuList {}

method!(GpuList, "gpu.list", Observe -> GpusInUse);

/// The GPUs there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpusInUse {
    /// Each of them; `null` where there is no way to ask, empty where there are none.
    pub gpus: Option<Vec<GpuUse>>,
}

/// The most series, models or GPUs that are named in a question.
const MOST_NAMED: usize = 64;

/// Which series are asked for, and of what.
type Words = Bounded<Vec<Bounded<String, 64>>, MOST_NAMED>;

/// Follows what is measured. Without any parameter: whole samples, the latest at once, then each as it
/// is taken. With one: chosen series as columns, what was measured before first and then a row for
/// each interval; when other series are there than before, columns again.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsFollow {
    /// Series by name, or the words before a dot of their names. None: all that are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Words,
    /// Only of these models, by name, alias or id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model: Bounded<Vec<Name>, MOST_NAMED>,
    /// Only of these GPUs, by number or UUID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpu: Bounded<Vec<Short>, MOST_NAMED>,
    /// A row for each so many milliseconds, in whole seconds; the mean of what was measured. Absent:
    /// for each second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// Begin with what was measured in so many milliseconds before, 600000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_ms: Option<u64>,
    /// Begin with what was measured since then, as far back as each second is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<UnixMs>,
    /// Begin behind this cursor, as far back as each second is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Short>,
}

impl MetricsFollow {
    /// Whether whole samples are asked for.
    #[must_use]
    pub fn is_of_samples(&self) -> bool {
        let MetricsFollow { series, model, gpu, interval_ms, replay_ms, from_ms, after } = self;
        let is_by_name = !(series.is_empty() && model.is_empty() && gpu.is_empty());
        let is_by_time = interval_ms.or(*replay_ms).is_some() || from_ms.is_some();
        !is_by_name && !is_by_time && after.is_none()
    }
}

subscription!(MetricsFollow, "metrics", Observe => Measured);

/// What comes of following.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Measured {
    /// Chosen series, a column for each.
    Columns(MetricsColumns),
    /// The next row of the columns before, in their order.
    Row(MetricsRow),
    /// Everything sampled at one moment.
    Sample(Box<Sample>),
}

impl Measured {
    /// The whole sample, where it is one.
    #[must_use]
    pub fn into_sample(self) -> Option<Sample> {
        match self {
            Measured::Sample(sample) => Some(*sample),
            Measured::Columns(_) | Measured::Row(_) => None,
        }
    }
}

/// One row of columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricsRow {
    /// When its step begins.
    pub at_ms: UnixMs,
    /// A value for each column; `null` where there was no sample.
    #[serde(serialize_with = "briefly")]
    pub values: Vec<Option<f64>>,
}

/// Which number of the values in a step is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stat {
    /// The mean; of a counter its growth per second.
    #[default]
    Mean,
    /// The least of a gauge.
    Min,
    /// The most; of a counter its fastest growth per second.
    Max,
    /// How much a counter grew.
    Sum,
    /// The last, of what is kept as long ago.
    Last,
    /// How many samples there were.
    Count,
}

impl Stat {
    /// Every one, with its word.
    pub const ALL: &'static [(Stat, &'static str)] = &[
        (Stat::Mean, "mean"),
        (Stat::Min, "min"),
        (Stat::Max, "max"),
        (Stat::Sum, "sum"),
        (Stat::Last, "last"),
        (Stat::Count, "count"),
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Stat::ALL.iter().find(|(stat, _)| *stat == self).map_or("", |(_, word)| word)
    }

    /// Whether a series has it.
    #[must_use]
    pub fn is_of(self, kind: SeriesKind) -> bool {
        match self {
            Stat::Sum => kind == SeriesKind::Counter,
            Stat::Min => kind == SeriesKind::Gauge,
            Stat::Mean | Stat::Max | Stat::Last | Stat::Count => true,
        }
    }
}

/// Asks what was measured in a span of time, in steps of equal length.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsQuery {
    /// Series by name, or the words before a dot of their names. None: all that are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Words,
    /// Only of these models, by name, alias or id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model: Bounded<Vec<Name>, MOST_NAMED>,
    /// Only of these GPUs, by number or UUID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpu: Bounded<Vec<Short>, MOST_NAMED>,
    /// From when on. Absent: the last hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<UnixMs>,
    /// Until when. Absent: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<UnixMs>,
    /// How long a step is. It is rounded up to whole seconds, minutes or hours, and lengthened where
    /// so much detail is not kept. Absent: the shortest by which there are 720 steps at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_ms: Option<u64>,
    /// Which number of a step.
    #[serde(default)]
    pub stat: Stat,
    /// Begin with this step, which an answer before gave as `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<UnixMs>,
}

method!(MetricsQuery, "metrics.query", Observe -> MetricsColumns, Whole);

/// What was measured, a column for each series and instance. All columns have the same steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricsColumns {
    /// When the first step begins.
    pub start_at_ms: UnixMs,
    /// How long a step is.
    pub step_ms: u64,
    /// How many steps there are.
    pub count: u64,
    /// The coarsest that was looked at.
    pub tier: Tier,
    /// When the last was measured of what these steps were made of: what lies behind may still come.
    pub complete_until_ms: UnixMs,
    /// The step that the next page begins with; `null` on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UnixMs>,
    /// Where `metrics.follow` can go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The columns.
    pub series: Vec<MetricsColumn>,
}

/// How fine what is kept is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Each sample, for a day.
    #[default]
    Raw,
    /// Minutes, for a month.
    Minute,
    /// Hours, for a year.
    Hour,
}

/// The values of one series of one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricsColumn {
    /// The name of the series.
    pub name: String,
    /// What it counts in.
    pub unit: Unit,
    /// How its values are to be taken.
    pub kind: SeriesKind,
    /// What was measured.
    pub labels: Labels,
    /// One for each step; `null` where there was no sample.
    #[serde(serialize_with = "briefly")]
    pub values: Vec<Option<f64>>,
}

/// Whole numbers exactly, others as short as they are kept.
fn briefly<S: Serializer>(values: &[Option<f64>], serializer: S) -> Result<S::Ok, S::Error> {
    struct Brief(Option<f64>);
    impl Serialize for Brief {
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // It is what is meant.
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                None => serializer.serialize_none(),
                // `fract` is a call of the C library on processors that are taken for the oldest.
                Some(value) if (value as i64) as f64 == value && value.abs() < 9e15 => {
                    serializer.serialize_i64(value as i64)
                }
                Some(value) => serializer.serialize_f32(value as f32),
            }
        }
    }
    serializer.collect_seq(values.iter().map(|value| Brief(*value)))
}

/// One number of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reading {
    /// The name of its series, as in `docs/series.md`.
    pub series: String,
    /// What it was measured of.
    pub labels: Labels,
    /// The number, of a counter its growth per second; `null` when it is not known.
    pub value: Option<f64>,
}

/// What a number was measured of, as people know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Labels {
    /// The model whose server it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The id of that model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_id: Option<i64>,
    /// The GPU: its number in the driver's order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// The file system: where it is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_point: Option<String>,
}

impl Labels {
    /// `{model=qwen3}`, `{gpu=0}`, or nothing: what stands behind a series' name.
    #[must_use]
    pub fn text(&self) -> String {
        match (&self.model, &self.gpu, &self.mount_point) {
            (Some(model), _, _) => format!("{{model={model}}}"),
            (None, Some(gpu), _) => format!("{{gpu={gpu}}}"),
            (None, None, Some(point)) => format!("{{mount_point={point}}}"),
            (None, None, None) => String::new(),
        }
    }

    /// Of the file system that is mounted there; of the machine where it is nowhere.
    #[must_use]
    pub fn of_mount_point(point: &str) -> Labels {
        let mount_point = Some(point.to_owned()).filter(|point| !point.is_empty());
        Labels { mount_point, ..Labels::default() }
    }

    /// Of an instance in a sample.
    #[must_use]
    pub fn of(instance: Instance<'_>) -> Labels {
        match instance {
            Instance::Host | Instance::Daemon(_) => Labels::default(),
            Instance::Filesystem(it) => Labels::of_mount_point(&it.mount_point),
            Instance::Gpu(gpu) => Labels { gpu: Some(gpu.index.to_string()), ..Labels::default() },
            Instance::Model(it) => Labels {
                model: Some(it.model.clone()),
                model_id: Some(it.model_id),
                ..Labels::default()
            },
            Instance::Server(server) => Labels {
                model: Some(server.model.clone()),
                model_id: Some(server.model_id),
                ..Labels::default()
            },
        }
    }
}

impl Sample {
    /// The numbers of these series, in the order of the series.
    #[must_use]
    pub fn readings(&self, series: &[&Series]) -> Vec<Reading> {
        let mut readings = Vec::new();
        for series in series {
            series.shown(self, |instance, value| {
                let labels = Labels::of(instance);
                readings.push(Reading { series: series.name.to_owned(), labels, value });
            });
        }
        readings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::SERIES;

    #[test]
    fn the_unknown_stays_null_and_keeps_its_place() {
        let sample = Sample {
            seq: 1,
            at_ms: 2,
            host: Host { cpus: Some(2), ..Host::default() },
            gpus: None,
            servers: vec![],
            daemon: ProcessSample::default(),
            models: vec![],
        };
        let all: Vec<&Series> = SERIES.iter().collect();
        let readings = sample.readings(&all);
        let value = |name: &str| readings.iter().find(|r| r.series == name).map(|r| r.value);
        assert_eq!(value("host.cpus"), Some(Some(2.0)));
        assert_eq!(value("host.cpu_busy_ratio"), Some(None));
        assert_eq!(value("gpu.busy_ratio"), None);
    }
}
