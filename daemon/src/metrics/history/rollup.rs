//! What many values are together, and how that is written: one row for a minute or an hour.
//!
//! ```text
//!   values ─▶ Summary: samples, covered time, least, most, sum ─▶ row of a minute ─▶ row of an hour
//! ```
//!
//! An hour is made of its minutes as they are written, and a minute of its blocks, so that neither depends on
//! what a daemon had in memory. Samples, covered time and sums of counters are exact; what a gauge was is kept
//! as f32, of 128 GB to 8 KiB.

use super::codec::{Bytes, put_varint, scaled, short, unzigzag, varint_bytes, zigzag};

/// What the values of one series in a span of time are together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    /// How many values.
    pub(super) samples: u32,
    /// How much time they cover: each from the row before it on.
    pub(super) covered_ms: u64,
    /// The least of a gauge. Of a counter it is not kept.
    pub(super) least: f64,
    /// The most of a gauge; the fastest growth per second of a counter.
    pub(super) most: f64,
    /// All values of a gauge together, or how much a counter grew.
    pub(super) sum: f64,
    /// The last value of a gauge, or growth per second of a counter; of a written row the mean.
    pub(super) last: f64,
}

impl Default for Summary {
    fn default() -> Self {
        Summary {
            samples: 0,
            covered_ms: 0,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
            sum: 0.0,
            last: f64::NAN,
        }
    }
}

impl Summary {
    /// Takes in one value of a gauge.
    pub(super) fn add_gauge(&mut self, value: f64, covers_ms: u32) {
        self.add(value, value, covers_ms);
    }

    /// Takes in what a counter grew by, in `covers_ms` or, if that is longer, in `at_least_ms`.
    pub(super) fn add_growth(&mut self, growth: f64, covers_ms: u32, at_least_ms: u64) {
        let ms = u64::from(covers_ms).max(at_least_ms).max(1);
        #[allow(clippy::cast_precision_loss)]
        self.add(growth, growth * 1000.0 / ms as f64, covers_ms);
    }

    fn add(&mut self, value: f64, shown: f64, covers_ms: u32) {
        if value.is_nan() {
            return;
        }
        self.samples = self.samples.saturating_add(1);
        self.covered_ms += u64::from(covers_ms);
        self.sum += value;
        self.least = self.least.min(shown);
        self.most = self.most.max(shown);
        self.last = shown;
    }

    /// Takes in a later span.
    pub(super) fn merge(&mut self, later: &Summary) {
        if later.samples == 0 {
            return;
        }
        self.samples = self.samples.saturating_add(later.samples);
        self.covered_ms += later.covered_ms;
        self.sum += later.sum;
        self.least = self.least.min(later.least);
        self.most = self.most.max(later.most);
        self.last = later.last;
    }

    /// The mean of a gauge.
    pub(super) fn mean(&self) -> f64 {
        self.sum / f64::from(self.samples)
    }

    /// The growth per second of a counter; NaN where no time passed.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn rate(&self) -> f64 {
        if self.covered_ms == 0 { f64::NAN } else { self.sum * 1000.0 / self.covered_ms as f64 }
    }
}

const ONE_ZERO: u64 = 0;
const ONE_WHOLE: u64 = 1;
const ONE_F32: u64 = 2;
const GAUGE: u64 = 3;
const STILL: u64 = 4;
const GREW: u64 = 5;
/// Its samples and time are not those of the row, and follow.
const ITS_OWN: u64 = 8;

/// One series of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rolled {
    pub(super) id: u32,
    pub(super) is_counter: bool,
    pub(super) summary: Summary,
}

/// Writes a row. The series go by rising id; those without a sample are left out.
pub(super) fn put_row(series: &[Rolled]) -> Vec<u8> {
    let known = || series.iter().filter(|it| it.summary.samples > 0);
    let whole = known().map(|it| (it.summary.samples, it.summary.covered_ms)).max();
    let whole = whole.unwrap_or_default();
    let mut out = Vec::with_capacity(16 + series.len() * 12);
    put_varint(&mut out, u64::from(whole.0));
    put_varint(&mut out, whole.1);
    let mut before = 0;
    for Rolled { id, is_counter, summary } in known() {
        let is_one = summary.least == summary.most;
        let one = scaled(summary.least, 1.0).map(zigzag).filter(|it| varint_bytes(*it) <= 4);
        let tag = match (*is_counter, one) {
            (true, _) if summary.sum == 0.0 => STILL,
            (true, _) => GREW,
            (false, Some(0)) if is_one => ONE_ZERO,
            (false, Some(_)) if is_one => ONE_WHOLE,
            (false, _) if is_one => ONE_F32,
            (false, _) => GAUGE,
        };
        let its_own = (summary.samples, summary.covered_ms) != whole;
        let head = u64::from(id.saturating_sub(before)) << 4 | tag;
        before = *id;
        put_varint(&mut out, if its_own { head | ITS_OWN } else { head });
        if its_own {
            put_varint(&mut out, u64::from(summary.samples));
            put_varint(&mut out, summary.covered_ms);
        }
        let mut put_short = |value: f64| out.extend(short(value).to_le_bytes());
        match tag {
            ONE_WHOLE => put_varint(&mut out, one.unwrap_or_default()),
            ONE_F32 => put_short(summary.least),
            GAUGE => [summary.least, summary.mean(), summary.most].into_iter().for_each(put_short),
            GREW => {
                put_short(summary.most);
                let sum = scaled(summary.sum.round(), 1.0).unwrap_or(i64::MAX);
                put_varint(&mut out, sum.max(0).cast_unsigned());
            }
            _ => {}
        }
    }
    out
}

