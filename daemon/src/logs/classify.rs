//! Why a llama-server ended: pure, from what it wrote and how it exited.
//!
//! ```text
//! asked to stop? ──yes──> stopped
//!     │ no
//! a signal that says it all (KILL, TERM, …), or exit 0? ──yes──> by signal
//!     │ no
//! a line that says why? ──yes──> by rule (crate::logs::rules, first that matches)
//!     │ no
//! by signal or exit code
//! ```
//!
//! A server that was ready did not fail for its settings: for it the rules about options, spawning
//! and listening do not count, because the lines they look for also come from single requests (a
//! grammar that cannot be parsed) that it survived long ago. The rules about spawning count only
//! with the exit codes of a program that could not be run: the loader's and the shell's 126 and 127.

use super::cures::{Cure, Subject};
use super::line::Line;
use super::rules::{ENDS, RULES, Rule};
use llamactl_protocol::Hints;
use llamactl_protocol::cause::CauseCode;
use llamactl_protocol::log::LogLevel as Level;
use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// The most lines of evidence.
const EVIDENCE_MAX_LINES: usize = 3;
/// The longest line of evidence, in characters.
const EVIDENCE_MAX_CHARS: usize = 500;
/// The longest piece of a line that is put into a message, in characters.
const FILLED_MAX_CHARS: usize = 200;

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was not our child and the kernel does not tell.
    #[default]
    Unknown,
}

/// What is known besides the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context<'a> {
    /// We have asked it to stop.
    pub asked_to_stop: bool,
    /// The kernel's count of out-of-memory kills of this process's group rose; `None`: not known.
    pub oom_kill_counted: Option<bool>,
    /// It had loaded its model and answered.
    pub was_ready: bool,
    /// Another program listens where it was to.
    pub address_taken: bool,
    /// The files that go with the model, each with what it means that it cannot be used.
    pub files: &'a [(CauseCode, String)],
    /// Whose end it is.
    pub subject: Subject<'a>,
}

/// The kind of cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It was asked to stop.
    Stopped,
    /// The program could not be run.
    Spawn,
    /// A setting is wrong.
    Config,
    /// A file is wrong.
    Model,
    /// Listening or downloading failed.
    Network,
    /// There was not enough memory.
    Memory,
    /// The server ended by a fault of its own: a signal, an assertion, an exception.
    Crash,
    /// Somebody else ended it.
    Killed,
    /// It ended, and nothing says why.
    Unknown,
}

/// Whether starting again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// No: it would end the same way.
    No,
    /// Yes, after a while.
    Yes,
    /// A few times.
    Limited,
    /// Once.
    Once,
    /// Once, at another port.
    OtherPort,
}

/// Why a server ended, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The cause's word.
    pub code: CauseCode,
    /// What kind of cause it is.
    pub class: Class,
    /// What failed: one plain sentence.
    pub message: String,
    /// What to do about it.
    pub hints: Hints,
    /// The lines that say so, without prefix, the decisive one first; at most three.
    pub evidence: Vec<String>,
    /// Whether starting again can help.
    pub retry: Retry,
}

/// Says why a server ended. `tail` is the end of what it wrote, in order; 200 lines are plenty.
#[must_use]
pub fn classify(exit: Exit, tail: &[String], context: Context<'_>) -> Verdict {
    let lines: Vec<Line> = tail.iter().map(|raw| Line::parse_text(raw)).collect();
    if context.asked_to_stop {
        let message = "It was asked to stop.";
        return verdict((CauseCode::Stopped, Class::Stopped, Retry::No), message, Vec::new());
    }
    if !exit_speaks_for_itself(exit)
        && let Some(found) = by_rule(&lines, exit, context)
    {
        return found;
    }
    let verdict = by_exit(exit, context, last_telling(&lines));
    let evidence = match evidence(&lines, None) {
        errors if !errors.is_empty() || !shows_its_end(&verdict.code) => errors,
        // Nothing in it is called an error: its end is the best there is.
        _ => last_lines(&lines),
    };
    Verdict { evidence, ..verdict }
}

