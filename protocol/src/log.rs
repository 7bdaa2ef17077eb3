//! `log.*`: what the llama-server processes wrote.

use crate::bounds::{Bounded, Name, Short};
use crate::method::{method, subscription};
use crate::{UnixMs, WirePath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Follows the log of a model's runs: first the lines asked for, then new ones.
///
/// The cursor names a run, a stream and a byte offset, and stays valid across daemon restarts.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogFollow {
    /// The model, by name, alias or id.
    pub model: Name,
    /// This run only; absent: the last one, and those that follow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Short>,
    /// Which of the process's outputs; absent: the one that the run writes its log to, which is
    /// `stderr` unless it runs with `log-jsonl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
    /// Begin this many lines before the end, of those that are asked for; absent: at the beginning
    /// of what is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// No line that was written before this time, as near as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<UnixMs>,
    /// No line that was written after this time, as near as it is known; the stream then ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<UnixMs>,
    /// Only lines of this level or a graver one, and those that do not say theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<LogLevel>,
    /// Only lines in which this regular expression is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<Bounded<String, 1024>>,
    /// Go on behind this cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Short>,
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

/// Lines that a run wrote, one after the other, or something to know before the next ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogFrame {
    /// The run that wrote them.
    pub run_id: String,
    /// Where it wrote them.
    pub stream: LogStream,
    /// What is to be known of the lines from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<LogNote>,
    /// The lines, in order; none in a frame with a note.
    pub lines: Vec<LogLine>,
}

impl LogFrame {
    /// The cursor behind one of its lines.
    #[must_use]
    pub fn cursor_behind(&self, line: &LogLine) -> String {
        cursor(&self.run_id, self.stream, line.end)
    }
}

/// A place in a model's logs: `run:stream:offset`. It stays valid as long as that run's log.
#[must_use]
pub fn cursor(run_id: &str, stream: LogStream, offset: u64) -> String {
    format!("{run_id}:{}:{offset}", stream.as_str())
}

/// One line that a run wrote, with what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When it was written, where the line says so.
    pub at_ms: Option<UnixMs>,
    /// `info`, `warning`, `error` or `debug`, where the line says so.
    pub level: Option<LogLevel>,
    /// The line as written, without its end; bytes that are not UTF-8 are shown as `�`.
    pub text: String,
    /// What the line says to people, where it was written as JSON (`log-jsonl`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The line was longer than 64 KiB: this is a piece of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Where it ends in what the run wrote to that output, in bytes.
    pub end: u64,
}

/// What is to be known of a log from here on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum LogNote {
    /// The lines of another run begin.
    Began {
        /// The run that the lines before were of.
        before: String,
        /// When that one ended; `null` where that is not known.
        ended_at_ms: Option<UnixMs>,
        /// Why it ended: the code of its cause.
        cause: Option<String>,
    },
    /// Somebody deleted the file. What the process writes is shown as long as it lives, and then
    /// it is lost.
    Deleted,
    /// Somebody moved the file, and the process writes to it there.
    Moved {
        /// Where it is now.
        path: WirePath,
    },
    /// Somebody deleted the file, and nothing of it is left.
    Gone,
}

/// Deletes what the runs of a model wrote. A server that runs goes on writing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogClear {
    /// The model, by name, alias or id.
    pub model: Name,
}

/// What [`LogClear`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogCleared {
    /// The model's name.
    pub model: String,
    /// How much space that gave.
    pub freed_bytes: u64,
}

/// How grave llama-server says a line is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
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

subscription!(LogFollow, "log", Observe => LogFrame);
method!(LogClear, "log.clear", Operate -> LogCleared);
