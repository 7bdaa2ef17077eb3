//! `model.*`: the registry of models.

use crate::actor::Actor;
use crate::bounds::{Aliases, GivenSettings, List, Name, SettingKey, Short};
use crate::method::{method, subscription};
use crate::options::{Settings, layers, secret};
use crate::{UnixMs, WirePath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A model: a name, a GGUF file, settings and aliases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    /// Its id, never reused. The name is a label.
    pub id: i64,
    /// What commands call it by: unique among names and aliases.
    pub name: String,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// The file; of a split model the first part.
    pub path: WirePath,
    /// What the file's header says.
    pub file: ModelFile,
    /// Whether the file is still there and the same; `null` where nobody looked.
    #[serde(default)]
    pub file_state: Option<FileState>,
    /// The settings that were set, by llama-server's long names. What is not here is as the
    /// defaults for all models say, else llama-server's own default. A secret is shown as
    /// `{"secret": "kept"}`.
    pub settings: Settings,
    /// Counts changes; pass it as `if_revision` to change only what you have seen.
    pub revision: i64,
    /// When it was added.
    pub added_at_ms: UnixMs,
    /// When it was changed last.
    pub changed_at_ms: UnixMs,
}

/// How a model's file is, compared with what it was when its header was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// It is there.
    Present,
    /// It, or a part of it, is not there.
    Missing,
    /// Another file, another size or another time of change: `model.verify` looks closer.
    Changed,
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
    /// How many layers it has.
    pub layers: Option<u64>,
    /// How many attention heads a layer has.
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
    pub name: Option<Name>,
    /// Settings to begin with, as [`SettingsChange::set`] takes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: GivenSettings,
}

/// The model, and whether it is new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Added {
    /// The model as it is registered now.
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
    pub after: Option<Name>,
    /// At most this many (1 to 200, 100 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of models.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ModelPage {
    /// The models of this page, by name.
    pub items: Vec<Model>,
    /// Pass as `after` for the next page; `null` on the last.
    pub next: Option<String>,
}

method!(ModelList, "model.list", Observe -> ModelPage);

/// Follows the models: all of them first, then each that was added, changed, renamed or removed, as it is
/// by then. After `missed` all are told anew, and one that is not among them was removed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFollow {
    /// Only what changed behind this cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Short>,
}

/// Models as they are now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelNews {
    /// These, as `model.list` tells them.
    pub models: Vec<Model>,
    /// The ids of those that are no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<i64>,
    /// More belong to this: they come next.
    #[serde(default)]
    pub more: bool,
}

subscription!(ModelFollow, "model", Observe => ModelNews);

/// Shows one model.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelShow {
    /// By name, alias or id.
    pub model: Name,
    /// Also each setting with where it comes from and what is in force.
    #[serde(default)]
    pub resolved: bool,
    /// Every setting of this group, also those nobody set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<SettingKey>,
}

/// Where a setting's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingSource {
    /// Set for the present run alone.
    Run,
    /// The model's own.
    Model,
    /// The defaults for all models.
    Defaults,
    /// Nobody set it.
    LlamaServer,
}

/// One setting of a model, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResolvedSetting {
    /// The key, as `model.set` takes it.
    pub key: String,
    /// The group that help and `model.show` put it in.
    pub group: String,
    /// The value the next start would use; `null` where nobody set one.
    pub value: Option<Value>,
    /// Where that value comes from.
    pub source: SettingSource,
    /// llama-server's default as its help tells it.
    pub default: Option<String>,
    /// What the running server uses: as it reports it, else as it was started; `null` where that
    /// is not known.
    pub in_force: Option<Value>,
    /// The running server has another value, until it is restarted.
    pub pending: bool,
    /// Only the build's own help knows the option: its kind was inferred.
    pub inferred: bool,
}

/// One model with everything known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelDetail {
    /// What the list of models says of it.
    #[serde(flatten)]
    pub model: Model,
    /// The chat template of the file, at most 64 KiB of it.
    pub chat_template: Option<String>,
    /// What its server is doing.
    pub server: crate::server::Server,
    /// Its settings, one by one, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Vec<ResolvedSetting>>,
}

method!(ModelShow, "model.show", Observe -> ModelDetail);

/// Sets and unsets settings, all or none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSet {
    /// By name, alias or id.
    pub model: Name,
    /// What to change.
    #[serde(flatten)]
    pub change: SettingsChange,
}

/// A change of settings: of a model, or of the defaults for all.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct SettingsChange {
    /// Values by key. Text is read as the setting's kind, so `"8192"` and `8192` are the same.
    /// A secret is given as `{"secret_text": "…"}`; `{"secret": "kept"}` leaves the stored one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: GivenSettings,
    /// Keys to take back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: List<SettingKey>,
    /// Settings in llama-server's own spelling: `["-ngl", "99"]`. Behind `set` where both name one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: List<WirePath>,
    /// Where relative paths in `arguments` are taken from, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<WirePath>,
    /// Change only if what is changed is still at this revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<i64>,
}

/// The model after a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// The model as it is after the change.
    pub model: Model,
    /// `false` when it was like this already.
    pub changed: bool,
    /// What is different, secrets not shown.
    #[serde(default)]
    pub changes: Vec<Difference>,
    /// Whether the running server still has the old settings.
    pub takes_effect_on_restart: bool,
    /// What the caller should know: a file that is not there, whom a setting trusts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

method!(ModelSet, "model.set", Admin -> Changed);

