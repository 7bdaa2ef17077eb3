//! A line, read as JSON-RPC 2.0: one request, a batch of them, or junk with a reason.
//!
//! ```text
//!   bytes ── shape ── UTF-8 ── JSON ── request? ──▶ One(entry) | Batch(entries) | Failure
//! ```
//!
//! Pure. What is wrong with one entry of a batch is that entry's failure; what is wrong with the
//! line is the line's. Ids are strings of up to 256 bytes, whole numbers from 0, or `null`; a
//! request without one is a notification, is carried out, and gets no answer.

use super::limits::Limits;
use super::refusal::one_line;
use jsonrpsee_types::{Id, Params, TwoPointZero};
use llamactl_protocol::{Failure, Kind};
use memchr::memchr2;
use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The longest id a request may have, in bytes: every answer repeats it.
const ID_BYTES: usize = 256;

/// What a line says.
#[derive(Debug)]
pub(super) enum Message {
    One(Entry),
    Batch(Vec<Entry>),
}

impl Message {
    /// Whether any of its calls is to a method that `is` so.
    pub(super) fn any_call(&self, is: impl Fn(&str) -> bool) -> bool {
        let is = |entry: &Entry| matches!(entry, Entry::Call(call) if is(&call.method));
        match self {
            Message::One(entry) => is(entry),
            Message::Batch(entries) => entries.iter().any(is),
        }
    }
}

/// One request, or what kept it from being one.
#[derive(Debug)]
pub(super) enum Entry {
    Call(Arc<Call>),
    Bad { id: Id<'static>, failure: Failure },
}

/// A request as it was parsed, before anybody knows whether there is such a method.
#[derive(Debug)]
pub(super) struct Call {
    /// Absent in a notification.
    pub(super) id: Option<Id<'static>>,
    pub(super) method: String,
    pub(super) params: Params<'static>,
}

/// Reads a line.
pub(super) fn parse(line: &[u8], limits: &Limits) -> Result<Message, Failure> {
    check_shape(line, limits)?;
    let text = std::str::from_utf8(line).map_err(|error| {
        let at = error.valid_up_to();
        not_json(&format!("byte {at} is not UTF-8"))
    })?;
    if !text.trim_start().starts_with('[') {
        return Ok(Message::One(entry(text)?));
    }
    let entries: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| not_json(&one_line(&error)))?;
    if entries.is_empty() {
        return Err(not_a_request("an empty batch asks for nothing"));
    }
    if entries.len() > limits.batch_calls {
        let message =
            format!("the batch holds {} calls; {} may be sent", entries.len(), limits.batch_calls);
        return Err(Failure::new(Kind::BatchTooLong, message).hint("send it in several batches"));
    }
    // Each entry is a JSON value already, so only a defect could make one unreadable here.
    entries.into_iter().map(|raw| entry(raw.get())).collect::<Result<_, _>>().map(Message::Batch)
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(rename = "jsonrpc")]
    _version: TwoPointZero,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<Id<'a>>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Reads an id that is there: `"id": null` is one, no id at all is not.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Id<'de>>, D::Error> {
    deserializer.deserialize_any(IdVisitor).map(Some)
}

/// Reads an [`Id`] by its first byte. Its own `Deserialize` tries each form in turn, and that
/// shows in the time of a small call.
struct IdVisitor;

impl<'de> Visitor<'de> for IdVisitor {
    type Value = Id<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id: a string, a whole number from 0, or null")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Id::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Id::Str(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Id::Str(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Id::Null)
    }
}

/// Reads one request. `Err` when the text is not JSON at all.
fn entry(text: &str) -> Result<Entry, Failure> {
    let request: Request<'_> = match serde_json::from_str(text) {
        Ok(request) => request,
        Err(why) => {
            // What is not even JSON is told apart here: the first error may be either.
            serde_json::from_str::<IgnoredAny>(text).map_err(|why| not_json(&one_line(&why)))?;
            return Ok(Entry::Bad { id: id_of(text), failure: not_a_request(&one_line(&why)) });
        }
    };
    if request.id.as_ref().is_some_and(is_too_long) {
        let failure = not_a_request(&format!("its id is longer than {ID_BYTES} bytes"));
        return Ok(Entry::Bad { id: Id::Null, failure });
    }
    Ok(Entry::Call(Arc::new(Call {
        id: request.id.map(Id::into_owned),
        method: request.method.into_owned(),
        params: Params::new(request.params.map(RawValue::get)).into_owned(),
    })))
}

/// The id of something that is not a request, where it has one.
fn id_of(text: &str) -> Id<'static> {
    #[derive(Deserialize)]
    struct OnlyId<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        id: Option<Id<'a>>,
    }
    match serde_json::from_str::<OnlyId<'_>>(text) {
        Ok(OnlyId { id: Some(id) }) if !is_too_long(&id) => id.into_owned(),
        _ => Id::Null,
    }
}

