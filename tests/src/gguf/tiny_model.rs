//! What kind of file to write, and what is in it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::corpus::CORPUS;
use super::file::{self, Tensor, Value};
use super::vocabulary::{self, Vocabulary};
use super::weights::{self, Shape, Speech};

const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n\
                        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const WRITE_BUFFER_BYTES: usize = 1024 * 1024;

/// How large a model is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preset {
    /// About 1.7 MB: loads at once, answers at once.
    #[default]
    Tiny,
    /// About 53 MB: loading and generating take a noticeable moment.
    Medium,
    /// About 515 MB: loading can be watched and interrupted.
    Big,
}

impl Preset {
    fn shape(self) -> Shape {
        let (width, feed_forward_width, layers, heads, key_value_heads) = match self {
            Self::Tiny => (256, 64, 2, 4, 1),
            Self::Medium => (512, 1408, 8, 8, 8),
            Self::Big => (1536, 4096, 9, 12, 12),
        };
        Shape { width, feed_forward_width, layers, heads, key_value_heads }
    }
}

/// What the file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Model,
    VocabularyOnly,
    Lora,
    Projector,
}

/// A GGUF file to be written: start with a preset, change what the test needs, call [`TinyModel::write`].
///
/// ```no_run
/// # use llamactl_tests::gguf::{Preset, TinyModel};
/// TinyModel::new(Preset::Tiny).never_stop(true).write("model.gguf")?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is written before `write`"]
pub struct TinyModel {
    preset: Preset,
    purpose: Purpose,
    speech: Speech,
    architecture: String,
    context_length: u32,
    name: Option<String>,
    has_template: bool,
    part_count: u16,
}

impl TinyModel {
    /// A model that speaks and ends its turns.
    pub fn new(preset: Preset) -> Self {
        Self {
            preset,
            purpose: Purpose::Model,
            speech: Speech::Sentences,
            architecture: "llama".to_owned(),
            context_length: 32_768,
            name: None,
            has_template: true,
            part_count: 1,
        }
    }

    /// Whether the model goes on until it is stopped or its context is full, instead of ending its turn.
    pub fn never_stop(mut self, never_stop: bool) -> Self {
        self.speech = if never_stop { Speech::WithoutEnd } else { Speech::Sentences };
        self
    }

    /// Makes the model speak gibberish.
    pub fn random(mut self) -> Self {
        self.speech = Speech::Noise;
        self
    }

    /// Sets the architecture. llama-server refuses one it does not know.
    pub fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// Sets the context the model says it was trained for, in tokens.
    pub fn context_length(mut self, tokens: u32) -> Self {
        self.context_length = tokens;
        self
    }

    /// Sets `general.name`.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Leaves the chat template out.
    pub fn without_template(mut self) -> Self {
        self.has_template = false;
        self
    }

    /// Makes it a file with metadata and vocabulary but no weights, which cannot be served.
    pub fn vocab_only(mut self) -> Self {
        self.purpose = Purpose::VocabularyOnly;
        self
    }

    /// Makes it a `LoRA` adapter for the model of the same preset. It changes nothing that the model says.
    pub fn lora(mut self) -> Self {
        self.purpose = Purpose::Lora;
        self
    }

    /// Makes it a file that says it is a multimodal projector and is nothing else; llama-server cannot load it.
    pub fn mmproj_stub(mut self) -> Self {
        self.purpose = Purpose::Projector;
        self
    }

    /// Splits the model into `part_count` files, named after the path given to [`TinyModel::write`]:
    /// `model.gguf` becomes `model-00001-of-00003.gguf` and so on.
    pub fn split(mut self, part_count: u16) -> Self {
        self.part_count = part_count;
        self
    }

