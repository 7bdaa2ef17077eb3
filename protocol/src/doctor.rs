//! `daemon.check`: what is wrong, or may become so, and what mends it.
//!
//! A finding has a word that never changes. `llamactl doctor` shows what the daemon finds and what it
//! finds itself; `docs/doctor.md` is made from the list here.

use crate::Failure;
use crate::hint::{Hint, Hints};
use crate::method::method;
use crate::prose::clause;
use crate::warning::{Level, Warning, WarningCode};
use crate::word::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

words! {
    /// What a finding is about.
    FindingCode, "FindingCode":
    DaemonSilent "daemon_silent" "A daemon listens and does not answer",
    DaemonRefused "daemon_refused" "The daemon may not be used by this user, or could not be asked",
    DaemonDown "daemon_down" "No daemon runs although one should",
    DaemonNotRunning "daemon_not_running" "No daemon runs; the next command that needs one starts it",
    SocketOpen "socket_open" "Others than the daemon's user, or its group, reach its socket",
    VersionsDiffer "versions_differ" "Command and daemon are of different versions",
    ProgramReplaced "program_replaced" "The daemon's program was replaced on disk, and the old one runs",
    ConfigWrong "config_wrong" "The configuration has a mistake: a restart would be refused",
    ConfigPending "config_pending" "The configuration was changed, and the daemon goes by the old one",
    RegistryDamaged "registry_damaged" "The registry is damaged, gone or not to be opened",
    CopyDamaged "copy_damaged" "The newest copy of the registry is damaged",
    CopyOld "copy_old" "The newest copy of the registry is older than what was changed since, by days",
    StateOwner "state_owner" "Something in the state directory belongs to another user",
    StateOpen "state_open" "Other users may read or change something in the state directory",
    DiskLow "disk_low" "The disk of the state directory is nearly full",
    InodesLow "inodes_low" "The file system of the state directory has nearly no room for further files",
    NoRuntime "no_runtime" "No llama-server is found: no model can start",
    RuntimeUnusable "runtime_unusable" "A runtime cannot be run: gone, not to be executed, a library missing, no answer",
    RuntimeChanged "runtime_changed" "The file of a runtime was replaced since it was looked at",
    NoDevices "no_devices" "There is a GPU, and the runtime in use finds none",
    GpuDriver "gpu_driver" "There is an NVIDIA card, and its driver does not answer",
    ModelGone "model_gone" "The file of a model, or one that its settings name, is gone",
    ModelUnreadable "model_unreadable" "The daemon's user may not read the file of a model",
    ModelChanged "model_changed" "The file of a model is not the one that was registered",
    MemoryShort "memory_short" "A model that runs or starts with the machine is larger than the memory there is",
    PromptCaches "prompt_caches" "Prompt caches and models together may take more memory than there is",
    MemoryLock "memory_lock" "A model is to be held in memory, and the limit of that is lower than its size",
    Descriptors "descriptors" "The daemon may open few files",
    StrayServer "stray_server" "A llama-server of this registry runs that nobody looks after",
    OtherServer "other_server" "A llama-server runs that is not this daemon's",
    ClockBehind "clock_behind" "The clock is behind what was recorded already",
    OtherProgram "other_program" "Another program called llamactl is first on PATH",
    NotOnPath "not_on_path" "llamactl is not on PATH",
    UnitDiffers "unit_differs" "The installed unit is not the one that this version writes",
    UnitDisabled "unit_disabled" "The unit is installed and does not start with the machine",
    UnitFailed "unit_failed" "systemd gave up to start the daemon",
    TwoUnits "two_units" "There is a unit of the machine's and one of the user's",
    LingerOff "linger_off" "The user's daemon and its servers end with the last logout",
}

/// How bad a finding is, the worst first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something does not work.
    Error,
    /// Something is not as it should be, and may fail.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// The word on screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The word that programs match: of [`FindingCode`], or the code of a warning.
    pub code: FindingCode,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a model, a runtime, a path.
    #[serde(default)]
    pub subject: Option<String>,
    /// One sentence: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    #[serde(flatten)]
    pub hints: Hints,
}

impl Finding {
    /// A finding that is as bad as its code says.
    pub fn new(code: FindingCode, message: impl Into<String>) -> Finding {
        let severity = code.severity();
        Finding { code, severity, subject: None, message: message.into(), hints: Hints::default() }
    }

    /// A failure as a finding: its sentence and its hints.
    #[must_use]
    pub fn of_failure(code: FindingCode, failure: &Failure) -> Finding {
        let hints = failure.hints.clone();
        Finding { hints, ..Finding::new(code, clause(&failure.message)) }
    }

    /// The same about something that has a name.
    #[must_use]
    pub fn of(mut self, subject: impl Into<String>) -> Finding {
        self.subject = Some(subject.into());
        self
    }

    /// The same with what to do behind what it has.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Hint>) -> Finding {
        self.hints.0.push(hint.into());
        self
    }
}

/// What is known as a warning already.
impl From<&Warning> for Finding {
    fn from(warning: &Warning) -> Finding {
        let severity = severity_of(&warning.code, warning.level);
        let hints = Hints(warning.hints());
        let code = FindingCode::from(warning.code.as_str());
        Finding { code, severity, subject: None, message: warning.message.clone(), hints }
    }
}

