//! What runs on which GPU.

use super::{
    LAYERS, MAX_LAYERS, MAX_TOKENS, ON_OFF_AUTO, Setting, choice, integer, integer_or, list,
    refused, setting,
};
use crate::options::{Group, Item, Values};

const fn gpu(key: &'static str, values: Values<'static>, help: &'static str) -> Setting<'static> {
    setting(Group::Gpu, key, values, help)
}

pub(super) const SETTINGS: &[Setting<'static>] = &[
    gpu(
        "gpu-layers",
        integer_or(0, MAX_LAYERS, &["auto", "all"]),
        "Layers to keep on the GPU: a number, auto or all",
    )
    .spelled(LAYERS)
    .long(&["n-gpu-layers"])
    .short(&["ngl"])
    .variable("LLAMA_ARG_N_GPU_LAYERS")
    .unit("layers")
    .default("auto")
    .example("0"),
    gpu(
        "device",
        list(Item::Device),
        "The devices to use, as llamactl runtime show names them; none keeps all on the CPU",
    )
    .short(&["dev"])
    .variable("LLAMA_ARG_DEVICE")
    .example("none"),
    gpu(
        "split-mode",
        choice(&["none", "layer", "row", "tensor"]),
        "How a model is spread over several GPUs: not at all, by layers, by rows, or by \
         tensors (experimental)",
    )
    .short(&["sm"])
    .variable("LLAMA_ARG_SPLIT_MODE")
    .default("layer")
    .example("layer"),
    gpu(
        "tensor-split",
        list(Item::Real { min: 0.0, max: f64::INFINITY }),
        "The share of the model each GPU gets, in the order of the devices",
    )
    .short(&["ts"])
    .variable("LLAMA_ARG_TENSOR_SPLIT")
    .example("3,1"),
    gpu(
        "main-gpu",
        integer(0, 127),
        "The GPU that holds the model with split-mode none, or what is not split with row",
    )
    .short(&["mg"])
    .variable("LLAMA_ARG_MAIN_GPU")
    .default("0")
    .example("0"),
    gpu(
        "fit",
        choice(&["on", "off"]),
        "Let llama-server lower what nobody set until the model fits in memory",
    )
    .spelled(ON_OFF_AUTO)
    .short(&["fit"])
    .variable("LLAMA_ARG_FIT")
    .default("on")
    .example("on"),
    gpu(
        "fit-target",
        list(Item::Integer { min: 0, max: 1 << 24 }),
        "Memory that fit leaves free on each device; one number counts for all",
    )
    .short(&["fitt"])
    .variable("LLAMA_ARG_FIT_TARGET")
    .unit("MiB")
    .default("1024")
    .example("512"),
    gpu("fit-ctx", integer(0, MAX_TOKENS), "The smallest context fit may choose")
        .short(&["fitc"])
        .variable("LLAMA_ARG_FIT_CTX")
        .unit("tokens")
        .default("4096")
        .example("4096"),
    gpu(
        "cpu-moe",
        Values::Switch,
        "Keep the weights of all experts of a mixture-of-experts model in host memory",
    )
    .short(&["cmoe"])
    .variable("LLAMA_ARG_CPU_MOE")
    .default("off")
    .example("false"),
    gpu("n-cpu-moe", integer(0, 9999), "Layers, from the first, whose experts stay in host memory")
        .short(&["ncmoe"])
        .variable("LLAMA_ARG_N_CPU_MOE")
        .unit("layers")
        .example("0"),
    gpu(
        "override-tensor",
        list(Item::Tensors),
        "Where tensors whose names match a pattern are kept",
    )
    .short(&["ot"])
    .variable("LLAMA_ARG_OVERRIDE_TENSOR")
    .example("exps=CPU"),
    gpu("op-offload", Values::Switch, "Let the GPU compute with weights that are in host memory")
        .off(&["--no-op-offload"])
        .default("on")
        .example("true"),
    gpu(
        "rpc",
        list(Item::Address),
        "Machines that run ggml-rpc-server and compute part of the model",
    )
    .variable("LLAMA_ARG_RPC")
    .example("127.0.0.1:50052"),
    refused(
        Group::Gpu,
        "list-devices",
        "it prints and exits; llamactl runtime show lists the devices",
    )
    .values(Values::Switch),
];
