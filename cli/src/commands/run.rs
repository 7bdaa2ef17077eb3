//! `llamactl run MODEL [PROMPT…]`

use crate::args::more;
use crate::chat::{Finished, SamplingOptions, Sink, Timings, Unanswered, Upstream, Way, ask};
use crate::complete::model_names;
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::{Outcome, Quit};
use crate::output::Output;
use crate::waiting::{Deadline, Goal, Request, Wanted, until};
use clap::Args;
use llama_http::Target;
use llamactl_protocol::model::ModelKey;
use llamactl_protocol::server::{Endpoint, Server, ServerShow, ServerStart, State};
use llamactl_protocol::{Failure, Hint, Kind, WirePath};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Behavior, Config, Editor};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::io::{self, IsTerminal as _, Read as _};
use std::time::Duration;
use tokio::signal::ctrl_c;
use tokio::time::sleep;

/// The longest prompt, in bytes.
const MAX_PROMPT_BYTES: u64 = 8 << 20;
/// How long to leave a server alone that is ready for the daemon and says that it is loading.
const LOADING_PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
    Duration::from_millis(3200),
];

/// Ask a model, or chat with it
///
/// Starts the model's server if it is stopped, and leaves it running. The prompt is the arguments;
/// standard input is read where one of them is -, and where there is none. At a terminal without a
/// prompt it is a chat, with editing and history: /bye or Ctrl-D ends it, Ctrl-C stops the current
/// answer. The answer goes to stdout, timings to stderr.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl run qwen3 \"Why is the sky blue?\"",
    "llamactl run qwen3 \"Summarize this:\" - --max-tokens 200 < report.txt",
    "llamactl run qwen3 --system \"Answer in one word.\"";
    "0 answered, 2 no prompt, 3 no such model, 6 daemon unreachable, 8 the server failed or refused, 130 interrupted"
))]
pub(crate) struct Run {
    /// A model, by name or alias
    #[arg(add = model_names())]
    model: String,
    /// The prompt
    #[arg(value_name = "PROMPT")]
    prompt: Vec<String>,
    /// Instructions before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Generate at most this many tokens
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// Temperature
    #[arg(long, value_name = "X", value_parser = temperature)]
    temp: Option<f64>,
    /// Seed, for the same answer again
    #[arg(long, value_name = "N")]
    seed: Option<i64>,
}

fn temperature(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err("expected a number that is not negative".to_owned())
    }
}

/// Asks a model.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Run) -> Outcome {
    let interactive = args.prompt.is_empty() && io::stdin().is_terminal();
    let prompt = if interactive { None } else { Some(prompt(&args.prompt)?) };
    let daemon = reach.daemon(Autostart::Always).await?;
    let mut conversation = Conversation {
        output,
        reach,
        daemon: &daemon,
        model: args.model,
        upstream: None,
        messages: Vec::new(),
        sampling: SamplingOptions {
            max_tokens: args.max_tokens,
            temperature: args.temp,
            seed: args.seed,
        },
    };
    if let Some(system) = args.system {
        conversation.messages.push(json!({ "role": "system", "content": system }));
    }
    match prompt {
        Some(prompt) => conversation.say(prompt).await,
        None => conversation.chat().await,
    }
}

/// The prompt: the arguments, then standard input where one of them is `-`, or where there is none.
fn prompt(words: &[String]) -> Result<String, Failure> {
    let (asked, words): (Vec<&str>, Vec<&str>) =
        words.iter().map(String::as_str).partition(|word| *word == "-");
    let mut piped = Vec::new();
    if !asked.is_empty() || words.is_empty() {
        io::stdin().lock().take(MAX_PROMPT_BYTES + 1).read_to_end(&mut piped).map_err(|error| {
            Failure::new(Kind::IoFailed, format!("standard input cannot be read: {error}"))
        })?;
    }
    join(&words, piped)
}

fn join(words: &[&str], piped: Vec<u8>) -> Result<String, Failure> {
    let too_long = |length: usize| u64::try_from(length).is_ok_and(|n| n > MAX_PROMPT_BYTES);
    if too_long(piped.len()) {
        return Err(Failure::new(Kind::InvalidValue, "the prompt is longer than 8 MiB"));
    }
    let piped = String::from_utf8(piped)
        .map_err(|_| Failure::new(Kind::InvalidValue, "standard input is not UTF-8 text"))?;
    let words = words.join(" ");
    match (words.trim().is_empty(), piped.trim().is_empty()) {
        (true, true) => Err(Failure::new(Kind::Usage, "there is no prompt")
            .hint(Hint::run("pipe text in, or ask", ["llamactl", "run", "NAME", "a question"]))),
        (true, false) => Ok(piped),
        (false, true) => Ok(words),
        (false, false) => Ok(format!("{words}\n\n{piped}")),
    }
}

/// A conversation with one model.
struct Conversation<'a> {
    output: &'a mut Output,
    reach: &'a Reach,
    daemon: &'a Daemon,
    model: String,
    upstream: Option<Upstream>,
    messages: Vec<Value>,
    sampling: SamplingOptions,
}