/// Says why a process could not even be started, by the error number of the attempt.
#[must_use]
pub fn classify_spawn_error(errno: Option<i32>) -> Verdict {
    let (code, retry, message) = match errno {
        Some(libc::ENOENT) => (
            CauseCode::ExecutableNotFound,
            Retry::No,
            "The llama-server executable does not exist.",
        ),
        Some(libc::EACCES | libc::EPERM) => (
            CauseCode::ExecutableNotAllowed,
            Retry::No,
            "The llama-server file may not be executed.",
        ),
        Some(libc::ENOEXEC | libc::EINVAL) => (
            CauseCode::ExecutableWrongFormat,
            Retry::No,
            "The llama-server file is not a program for this machine.",
        ),
        Some(libc::EAGAIN | libc::ENOMEM) => {
            (CauseCode::NoResources, Retry::Yes, "The system has no room for another process.")
        }
        _ => (CauseCode::SpawnFailed, Retry::Limited, "llama-server could not be started."),
    };
    of_end((code, Class::Spawn, retry), message, Subject::default())
}

fn verdict(
    (code, class, retry): (CauseCode, Class, Retry),
    message: impl Into<String>,
    evidence: Vec<String>,
) -> Verdict {
    Verdict { code, class, message: message.into(), hints: Hints::default(), evidence, retry }
}

/// What can be done, for this server.
fn hints(cures: &[Cure], subject: Subject<'_>, filled: &dyn Fn(&str) -> String) -> Hints {
    cures.iter().filter_map(|cure| cure.hint(subject, filled)).collect()
}

/// What is told by how it exited, or by its not having been made.
fn of_end(
    name: (CauseCode, Class, Retry),
    message: impl Into<String>,
    subject: Subject<'_>,
) -> Verdict {
    let cures = ENDS.iter().find(|(code, _)| *code == name.0).map_or(&[][..], |(_, cures)| cures);
    let hints = hints(cures, subject, &str::to_owned);
    Verdict { hints, ..verdict(name, message, Vec::new()) }
}

/// Whether the exit alone tells that the end came from outside or was orderly. What the log holds is
/// then history, not the cause.
fn exit_speaks_for_itself(exit: Exit) -> bool {
    matches!(
        exit,
        Exit::Code(0)
            | Exit::Signal(libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP)
            | Exit::Signal(libc::SIGQUIT | libc::SIGUSR1 | libc::SIGUSR2)
    )
}

static PATTERNS: LazyLock<Vec<(&'static Rule, Regex)>> = LazyLock::new(|| {
    // A test proves that every pattern compiles.
    RULES.iter().filter_map(|rule| Some((rule, Regex::new(rule.pattern).ok()?))).collect()
});

fn by_rule(lines: &[Line], exit: Exit, context: Context<'_>) -> Option<Verdict> {
    let could_not_run = matches!(exit, Exit::Code(126 | 127));
    let counts = |class| match class {
        Class::Spawn => could_not_run && !context.was_ready,
        Class::Config | Class::Network => !context.was_ready,
        _ => true,
    };
    PATTERNS.iter().filter(|(rule, _)| counts(rule.class)).find_map(|(rule, pattern)| {
        // Of several such lines the one nearest to the end.
        let (at, line) =
            lines.iter().enumerate().rev().find(|(_, line)| pattern.is_match(&line.text))?;
        let captures = pattern.captures(&line.text)?;
        let rule = of_its_file(rule, &captures, context);
        let name = (rule.code.clone(), rule.class, retry(rule, context));
        let message = fill(rule.message, &captures);
        let filled = |text: &str| fill(text, &captures);
        Some(Verdict {
            hints: hints(rule.cures, context.subject, &filled),
            ..verdict(name, message, evidence(lines, Some(at)))
        })
    })
}

/// A file that cannot be opened may be one that goes with the model: the line that says so comes last, and
/// an end can outrun it.
fn of_its_file<'r>(rule: &'r Rule, captures: &Captures<'_>, context: Context<'_>) -> &'r Rule {
    if !matches!(rule.code, CauseCode::ModelNotFound | CauseCode::FilePermission) {
        return rule;
    }
    let path = captures.get(1).map_or("", |path| path.as_str());
    let of_file = context.files.iter().find(|(_, file)| file == path);
    let theirs = of_file.and_then(|(code, _)| RULES.iter().find(|rule| rule.code == *code));
    theirs.unwrap_or(rule)
}

/// A check that fails while it loads fails at every load; one that fails later may have met a rare
/// request.
fn retry(rule: &Rule, context: Context<'_>) -> Retry {
    let is_of_the_program = matches!(rule.code, CauseCode::Assert | CauseCode::CppException);
    if is_of_the_program && !context.was_ready { Retry::No } else { rule.retry }
}

