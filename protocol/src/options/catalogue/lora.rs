//! Adapters and control vectors.

use super::{Setting, list, setting};
use crate::options::{Group, Item, Values};

const fn lora(key: &'static str, values: Values<'static>, help: &'static str) -> Setting<'static> {
    setting(Group::Lora, key, values, help)
}

pub(super) const SETTINGS: &[Setting<'static>] = &[
    lora("lora", list(Item::File), "LoRA adapters to load, each at full strength")
        .old(&["lora_adapter"])
        .example("/models/adapter.gguf"),
    lora("lora-scaled", list(Item::ScaledFile), "LoRA adapters to load, each with its strength")
        .example("/models/adapter.gguf:0.5"),
    lora(
        "lora-init-without-apply",
        Values::Switch,
        "Load the adapters and leave it to POST /lora-adapters to switch them on",
    )
    .default("off")
    .example("false"),
    lora("control-vector", list(Item::File), "Control vectors to add, each at full strength")
        .example("/models/vector.gguf"),
    lora(
        "control-vector-scaled",
        list(Item::ScaledFile),
        "Control vectors to add, each with its strength",
    )
    .example("/models/vector.gguf:0.5"),
    lora(
        "control-vector-layer-range",
        Values::Pair,
        "The first and the last layer control vectors work on",
    )
    .example("1 2"),
];
