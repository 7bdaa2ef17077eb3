//! How much is kept: rows are counted, not dated, so that no clock can delete anything.

/// How many blocks of each table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) raw: u64,
    pub(super) minute: u64,
    pub(super) hour: u64,
}

/// A day of batches, a month of minutes, a year of hours. A laptop that runs three hours a day keeps eight
/// days of seconds in the same room.
pub(super) const USUAL: Counts = Counts { raw: 8640, minute: 43_200, hour: 8784 };

/// An hour of batches, a day of minutes and a day of hours are not given up for room.
const LEAST: Counts = Counts { raw: 360, minute: 1440, hour: 24 };

/// So many are deleted in one transaction, which takes well below a millisecond.
const AT_ONCE: u64 = 64;

impl Counts {
    /// How many of each are to be deleted now.
    pub(super) fn excess(self, limits: Counts) -> Counts {
        let over = |count: u64, limit: u64| count.saturating_sub(limit).min(AT_ONCE);
        Counts {
            raw: over(self.raw, limits.raw),
            minute: over(self.minute, limits.minute),
            hour: over(self.hour, limits.hour),
        }
    }

    pub(super) fn minus(self, less: Counts) -> Counts {
        Counts {
            raw: self.raw.saturating_sub(less.raw),
            minute: self.minute.saturating_sub(less.minute),
            hour: self.hour.saturating_sub(less.hour),
        }
    }
}

/// The limits by which what is there takes less room: half of the seconds first, then of the minutes, then of
/// the hours. The limits of before while they are not reached yet.
pub(super) fn smaller(limits: Counts, there: Counts) -> Counts {
    if there.excess(limits) != (Counts { raw: 0, minute: 0, hour: 0 }) {
        return limits;
    }
    let half = |count: u64, least: u64| (count / 2).max(least);
    if there.raw > LEAST.raw {
        return Counts { raw: half(there.raw, LEAST.raw), ..limits };
    }
    if there.minute > LEAST.minute {
        return Counts { minute: half(there.minute, LEAST.minute), ..limits };
    }
    Counts { hour: half(there.hour, LEAST.hour), ..limits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_go_first_then_minutes_and_hours_last() {
        let mut there = Counts { raw: 1000, minute: 3000, hour: 100 };
        let mut limits = USUAL;
        let mut went = Vec::new();
        for _ in 0..6 {
            limits = smaller(limits, there);
            assert_eq!(limits, smaller(limits, there), "one thing after the other");
            there = Counts {
                raw: there.raw.min(limits.raw),
                minute: there.minute.min(limits.minute),
                hour: there.hour.min(limits.hour),
            };
            went.push((there.raw, there.minute, there.hour));
        }
        let expected = [
            (500, 3000, 100),
            (360, 3000, 100),
            (360, 1500, 100),
            (360, 1440, 100),
            (360, 1440, 50),
            (360, 1440, 25),
        ];
        assert_eq!(went, expected);
    }

    #[test]
    fn little_is_deleted_at_once() {
        let there = Counts { raw: 8641, minute: 50_000, hour: 3 };
        assert_eq!(there.excess(USUAL), Counts { raw: 1, minute: 64, hour: 0 });
    }
}
