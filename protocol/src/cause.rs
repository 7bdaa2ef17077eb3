//! Why a server is in its state.

use crate::UnixMs;
use crate::hint::Hints;
use crate::word::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a server is in its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// The word that programs match.
    pub code: CauseCode,
    /// One sentence.
    pub message: String,
    /// What to do about it.
    #[serde(flatten)]
    pub hints: Hints,
    /// The log lines that say so, the decisive one first.
    pub evidence: Vec<String>,
    /// The exit code, when the process ended by itself with one.
    pub exit_code: Option<i32>,
    /// The signal, when one ended it.
    pub signal: Option<i32>,
    /// When it happened.
    pub at_ms: UnixMs,
}

impl Cause {
    /// A cause that is no more than a code and a sentence.
    pub fn new(code: CauseCode, message: impl Into<String>, at_ms: UnixMs) -> Cause {
        Cause {
            code,
            message: message.into(),
            hints: Hints::default(),
            evidence: vec![],
            exit_code: None,
            signal: None,
            at_ms,
        }
    }
}

words! {
    /// The word of a cause. It lies in databases and is never renamed. A start that was refused
    /// before there was a process bears the name of the failure's [kind](crate::Kind).
    CauseCode, "CauseCode":
    Requested "requested" "Somebody asked for it",
    Adopted "adopted" "It was found running and taken over",
    Hung "hung" "It did not answer, or its requests did not move",
    LoadStalled "load_stalled" "Its load did not move",
    NeverMade "never_made" "The daemon was cut off before its process was made",
    EndedUnwatched "ended_unwatched" "It ended while no daemon was running",
    Rebooted "rebooted" "The machine was started anew",
    Stopped "stopped" "It ended as it was asked to",
}
