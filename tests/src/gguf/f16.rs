//! Half-precision numbers.

/// The bits of the half-precision number nearest to `number`; ties go to the even one, what is too large becomes infinite.
pub(super) fn bits(number: f32) -> u16 {
    let bits = number.to_bits();
    let [low, high, ..] = (bits >> 16).to_le_bytes();
    let sign = u16::from_le_bytes([low, high]) & 0x8000;
    let magnitude = bits & 0x7FFF_FFFF;
    let half = match magnitude {
        // NaN
        0x7F80_0001.. => 0x7E00,
        // 65520 and more round to infinity.
        0x477F_F000.. => 0x7C00,
        // Normal numbers: move the exponent's origin from 127 to 15, drop 13 bits of the fraction.
        0x3880_0000.. => round(magnitude - 0x3800_0000, 13),
        // Subnormal ones: shift the fraction, with its leading 1, to units of 2^-24.
        0x3300_0000.. => round(magnitude & 0x007F_FFFF | 0x0080_0000, 126 - (magnitude >> 23)),
        _ => 0,
    };
    sign | half
}

/// `value` without its last `dropped` bits, rounded to the nearest, ties to even.
fn round(value: u32, dropped: u32) -> u16 {
    let kept = value >> dropped;
    let rest = value & ((1 << dropped) - 1);
    let half = 1 << (dropped - 1);
    let up = rest > half || rest == half && kept & 1 == 1;
    u16::try_from(kept + u32::from(up)).unwrap_or(0x7C00)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers() {
        for (number, expected) in [
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (1.0, 0x3C00),
            (-2.0, 0xC000),
            (0.1, 0x2E66),
            (65504.0, 0x7BFF),
            (65519.0, 0x7BFF),
            (65520.0, 0x7C00),
            (f32::INFINITY, 0x7C00),
            (f32::NAN, 0x7E00),
            // Halfway between two numbers: to the even one.
            (1.0 + 1.0 / 2048.0, 0x3C00),
            (1.0 + 3.0 / 2048.0, 0x3C02),
            // The smallest normal, the largest and smallest subnormal, and below.
            (6.103_515_6e-5, 0x0400),
            (6.097_555e-5, 0x03FF),
            (5.960_464_5e-8, 0x0001),
            (2.980_232_2e-8, 0x0000),
            (2.980_233e-8, 0x0001),
        ] {
            assert_eq!(bits(number), expected, "{number}");
        }
    }
}
