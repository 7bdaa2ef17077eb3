//! Models in and out: exports, imports, and one model's settings as a text to edit.

use crate::WirePath;
use crate::bounds::{Bounded, List, Name, Short};
use crate::method::method;
use crate::model::{Changed, Difference};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest text that is sent within a call, in bytes. A longer one is named by its path.
pub const MAX_INLINE_BYTES: usize = 512 << 10;

/// What an export is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// llamactl's own: everything but the secrets, to be imported again.
    #[default]
    Toml,
    /// What `llama-server --models-preset` reads.
    Preset,
}

/// Writes models down, with the defaults for all models and the runtimes when no models are named.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelExport {
    /// Only these, by name, alias or id; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: List<Name>,
    /// What to write.
    #[serde(default)]
    pub format: ExportFormat,
    /// Only models behind this name: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Name>,
}

/// A piece of an export. The pieces one behind the other are the whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExportPage {
    /// What the file says from where the last piece ended.
    pub text: String,
    /// Pass as `after` for the next piece; `null` on the last.
    pub next: Option<String>,
    /// What could not be told in this format.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

method!(ModelExport, "model.export", Observe -> ExportPage, Whole);

/// What an import is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportFormat {
    /// Told by what it holds.
    #[default]
    Auto,
    /// llamactl's own export.
    Toml,
    /// A file for `llama-server --models-preset`.
    Preset,
    /// A command line of llama-server, or what Ollama (a Modelfile) and KoboldCpp (`.kcpps`) keep instead
    /// of one.
    Command,
    /// A file of the old dashboard, or its directory.
    Dashboard,
}

/// Where an import comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportSource {
    /// The text itself, at most 512 KiB.
    Text(Bounded<String, MAX_INLINE_BYTES>),
    /// A file the daemon can read, absolute, at most 64 MiB.
    Path(WirePath),
}

/// Paths that begin with one directory begin with another here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MapPath {
    /// How paths begin in what is imported.
    pub from: WirePath,
    /// How they begin here, absolute.
    pub to: WirePath,
}

/// Takes in models, with defaults and runtimes where the source has them: all or nothing.
///
/// Models of the registry that the source does not name stay as they are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelImport {
    /// What the source is.
    #[serde(default)]
    pub format: ImportFormat,
    /// What to take in.
    pub source: ImportSource,
    /// What to call the source in records: a file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Short>,
    /// Where relative paths are taken from, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<WirePath>,
    /// What `~` means in a command line, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<WirePath>,
    /// Where files lie now; the first that fits counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub map_path: List<MapPath>,
    /// Directories to look through for files that are not where the source says, by their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub find: List<WirePath>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an item of an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// The defaults for all models.
    Defaults,
    /// A llama-server build.
    Runtime,
    /// A registered model with its settings.
    Model,
}

/// What an import does with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemAction {
    /// It is new.
    Add,
    /// It is there and becomes different.
    Change,
    /// It is like this already.
    Same,
}

/// One thing an import names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImportItem {
    /// What it is.
    pub kind: ItemKind,
    /// Its name; `defaults` for the defaults.
    pub name: String,
    /// What becomes of it.
    pub action: ItemAction,
    /// What differs from what is there. Secrets all look alike.
    pub changes: Vec<Difference>,
    /// What the caller should know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Something of a source that is not taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// What: a setting of a model, a table, a word of a command line.
    pub what: String,
    /// Why, and what to do instead.
    pub reason: String,
    /// How many of what was read it concerns.
    pub count: u64,
}

/// What an import did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    /// Whether it was done: `false` for a dry run.
    pub applied: bool,
    /// What the source was taken for.
    pub format: ImportFormat,
    /// How many items are new.
    pub added: u64,
    /// How many become different.
    pub changed: u64,
    /// How many were like this already.
    pub same: u64,
    /// The items, as many as fit an answer.
    pub items: Vec<ImportItem>,
    /// How many items the answer has no room for.
    pub items_not_shown: u64,
    /// What was not taken in.
    pub left_out: Vec<LeftOut>,
    /// What the caller should know.
    pub notes: Vec<String>,
}

method!(ModelImport, "model.import", Admin -> Imported, Whole);

/// Gives a model's file and settings as a text to edit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelDocument {
    /// By name, alias or id.
    pub model: Name,
}

/// A model's file and settings as a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// The model's name.
    pub name: String,
    /// TOML, with what each setting means in comments.
    pub text: String,
    /// What to pass as `if_revision` when it is given back.
    pub revision: i64,
}

method!(ModelDocument, "model.document", Observe -> Document);

/// Makes a model's file and settings what an edited text says: what is not in it is unset.
///
/// A refusal carries `line`, `column` and `key` in its details, where they are known.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelPutDocument {
    /// By name, alias or id.
    pub model: Name,
    /// What [`ModelDocument`] gave, edited.
    pub text: Bounded<String, MAX_INLINE_BYTES>,
    /// Change only if the model is still at this revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<i64>,
}

method!(ModelPutDocument, "model.put_document", Admin -> Changed);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_source_is_a_text_or_a_path() {
        let import: ModelImport =
            serde_json::from_value(json!({ "source": { "text": "x" } })).unwrap();
        assert_eq!(import.source, ImportSource::Text("x".into()));
        assert_eq!((import.format, import.dry_run), (ImportFormat::Auto, false));
        let import: ModelImport =
            serde_json::from_value(json!({ "source": { "path": "/x" }, "format": "preset" }))
                .unwrap();
        assert_eq!(import.source, ImportSource::Path(WirePath::from("/x")));
        assert!(serde_json::from_value::<ModelImport>(json!({ "source": {} })).is_err());
    }
}
