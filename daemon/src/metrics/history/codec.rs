//! How rows of numbers are written, ten seconds of them as one block, a column for each series.
//!
//! ```text
//!   block:   rows, ms between them ─ ids ─ lengths ─ column ─ column ─ …
//!   column:  nothing known │ one value │ whole numbers or their differences │ f32, XORed
//! ```
//!
//! Nearly everything measured is a whole number, of bytes, ticks or tokens, or has few decimals, and changes
//! little: about one byte a value. Whole numbers are exact up to 9e15. Each block names its series, because the
//! set changes whenever a model is loaded. What cannot be read gives `None`: a file may be damaged.

/// More rows than a block ever has.
const MOST_ROWS: u64 = 4096;

/// What a number may be multiplied by to make it whole.
const SCALES: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];

/// Where whole numbers begin to have gaps.
const EXACT: f64 = 9.0e15;

const NOTHING: u8 = 0;
const ONE_WHOLE: u8 = 1;
const ONE_F32: u8 = 2;
const DIFFERENCES: u8 = 3;
const XORED: u8 = 4;
const WHOLE: u8 = 5;
/// Some values are not known: a bitmap of them follows.
const HAS_NULLS: u8 = 0x80;

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[allow(clippy::cast_possible_truncation)] // Seven bits at a time.
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation)]
    out.push(value as u8);
}

/// How many bytes [`put_varint`] writes.
pub(super) fn varint_bytes(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Small numbers of either sign as small numbers.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// `value` as a whole number, if it is one when multiplied by the scale.
#[allow(clippy::cast_possible_truncation)] // Checked against `EXACT`.
pub(super) fn scaled(value: f64, scale: f64) -> Option<i64> {
    let whole = (value * scale).round();
    (whole.abs() < EXACT && whole / scale == value).then_some(whole as i64)
}

#[allow(clippy::cast_possible_truncation)] // That is what is kept.
pub(super) fn short(value: f64) -> f32 {
    value as f32
}

/// Reads what was written, from the front.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn short(&mut self) -> Option<f64> {
        Some(f64::from(f32::from_le_bytes(self.take(4)?.try_into().ok()?)))
    }
}

/// When the rows of a block were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// Milliseconds since the first row, of each row.
    pub(super) offsets_ms: Vec<u32>,
    /// Milliseconds from the row before the first one to it; 0 where there was none.
    pub(super) first_covers_ms: u32,
}

impl Times {
    /// How long before a row the row before it was; 0 where there was none.
    pub(super) fn covers_ms(&self, row: usize) -> u32 {
        match row.checked_sub(1).and_then(|before| self.offsets_ms.get(before)) {
            Some(before) => self.offsets_ms.get(row).map_or(0, |at| at.saturating_sub(*before)),
            None => self.first_covers_ms,
        }
    }
}

/// One series of a block: its id and a value for each row, NaN where it is not known.
pub(super) type Column<'a> = (u32, &'a [f64]);

/// Writes a block. The columns go by rising id.
pub(super) fn put_block(times: &Times, columns: &[Column<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + columns.len() * 16);
    put_varint(&mut out, times.offsets_ms.len() as u64);
    for row in 0..times.offsets_ms.len() {
        put_varint(&mut out, u64::from(times.covers_ms(row)));
    }
    put_varint(&mut out, columns.len() as u64);
    let mut before = 0;
    for (id, _) in columns {
        put_varint(&mut out, u64::from(id.saturating_sub(before)));
        before = *id;
    }
    let mut body = Vec::with_capacity(columns.len() * 16);
    for (_, values) in columns {
        let start = body.len();
        put_column(&mut body, values);
        put_varint(&mut out, (body.len() - start) as u64);
    }
    out.append(&mut body);
    out
}

