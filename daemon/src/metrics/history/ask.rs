//! Answering what was measured: from the database, and from memory what is not written yet.
//!
//! ```text
//!   hours ─▶ minutes since the last hour ─▶ blocks since the last minute ─▶ batches in memory ─▶ Steps
//!     ╰ or from minutes, or from blocks on: the coarsest that is fine enough and reaches back
//! ```

use super::book::Ids;
use super::codec::{Times, read_block};
use super::key::{self, floor, key, span};
use super::record::{BATCH_MS, Batch, series_at};
use super::rollup::read_row;
use super::steps::{HOUR_MS, Key, MINUTE_MS, Steps};
use crate::store::DatabaseError;
use crate::store::metrics::{Blocks, BootRow, Rows};
use llamactl_protocol::metrics::{Stat, Tier};
use llamactl_protocol::series::{SERIES, Scope, Series};
use std::sync::Arc;

/// Which series, and of what.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Places in the catalogue.
    pub series: Vec<usize>,
    /// Ids of models; none: of all.
    pub models: Vec<String>,
    /// UUIDs of GPUs; none: of all.
    pub gpus: Vec<String>,
    /// Leave out what is of no model and no GPU.
    pub only_of_these: bool,
}

impl Wanted {
    fn has(&self, (series, instance): &Key) -> bool {
        let Some(scope) = SERIES.get(*series).map(Series::scope) else { return false };
        let among = |named: &[String], others: &[String]| {
            let is_named = named.iter().any(|named| **named == **instance);
            is_named || named.is_empty() && (others.is_empty() || !self.only_of_these)
        };
        self.series.contains(series)
            && match scope {
                Scope::Server | Scope::Model => among(&self.models, &self.gpus),
                Scope::Gpu => among(&self.gpus, &self.models),
                Scope::Host | Scope::Daemon => !self.only_of_these,
            }
    }
}

/// Where an answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At this time of the wall clock.
    Wall(i64),
    /// Behind this key, from what is kept of each second.
    Behind(i64),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Question {
    /// Which series.
    pub wanted: Wanted,
    /// From when on.
    pub from: From,
    /// Until when, by the wall clock.
    pub until_ms: i64,
    /// How long a step is.
    pub step_ms: i64,
    /// Which number of a step.
    pub stat: Stat,
    /// No more numbers than these; the rest is another page.
    pub most_numbers: usize,
}

/// What was measured.
#[derive(Debug)]
pub struct Answer {
    pub(super) steps: Steps,
    /// The coarsest that was looked at.
    pub tier: Tier,
    /// The key of the last row, asked for or not.
    pub last_key: Option<i64>,
    /// When that was.
    pub last_ms: Option<i64>,
    /// Where the next page begins.
    pub next_ms: Option<i64>,
    /// So many milliseconds behind the key asked for are kept no more.
    pub gone_ms: i64,
}

/// What is known without the database.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) boots: Vec<BootRow>,
    pub(super) ids: Arc<Ids>,
    /// The last rows, without a gap, the oldest first.
    pub(super) batches: Vec<Arc<Batch>>,
    /// Where minutes and hours begin that were not written when this was copied. What is written since
    /// then may have ids that are not known here, and is not looked at.
    pub(super) rolled_until: (i64, i64),
}

impl Memory {
    /// When the row of a key was.
    pub(super) fn wall_ms(&self, at: i64) -> i64 {
        let ms = key::ms(at).cast_signed();
        let of = |boot: &&BootRow| boot.id == key::boot(at);
        let boot = self.boots.iter().find(of).or(self.boots.last());
        boot.map_or(ms, |boot| ms.saturating_add(boot.wall_offset_ms))
    }

    /// The key of a time, of the last boot that had begun then.
    pub(super) fn key_at(&self, wall_ms: i64) -> i64 {
        let begun = |boot: &&BootRow| boot.wall_offset_ms <= wall_ms;
        let boot = self.boots.iter().rev().find(begun).or(self.boots.first());
        boot.map_or(0, |boot| span(boot.id, wall_ms.saturating_sub(boot.wall_offset_ms), 0).0)
    }

