//! The database of history, as one thread writes it.
//!
//! ```text
//!   batch ─▶ one transaction: new boots and series ─ block ─ minutes that are over, from blocks ─ hours, from
//!            minutes ─ the oldest go
//!            ╰ durable where a minute ends: a power cut takes a minute at most, a crash the open batch
//! ```

use super::codec::{self, put_block, read_block};
use super::key::{self, floor, key};
use super::record::{BATCH_MS, Batch, series_at};
use super::retention::{self, Counts};
use super::rollup::{Rolled, Summary, put_row, read_row};
use super::steps::{HOUR_MS, Key, MINUTE_MS};
use super::totals::{Total, Totals};
use crate::store::DatabaseError;
use crate::store::metrics::{
    Blocks, BootRow, MetricsReader, MetricsStore, Rows, SeriesRow, TotalRow,
};
use llamactl_protocol::series::{SERIES, Series, SeriesKind};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// What blocks call each series.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    by_key: HashMap<Key, u32>,
    by_id: Vec<Known>,
}

/// A series that has an id.
#[derive(Clone, Debug, Default)]
struct Known {
    /// `None` of one that is not in the catalogue of this program, or of no series.
    key: Option<Key>,
    is_counter: bool,
}

impl Ids {
    fn of(rows: &[SeriesRow]) -> Ids {
        let mut ids = Ids::default();
        for row in rows {
            let place = SERIES.iter().position(|series| series.name == row.name);
            let key = place.map(|place| (place, Arc::from(&*row.instance)));
            ids.put(row.id, key, row.is_counter);
        }
        ids
    }

    fn put(&mut self, id: u32, key: Option<Key>, is_counter: bool) {
        /// Ids go by ones: one that is far beyond was not given by us.
        const MOST: usize = 1 << 20;
        let place = id as usize;
        if place >= MOST {
            return;
        }
        if self.by_id.len() <= place {
            self.by_id.resize(place + 1, Known::default());
        }
        if let Some(key) = &key {
            self.by_key.insert(key.clone(), id);
        }
        if let Some(known) = self.by_id.get_mut(place) {
            *known = Known { key, is_counter };
        }
    }

    /// What has this id.
    pub(super) fn key(&self, id: u32) -> Option<&Key> {
        self.by_id.get(id as usize)?.key.as_ref()
    }

    /// Ids are below this.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.by_id.len()).unwrap_or(u32::MAX)
    }

    /// Everything that has an id.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.by_key.keys()
    }

    /// The next id that is free; 0 is none.
    fn next(&self) -> u32 {
        u32::try_from(self.by_id.len().max(1)).unwrap_or(u32::MAX)
    }
}

/// The database, and what is known of it.
#[derive(Debug)]
pub(super) struct Book {
    store: MetricsStore,
    boot: BootRow,
    pub(super) boots: Vec<BootRow>,
    pub(super) ids: Arc<Ids>,
    there: Counts,
    limits: Counts,
    size_bytes: u64,
    pub(super) used_bytes: u64,
    /// As they are written.
    pub(super) totals: Arc<Totals>,
    /// Where minutes and hours begin that are not written yet.
    minutes_from: i64,
    hours_from: i64,
}

/// What one batch changed.
struct Written {
    minutes: u64,
    hours: u64,
    deleted: Counts,
}

impl Book {
    /// Opens the database of a state directory. `now_ms` is the time since boot; `at_least` the least number
    /// that this boot may have.
    pub(super) fn open(
        dir: &Path,
        size_bytes: u64,
        boot_id: &str,
        now_ms: u64,
        at_least: u32,
    ) -> Result<Book, DatabaseError> {
        let mut store = MetricsStore::open(dir)?;
        store
            .write(false, |rows| {
                let (boots, series) = (rows.boots()?, rows.series()?);
                let totals = Totals::of(rows.totals()?.into_iter().map(|row| {
                    let TotalRow { model_id, name, value, run_id, counted } = row;
                    (model_id, name.into(), Total { value, run_id: run_id.into(), counted })
                }));
                let ends =
                    [rows.ends(Blocks::Raw)?, rows.ends(Blocks::Minute)?, rows.ends(Blocks::Hour)?];
                let last = ends.iter().flatten().map(|(_, last)| *last).max().unwrap_or(0);
                let newest = boots.last().map_or(0, |boot| boot.id).max(key::boot(last));
                let is_this = |boot: &&BootRow| {
                    boot.boot_id == boot_id && boot.id == newest && last <= key(boot.id, now_ms)
                };
                let id = match boots.last().filter(is_this) {
                    Some(boot) => boot.id,
                    None => at_least.max(newest + 1),
                };
                let boot = BootRow { id, boot_id: boot_id.to_owned(), wall_offset_ms: i64::MIN };
                let there = Counts {
                    raw: rows.count(Blocks::Raw)?,
                    minute: rows.count(Blocks::Minute)?,
                    hour: rows.count(Blocks::Hour)?,
                };
                let behind = |end: Option<(i64, i64)>, unit| end.map_or(0, |(_, last)| last + unit);
                let minutes_from = behind(ends[1], MINUTE_MS);
                let hours_from = behind(ends[2], HOUR_MS);
                let used_bytes = rows.used_bytes()?;
                let from = (minutes_from, hours_from);
                Ok((boot, boots, series, totals, there, from, used_bytes))
            })
            .map(|(boot, boots, series, totals, there, from, used_bytes)| Book {
                store,
                totals: Arc::new(totals),
                boot,
                boots,
                ids: Arc::new(Ids::of(&series)),
                there,
                limits: retention::USUAL,
                size_bytes,
                used_bytes,
                minutes_from: from.0,
                hours_from: from.1,
            })
    }

