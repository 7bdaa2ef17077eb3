//! The tensor list of a header, summed up as it streams by: how many weights, of which types, reaching how far.

use std::io::{Read, Seek};

use super::error::Problem;
use super::ggml_type::{self, TYPE_COUNT};
use super::source::Source;

/// Large mixtures of experts have some ten thousand tensors.
const MAX_TENSORS: u64 = 1 << 18;
/// llama.cpp allows 64 bytes, its relatives more.
const MAX_NAME_BYTES: u64 = 1024;
const MAX_DIMENSIONS: u32 = 4;
/// The longest name that is looked at.
const MAX_USED_NAME_BYTES: u64 = 64;
/// A name's length, a number of dimensions, a type and an offset.
const LEAST_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// What the tensors of one file come to.
#[derive(Debug)]
pub(super) struct TensorTotals {
    pub(super) count: u64,
    /// Elements of all tensors.
    pub(super) parameter_count: u64,
    /// Where the last tensor ends, in bytes from the start of the data. Tensors of unknown type do not count.
    pub(super) data_bytes: u64,
    /// Elements of the matrices, by type number. Vectors are mostly F32 whatever the quantization.
    matrix_elements: [u64; TYPE_COUNT],
    /// Whether a tensor predicts more than the next token, and whether one is of the first layer.
    has_drafting: bool,
    has_first_layer: bool,
    /// Whether one is of a model of pictures, and whether one is of an importance matrix.
    has_picture: bool,
    has_importance: bool,
}

/// How the tensors of pictures and films begin where stable-diffusion.cpp or ComfyUI wrote them, which
/// often name no architecture.
const OF_PICTURES: [&[u8]; 5] = [
    b"model.diffusion_model.",
    b"first_stage_model.",
    b"double_blocks.",
    b"joint_blocks.",
    b"transformer_blocks.",
];

impl Default for TensorTotals {
    fn default() -> Self {
        Self {
            count: 0,
            parameter_count: 0,
            data_bytes: 0,
            matrix_elements: [0; TYPE_COUNT],
            has_drafting: false,
            has_first_layer: false,
            has_picture: false,
            has_importance: false,
        }
    }
}

impl TensorTotals {
    /// Whether these are the layers that predict further tokens, without the model before them.
    pub(super) fn are_only_drafting(&self) -> bool {
        self.has_drafting && !self.has_first_layer
    }

    /// Whether these are of a model of pictures or films.
    pub(super) fn are_of_pictures(&self) -> bool {
        self.has_picture
    }

    /// Whether these are sums that a quantizer weighs by.
    pub(super) fn are_importance(&self) -> bool {
        self.has_importance
    }

    /// Reads the list of `count` tensors whose offsets are multiples of `alignment` bytes.
    pub(super) fn read<R: Read + Seek>(
        source: &mut Source<R>,
        count: u64,
        alignment: u32,
    ) -> Result<Self, Problem> {
        if count > MAX_TENSORS {
            return Err(Problem::Hostile(format!("{count} tensors")));
        }
        if count.saturating_mul(LEAST_TENSOR_BYTES) > source.remaining_bytes() {
            return Err(Problem::TruncatedHeader { file_bytes: source.file_bytes() });
        }
        let mut totals = Self::default();
        for _ in 0..count {
            totals.add_next(source, alignment)?;
        }
        Ok(totals)
    }

    fn add_next<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        alignment: u32,
    ) -> Result<(), Problem> {
        let name_bytes = source.u64()?;
        if name_bytes > MAX_NAME_BYTES {
            return Err(Problem::Hostile(format!("a tensor name of {name_bytes} bytes")));
        }
        match usize::try_from(name_bytes) {
            Ok(length) if name_bytes <= MAX_USED_NAME_BYTES => {
                let name = source.take(length)?;
                self.has_first_layer |= name.starts_with(b"blk.0.");
                self.has_drafting |= name.windows(7).any(|some| some == b".nextn.");
                self.has_picture |= OF_PICTURES.iter().any(|start| name.starts_with(start));
                self.has_importance |= name.ends_with(b".in_sum2");
            }
            _ => source.skip(name_bytes)?,
        }
        let dimensions = source.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(Problem::Malformed(format!("a tensor of {dimensions} dimensions")));
        }
        let (mut row_elements, mut elements) = (1, 1_u64);
        for dimension in 0..dimensions {
            let length = source.u64()?;
            if dimension == 0 {
                row_elements = length;
            }
            // ggml counts in signed 64-bit numbers.
            elements = elements
                .checked_mul(length)
                .filter(|&elements| {
                    i64::try_from(elements).is_ok() && i64::try_from(length).is_ok()
                })
                .ok_or_else(|| {
                    Problem::Hostile("a tensor of more than 2^63 elements".to_owned())
                })?;
        }
        let type_id = source.u32()?;
        let offset = source.u64()?;
        if offset % u64::from(alignment.max(1)) != 0 {
            return Err(Problem::Malformed(format!(
                "a tensor at offset {offset}, which is not a multiple of {alignment}"
            )));
        }
        self.count += 1;
        self.parameter_count = self
            .parameter_count
            .checked_add(elements)
            .ok_or_else(|| Problem::Hostile("tensors of more than 2^64 elements".to_owned()))?;
        let Some(layout) = ggml_type::layout(type_id) else {
            return Ok(());
        };
        if row_elements % layout.block_elements != 0 {
            return Err(Problem::Malformed(format!(
                "a {} tensor with rows of {row_elements} elements, which is not a multiple of {}",
                layout.name, layout.block_elements
            )));
        }
        let end = (elements / layout.block_elements)
            .checked_mul(layout.block_bytes)
            .and_then(|bytes| bytes.checked_add(offset))
            .ok_or_else(|| Problem::Hostile("a tensor that ends beyond 2^64 bytes".to_owned()))?;
        self.data_bytes = self.data_bytes.max(end);
        if dimensions >= 2 {
            self.add_matrix(type_id, elements);
        }
        Ok(())
    }

    fn add_matrix(&mut self, type_id: u32, elements: u64) {
        if let Some(sum) =
            usize::try_from(type_id).ok().and_then(|id| self.matrix_elements.get_mut(id))
        {
            *sum = sum.saturating_add(elements);
        }
    }

    /// Adds what another part of the same model has. `data_bytes` is about one file and stays.
    pub(super) fn add_part(&mut self, part: &Self) -> Result<(), Problem> {
        self.has_drafting |= part.has_drafting;
        self.has_first_layer |= part.has_first_layer;
        self.has_picture |= part.has_picture;
        self.has_importance |= part.has_importance;
        self.count = self.count.saturating_add(part.count);
        self.parameter_count = self
            .parameter_count
            .checked_add(part.parameter_count)
            .ok_or_else(|| Problem::Hostile("tensors of more than 2^64 elements".to_owned()))?;
        for (sum, elements) in self.matrix_elements.iter_mut().zip(part.matrix_elements) {
            *sum = sum.saturating_add(elements);
        }
        Ok(())
    }

    /// The type most weights have.
    pub(super) fn prevailing_type(&self) -> Option<&'static str> {
        let (type_id, _) = (0_u32..)
            .zip(self.matrix_elements)
            .filter(|&(_, elements)| elements > 0)
            .max_by_key(|&(_, elements)| elements)?;
        ggml_type::layout(type_id).map(|layout| layout.name)
    }
}