    /// The first and the last key of the rows here.
    fn ends(&self) -> Option<(i64, i64)> {
        let (first, last) = (self.batches.first()?, self.batches.last()?);
        Some((key(first.boot, first.first_ms), key(last.boot, last.last_ms())))
    }

    /// Whether all rows behind a key are here.
    pub(super) fn has_all_behind(&self, at: i64) -> bool {
        self.ends().is_some_and(|(first, _)| at >= first)
    }
}

/// The first and last keys of the tables.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    raw: Option<(i64, i64)>,
    minute: Option<(i64, i64)>,
    hour: Option<(i64, i64)>,
}

impl Ends {
    /// The first key of a tier, and whether older ones of it were deleted.
    fn first(&self, tier: Tier) -> (Option<i64>, bool) {
        let first = |end: Option<(i64, i64)>| end.map(|(first, _)| first);
        let (raw, minute, hour) = (first(self.raw), first(self.minute), first(self.hour));
        let is_cut = |fine: Option<i64>, coarse: Option<i64>, unit| match (fine, coarse) {
            (Some(fine), Some(coarse)) => coarse < floor(fine, unit),
            (None, coarse) => coarse.is_some(),
            (Some(_), None) => false,
        };
        match tier {
            Tier::Raw => (raw, is_cut(raw, minute, MINUTE_MS)),
            Tier::Minute => (minute, is_cut(minute, hour, HOUR_MS)),
            Tier::Hour => (hour, false),
        }
    }

    /// Whether a tier is kept from this key on, or from the beginning.
    fn reaches(&self, tier: Tier, from: i64) -> bool {
        let (first, is_cut) = self.first(tier);
        !is_cut || first.is_some_and(|first| first <= from)
    }

    /// Where all that is kept begins, by the finest that is kept from there: a minute and an hour begin
    /// before what was measured in them.
    fn oldest(&self, memory: &Memory) -> Option<i64> {
        let tiers = [Tier::Raw, Tier::Minute, Tier::Hour].map(|tier| self.first(tier));
        let whole = tiers.into_iter().find(|(_, is_cut)| !is_cut);
        let in_memory = memory.ends().map(|(first, _)| first);
        whole.and_then(|(first, _)| first).into_iter().chain(in_memory).min()
    }
}

/// An answer from the rows of the database, where they are needed, and of memory.
pub(super) fn answer(
    rows: Option<&Rows<'_>>,
    memory: &Memory,
    question: &Question,
) -> Result<Answer, DatabaseError> {
    let ends = match rows {
        Some(rows) => Ends {
            raw: rows.ends(Blocks::Raw)?,
            minute: rows.ends(Blocks::Minute)?,
            hour: rows.ends(Blocks::Hour)?,
        },
        None => Ends::default(),
    };
    let oldest = ends.oldest(memory);
    let mut gone_ms = 0;
    let (from_ms, behind) = match question.from {
        From::Wall(from_ms) => (from_ms, None),
        From::Behind(at) => {
            let first = ends.raw.map(|(first, _)| first).or(memory.ends().map(|(first, _)| first));
            let behind =
                first.filter(|first| at < *first && rows.is_some() && !ends.reaches(Tier::Raw, at));
            gone_ms = behind.map_or(0, |first| memory.wall_ms(first) - memory.wall_ms(at));
            let at = behind.map_or(at, |first| first - 1);
            (memory.wall_ms(at).saturating_add(1), Some(at))
        }
    };
    let from_ms = from_ms.max(oldest.map_or(question.until_ms, |oldest| memory.wall_ms(oldest)));
    let (tier, step_ms) = match question.from {
        From::Behind(_) => (Tier::Raw, question.step_ms),
        From::Wall(_) => tier(&ends, memory, from_ms, question.step_ms),
    };
    let mut start_ms = from_ms.div_euclid(step_ms) * step_ms;
    if let Some(at) = behind {
        start_ms = skip_gap(rows, memory, at, start_ms, step_ms)?;
    }
    let count = question.until_ms.saturating_sub(start_ms).max(0).cast_unsigned();
    let count = usize::try_from(count.div_ceil(step_ms.cast_unsigned())).unwrap_or(usize::MAX);
    let series = memory.ids.keys().filter(|key| question.wanted.has(key)).count();
    let most = (question.most_numbers / series.max(1)).max(1);
    let count_here = count.min(most);
    let until_ms = start_ms
        .saturating_add(step_ms.saturating_mul(i64::try_from(count_here).unwrap_or(i64::MAX)));
    let mut steps = Steps::new(start_ms, step_ms, count_here, question.stat);
    let mut reading = Reading { memory, question, steps: &mut steps, start_ms, until_ms, behind };
    let raw_from = match tier {
        Tier::Raw => 0,
        Tier::Minute | Tier::Hour => memory.rolled_until.0,
    };
    if let Some(rows) = rows {
        reading.database(rows, tier, raw_from)?;
    }
    memory.batches.iter().for_each(|batch| reading.batch(batch, raw_from));
    let last_key = memory.ends().map(|(_, last)| last).max(ends.raw.map(|(_, last)| last));
    Ok(Answer {
        steps,
        tier,
        last_key,
        last_ms: last_key.map(|at| memory.wall_ms(at)),
        next_ms: (count_here < count).then_some(until_ms),
        gone_ms,
    })
}

