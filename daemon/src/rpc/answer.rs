//! Answers as JSON texts: a result, or a failure as an error. None is longer than a message may be.

use super::refusal::{TEXT_BYTES, shortened};
use jsonrpsee_types::{ErrorObject, ErrorObjectOwned, Id, Response, ResponsePayload};
use llamactl_protocol::{Failure, Hint, Hints, Kind};
use serde::Serialize;
use serde_json::Value;
use std::io;

/// The answer that carries a result.
///
/// # Errors
/// [`Kind::AnswerTooLarge`] when it would be longer than `max_bytes`; [`Kind::Internal`] when the
/// result is nothing that JSON can say.
pub(super) fn answer<T: Serialize>(
    id: Id<'_>,
    result: &T,
    max_bytes: usize,
) -> Result<String, Failure> {
    // A reference is `Clone`, which jsonrpsee asks for and results need not be.
    let response = Response::new(ResponsePayload::success(result), id);
    let mut text = Bounded { bytes: Vec::with_capacity(128), max_bytes };
    match serde_json::to_writer(&mut text, &response) {
        Ok(()) => {}
        Err(error) if error.is_io() => {
            let message = format!("the answer would be longer than {max_bytes} bytes");
            return Err(Failure::new(Kind::AnswerTooLarge, message)
                .hint("ask for less: most lists take limit and after"));
        }
        Err(_) => return Err(unwritable()),
    }
    String::from_utf8(text.bytes).map_err(|_| unwritable())
}

fn unwritable() -> Failure {
    Failure::new(Kind::Internal, "the answer could not be written as JSON")
        .hint("this is a defect of the daemon")
}

/// The answer that says why not. Evidence that would make it longer than `max_bytes` is left out,
/// the reason never.
pub(super) fn refuse(id: Id<'_>, failure: &Failure, max_bytes: usize) -> String {
    let text = error_text(id.clone(), failure, failure.details.as_ref());
    if text.len() <= max_bytes { text } else { error_text(id, failure, None) }
}

/// The line that answers something that was not a call: a refused connection, junk.
pub(super) fn refusal_line(failure: &Failure, max_bytes: usize) -> String {
    refuse(Id::Null, failure, max_bytes)
}

fn error_text(id: Id<'_>, failure: &Failure, details: Option<&Value>) -> String {
    let error = ResponsePayload::<()>::error(error_object(failure, details));
    // Integers, texts and JSON that was a value already: there is nothing to fail at.
    serde_json::to_string(&Response::new(error, id)).unwrap_or_default()
}

/// The most hints sent.
const HINTS: usize = 2;

/// The `data` of an error object. `kind` is always there.
#[derive(Serialize)]
struct Data<'a> {
    kind: Kind,
    #[serde(flatten)]
    hints: Hints,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Value>,
}

fn error_object(failure: &Failure, details: Option<&Value>) -> ErrorObjectOwned {
    let hints = failure.hints.0.iter().take(HINTS).map(|hint| {
        // Half a command is none.
        let fits = hint.argv.iter().map(String::len).sum::<usize>() <= TEXT_BYTES;
        let argv = if fits { hint.argv.clone() } else { vec![] };
        Hint { text: shortened(&hint.text, TEXT_BYTES).to_owned(), argv }
    });
    let data = Data { kind: failure.kind, hints: hints.collect(), details };
    ErrorObject::owned(failure.kind.code(), shortened(&failure.message, TEXT_BYTES), Some(data))
}

/// A buffer that refuses to grow beyond a size, so that what is too long costs no more than that.
struct Bounded {
    bytes: Vec<u8>,
    max_bytes: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.max_bytes.saturating_sub(self.bytes.len()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn a_result_is_answered_up_to_the_longest_message() {
        let text = answer(Id::Str("a".into()), &json!([1]), 1024).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({"jsonrpc": "2.0", "id": "a", "result": [1]})
        );
        let length = text.len();
        assert_eq!(answer(Id::Str("a".into()), &json!([1]), length).unwrap(), text);
        let failure = answer(Id::Str("a".into()), &json!([1]), length - 1).unwrap_err();
        assert_eq!(failure.kind, Kind::AnswerTooLarge);
        let no_json = BTreeMap::from([(vec![1], 1)]);
        assert_eq!(answer(Id::Null, &no_json, 1024).unwrap_err().kind, Kind::Internal);
    }

    #[test]
    fn an_error_carries_kind_hint_and_details() {
        let failure = Failure::new(Kind::ModelNotFound, "no model x")
            .hint(Hint::run("see which there are", ["llamactl", "model", "list"]))
            .details(json!({"near": ["y"]}));
        let answer: Value = serde_json::from_str(&refuse(Id::Number(7), &failure, 1024)).unwrap();
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "id": 7, "error": {"code": 1001, "message": "no model x",
                "data": {"kind": "model_not_found", "hint": "see which there are",
                    "commands": [["llamactl", "model", "list"]],
                    "details": {"near": ["y"]}}}})
        );
    }

    #[test]
    fn an_error_is_never_too_large() {
        let failure = Failure::new(Kind::ServerFailed, "ä".repeat(100_000))
            .hint("ö".repeat(100_000))
            .hint(Hint::run("x", ["y".repeat(100_000)]))
            .details(json!("x".repeat(100_000)));
        let text = refuse(Id::Null, &failure, 20_000);
        assert!(text.len() < 20_000);
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["error"]["code"], 1040);
    }
}
