//! Images and sound.

use super::{MAX_TOKENS, Setting, integer, refused, setting};
use crate::options::{Group, Values};

const fn multimodal(
    key: &'static str,
    values: Values<'static>,
    help: &'static str,
) -> Setting<'static> {
    setting(Group::Multimodal, key, values, help)
}

pub(super) const SETTINGS: &[Setting<'static>] = &[
    multimodal("mmproj", Values::File, "The projector file that makes a text model see or hear")
        .short(&["mm"])
        .variable("LLAMA_ARG_MMPROJ")
        .example("/models/mmproj.gguf"),
    multimodal(
        "mmproj-auto",
        Values::Switch,
        "Use a projector file that comes with the model without being named",
    )
    .off(&["--no-mmproj", "--no-mmproj-auto"])
    .variable("LLAMA_ARG_MMPROJ_AUTO")
    .default("on")
    .example("true"),
    multimodal("mmproj-offload", Values::Switch, "Compute the projector on the GPU")
        .off(&["--no-mmproj-offload"])
        .variable("LLAMA_ARG_MMPROJ_OFFLOAD")
        .default("on")
        .example("true"),
    multimodal(
        "image-min-tokens",
        integer(1, MAX_TOKENS),
        "The fewest tokens an image becomes, for models that can choose",
    )
    .variable("LLAMA_ARG_IMAGE_MIN_TOKENS")
    .unit("tokens")
    .default("read from model")
    .example("64"),
    multimodal(
        "image-max-tokens",
        integer(1, MAX_TOKENS),
        "The most tokens an image becomes, for models that can choose",
    )
    .variable("LLAMA_ARG_IMAGE_MAX_TOKENS")
    .unit("tokens")
    .default("read from model")
    .example("1024"),
    multimodal(
        "mtmd-batch-max-tokens",
        integer(1, MAX_TOKENS),
        "The most image tokens encoded in one step",
    )
    .variable("LLAMA_ARG_MTMD_BATCH_MAX_TOKENS")
    .unit("tokens")
    .default("1024")
    .example("1024"),
    multimodal(
        "media-path",
        Values::Directory,
        "A directory whose files requests may name as file:// URLs",
    )
    .default("disabled")
    .example("/tmp"),
    refused(
        Group::Multimodal,
        "mmproj-url",
        "llamactl downloads nothing: fetch the file, then set mmproj",
    )
    .short(&["mmu"])
    .variable("LLAMA_ARG_MMPROJ_URL"),
];