    /// Writes the file, or the parts of a split one, over whatever is there. Gives the path to load, which for a split model
    /// is that of the first part.
    ///
    /// # Errors
    /// What the file system says, or `InvalidInput` for a model that cannot be split into that many parts.
    pub fn write(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = path.as_ref();
        let (pairs, tensors) = self.contents();
        if self.part_count == 1 {
            write_file(path, &pairs, &tensors)?;
            return Ok(path.to_owned());
        }
        let parts = split_evenly(&tensors, self.part_count.into()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a part must hold at least one tensor")
        })?;
        let tensor_count = i32::try_from(tensors.len()).unwrap_or(i32::MAX);
        for (number, tensors) in (0..).zip(&parts) {
            // Only the first part has the model's own metadata.
            let mut pairs = if number == 0 { pairs.clone() } else { Vec::new() };
            pairs.push(pair("split.no", Value::U16(number)));
            pairs.push(pair("split.count", Value::U16(self.part_count)));
            pairs.push(pair("split.tensors.count", Value::I32(tensor_count)));
            write_file(&self.part_path(path, number), &pairs, tensors)?;
        }
        Ok(self.part_path(path, 0))
    }

    /// The path of part `number`, from 0.
    fn part_path(&self, path: &Path, number: u16) -> PathBuf {
        let stem = path.with_extension("");
        let stem = stem.file_name().unwrap_or_default().to_string_lossy();
        path.with_file_name(format!(
            "{stem}-{:05}-of-{:05}.gguf",
            u32::from(number) + 1,
            self.part_count
        ))
    }

    fn contents(&self) -> (Vec<(String, Value)>, Vec<Tensor>) {
        let shape = self.preset.shape();
        match self.purpose {
            Purpose::Projector => {
                let pairs = vec![
                    pair("general.architecture", "clip".into()),
                    pair("general.type", "mmproj".into()),
                ];
                (pairs, Vec::new())
            }
            Purpose::Lora => {
                let mut pairs = self.general_pairs("adapter");
                pairs.push(pair("adapter.type", "lora".into()));
                pairs.push(pair("adapter.lora.alpha", Value::F32(8.0)));
                (pairs, weights::of_lora(&shape))
            }
            Purpose::VocabularyOnly => {
                (self.model_pairs(&shape, &Vocabulary::of(CORPUS)), Vec::new())
            }
            Purpose::Model => {
                let vocabulary = Vocabulary::of(CORPUS);
                let pairs = self.model_pairs(&shape, &vocabulary);
                (pairs, weights::of_model(&shape, &vocabulary, self.speech))
            }
        }
    }

    fn general_pairs(&self, general_type: &str) -> Vec<(String, Value)> {
        let name = self.name.as_deref().unwrap_or(match self.preset {
            Preset::Tiny => "Tiny",
            Preset::Medium => "Medium",
            Preset::Big => "Big",
        });
        vec![
            pair("general.architecture", self.architecture.as_str().into()),
            pair("general.type", general_type.into()),
            pair("general.name", name.into()),
        ]
    }

    fn model_pairs(&self, shape: &Shape, vocabulary: &Vocabulary) -> Vec<(String, Value)> {
        let of_architecture = |key: &str, value| (format!("{}.{key}", self.architecture), value);
        let mut pairs = self.general_pairs("model");
        pairs.extend([
            // All matrices are F16.
            pair("general.file_type", Value::U32(1)),
            of_architecture("context_length", Value::U32(self.context_length)),
            of_architecture("embedding_length", number(shape.width)),
            of_architecture("block_count", number(shape.layers)),
            of_architecture("feed_forward_length", number(shape.feed_forward_width)),
            of_architecture("attention.head_count", number(shape.heads)),
            of_architecture("attention.head_count_kv", number(shape.key_value_heads)),
            of_architecture("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            of_architecture("rope.dimension_count", number(shape.width / shape.heads)),
            of_architecture("rope.freq_base", Value::F32(10_000.0)),
            of_architecture("vocab_size", number(vocabulary.tokens.len())),
        ]);
        let tokens = &vocabulary.tokens;
        pairs.extend([
            pair("tokenizer.ggml.model", "llama".into()),
            pair("tokenizer.ggml.pre", "default".into()),
            pair(
                "tokenizer.ggml.tokens",
                Value::Texts(tokens.iter().map(|token| token.text.clone()).collect()),
            ),
            pair(
                "tokenizer.ggml.scores",
                Value::F32s(tokens.iter().map(|token| token.score).collect()),
            ),
            pair(
                "tokenizer.ggml.token_type",
                Value::I32s(tokens.iter().map(|token| token.kind as i32).collect()),
            ),
            pair("tokenizer.ggml.bos_token_id", number(vocabulary::BEGIN)),
            pair("tokenizer.ggml.eos_token_id", number(vocabulary::END)),
            pair("tokenizer.ggml.eot_token_id", number(vocabulary::TURN_END)),
            pair("tokenizer.ggml.unknown_token_id", number(vocabulary::UNKNOWN)),
            pair("tokenizer.ggml.add_bos_token", Value::Bool(true)),
            pair("tokenizer.ggml.add_space_prefix", Value::Bool(true)),
        ]);
        if self.has_template {
            pairs.push(pair("tokenizer.chat_template", TEMPLATE.into()));
        }
        pairs
    }
}

