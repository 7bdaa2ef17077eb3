//! What llama-server says about its own start.
//!
//! In child mode it writes one line per event to its standard output:
//!
//! ```text
//! cmd_child_to_router:state:{"state":"loading","payload":{"stages":["text_model"],"current":"text_model","value":0.4}}
//! cmd_child_to_router:state:{"state":"ready","payload":{"id":"m","meta":{"n_ctx":2048}}}
//! cmd_child_to_router:state:{"state":"sleeping","payload":null}
//! ```
//!
//! Without it there is the log line "listening on …". The protocol is not documented for others than
//! llama-server's own router, so a shape we do not know is no error: it is `None`.

use serde::Deserialize;
use serde_json::Value;

const MARK: &str = "cmd_child_to_router:state:";

/// What a llama-server reports to be doing.
#[derive(Clone, Debug, PartialEq)]
pub enum ChildState {
    /// The model is being loaded.
    Loading {
        /// Everything it will load, in order: `text_model`, `spec_model`, `mmproj_model`.
        stages: Vec<String>,
        /// What it loads now.
        current: Option<String>,
        /// How much of `current` is done, 0 to 1. With memory-mapped files it jumps from 0 to 1.
        done_ratio: Option<f64>,
    },
    /// It answers requests.
    Ready {
        /// What it says about the model (`n_ctx` and so on); `None` when it wakes up.
        meta: Option<Value>,
    },
    /// It has freed the model until the next request.
    Sleeping,
}

#[derive(Deserialize)]
struct Message {
    state: String,
    #[serde(default)]
    payload: Value,
}

/// Reads a line of standard output; `None` when it is no report or one of an unknown shape.
#[must_use]
pub fn parse(line: &str) -> Option<ChildState> {
    let (_, json) = line.split_once(MARK)?;
    // A stream reads the first value only: other output may be glued to the end of the line.
    let message = serde_json::Deserializer::from_str(json).into_iter::<Message>().next()?.ok()?;
    let payload = message.payload;
    match message.state.as_str() {
        "loading" => {
            let names = payload.get("stages").and_then(Value::as_array).into_iter().flatten();
            let done = payload.get("value").and_then(Value::as_f64);
            Some(ChildState::Loading {
                stages: names.filter_map(Value::as_str).map(str::to_owned).collect(),
                current: payload.get("current").and_then(Value::as_str).map(str::to_owned),
                done_ratio: done.filter(|ratio| (0.0..=1.0).contains(ratio)),
            })
        }
        "ready" => {
            Some(ChildState::Ready { meta: payload.get("meta").filter(|m| !m.is_null()).cloned() })
        }
        "sleeping" => Some(ChildState::Sleeping),
        _ => None,
    }
}

/// Whether a log line says that the server has loaded its model and takes requests. Give the text
/// behind the prefix ([`crate::logs::line::Line::text`]).
///
/// Present builds say `llama_server: listening on http://…` (or `unix://…`), older ones
/// `main: server is listening on http://… - starting the main loop`. The same words inside another
/// message, such as a logged prompt, do not count. `HTTP server is listening, hostname: …` comes
/// before the load and does not count either.
#[must_use]
pub fn is_listening_line(text: &str) -> bool {
    let Some((head, address)) = text.split_once("listening on ") else { return false };
    let head = head.strip_suffix("server is ").unwrap_or(head);
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ');
    let by_the_server = head.strip_suffix(": ").is_some_and(|name| name.chars().all(is_name));
    let schemes = ["http://", "https://", "unix://"];
    by_the_server && schemes.iter().any(|scheme| address.starts_with(scheme))
}

