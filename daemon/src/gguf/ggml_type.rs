//! The element types of ggml: number, name, and how many bytes a block of elements takes.
//!
//! A quantized tensor is stored in blocks: `Q4_K` packs 256 elements into 144 bytes. The numbers are the file format's
//! (`enum ggml_type` in ggml.h) and never change meaning; the sizes were compared with those a llama.cpp build reports.
//! A number that is missing here was removed from the format or is newer than this table: its size is unknown,
//! which is no error.

/// How one ggml element type is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The type's usual name, such as `Q4_K`.
    pub(super) name: &'static str,
    /// Elements per block; a row's length is a multiple of it.
    pub(super) block_elements: u64,
    /// Bytes per block.
    pub(super) block_bytes: u64,
}

/// One past the largest type number in the table.
pub(super) const TYPE_COUNT: usize = 43;

/// The layout of type number `type_id`, or `None` if this table does not know it.
pub(super) fn layout(type_id: u32) -> Option<Layout> {
    let (name, block_elements, block_bytes) = match type_id {
        0 => ("F32", 1, 4),
        1 => ("F16", 1, 2),
        2 => ("Q4_0", 32, 18),
        3 => ("Q4_1", 32, 20),
        6 => ("Q5_0", 32, 22),
        7 => ("Q5_1", 32, 24),
        8 => ("Q8_0", 32, 34),
        9 => ("Q8_1", 32, 36),
        10 => ("Q2_K", 256, 84),
        11 => ("Q3_K", 256, 110),
        12 => ("Q4_K", 256, 144),
        13 => ("Q5_K", 256, 176),
        14 => ("Q6_K", 256, 210),
        15 => ("Q8_K", 256, 292),
        16 => ("IQ2_XXS", 256, 66),
        17 => ("IQ2_XS", 256, 74),
        18 => ("IQ3_XXS", 256, 98),
        19 => ("IQ1_S", 256, 50),
        20 => ("IQ4_NL", 32, 18),
        21 => ("IQ3_S", 256, 110),
        22 => ("IQ2_S", 256, 82),
        23 => ("IQ4_XS", 256, 136),
        24 => ("I8", 1, 1),
        25 => ("I16", 1, 2),
        26 => ("I32", 1, 4),
        27 => ("I64", 1, 8),
        28 => ("F64", 1, 8),
        29 => ("IQ1_M", 256, 56),
        30 => ("BF16", 1, 2),
        34 => ("TQ1_0", 256, 54),
        35 => ("TQ2_0", 256, 66),
        39 => ("MXFP4", 32, 17),
        40 => ("NVFP4", 64, 36),
        41 => ("Q1_0", 128, 18),
        42 => ("Q2_0", 64, 18),
        _ => return None,
    };
    Some(Layout { name, block_elements, block_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_type_is_below_the_count() {
        let known: Vec<u32> = (0..1000).filter(|&id| layout(id).is_some()).collect();
        assert_eq!(known.len(), 35);
        assert_eq!(known.last().map(|&id| id as usize + 1), Some(TYPE_COUNT));
    }

    #[test]
    fn sizes_are_whole_and_bits_per_weight_are_sane() {
        for layout in (0..43).filter_map(layout) {
            assert!(layout.block_elements.is_power_of_two(), "{layout:?}");
            // No type spends under one bit or over eight bytes on an element.
            assert!(layout.block_bytes * 8 >= layout.block_elements, "{layout:?}");
            assert!(layout.block_bytes <= layout.block_elements * 8, "{layout:?}");
        }
    }

    #[test]
    fn removed_and_future_numbers_are_unknown() {
        for id in [4, 5, 31, 33, 36, 38, 43, u32::MAX] {
            assert_eq!(layout(id), None);
        }
    }
}