/// Reads a row: tells each of its series for which `place` gives a place.
#[allow(clippy::cast_precision_loss)] // What was whole before is so again.
pub(super) fn read_row(
    bytes: &[u8],
    place: impl Fn(u32) -> Option<usize>,
    mut tell: impl FnMut(usize, Rolled),
) -> Option<()> {
    let mut bytes = Bytes(bytes);
    let whole = (bytes.varint()?, bytes.varint()?);
    let mut id = 0u32;
    while !bytes.0.is_empty() {
        let head = bytes.varint()?;
        id = id.checked_add(u32::try_from(head >> 4).ok()?)?;
        let (samples, covered_ms) =
            if head & ITS_OWN == 0 { whole } else { (bytes.varint()?, bytes.varint()?) };
        let tag = head & 7;
        let is_counter = matches!(tag, STILL | GREW);
        let (least, mean, most) = match tag {
            ONE_ZERO | STILL => (0.0, 0.0, 0.0),
            ONE_WHOLE => {
                let one = unzigzag(bytes.varint()?) as f64;
                (one, one, one)
            }
            ONE_F32 => {
                let one = bytes.short()?;
                (one, one, one)
            }
            GAUGE => (bytes.short()?, bytes.short()?, bytes.short()?),
            GREW => (0.0, 0.0, bytes.short()?),
            _ => return None,
        };
        let samples = u32::try_from(samples).ok()?;
        let sum = match tag {
            GREW => bytes.varint()? as f64,
            _ => mean * f64::from(samples),
        };
        if let Some(place) = place(id) {
            let mut summary = Summary { samples, covered_ms, least, most, sum, last: mean };
            if is_counter {
                summary.last = summary.rate();
            }
            tell(place, Rolled { id, is_counter, summary });
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn back(series: &[Rolled]) -> Vec<Rolled> {
        let mut all = Vec::new();
        read_row(&put_row(series), |_| Some(0), |_, it| all.push(it)).unwrap();
        all
    }

    proptest! {
        #[test]
        fn counts_and_sums_of_counters_are_exact_and_gauges_are_f32(
            rows in prop::collection::vec(
                (1u32..9, any::<bool>(), prop::collection::vec(0u32..5_000_000, 0..70)), 0..12)
        ) {
            let mut id = 0;
            let mut series = Vec::new();
            for (step, is_counter, values) in rows {
                id += step;
                let mut summary = Summary::default();
                for value in values {
                    let value = f64::from(value);
                    if is_counter {
                        summary.add_growth(value, 1000, 0);
                    } else {
                        summary.add_gauge(value / 8.0, 1000);
                    }
                }
                series.push(Rolled { id, is_counter, summary });
            }
            series.retain(|it| it.summary.samples > 0);
            let read = back(&series);
            prop_assert_eq!(read.len(), series.len());
            for (wrote, read) in series.iter().zip(&read) {
                let (wrote, read) = (wrote, *read);
                prop_assert_eq!((wrote.id, wrote.is_counter), (read.id, read.is_counter));
                prop_assert_eq!(wrote.summary.samples, read.summary.samples);
                prop_assert_eq!(wrote.summary.covered_ms, read.summary.covered_ms);
                prop_assert_eq!(short(wrote.summary.most), short(read.summary.most));
                if wrote.is_counter {
                    prop_assert_eq!(wrote.summary.sum, read.summary.sum);
                } else {
                    prop_assert_eq!(short(wrote.summary.least), short(read.summary.least));
                    let (wrote, read) = (wrote.summary.mean(), read.summary.mean());
                    prop_assert!((wrote - read).abs() <= wrote.abs() * 1e-6);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_row(&bytes, |_| Some(0), |_, _| {});
        }
    }

    #[test]
    fn what_has_no_sample_is_left_out() {
        let nothing = Rolled { id: 3, is_counter: false, summary: Summary::default() };
        assert_eq!(back(&[nothing]), []);
    }
}