impl Conversation<'_> {
    /// One question and its answer.
    async fn say(&mut self, prompt: String) -> Outcome {
        self.messages.push(json!({ "role": "user", "content": prompt }));
        for pause in LOADING_PAUSES.into_iter().map(Some).chain([None]) {
            let upstream = match self.upstream.clone() {
                Some(upstream) => upstream,
                None => self.ready().await?,
            };
            let mut printer = Printer { output: self.output, open_line: false, thinking: false };
            let answer = ask(&upstream, &self.model, &self.messages, &self.sampling, &mut printer);
            let answer = tokio::select! {
                answer = answer => answer,
                _ = ctrl_c() => Err(Unanswered::Quit(Quit::Told(Kind::Interrupted.exit_status()))),
            };
            printer.end_line()?;
            match answer {
                Ok(finished) => {
                    self.upstream = Some(upstream);
                    return self.answered(finished);
                }
                Err(Unanswered::Quit(quit)) => return Err(quit),
                Err(Unanswered::Loading) => {
                    self.upstream = None;
                    // After the last pause it is asked once more.
                    let Some(pause) = pause else { break };
                    tokio::select! {
                        () = sleep(pause) => {}
                        _ = ctrl_c() => return Err(Quit::Told(Kind::Interrupted.exit_status())),
                    }
                }
            }
        }
        Err(Failure::new(
            Kind::ServerFailed,
            format!("{} goes on saying that it is loading", self.model),
        )
        .hint(Hint::run("see how it is", ["llamactl", "status", &self.model]))
        .into())
    }

    fn answered(&mut self, finished: Finished) -> Outcome {
        tell(self.output, &finished);
        self.messages.push(json!({ "role": "assistant", "content": finished.text }));
        Ok(())
    }

    /// Questions from the terminal until it ends.
    async fn chat(&mut self) -> Outcome {
        self.upstream = Some(self.ready().await?);
        self.output.aside("Ask away. /bye or Ctrl-D ends, Ctrl-C stops an answer.");
        let mut questions = Questions::of_terminal()?;
        loop {
            let line = match questions.next().await? {
                Typed::Line(line) => line,
                Typed::Interrupt => {
                    self.output.note("/bye or Ctrl-D ends the chat");
                    continue;
                }
                Typed::End => return Ok(()),
            };
            match line.trim() {
                "" => continue,
                "/bye" => return Ok(()),
                word if word.starts_with('/') && !word.contains(char::is_whitespace) => {
                    self.output.note(format!("there is no {word} here; /bye ends the chat"));
                    continue;
                }
                _ => {}
            }
            let before = self.messages.len();
            match self.say(line).await {
                Ok(()) => {}
                Err(Quit::Told(_)) => self.messages.truncate(before),
                Err(Quit::Failure(failure)) if failure.kind == Kind::ServerFailed => {
                    self.messages.truncate(before);
                    self.upstream = None;
                    self.output.failure(&failure);
                }
                Err(quit) => return Err(quit),
            }
        }
    }

    /// Where the model answers; it is started first if it does not run.
    async fn ready(&mut self) -> Result<Upstream, Quit> {
        let server = self.daemon.call(&ServerShow { model: self.model.clone().into() }).await?;
        let server = match server.state {
            State::Ready | State::Sleeping => server,
            _ => self.start().await?,
        };
        let way = match &self.reach.host {
            Some(_) => Way::There(self.reach.clone()),
            None => Way::Here(target(server)?),
        };
        Ok(Upstream { way, key: self.key().await? })
    }

    /// The key the server asks for: llama-server's own variable for it, else what the daemon
    /// knows.
    async fn key(&self) -> Result<Option<String>, Failure> {
        if let Some(key) = std::env::var("LLAMA_API_KEY").ok().filter(|key| !key.is_empty()) {
            return Ok(Some(key));
        }
        match self.daemon.call(&ModelKey { model: self.model.clone().into() }).await {
            Ok(key) => Ok(Some(key.key)),
            // Who may not read it has to bring it along; an older daemon knows none.
            Err(failure) => match failure.kind {
                Kind::KeyNotSet | Kind::NotAllowed | Kind::UnknownMethod => Ok(None),
                _ => Err(failure),
            },
        }
    }

    async fn start(&mut self) -> Result<Server, Quit> {
        let accepted = self
            .daemon
            .call(&ServerStart { model: self.model.clone().into(), ..ServerStart::default() })
            .await?;
        let request = Some(Request::of(&accepted));
        let wanted = Wanted { model: accepted.server.model, goal: Goal::Ready, request };
        until(self.output, self.daemon, wanted, Deadline::after(None)).await
    }
}

/// Where a server listens.
///
/// # Errors
/// [`Kind::NotRunning`].
pub(crate) fn target(server: Server) -> Result<Target, Failure> {
    let target = server.endpoint.and_then(|Endpoint { socket, url }| {
        Target::of_endpoint(socket.as_ref().map(WirePath::as_path), url.as_deref())
    });
    target.ok_or_else(|| {
        Failure::new(Kind::NotRunning, format!("{} runs, but nobody knows where", server.model))
    })
}

