//! What history costs, for the program `figures`, which has floors beside it. Nothing of the daemon uses this.

#![allow(clippy::cast_precision_loss)] // Statistics.

use super::ask::{Memory, answer};
use super::book::Book;
use super::codec::{Column, put_block};
use super::record::{Batch, Recorder};
use super::steps::MINUTE_MS;
use super::*;
use crate::store::metrics::{Blocks, MetricsStore, Rows};
use llamactl_protocol::metrics::{
    Host, LlamaSample, MetricsColumn, ProcessSample, ServerSample, Stat,
};
use llamactl_protocol::series::SERIES;
use llamactl_protocol::server::State;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

const DAY_MS: u64 = 86_400_000;
/// A year has passed since this boot, so that a year can be written before the day.
const BEGIN_MS: u64 = 366 * DAY_MS;
/// What the wall clock is ahead.
const WALL_MS: i64 = 1_700_000_000_000;
/// When the last of what is written was measured.
pub const UNTIL_MS: i64 = WALL_MS + (BEGIN_MS + DAY_MS).cast_signed();

/// What was measured. Times are of the processor, for the whole of it.
#[derive(Debug)]
pub struct Figures {
    /// How many series were kept.
    pub series: usize,
    /// How many samples of them.
    pub samples: u64,
    /// Making rows of the samples.
    pub recorded: Duration,
    /// Writing them, with minutes and hours.
    pub written: Duration,
    /// The floor of that: the same blocks, ready made, each put by a transaction of its own.
    pub bare_insert: Duration,
    /// A day of seconds, a month of minutes and a year of hours.
    pub size_bytes: u64,
    /// A day by minutes, read and decoded.
    pub asked: Duration,
    /// The floor of that: a step over the same rows.
    pub bare_step: Duration,
    /// The same day as the text of an answer.
    pub answered: Duration,
    /// The floor of that: serde_json of the same numbers.
    pub bare_json: Duration,
    /// How long that text is.
    pub answer_bytes: usize,
}

/// Processor time of this thread.
fn spent() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The least of some tries.
fn best<T>(
    mut work: impl FnMut() -> Result<T, DatabaseError>,
) -> Result<(Duration, T), DatabaseError> {
    let mut once = || {
        let before = spent();
        let done = work()?;
        Ok::<_, DatabaseError>((spent() - before, done))
    };
    let mut best = once()?;
    for _ in 0..20 {
        let next = once()?;
        if next.0 < best.0 {
            best = next;
        }
    }
    Ok(best)
}