/// The decisive line, then the error lines nearest to it (to the end, if none is decisive), in order.
fn evidence(lines: &[Line], decisive: Option<usize>) -> Vec<String> {
    let centre = decisive.unwrap_or(lines.len());
    let text = |at: usize| lines.get(at).map_or("", |line| line.text.as_str());
    let mut nearest: Vec<usize> = (0..lines.len())
        .filter(|at| Some(*at) != decisive && lines.get(*at).is_some_and(speaks_of_error))
        .filter(|at| decisive.is_none_or(|decisive| text(decisive) != text(*at)))
        .collect();
    // What is said twice, or follows from what decides, adds nothing.
    let mut said = BTreeSet::new();
    nearest.retain(|at| {
        let adds = decisive.is_none() || !follows(text(*at));
        adds && said.insert(text(*at))
    });
    nearest.sort_by_key(|at| at.abs_diff(centre));
    nearest.truncate(EVIDENCE_MAX_LINES - decisive.iter().len());
    nearest.sort_unstable();
    let chosen = decisive.into_iter().chain(nearest);
    chosen.map(|at| shortened(text(at), EVIDENCE_MAX_CHARS)).collect()
}

/// Whether a line says no more than that it did not go on after an error.
fn follows(text: &str) -> bool {
    let words = ["failed to load model", "exiting due to", "error while trying to fit params"];
    words.iter().any(|words| text.contains(words))
}

/// Whether the end of the log is shown where no line of it speaks of an error.
fn shows_its_end(code: &CauseCode) -> bool {
    matches!(code, CauseCode::UnknownError | CauseCode::Abort)
}

fn last_lines(lines: &[Line]) -> Vec<String> {
    let told: Vec<&Line> = lines.iter().filter(|line| !is_for_llamactl(line)).collect();
    let from = told.len().saturating_sub(EVIDENCE_MAX_LINES);
    let last = told.iter().skip(from);
    last.map(|line| shortened(&line.text, EVIDENCE_MAX_CHARS)).collect()
}

/// The line nearest to the end that may say why: of an error, else of a warning, else of another program.
fn last_telling(lines: &[Line]) -> Option<&str> {
    let last = |tells: &dyn Fn(&Line) -> bool| {
        let says = |line: &&Line| {
            !line.text.trim().is_empty() && !is_of_every_end(line) && !is_advice(line)
        };
        lines.iter().rev().filter(says).find(|line| tells(line)).map(|line| line.text.trim())
    };
    last(&speaks_of_error)
        .or_else(|| last(&|line| line.level == Some(Level::Warning)))
        .or_else(|| last(&is_raw))
}

/// Whether a line is no message of llama-server's own log.
fn is_raw(line: &Line) -> bool {
    line.level.is_none() && line.uptime_ms.is_none() && !line.is_json
}

/// Lines that every end has, whatever its reason.
fn is_of_every_end(line: &Line) -> bool {
    is_for_llamactl(line)
        || ["fit params to free device memory", "cleaning up before exit"]
            .iter()
            .any(|words| line.text.contains(words))
}

/// How far it has come, which is said to llamactl alone.
fn is_for_llamactl(line: &Line) -> bool {
    line.text.contains("cmd_child_to_router:")
}

/// What it says of its command line at every start, and then starts.
fn is_advice(line: &Line) -> bool {
    line.text.trim_start().starts_with("DEPRECATED: ")
        || [
            "environment variable is set, but will be overwritten by command line",
            // A box of four lines about a server without a key.
            "-----------------",
            "CORS is set to allow all origins",
            "this can be a security risk",
            "more info: ",
        ]
        .iter()
        .any(|words| line.text.contains(words))
}

fn speaks_of_error(line: &Line) -> bool {
    if is_of_every_end(line) {
        return false;
    }
    let text = line.text.to_ascii_lowercase();
    line.level == Some(Level::Error)
        || is_raw(line)
            && ["error", "failed", "terminate called"].iter().any(|word| text.contains(word))
}

/// Puts the groups of a match into `{1}` and `{2}`.
fn fill(template: &str, captures: &Captures<'_>) -> String {
    let group = |number| captures.get(number).map_or("", |group| group.as_str().trim());
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        rest = after;
        for (place, number) in [("1}", 1), ("2}", 2)] {
            if let Some(after) = rest.strip_prefix(place) {
                filled.push_str(&shortened(group(number), FILLED_MAX_CHARS));
                rest = after;
                break;
            }
        }
    }
    filled.push_str(rest);
    // A group that ended its own sentence, or was empty, leaves marks behind.
    let filled = filled.trim_end();
    let filled = filled.strip_suffix("..").map_or(filled.to_owned(), |text| format!("{text}."));
    filled.replace(": .", ".")
}

