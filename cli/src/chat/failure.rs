//! What a server's refusals and broken answers are as failures.

use llama_http::{Answer, HttpError};
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::{Value, json};

/// The longest refusal that is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 1 << 20;

/// There is no answer.
pub(super) fn unanswered(target: &str, error: &HttpError) -> Failure {
    let message = match error {
        HttpError::Connect(error) => format!("the server at {target} cannot be reached: {error}"),
        error => format!("the server did not answer: {error}"),
    };
    Failure::new(Kind::ServerFailed, message)
}

/// The server answered with a status that is none of success.
pub(super) async fn refused(answer: Answer) -> Failure {
    let status = answer.status();
    let body = answer.whole(MAX_REFUSAL_BYTES).await.unwrap_or_default();
    refusal(status.as_u16(), &body)
}

fn refusal(status: u16, body: &[u8]) -> Failure {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = body.pointer("/error/message").or(body.get("error")).and_then(Value::as_str);
    let message = match said {
        Some(said) => format!("the server refused: {said}"),
        None => format!("the server answered with HTTP status {status}"),
    };
    Failure::new(Kind::ServerFailed, message)
        .details(json!({ "http_status": status, "error": body.get("error") }))
}

/// The server sent something that is no chunk of an answer.
pub(super) fn garbled() -> Failure {
    Failure::new(Kind::ServerFailed, "the server's answer is not what llama-server sends")
}

/// The server sent an error in the middle of an answer.
pub(super) fn broken_off(error: &Value) -> Failure {
    let said = error.get("message").unwrap_or(error);
    let said = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
    Failure::new(Kind::ServerFailed, format!("the server broke off: {said}"))
        .details(json!({ "error": error }))
}

/// The answer ended before the server said that it is whole.
pub(super) fn cut() -> Failure {
    Failure::new(Kind::ServerFailed, "the server closed the connection before the answer was whole")
        .hint(Hint::run("see whether it still runs", ["llamactl", "status", "NAME"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use llama_http::{Request, Target};

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let said = refusal(400, br#"{"error":{"code":400,"message":"too long","type":"x"}}"#);
        assert_eq!(said.message, "the server refused: too long");
        assert_eq!(said.details.unwrap()["http_status"], 400);
        assert_eq!(refusal(502, b"<html>").message, "the server answered with HTTP status 502");
    }

    #[tokio::test]
    async fn nowhere_to_go_is_said() {
        let target = Target::Socket("/nonexistent/x.sock".into());
        let error = target.send(Request::get("/x")).await.err().unwrap();
        let failure = unanswered(&target.to_string(), &error);
        assert_eq!(failure.kind, Kind::ServerFailed);
        assert!(failure.message.contains("/nonexistent/x.sock"), "{failure}");
    }
}
