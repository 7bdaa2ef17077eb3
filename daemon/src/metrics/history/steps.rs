//! What was measured as steps of equal length: one summary for each series and step.
//!
//! ```text
//!   value, or row of a minute or an hour ─▶ the step its beginning lies in ─▶ Summary ─▶ one number
//! ```

use super::codec::Times;
use super::rollup::{Rolled, Summary};
use llamactl_protocol::metrics::Stat;
use llamactl_protocol::series::{Series, SeriesKind};
use std::collections::HashMap;
use std::sync::Arc;

/// What was measured: a series, by its place in the catalogue, and an instance of it.
pub(super) type Key = (usize, Arc<str>);

/// Summaries by series and step.
#[derive(Debug)]
pub(super) struct Steps {
    /// When the first begins.
    pub(super) start_ms: i64,
    /// How long each is.
    pub(super) step_ms: i64,
    pub(super) count: usize,
    /// What was asked for, in the order in which it was met.
    pub(super) columns: Vec<Column>,
    places: HashMap<Key, usize>,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) key: Key,
    /// Empty until there is a row.
    pub(super) cells: Vec<Summary>,
}

impl Steps {
    /// `count` empty steps.
    pub(super) fn new(start_ms: i64, step_ms: i64, count: usize) -> Steps {
        let (columns, places) = (Vec::new(), HashMap::new());
        Steps { start_ms, step_ms: step_ms.max(1), count, columns, places }
    }

    /// Where a series' summaries are.
    pub(super) fn place(&mut self, key: &Key) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        self.columns.push(Column { key: key.clone(), cells: Vec::new() });
        self.places.insert(key.clone(), self.columns.len() - 1);
        self.columns.len() - 1
    }

    /// Which step a time lies in; `None` where it is none of these.
    pub(super) fn step(&self, at_ms: i64) -> Option<usize> {
        let step = (at_ms - self.start_ms).div_euclid(self.step_ms);
        usize::try_from(step).ok().filter(|step| *step < self.count)
    }

    fn cell(&mut self, place: usize, step: usize) -> Option<&mut Summary> {
        let column = self.columns.get_mut(place)?;
        if column.cells.is_empty() {
            column.cells.resize(self.count, Summary::default());
        }
        column.cells.get_mut(step)
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
            if !is_in(*offset_ms) {
                continue;
            }
            let step = self.step(wall_ms + i64::from(*offset_ms));
            let Some(cell) = step.and_then(|step| self.cell(place, step)) else { continue };
            match series.kind {
                SeriesKind::Gauge => cell.add_gauge(*value, times.covers_ms(row)),
                SeriesKind::Counter if !value.is_nan() => {
                    cell.add_growth(*value, times.covers_ms(row), series.read_every_ms());
                }
                SeriesKind::Counter => {}
            }
        }
    }

    /// Takes in a row of a minute or an hour.
    pub(super) fn add_rolled(&mut self, place: usize, step: usize, rolled: &Rolled) {
        if let Some(cell) = self.cell(place, step) {
            cell.merge(&rolled.summary);
        }
    }
}

/// The number that is asked for of a step; `None` where there is no sample, or it is not kept.
pub(super) fn number(series: &Series, stat: Stat, step: &Summary) -> Option<f64> {
    if stat == Stat::Count {
        return Some(f64::from(step.samples));
    }
    if step.samples == 0 {
        return None;
    }
    let value = match (series.kind, stat) {
        (SeriesKind::Gauge, Stat::Mean) => step.mean(),
        (SeriesKind::Counter, Stat::Mean) => step.rate(),
        (SeriesKind::Gauge, Stat::Min) => step.least,
        (_, Stat::Max) => step.most,
        (SeriesKind::Counter, Stat::Sum) => step.sum,
        (_, Stat::Last) => step.last,
        (SeriesKind::Gauge, Stat::Sum) | (SeriesKind::Counter, Stat::Min) | (_, Stat::Count) => {
            f64::NAN
        }
    };
    Some(series.from_kept(value)).filter(|value| value.is_finite())
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
    use llamactl_protocol::series::of_name;

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
        let mut steps = Steps::new(10_000, 2000, 3);
        let (grown, free) = ((0, "1".into()), (1, "".into()));
        let (grown, free) = (steps.place(&grown), steps.place(&free));
        steps.add_values(grown, tokens, 10_500, &times, &[0.0, 8.0, 0.0, 4.0], |_| true);
        steps.add_values(free, memory, 10_500, &times, &[5.0, f64::NAN, 7.0, 9.0], |at| at < 3000);
        let row = |place: usize, series, stat| -> Vec<Option<f64>> {
            steps.columns[place].cells.iter().map(|step| number(series, stat, step)).collect()
        };
        assert_eq!(row(grown, tokens, Stat::Mean), [Some(4.0), Some(2.0), None]);
        assert_eq!(row(grown, tokens, Stat::Sum), [Some(8.0), Some(4.0), None]);
        assert_eq!(row(grown, tokens, Stat::Max), [Some(4.0), Some(2.0), None]);
        assert_eq!(row(free, memory, Stat::Mean), [Some(5.0), Some(7.0), None]);
        assert_eq!(row(free, memory, Stat::Count), [Some(1.0), Some(1.0), Some(0.0)]);
        assert_eq!(row(free, memory, Stat::Sum), [None, None, None]);
    }
}
