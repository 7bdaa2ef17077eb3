//! Failures, made into JSON-RPC error answers; and the words they are said in.

use jsonrpsee::MethodResponse;
use jsonrpsee::types::{ErrorObject, ErrorObjectOwned, Id};
use llamactl_protocol::{Failure, Kind};
use serde::Serialize;
use serde_json::Value;

/// This daemon's version, as messages name it.
pub(super) const THIS_DAEMON: &str = concat!("llamactld ", env!("CARGO_PKG_VERSION"));

/// The longest message or hint sent, in bytes: some repeat what the peer sent.
const TEXT_BYTES: usize = 4 << 10;

/// The `data` of an error object. `kind` is always there.
#[derive(Serialize)]
struct Data<'a> {
    kind: Kind,
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Value>,
}

/// The answer that says why not. `max_bytes` is the longest answer there may be; evidence that
/// does not fit is left out, the reason never.
pub(super) fn refuse(id: Id<'_>, failure: &Failure, max_bytes: usize) -> MethodResponse {
    let answer = MethodResponse::error(id.clone(), error_object(failure, failure.details.as_ref()));
    if answer.as_json().get().len() <= max_bytes {
        return answer;
    }
    MethodResponse::error(id, error_object(failure, None))
}

fn error_object(failure: &Failure, details: Option<&Value>) -> ErrorObjectOwned {
    let hint = failure.hint.as_deref().map(|hint| shortened(hint, TEXT_BYTES));
    let data = Data { kind: failure.kind, hint, details };
    ErrorObject::owned(failure.kind.code(), shortened(&failure.message, TEXT_BYTES), Some(data))
}

/// The line that answers something that was not a call: a refused connection, junk.
pub(super) fn refusal_line(failure: &Failure, max_bytes: usize) -> Box<str> {
    refuse(Id::Null, failure, max_bytes).into_json().into()
}

/// The start of a text, no longer than `max_bytes`, cut between characters.
fn shortened(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes)).unwrap_or(text)
}

/// A JSON error without its position: requests are one line, and people do not count columns.
pub(super) fn one_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    shortened(what, TEXT_BYTES / 2).to_owned()
}

/// Why parameters could not be read, by the method's name and in the words of the wire.
pub(super) fn invalid_params(method: &str, error: &serde_json::Error) -> Failure {
    let mut what = one_line(error);
    for verb in ["unknown", "missing", "duplicate"] {
        if let Some(rest) = what.strip_prefix(&format!("{verb} field ")) {
            what = format!("{verb} parameter {rest}");
        }
    }
    Failure::new(Kind::InvalidParams, format!("{method}: {what}"))
        .hint(format!("this daemon is {THIS_DAEMON}"))
}

/// Parameters that came as a list.
pub(super) fn positional_params(method: &str) -> Failure {
    Failure::new(Kind::InvalidParams, format!("{method}: parameters go by name"))
        .hint(r#"send an object: "params":{"name":value}"#)
}

/// There is no such method; `known` are the ones there are.
pub(super) fn unknown_method(name: &str, known: impl Iterator<Item = &'static str>) -> Failure {
    let name = shortened(name, 128);
    let hint = match nearest(name, known) {
        Some(near) => format!("did you mean {near}? this daemon is {THIS_DAEMON}"),
        None => format!("rpc.discover lists the methods; this daemon is {THIS_DAEMON}"),
    };
    Failure::new(Kind::UnknownMethod, format!("there is no method {name}")).hint(hint)
}

/// The word nearest to what was typed, when one is near enough to be meant.
fn nearest(typed: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let far = typed.chars().count().div_ceil(3);
    known
        .map(|word| (edit_distance(typed, word), word))
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, word)| word)
}

/// Levenshtein's distance: how many letters must be put in, taken out or changed.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, letter) in from.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (above, other) in row.iter().skip(1).zip(&to) {
            let changed = diagonal + usize::from(letter != *other);
            left = changed.min(above + 1).min(left + 1);
            next.push(left);
            diagonal = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_error_carries_kind_hint_and_details() {
        let failure = Failure::new(Kind::ModelNotFound, "no model x")
            .hint("llamactl model list")
            .details(json!({"near": ["y"]}));
        let answer: Value =
            serde_json::from_str(refuse(Id::Number(7), &failure, 1024).as_json().get()).unwrap();
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "id": 7, "error": {"code": 1001, "message": "no model x",
                "data": {"kind": "model_not_found", "hint": "llamactl model list",
                    "details": {"near": ["y"]}}}})
        );
    }

    #[test]
    fn an_error_is_never_too_large() {
        let failure = Failure::new(Kind::ServerFailed, "ä".repeat(100_000))
            .hint("ö".repeat(100_000))
            .details(json!("x".repeat(100_000)));
        let answer = refuse(Id::Null, &failure, 20_000);
        assert!(answer.as_json().get().len() < 20_000);
        assert_eq!(answer.as_error_code(), Some(1040));
    }

    #[test]
    fn the_nearest_method_is_named_when_it_is_near() {
        let known = || ["model.add", "model.list", "server.start"].into_iter();
        assert_eq!(nearest("model.ad", known()), Some("model.add"));
        assert_eq!(nearest("modle.list", known()), Some("model.list"));
        assert_eq!(nearest("frobnicate", known()), None);
        assert_eq!(nearest("", known()), None);
        assert!(
            unknown_method("model.ad", known())
                .hint
                .unwrap()
                .starts_with("did you mean model.add?")
        );
        assert!(unknown_method(&"x".repeat(5000), known()).message.len() < 200);
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, distance) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2), ("é", "e", 1)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }
}
