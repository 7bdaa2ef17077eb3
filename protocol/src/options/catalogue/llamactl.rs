//! llamactl's own settings, which stand beside llama-server's.

use super::{Setting, choice, integer, integer_or, setting};
use crate::options::{Group, Told, Values};

const fn own(key: &'static str, values: Values<'static>, help: &'static str) -> Setting<'static> {
    setting(Group::Llamactl, key, values, help).told(Told::Own)
}

pub(super) const SETTINGS: &[Setting<'static>] = &[
    own("path", Values::File, "The GGUF file; of a split model any part. Its header is read again")
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
    own("autostart", Values::Switch, "Start it when the daemon starts after a boot")
        .default("off")
        .example("on"),
    own(
        "restart",
        choice(&["on-failure", "always", "never"]),
        "Whether to start it again when it ends unasked; always: also after a clean exit",
    )
    .default("on-failure")
    .example("always"),
    own(
        "restart-limit",
        integer(1, 100),
        "Give up after this many failures without 60 s of health between them",
    )
    .default("5")
    .example("10"),
    own(
        "load-stall-timeout",
        integer(1, 86_400),
        "Give up a load in which nothing has moved for so long: no output, no memory, no reading",
    )
    .unit("seconds")
    .default("600")
    .example("1800"),
    own(
        "hang-timeout",
        integer(0, 86_400),
        "Restart it when it does not answer, or its requests do not move, for so long; 0: never",
    )
    .unit("seconds")
    .default("120")
    .example("300"),
    own(
        "drain-timeout",
        integer(0, 3_600),
        "How long a stop waits for requests at work before it cuts them",
    )
    .unit("seconds")
    .default("5")
    .example("30"),
    own(
        "extra-args",
        Values::Arguments,
        "Further llama-server arguments, quoted as for a shell; what llamactl owns is refused",
    )
    .old(&["custom_params"])
    .example("--threads-http 2"),
];

/// The settings that are for the one who looks after the server, not for the server: they hold
/// from the moment they are set.
pub const POLICY: &[&str] = &[
    "autostart",
    "restart",
    "restart-limit",
    "load-stall-timeout",
    "hang-timeout",
    "drain-timeout",
];

/// A variable of the server's environment; its key is `env.` and its name.
pub const VARIABLE: Setting<'static> = own(
    "env.NAME",
    Values::Variable,
    "A variable of the server's environment; given by @FILE it is kept secret",
)
.example("1");