/// The coarsest tier that is fine enough and reaches back to a time; the steps are longer where no such is.
fn tier(ends: &Ends, memory: &Memory, from_ms: i64, step_ms: i64) -> (Tier, i64) {
    let from = memory.key_at(from_ms);
    let widths = [(Tier::Hour, HOUR_MS), (Tier::Minute, MINUTE_MS), (Tier::Raw, 1)];
    let fits = |(tier, width): &(Tier, i64)| step_ms % *width == 0 && ends.reaches(*tier, from);
    if let Some((tier, _)) = widths.iter().find(|it| fits(it)) {
        return (*tier, step_ms);
    }
    let finest = widths.iter().rev().find(|(tier, _)| ends.reaches(*tier, from));
    let (tier, width) = finest.copied().unwrap_or((Tier::Hour, HOUR_MS));
    (tier, (step_ms + width - 1).div_euclid(width) * width)
}

/// More steps than these without a row are not told one by one.
pub const LONG_GAP: i64 = 60;

/// Where to begin behind a key: later, where nothing was measured for long.
fn skip_gap(
    rows: Option<&Rows<'_>>,
    memory: &Memory,
    at: i64,
    start_ms: i64,
    step_ms: i64,
) -> Result<i64, DatabaseError> {
    let mut first = memory.batches.iter().find_map(|batch| {
        let at_row = |offset: &u32| key(batch.boot, batch.first_ms + u64::from(*offset));
        batch.times.offsets_ms.iter().map(at_row).find(|row| *row > at)
    });
    if let Some(rows) = rows {
        // A block that begins before the key may have rows behind it.
        let mut look = |block_at: i64, block: &[u8]| {
            if first.is_none_or(|first| first > block_at) {
                read_block(
                    block,
                    |_| Some(0),
                    |_, times, _| {
                        let at_row = |offset: &u32| block_at + i64::from(*offset);
                        let found = times.offsets_ms.iter().map(at_row).find(|row| *row > at);
                        first = first.into_iter().chain(found).min();
                    },
                );
            }
            Ok(())
        };
        rows.each(Blocks::Raw, at - BATCH_MS.cast_signed(), at + 1, &mut look)?;
        if let Some(next) = rows.first_behind(Blocks::Raw, at)? {
            first = first.into_iter().chain([next]).min();
        }
    }
    let Some(first) = first else { return Ok(start_ms) };
    let there = memory.wall_ms(first).div_euclid(step_ms) * step_ms;
    Ok(if there - start_ms > LONG_GAP * step_ms { there } else { start_ms })
}

/// Putting rows into their steps.
struct Reading<'a> {
    memory: &'a Memory,
    question: &'a Question,
    steps: &'a mut Steps,
    start_ms: i64,
    until_ms: i64,
    behind: Option<i64>,
}

