//! `log.*`: what the llama-server processes wrote.

use crate::UnixMs;
use crate::method::subscription;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Follows the log of a model's runs: first the lines asked for, then new ones.
///
/// The cursor names a run, a stream and a byte offset, and stays valid across daemon restarts.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogFollow {
    /// The model, by name, alias or id.
    pub model: String,
    /// This run only; absent: the last one, and those that follow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Which of the process's outputs: `stderr` (llama-server's log) when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
    /// Begin this many lines before the end; absent: at the beginning of what is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// Begin at the first line written at or after this time, as near as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<UnixMs>,
    /// Go on behind this cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Go on with new lines as they come (`true` when absent); `false` ends after the last line
    /// there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
}

/// An output of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Where llama-server logs.
    #[default]
    Stderr,
    /// Progress lines and crash traces.
    Stdout,
}

impl LogStream {
    /// The word on the wire and in file names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LogStream::Stderr => "stderr",
            LogStream::Stdout => "stdout",
        }
    }
}

/// One line that a run wrote, with what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// The run that wrote it.
    pub run_id: String,
    /// Where it wrote it.
    pub stream: LogStream,
    /// `info`, `warning`, `error` or `debug`, where the line says so.
    pub level: Option<LogLevel>,
    /// The line as written, without its end; bytes that are not UTF-8 are shown as `�`.
    pub text: String,
    /// The line was longer than 64 KiB: this is a piece of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// How grave llama-server says a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// `D`
    Debug,
    /// `I`
    Info,
    /// `W`
    Warning,
    /// `E`
    Error,
}

subscription!(LogFollow, "log", Observe => LogLine);
