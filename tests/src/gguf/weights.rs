//! The tensors of a model and of an adapter.

use super::bigram::Bigram;
use super::f16;
use super::file::{Content, Tensor};
use super::vocabulary::Vocabulary;

/// Rank of the adapter's matrices.
const LORA_RANK: usize = 4;

/// Widths and counts of a model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) width: usize,
    pub(super) feed_forward_width: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) key_value_heads: usize,
}

impl Shape {
    /// Width of keys and values.
    pub(super) fn key_value_width(&self) -> usize {
        self.width / self.heads * self.key_value_heads
    }
}

/// What the model says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    Sentences,
    WithoutEnd,
    Noise,
}

fn tensor(name: impl Into<String>, dimensions: &[usize], content: Content) -> Tensor {
    Tensor {
        name: name.into(),
        dimensions: dimensions.iter().map(|&length| length as u64).collect(),
        content,
    }
}

/// All tensors of a model, in the order of its layers. Seeds are numbers that no two tensors share.
pub(super) fn of_model(shape: &Shape, vocabulary: &Vocabulary, speech: Speech) -> Vec<Tensor> {
    let Shape { width, layers, feed_forward_width, .. } = *shape;
    let token_count = vocabulary.tokens.len();
    let (embedding, output) = match speech {
        Speech::Noise => (Content::NoiseF16(1), Content::NoiseF16(2)),
        Speech::Sentences | Speech::WithoutEnd => {
            let bigram = Bigram::of(vocabulary, speech == Speech::WithoutEnd);
            (embedding(&bigram, width, token_count), output(&bigram, width, token_count))
        }
    };
    // What a layer adds to the stream goes through these two matrices.
    let last = |seed| {
        if speech == Speech::Noise { Content::NoiseF16(seed) } else { Content::ZerosF16 }
    };
    let ones = || Content::F32(vec![1.0; width]);
    let mut tensors = vec![
        tensor("token_embd.weight", &[width, token_count], embedding),
        tensor("output_norm.weight", &[width], ones()),
        tensor("output.weight", &[width, token_count], output),
    ];
    for (layer, seed) in (0..layers).zip((10_u64..).step_by(10)) {
        let key_value_width = shape.key_value_width();
        let mut add = |name: &str, dimensions: &[usize], content| {
            tensors.push(tensor(format!("blk.{layer}.{name}.weight"), dimensions, content));
        };
        add("attn_norm", &[width], ones());
        add("attn_q", &[width, width], Content::NoiseF16(seed));
        add("attn_k", &[width, key_value_width], Content::NoiseF16(seed + 1));
        add("attn_v", &[width, key_value_width], Content::NoiseF16(seed + 2));
        add("attn_output", &[width, width], last(seed + 3));
        add("ffn_norm", &[width], ones());
        add("ffn_gate", &[width, feed_forward_width], Content::NoiseF16(seed + 4));
        add("ffn_up", &[width, feed_forward_width], Content::NoiseF16(seed + 5));
        add("ffn_down", &[feed_forward_width, width], last(seed + 6));
    }
    tensors
}

/// One row per token: 1 at the place of the token's code, else 0.
fn embedding(bigram: &Bigram, width: usize, token_count: usize) -> Content {
    let one = f16::bits(1.0);
    let row = |id| (0..width).map(move |place| if place == bigram.code(id) { one } else { 0 });
    Content::F16((0..token_count).flat_map(row).collect())
}

/// One row per token: its logit after each code.
///
/// The final normalization turns the single 1 into the square root of the width; the logits are divided by that here.
fn output(bigram: &Bigram, width: usize, token_count: usize) -> Content {
    let scale = number_as_f32(width).sqrt().recip();
    let codes = bigram.code_count().min(width);
    let row = |id| {
        (0..width).map(
            move |code| {
                if code < codes { f16::bits(bigram.logit(code, id) * scale) } else { 0 }
            },
        )
    };
    Content::F16((0..token_count).flat_map(row).collect())
}

fn number_as_f32(number: usize) -> f32 {
    f32::from(u16::try_from(number).unwrap_or(u16::MAX))
}

/// Adapter matrices for queries and values of every layer.
pub(super) fn of_lora(shape: &Shape) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    for (layer, seed) in (0..shape.layers).zip((10_000_u64..).step_by(10)) {
        for (name, output_width, seed) in
            [("attn_q", shape.width, seed), ("attn_v", shape.key_value_width(), seed + 2)]
        {
            let name = format!("blk.{layer}.{name}.weight");
            tensors.push(tensor(
                format!("{name}.lora_a"),
                &[shape.width, LORA_RANK],
                Content::NoiseF32(seed),
            ));
            tensors.push(tensor(
                format!("{name}.lora_b"),
                &[LORA_RANK, output_width],
                Content::NoiseF32(seed + 1),
            ));
        }
    }
    tensors
}
