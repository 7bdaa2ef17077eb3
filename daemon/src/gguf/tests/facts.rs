//! What is read from valid headers.

#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use super::super::sample::{ARRAY, Sample, numbers, strings};
use super::super::{Facts, Kind, Problem, read_header};

fn facts(sample: &Sample) -> Facts {
    try_facts(sample).unwrap()
}

fn try_facts(sample: &Sample) -> Result<Facts, Problem> {
    let file = sample.file();
    let file_bytes = file.len() as u64;
    Ok(Facts::of_header(&read_header(Cursor::new(file), file_bytes)?, file_bytes))
}

#[test]
fn every_fact_of_a_model() {
    let facts = facts(&Sample::model());
    assert_eq!(facts.kind, Kind::Model);
    assert_eq!(facts.version, 3);
    assert_eq!(facts.architecture.as_deref(), Some("qwen3"));
    assert_eq!(facts.name.as_deref(), Some("Tiny Qwen"));
    assert_eq!(facts.basename.as_deref(), Some("Qwen"));
    assert_eq!(facts.size_label.as_deref(), Some("8B"));
    assert_eq!(facts.parameter_count, 4 * 256 + 256 * 256 + 256 + 4 * 256);
    assert_eq!(facts.quantization.as_deref(), Some("Q4_K_M"));
    assert_eq!(facts.context_length_trained, Some(4096));
    assert_eq!(facts.block_count, Some(2));
    assert_eq!(facts.head_count, Some(8));
    assert_eq!(facts.head_count_kv, Some(2));
    assert_eq!(facts.head_count_kv_total, Some(4));
    assert_eq!(facts.embedding_length, Some(256));
    assert_eq!(facts.feed_forward_length, Some(512));
    assert_eq!(facts.expert_count, None);
    assert_eq!(facts.vocabulary_size, Some(4));
    assert_eq!(facts.tokenizer_model.as_deref(), Some("gpt2"));
    assert_eq!(facts.tokenizer_pre.as_deref(), Some("qwen2"));
    let template = facts.chat_template.as_ref().unwrap();
    assert_eq!((template.text.as_str(), template.is_cut), ("{{ messages }}", false));
    assert_eq!(facts.tensor_count, 4);
    assert_eq!((facts.key_length(), facts.value_length()), (Some(32), Some(32)));
    assert_eq!(facts.kv_elements_per_token(), Some(4 * 64));
}

#[test]
fn an_empty_header_says_nothing_and_nothing_is_made_up() {
    let facts = facts(&Sample::empty());
    assert_eq!(facts.kind, Kind::VocabularyOnly);
    assert_eq!(facts.architecture, None);
    assert_eq!(facts.quantization, None);
    assert_eq!(facts.head_count_kv_total, None);
    assert_eq!(facts.vocabulary_size, None);
    assert_eq!((facts.key_length(), facts.kv_elements_per_token()), (None, None));
}

#[test]
fn the_architecture_may_come_after_its_keys() {
    let sample = Sample::empty()
        .u32("other.block_count", 7)
        .u32("llama.block_count", 9)
        .u32("llama.vocab_size", 100)
        .text("general.architecture", "llama");
    assert_eq!(facts(&sample).block_count, Some(9));
    assert_eq!(facts(&sample).vocabulary_size, Some(100));
}

#[test]
fn the_first_value_of_a_key_counts() {
    let sample = Sample::empty()
        .text("general.name", "first")
        .text("general.name", "second")
        .text("general.architecture", "a")
        .u32("a.block_count", 1)
        .u32("a.block_count", 2);
    assert_eq!(facts(&sample).name.as_deref(), Some("first"));
    assert_eq!(facts(&sample).block_count, Some(1));
}

#[test]
fn numbers_per_layer() {
    let sample = Sample::empty()
        .text("general.architecture", "a")
        .u32("a.block_count", 4)
        .u32("a.embedding_length", 64)
        .u32("a.attention.key_length", 24)
        .pair("a.attention.head_count", ARRAY, &numbers(4, &[4, 8, 8, 4]))
        .pair("a.attention.head_count_kv", ARRAY, &numbers(5, &[0, 2, 0, 4]))
        .pair("a.feed_forward_length", ARRAY, &numbers(5, &[10, -1, 10, 10]));
    let facts = facts(&sample);
    assert_eq!(facts.head_count, Some(8));
    assert_eq!(facts.head_count_kv, Some(4));
    assert_eq!(facts.head_count_kv_total, Some(6));
    assert_eq!(facts.kv_elements_per_token(), Some(6 * (24 + 8)));
    assert_eq!(facts.feed_forward_length, None, "a negative width is no width");
}

#[test]
fn no_heads_is_no_division_by_zero() {
    let sample = Sample::empty()
        .text("general.architecture", "a")
        .u32("a.embedding_length", 64)
        .u32("a.attention.head_count", 0);
    assert_eq!(facts(&sample).key_length(), None);
}

#[test]
fn heads_count_for_key_value_heads_where_those_are_not_said() {
    let sample = Sample::empty()
        .text("general.architecture", "a")
        .u32("a.block_count", 3)
        .u32("a.attention.head_count", 4);
    assert_eq!(facts(&sample).head_count_kv, Some(4));
    assert_eq!(facts(&sample).head_count_kv_total, Some(12));
}

