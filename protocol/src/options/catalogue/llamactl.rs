//! llamactl's own settings, which stand beside llama-server's.

use super::{Setting, integer_or, setting};
use crate::options::{Group, Told, Values};

const fn own(key: &'static str, values: Values<'static>, help: &'static str) -> Setting<'static> {
    setting(Group::Llamactl, key, values, help).told(Told::Own)
}

pub(super) const SETTINGS: &[Setting<'static>] = &[
    own("path", Values::File, "The GGUF file; of a split model any part. Its header is read anew")
        .old(&["model_path"])
        .example("/models/qwen3-8b-q4_k_m.gguf"),
    own(
        "runtime",
        Values::Runtime,
        "The llama-server build to use, as llamactl runtime list names it",
    )
    .example("vulkan"),
    own(
        "host",
        Values::Host,
        "The address to listen on when a port is set; not loopback needs api-key",
    )
    .variable("LLAMA_ARG_HOST")
    .default("127.0.0.1")
    .example("127.0.0.1"),
    own(
        "port",
        integer_or(1, 65535, &["auto"]),
        "The TCP port to listen on, or auto for a free one that is kept; unset: a Unix socket only",
    )
    .variable("LLAMA_ARG_PORT")
    .example("auto"),
    own(
        "extra-args",
        Values::Arguments,
        "Further llama-server arguments, quoted as for a shell; what llamactl owns is refused",
    )
    .old(&["custom_params"])
    .example("--threads-http 2"),
];

/// A variable of the server's environment; its key is `env.` and its name.
pub const VARIABLE: Setting<'static> = own(
    "env.NAME",
    Values::Variable,
    "A variable of the server's environment; given by @FILE it is kept secret",
)
.example("1");
