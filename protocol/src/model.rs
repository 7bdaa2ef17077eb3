//! `model.*`: the registry of models.

use crate::method::method;
use crate::{UnixMs, WirePath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A model: a name, a GGUF file, settings and aliases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    /// Its id, never reused. The name is a label.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// The file; of a split model the first part.
    pub path: WirePath,
    /// What the file's header says.
    pub file: ModelFile,
    /// The settings that were set, by llama-server's long names. What is not here is
    /// llama-server's own default.
    pub settings: BTreeMap<String, Value>,
    /// Counts changes; pass it as `if_revision` to change only what you have seen.
    pub revision: i64,
    /// When it was added.
    pub added_at_ms: UnixMs,
    /// When it was changed last.
    pub changed_at_ms: UnixMs,
}

/// What a GGUF header says, read when the model was added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelFile {
    /// The size of all parts together.
    pub size_bytes: u64,
    /// All parts of a split model, in order; one entry for a whole one.
    pub parts: Vec<WirePath>,
    /// A projector for images or sound that lies beside the model.
    pub mmproj: Option<WirePath>,
    /// `general.architecture`
    pub architecture: Option<String>,
    /// `general.name`
    pub title: Option<String>,
    /// Weights, counted from the tensors.
    pub parameters: Option<u64>,
    /// How the weights are stored: `Q4_K_M`, `F16`, …
    pub quantization: Option<String>,
    /// The context the model was trained with, in tokens.
    pub context_length: Option<u64>,
    /// Layers.
    pub layers: Option<u64>,
    /// Attention heads.
    pub heads: Option<u64>,
    /// Key and value heads.
    pub kv_heads: Option<u64>,
    /// Size of an embedding.
    pub embedding_length: Option<u64>,
    /// Experts, of a mixture of experts.
    pub experts: Option<u64>,
    /// Tokens the model knows.
    pub vocabulary: Option<u64>,
    /// `tokenizer.ggml.model`
    pub tokenizer: Option<String>,
    /// Whether the file brings a chat template.
    pub has_chat_template: bool,
}

/// Adds a model file to the registry. The file stays where it is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelAdd {
    /// A GGUF file, absolute. Any part of a split model will do.
    pub path: WirePath,
    /// The name; absent: the file's name without `.gguf` and part number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Settings to begin with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Value>,
}

/// The model, and whether it is new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Added {
    /// The model.
    pub model: Model,
    /// `false` when the same file was there under the same name already.
    pub added: bool,
    /// What the caller should know: a setting that was ignored, a projector that was found.
    pub notes: Vec<String>,
}

method!(ModelAdd, "model.add", Admin -> Added);

/// Lists models by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelList {
    /// Only models behind this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most this many (1 to 200, 100 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of models.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ModelPage {
    /// The models.
    pub items: Vec<Model>,
    /// Pass as `after` for the next page; `null` on the last.
    pub next: Option<String>,
}

method!(ModelList, "model.list", Observe -> ModelPage);

/// Shows one model.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelShow {
    /// By name, alias or id.
    pub model: String,
}

/// One model with everything known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelDetail {
    /// The model.
    #[serde(flatten)]
    pub model: Model,
    /// The chat template of the file, at most 64 KiB of it.
    pub chat_template: Option<String>,
    /// Its server.
    pub server: crate::server::Server,
}

method!(ModelShow, "model.show", Observe -> ModelDetail);

/// Sets and unsets settings, all or none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSet {
    /// By name, alias or id.
    pub model: String,
    /// Values by key. Text is read as the setting's kind, so `"8192"` and `8192` are the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Value>,
    /// Keys to take back, so that llama-server's default holds again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
    /// Change only if the model is still at this revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<i64>,
}

/// The model after a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// The model.
    pub model: Model,
    /// `false` when it was like this already.
    pub changed: bool,
    /// Whether the running server still has the old settings.
    pub takes_effect_on_restart: bool,
}

method!(ModelSet, "model.set", Admin -> Changed);

/// The command line and environment a start would use now.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelArgs {
    /// By name, alias or id.
    pub model: String,
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandLine {
    /// The executable, then its arguments, each as the process gets it.
    pub argv: Vec<WirePath>,
    /// The variables set beside those inherited.
    pub environment: BTreeMap<String, String>,
    /// The same as text for a shell.
    pub shell: String,
}

method!(ModelArgs, "model.args", Observe -> CommandLine);

/// Gives a model another name. Its id, logs and history stay.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRename {
    /// By name, alias or id.
    pub model: String,
    /// The new name.
    pub to: String,
}

method!(ModelRename, "model.rename", Admin -> Changed);

/// Makes a second profile of the same file, settings included, aliases not.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelCopy {
    /// By name, alias or id.
    pub model: String,
    /// The copy's name.
    pub to: String,
}

method!(ModelCopy, "model.copy", Admin -> Added);

/// Adds and removes aliases, all or none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelAlias {
    /// By name, alias or id.
    pub model: String,
    /// Names to add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Names to take away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

method!(ModelAlias, "model.alias", Admin -> Changed);

/// Takes a model out of the registry. The file stays.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRemove {
    /// By name, alias or id.
    pub model: String,
    /// Stop its server first instead of refusing.
    #[serde(default)]
    pub stop: bool,
}

/// The model that was removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Removed {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
}

method!(ModelRemove, "model.remove", Admin -> Removed);