fn pair(key: &str, value: Value) -> (String, Value) {
    (key.to_owned(), value)
}

fn number(number: usize) -> Value {
    Value::U32(u32::try_from(number).unwrap_or(u32::MAX))
}

/// `tensors` in `part_count` runs of about equal size, none empty; `None` if that is not possible.
fn split_evenly(tensors: &[Tensor], part_count: usize) -> Option<Vec<&[Tensor]>> {
    if part_count == 0 || part_count > tensors.len() {
        return None;
    }
    let mut rest = tensors;
    let mut parts = Vec::new();
    for parts_left in (1..=part_count).rev() {
        let share = rest.iter().map(Tensor::bytes).sum::<u64>() / parts_left as u64;
        let mut bytes = 0;
        let wanted = rest.iter().take_while(|tensor| {
            let takes = bytes < share;
            bytes += tensor.bytes();
            takes
        });
        let count = wanted.count().clamp(1, rest.len() + 1 - parts_left);
        let (part, others) = rest.split_at(count);
        parts.push(part);
        rest = others;
    }
    Some(parts)
}

fn write_file(path: &Path, pairs: &[(String, Value)], tensors: &[Tensor]) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(WRITE_BUFFER_BYTES, File::create(path)?);
    file::write(&mut out, pairs, tensors)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::bigram::Bigram;
    use super::*;

    fn bytes(model: &TinyModel) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::read(model.write(dir.path().join("m.gguf")).unwrap()).unwrap()
    }

    #[test]
    fn the_smallest_model_has_a_place_for_every_word() {
        let bigram = Bigram::of(&Vocabulary::of(CORPUS), false);
        assert!(bigram.code_count() <= Preset::Tiny.shape().width, "{}", bigram.code_count());
    }

    #[test]
    fn the_same_model_is_the_same_file() {
        let model = TinyModel::new(Preset::Tiny);
        assert_eq!(bytes(&model), bytes(&model));
        assert_ne!(bytes(&model), bytes(&model.clone().never_stop(true)));
    }

    #[test]
    fn sizes_are_as_documented() {
        let size_bytes = |preset| {
            let (_, tensors) = TinyModel::new(preset).contents();
            tensors.iter().map(Tensor::bytes).sum::<u64>()
        };
        assert!((1_400_000..1_700_000).contains(&size_bytes(Preset::Tiny)));
        assert!((52_000_000..54_000_000).contains(&size_bytes(Preset::Medium)));
        assert!((512_000_000..518_000_000).contains(&size_bytes(Preset::Big)));
    }

    #[test]
    fn parts_hold_all_tensors_in_order() {
        let (_, tensors) = TinyModel::new(Preset::Tiny).contents();
        for part_count in 1..=tensors.len() {
            let parts = split_evenly(&tensors, part_count).unwrap();
            assert_eq!(parts.len(), part_count);
            assert!(parts.iter().all(|part| !part.is_empty()));
            assert_eq!(parts.concat(), tensors);
        }
        assert!(split_evenly(&tensors, 0).is_none());
        assert!(split_evenly(&tensors, tensors.len() + 1).is_none());
    }

    #[test]
    fn a_split_model_is_named_as_llama_cpp_wants_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = TinyModel::new(Preset::Tiny).split(3).write(dir.path().join("m.gguf")).unwrap();
        assert_eq!(first, dir.path().join("m-00001-of-00003.gguf"));
        assert!(dir.path().join("m-00003-of-00003.gguf").is_file());
        assert!(!dir.path().join("m.gguf").exists());
        let error =
            TinyModel::new(Preset::Tiny).split(1000).write(dir.path().join("n.gguf")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
