//! Threads, attention, slots.

use super::{
    EACH_CORE, MAX_THREADS, MAX_TOKENS, ON_OFF_AUTO, Setting, choice, integer, integer_or, real,
    setting,
};
use crate::options::{Group, Values};

const fn advanced(
    key: &'static str,
    values: Values<'static>,
    help: &'static str,
) -> Setting<'static> {
    setting(Group::Advanced, key, values, help)
}

pub(super) const SETTINGS: &[Setting<'static>] = &[
    advanced(
        "threads",
        integer_or(1, MAX_THREADS, &["-1"]),
        "CPU threads for writing answers; -1 takes one for each core",
    )
    .spelled(EACH_CORE)
    .short(&["t"])
    .variable("LLAMA_ARG_THREADS")
    .unit("threads")
    .default("-1")
    .example("2"),
    advanced(
        "threads-batch",
        integer_or(1, MAX_THREADS, &["-1"]),
        "CPU threads for reading prompts; unset, as many as threads says",
    )
    .spelled(EACH_CORE)
    .short(&["tb"])
    .unit("threads")
    .default("same as --threads")
    .example("2"),
    advanced("cpu-mask", Values::CpuMask, "The CPUs to run on, as a bit mask")
        .short(&["C"])
        .example("3"),
    advanced("cpu-range", Values::CpuRange, "The CPUs to run on, as a range")
        .short(&["Cr"])
        .example("0-1"),
    advanced("cpu-strict", choice(&["0", "1"]), "Keep each thread on a CPU of its own")
        .default("0")
        .example("0"),
    advanced(
        "prio",
        integer(-1, 3),
        "Priority of the threads, from -1 (low) to 3 (realtime, which needs privileges)",
    )
    .old(&["priority"])
    .default("0")
    .example("0"),
    advanced("poll", integer(0, 100), "How eagerly idle threads look for work; 0 lets them sleep")
        .old(&["polling"])
        .default("50")
        .example("50"),
    advanced("cpu-mask-batch", Values::CpuMask, "The CPUs to read prompts on, as a bit mask")
        .short(&["Cb"])
        .default("same as --cpu-mask")
        .example("3"),
    advanced("cpu-range-batch", Values::CpuRange, "The CPUs to read prompts on, as a range")
        .short(&["Crb"])
        .example("0-1"),
    advanced(
        "cpu-strict-batch",
        choice(&["0", "1"]),
        "Keep each thread that reads prompts on a CPU of its own",
    )
    .default("same as --cpu-strict")
    .example("0"),
    advanced(
        "prio-batch",
        integer(0, 3),
        "Priority of the threads that read prompts, from 0 to 3 (realtime, which needs \
         privileges)",
    )
    .old(&["priority_batch"])
    .default("0")
    .example("0"),
    advanced(
        "poll-batch",
        choice(&["0", "1"]),
        "Whether idle threads that read prompts look for work without sleeping",
    )
    .old(&["polling_batch"])
    .default("same as --poll")
    .example("1"),
    advanced(
        "numa",
        choice(&["distribute", "isolate", "numactl"]),
        "How threads are placed on a machine of several memory nodes",
    )
    .variable("LLAMA_ARG_NUMA")
    .example("distribute"),
    advanced(
        "flash-attn",
        choice(&["on", "off", "auto"]),
        "Whether attention is computed in the way that needs less memory",
    )
    .spelled(ON_OFF_AUTO)
    .short(&["fa"])
    .variable("LLAMA_ARG_FLASH_ATTN")
    .default("auto")
    .example("auto"),
    advanced(
        "parallel",
        integer_or(1, 256, &["-1"]),
        "Slots, each of which answers one request at a time; -1 lets llama-server choose",
    )
    .short(&["np"])
    .variable("LLAMA_ARG_N_PARALLEL")
    .old(&["n_parallel"])
    .unit("slots")
    .default("-1")
    .example("2"),
    advanced("cont-batching", Values::Switch, "Work on several requests in one step")
        .short(&["cb"])
        .off(&["--no-cont-batching", "-nocb"])
        .variable("LLAMA_ARG_CONT_BATCHING")
        .default("on")
        .example("true"),
    advanced(
        "slot-prompt-similarity",
        real(0.0, 1.0),
        "How much of a slot's prompt a request must share to be given that slot; 0 does not \
         look",
    )
    .short(&["sps"])
    .default("0.10")
    .example("0.1"),
    advanced(
        "warmup",
        Values::Switch,
        "Compute once with nothing after loading, so that the first request is not slow",
    )
    .off(&["--no-warmup"])
    .default("on")
    .example("true"),
    advanced("perf", Values::Switch, "Measure llama.cpp's inner timings")
        .off(&["--no-perf"])
        .variable("LLAMA_ARG_PERF")
        .default("off")
        .example("false"),
    advanced(
        "rope-scaling",
        choice(&["none", "linear", "yarn"]),
        "How positions are stretched for a context longer than the model was trained for",
    )
    .variable("LLAMA_ARG_ROPE_SCALING_TYPE")
    .old(&["rope_scaling_type"])
    .example("none"),
    advanced("rope-scale", real(0.001, 1000.0), "By how much the context is stretched")
        .variable("LLAMA_ARG_ROPE_SCALE")
        .example("1"),
    advanced(
        "rope-freq-base",
        real(0.0, 1e12),
        "The base frequency of the position encoding; 0 takes the model's own",
    )
    .variable("LLAMA_ARG_ROPE_FREQ_BASE")
    .default("loaded from model")
    .example("0"),
    advanced(
        "rope-freq-scale",
        real(0.0, 1000.0),
        "The frequency factor of the position encoding, the inverse of rope-scale; 0 takes the \
         model's own",
    )
    .variable("LLAMA_ARG_ROPE_FREQ_SCALE")
    .example("1"),
    advanced(
        "yarn-orig-ctx",
        integer(0, MAX_TOKENS),
        "The context the model was trained for; 0 takes what its file says",
    )
    .variable("LLAMA_ARG_YARN_ORIG_CTX")
    .unit("tokens")
    .default("0")
    .example("0"),
    advanced(
        "yarn-ext-factor",
        real(-1.0, 1000.0),
        "How much YaRN extrapolates; 0 only interpolates, -1 takes the model's own",
    )
    .variable("LLAMA_ARG_YARN_EXT_FACTOR")
    .default("-1.00")
    .example("-1"),
    advanced(
        "yarn-attn-factor",
        real(-1.0, 1000.0),
        "How much YaRN scales attention; -1 takes the model's own",
    )
    .variable("LLAMA_ARG_YARN_ATTN_FACTOR")
    .default("-1.00")
    .example("-1"),
    advanced(
        "yarn-beta-slow",
        real(-1.0, 1000.0),
        "YaRN's high correction dimension; -1 takes the model's own",
    )
    .variable("LLAMA_ARG_YARN_BETA_SLOW")
    .default("-1.00")
    .example("-1"),
    advanced(
        "yarn-beta-fast",
        real(-1.0, 1000.0),
        "YaRN's low correction dimension; -1 takes the model's own",
    )
    .variable("LLAMA_ARG_YARN_BETA_FAST")
    .default("-1.00")
    .example("-1"),
    advanced(
        "embedding",
        Values::Switch,
        "Serve embeddings and nothing else, for models made for that",
    )
    .long(&["embeddings"])
    .variable("LLAMA_ARG_EMBEDDINGS")
    .default("off")
    .example("false"),
    advanced("rerank", Values::Switch, "Serve reranking, for models made for that")
        .long(&["reranking"])
        .variable("LLAMA_ARG_RERANKING")
        .default("off")
        .example("false"),
    advanced(
        "pooling",
        choice(&["none", "mean", "cls", "last", "rank"]),
        "How the embeddings of tokens become one; unset, as the model wants it",
    )
    .variable("LLAMA_ARG_POOLING")
    .example("none"),
    advanced(
        "embd-normalize",
        integer(-1, 100),
        "How embeddings are normalised: -1 not, 0 by the greatest, 1 taxicab, 2 Euclidean, \
         above 2 that p-norm",
    )
    .default("2")
    .example("2"),
];