fn is_too_long(id: &Id<'_>) -> bool {
    id.as_str().is_some_and(|text| text.len() > ID_BYTES)
}

fn not_json(why: &str) -> Failure {
    Failure::new(Kind::ParseError, format!("the line is not JSON: {why}"))
}

fn not_a_request(why: &str) -> Failure {
    Failure::new(Kind::InvalidRequest, format!("not a JSON-RPC 2.0 request: {why}"))
        .hint(r#"send {"jsonrpc":"2.0","id":1,"method":"noun.verb","params":{}} on one line"#)
}

/// Refuses a text that would cost more to read than a call may, before anything is made of it:
/// arrays and objects nested too deep, too many values, a key that is too long. What stands in
/// strings does not count; of a text that is not JSON the answer means nothing, which its parser
/// then says.
fn check_shape(text: &[u8], limits: &Limits) -> Result<(), Failure> {
    let (mut open, mut values) = (0usize, 1usize);
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => {
                open = open.saturating_add(1);
                values += 1;
                if open > limits.depth {
                    let message =
                        format!("the message is nested deeper than {} levels", limits.depth);
                    return Err(Failure::new(Kind::TooDeep, message));
                }
            }
            b']' | b'}' => open = open.saturating_sub(1),
            // Each value but the first of its array or object stands behind a comma.
            b',' => values += 1,
            b'"' => {
                let begun = at;
                at = end_of_string(text, at);
                let bytes = at.saturating_sub(begun + 1);
                if bytes > limits.key_bytes && is_key(text.get(at..).unwrap_or_default()) {
                    let message = format!("the message has a key of {bytes} bytes");
                    return Err(Failure::new(Kind::InvalidRequest, message)
                        .hint(format!("a key may have {} bytes", limits.key_bytes)));
                }
            }
            _ => {}
        }
        if values > limits.values {
            let message = format!("the message holds more than {} values", limits.values);
            return Err(Failure::new(Kind::TooManyValues, message).hint("ask for less at once"));
        }
    }
    Ok(())
}

/// The place behind the string that began before `at`.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += found + 1;
        if text.get(at - 1) == Some(&b'"') {
            return at;
        }
        at += 1;
    }
    text.len()
}