/// How large llama-server's prompt cache is, by the line it writes when it puts a prompt away:
/// `… - cache state: 3 prompts, 0.229 MiB (limits: 8192.000 MiB, …`.
#[must_use]
pub fn prompt_cache_bytes(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let (_, state) = text.split_once("- cache state: ")?;
    let (prompts, size) = state.split_once(" prompts, ")?;
    prompts.parse::<u64>().ok()?;
    let mebibytes: f64 = size.split_once(" MiB")?.0.parse().ok()?;
    // More than a machine can have is no size.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (0.0..1e9).contains(&mebibytes).then_some((mebibytes * 1_048_576.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_known_reports_are_read() {
        let loading = r#"cmd_child_to_router:state:{"state":"loading","payload":{"stages":["text_model","mmproj_model"],"current":"text_model","value":0.3999}}"#;
        let expected = ChildState::Loading {
            stages: vec!["text_model".to_owned(), "mmproj_model".to_owned()],
            current: Some("text_model".to_owned()),
            done_ratio: Some(0.3999),
        };
        assert_eq!(parse(loading), Some(expected));

        let ready = r#"cmd_child_to_router:state:{"state":"ready","payload":{"id":"m","meta":{"n_ctx":2048}}}"#;
        let meta = serde_json::json!({"n_ctx": 2048});
        assert_eq!(parse(ready), Some(ChildState::Ready { meta: Some(meta) }));

        let woken = r#"cmd_child_to_router:state:{"state":"ready","payload":null}"#;
        assert_eq!(parse(woken), Some(ChildState::Ready { meta: None }));

        let sleeping = r#"cmd_child_to_router:state:{"state":"sleeping","payload":null}"#;
        assert_eq!(parse(sleeping), Some(ChildState::Sleeping));
    }

    #[test]
    fn glued_output_does_not_hide_a_report() {
        let line = r#"GNU gdb: cmd_child_to_router:state:{"state":"sleeping"}[New LWP 7]"#;
        assert_eq!(parse(line), Some(ChildState::Sleeping));
    }

    #[test]
    fn other_shapes_are_none_and_odd_values_unknown() {
        for line in [
            "",
            "hello",
            "cmd_child_to_router:state:",
            "cmd_child_to_router:state:{",
            "cmd_child_to_router:state:[]",
            r#"cmd_child_to_router:state:{"state":7}"#,
            r#"cmd_child_to_router:state:{"state":"dreaming"}"#,
            r#"cmd_router_to_child:exit"#,
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
        for value in ["-0.1", "1.5", "\"x\"", "null"] {
            let payload = format!(r#"{{"stages":7,"value":{value}}}"#);
            let line = format!(r#"{MARK}{{"state":"loading","payload":{payload}}}"#);
            let nothing = ChildState::Loading { stages: vec![], current: None, done_ratio: None };
            assert_eq!(parse(&line), Some(nothing));
        }
    }

    #[test]
    fn both_wordings_of_listening_count() {
        for (text, listening) in [
            ("srv  llama_server: listening on http://127.0.0.1:19005", true),
            ("srv  llama_server: listening on unix:///run/x.sock", true),
            ("main: server is listening on http://127.0.0.1:80 - starting the main loop", true),
            ("main: HTTP server is listening, hostname: 127.0.0.1, port: 8080", false),
            ("srv  log: prompt: \"main: server is listening on http://x\"", false),
            ("llama_server: listening on a port", false),
            ("listening on http://x", false),
            ("", false),
        ] {
            assert_eq!(is_listening_line(text), listening, "{text}");
        }
    }

    #[test]
    fn the_size_of_the_prompt_cache_is_read() {
        let line = "0.19.201.114 I srv        update:  - cache state: 3 prompts, 0.250 MiB \
                    (limits: 8192.000 MiB, 8192 tokens, 95 est)";
        assert_eq!(prompt_cache_bytes(line.as_bytes()), Some(262_144));
        for other in ["- cache state: 3 prompts, many MiB", "- cache state: -1 prompts, 1 MiB", ""]
        {
            assert_eq!(prompt_cache_bytes(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(rest: String) {
            let _ = parse(&format!("{MARK}{rest}"));
            let _ = is_listening_line(&rest);
            let _ = prompt_cache_bytes(format!("- cache state: {rest}").as_bytes());
        }
    }
}