fn severity_of(code: &WarningCode, level: Level) -> Severity {
    use WarningCode::{DiskFull, RegistryGone, RegistryReplaced, RegistryUnwritable};
    match (code, level) {
        (RegistryReplaced | RegistryGone | RegistryUnwritable | DiskFull, _) => Severity::Error,
        (_, Level::Warning) => Severity::Warning,
        (_, Level::Note) => Severity::Note,
    }
}

impl FindingCode {
    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        use FindingCode as F;
        match self {
            F::DaemonSilent
            | F::DaemonRefused
            | F::DaemonDown
            | F::ConfigWrong
            | F::RegistryDamaged
            | F::StateOwner
            | F::NoRuntime
            | F::ModelUnreadable
            | F::UnitFailed => Severity::Error,
            F::DaemonNotRunning
            | F::ConfigPending
            | F::RuntimeChanged
            | F::OtherServer
            | F::NotOnPath
            | F::UnitDisabled
            | F::TwoUnits
            | F::Other(_) => Severity::Note,
            F::SocketOpen
            | F::VersionsDiffer
            | F::ProgramReplaced
            | F::CopyDamaged
            | F::CopyOld
            | F::StateOpen
            | F::DiskLow
            | F::InodesLow
            | F::RuntimeUnusable
            | F::NoDevices
            | F::GpuDriver
            | F::ModelGone
            | F::ModelChanged
            | F::MemoryShort
            | F::PromptCaches
            | F::MemoryLock
            | F::Descriptors
            | F::StrayServer
            | F::ClockBehind
            | F::OtherProgram
            | F::UnitDiffers
            | F::LingerOff => Severity::Warning,
        }
    }

    /// What `llamactl doctor --fix` does about it; `None` where only a person can decide.
    #[must_use]
    pub fn fix(&self) -> Option<&'static str> {
        match self {
            FindingCode::StateOpen => Some("takes the rights of others away from it"),
            FindingCode::ProgramReplaced => Some("llamactl daemon restart; servers run on"),
            FindingCode::RuntimeChanged => Some("llamactl runtime refresh NAME"),
            _ => None,
        }
    }
}

/// Puts findings in their order: the worst first, and those of one kind by their subject.
pub fn sort(findings: &mut [Finding]) {
    let place = |code: &FindingCode| {
        let known = FindingCode::ALL.iter().position(|(known, ..)| known == code);
        known.unwrap_or(usize::MAX)
    };
    findings.sort_by(|a, b| {
        let key = |it: &Finding| (it.severity, place(&it.code));
        key(a).cmp(&key(b)).then_with(|| a.subject.cmp(&b.subject))
    });
}

/// Looks at everything that the daemon knows of: its registry and copies, disks, runtimes, the files of
/// models, memory, limits. Each runtime is run once to see whether it answers; nothing is changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonCheck {}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
    /// What could not be looked at, and why: a sentence each.
    pub not_checked: Vec<String>,
}

method!(DaemonCheck, "daemon.check", Operate -> Checked);

/// The page that tells all findings.
#[must_use]
pub fn markdown() -> String {
    let mut page = "<!-- Made from protocol/src/doctor.rs: UPDATE_DOCS=1 tests/run docs writes it anew. -->\n\n\
        # What llamactl doctor finds\n\n\
        `llamactl doctor` looks at the daemon, its registry and copies, disks, runtimes, model files, memory, \
        limits, units and `PATH`, and changes nothing. It works without a daemon, too, and says what it \
        could not look at then. It ends with 0 where there are no findings or only notes, and with 1 where \
        there are errors or warnings. With `--json` it prints one object: `findings`, the worst first, each \
        with `code`, `severity`, `subject`, `message`, `hint` and `commands`; `not_checked`; `fixed`.\n\n\
        `--fix` asks nothing and does what is safe, which the last column says. What it does not say is for \
        a person to decide; each finding names the command.\n\n\
        | code | is | what it means | `--fix` |\n|---|---|---|---|\n"
        .to_owned();
    for (code, name, says) in FindingCode::ALL {
        let (severity, fix) = (code.severity().as_str(), code.fix().unwrap_or("-"));
        let _ = writeln!(page, "| `{name}` | {severity} | {says} | {fix} |");
    }
    page += "\nWhat the daemon warns of everywhere else is found too, under the same codes:\n\n\
             | code | is | what it means |\n|---|---|---|\n";
    for (code, name, says) in WarningCode::ALL {
        let severity = severity_of(code, Warning::new(code.clone(), "").level);
        if severity != Severity::Note {
            let _ = writeln!(page, "| `{name}` | {} | {says} |", severity.as_str());
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_said_twice_and_the_worst_comes_first() {
        let names = FindingCode::ALL.iter().map(|(_, name, _)| *name);
        let mut all: Vec<&str> =
            names.chain(WarningCode::ALL.iter().map(|(_, name, _)| *name)).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        let warning = Warning::new(WarningCode::DiskFull, "full");
        let mut findings = vec![
            Finding::new(FindingCode::OtherServer, "a"),
            Finding::new(FindingCode::ModelGone, "b").of("z"),
            Finding::new(FindingCode::ModelGone, "c").of("a"),
            Finding::from(&warning),
        ];
        sort(&mut findings);
        let told: Vec<&str> = findings.iter().map(|it| it.message.as_str()).collect();
        assert_eq!(told, ["full", "c", "b", "a"]);
    }
}
