//! Taking out what is nobody's affair: secrets that are known, what looks like one, homes, prompts.

use regex_lite::{Captures, Regex};
use serde_json::Value;
use std::path::Path;

/// What stands for what was taken out.
const HIDDEN: &str = "[hidden]";
/// What stands for a log line that may hold what somebody said to a model.
const PROMPT: &str = "[a line that may hold a prompt]";
/// A shorter text is no secret that could be told from any word.
const MIN_SECRET: usize = 4;

/// What looks like a secret, whatever it is: the groups stay.
const SHAPES: [&str; 6] = [
    // Words that begin as the keys of well-known services do.
    r"()\b(?:sk|hf|ghp|gho|github_pat|glpat|xox[abp])[-_][A-Za-z0-9_-]{8,}()",
    r"(?i)\b(bearer\s+|basic\s+)[A-Za-z0-9._~+/=-]{6,}()",
    // A name that says it, in an environment, in JSON, or as an option.
    r#"(?i)([A-Za-z0-9_.-]*(?:api[-_]?key|token|secret|passw(?:or)?d|credential)[A-Za-z0-9_-]*"?\s*[=:]\s*"?)[^\s"',}\]]{3,}()"#,
    r"(?i)(--(?:api-key|hf-token|token|password)\s+)[^\s]+()",
    r"(\w+://)[^/\s:@]+:[^/\s@]+(@)",
    // In the headers of a request.
    r"(?i)(x-api-key:\s*)[^\s]+()",
];

/// A variable that somebody set, as events tell of it: nobody knows where its value ends.
const VARIABLE: &str = r"(\benv\.[A-Za-z0-9_]+=)[^\n]+";

/// Keys under which numbers are counted and not kept.
const COUNTS: &[&str] = &["tokens", "token_embd", "tokenizer"];

/// Takes out what is nobody's affair.
#[derive(Debug)]
pub(crate) struct Redactor {
    /// The longest first, so that none is left in part.
    secrets: Vec<String>,
    home: Option<String>,
    shapes: Vec<Regex>,
    variable: Option<Regex>,
    homes: Option<Regex>,
}

impl Redactor {
    /// One that knows these secrets, and this user's home.
    pub(crate) fn new(mut secrets: Vec<String>, home: Option<&Path>) -> Redactor {
        // A file of keys has one in each line.
        let lines: Vec<String> = secrets
            .iter()
            .flat_map(|text| text.lines())
            .map(|line| line.trim().to_owned())
            .collect();
        secrets.extend(lines);
        secrets.retain(|secret| secret.len() >= MIN_SECRET);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        let home = home.and_then(Path::to_str).filter(|home| home.len() > 1).map(str::to_owned);
        // What is wrong with an expression is found by the test below.
        let shapes = SHAPES.iter().filter_map(|shape| Regex::new(shape).ok()).collect();
        let (variable, homes) = (Regex::new(VARIABLE).ok(), Regex::new(r"/home/[^/\s:]+").ok());
        Redactor { secrets, home, shapes, variable, homes }
    }

    /// The same for all texts in a value; keys stay.
    pub(crate) fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(key, value)| {
                    let value = match value {
                        Value::String(text) if is_secret_name(&key) && !text.is_empty() => {
                            HIDDEN.into()
                        }
                        value => self.value(value),
                    };
                    (key, value)
                })
                .collect(),
            other => other,
        }
    }

    /// A text without it.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = self
            .secrets
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN));
        if let Some(variable) = &self.variable {
            let hidden = |found: &Captures<'_>| format!("{}{HIDDEN}", &found[1]);
            text = variable.replace_all(&text, hidden).into_owned();
        }
        for shape in &self.shapes {
            let replace = |found: &Captures<'_>| match is_count(&found[0]) {
                true => found[0].to_owned(),
                false => format!("{}{HIDDEN}{}", &found[1], &found[2]),
            };
            text = shape.replace_all(&text, replace).into_owned();
        }
        if let Some(home) = &self.home {
            text = text.replace(home.as_str(), "~");
        }
        match &self.homes {
            Some(homes) => homes.replace_all(&text, "/home/USER").into_owned(),
            None => text,
        }
    }
}