    /// The number of this boot.
    pub(super) fn boot(&self) -> u32 {
        self.boot.id
    }

    /// Where minutes and hours begin that are not written yet.
    pub(super) fn rolled_until(&self) -> (i64, i64) {
        (self.minutes_from, self.hours_from)
    }

    pub(super) fn reader(&self) -> MetricsReader {
        self.store.reader()
    }

    /// Whether its files are where they were opened.
    pub(super) fn is_in_place(&mut self) -> bool {
        self.store.is_in_place()
    }

    /// Looks it through if its last writer did not close it, and gives room back if most of it is free.
    pub(super) fn look_through(&self) -> Result<(), DatabaseError> {
        if self.store.is_suspect() {
            self.store.check()?;
        }
        self.store.shrink()
    }

    /// Writes a batch and all that follows from it, and the totals where they changed.
    pub(super) fn write(&mut self, batch: &Batch, totals: Totals) -> Result<(), DatabaseError> {
        let new_boot = self.new_boot(batch);
        let (ids, new_series) = self.new_series(batch);
        let mut columns: Vec<codec::Column<'_>> = Vec::with_capacity(batch.columns.len());
        for column in &batch.columns {
            let id = ids.by_key.get(&(column.series, Arc::clone(&column.instance)));
            columns.extend(id.map(|id| (*id, &column.values[..])));
        }
        columns.sort_unstable_by_key(|(id, _)| *id);
        let block = put_block(&batch.times, &columns);
        let at = key(batch.boot, batch.first_ms);
        let end =
            if batch.is_over { (batch.first_ms / BATCH_MS + 1) * BATCH_MS } else { batch.first_ms };
        let end = key(batch.boot, end);
        let (minutes, hours) = (floor(end, MINUTE_MS), floor(end, HOUR_MS));
        let ends_minute = minutes > self.minutes_from;
        let (minutes_from, hours_from) = (self.minutes_from, self.hours_from);
        let (there, limits) = (self.there, self.limits);
        let (written, used_bytes) = self.store.write(ends_minute, |rows| {
            new_boot.iter().try_for_each(|boot| rows.put_boot(boot))?;
            new_series.iter().try_for_each(|series| rows.put_series(series))?;
            totals.unlike(&self.totals).try_for_each(|(model_id, name, total)| {
                let (name, run_id) = (name.to_owned(), total.run_id.to_string());
                let Total { value, counted, .. } = *total;
                rows.put_total(&TotalRow { model_id, name, value, run_id, counted })
            })?;
            rows.put(Blocks::Raw, at, &block)?;
            let mut written = Written {
                minutes: roll_minutes(rows, &ids, minutes_from, minutes)?,
                hours: roll_hours(rows, hours_from, hours)?,
                deleted: Counts { raw: 0, minute: 0, hour: 0 },
            };
            let there = Counts {
                raw: there.raw + 1,
                minute: there.minute + written.minutes,
                hour: there.hour + written.hours,
            };
            let excess = there.excess(limits);
            for (table, count) in [
                (Blocks::Raw, excess.raw),
                (Blocks::Minute, excess.minute),
                (Blocks::Hour, excess.hour),
            ] {
                if count > 0 {
                    rows.delete_oldest(table, count)?;
                }
            }
            written.deleted = excess;
            Ok((written, if ends_minute { Some(rows.used_bytes()?) } else { None }))
        })?;
        self.ids = ids;
        if *self.totals != totals {
            self.totals = Arc::new(totals);
        }
        if let Some(boot) = new_boot {
            self.boots.retain(|other| other.id != boot.id);
            self.boots.push(boot);
            self.boots.sort_unstable_by_key(|boot| boot.id);
        }
        self.minutes_from = self.minutes_from.max(minutes);
        self.hours_from = self.hours_from.max(hours);
        self.there = Counts {
            raw: there.raw + 1,
            minute: there.minute + written.minutes,
            hour: there.hour + written.hours,
        }
        .minus(written.deleted);
        if let Some(used_bytes) = used_bytes {
            self.used_bytes = used_bytes;
            if used_bytes > self.size_bytes {
                let smaller = retention::smaller(self.limits, self.there);
                if smaller != self.limits && self.limits == retention::USUAL {
                    tracing::warn!(used_bytes, "history takes all its room: less of it is kept");
                }
                self.limits = smaller;
            }
        }
        Ok(())
    }

