//! Why a call is not carried out, in words.

use llamactl_protocol::options::nearest;
use llamactl_protocol::{Failure, Kind};

/// This daemon's version, as messages name it.
pub(super) const THIS_DAEMON: &str = concat!("llamactld ", env!("CARGO_PKG_VERSION"));

/// The longest message or hint sent, in bytes: some repeat what the peer sent.
pub(super) const TEXT_BYTES: usize = 4 << 10;

/// The start of a text, no longer than `max_bytes`, cut between characters.
pub(super) fn shortened(text: &str, max_bytes: usize) -> &str {
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
pub(super) fn unknown_method(name: &str, known: &[&str]) -> Failure {
    let name = shortened(name, 128);
    let hint = match nearest(name, known) {
        Some(near) => format!("did you mean {near}? this daemon is {THIS_DAEMON}"),
        None => format!("rpc.discover lists the methods; this daemon is {THIS_DAEMON}"),
    };
    Failure::new(Kind::UnknownMethod, format!("there is no method {name}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_method_is_named_when_it_is_near() {
        let hint = |typed: &str| {
            let known = ["model.add", "model.list", "server.start"];
            unknown_method(typed, &known).hints.0[0].to_string()
        };
        assert!(hint("model.ad").starts_with("did you mean model.add?"));
        assert!(hint("modle.list").starts_with("did you mean model.list?"));
        for far in ["frobnicate", ""] {
            assert!(!hint(far).contains("did you mean"), "{far}");
        }
        assert!(unknown_method(&"x".repeat(5000), &[]).message.len() < 200);
    }
}