/// `n_tokens = 512` is no secret.
fn is_count(found: &str) -> bool {
    let found = found.to_ascii_lowercase();
    let digits = found.rsplit(['=', ':', ' ']).next().unwrap_or_default();
    COUNTS.iter().any(|count| found.contains(count))
        || found.contains("token")
            && digits.trim_start_matches('-').chars().all(|it| it.is_ascii_digit() || it == '.')
}

/// Whether what stands under this name is one.
fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let says = ["api-key", "api_key", "apikey", "secret", "password", "passwd", "credential"];
    says.iter().any(|it| name.contains(it)) && !name.ends_with("file")
        || name.ends_with("token")
        || name.ends_with("_key")
}

/// A line of a server's log, without what somebody said to a model: a server that logs everything writes
/// whole requests and answers.
pub(crate) fn log_line(line: &str) -> String {
    let holds =
        ["\"prompt\"", "\"messages\"", "\"content\"", "\"input\"", "request: ", "response: "];
    match holds.iter().any(|it| line.contains(it)) {
        true => PROMPT.to_owned(),
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_looks_like_a_secret_is_hidden_and_what_does_not_stays() {
        let redactor = Redactor::new(vec!["s3cr3t-text".into(), "two\nlines-of-keys".into()], None);
        assert_eq!(redactor.shapes.len(), SHAPES.len());
        for (text, hidden) in [
            ("a s3cr3t-text b", "a [hidden] b"),
            ("lines-of-keys", "[hidden]"),
            ("sk-abcdefghijkl", "[hidden]"),
            ("hf_abcdefghijkl x", "[hidden] x"),
            ("Authorization: Bearer abc.def-123", "Authorization: Bearer [hidden]"),
            ("OPENAI_API_KEY=abc123 next", "OPENAI_API_KEY=[hidden] next"),
            ("{\"api_key\": \"abc123\"}", "{\"api_key\": \"[hidden]\"}"),
            ("--api-key abc --port 1", "--api-key [hidden] --port 1"),
            ("https://ana:pw@host/x", "https://[hidden]@host/x"),
            ("m: env.MINE=a b, env.OTHER=c", "m: env.MINE=[hidden]"),
            ("--api-key 123456", "--api-key [hidden]"),
            ("X-Api-Key: abc", "X-Api-Key: [hidden]"),
            ("/home/ana/models/a.gguf", "/home/USER/models/a.gguf"),
        ] {
            assert_eq!(redactor.text(text), hidden);
        }
        for plain in [
            "print_info: n_tokens = 512, tokens per second: 41.7",
            "llama_model_loader: tokenizer.ggml.tokens arr[str,151936] = [a, b]",
            "BOS token        = 151643",
            "srv  llama_server: listening on http://127.0.0.1:8101",
        ] {
            assert_eq!(redactor.text(plain), plain);
        }
    }

    #[test]
    fn what_stands_under_a_secrets_name_is_hidden_and_prompts_are_left_out() {
        let value =
            json!({ "env.HF_TOKEN": "abc", "api-key": "x", "api-key-file": "/k", "n": [1, "y"] });
        let redacted = Redactor::new(vec![], None).value(value);
        let hidden = json!({
            "env.HF_TOKEN": HIDDEN, "api-key": HIDDEN, "api-key-file": "/k", "n": [1, "y"]
        });
        assert_eq!(redacted, hidden);
        assert_eq!(log_line("srv log_server_r: request: {\"prompt\":\"x\"}"), PROMPT);
        assert_eq!(
            log_line("srv update_slots: all slots are idle"),
            "srv update_slots: all slots are idle"
        );
    }
}
