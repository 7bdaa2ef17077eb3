//! One question to a server and its answer, as it is written.
//!
//! ```text
//!   messages ─▶ POST /v1/chat/completions, streaming ─▶ pieces of text ─▶ a Sink
//!                                                    ╰▶ the answer: text, timings, how it ended
//! ```
//!
//! The request goes to the server itself, not through the daemon. Dropping the future closes the
//! connection, and with it the generation ends.

mod failure;

use crate::connection::Reach;
use crate::exit::Quit;
use crate::output::units;
use failure::{broken_off, cut, garbled};
use llama_http::{Answer, Event, HttpError, Request, Target};
use llamactl_protocol::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

/// How an answer is to be made; what is absent is as the server has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SamplingOptions {
    /// At most this many tokens.
    pub(crate) max_tokens: Option<u32>,
    /// How freely tokens are sampled, from 0; `None` leaves it to the server.
    pub(crate) temperature: Option<f64>,
    /// What sampling begins from, to get an answer again; `None` leaves it to the server.
    pub(crate) seed: Option<i64>,
}

/// The server that answers for a model.
#[derive(Clone)]
pub(crate) struct Upstream {
    /// How it is reached.
    pub(crate) way: Way,
    /// The key it asks for.
    pub(crate) key: Option<String>,
}

/// How a server is reached.
#[derive(Clone)]
pub(crate) enum Way {
    /// Where it listens on this machine.
    Here(Target),
    /// Through the machine where the daemon is.
    There(Reach),
}

impl Way {
    async fn send(&self, model: &str, request: Request<'_>) -> Result<Answer, Failure> {
        match self {
            Way::Here(target) => {
                let sent = target.send(request).await;
                sent.map_err(|error| failure::unanswered(&target.to_string(), &error))
            }
            Way::There(reach) => {
                let sent = Target::send_over(reach.server(model).await?, request).await;
                sent.map_err(|error| failure::unanswered(model, &error))
            }
        }
    }
}

/// Where pieces of an answer go.
pub(crate) trait Sink {
    /// A chunk, as it came.
    fn chunk(&mut self, json: &str) -> Result<(), Quit>;
    /// A piece of the answer's text.
    fn text(&mut self, piece: &str) -> Result<(), Quit>;
    /// A piece of what the model thinks before it answers.
    fn reasoning(&mut self, piece: &str) -> Result<(), Quit>;
}

/// A finished answer.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Finished {
    /// All of its text.
    pub(crate) text: String,
    /// How fast it was.
    pub(crate) timings: Option<Timings>,
    /// Whether it ends because of a limit rather than by itself.
    pub(crate) cut_by_limit: bool,
}

/// llama-server's own measurements.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Timings {
    prompt_n: Option<f64>,
    prompt_per_second: Option<f64>,
    predicted_n: Option<f64>,
    predicted_per_second: Option<f64>,
}

impl Timings {
    /// `26 prompt tokens at 912/s, 40 tokens at 138/s`
    pub(crate) fn line(&self) -> Option<String> {
        let part = |count: Option<f64>, what: &str, speed: Option<f64>| {
            let speed = speed.filter(|speed| speed.is_finite() && *speed > 0.0);
            let speed = speed.map(|speed| format!(" at {}/s", units::rate(speed)));
            count.map(|count| format!("{count:.0} {what}{}", speed.unwrap_or_default()))
        };
        let prompt = part(self.prompt_n, "prompt tokens", self.prompt_per_second);
        let answer = part(self.predicted_n, "tokens", self.predicted_per_second);
        crate::output::facts::listed([prompt, answer])
    }
}

/// Why a question was not answered.
pub(crate) enum Unanswered {
    /// The server is still loading: wait and ask again.
    Loading,
    /// It failed, or printing did.
    Quit(Quit),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Unanswered::Quit(failure.into())
    }
}

impl From<Quit> for Unanswered {
    fn from(quit: Quit) -> Self {
        Unanswered::Quit(quit)
    }
}

/// Asks, and passes the answer on as it comes.
///
/// # Errors
/// [`Unanswered`].
pub(crate) async fn ask(
    upstream: &Upstream,
    model: &str,
    messages: &[Value],
    sampling: &SamplingOptions,
    sink: &mut impl Sink,
) -> Result<Finished, Unanswered> {
    let Upstream { way, key } = upstream;
    let body = request(model, messages, sampling).to_string();
    let request = Request::post("/v1/chat/completions", body).key(key.as_deref());
    let answer = way.send(model, request).await?;
    match answer.status().as_u16() {
        200..300 => receive(answer, sink).await,
        503 => Err(Unanswered::Loading),
        _ => Err(failure::refused(answer).await.into()),
    }
}

/// The request's body. What nobody asked for is not sent: the server's settings hold.
fn request(model: &str, messages: &[Value], sampling: &SamplingOptions) -> Value {
    let mut body = json!({
        "model": model,
        "messages": messages,
        "stream": true,
        "stream_options": { "include_usage": true },
        "timings_per_token": false,
    });
    if let Some(fields) = body.as_object_mut() {
        let wished = [
            ("max_tokens", sampling.max_tokens.map(Value::from)),
            ("temperature", sampling.temperature.map(Value::from)),
            ("seed", sampling.seed.map(Value::from)),
        ];
        for (name, value) in wished {
            fields.extend(value.map(|value| (name.to_owned(), value)));
        }
    }
    body
}

