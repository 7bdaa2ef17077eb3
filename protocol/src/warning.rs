//! What a person should know of a server, or a daemon, that runs.

use crate::UnixMs;
use crate::hint::Hint;
use crate::word::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something a person should know of a server, or of the daemon, although it runs. Warnings come worst first: in the
/// order of [`WarningCode::ALL`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// The word that programs match.
    pub code: WarningCode,
    /// How bad it is.
    pub level: Level,
    /// One sentence: lower case, no full stop.
    pub message: String,
    /// Since when it is so, where that is known.
    #[serde(default)]
    pub since_ms: Option<UnixMs>,
    /// When it will be acted on, where that is known.
    pub until_ms: Option<UnixMs>,
    /// Commands that do something about it, with their arguments, the likeliest first.
    pub commands: Vec<Vec<String>>,
}

/// How bad something is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Not as wanted.
    Warning,
    /// Worth knowing, nothing to do.
    Note,
}

words! {
    /// What a warning is about, the worst first.
    WarningCode, "WarningCode":
    RegistryReplaced "registry_replaced" "Another file lies in the place of the registry",
    RegistryGone "registry_gone" "The registry was deleted, and could not be put back",
    RegistryUnwritable "registry_unwritable" "The registry cannot be written",
    DiskFull "disk_full" "The disk is full",
    NotAnswering "not_answering" "It does not answer `/health`",
    FileGone "file_gone" "A file that it was started with is gone",
    FileReplaced "file_replaced" "A file that it was started with was replaced or changed",
    OnCpu "on_cpu" "It was to use a GPU and does not",
    OtherPort "other_port" "It listens on another port than before",
    NotRecorded "not_recorded" "Something about it could not be written: the disk is full",
    OldBuild "old_build" "Its llama-server was replaced on disk",
    HistoryUnwritten "history_unwritten" "The history of metrics cannot be written",
    MetricsNotServed "metrics_not_served" "Prometheus cannot read the metrics",
    HistorySetAside "history_set_aside" "The history of metrics was damaged, and another was begun",
    NoCopy "no_copy" "No copy of the registry could be made today",
    Pending "pending" "Settings wait for a restart",
    RunSettings "run_settings" "It runs with settings of this run only",
    NoApiKey "no_api_key" "Every program on this machine can use it",
}

impl Warning {
    /// A warning with its usual level.
    pub fn new(code: WarningCode, message: impl Into<String>) -> Warning {
        let level = match code {
            WarningCode::Pending | WarningCode::RunSettings | WarningCode::NoApiKey => Level::Note,
            _ => Level::Warning,
        };
        Warning {
            code,
            level,
            message: message.into(),
            since_ms: None,
            until_ms: None,
            commands: vec![],
        }
    }

    /// What to do about it: its commands, each with what it is for as far as the code says.
    #[must_use]
    pub fn hints(&self) -> Vec<Hint> {
        let mut purposes = self.code.purposes().iter();
        let hint =
            |command: &Vec<String>| Hint::run(purposes.next().copied().unwrap_or("or"), command);
        self.commands.iter().map(hint).collect()
    }

    /// The same with a command behind those it has.
    #[must_use]
    pub fn command<A: Into<String>>(mut self, argv: impl IntoIterator<Item = A>) -> Warning {
        self.commands.push(argv.into_iter().map(Into::into).collect());
        self
    }
}

impl WarningCode {
    /// What its commands are for, one after the other.
    fn purposes(&self) -> &'static [&'static str] {
        match self {
            WarningCode::NotAnswering => &["restart it", "see what it wrote"],
            WarningCode::OnCpu => &["see what the build finds", "accept the CPU"],
            WarningCode::OldBuild => &["run the new one"],
            WarningCode::FileGone => &["say where it is now"],
            WarningCode::FileReplaced => &["run the new one"],
            WarningCode::OtherPort => &["go back to it, once it is free"],
            WarningCode::Pending => &["apply them"],
            WarningCode::RunSettings => &["go back to the model's own"],
            WarningCode::NoApiKey => &["ask for one"],
            _ => &["do something about it", "or"],
        }
    }
}

/// Puts warnings in their order, the worst first.
pub fn sort(warnings: &mut [Warning]) {
    let place = |code: &WarningCode| {
        let known = WarningCode::ALL.iter().position(|(known, ..)| known == code);
        known.unwrap_or(usize::MAX)
    };
    warnings.sort_by_key(|warning| place(&warning.code));
}
