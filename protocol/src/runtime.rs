//! `runtime.*`: llama-server builds, several side by side.
//!
//! A runtime is a name and the path of a llama-server. `system` is the one that is found without
//! being told; it is always there and needs no adding. A model uses the runtime its settings name,
//! else the default one.

use crate::bounds::{GivenSettings, List, Name, SettingKey};
use crate::failure::Failure;
use crate::method::method;
use crate::options::BuildOption;
use crate::{UnixMs, WirePath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A device a build can offload to, as its `--list-devices` names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// What the option `device` calls it: `CUDA0`, `Vulkan1`, …
    pub name: String,
    /// What it is.
    pub description: String,
    /// All of its memory, where the build tells.
    pub memory_total_bytes: Option<u64>,
    /// What of it was free when the build was asked.
    pub memory_free_bytes: Option<u64>,
}

/// A runtime: what it is, and who uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeEntry {
    /// What models name it by: unique, `system` for the one that needs no adding.
    pub name: String,
    /// The llama-server as it was named; `null` when the one without being told is not found.
    pub path: Option<WirePath>,
    /// What it said of its version when it was looked at last; `null` when it said nothing.
    pub version: Option<String>,
    /// Whether models use it that name no other.
    pub is_default: bool,
    /// Whether the file is there and may be run.
    pub found: bool,
    /// Why it cannot be used; `null` when it can.
    pub problem: Option<Failure>,
    /// Whether the file was replaced since it was looked at.
    pub changed: bool,
    /// Whether it reports load progress to the program that starts it.
    pub reports_progress: Option<bool>,
    /// How many options it has.
    pub options_total: Option<u64>,
    /// The devices it can offload to.
    pub devices: Option<Vec<Device>>,
    /// Variables for its servers; secrets are masked.
    pub environment: BTreeMap<String, Value>,
    /// The models whose settings name it.
    pub models: Vec<String>,
    /// Whether the defaults for all models name it.
    pub named_by_defaults: bool,
    /// When it was added; `null` for the one that needs no adding.
    pub added_at_ms: Option<UnixMs>,
    /// Counts its changes; pass it as `if_revision` to change only what you have seen. `null` for
    /// the one that needs no adding.
    #[serde(default)]
    pub revision: Option<i64>,
}

/// A setting of a model that a build does not take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedSetting {
    /// The name of the model that has it.
    pub model: String,
    /// The setting's key.
    pub key: String,
    /// Why the build does not take it, and what to set instead.
    pub failure: Failure,
}

/// Adds a llama-server under a name. It is run to ask for its version, its options and its
/// devices.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeAdd {
    /// The executable, absolute.
    pub path: WirePath,
    /// The name; absent: after the directory it lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Variables for its servers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: GivenSettings,
}

/// The runtime, and whether it is new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeAdded {
    /// The runtime as it is registered now.
    pub runtime: RuntimeEntry,
    /// `false` when the same path was there under the same name already.
    pub added: bool,
    /// What the caller should know.
    pub notes: Vec<String>,
}

method!(RuntimeAdd, "runtime.add", Admin -> RuntimeAdded);

/// Lists all runtimes, `system` first, then by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeList {
    /// Only runtimes behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Name>,
    /// At most this many (1 to 200, 100 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of runtimes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimePage {
    /// The runtimes of this page.
    pub items: Vec<RuntimeEntry>,
    /// Pass as `after` for the next page; `null` on the last.
    pub next: Option<String>,
}

method!(RuntimeList, "runtime.list", Observe -> RuntimePage);

/// Shows one runtime with all its options.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeShow {
    /// The name of the runtime to show.
    pub name: Name,
}

/// An option of a build, beside what llamactl knows of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeOption {
    /// What the build says.
    #[serde(flatten)]
    pub option: BuildOption,
    /// Whether llamactl's catalogue of settings knows it; what it does not know can be set all the
    /// same, its kind inferred from the help.
    pub in_catalogue: bool,
}

/// A runtime with all its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeDetail {
    /// What the list of runtimes says of it.
    #[serde(flatten)]
    pub runtime: RuntimeEntry,
    /// Its options, in the order of its help.
    pub options: Vec<RuntimeOption>,
}

method!(RuntimeShow, "runtime.show", Observe -> RuntimeDetail);

/// Makes a runtime the one that models use which name no other. `system` goes back to the one that
/// is found without being told.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeUse {
    /// The name of the runtime that shall be the default.
    pub name: Name,
}

/// The default runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeUsed {
    /// The runtime that is the default now.
    pub runtime: RuntimeEntry,
    /// `false` when it was the default already.
    pub changed: bool,
    /// Settings of the models that use it now, and that it does not take.
    pub refused: Vec<RefusedSetting>,
}

method!(RuntimeUse, "runtime.use", Admin -> RuntimeUsed);

/// Sets and unsets variables for a runtime's servers, all or none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeSet {
    /// The name of the runtime to change.
    pub name: Name,
    /// Values by key, `env.` and the variable's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: GivenSettings,
    /// Keys to take back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: List<SettingKey>,
    /// Change only if the runtime is still at this revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<i64>,
}

/// A runtime after a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeChanged {
    /// The runtime with its variables of now.
    pub runtime: RuntimeEntry,
    /// `false` when it was like this already. Servers take a change on restart.
    pub changed: bool,
    /// What the caller should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

method!(RuntimeSet, "runtime.set", Admin -> RuntimeChanged);

/// Takes a runtime out of the registry; its files stay. Refused while something names it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeRemove {
    /// The name of the runtime to take out.
    pub name: Name,
}

/// A runtime that is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeRemoved {
    /// The name it had.
    pub name: String,
    /// Where its llama-server is.
    pub path: WirePath,
}

method!(RuntimeRemove, "runtime.remove", Admin -> RuntimeRemoved);

/// Looks at runtimes anew: a build that was replaced on disk, devices that came or went.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeRefresh {
    /// Which; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
}

/// What became of a runtime since it was looked at before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeRefreshed {
    /// The runtime as it is now. Where it has a problem, nothing else is known.
    pub runtime: RuntimeEntry,
    /// Whether it is another build, or has other options or devices.
    pub changed: bool,
    /// The version before.
    pub old_version: Option<String>,
    /// The version now.
    pub new_version: Option<String>,
    /// Options it has and had not.
    pub gained: Vec<String>,
    /// Options it had and has no more.
    pub lost: Vec<String>,
    /// Settings of models that use it, and that it does not take. Their servers would not start.
    pub refused: Vec<RefusedSetting>,
}

/// All runtimes that were looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimesRefreshed {
    /// Each of them.
    pub items: Vec<RuntimeRefreshed>,
}

method!(RuntimeRefresh, "runtime.refresh", Admin -> RuntimesRefreshed);
