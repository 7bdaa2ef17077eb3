//! Options that make llama-server print something and exit.

use super::{Setting, refused};
use crate::options::{Group, Values};

pub(super) const SETTINGS: &[Setting<'static>] = &[
    refused(
        Group::Server,
        "help",
        "it prints and exits; llamactl help settings explains what can be set",
    )
    .values(Values::Switch)
    .long(&["usage"])
    .short(&["h"]),
    refused(
        Group::Server,
        "version",
        "it prints and exits; llamactl runtime list tells the versions",
    )
    .values(Values::Switch),
    refused(
        Group::Server,
        "completion-bash",
        "it prints and exits; llamactl completions bash does it for llamactl",
    )
    .values(Values::Switch),
];
