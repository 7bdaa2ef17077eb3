//! What was measured as steps of equal length: one number for each series and step.
//!
//! ```text
//!   value, or row of a minute or an hour ─▶ Summary ─▶ the step its beginning lies in: what is asked for of it
//! ```
//!
//! Of a day by minutes there are a hundred thousand steps, so a step keeps no more than its one number is made
//! of.

use super::codec::Times;
use super::record::series_at;
use super::rollup::{Rolled, Summary};
use llamactl_protocol::metrics::Stat;
use llamactl_protocol::series::{Series, SeriesKind};
use std::collections::HashMap;
use std::sync::Arc;

/// What was measured: a series, by its place in the catalogue, and an instance of it.
pub(super) type Key = (usize, Arc<str>);

/// Numbers by series and step.
#[derive(Debug)]
pub(super) struct Steps {
    /// When the first begins.
    pub(super) start_ms: i64,
    /// How long each is.
    pub(super) step_ms: i64,
    pub(super) count: usize,
    stat: Stat,
    /// What was asked for, in the order in which it was met.
    pub(super) columns: Vec<Column>,
    places: HashMap<Key, usize>,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) key: Key,
    take: Take,
    /// Empty until there is a row.
    cells: Vec<Cell>,
}

/// What becomes of the values of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Take {
    /// They are added up, and divided by how many they are.
    Mean,
    /// They are added up, and divided by the time they cover.
    Rate,
    Sum,
    Least,
    Most,
    Last,
    Count,
    /// There is no such number of it.
    Nothing,
}

impl Take {
    fn of(stat: Stat, kind: SeriesKind) -> Take {
        match (stat, kind) {
            (Stat::Mean, SeriesKind::Gauge) => Take::Mean,
            (Stat::Mean, SeriesKind::Counter) => Take::Rate,
            (Stat::Min, SeriesKind::Gauge) => Take::Least,
            (Stat::Max, _) => Take::Most,
            (Stat::Sum, SeriesKind::Counter) => Take::Sum,
            (Stat::Last, _) => Take::Last,
            (Stat::Count, _) => Take::Count,
            (Stat::Sum, SeriesKind::Gauge) | (Stat::Min, SeriesKind::Counter) => Take::Nothing,
        }
    }
}

/// What the number of a step is made of.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    value: f64,
    /// How many values, or how much time they cover.
    weight: u64,
}

impl Cell {
    fn take(&mut self, take: Take, later: &Summary) {
        let samples = u64::from(later.samples);
        match take {
            Take::Mean | Take::Sum => self.value += later.sum,
            Take::Rate => {
                self.value += later.sum;
                self.weight += later.covered_ms;
                return;
            }
            Take::Least if self.weight == 0 => self.value = later.least,
            Take::Least => self.value = self.value.min(later.least),
            Take::Most if self.weight == 0 => self.value = later.most,
            Take::Most => self.value = self.value.max(later.most),
            Take::Last => self.value = later.last,
            Take::Count | Take::Nothing => {}
        }
        self.weight += samples;
    }

    #[allow(clippy::cast_precision_loss)] // Nobody counts so far.
    fn number(&self, take: Take) -> Option<f64> {
        let weight = self.weight as f64;
        match take {
            Take::Count => Some(weight),
            _ if self.weight == 0 => None,
            Take::Mean => Some(self.value / weight),
            Take::Rate => Some(self.value * 1000.0 / weight),
            Take::Sum | Take::Least | Take::Most | Take::Last => Some(self.value),
            Take::Nothing => None,
        }
    }
}

impl Steps {
    /// `count` empty steps.
    pub(super) fn new(start_ms: i64, step_ms: i64, count: usize, stat: Stat) -> Steps {
        let (columns, places) = (Vec::new(), HashMap::new());
        Steps { start_ms, step_ms: step_ms.max(1), count, stat, columns, places }
    }

    /// Where a series' numbers are.
    pub(super) fn place(&mut self, key: &Key) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        let take = series_at(key.0).map_or(Take::Nothing, |it| Take::of(self.stat, it.kind));
        self.columns.push(Column { key: key.clone(), take, cells: Vec::new() });
        self.places.insert(key.clone(), self.columns.len() - 1);
        self.columns.len() - 1
    }

    /// Which step a time lies in; `None` where it is none of these.
    pub(super) fn step(&self, at_ms: i64) -> Option<usize> {
        let step = (at_ms - self.start_ms).div_euclid(self.step_ms);
        usize::try_from(step).ok().filter(|step| *step < self.count)
    }

    /// Whether a step has any sample.
    pub(super) fn has_sample(&self, step: usize) -> bool {
        let has = |column: &Column| column.cells.get(step).is_some_and(|it| it.weight > 0);
        self.columns.iter().any(has)
    }

    fn take(&mut self, place: usize, step: usize, later: &Summary) {
        let Some(column) = self.columns.get_mut(place) else { return };
        if column.cells.is_empty() {
            column.cells.resize(self.count, Cell::default());
        }
        if let Some(cell) = column.cells.get_mut(step) {
            cell.take(column.take, later);
        }
    }

    /// Takes in the values of a series. `wall_ms` is when the first row was, and `is_in` which rows are
    /// asked for, by their milliseconds behind that.
    pub(super) fn add_values(
        &mut self,
        place: usize,
        series: &Series,
        wall_ms: i64,
        times: &Times,
        values: &[f64],
        is_in: impl Fn(u32) -> bool,
    ) {
        for (row, (offset_ms, value)) in times.offsets_ms.iter().zip(values).enumerate() {
            if value.is_nan() || !is_in(*offset_ms) {
                continue;
            }
            let Some(step) = self.step(wall_ms + i64::from(*offset_ms)) else { continue };
            let mut one = Summary::default();
            match series.kind {
                SeriesKind::Gauge => one.add_gauge(*value, times.covers_ms(row)),
                SeriesKind::Counter => {
                    one.add_growth(*value, times.covers_ms(row), series.read_every_ms());
                }
            }
            self.take(place, step, &one);
        }
    }

    /// Takes in a row of a minute or an hour.
    pub(super) fn add_rolled(&mut self, place: usize, step: usize, rolled: &Rolled) {
        self.take(place, step, &rolled.summary);
    }
}

