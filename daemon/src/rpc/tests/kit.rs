//! A small service and a plain client for it.

use llamactl_protocol::{Access, Method, Subscription};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adds a word.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Add {
    /// The word.
    word: String,
}

impl Method for Add {
    const NAME: &'static str = "word.add";
    const ACCESS: Access = Access::Operate;
    type Output = usize;
}

/// Follows ticks.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Ticks {}

impl Subscription for Ticks {
    const NAME: &'static str = "ticks.follow";
    const UNSUBSCRIBE: &'static str = "ticks.unfollow";
    const NOTIFICATION: &'static str = "ticks.item";
    const ACCESS: Access = Access::Observe;
    type Item = u64;
}