/// Whether what stands before `rest` is a key.
fn is_key(rest: &[u8]) -> bool {
    rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a line reads as: ids and methods of its entries, or the kind of its failure.
    fn reads_as(line: &[u8]) -> String {
        fn entry(entry: &Entry) -> String {
            match entry {
                Entry::Call(call) => match &**call {
                    Call { id: None, method, .. } => format!("{method}!"),
                    Call { id: Some(id), method, params } => {
                        format!("{method}#{} {}", id_text(id), params.as_str().unwrap_or("-"))
                    }
                },
                Entry::Bad { id, failure } => format!("{}#{}", failure.kind, id_text(id)),
            }
        }
        fn id_text(id: &Id<'_>) -> String {
            serde_json::to_string(id).unwrap()
        }
        match parse(line, &Limits::default()) {
            Ok(Message::One(one)) => entry(&one),
            Ok(Message::Batch(entries)) => entries.iter().map(entry).collect::<Vec<_>>().join(", "),
            Err(failure) => failure.kind.to_string(),
        }
    }

    #[test]
    fn lines_read_as_what_the_specification_says() {
        let long_id = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"m"}}"#, "x".repeat(257));
        let long_batch = format!("[{}1]", "1,".repeat(64));
        let cases: &[(&str, &str)] = &[
            (r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#, "m#1 -"),
            (
                r#" {"params" : {"a":[1]}, "method":"m","id":"x","jsonrpc":"2.0"}"#,
                r#"m#"x" {"a":[1]}"#,
            ),
            (r#"{"jsonrpc":"2.0","id":null,"method":"m","params":null}"#, "m#null -"),
            (r#"{"jsonrpc":"2.0","method":"m"}"#, "m!"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","extra":{}}"#, "m#1 -"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"\u006d"}"#, "m#1 -"),
            (r#"{"jsonrpc":"2.0","id":"\u006d\n","method":"m"}"#, r#"m#"m\n" -"#),
            (
                r#"{"jsonrpc":"2.0","id":18446744073709551615,"method":"m"}"#,
                "m#18446744073709551615 -",
            ),
            (
                r#"[{"jsonrpc":"2.0","id":1,"method":"a"},7,{"jsonrpc":"2.0","method":"b"}]"#,
                "a#1 -, invalid_request#null, b!",
            ),
            // Not requests.
            ("[]", "invalid_request"),
            ("{}", "invalid_request#null"),
            (r#"{"foo":1}"#, "invalid_request#null"),
            ("1", "invalid_request#null"),
            ("null", "invalid_request#null"),
            (r#""text""#, "invalid_request#null"),
            (r#"{"jsonrpc":"2.0","id":7,"method":1}"#, "invalid_request#7"),
            (r#"{"jsonrpc":"1.0","id":7,"method":"m"}"#, "invalid_request#7"),
            (r#"{"id":7,"method":"m"}"#, "invalid_request#7"),
            (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, "invalid_request#null"),
            (r#"{"jsonrpc":"2.0","id":-1,"method":"m"}"#, "invalid_request#null"),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#, "invalid_request#null"),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#, "invalid_request#null"),
            (r#"{"jsonrpc":"2.0","id":3,"method":"m","method":"n"}"#, "invalid_request#3"),
            (r#"{"jsonrpc":"2.0","id":3,"result":7}"#, "invalid_request#3"),
            (&long_id, "invalid_request#null"),
            (&long_batch, "batch_too_long"),
            // Not JSON.
            ("junk", "parse_error"),
            ("{", "parse_error"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m"}}"#, "parse_error"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":NaN}"#, "parse_error"),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"a"},]"#, "parse_error"),
            ("\u{feff}{}", "parse_error"),
            ("{\"jsonrpc\":\"2.0\",\0\"id\":1}", "parse_error"),
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\tb\"}", "parse_error"),
        ];
        for (line, expected) in cases {
            assert_eq!(reads_as(line.as_bytes()), *expected, "{line}");
        }
        assert_eq!(reads_as(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}"), "parse_error");
        assert_eq!(reads_as(b"\xc3\x28"), "parse_error");
    }

    #[test]
    fn nesting_counts_outside_strings_only() {
        let nested = |levels: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"p":{open}{close}}}}}"#)
        };
        assert!(reads_as(nested(62).as_bytes()).starts_with("m#1"));
        assert_eq!(reads_as(nested(63).as_bytes()), "too_deep");
        assert_eq!(reads_as("[".repeat(1 << 20).as_bytes()), "too_deep");
        let in_a_string = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{}\"{}\\"}}"#,
            "[".repeat(90),
            "{".repeat(90)
        );
        assert!(reads_as(in_a_string.as_bytes()).contains("#1"));
    }

    #[test]
    fn a_line_of_too_many_values_or_with_a_long_key_is_refused_unread() {
        let limits = Limits::default();
        let call =
            |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#);
        let list = |count: usize| call(&format!(r#"{{"x":[{}]}}"#, vec!["1"; count].join(",")));
        // Beside the list's own: the call, its four values behind commas, params, x.
        assert!(reads_as(list(limits.values - 10).as_bytes()).starts_with("m#1"));
        assert_eq!(reads_as(list(limits.values).as_bytes()), "too_many_values");
        let nested = call(&format!("[{}]", vec!["{}"; limits.values / 2 + 1].join(",")));
        assert_eq!(reads_as(nested.as_bytes()), "too_many_values");
        // Commas and colons in a text are text.
        let text = call(&format!(r#"{{"x":"{}\": {{"}}"#, ",".repeat(limits.values * 2)));
        assert!(reads_as(text.as_bytes()).starts_with("m#1"));

        let key = |bytes: usize| call(&format!("{{\"{}\" \n: 1}}", "k".repeat(bytes)));
        assert!(reads_as(key(256).as_bytes()).starts_with("m#1"));
        assert_eq!(reads_as(key(257).as_bytes()), "invalid_request");
        assert_eq!(reads_as(key(1_000_000).as_bytes()), "invalid_request");
    }

    #[test]
    fn a_failure_says_what_is_wrong_in_one_line() {
        let failure = parse(b"{\"jsonrpc\":\"2.0\",\"id\":1}", &Limits::default());
        let Ok(Message::One(Entry::Bad { failure, .. })) = failure else { panic!("{failure:?}") };
        assert_eq!(failure.message, "not a JSON-RPC 2.0 request: missing field `method`");
        assert!(!failure.hints.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_read_as_something(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&line, &Limits::default());
        }

        #[test]
        fn mangled_requests_read_as_something(
            at in 0usize..80,
            with in any::<u8>(),
            cut in 0usize..80,
        ) {
            let mut line = br#"[{"jsonrpc":"2.0","id":"a","method":"m","params":{"x":[1,{"y":"\\"}]}},{"id":7}]"#.to_vec();
            if let Some(byte) = line.get_mut(at) { *byte = with; }
            line.truncate(cut);
            let _ = parse(&line, &Limits::default());
        }
    }
}