/// What a person typed.
enum Typed {
    Line(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    End,
}

/// Questions from the terminal, with editing and a history of this chat.
struct Questions(Option<Editor<(), MemHistory>>);

impl Questions {
    fn of_terminal() -> Result<Self, Failure> {
        // The prompt must not get into a file that takes the answers.
        let behavior = match io::stdout().is_terminal() {
            true => Behavior::Stdio,
            false => Behavior::PreferTerm,
        };
        let config = Config::builder().auto_add_history(true).behavior(behavior).build();
        let history = MemHistory::with_config(&config);
        let editor = Editor::with_history(config, history);
        Ok(Questions(Some(editor.map_err(unreadable)?)))
    }

    /// The next line. It is read on a thread: the keys are waited for there.
    async fn next(&mut self) -> Result<Typed, Failure> {
        let Some(mut editor) = self.0.take() else { return Ok(Typed::End) };
        let read = tokio::task::spawn_blocking(move || {
            let line = editor.readline(">>> ");
            (editor, line)
        });
        let (editor, line) = read.await.map_err(unreadable)?;
        self.0 = Some(editor);
        match line {
            Ok(line) => Ok(Typed::Line(line)),
            Err(ReadlineError::Interrupted) => Ok(Typed::Interrupt),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(unreadable(error)),
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::IoFailed, format!("the terminal cannot be read: {error}"))
}

/// Says behind an answer how it went.
fn tell(output: &Output, finished: &Finished) {
    if finished.cut_by_limit {
        output.aside("… the answer ends here because of --max-tokens or the context size");
    }
    if let Some(line) = finished.timings.as_ref().and_then(Timings::line) {
        output.aside(line);
    }
}

/// Prints an answer as it comes.
struct Printer<'a> {
    output: &'a mut Output,
    /// Text was printed and its line has no end yet.
    open_line: bool,
    /// The last thing shown was reasoning.
    thinking: bool,
}

impl Printer<'_> {
    fn end_line(&mut self) -> Outcome {
        self.end_thinking();
        if std::mem::take(&mut self.open_line) { self.output.piece("\n") } else { Ok(()) }
    }

    fn end_thinking(&mut self) {
        if std::mem::take(&mut self.thinking) {
            self.output.aside_piece("\n");
        }
    }
}

impl Sink for Printer<'_> {
    fn chunk(&mut self, json: &str) -> Result<(), Quit> {
        if !self.output.json {
            return Ok(());
        }
        let chunk: &RawValue = serde_json::from_str(json).map_err(|_| {
            Failure::new(Kind::ServerFailed, "the server's answer is not what llama-server sends")
        })?;
        self.output.json(chunk)
    }

    fn text(&mut self, piece: &str) -> Result<(), Quit> {
        if self.output.json {
            return Ok(());
        }
        self.end_thinking();
        self.open_line = !piece.ends_with('\n');
        self.output.piece(piece)
    }

    fn reasoning(&mut self, piece: &str) -> Result<(), Quit> {
        self.thinking = true;
        self.output.aside_piece(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_lines;

    fn joined(words: &[&str], piped: &[u8]) -> Result<String, Kind> {
        join(words, piped.to_vec()).map_err(|failure| failure.kind)
    }

    #[test]
    fn the_prompt_is_the_arguments_then_what_is_piped() {
        assert_eq!(joined(&["sum", "up"], b"text\n").as_deref(), Ok("sum up\n\ntext\n"));
        assert_eq!(joined(&["sum", "up"], b"").as_deref(), Ok("sum up"));
        assert_eq!(joined(&[], b"text").as_deref(), Ok("text"));
        assert_eq!(joined(&[], b" \n"), Err(Kind::Usage));
        assert_eq!(joined(&["x"], b"\xff"), Err(Kind::InvalidValue));
        assert_eq!(joined(&["x"], &vec![b'a'; (8 << 20) + 1]), Err(Kind::InvalidValue));
    }

    #[test]
    fn a_temperature_is_a_number() {
        assert_eq!(temperature("0.7"), Ok(0.7));
        for bad in ["-1", "nan", "inf", "warm"] {
            assert!(temperature(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_and_how_it_went() {
        let timings = json!({ "prompt_n": 26, "prompt_per_second": 912.4, "predicted_n": 40,
            "predicted_per_second": 138.2 });
        let finished = Finished {
            cut_by_limit: true,
            timings: serde_json::from_value(timings).unwrap(),
            ..Finished::default()
        };
        assert_lines("run", |output| {
            let mut printer = Printer { output, open_line: false, thinking: false };
            printer.reasoning("Rayleigh, of course.")?;
            for piece in ["The sky is ", "blue.\n", "It scatters \u{1b}[31mlight"] {
                printer.text(piece)?;
            }
            printer.end_line()?;
            tell(printer.output, &finished);
            Ok(())
        });
    }
}
