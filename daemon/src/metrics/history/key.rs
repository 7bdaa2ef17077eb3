//! Keys of what is kept: which boot, and the milliseconds since it began.
//!
//! No clock is in them, so that setting one neither reorders nor deletes anything. What the wall clock was
//! ahead is kept once for each boot, and holds for all its rows: those written before the clock was set get
//! their right time afterwards.

/// The lower bits, of milliseconds: 34 years.
const MS_BITS: u32 = 40;
const MS_MASK: i64 = (1 << MS_BITS) - 1;

/// The key of a moment.
pub(super) fn key(boot: u32, ms: u64) -> i64 {
    i64::from(boot) << MS_BITS | (ms.cast_signed() & MS_MASK)
}

/// The boot of a key.
pub(super) fn boot(key: i64) -> u32 {
    u32::try_from(key >> MS_BITS).unwrap_or(0)
}

/// The milliseconds since boot of a key.
pub(super) fn ms(key: i64) -> u64 {
    (key & MS_MASK).cast_unsigned()
}

/// The key at which the span of `unit_ms` begins that this one lies in.
pub(super) fn floor(key: i64, unit_ms: i64) -> i64 {
    key - (key & MS_MASK) % unit_ms
}

/// The keys of one boot between two moments of its time, which may lie before or behind it.
pub(super) fn span(boot: u32, from_ms: i64, until_ms: i64) -> (i64, i64) {
    let at = |ms: i64| key(boot, ms.clamp(0, MS_MASK).cast_unsigned());
    (at(from_ms), at(until_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_boot_and_a_time_in_it() {
        let at = key(3, 123_456);
        assert_eq!((boot(at), ms(at)), (3, 123_456));
        assert_eq!(floor(at, 60_000), key(3, 120_000));
        assert!(key(3, 1 << 39) < key(4, 0));
        assert_eq!(span(3, -5, 1 << 50), (key(3, 0), key(3, (1 << 40) - 1)));
    }
}