fn shortened(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

/// Says why by how it exited; `told` is the line of its log that tells most.
fn by_exit(exit: Exit, context: Context<'_>, told: Option<&str>) -> Verdict {
    let (name, message): (_, String) = match exit {
        Exit::Code(0) => (
            (CauseCode::Exited, Class::Killed, Retry::Limited),
            "It exited without an error, though nobody had asked llamactl to stop it.".into(),
        ),
        Exit::Code(127) => (
            (CauseCode::MissingLibrary, Class::Spawn, Retry::No),
            "llama-server could not be loaded: a shared library is missing.".into(),
        ),
        Exit::Code(126) => (
            (CauseCode::ExecutableNotAllowed, Class::Spawn, Retry::No),
            "The llama-server file may not be executed.".into(),
        ),
        // llama-server's log is written by a thread of its own, which an early end can outrun: then
        // the line that says so is lost.
        Exit::Code(_) if context.address_taken && !context.was_ready => (
            (CauseCode::BindFailed, Class::Network, Retry::OtherPort),
            "It exited without a word of why, and another program listens on its address.".into(),
        ),
        Exit::Code(code) => (
            // What it refuses before it is ready it refuses the next time too, but for what it lost.
            (
                CauseCode::UnknownError,
                Class::Unknown,
                if told.is_some() && !context.was_ready { Retry::Once } else { Retry::Limited },
            ),
            match told {
                Some(line) => quoting(&format!("It exited with code {code}"), line),
                None => format!("It exited with code {code} and did not say why."),
            },
        ),
        Exit::Signal(signal) => return by_signal(signal, context, told),
        Exit::Unknown => (
            (CauseCode::ExitUnknown, Class::Unknown, Retry::Limited),
            "It ended, and the system does not tell how.".into(),
        ),
    };
    of_end(name, message, context.subject)
}

/// A sentence with the line of a log that says more.
fn quoting(sentence: &str, line: &str) -> String {
    format!("{sentence}: {}.", shortened(line, FILLED_MAX_CHARS).trim_end_matches('.'))
}

fn by_signal(signal: i32, context: Context<'_>, told: Option<&str>) -> Verdict {
    let (name, message): (_, String) = match signal {
        libc::SIGKILL if context.oom_kill_counted == Some(true) => (
            // While it loads, it would need as much again; later, something else may have grown.
            (
                CauseCode::OomKilled,
                Class::Memory,
                if context.was_ready { Retry::Limited } else { Retry::No },
            ),
            "The kernel killed it because memory ran out.".into(),
        ),
        libc::SIGKILL => (
            (CauseCode::Killed, Class::Killed, Retry::Limited),
            match context.oom_kill_counted {
                Some(_) => "It was killed (SIGKILL), and not by llamactl.",
                None => {
                    "It was killed (SIGKILL), not by llamactl: by somebody, or by the kernel \
                     because memory ran out."
                }
            }
            .into(),
        ),
        libc::SIGTERM | libc::SIGINT | libc::SIGHUP => (
            (CauseCode::TerminatedByOther, Class::Killed, Retry::Limited),
            format!("Somebody else terminated it ({}).", signal_name(signal)),
        ),
        libc::SIGILL => (
            (CauseCode::IllegalInstruction, Class::Crash, Retry::No),
            "This llama.cpp build uses instructions that this processor lacks.".into(),
        ),
        libc::SIGBUS => (
            (CauseCode::ModelFileChanged, Class::Model, Retry::Limited),
            "The model file was truncated or could not be read while it was in use.".into(),
        ),
        libc::SIGSEGV => (
            (CauseCode::Segfault, Class::Crash, Retry::Limited),
            "It crashed with a segmentation fault.".into(),
        ),
        libc::SIGABRT => (
            (CauseCode::Abort, Class::Crash, Retry::Limited),
            match told {
                Some(line) => quoting("It aborted", line),
                None => "It aborted and did not say why.".to_owned(),
            },
        ),
        other => (
            (CauseCode::KilledBySignal, Class::Crash, Retry::Limited),
            format!("It was ended by a signal ({}).", signal_name(other)),
        ),
    };
    of_end(name, message, context.subject)
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGTERM => "SIGTERM",
        libc::SIGINT => "SIGINT",
        libc::SIGHUP => "SIGHUP",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGFPE => "SIGFPE",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGSYS => "SIGSYS",
        libc::SIGXCPU => "SIGXCPU",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests;
