//! `defaults.*`: settings that hold for every model which does not say otherwise.

use crate::UnixMs;
use crate::method::method;
use crate::model::{Difference, SettingsChange};
use crate::options::Settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings that hold for every model which does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Defaults {
    /// The settings that were set. A secret is shown as `{"secret": "kept"}`.
    pub settings: Settings,
    /// Counts changes, from 0; pass it as `if_revision` to change only what you have seen.
    pub revision: i64,
    /// When they were changed last; `null` when they never were.
    pub changed_at_ms: Option<UnixMs>,
}

/// Shows the defaults for all models.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefaultsShow {}

method!(DefaultsShow, "defaults.show", Observe -> Defaults);

/// Sets and unsets defaults for all models, all or none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefaultsSet {
    /// What to change.
    #[serde(flatten)]
    pub change: SettingsChange,
}

/// The defaults after a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DefaultsChanged {
    /// The defaults as they are after the change.
    pub defaults: Defaults,
    /// `false` when they were like this already.
    pub changed: bool,
    /// What is different, secrets not shown.
    #[serde(default)]
    pub changes: Vec<Difference>,
    /// Models whose running servers still have the old settings.
    pub takes_effect_on_restart: Vec<String>,
    /// What the caller should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

method!(DefaultsSet, "defaults.set", Admin -> DefaultsChanged);
