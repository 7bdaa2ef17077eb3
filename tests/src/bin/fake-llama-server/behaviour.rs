//! How to behave: a JSON object beside the model. Every field may be left out.

use serde::Deserialize;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// How to behave.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Behaviour {
    /// Wait this long before listening.
    pub(crate) listen_after_ms: u64,
    /// Load for this long, from listening to ready.
    pub(crate) load_ms: u64,
    /// What `/health` answers.
    pub(crate) health: Health,
    /// Answer nothing at all any more, this long after becoming ready.
    pub(crate) hang_after_ms: Option<u64>,
    /// End by itself.
    pub(crate) exit: Option<Exit>,
    /// Catch SIGTERM and SIGINT from the start and do nothing about them.
    pub(crate) ignore_term: bool,
    /// Take this long to end after the first SIGTERM; a second one ends it at once.
    pub(crate) stop_ms: u64,
    /// Say that it is ready, in the log and to the program that started it, while it still loads.
    pub(crate) lie_about_ready: bool,
    /// Report progress and readiness on stdout where the starting program asks for that.
    pub(crate) progress: bool,
    /// Lines to write to stdout at the start.
    pub(crate) stdout: Vec<String>,
    /// Lines to write to stderr at the start.
    pub(crate) stderr: Vec<String>,
    /// Lines to write to stderr at the start, each as bytes in hexadecimal.
    pub(crate) stderr_hex: Vec<String>,
    /// Lines `flood 0`, `flood 1`, … to write to stderr from the moment it is ready.
    pub(crate) flood: Option<Flood>,
    /// Let a second process do all this and end at once with 0, as a program that makes itself a
    /// daemon does.
    pub(crate) double_fork: bool,
    /// Wait this long before every answer.
    pub(crate) answer_delay_ms: u64,
    /// Tokens of an answer for which the request sets no limit.
    pub(crate) tokens: u64,
    /// How fast an answer comes.
    pub(crate) tokens_per_second: f64,
    /// Say no more of an answer behind this many tokens, and stay busy with it for ever.
    pub(crate) stall_after_tokens: Option<u64>,
    /// Write the path of each request beside the model.
    pub(crate) note_requests: bool,
    /// Break off an answer, connection and all, behind this many tokens.
    pub(crate) cut_after_tokens: Option<u64>,
}

/// What `/health` answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Health {
    /// 503 while it loads, then 200.
    #[default]
    Ok,
    /// 503, for ever: it loads and loads.
    Never,
    /// The connection is taken and nothing is answered, on any path.
    Hang,
    /// 503 once it has been ready.
    Sick,
}

/// An end by itself.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Exit {
    /// How long after `when`.
    pub(crate) after_ms: u64,
    /// From when that counts.
    pub(crate) when: When,
    /// With this exit code …
    pub(crate) code: i32,
    /// … or by this signal.
    pub(crate) signal: Option<i32>,
}

/// A moment of its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    /// When it starts.
    #[default]
    Start,
    /// When it is ready.
    Ready,
}

/// Many lines.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flood {
    /// How many.
    pub(crate) lines: u64,
    /// How fast; as fast as it can when absent.
    pub(crate) lines_per_second: Option<u64>,
    /// How long each is made, its end included.
    #[serde(default)]
    pub(crate) line_bytes: usize,
    /// How many go into one write; one when absent.
    #[serde(default)]
    pub(crate) lines_per_write: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            listen_after_ms: 0,
            load_ms: 0,
            health: Health::Ok,
            hang_after_ms: None,
            exit: None,
            ignore_term: false,
            stop_ms: 0,
            lie_about_ready: false,
            progress: true,
            stdout: Vec::new(),
            stderr: Vec::new(),
            stderr_hex: Vec::new(),
            flood: None,
            double_fork: false,
            answer_delay_ms: 0,
            tokens: 16,
            tokens_per_second: 1000.0,
            stall_after_tokens: None,
            note_requests: false,
            cut_after_tokens: None,
        }
    }
}

impl Behaviour {
    /// The behaviour written beside `model`, or good behaviour where nothing is.
    ///
    /// # Errors
    /// A sentence, when what is there cannot be read.
    pub(crate) fn beside(model: &Path) -> Result<Behaviour, String> {
        let path = llamactl_tests::llama::fake_script(model);
        match fs::read_to_string(&path) {
            Ok(text) => {
                serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Behaviour::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }
}
