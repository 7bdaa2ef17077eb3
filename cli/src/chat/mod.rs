//! One question to a server and its answer, as it is written.
//!
//! ```text
//!   messages ─▶ POST /v1/chat/completions, streaming ─▶ pieces of text ─▶ a Sink
//!                                                    ╰▶ the answer: text, timings, how it ended
//! ```
//!
//! The request goes to the server itself, not through the daemon. Dropping the future closes the
//! connection, and with it the generation ends.

mod http;
mod sse;

use crate::exit::Quit;
use crate::output::units;
use http::Answer;
use llamactl_protocol::server::Endpoint;
use llamactl_protocol::{Failure, Hint, Kind};
use serde::Deserialize;
use serde_json::{Value, json};

/// How an answer is to be made; what is absent is as the server has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SamplingOptions {
    /// At most this many tokens.
    pub(crate) max_tokens: Option<u32>,
    /// The temperature.
    pub(crate) temperature: Option<f64>,
    /// The seed.
    pub(crate) seed: Option<i64>,
}

/// Where a model answers.
#[derive(Clone)]
pub(crate) struct Place {
    /// Where its server listens.
    pub(crate) endpoint: Endpoint,
    /// The key it asks for.
    pub(crate) key: Option<String>,
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
    place: &Place,
    model: &str,
    messages: &[Value],
    sampling: &SamplingOptions,
    sink: &mut impl Sink,
) -> Result<Finished, Unanswered> {
    let body = request(model, messages, sampling);
    let answer = http::post(place, "/chat/completions", &body).await?;
    match answer.response.status().as_u16() {
        200..300 => receive(answer, sink).await,
        503 => Err(Unanswered::Loading),
        _ => Err(answer.refusal().await.into()),
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

async fn receive(mut answer: Answer, sink: &mut impl Sink) -> Result<Finished, Unanswered> {
    let mut reading = Reading::default();
    while !reading.done {
        let Ok(Some(bytes)) = answer.piece().await else { break };
        reading.take(&bytes, sink)?;
    }
    Ok(reading.end()?)
}

/// An answer being read.
#[derive(Default)]
struct Reading {
    parser: sse::Parser,
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
    fn take(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Quit> {
        let events = self.parser.push(bytes).map_err(|_| garbled())?;
        for event in events {
            if event.data == "[DONE]" {
                self.done = true;
                continue;
            }
            if event.is_error {
                let error = serde_json::from_str(&event.data).unwrap_or(Value::String(event.data));
                return Err(broken_off(&error).into());
            }
            sink.chunk(&event.data)?;
            self.chunk(&event.data, sink)?;
        }
        Ok(())
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
        Err(Failure::new(
            Kind::ServerFailed,
            "the server closed the connection before the answer was whole",
        )
        .hint(Hint::run("see whether it still runs", ["llamactl", "status", "NAME"])))
    }
}

fn garbled() -> Failure {
    Failure::new(Kind::ServerFailed, "the server's answer is not what llama-server sends")
}

fn broken_off(error: &Value) -> Failure {
    let said = error.get("message").unwrap_or(error);
    let said = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
    Failure::new(Kind::ServerFailed, format!("the server broke off: {said}"))
        .details(json!({ "error": error }))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let taken = reading.take(wire.as_bytes(), &mut kept);
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
