//! `scan.*`, `library.*`, `model.verify`: finding the model files a machine has, and looking after
//! those that are registered.

use crate::bounds::{Bounded, GivenSettings, Name};
use crate::method::{method, subscription};
use crate::{Failure, UnixMs, WirePath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Looks for GGUF files, in place; with `add` registers those that are new.
///
/// The stream ends when everything was looked at. Closing it earlier ends the scan; what was
/// registered until then stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScanFollow {
    /// Directories to look through, absolute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Bounded<Vec<WirePath>, 256>,
    /// Also look through the remembered directories.
    #[serde(default)]
    pub remembered: bool,
    /// Also look through the caches of Hugging Face, llama.cpp, Ollama and LM Studio.
    #[serde(default)]
    pub caches: bool,
    /// Register what is new, and let registered models follow files that have moved.
    #[serde(default)]
    pub add: bool,
    /// Look through `directories` again at each start of the daemon, and register what is new.
    #[serde(default)]
    pub remember: bool,
    /// Where the caller's own variables put caches: those count beside the daemon's.
    #[serde(default, skip_serializing_if = "CacheVariables::is_empty")]
    pub variables: CacheVariables,
    /// Settings to begin with, for each model that is registered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: GivenSettings,
}

/// The variables by which other programs are told where their caches lie. One that holds no absolute
/// path is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "SCREAMING_SNAKE_CASE")]
pub struct CacheVariables {
    /// Of the Hugging Face hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hf_hub_cache: Option<WirePath>,
    /// Of the Hugging Face hub, its name of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub huggingface_hub_cache: Option<WirePath>,
    /// Of all of Hugging Face.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hf_home: Option<WirePath>,
    /// Of llama.cpp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llama_cache: Option<WirePath>,
    /// Of Ollama.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ollama_models: Option<WirePath>,
    /// Of all programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdg_cache_home: Option<WirePath>,
}

impl CacheVariables {
    /// What an environment says.
    #[must_use]
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> CacheVariables {
        let path = |name: &str| variable(name).map(PathBuf::from).map(WirePath);
        CacheVariables {
            hf_hub_cache: path("HF_HUB_CACHE"),
            huggingface_hub_cache: path("HUGGINGFACE_HUB_CACHE"),
            hf_home: path("HF_HOME"),
            llama_cache: path("LLAMA_CACHE"),
            ollama_models: path("OLLAMA_MODELS"),
            xdg_cache_home: path("XDG_CACHE_HOME"),
        }
    }

    /// The value of a variable of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<OsString> {
        let path = match name {
            "HF_HUB_CACHE" => &self.hf_hub_cache,
            "HUGGINGFACE_HUB_CACHE" => &self.huggingface_hub_cache,
            "HF_HOME" => &self.hf_home,
            "LLAMA_CACHE" => &self.llama_cache,
            "OLLAMA_MODELS" => &self.ollama_models,
            "XDG_CACHE_HOME" => &self.xdg_cache_home,
            _ => &None,
        };
        path.as_ref().map(|path| path.0.clone().into_os_string())
    }

    /// Whether none is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == CacheVariables::default()
    }
}

/// What a scan has to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum ScanItem {
    /// A model that can be used, registered or not.
    Found(Box<FoundModel>),
    /// Something that cannot be used, and why.
    Skipped(Skipped),
    /// How far it is, now and then.
    Progress(Progress),
    /// The last item: what it came to.
    Done(Summary),
}

/// A model a scan came across.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FoundModel {
    /// The file; of a split model the first part.
    pub path: WirePath,
    /// The name it has, or would be given.
    pub name: String,
    /// The size of all parts together.
    pub size_bytes: u64,
    /// `general.architecture`
    pub architecture: Option<String>,
    /// Weights, counted from the tensors.
    pub parameters: Option<u64>,
    /// How the weights are stored: `Q4_K_M`, `F16`, …
    pub quantization: Option<String>,
    /// How many files it consists of.
    pub parts: u64,
    /// The projector that goes with it.
    pub mmproj: Option<WirePath>,
    /// Where it was found.
    pub source: ScanSource,
    /// The model of this file in the registry; `null` when there is none.
    pub model: Option<String>,
    /// Whether this scan registered it.
    pub added: bool,
    /// Where its model was registered from before it moved; `null` when it lies where it did. With
    /// `add` the model has followed it.
    #[serde(default)]
    pub moved_from: Option<WirePath>,
    /// What else its place calls it: with `add` aliases of a model that is new.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What a person should know: an adapter that was left out, a projector that is none.
    pub notes: Vec<String>,
}

