//! What llamactl knows about a model from its files: typed, in the words the rest of the program uses.

use std::path::{Path, PathBuf};

use super::error::Problem;
use super::file_type;
use super::header::Header;
use super::metadata::Metadata;
use super::tensors::TensorTotals;
use super::value::Text;

/// What a GGUF file is for. Only [`Kind::Model`] can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A language, embedding or reranking model.
    Model,
    /// A multimodal projector, which goes with a model.
    Projector,
    /// A `LoRA` adapter, which goes with a model.
    Adapter,
    /// A control vector, which goes with a model.
    ControlVector,
    /// A draft model, which guesses ahead for a larger one and serves nobody alone.
    Drafter,
    /// An importance matrix, which a quantizer uses.
    ImportanceMatrix,
    /// Metadata and vocabulary without any weights.
    VocabularyOnly,
    /// A model of pictures or films, or a part of one, which other programs run.
    Image,
    /// A model that hears or speaks, or a part of one, which other programs run.
    Speech,
}

/// The architectures of llama.cpp that only draft; beside them whatever ends in `-assistant`.
const DRAFTERS: [&str; 2] = ["dflash", "eagle3"];

/// Architectures of pictures and films, as those write them who convert for ComfyUI and
/// stable-diffusion.cpp.
const IMAGES: [&str; 21] = [
    "aura",
    "chroma",
    "cosmos",
    "flux",
    "flux2",
    "hidream",
    "hunyuan_video",
    "hyvid",
    "ltx2",
    "ltxv",
    "lumina2",
    "mochi",
    "pig",
    "pixart",
    "qwen_image",
    "sd1",
    "sd3",
    "sdxl",
    "vae",
    "wan",
    "z_image",
];

/// Architectures of speech.
const SPEECH: [&str; 8] = [
    "bark",
    "kokoro",
    "moonshine",
    "parakeet",
    "parler-tts",
    "silero-vad",
    "wavtokenizer-dec",
    "whisper",
];

impl Kind {
    const ALL: [Self; 9] = [
        Self::Model,
        Self::Projector,
        Self::Adapter,
        Self::ControlVector,
        Self::Drafter,
        Self::ImportanceMatrix,
        Self::VocabularyOnly,
        Self::Image,
        Self::Speech,
    ];

    /// The kind that [`Kind::as_str`] names so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// What it is, in words, with an article.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Model => "a model",
            Self::Projector => "a projector (mmproj), which goes with a model",
            Self::Adapter => "an adapter (LoRA), which goes with a model",
            Self::ControlVector => "a control vector, which goes with a model",
            Self::Drafter => "a draft model, which goes with a larger one",
            Self::ImportanceMatrix => "an importance matrix, which only a quantizer uses",
            Self::VocabularyOnly => "a vocabulary without weights",
            Self::Image => "an image model, which llama-server cannot run",
            Self::Speech => "a speech model, which llama-server cannot run",
        }
    }

    /// The setting by which a model is given such a file.
    #[must_use]
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Self::Projector => Some("mmproj"),
            Self::Adapter => Some("lora"),
            Self::ControlVector => Some("control-vector"),
            Self::Drafter => Some("spec-draft-model"),
            _ => None,
        }
    }

    /// A stable name, in snake case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Projector => "mmproj",
            Self::Adapter => "adapter",
            Self::ImportanceMatrix => "imatrix",
            Self::VocabularyOnly => "vocab_only",
            Self::ControlVector => "control_vector",
            Self::Drafter => "draft",
            Self::Image => "image",
            Self::Speech => "speech",
        }
    }

    fn of(metadata: &Metadata, tensors: &TensorTotals) -> Self {
        let architecture = metadata.architecture.as_ref().map(|text| text.text.as_str());
        let is_of = |names: &[&str]| architecture.is_some_and(|name| names.contains(&name));
        match metadata.general_type.as_ref().map(|text| text.text.as_str()) {
            Some("adapter") => Self::Adapter,
            Some("mmproj") => Self::Projector,
            Some("imatrix") => Self::ImportanceMatrix,
            _ if is_of(&["clip"]) => Self::Projector,
            _ if is_of(&["controlvector"]) => Self::ControlVector,
            _ if architecture.is_some_and(|name| name.ends_with("-assistant")) => Self::Drafter,
            // The layers that predict further tokens, published without the model they are of.
            _ if is_of(&DRAFTERS) || tensors.are_only_drafting() => Self::Drafter,
            _ if is_of(&IMAGES) => Self::Image,
            _ if architecture.is_none() && tensors.are_of_pictures() => Self::Image,
            _ if architecture.is_none() && tensors.are_importance() => Self::ImportanceMatrix,
            _ if is_of(&SPEECH) => Self::Speech,
            _ if tensors.count == 0 => Self::VocabularyOnly,
            _ => Self::Model,
        }
    }
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it is: in the directory of the path that was asked about.
    pub path: PathBuf,
    /// The part's length in bytes.
    pub bytes: u64,
    /// The file system it lies on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// When its contents were changed last, in nanoseconds since the Unix epoch.
    pub modified_ns: i64,
}

