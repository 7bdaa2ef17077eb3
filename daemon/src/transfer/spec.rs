//! What an import asks for, whatever it was written as.

use super::omissions::Omissions;
use super::position::At;
use llamactl_protocol::WirePath;
use llamactl_protocol::options::Settings;
use serde_json::Value;
use std::collections::BTreeMap;

/// A setting's value and where it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// The value as it was written, or checked already.
    pub value: Value,
    /// Where, in a text.
    pub at: Option<At>,
}

/// Settings by the names they were given under.
pub type GivenSettings = BTreeMap<String, Given>;

/// Settings of a model, or the defaults for all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SettingsSpec {
    /// Settings by the names they were given under, not checked yet.
    pub given: GivenSettings,
    /// Whether what is not among them is unset.
    pub exact: bool,
}

impl SettingsSpec {
    /// Settings that are set beside those there are.
    #[must_use]
    pub fn merged(settings: Settings) -> SettingsSpec {
        let given = |(key, value)| (key, Given { value, at: None });
        SettingsSpec { given: settings.into_iter().map(given).collect(), exact: false }
    }
}

/// A model as it shall be. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSpec {
    /// The name, not checked yet.
    pub name: String,
    /// Where it stood.
    pub at: Option<At>,
    /// The other names it is to have, in place of those it has.
    pub aliases: Option<Vec<String>>,
    /// Its file, absolute.
    pub path: Option<WirePath>,
    /// The settings, beside those it has or in their place.
    pub settings: Option<SettingsSpec>,
    /// A model of this name with another file is another model: this one gets the next free name.
    pub apart: bool,
}

/// A llama-server build as it shall be.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeSpec {
    /// The name, not checked yet.
    pub name: String,
    /// Where it stood.
    pub at: Option<At>,
    /// The executable, absolute.
    pub path: WirePath,
    /// Variables for its servers.
    pub environment: Settings,
    /// Whether models use it that name no other.
    pub is_default: bool,
}

/// All that an import asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportSpec {
    /// What cannot be fails the whole; otherwise it is left out and said.
    pub strict: bool,
    /// The defaults for all models.
    pub defaults: Option<SettingsSpec>,
    /// Models, in the order they stood.
    pub models: Vec<ModelSpec>,
    /// Runtimes, in the order they stood.
    pub runtimes: Vec<RuntimeSpec>,
    /// What the reader could not take in.
    pub left_out: Omissions,
    /// What the reader has to say.
    pub notes: Vec<String>,
}
