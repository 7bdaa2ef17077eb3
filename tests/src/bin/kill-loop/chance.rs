//! Choices that a seed repeats.

use std::time::Duration;

/// A stream of choices (`SplitMix64`). The same seed and purpose give the same choices; when they
/// happen is the machine's affair.
pub(crate) struct Chance(u64);

impl Chance {
    /// The choices for one purpose in one round of the program.
    pub(crate) fn of(seed: u64, round: u64, purpose: u64) -> Chance {
        let mut chance = Chance(seed ^ round.rotate_left(24) ^ purpose.rotate_left(56));
        chance.next();
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A duration below this many milliseconds.
    pub(crate) fn up_to_ms(&mut self, end: u64) -> Duration {
        Duration::from_micros(self.below(end * 1000))
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}
