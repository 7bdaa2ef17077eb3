//! What `general.file_type` means: the number a quantizer wrote, as the name people use (`Q4_K_M`).
//!
//! The numbers are `enum llama_ftype` in llama.h. They are not the tensor types of [`super::ggml_type`]: a `Q4_K_M` file mixes
//! `Q4_K` and `Q6_K` tensors.

/// llama.cpp adds this bit when it guessed the type instead of reading it.
const GUESSED: u64 = 1024;

/// The name llama.cpp's quantizer gives file type `number`, or `None` for a number removed from the format or newer
/// than this table.
#[must_use]
pub fn name(number: u64) -> Option<&'static str> {
    let name = match number & !GUESSED {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        39 => "NVFP4",
        40 => "Q1_0",
        41 => "Q2_0",
        _ => return None,
    };
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_easily_confused_with_tensor_types() {
        // Tensor type 8 is Q8_0 and 12 is Q4_K; as file types they are Q5_0 and Q3_K_M.
        assert_eq!(name(7), Some("Q8_0"));
        assert_eq!(name(8), Some("Q5_0"));
        assert_eq!(name(12), Some("Q3_K_M"));
        assert_eq!(name(15), Some("Q4_K_M"));
        assert_eq!(name(19), Some("IQ2_XXS"));
    }

    #[test]
    fn the_guessed_bit_does_not_change_the_name() {
        assert_eq!(name(1 | 1024), Some("F16"));
    }

    #[test]
    fn removed_and_future_numbers_have_no_name() {
        for number in [4, 5, 6, 33, 34, 35, 42, u64::MAX] {
            assert_eq!(name(number), None);
        }
    }
}