async fn receive(answer: Answer, sink: &mut impl Sink) -> Result<Finished, Unanswered> {
    let mut reading = Reading::default();
    let mut events = answer.events();
    while !reading.done {
        match events.next().await {
            Ok(Some(event)) => reading.take(event, sink)?,
            Err(HttpError::TooLong(_)) => return Err(garbled().into()),
            Ok(None) | Err(_) => break,
        }
    }
    Ok(reading.end()?)
}

/// An answer being read.
#[derive(Default)]
struct Reading {
    finished: Finished,
    /// The server said why the text ends.
    has_reason: bool,
    /// The server said that nothing follows.
    done: bool,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    timings: Option<Timings>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
}

impl Reading {
    fn take(&mut self, event: Event, sink: &mut impl Sink) -> Result<(), Quit> {
        if event.data == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        if event.is_error {
            let error = serde_json::from_str(&event.data).unwrap_or(Value::String(event.data));
            return Err(broken_off(&error).into());
        }
        sink.chunk(&event.data)?;
        self.chunk(&event.data, sink)
    }

    fn chunk(&mut self, data: &str, sink: &mut impl Sink) -> Result<(), Quit> {
        let chunk: Chunk = serde_json::from_str(data).map_err(|_| garbled())?;
        if let Some(error) = chunk.error {
            return Err(broken_off(&error).into());
        }
        for choice in chunk.choices {
            if let Some(piece) = choice.delta.reasoning_content.filter(|piece| !piece.is_empty()) {
                sink.reasoning(&piece)?;
            }
            if let Some(piece) = choice.delta.content.filter(|piece| !piece.is_empty()) {
                sink.text(&piece)?;
                self.finished.text.push_str(&piece);
            }
            if let Some(reason) = choice.finish_reason {
                self.has_reason = true;
                self.finished.cut_by_limit = reason == "length";
            }
        }
        if chunk.timings.is_some() {
            self.finished.timings = chunk.timings;
        }
        Ok(())
    }

    /// The answer, if it came whole.
    fn end(self) -> Result<Finished, Failure> {
        if self.done || self.has_reason {
            return Ok(self.finished);
        }
        Err(cut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llama_http::EventParser;

    /// Keeps what it is given.
    #[derive(Default)]
    struct Kept {
        chunks: usize,
        text: String,
        reasoning: String,
    }

    impl Sink for Kept {
        fn chunk(&mut self, _: &str) -> Result<(), Quit> {
            self.chunks += 1;
            Ok(())
        }
        fn text(&mut self, piece: &str) -> Result<(), Quit> {
            self.text.push_str(piece);
            Ok(())
        }
        fn reasoning(&mut self, piece: &str) -> Result<(), Quit> {
            self.reasoning.push_str(piece);
            Ok(())
        }
    }

    fn read(wire: &str) -> (Result<Finished, Quit>, Kept) {
        let (mut reading, mut kept) = (Reading::default(), Kept::default());
        let events = EventParser::default().push(wire.as_bytes()).unwrap();
        let taken = events.into_iter().try_for_each(|event| reading.take(event, &mut kept));
        (taken.and_then(|()| Ok(reading.end()?)), kept)
    }

    const ANSWER: &str = concat!(
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null},\"finish_reason\":null}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"lo\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{},\"timings\":{\"cache_n\":0,\"prompt_n\":26,\"prompt_per_second\":912.3,\"predicted_n\":40,\"predicted_per_second\":138.2}}\n\n",
        "data: [DONE]\n\n",
    );

    #[test]
    fn an_answer_in_pieces() {
        let (finished, kept) = read(ANSWER);
        let finished = finished.unwrap();
        assert_eq!((kept.text.as_str(), kept.reasoning.as_str(), kept.chunks), ("Hello", "hm", 6));
        assert_eq!((finished.text.as_str(), finished.cut_by_limit), ("Hello", true));
        assert_eq!(
            finished.timings.unwrap().line().as_deref(),
            Some("26 prompt tokens at 912/s, 40 tokens at 138/s")
        );
    }

    #[test]
    fn a_cut_answer_is_a_failure() {
        let cut = &ANSWER[..ANSWER.find("\"finish_reason\":\"length\"").unwrap() - 30];
        let (outcome, kept) = read(cut);
        let Err(Quit::Failure(failure)) = outcome else { panic!("taken as whole") };
        assert_eq!((failure.kind.exit_status(), kept.text.as_str()), (8, "Hello"));
    }

    #[test]
    fn errors_inside_the_stream_are_told() {
        for wire in [
            "data: {\"error\":{\"code\":500,\"message\":\"out of memory\"}}\n\n",
            "error: {\"code\":500,\"message\":\"out of memory\"}\n\n",
        ] {
            let Err(Quit::Failure(failure)) = read(wire).0 else { panic!("{wire}") };
            assert_eq!(failure.message, "the server broke off: out of memory");
        }
        assert!(matches!(read("data: nonsense\n\n").0, Err(Quit::Failure(_))));
    }

    #[test]
    fn only_what_was_asked_for_is_sent() {
        let bare = request("m", &[], &SamplingOptions::default());
        assert!(bare.get("temperature").is_none() && bare.get("max_tokens").is_none());
        let full = request(
            "m",
            &[],
            &SamplingOptions { max_tokens: Some(5), temperature: Some(0.0), seed: Some(1) },
        );
        assert_eq!((&full["max_tokens"], &full["seed"]), (&json!(5), &json!(1)));
    }
}