/// A machine with a GPU and two models of which one works; what it says second by second.
fn measured(second: u64, chance: &mut u64) -> Sample {
    let mut random = |below: u64| {
        *chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*chance >> 33) % below
    };
    let uptime_ms = second * 1000;
    let busy = (second / 600).is_multiple_of(3);
    let mut servers = Vec::new();
    for model in 1..=2 {
        let works = busy && model == 1;
        let mut process = ProcessSample { uptime_ms: Some(uptime_ms), ..ProcessSample::default() };
        process.cpu_ms = Some(second * if works { 990 } else { 1 } / 10 * 10);
        process.memory_anonymous_bytes = Some((1 << 30) + random(50) * 4096);
        process.memory_file_bytes = Some(5 << 30);
        process.memory_swapped_bytes = Some(0);
        process.major_faults = Some(40);
        process.disk_read_bytes = Some(5 << 30);
        process.disk_written_bytes = Some(second * 100);
        process.gpu_memory_bytes = Some(6 << 30);
        let mut llama = LlamaSample::default();
        let looks = second / 2;
        llama.generated_tokens = Some(looks * if works { 80 } else { 0 });
        llama.prompt_tokens_total = Some(looks * 7);
        llama.prompt_tokens_cached_total = Some(looks * 3);
        llama.prompt_ms_total = Some(looks * 120);
        llama.generation_ms_total = Some(looks * 1900);
        llama.slots_busy = Some(u32::from(works));
        llama.requests_processing = Some(u64::from(works));
        llama.requests_deferred = Some(0);
        llama.context_used_tokens = Some(1000 + looks % 3000);
        servers.push(ServerSample {
            model_id: model,
            model: format!("model {model}"),
            run_id: "run".to_owned(),
            state: State::Ready,
            process,
            llama: Some(llama),
        });
    }
    let host = Host {
        memory_available_bytes: Some((20 << 30) + random(90_000) * 4096),
        cpu_busy_ratio: Some(random(1000) as f64 / 1000.0),
        load_1m: Some(random(400) as f64 / 100.0),
        swap_used_bytes: Some(0),
        disk_read_bytes: Some(second * 4096 * random(3)),
        disk_written_bytes: Some(second * 40_960),
        network_receive_bytes: Some(second * 1500 + random(900)),
        network_transmit_bytes: Some(second * 900 + random(90)),
        ..Host::default()
    };
    let gpus = serde_json::json!([{
        "uuid": "GPU-1",
        "index": 0,
        "busy_ratio": random(100) as f64 / 100.0,
        "memory_busy_ratio": random(100) as f64 / 100.0,
        "memory_used_bytes": 13u64 << 30,
        "temperature_celsius": 50 + random(20),
        "power_watts": 100.0 + random(200_000) as f64 / 1000.0,
        "core_clock_hertz": 1_500_000_000 + random(30) * 15_000_000,
    }]);
    let gpus = serde_json::from_value(gpus).ok();
    let daemon = ProcessSample {
        cpu_ms: Some(second / 2 * 10),
        memory_anonymous_bytes: Some((3 << 20) + random(5) * 4096),
        memory_file_bytes: Some(9 << 20),
        ..ProcessSample::default()
    };
    Sample { seq: second, at_ms: 0, host, gpus, servers, daemon, models: vec![] }
}

/// Writes a day of a machine's seconds into databases below `dir`, and asks for it.
///
/// # Errors
/// What the databases say.
pub fn measure(dir: &Path) -> Result<Figures, DatabaseError> {
    let (ours, bare) = (dir.join("history"), dir.join("bare"));
    let made = [&ours, &bare].into_iter().try_for_each(std::fs::create_dir);
    made.map_err(|error| DatabaseError::Gone { path: dir.to_owned(), why: error.to_string() })?;
    let mut book = Book::open(&ours, 1 << 30, "boot", BEGIN_MS, 1)?;
    let (mut recorder, mut chance) = (Recorder::new(1), 7);
    let mut batches: Vec<Batch> = Vec::new();
    let (mut recorded, mut written) = (Duration::ZERO, Duration::ZERO);
    let samples = DAY_MS / 1000;
    for second in 0..samples {
        let sample = measured(second, &mut chance);
        let now = Moment { boottime_ms: BEGIN_MS + second * 1000, wall_offset_ms: WALL_MS };
        let before = spent();
        let over = recorder.add(&sample, now);
        recorded += spent() - before;
        if let Some(batch) = over {
            let before = spent();
            book.write(&batch, Totals::default())?;
            written += spent() - before;
            batches.push(batch);
        }
    }
    let memory = Memory {
        boots: book.boots.clone(),
        ids: Arc::clone(&book.ids),
        batches: Vec::new(),
        rolled_until: book.rolled_until(),
    };
    let series = book.ids.keys().count();
    drop(book);
    let bare_insert = insert(&bare, &batches)?;
    let mut store = MetricsStore::open(&ours)?;
    let size_bytes = fill(&mut store)?;
    let (asked, bare_step) = ask(&mut store, &memory)?;
    let (answered, bare_json, answer_bytes) = tell(&mut store, &memory)?;
    Ok(Figures {
        series,
        samples,
        recorded,
        written,
        bare_insert,
        size_bytes,
        asked,
        bare_step,
        answered,
        bare_json,
        answer_bytes,
    })
}

