//! Weights that mean nothing: fast, deterministic, of the size that trained weights have.

/// SplitMix64: a full-period generator whose state is a counter.
#[derive(Debug, Clone)]
pub(super) struct Noise(u64);

impl Noise {
    /// The sequence number `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Four half-precision numbers: any sign and fraction, the exponent of 1/64; so between 1/64 and 1/32 in size.
    pub(super) fn next_f16x4(&mut self) -> [u8; 8] {
        (self.next() & 0x83FF_83FF_83FF_83FF | 0x2400_2400_2400_2400).to_le_bytes()
    }

    /// Two single-precision numbers between 1/64 and 1/32 in size.
    pub(super) fn next_f32x2(&mut self) -> [u8; 8] {
        (self.next() & 0x807F_FFFF_807F_FFFF | 0x3C80_0000_3C80_0000).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_small_of_both_signs_and_repeatable() {
        let mut noise = Noise::new(7);
        let mut negative = 0;
        for _ in 0..1000 {
            for bytes in noise.next_f32x2().chunks_exact(4) {
                let number = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                assert!((1.0 / 64.0..1.0 / 32.0).contains(&number.abs()));
                negative += usize::from(number < 0.0);
            }
            for bytes in noise.next_f16x4().chunks_exact(2) {
                assert_eq!(u16::from_le_bytes([bytes[0], bytes[1]]) & 0x7C00, 0x2400);
            }
        }
        assert!((800..1200).contains(&negative), "{negative}");
        assert_eq!(Noise::new(7).next(), Noise::new(7).next());
        assert_ne!(Noise::new(7).next(), Noise::new(8).next());
    }
}
