//! What llama-server writes to its log.

use super::{Setting, choice, integer, refused, setting};
use crate::options::{Group, Values};

const fn logging(
    key: &'static str,
    values: Values<'static>,
    help: &'static str,
) -> Setting<'static> {
    setting(Group::Logging, key, values, help)
}

pub(super) const SETTINGS: &[Setting<'static>] = &[
    logging(
        "verbosity",
        integer(0, 99),
        "How much is logged: 1 errors, 2 warnings, 3 the usual, 4 more, 5 all",
    )
    .long(&["log-verbosity"])
    .short(&["lv"])
    .variable("LLAMA_ARG_LOG_VERBOSITY")
    .default("3")
    .example("3"),
    logging("verbose", Values::Switch, "Log everything, also what is in prompts and answers")
        .long(&["log-verbose"])
        .short(&["v"])
        .default("off")
        .example("false"),
    logging(
        "log-prefix",
        Values::Switch,
        "Begin each line of the log with its level and where it comes from",
    )
    .off(&["--no-log-prefix"])
    .variable("LLAMA_ARG_LOG_PREFIX")
    .example("true"),
    logging(
        "log-timestamps",
        Values::Switch,
        "Begin each line of the log with the time since the start",
    )
    .off(&["--no-log-timestamps"])
    .variable("LLAMA_ARG_LOG_TIMESTAMPS")
    .example("true"),
    logging(
        "log-prompts-dir",
        Values::Directory,
        "A directory where every prompt is written down, for finding faults",
    )
    .default("disabled")
    .example("/tmp"),
    refused(
        Group::Logging,
        "log-disable",
        "llamactl keeps the log and finds the causes of failures in it; llamactl logs shows \
         it",
    )
    .values(Values::Switch),
    refused(Group::Logging, "log-file", "llamactl keeps the log itself; llamactl logs shows it")
        .values(Values::File)
        .variable("LLAMA_ARG_LOG_FILE"),
    refused(Group::Logging, "log-colors", "llamactl keeps the log without colours")
        .values(choice(&["on", "off", "auto"]))
        .variable("LLAMA_ARG_LOG_COLORS"),
];