/// Reads a block: tells each column for which `place` gives a place, and when the rows were taken.
pub(super) fn read_block(
    bytes: &[u8],
    place: impl Fn(u32) -> Option<usize>,
    mut tell: impl FnMut(usize, &Times, &[f64]),
) -> Option<()> {
    let mut bytes = Bytes(bytes);
    let rows = bytes.varint().filter(|rows| *rows <= MOST_ROWS)?;
    let mut times = Times::default();
    let mut at = 0u32;
    for row in 0..rows {
        let covers = u32::try_from(bytes.varint()?).ok()?;
        if row == 0 {
            times.first_covers_ms = covers;
        } else {
            at = at.checked_add(covers)?;
        }
        times.offsets_ms.push(at);
    }
    let columns = usize::try_from(bytes.varint()?).ok().filter(|it| *it <= bytes.0.len())?;
    let mut ids = Vec::with_capacity(columns);
    let mut id = 0u32;
    for _ in 0..columns {
        id = id.checked_add(u32::try_from(bytes.varint()?).ok()?)?;
        ids.push((id, 0));
    }
    for (_, length) in &mut ids {
        *length = usize::try_from(bytes.varint()?).ok()?;
    }
    let mut values = Vec::with_capacity(times.offsets_ms.len());
    for (id, length) in ids {
        let column = bytes.take(length)?;
        if let Some(place) = place(id) {
            read_column(&mut Bytes(column), times.offsets_ms.len(), &mut values)?;
            tell(place, &times, &values);
        }
    }
    Some(())
}

fn put_column(out: &mut Vec<u8>, column: &[f64]) {
    let mut known = column.iter().copied().filter(|value| !value.is_nan());
    let Some(first) = known.next() else {
        out.push(NOTHING);
        return;
    };
    let has_nulls = column.iter().any(|value| value.is_nan());
    let known = || column.iter().copied().filter(|value| !value.is_nan());
    let scale = (0u8..).zip(SCALES).find(|(_, by)| known().all(|it| scaled(it, *by).is_some()));
    let mut begin = |tag: u8| {
        out.push(tag | if has_nulls { HAS_NULLS } else { 0 });
        if has_nulls {
            for eight in column.chunks(8) {
                let bit = |(i, value): (usize, &f64)| u8::from(value.is_nan()) << i;
                out.push(eight.iter().enumerate().map(bit).fold(0, |all, bit| all | bit));
            }
        }
    };
    let is_one = known().all(|value| value == first);
    let Some((tag, by)) = scale else {
        begin(if is_one { ONE_F32 } else { XORED });
        if is_one {
            out.extend(short(first).to_le_bytes());
            return;
        }
        let mut before = 0;
        for value in known() {
            let bits = short(value).to_bits();
            put_varint(out, u64::from(bits ^ before));
            before = bits;
        }
        return;
    };
    let whole: Vec<i64> = known().filter_map(|value| scaled(value, by)).collect();
    let tag = tag << 4;
    if is_one {
        begin(ONE_WHOLE | tag);
        return whole.first().into_iter().for_each(|value| put_varint(out, zigzag(*value)));
    }
    let mut before = 0;
    let mut differences = whole.clone();
    differences.iter_mut().for_each(|value| {
        let now = *value;
        *value -= before;
        before = now;
    });
    // Pages of 4 KiB and the like: the bits that are 0 in all of them.
    let shift = differences.iter().fold(0, |all, it| all | it).trailing_zeros().min(40);
    let bytes = |values: &[i64], shift: u32| -> usize {
        values.iter().map(|value| varint_bytes(zigzag(value >> shift))).sum()
    };
    if bytes(&whole, 0) <= bytes(&differences, shift) + 1 {
        begin(WHOLE | tag);
        whole.iter().for_each(|value| put_varint(out, zigzag(*value)));
    } else {
        begin(DIFFERENCES | tag);
        put_varint(out, u64::from(shift));
        differences.iter().for_each(|value| put_varint(out, zigzag(value >> shift)));
    }
}