/// Facts about a model. What the file does not say is `None`.
///
/// Texts are the file's own and may hold anything, control characters included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What the file is for.
    pub kind: Kind,
    /// GGUF version, 2 or 3.
    pub version: u32,
    /// `general.architecture`, such as `qwen3`.
    pub architecture: Option<String>,
    /// `general.name`.
    pub name: Option<String>,
    /// `general.basename`, such as `Qwen3`.
    pub basename: Option<String>,
    /// `general.size_label`, such as `8B`.
    pub size_label: Option<String>,
    /// Elements of all tensors.
    pub parameter_count: u64,
    /// The quantizer's name such as `Q4_K_M`, or the type most weights have, such as `Q4_K`.
    pub quantization: Option<String>,
    /// Context the model was trained for, in tokens.
    pub context_length_trained: Option<u64>,
    /// Layers of the transformer, `block_count` in the header.
    pub block_count: Option<u64>,
    /// Attention heads; the most in any layer.
    pub head_count: Option<u64>,
    /// Key-value heads; the most in any layer.
    pub head_count_kv: Option<u64>,
    /// Key-value heads of all layers together.
    pub head_count_kv_total: Option<u64>,
    /// Width of the model.
    pub embedding_length: Option<u64>,
    /// Width of the feed-forward layers; the widest.
    pub feed_forward_length: Option<u64>,
    /// Experts of a mixture.
    pub expert_count: Option<u64>,
    /// Elements per key and head, if the file says so; see [`Facts::key_length`].
    pub key_length_explicit: Option<u64>,
    /// Elements per value and head, if the file says so; see [`Facts::value_length`].
    pub value_length_explicit: Option<u64>,
    /// Tokens in the vocabulary.
    pub vocabulary_size: Option<u64>,
    /// The tokenizer's family, such as `gpt2`.
    pub tokenizer_model: Option<String>,
    /// The tokenizer's pre-tokenizer, such as `qwen2`.
    pub tokenizer_pre: Option<String>,
    /// The chat template, up to 64 KiB of it.
    pub chat_template: Option<Text>,
    /// Size of all parts together.
    pub file_bytes: u64,
    /// Tensors of all parts together.
    pub tensor_count: u64,
    /// The files of the model; the first is the one to load. Empty only for facts not read from a path.
    pub parts: Vec<Part>,
    /// A multimodal projector that lies beside the model.
    pub mmproj: Option<PathBuf>,
}

impl Facts {
    /// The facts in the header of a file that is no part of a split model. They name no path.
    #[must_use]
    pub fn of_header(header: &Header, file_bytes: u64) -> Self {
        Self::new(header.version, &header.metadata, &header.tensors, file_bytes)
    }