impl Column {
    /// The number of a step; `None` where there is no sample, or it is not kept.
    pub(super) fn number(&self, series: &Series, step: usize) -> Option<f64> {
        let number = self.cells.get(step)?.number(self.take)?;
        let number = if self.take == Take::Count { number } else { series.from_kept(number) };
        Some(number).filter(|it| it.is_finite())
    }
}

/// How fine what is kept is.
pub(super) const MINUTE_MS: i64 = 60_000;
pub(super) const HOUR_MS: i64 = 3_600_000;

/// The length of steps: at least as asked, in whole seconds, minutes or hours; unasked the shortest by which
/// there are at most `most` of them.
pub(super) fn step_ms(asked: Option<u64>, span_ms: i64, most: i64) -> i64 {
    let least = match asked.map(|asked| asked.max(1)) {
        Some(asked) => i64::try_from(asked).unwrap_or(i64::MAX),
        None => (span_ms.max(1) - 1).div_euclid(most.max(1)) + 1,
    };
    let unit = match least {
        ..MINUTE_MS => 1000,
        MINUTE_MS..HOUR_MS => MINUTE_MS,
        _ => HOUR_MS,
    };
    let whole = least.clamp(1, i64::MAX / 4).div_euclid(unit) * unit;
    let up = if whole < least { whole.saturating_add(unit) } else { whole };
    if asked.is_some() {
        return up;
    }
    // Lengths that people have words for.
    const NICE: [i64; 20] = [
        1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 14_400, 21_600,
        43_200, 86_400, 172_800,
    ];
    NICE.into_iter().map(|seconds| seconds * 1000).find(|nice| *nice >= up).unwrap_or(up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::series::{SERIES, of_name};

    #[test]
    fn steps_are_whole_seconds_minutes_or_hours() {
        let asked = |ms: u64| step_ms(Some(ms), 0, 720);
        assert_eq!([asked(0), asked(1), asked(1000), asked(1001)], [1000, 1000, 1000, 2000]);
        assert_eq!([asked(59_500), asked(60_000), asked(61_000)], [60_000, 60_000, 120_000]);
        assert_eq!([asked(3_600_000), asked(3_600_001)], [3_600_000, 7_200_000]);
        let unasked = |ms: i64| step_ms(None, ms, 720);
        assert_eq!([unasked(0), unasked(600_000), unasked(3_600_000)], [1000, 1000, 5000]);
        assert_eq!([unasked(86_400_000), unasked(30 * 86_400_000)], [120_000, 3_600_000]);
    }

    #[test]
    fn each_number_is_of_its_step_and_what_is_not_known_is_none() {
        let tokens = of_name("server.tokens_generated").unwrap();
        let memory = of_name("host.memory_available_bytes").unwrap();
        let times =
            Times { offsets_ms: (0..4).map(|it| it * 1000).collect(), first_covers_ms: 1000 };
        let place = |name| SERIES.iter().position(|series| series.name == name).unwrap();
        let row = |series: &Series, values: [f64; 4], until: u32, stat| -> Vec<Option<f64>> {
            let mut steps = Steps::new(10_000, 2000, 3, stat);
            let column = steps.place(&(place(series.name), "1".into()));
            steps.add_values(column, series, 10_500, &times, &values, |at| at < until);
            (0..3).map(|step| steps.columns[column].number(series, step)).collect()
        };
        let tokens_row = |stat| row(tokens, [0.0, 8.0, 0.0, 4.0], 9000, stat);
        let memory_row = |stat| row(memory, [5.0, f64::NAN, 7.0, 9.0], 3000, stat);
        assert_eq!(tokens_row(Stat::Mean), [Some(4.0), Some(2.0), None]);
        assert_eq!(tokens_row(Stat::Sum), [Some(8.0), Some(4.0), None]);
        assert_eq!(tokens_row(Stat::Max), [Some(4.0), Some(2.0), None]);
        assert_eq!(memory_row(Stat::Mean), [Some(5.0), Some(7.0), None]);
        assert_eq!(memory_row(Stat::Count), [Some(1.0), Some(1.0), Some(0.0)]);
        assert_eq!(memory_row(Stat::Sum), [None, None, None]);
        assert_eq!(memory_row(Stat::Min), [Some(5.0), Some(7.0), None]);
        assert_eq!(memory_row(Stat::Last), [Some(5.0), Some(7.0), None]);
        assert_eq!(
            row(memory, [5.0, 2.0, 7.0, 9.0], 9000, Stat::Min),
            [Some(2.0), Some(7.0), None]
        );
        assert_eq!(
            row(memory, [5.0, 2.0, 7.0, 9.0], 9000, Stat::Max),
            [Some(5.0), Some(9.0), None]
        );
        assert_eq!(
            row(memory, [5.0, 2.0, 7.0, 9.0], 9000, Stat::Last),
            [Some(2.0), Some(9.0), None]
        );
    }
}