#[allow(clippy::cast_precision_loss)] // Whole numbers are below `EXACT`.
fn read_column(bytes: &mut Bytes<'_>, rows: usize, values: &mut Vec<f64>) -> Option<()> {
    values.clear();
    let tag = bytes.byte()?;
    if tag == NOTHING {
        values.resize(rows, f64::NAN);
        return Some(());
    }
    let nulls = if tag & HAS_NULLS == 0 { &[] } else { bytes.take(rows.div_ceil(8))? };
    let is_null = |row: usize| nulls.get(row / 8).is_some_and(|bits| bits >> (row % 8) & 1 == 1);
    let scale = *SCALES.get(usize::from(tag >> 4 & 7))?;
    let mut all = |next: &mut dyn FnMut(&mut Bytes<'_>) -> Option<f64>| {
        for row in 0..rows {
            values.push(if is_null(row) { f64::NAN } else { next(bytes)? });
        }
        Some(())
    };
    match tag & 15 {
        ONE_WHOLE => {
            let mut one = None;
            all(&mut |bytes| {
                if one.is_none() {
                    one = Some(unzigzag(bytes.varint()?) as f64 / scale);
                }
                one
            })
        }
        ONE_F32 => {
            let mut one = None;
            all(&mut |bytes| {
                if one.is_none() {
                    one = Some(bytes.short()?);
                }
                one
            })
        }
        WHOLE => all(&mut |bytes| Some(unzigzag(bytes.varint()?) as f64 / scale)),
        DIFFERENCES => {
            let (mut sum, mut shift) = (0i64, None);
            all(&mut |bytes| {
                if shift.is_none() {
                    shift = Some(u32::try_from(bytes.varint()?).ok().filter(|it| *it < 64)?);
                }
                sum = sum.wrapping_add(unzigzag(bytes.varint()?) << shift?);
                Some(sum as f64 / scale)
            })
        }
        XORED => {
            let mut before = 0;
            all(&mut |bytes| {
                before ^= u32::try_from(bytes.varint()?).ok()?;
                Some(f64::from(f32::from_bits(before)))
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is read back of a block with these columns.
    fn back(times: &Times, columns: &[Vec<f64>]) -> Vec<(usize, Times, Vec<f64>)> {
        let columns: Vec<Column<'_>> =
            (0..).zip(columns).map(|(id, values)| (id * 3, &values[..])).collect();
        let bytes = put_block(times, &columns);
        let mut all = Vec::new();
        let place = |id: u32| Some(id as usize / 3);
        read_block(&bytes, place, |at, times, values| all.push((at, times.clone(), values.into())))
            .unwrap();
        all
    }

    fn of_seconds(rows: usize) -> Times {
        let offsets_ms = (0..rows).map(|row| u32::try_from(row).unwrap() * 1000).collect();
        Times { offsets_ms, first_covers_ms: 1001 }
    }

    #[test]
    fn what_is_measured_takes_about_a_byte_a_value() {
        let memory: Vec<f64> = (0..10).map(|row| 8e9 + f64::from(row * 4096)).collect();
        let column = |values: &[f64]| {
            let mut out = Vec::new();
            put_column(&mut out, values);
            out.len()
        };
        assert_eq!(column(&[f64::NAN; 10]), 1);
        assert_eq!(column(&[0.0; 10]), 2);
        assert!(column(&memory) <= 18, "{}", column(&memory));
        assert!(column(&[0.12, 0.13, 0.125, 0.9, 0.1, 0.2, 0.3, 0.1, 0.1, 0.1]) <= 22);
    }

    #[test]
    fn a_reader_of_one_series_skips_the_others() {
        let columns: [Column<'_>; 2] = [(7, &[1.0]), (9, &[2.0])];
        let bytes = put_block(&of_seconds(1), &columns);
        let mut told = Vec::new();
        read_block(
            &bytes,
            |id| (id == 9).then_some(0),
            |at, _, values| {
                told.push((at, values.to_vec()));
            },
        )
        .unwrap();
        assert_eq!(told, [(0, vec![2.0])]);
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            Just(f64::NAN),
            Just(0.0),
            (-1_000_000i64..9_000_000_000_000_000).prop_map(|it| it as f64),
            (0i64..1000).prop_map(|it| it as f64 / 1000.0),
            (0u64..1 << 20).prop_map(|it| it as f64 * 4096.0),
            any::<f32>().prop_map(f64::from),
        ]
    }

    proptest! {
        #[test]
        fn a_block_is_read_as_it_was_written(
            columns in prop::collection::vec(prop::collection::vec(value(), 7), 0..6)
        ) {
            let times = of_seconds(7);
            let read = back(&times, &columns);
            prop_assert_eq!(read.len(), columns.len());
            for (column, (at, there, values)) in columns.iter().zip(&read) {
                prop_assert_eq!(&columns[*at].len(), &values.len());
                prop_assert_eq!(there, &times);
                for (wrote, read) in column.iter().zip(values) {
                    let exact = wrote == read || wrote.is_nan() && read.is_nan();
                    prop_assert!(exact || short(*wrote).to_bits() == short(*read).to_bits());
                }
            }
        }

        #[test]
        fn whole_numbers_are_exact(
            values in prop::collection::vec(-8_999_999_999_999_999i64..9_000_000_000_000_000, 1..20)
        ) {
            let column: Vec<f64> = values.iter().map(|it| *it as f64).collect();
            let times = of_seconds(column.len());
            prop_assert_eq!(&back(&times, std::slice::from_ref(&column))[0].2, &column);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_block(&bytes, |_| Some(0), |_, _, _| {});
        }
    }
}
