//! The key-value pairs of a header: the few we use, kept; all others, passed over.
//!
//! What a key means is said here and nowhere else. Keys such as `llama.context_length` carry the architecture's name in
//! front, and that name may come after them; so they are kept under any name (a bounded number of them) and looked up
//! when all pairs are read.

use std::io::{Read, Seek};

use super::error::Problem;
use super::source::Source;
use super::value::{MAX_TEXT_BYTES, PerLayer, Text, Value, ValueReader, ValueType};

/// llama.cpp compares every key with every other; real files have some fifty.
const MAX_KEY_VALUES: u64 = 65_536;
/// Longest key the format allows.
const MAX_KEY_BYTES: u64 = 65_535;
/// A key's length, a type and a value of one byte.
const LEAST_PAIR_BYTES: u64 = 8 + 4 + 1;

/// Longest key that is looked at, and how many architecture-specific ones are kept.
const MAX_USED_KEY_BYTES: usize = 128;
const MAX_ARCHITECTURE_VALUES: usize = 128;

/// Most that is kept of a text other than the chat template.
const MAX_NAME_BYTES: usize = 1024;

const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

const DEFAULT_ALIGNMENT: u32 = 32;

/// The architecture-specific keys we use, without the architecture.
const ARCHITECTURE_KEYS: [&str; 10] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "feed_forward_length",
    "vocab_size",
];

/// A number that is the same for all layers, or one number per layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerNumber {
    Uniform(u64),
    PerLayer(PerLayer),
}

impl LayerNumber {
    /// The number, or the largest one.
    pub(super) fn max(self) -> u64 {
        match self {
            Self::Uniform(number) => number,
            Self::PerLayer(numbers) => numbers.max,
        }
    }

    /// The sum over all of `layers` layers.
    pub(super) fn sum(self, layers: u64) -> Option<u64> {
        match self {
            Self::Uniform(number) => number.checked_mul(layers),
            Self::PerLayer(numbers) => Some(numbers.sum),
        }
    }
}

/// The pairs we use. The first of several pairs with one key counts.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) architecture: Option<Text>,
    pub(super) general_type: Option<Text>,
    pub(super) name: Option<Text>,
    pub(super) basename: Option<Text>,
    pub(super) size_label: Option<Text>,
    pub(super) chat_template: Option<Text>,
    pub(super) tokenizer_model: Option<Text>,
    pub(super) tokenizer_pre: Option<Text>,
    pub(super) token_count: Option<u64>,
    pub(super) file_type: Option<u64>,
    pub(super) split_no: Option<u64>,
    pub(super) split_count: Option<u64>,
    pub(super) split_tensor_count: Option<u64>,
    alignment: Option<Value>,
    by_architecture: Vec<(String, LayerNumber)>,
}

impl Metadata {
    /// Reads `count` pairs.
    pub(super) fn read<R: Read + Seek>(
        source: &mut Source<R>,
        count: u64,
    ) -> Result<Self, Problem> {
        if count > MAX_KEY_VALUES {
            return Err(Problem::Hostile(format!("{count} metadata entries")));
        }
        if count.saturating_mul(LEAST_PAIR_BYTES) > source.remaining_bytes() {
            return Err(Problem::TruncatedHeader { file_bytes: source.file_bytes() });
        }
        let mut metadata = Self::default();
        let mut values = ValueReader::new();
        let mut key = String::new();
        for _ in 0..count {
            read_key(source, &mut key)?;
            let value_type = ValueType::from_number(source.u32()?)?;
            if let Some(max_text_bytes) = metadata.wanted_text_bytes(&key) {
                let value = values.read(source, value_type, max_text_bytes)?;
                metadata.keep(&key, value);
            } else {
                values.skip(source, value_type)?;
            }
        }
        Ok(metadata)
    }

    /// What tensor offsets are multiples of, in bytes.
    pub(super) fn alignment(&self) -> Result<u32, Problem> {
        match self.alignment {
            None => Ok(DEFAULT_ALIGNMENT),
            Some(Value::Integer(number)) => u32::try_from(number)
                .ok()
                .filter(|alignment| alignment.is_power_of_two())
                .ok_or_else(|| {
                    Problem::Malformed(format!(
                        "an alignment of {number}, which is not a power of two"
                    ))
                }),
            Some(_) => Err(Problem::Malformed("an alignment that is not a number".to_owned())),
        }
    }