/// The command line and environment a start would use now.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelArgs {
    /// By name, alias or id.
    pub model: Name,
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandLine {
    /// The executable, then its arguments, each as the process gets it.
    pub argv: Vec<WirePath>,
    /// The variables set beside those inherited; a secret's value is left out.
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
    pub model: Name,
    /// The new name.
    pub to: Name,
}

method!(ModelRename, "model.rename", Admin -> Changed);

/// Makes a second profile: of the same file, or of another with the same settings. Aliases are not
/// copied.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelCopy {
    /// By name, alias or id.
    pub model: Name,
    /// The copy's name.
    pub to: Name,
    /// The copy's file, absolute; absent: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<WirePath>,
}

method!(ModelCopy, "model.copy", Admin -> Added);

/// Adds and removes aliases, all or none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelAlias {
    /// By name, alias or id.
    pub model: Name,
    /// Names to add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Aliases,
    /// Names to take away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: List<Name>,
}

method!(ModelAlias, "model.alias", Admin -> Changed);

/// Takes a model out of the registry. The file stays.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRemove {
    /// By name, alias or id.
    pub model: Name,
    /// Stop its server first instead of refusing.
    #[serde(default)]
    pub stop: bool,
}

/// The model that was removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Removed {
    /// The id it had, which no other will get.
    pub id: i64,
    /// The name it had, which is free now.
    pub name: String,
}

method!(ModelRemove, "model.remove", Admin -> Removed, Small);

/// Lists what a model was like, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelHistory {
    /// By name, alias or id.
    pub model: Name,
    /// Only revisions before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// At most this many (1 to 200, 100 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// What a model was like from one change to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Revision {
    /// Its number; counts up.
    pub revision: i64,
    /// When it was made.
    pub at_ms: UnixMs,
    /// Who made it: the method and the peer.
    pub by: Actor,
    /// What it changed, in one line; empty for one an earlier version wrote.
    pub what: String,
    /// The name it had then.
    pub name: String,
    /// The aliases it had then.
    pub aliases: Vec<String>,
    /// The file it was made from then; of a split model the first part.
    pub path: WirePath,
    /// The settings it had then; a secret is shown as `{"secret": "kept"}`.
    pub settings: Settings,
}

/// A page of revisions.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RevisionPage {
    /// The revisions, newest first.
    pub items: Vec<Revision>,
    /// Pass as `before` for the next page; `null` on the last.
    pub next: Option<i64>,
}

method!(ModelHistory, "model.history", Observe -> RevisionPage);

/// Compares two revisions of a model.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelDiff {
    /// By name, alias or id.
    pub model: Name,
    /// The earlier revision; absent: the one before `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// The later revision; absent: the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
}

/// What differs between two states of a model, or of the defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// A setting's key, `path`, `name` or `aliases`.
    pub key: String,
    /// The value before; `null` where there was none.
    pub from: Option<Value>,
    /// The value after; `null` where there is none.
    pub to: Option<Value>,
}

impl Difference {
    /// What differs between settings, secrets not shown.
    #[must_use]
    pub fn between(before: &Settings, after: &Settings) -> Vec<Difference> {
        let shown = |value: Option<&Value>| {
            value.map(|value| match secret::is_secret(value) {
                true => secret::shown(),
                false => value.clone(),
            })
        };
        let keys = layers::differences(before, after).into_iter();
        keys.map(|key| Difference {
            from: shown(before.get(&key)),
            to: shown(after.get(&key)),
            key,
        })
        .collect()
    }
}

impl Model {
    /// What differs between two states of a model: its file, then its settings.
    #[must_use]
    pub fn differences(&self, now: &Model) -> Vec<Difference> {
        let path = (self.path != now.path).then(|| Difference {
            key: "path".to_owned(),
            from: Some(json!(self.path)),
            to: Some(json!(now.path)),
        });
        path.into_iter().chain(Difference::between(&self.settings, &now.settings)).collect()
    }
}

/// What changed from one revision to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionDiff {
    /// The model's name.
    pub model: String,
    /// The earlier revision.
    pub from: i64,
    /// The later revision.
    pub to: i64,
    /// What differs, by key. A secret that was replaced differs and its values look alike.
    pub changes: Vec<Difference>,
}

method!(ModelDiff, "model.diff", Observe -> RevisionDiff);

/// Makes settings and file what they were at a revision. Name and aliases stay. This is a change
/// like any other, with a revision of its own.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRollback {
    /// By name, alias or id.
    pub model: Name,
    /// The revision to go back to; absent: the one before the present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
    /// Change only if the model is still at this revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<i64>,
}

method!(ModelRollback, "model.rollback", Admin -> Changed);

/// Reads the key clients must give to a model's server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelKey {
    /// By name, alias or id.
    pub model: Name,
}

/// A key that clients of a server must give.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Key {
    /// The text clients send as `Authorization: Bearer …`.
    pub key: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

method!(ModelKey, "model.key", Admin -> Key, Small);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_is_flat_and_knows_its_fields() {
        let set: ModelSet =
            serde_json::from_value(json!({ "model": "m", "set": { "temp": 1 }, "if_revision": 3 }))
                .unwrap();
        assert_eq!((set.change.set.len(), set.change.if_revision), (1, Some(3)));
        let wrong = json!({ "model": "m", "sett": {} });
        let refused = serde_json::from_value::<ModelSet>(wrong).unwrap_err().to_string();
        assert!(refused.contains("unknown field `sett`"), "{refused}");
    }
}
