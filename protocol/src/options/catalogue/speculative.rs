//! Drafting tokens ahead.

use super::{
    CACHE_TYPES, EACH_CORE, LAYERS, MAX_LAYERS, MAX_THREADS, Setting, choice, integer, integer_or,
    list, real, refused, setting,
};
use crate::options::{Group, Item, Values, Words};

/// The kinds of speculation.
const SPECULATION: Words<'static> = Words::These(&[
    "none",
    "draft-simple",
    "draft-eagle3",
    "draft-mtp",
    "draft-dflash",
    "draft-dspark",
    "ngram-simple",
    "ngram-map-k",
    "ngram-map-k4v",
    "ngram-mod",
    "ngram-cache",
]);

/// What the options say that today's builds refuse by name.
const DROPPED: &str = "b10434 refuses it; builds that still have it can be given it";

const fn speculative(
    key: &'static str,
    values: Values<'static>,
    help: &'static str,
) -> Setting<'static> {
    setting(Group::Speculative, key, values, help)
}

pub(super) const SETTINGS: &[Setting<'static>] = &[
    speculative(
        "spec-type",
        list(Item::Word(SPECULATION)),
        "How tokens are guessed ahead: with a draft model, or from what was said before",
    )
    .variable("LLAMA_ARG_SPEC_TYPE")
    .default("none")
    .example("none"),
    speculative(
        "spec-default",
        Values::Switch,
        "Guess ahead in the way llama-server thinks best without a draft model",
    )
    .default("off")
    .example("false"),
    speculative(
        "spec-draft-model",
        Values::File,
        "A small model of the same vocabulary, which drafts tokens ahead",
    )
    .long(&["model-draft"])
    .short(&["md"])
    .variable("LLAMA_ARG_SPEC_DRAFT_MODEL")
    .default("unused")
    .example("/models/draft.gguf"),
    speculative("spec-draft-n-max", integer(0, 1024), "The most tokens drafted at a time")
        .variable("LLAMA_ARG_SPEC_DRAFT_N_MAX")
        .unit("tokens")
        .default("3")
        .example("8")
        .builds("older builds call it draft-max"),
    speculative("spec-draft-n-min", integer(0, 1024), "Drafts shorter than this are dropped")
        .variable("LLAMA_ARG_SPEC_DRAFT_N_MIN")
        .unit("tokens")
        .default("0")
        .example("0")
        .builds("older builds call it draft-min"),
    speculative(
        "spec-draft-p-min",
        real(0.0, 1.0),
        "Drafting ends at a token less likely than this",
    )
    .long(&["draft-p-min"])
    .variable("LLAMA_ARG_SPEC_DRAFT_P_MIN")
    .default("0.00")
    .example("0.75"),
    speculative(
        "spec-draft-p-split",
        real(0.0, 1.0),
        "The probability from which a draft is split into branches",
    )
    .long(&["draft-p-split"])
    .variable("LLAMA_ARG_SPEC_DRAFT_P_SPLIT")
    .default("0.10")
    .example("0.1"),
    speculative(
        "spec-draft-ngl",
        integer_or(0, MAX_LAYERS, &["auto", "all"]),
        "Layers of the draft model to keep on the GPU: a number, auto or all",
    )
    .spelled(LAYERS)
    .long(&["gpu-layers-draft", "n-gpu-layers-draft"])
    .short(&["ngld"])
    .variable("LLAMA_ARG_N_GPU_LAYERS_DRAFT")
    .unit("layers")
    .default("auto")
    .example("0"),
    speculative(
        "spec-draft-device",
        list(Item::Device),
        "The devices for the draft model; none keeps it on the CPU",
    )
    .long(&["device-draft"])
    .short(&["devd"])
    .example("none"),
    speculative(
        "spec-draft-backend-sampling",
        Values::Switch,
        "Let the GPU choose the drafted tokens",
    )
    .off(&["--no-spec-draft-backend-sampling"])
    .variable("LLAMA_ARG_SPEC_DRAFT_BACKEND_SAMPLING")
    .default("on")
    .example("true"),
    speculative(
        "spec-draft-type-k",
        choice(CACHE_TYPES),
        "The number type of the keys in the draft model's KV cache",
    )
    .long(&["cache-type-k-draft"])
    .short(&["ctkd"])
    .variable("LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_K")
    .default("f16")
    .example("f16"),
    speculative(
        "spec-draft-type-v",
        choice(CACHE_TYPES),
        "The number type of the values in the draft model's KV cache",
    )
    .long(&["cache-type-v-draft"])
    .short(&["ctvd"])
    .variable("LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_V")
    .default("f16")
    .example("f16"),
    speculative(
        "spec-draft-override-tensor",
        list(Item::Tensors),
        "Where tensors of the draft model whose names match a pattern are kept",
    )
    .long(&["override-tensor-draft"])
    .short(&["otd"])
    .example("exps=CPU"),
    speculative(
        "spec-draft-cpu-moe",
        Values::Switch,
        "Keep the weights of all experts of the draft model in host memory",
    )
    .long(&["cpu-moe-draft"])
    .short(&["cmoed"])
    .variable("LLAMA_ARG_SPEC_DRAFT_CPU_MOE")
    .default("off")
    .example("false"),
    speculative(
        "spec-draft-n-cpu-moe",
        integer(0, 9999),
        "Layers of the draft model, from the first, whose experts stay in host memory",
    )
    .long(&["spec-draft-ncmoe", "n-cpu-moe-draft"])
    .short(&["ncmoed"])
    .variable("LLAMA_ARG_SPEC_DRAFT_N_CPU_MOE")
    .unit("layers")
    .example("0"),
    speculative(
        "spec-draft-threads",
        integer_or(1, MAX_THREADS, &["-1"]),
        "CPU threads for drafting; unset, as many as threads says",
    )
    .spelled(EACH_CORE)
    .long(&["threads-draft"])
    .short(&["td"])
    .unit("threads")
    .default("same as --threads")
    .example("2"),
    speculative(
        "spec-draft-threads-batch",
        integer_or(1, MAX_THREADS, &["-1"]),
        "CPU threads with which the draft model reads prompts",
    )
    .spelled(EACH_CORE)
    .long(&["threads-batch-draft"])
    .short(&["tbd"])
    .unit("threads")
    .default("same as --threads-draft")
    .example("2"),
    speculative("spec-draft-cpu-mask", Values::CpuMask, "The CPUs to draft on, as a bit mask")
        .long(&["cpu-mask-draft"])
        .short(&["Cd"])
        .default("same as --cpu-mask")
        .example("3"),
    speculative("spec-draft-cpu-range", Values::CpuRange, "The CPUs to draft on, as a range")
        .long(&["cpu-range-draft"])
        .short(&["Crd"])
        .example("0-1"),
    speculative(
        "spec-draft-cpu-strict",
        choice(&["0", "1"]),
        "Keep each drafting thread on a CPU of its own",
    )
    .long(&["cpu-strict-draft"])
    .default("same as --cpu-strict")
    .example("0"),
    speculative(
        "spec-draft-prio",
        integer(0, 3),
        "Priority of the drafting threads, from 0 to 3 (realtime, which needs privileges)",
    )
    .long(&["prio-draft"])
    .default("0")
    .example("0"),
    speculative(
        "spec-draft-poll",
        choice(&["0", "1"]),
        "Whether idle drafting threads look for work without sleeping",
    )
    .long(&["poll-draft"])
    .default("same as --poll")
    .example("1"),
    speculative(
        "spec-draft-cpu-mask-batch",
        Values::CpuMask,
        "The CPUs on which the draft model reads prompts, as a bit mask",
    )
    .long(&["cpu-mask-batch-draft"])
    .short(&["Cbd"])
    .default("same as --cpu-mask")
    .example("3"),
    speculative(
        "spec-draft-cpu-strict-batch",
        choice(&["0", "1"]),
        "Keep each thread with which the draft model reads prompts on a CPU of its own",
    )
    .long(&["cpu-strict-batch-draft"])
    .default("--cpu-strict-draft")
    .example("0"),
    speculative(
        "spec-draft-prio-batch",
        integer(0, 3),
        "Priority of the threads with which the draft model reads prompts, from 0 to 3",
    )
    .long(&["prio-batch-draft"])
    .default("0")
    .example("0"),
    speculative(
        "spec-draft-poll-batch",
        choice(&["0", "1"]),
        "Whether idle threads with which the draft model reads prompts look for work without \
         sleeping",
    )
    .long(&["poll-batch-draft"])
    .default("--poll-draft")
    .example("1"),
    speculative(
        "spec-ngram-mod-n-match",
        integer(1, 1024),
        "Tokens that must match for ngram-mod to guess on",
    )
    .unit("tokens")
    .default("24")
    .example("24"),
    speculative(
        "spec-ngram-mod-n-min",
        integer(0, 1024),
        "Guesses of ngram-mod shorter than this are dropped",
    )
    .unit("tokens")
    .default("48")
    .example("48"),
    speculative(
        "spec-ngram-mod-n-max",
        integer(1, 1024),
        "The most tokens ngram-mod guesses at a time",
    )
    .unit("tokens")
    .default("64")
    .example("64"),
    speculative(
        "spec-ngram-simple-size-n",
        integer(1, 1024),
        "Tokens that must match for ngram-simple to guess on",
    )
    .unit("tokens")
    .default("12")
    .example("12"),
    speculative(
        "spec-ngram-simple-size-m",
        integer(1, 1024),
        "Tokens ngram-simple guesses at a time",
    )
    .unit("tokens")
    .default("48")
    .example("48"),
    speculative(
        "spec-ngram-simple-min-hits",
        integer(1, 1024),
        "How often a sequence must have come before ngram-simple uses it",
    )
    .default("1")
    .example("1"),
    speculative(
        "spec-ngram-map-k-size-n",
        integer(1, 1024),
        "Tokens that must match for ngram-map-k to guess on",
    )
    .unit("tokens")
    .default("12")
    .example("12"),
    speculative(
        "spec-ngram-map-k-size-m",
        integer(1, 1024),
        "Tokens ngram-map-k guesses at a time",
    )
    .unit("tokens")
    .default("48")
    .example("48"),
    speculative(
        "spec-ngram-map-k-min-hits",
        integer(1, 1024),
        "How often a sequence must have come before ngram-map-k uses it",
    )
    .default("1")
    .example("1"),
    speculative(
        "spec-ngram-map-k4v-size-n",
        integer(1, 1024),
        "Tokens that must match for ngram-map-k4v to guess on",
    )
    .unit("tokens")
    .default("12")
    .example("12"),
    speculative(
        "spec-ngram-map-k4v-size-m",
        integer(1, 1024),
        "Tokens ngram-map-k4v guesses at a time",
    )
    .unit("tokens")
    .default("48")
    .example("48"),
    speculative(
        "spec-ngram-map-k4v-min-hits",
        integer(1, 1024),
        "How often a sequence must have come before ngram-map-k4v uses it",
    )
    .default("1")
    .example("1"),
    speculative(
        "lookup-cache-static",
        Values::File,
        "A file of token sequences for ngram-cache, which is only read",
    )
    .short(&["lcs"])
    .example("/models/lookup-static.bin"),
    speculative(
        "lookup-cache-dynamic",
        Values::File,
        "A file of token sequences for ngram-cache, which grows with what is written",
    )
    .short(&["lcd"])
    .example("/models/lookup-dynamic.bin"),
    refused(
        Group::Speculative,
        "spec-draft-hf",
        "llamactl downloads nothing: fetch the file, then set spec-draft-model",
    )
    .long(&["hf-repo-draft"])
    .short(&["hfd", "hfrd"])
    .variable("LLAMA_ARG_SPEC_DRAFT_HF_REPO"),
    refused(
        Group::Speculative,
        "draft",
        "set spec-draft-n-max, or spec-ngram-mod-n-max without a draft model",
    )
    .values(integer(0, 1024))
    .long(&["draft-n", "draft-max"])
    .variable("LLAMA_ARG_DRAFT_MAX")
    .builds(DROPPED),
    refused(
        Group::Speculative,
        "draft-min",
        "set spec-draft-n-min, or spec-ngram-mod-n-min without a draft model",
    )
    .values(integer(0, 1024))
    .long(&["draft-n-min"])
    .variable("LLAMA_ARG_DRAFT_MIN")
    .builds(DROPPED),
    refused(
        Group::Speculative,
        "spec-ngram-size-n",
        "set size-n of the kind in use, such as spec-ngram-simple-size-n, or \
         spec-ngram-mod-n-match",
    )
    .values(integer(1, 1024))
    .builds(DROPPED),
    refused(
        Group::Speculative,
        "spec-ngram-size-m",
        "set size-m of the kind in use, such as spec-ngram-simple-size-m",
    )
    .values(integer(1, 1024))
    .builds(DROPPED),
    refused(
        Group::Speculative,
        "spec-ngram-min-hits",
        "set min-hits of the kind in use, such as spec-ngram-simple-min-hits",
    )
    .values(integer(1, 1024))
    .builds(DROPPED),
];