    /// The facts of a model: version and metadata of its first part, totals of all parts.
    pub(super) fn new(
        version: u32,
        metadata: &Metadata,
        tensors: &TensorTotals,
        file_bytes: u64,
    ) -> Self {
        let number = |key| metadata.of_architecture(key).map(super::metadata::LayerNumber::max);
        let owned = |text: &Option<Text>| text.as_ref().map(|text| text.text.clone());
        let block_count = number("block_count");
        Self {
            kind: Kind::of(metadata, tensors),
            version,
            architecture: owned(&metadata.architecture),
            name: owned(&metadata.name),
            basename: owned(&metadata.basename),
            size_label: owned(&metadata.size_label),
            parameter_count: tensors.parameter_count,
            quantization: metadata
                .file_type
                .and_then(file_type::name)
                .or_else(|| tensors.prevailing_type())
                .map(str::to_owned),
            context_length_trained: number("context_length"),
            block_count,
            head_count: number("attention.head_count"),
            // llama.cpp takes the number of attention heads where there is no number of key-value heads.
            head_count_kv: number("attention.head_count_kv")
                .or_else(|| number("attention.head_count")),
            head_count_kv_total: metadata
                .of_architecture("attention.head_count_kv")
                .or_else(|| metadata.of_architecture("attention.head_count"))
                .and_then(|heads| heads.sum(block_count?)),
            embedding_length: number("embedding_length"),
            feed_forward_length: number("feed_forward_length"),
            expert_count: number("expert_count"),
            key_length_explicit: number("attention.key_length"),
            value_length_explicit: number("attention.value_length"),
            vocabulary_size: metadata.token_count.or_else(|| number("vocab_size")),
            tokenizer_model: owned(&metadata.tokenizer_model),
            tokenizer_pre: owned(&metadata.tokenizer_pre),
            chat_template: metadata.chat_template.clone(),
            file_bytes,
            tensor_count: tensors.count,
            parts: Vec::new(),
            mmproj: None,
        }
    }

    /// The path to give to llama-server.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.parts.first().map(|part| part.path.as_path())
    }

    /// Elements per key and head: as the file says, else the width of the model divided among its heads.
    #[must_use]
    pub fn key_length(&self) -> Option<u64> {
        self.key_length_explicit.or_else(|| self.width_per_head())
    }

    /// Elements per value and head: as the file says, else the width of the model divided among its heads.
    #[must_use]
    pub fn value_length(&self) -> Option<u64> {
        self.value_length_explicit.or_else(|| self.width_per_head())
    }

    /// Elements the KV cache holds for one token, keys and values of all layers together:
    /// `key-value heads of all layers * (key length + value length)`.
    ///
    /// It is what plain attention needs, an upper bound where layers look at a window, share their cache or compress it.
    #[must_use]
    pub fn kv_elements_per_token(&self) -> Option<u64> {
        let per_head = self.key_length()?.checked_add(self.value_length()?)?;
        self.head_count_kv_total?.checked_mul(per_head)
    }

    fn width_per_head(&self) -> Option<u64> {
        self.embedding_length?.checked_div(self.head_count?)
    }
}

/// Adds up the parts of a split model as they are read, first part first.
#[derive(Debug)]
pub(super) struct Assembly {
    first: Header,
    parts: Vec<Part>,
}

impl Assembly {
    /// Starts with the first part.
    pub(super) fn start(first: Header, part: Part) -> Self {
        Self { first, parts: vec![part] }
    }

    /// Adds the next part.
    pub(super) fn add(&mut self, header: &Header, part: Part) -> Result<(), Problem> {
        self.parts.push(part);
        self.first.tensors.add_part(&header.tensors)
    }

    /// The facts, once all parts are in.
    pub(super) fn finish(self) -> Result<Facts, Problem> {
        let Header { version, metadata, tensors } = self.first;
        if let Some(promised) = metadata.split_tensor_count
            && self.parts.len() > 1
            && promised != tensors.count
        {
            return Err(Problem::PartsMismatch(format!(
                "they hold {} tensors together instead of {promised}",
                tensors.count
            )));
        }
        let file_bytes = self.parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.bytes));
        let mut facts = Facts::new(version, &metadata, &tensors, file_bytes);
        facts.parts = self.parts;
        Ok(facts)
    }
}
