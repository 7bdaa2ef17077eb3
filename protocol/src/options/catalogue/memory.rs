//! Context, batches and caches.

use super::{CACHE_TYPES, MAX_TOKENS, Setting, choice, integer, real, setting};
use crate::options::{Group, Values};

const fn memory(
    key: &'static str,
    values: Values<'static>,
    help: &'static str,
) -> Setting<'static> {
    setting(Group::Memory, key, values, help)
}

pub(super) const SETTINGS: &[Setting<'static>] = &[
    memory(
        "ctx-size",
        integer(0, MAX_TOKENS),
        "Context size, which the slots share; 0 takes the model's own",
    )
    .short(&["c"])
    .variable("LLAMA_ARG_CTX_SIZE")
    .old(&["num_ctx"])
    .unit("tokens")
    .default("0")
    .example("4096"),
    memory("batch-size", integer(1, 1 << 20), "The most tokens of prompts taken on at once")
        .short(&["b"])
        .variable("LLAMA_ARG_BATCH")
        .unit("tokens")
        .default("2048")
        .example("512"),
    memory(
        "ubatch-size",
        integer(1, 1 << 20),
        "The most tokens computed in one step, at most batch-size; it decides the size of the \
         compute buffers",
    )
    .short(&["ub"])
    .variable("LLAMA_ARG_UBATCH")
    .unit("tokens")
    .default("512")
    .example("256"),
    memory(
        "keep",
        integer(-1, MAX_TOKENS),
        "Tokens of the prompt's beginning that context-shift keeps; -1 keeps the whole prompt",
    )
    .unit("tokens")
    .default("0")
    .example("0"),
    memory(
        "swa-full",
        Values::Switch,
        "Keep the whole context for models with sliding window attention, which takes more \
         memory and allows more reuse",
    )
    .variable("LLAMA_ARG_SWA_FULL")
    .default("off")
    .example("true"),
    memory(
        "kv-offload",
        Values::Switch,
        "Keep the KV cache on the GPU; off keeps it in host memory",
    )
    .short(&["kvo"])
    .off(&["--no-kv-offload", "-nkvo"])
    .variable("LLAMA_ARG_KV_OFFLOAD")
    .default("on")
    .example("true"),
    memory("repack", Values::Switch, "Rearrange weights in memory so that the CPU computes faster")
        .off(&["--no-repack", "-nr"])
        .variable("LLAMA_ARG_REPACK")
        .default("on")
        .example("true"),
    memory(
        "no-host",
        Values::Switch,
        "Pass over host buffers, so that other kinds of buffers can hold the weights",
    )
    .variable("LLAMA_ARG_NO_HOST")
    .default("off")
    .example("false"),
    memory(
        "cache-type-k",
        choice(CACHE_TYPES),
        "The number type of the keys in the KV cache; smaller types save memory",
    )
    .short(&["ctk"])
    .variable("LLAMA_ARG_CACHE_TYPE_K")
    .default("f16")
    .example("f16"),
    memory(
        "cache-type-v",
        choice(CACHE_TYPES),
        "The number type of the values in the KV cache; small types need flash attention",
    )
    .short(&["ctv"])
    .variable("LLAMA_ARG_CACHE_TYPE_V")
    .default("f16")
    .example("f16"),
    memory(
        "load-mode",
        choice(&["auto", "none", "mmap", "mlock", "mmap+mlock", "dio"]),
        "How the file is read: mapped (mmap), read whole (none), held in memory (mlock), or \
         past the file cache (dio)",
    )
    .short(&["lm"])
    .variable("LLAMA_ARG_LOAD_MODE")
    .default("auto")
    .example("auto")
    .builds("older builds lack it and have mmap, mlock and direct-io"),
    memory("mlock", Values::Switch, "Hold the model in memory, so that none of it is swapped out")
        .variable("LLAMA_ARG_MLOCK")
        .default("off")
        .example("false")
        .builds("b10434 calls it deprecated and b11434 dropped it: use load-mode=mlock"),
    memory("mmap", Values::Switch, "Map the file instead of reading it whole")
        .off(&["--no-mmap"])
        .variable("LLAMA_ARG_MMAP")
        .example("true")
        .builds(
            "b10434 calls it deprecated and b11434 dropped it: use load-mode=mmap, or none to \
         switch it off",
        ),
    memory("direct-io", Values::Switch, "Read the file past the system's file cache")
        .short(&["dio"])
        .off(&["--no-direct-io", "-ndio"])
        .variable("LLAMA_ARG_DIO")
        .example("false")
        .builds("b10434 calls it deprecated and b11434 dropped it: use load-mode=dio"),
    memory(
        "defrag-thold",
        real(-1.0, 1.0),
        "The share of holes in the KV cache at which it was defragmented",
    )
    .short(&["dt"])
    .variable("LLAMA_ARG_DEFRAG_THOLD")
    .example("0.1")
    .builds("today's builds take it and ignore it"),
    memory(
        "ctx-checkpoints",
        integer(0, 1024),
        "Saved states per slot, from which a changed prompt is taken up again",
    )
    .long(&["swa-checkpoints"])
    .short(&["ctxcp"])
    .variable("LLAMA_ARG_CTX_CHECKPOINTS")
    .default("32")
    .example("8"),
    memory(
        "checkpoint-min-step",
        integer(0, MAX_TOKENS),
        "The fewest tokens between two saved states",
    )
    .short(&["cms"])
    .variable("LLAMA_ARG_CHECKPOINT_MIN_SPACING_NT")
    .unit("tokens")
    .default("8192")
    .example("4096"),
    memory(
        "cache-ram",
        integer(-1, 1 << 24),
        "The most host memory for prompts kept for later; 0 keeps none, -1 sets no limit",
    )
    .short(&["cram"])
    .variable("LLAMA_ARG_CACHE_RAM")
    .unit("MiB")
    .default("8192")
    .example("64"),
    memory(
        "kv-unified",
        Values::Switch,
        "Let all slots share one KV cache, so that one of them can use the whole context",
    )
    .short(&["kvu"])
    .off(&["--no-kv-unified", "-no-kvu"])
    .variable("LLAMA_ARG_KV_UNIFIED")
    .default("enabled if number of slots is auto")
    .example("true"),
    memory(
        "cache-idle-slots",
        Values::Switch,
        "Move idle slots to the prompt cache when a new task comes; needs cache-ram",
    )
    .off(&["--no-cache-idle-slots"])
    .variable("LLAMA_ARG_CACHE_IDLE_SLOTS")
    .default("on")
    .example("true"),
    memory(
        "context-shift",
        Values::Switch,
        "Drop the oldest tokens when the context is full, and go on",
    )
    .off(&["--no-context-shift"])
    .variable("LLAMA_ARG_CONTEXT_SHIFT")
    .default("off")
    .example("false"),
    memory("cache-prompt", Values::Switch, "Reuse what a prompt has in common with the one before")
        .off(&["--no-cache-prompt"])
        .variable("LLAMA_ARG_CACHE_PROMPT")
        .default("on")
        .example("true"),
    memory(
        "cache-reuse",
        integer(0, MAX_TOKENS),
        "The shortest stretch that is reused from elsewhere in the cache; 0 reuses none",
    )
    .spelled(&[("-1", "0")])
    .variable("LLAMA_ARG_CACHE_REUSE")
    .unit("tokens")
    .default("0")
    .example("0"),
];