    /// The value of `ARCHITECTURE.key`.
    pub(super) fn of_architecture(&self, key: &str) -> Option<LayerNumber> {
        let architecture = &self.architecture.as_ref()?.text;
        self.by_architecture.iter().find_map(|(full_key, number)| {
            (full_key.strip_prefix(architecture.as_str())?.strip_prefix('.')? == key)
                .then_some(*number)
        })
    }

    fn keep(&mut self, key: &str, value: Value) {
        if key == "general.alignment" {
            self.alignment.get_or_insert(value);
            return;
        }
        match value {
            Value::Text(text) => {
                if let Some(place) = self.text_place(key) {
                    place.get_or_insert(text);
                }
            }
            Value::Array { length, .. } if key == "tokenizer.ggml.tokens" => {
                self.token_count.get_or_insert(length);
            }
            Value::Integer(number) => {
                if let Some(place) = self.integer_place(key) {
                    place.get_or_insert(number);
                } else {
                    self.by_architecture.push((key.to_owned(), LayerNumber::Uniform(number)));
                }
            }
            Value::Array { per_layer: Some(numbers), .. } => {
                self.by_architecture.push((key.to_owned(), LayerNumber::PerLayer(numbers)));
            }
            Value::Array { .. } | Value::Other => {}
        }
    }

    fn text_place(&mut self, key: &str) -> Option<&mut Option<Text>> {
        Some(match key {
            "general.architecture" => &mut self.architecture,
            "general.type" => &mut self.general_type,
            "general.name" => &mut self.name,
            "general.basename" => &mut self.basename,
            "general.size_label" => &mut self.size_label,
            CHAT_TEMPLATE => &mut self.chat_template,
            "tokenizer.ggml.model" => &mut self.tokenizer_model,
            "tokenizer.ggml.pre" => &mut self.tokenizer_pre,
            _ => return None,
        })
    }

    fn integer_place(&mut self, key: &str) -> Option<&mut Option<u64>> {
        Some(match key {
            "general.file_type" => &mut self.file_type,
            "split.no" => &mut self.split_no,
            "split.count" => &mut self.split_count,
            "split.tensors.count" => &mut self.split_tensor_count,
            _ => return None,
        })
    }

    /// `None` if there is no use for the value of `key`, else how much of it to keep if it is a text.
    ///
    /// A second value for a key is not wanted: passing over it costs nothing.
    fn wanted_text_bytes(&mut self, key: &str) -> Option<usize> {
        let is_wanted = match key {
            "general.alignment" => self.alignment.is_none(),
            "tokenizer.ggml.tokens" => self.token_count.is_none(),
            _ => {
                self.text_place(key).is_some_and(|place| place.is_none())
                    || self.integer_place(key).is_some_and(|place| place.is_none())
                    || self.has_room_for(key)
            }
        };
        is_wanted.then_some(if key == CHAT_TEMPLATE { MAX_TEXT_BYTES } else { MAX_NAME_BYTES })
    }

    fn has_room_for(&self, key: &str) -> bool {
        self.by_architecture.len() < MAX_ARCHITECTURE_VALUES
            && key.split_once('.').is_some_and(|(_, key)| ARCHITECTURE_KEYS.contains(&key))
    }
}

/// Reads a key; one too long to be of use is passed over and reads as empty.
fn read_key<R: Read + Seek>(source: &mut Source<R>, key: &mut String) -> Result<(), Problem> {
    let length = source.u64()?;
    if length > MAX_KEY_BYTES {
        return Err(Problem::Hostile(format!("a metadata key of {length} bytes")));
    }
    key.clear();
    match usize::try_from(length) {
        Ok(length) if length <= MAX_USED_KEY_BYTES => {
            key.push_str(&String::from_utf8_lossy(source.take(length)?));
            Ok(())
        }
        _ => source.skip(length),
    }
}