    /// The row of the batch's boot, where it is not written as it is.
    fn new_boot(&self, batch: &Batch) -> Option<BootRow> {
        let offset = batch.wall_offset_ms;
        let is_written = |boot: &&BootRow| boot.id == batch.boot && boot.wall_offset_ms == offset;
        let written = self.boots.iter().find(is_written);
        let boot_id = self.boot.boot_id.clone();
        let row = BootRow { id: batch.boot, boot_id, wall_offset_ms: offset };
        written.is_none().then_some(row)
    }

    /// The ids, with those of series that the batch is the first to have.
    fn new_series(&self, batch: &Batch) -> (Arc<Ids>, Vec<SeriesRow>) {
        let (mut ids, mut new) = (Arc::clone(&self.ids), Vec::new());
        for column in &batch.columns {
            let key: Key = (column.series, Arc::clone(&column.instance));
            let Some(series) = series_at(column.series) else { continue };
            if ids.by_key.contains_key(&key) {
                continue;
            }
            let (id, is_counter) = (ids.next(), series.kind == SeriesKind::Counter);
            let (name, instance) = (series.name.to_owned(), column.instance.to_string());
            new.push(SeriesRow { id, name, instance, is_counter });
            Arc::make_mut(&mut ids).put(id, Some(key), is_counter);
        }
        (ids, new)
    }
}

/// Writes the minutes between two keys, from their blocks; how many.
fn roll_minutes(rows: &Rows<'_>, ids: &Ids, from: i64, until: i64) -> Result<u64, DatabaseError> {
    let add = |sums: &mut BTreeMap<u32, Rolled>, block: &[u8]| {
        let known = |id: u32| ids.by_id.get(id as usize).map(|_| id as usize);
        read_block(block, known, |place, times, values| {
            let Some(known) = ids.by_id.get(place) else { return };
            let Ok(id) = u32::try_from(place) else { return };
            let series = known.key.as_ref().and_then(|(place, _)| series_at(*place));
            let at_least_ms = series.map_or(0, Series::read_every_ms);
            let is_counter = known.is_counter;
            let new = || Rolled { id, is_counter, summary: Summary::default() };
            let summary = &mut sums.entry(id).or_insert_with(new).summary;
            for (row, value) in values.iter().enumerate() {
                if is_counter {
                    summary.add_growth(*value, times.covers_ms(row), at_least_ms);
                } else {
                    summary.add_gauge(*value, times.covers_ms(row));
                }
            }
        })
    };
    roll(rows, (Blocks::Raw, Blocks::Minute), MINUTE_MS, from, until, add)
}

/// Writes the hours between two keys, from their minutes; how many.
fn roll_hours(rows: &Rows<'_>, from: i64, until: i64) -> Result<u64, DatabaseError> {
    let add = |sums: &mut BTreeMap<u32, Rolled>, block: &[u8]| {
        read_row(
            block,
            |_| Some(0),
            |_, rolled| {
                let new = || Rolled { summary: Summary::default(), ..rolled };
                sums.entry(rolled.id).or_insert_with(new).summary.merge(&rolled.summary);
            },
        )
    };
    roll(rows, (Blocks::Minute, Blocks::Hour), HOUR_MS, from, until, add)
}

/// Writes one row for each `unit_ms` of what lies between two keys.
fn roll(
    rows: &Rows<'_>,
    (source, target): (Blocks, Blocks),
    unit_ms: i64,
    from: i64,
    until: i64,
    add: impl Fn(&mut BTreeMap<u32, Rolled>, &[u8]) -> Option<()>,
) -> Result<u64, DatabaseError> {
    let mut written = 0;
    let mut open: Option<(i64, BTreeMap<u32, Rolled>)> = None;
    let mut put = |(at, sums): (i64, BTreeMap<u32, Rolled>)| {
        written += 1;
        rows.put(target, at, &put_row(&sums.into_values().collect::<Vec<_>>()))
    };
    rows.each(source, from, until, |at, block| {
        let unit = floor(at, unit_ms);
        if let Some(over) = open.take_if(|(at, _)| *at != unit) {
            put(over)?;
        }
        let (_, sums) = open.get_or_insert_with(|| (unit, BTreeMap::new()));
        if add(sums, block).is_none() {
            tracing::warn!(at, ?source, "a block of history cannot be read and is left out");
        }
        Ok(())
    })?;
    open.map(put).transpose()?;
    Ok(written)
}