/// Where a model was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScanSource {
    /// A directory that was named or is remembered.
    Directory,
    /// A cache of the Hugging Face hub.
    Huggingface,
    /// The store of Ollama.
    Ollama,
    /// The models of LM Studio.
    Lmstudio,
    /// The cache of llama.cpp's own downloads.
    LlamaCpp,
}

impl ScanSource {
    /// The word used on the wire and in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ScanSource::Directory => "directory",
            ScanSource::Huggingface => "huggingface",
            ScanSource::Ollama => "ollama",
            ScanSource::Lmstudio => "lmstudio",
            ScanSource::LlamaCpp => "llama_cpp",
        }
    }
}

/// Something a scan passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Skipped {
    /// The file or directory.
    pub path: WirePath,
    /// What sort of reason, in one word: `gguf_truncated`, `unfinished`, `adapter`, …
    pub kind: String,
    /// Why, in words.
    pub reason: String,
}

/// How far a scan is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// The directory it is in; `null` before the first.
    pub directory: Option<WirePath>,
    /// Directory entries looked at so far.
    pub files_seen: u64,
}

/// What a scan came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Models found: `known` and `new` together.
    pub found: u64,
    /// Of these, how many were not registered before.
    pub new: u64,
    /// Of the new ones, how many are registered now.
    pub added: u64,
    /// Models that were registered already.
    pub known: u64,
    /// Of the registered ones, how many lie elsewhere than where they were registered from.
    #[serde(default)]
    pub moved: u64,
    /// Files that were come across again by another path or name; they are in no other number.
    pub duplicates: u64,
    /// Things that could not be used.
    pub skipped: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Where it looked, as far as that was there.
    #[serde(default)]
    pub looked_in: Vec<WirePath>,
}

subscription!(ScanFollow, "scan", Admin => ScanItem);

/// Lists the directories that are looked through at each start, and the caches on this machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LibraryList {
    /// Where the caller's own variables put caches: those are listed too.
    #[serde(default, skip_serializing_if = "CacheVariables::is_empty")]
    pub variables: CacheVariables,
}

/// Where models are looked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LibraryPlaces {
    /// The remembered directories.
    pub directories: Vec<LibraryDirectory>,
    /// The caches that are there.
    pub caches: Vec<LibraryCache>,
}

/// A remembered directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LibraryDirectory {
    /// The directory, absolute.
    pub path: WirePath,
    /// When it was first remembered.
    pub added_at_ms: UnixMs,
}

/// A cache of another program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LibraryCache {
    /// The directory the cache lies in.
    pub path: WirePath,
    /// Whose it is.
    pub source: ScanSource,
}

method!(LibraryList, "library.list", Observe -> LibraryPlaces);

/// Takes a directory out of those that are looked through. Its models stay.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LibraryForget {
    /// The directory, as `library.list` gives it.
    pub path: WirePath,
}

/// The directory that was forgotten.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forgotten {
    /// The directory that is looked through no more.
    pub path: WirePath,
}

method!(LibraryForget, "library.forget", Admin -> Forgotten, Small);

/// Reads a model's file again: whether it is whole, and whether it is what it was.
///
/// Headers are read, of every part; that all tensor data is there is told from sizes. When the
/// file has changed and is sound, what is known of it is replaced.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelVerify {
    /// By name, alias or id.
    pub model: Name,
}

/// How a model's file is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// The model's name.
    pub model: String,
    /// Whether it can be loaded, as far as the file tells.
    pub ok: bool,
    /// What is wrong.
    pub problems: Vec<Failure>,
    /// What is different from when it was read last.
    pub changed: Vec<Difference>,
    /// Whether what is known of the file was replaced.
    pub refreshed: bool,
}

/// Something that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// What: `size_bytes`, `quantization`, `modified`, …
    pub what: String,
    /// What it was; `null` when that was not known.
    pub was: Option<String>,
    /// What it is.
    pub is: Option<String>,
}

method!(ModelVerify, "model.verify", Admin -> Verified);