#[test]
fn without_a_file_type_the_prevailing_tensor_type_is_named() {
    let sample = Sample::empty().tensor("norm", &[1 << 20], 0).tensor("a", &[256, 4], 12).tensor(
        "b",
        &[256, 5],
        14,
    );
    assert_eq!(facts(&sample).quantization.as_deref(), Some("Q6_K"));
    assert_eq!(facts(&sample.u32("general.file_type", 9999)).quantization.as_deref(), Some("Q6_K"));
}

#[test]
fn kinds() {
    let tensor = |sample: Sample| sample.tensor("a", &[256, 1], 0);
    let kind = |sample: Sample| facts(&sample).kind.as_str();
    assert_eq!(kind(Sample::empty().text("general.architecture", "clip")), "mmproj");
    assert_eq!(kind(tensor(Sample::empty().text("general.type", "mmproj"))), "mmproj");
    assert_eq!(kind(tensor(Sample::empty().text("general.type", "adapter"))), "adapter");
    assert_eq!(kind(tensor(Sample::empty().text("general.type", "imatrix"))), "imatrix");
    assert_eq!(kind(Sample::empty().text("general.architecture", "llama")), "vocab_only");
    assert_eq!(kind(tensor(Sample::empty().text("general.architecture", "llama"))), "model");
}

#[test]
fn a_long_template_is_cut_between_characters_and_what_follows_is_read() {
    // One byte in front, so that the limit falls into a character.
    let template = format!("x{}", "🦙".repeat(50_000));
    let sample =
        Sample::empty().text("tokenizer.chat_template", &template).text("general.name", "after");
    let facts = facts(&sample);
    let kept = facts.chat_template.unwrap();
    assert!(kept.is_cut);
    assert_eq!(kept.text.len(), 64 * 1024 - 3);
    assert!(template.starts_with(&kept.text));
    assert_eq!(facts.name.as_deref(), Some("after"));
}

#[test]
fn keys_of_any_length_and_content_are_passed_over() {
    let sample = Sample::empty()
        .text(&"k".repeat(65_535), "long key")
        .pair("", 0, &[1])
        .text("general.name", "after");
    assert_eq!(facts(&sample).name.as_deref(), Some("after"));
}

#[test]
fn values_of_the_wrong_type_are_unknown() {
    let sample = Sample::empty()
        .u32("general.name", 5)
        .text("general.architecture", "a")
        .text("a.block_count", "four")
        .pair("a.context_length", 5, &(-1_i32).to_le_bytes())
        .pair("tokenizer.chat_template", ARRAY, &strings(&["x"]));
    let facts = facts(&sample);
    assert_eq!(facts.name, None);
    assert_eq!(facts.block_count, None);
    assert_eq!(facts.context_length_trained, None);
    assert_eq!(facts.chat_template, None);
}

#[test]
fn version_2_is_the_same() {
    let mut sample = Sample::model();
    let mut expected = facts(&sample);
    sample.version = 2;
    expected.version = 2;
    assert_eq!(facts(&sample), expected);
}

#[test]
fn a_large_alignment_moves_the_data() {
    let sample =
        Sample::empty().u32("general.alignment", 4096).tensor("a", &[8], 0).tensor("b", &[8], 0);
    assert_eq!(sample.file().len(), 2 * 4096 + 32);
    assert_eq!(facts(&sample).parameter_count, 16);
}

#[test]
fn one_missing_byte_of_data_is_noticed() {
    let file = Sample::model().file();
    let file_bytes = file.len() as u64;
    let problem = read_header(Cursor::new(&file), file_bytes - 1).unwrap_err();
    assert!(
        matches!(problem, Problem::TruncatedData { needed_bytes, .. } if needed_bytes == file_bytes),
        "{problem}"
    );
    read_header(Cursor::new(&file), file_bytes).unwrap();
}

#[test]
fn tensors_of_unknown_type_count_but_are_not_measured() {
    let sample = Sample::model().raw_tensor("new", &[1 << 40, 2], 999, 1 << 50);
    assert_eq!(facts(&sample).tensor_count, 5);
    assert!(facts(&sample).parameter_count > 1 << 41);
}

#[test]
fn what_a_file_is_for_is_in_its_header() {
    let of = |architecture: &str, tensor: &str| {
        let sample = Sample::empty().text("general.architecture", architecture);
        facts(&sample.tensor(tensor, &[8], 0)).kind
    };
    for architecture in ["gemma4-assistant", "eagle3", "dflash"] {
        assert_eq!(of(architecture, "blk.0.attn_q.weight"), Kind::Drafter, "{architecture}");
    }
    // The layers that guess, with and without the model they are of.
    assert_eq!(of("qwen35", "blk.24.nextn.eh_proj.weight"), Kind::Drafter);
    let whole = Sample::empty()
        .text("general.architecture", "qwen35")
        .tensor("blk.0.attn_q.weight", &[8], 0)
        .tensor("blk.24.nextn.eh_proj.weight", &[8], 0);
    assert_eq!(facts(&whole).kind, Kind::Model);
    assert_eq!(of("controlvector", "direction.1"), Kind::ControlVector);
    assert_eq!(of("flux", "double_blocks.0"), Kind::Image);
    assert_eq!(of("whisper", "encoder"), Kind::Speech);
    for kind in [Kind::Drafter, Kind::Speech, Kind::Projector] {
        assert_eq!(Kind::named(kind.as_str()), Some(kind));
    }
}