impl Reading<'_> {
    /// The keys of a boot that are asked for.
    fn span(&self, boot: &BootRow) -> (i64, i64) {
        let offset = boot.wall_offset_ms;
        let (from, until) = span(
            boot.id,
            self.start_ms.saturating_sub(offset),
            self.until_ms.saturating_sub(offset),
        );
        (self.behind.map_or(from, |behind| from.max(behind + 1)), until)
    }

    fn database(
        &mut self,
        rows: &Rows<'_>,
        tier: Tier,
        raw_from: i64,
    ) -> Result<(), DatabaseError> {
        let ids = Arc::clone(&self.memory.ids);
        let mut places: Vec<Option<usize>> = Vec::new();
        for id in 0..ids.len() {
            let wanted = ids.key(id).filter(|key| self.question.wanted.has(key));
            // Series are columns where a row has them.
            places.push(wanted.map(|_| id as usize));
        }
        let place = |id: u32| places.get(id as usize).copied().flatten();
        let (minutes_until, hours_until) = self.memory.rolled_until;
        let in_memory = self.memory.ends().map_or(i64::MAX, |(first, _)| first);
        let boots = self.memory.boots.clone();
        // Where the series of an id is, once a row has it: thousands of rows have the same.
        let mut met: Vec<Option<usize>> = vec![None; places.len()];
        for boot in &boots {
            let (from, until) = self.span(boot);
            if from >= until {
                continue;
            }
            let wall = |at: i64| key::ms(at).cast_signed() + boot.wall_offset_ms;
            let mut rolled = |table, from: i64, until: i64| {
                rows.each(table, from, until, |at, block| {
                    let Some(step) = self.steps.step(wall(at)) else { return Ok(()) };
                    read_row(block, place, |id, row| {
                        let Some(met) = met.get_mut(id) else { return };
                        let key = || u32::try_from(id).ok().and_then(|id| ids.key(id));
                        *met = met.or_else(|| Some(self.steps.place(key()?)));
                        if let Some(place) = *met {
                            self.steps.add_rolled(place, step, &row);
                        }
                    });
                    Ok(())
                })
            };
            if tier == Tier::Hour {
                rolled(Blocks::Hour, from, until.min(hours_until))?;
                rolled(Blocks::Minute, from.max(hours_until), until.min(minutes_until))?;
            } else if tier == Tier::Minute {
                rolled(Blocks::Minute, from, until.min(minutes_until))?;
            }
            let (raw_from, until) = (from.max(raw_from), until.min(in_memory));
            // A block that begins before may have rows that are asked for.
            let first = (raw_from - BATCH_MS.cast_signed()).max(key(boot.id, 0));
            rows.each(Blocks::Raw, first, until, |at, block| {
                read_block(block, place, |id, times, values| {
                    if let Some(key) = u32::try_from(id).ok().and_then(|id| ids.key(id)) {
                        self.values(key, at, wall(at), times, values, (raw_from, until));
                    }
                });
                Ok(())
            })?;
        }
        Ok(())
    }

    fn batch(&mut self, batch: &Batch, raw_from: i64) {
        let of = |boot: &&BootRow| boot.id == batch.boot;
        let Some(boot) = self.memory.boots.iter().find(of) else { return };
        let (from, until) = self.span(boot);
        let (at, asked) = (key(batch.boot, batch.first_ms), (from.max(raw_from), until));
        let wall_ms = batch.first_ms.cast_signed() + boot.wall_offset_ms;
        for column in &batch.columns {
            let key = (column.series, Arc::clone(&column.instance));
            if self.question.wanted.has(&key) {
                self.values(&key, at, wall_ms, &batch.times, &column.values, asked);
            }
        }
    }

    fn values(
        &mut self,
        key: &Key,
        at: i64,
        wall_ms: i64,
        times: &Times,
        values: &[f64],
        (from, until): (i64, i64),
    ) {
        let is_in = |offset: u32| (from..until).contains(&(at + i64::from(offset)));
        if times.offsets_ms.iter().any(|offset| is_in(*offset))
            && let Some(series) = series_at(key.0)
        {
            let place = self.steps.place(key);
            self.steps.add_values(place, series, wall_ms, times, values, is_in);
        }
    }
}