/// Puts the same blocks as they are.
fn insert(dir: &Path, batches: &[Batch]) -> Result<Duration, DatabaseError> {
    let block = |batch: &Batch| {
        let columns: Vec<Column<'_>> =
            (1..).zip(batch.columns.iter().map(|it| &it.values[..])).collect();
        put_block(&batch.times, &columns)
    };
    let blocks: Vec<Vec<u8>> = batches.iter().map(block).collect();
    let mut store = MetricsStore::open(dir)?;
    let before = spent();
    for (place, block) in (1i64..).zip(&blocks) {
        store.write(place % 6 == 0, |rows| rows.put(Blocks::Raw, place, block))?;
    }
    Ok(spent() - before)
}

/// Makes a month of minutes and a year of hours, as the day was; how many bytes that takes.
fn fill(store: &mut MetricsStore) -> Result<u64, DatabaseError> {
    for (table, days) in [(Blocks::Minute, 29), (Blocks::Hour, 365)] {
        store.write(true, |rows| {
            let mut day = Vec::new();
            rows.each(table, 0, i64::MAX, |at, block| {
                day.push((at, block.to_vec()));
                Ok(())
            })?;
            (1..=days).try_for_each(|back| {
                day.iter().try_for_each(|(at, block)| {
                    rows.put(table, at - back * DAY_MS.cast_signed(), block)
                })
            })
        })?;
    }
    store.write(true, used_bytes)
}

fn used_bytes(rows: &Rows<'_>) -> Result<u64, DatabaseError> {
    rows.used_bytes()
}

/// A day by minutes, of all series.
fn question() -> Question {
    let until_ms = UNTIL_MS;
    Question {
        wanted: Wanted { series: (0..SERIES.len()).collect(), ..Wanted::default() },
        from: From::Wall(until_ms - DAY_MS.cast_signed()),
        until_ms,
        step_ms: MINUTE_MS,
        stat: Stat::Mean,
        most_numbers: usize::MAX,
    }
}

fn ask(store: &mut MetricsStore, memory: &Memory) -> Result<(Duration, Duration), DatabaseError> {
    let (from, until) = (key::key(1, BEGIN_MS), key::key(1, BEGIN_MS + DAY_MS));
    store.write(false, |rows| {
        let (floor, _) = best(|| {
            let mut bytes = 0;
            rows.each(Blocks::Minute, from, until, |_, block| {
                bytes += block.len();
                Ok(())
            })?;
            Ok(bytes)
        })?;
        let (asked, _) = best(|| answer(Some(rows), memory, &question()))?;
        Ok((asked, floor))
    })
}

fn tell(
    store: &mut MetricsStore,
    memory: &Memory,
) -> Result<(Duration, Duration, usize), DatabaseError> {
    store.write(false, |rows| {
        let columns = || {
            let told = answer(Some(rows), memory, &question())?;
            let column = |(column, values): (super::Column, _)| MetricsColumn {
                name: column.series.name.to_owned(),
                unit: column.series.unit,
                kind: column.series.kind,
                labels: Default::default(),
                values,
            };
            Ok::<Vec<_>, DatabaseError>(
                told.columns(0..told.count()).into_iter().map(column).collect(),
            )
        };
        #[allow(clippy::cast_possible_truncation)] // As they are told.
        let short = |value: &Option<f64>| value.map(|value| value as f32);
        let numbers: Vec<Vec<Option<f32>>> =
            columns()?.iter().map(|it| it.values.iter().map(short).collect()).collect();
        let (floor, _) = best(|| Ok(serde_json::to_string(&numbers).map_or(0, |it| it.len())))?;
        let (answered, bytes) =
            best(|| Ok(serde_json::to_string(&columns()?).map_or(0, |it| it.len())))?;
        Ok((answered, floor, bytes))
    })
}
