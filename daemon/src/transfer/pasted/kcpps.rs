//! The file in which KoboldCpp keeps how it was started (`.kcpps`), as the arguments of a llama-server that
//! does the same. Pure.
//!
//! KoboldCpp writes every option it has into it; what has its usual value says nothing and is passed over.

use super::shell::Expanded;
use crate::transfer::omissions::Omissions;
use crate::transfer::position::unreadable;
use llamactl_protocol::{Failure, Hint};
use serde_json::{Map, Value};

/// Keys and the options that mean the same.
const OPTIONS: [(&str, &str); 18] = [
    ("model_param", "--model"),
    ("model", "--model"),
    ("mmproj", "--mmproj"),
    ("draftmodel", "--model-draft"),
    ("draftamount", "--draft-max"),
    ("draftgpulayers", "--gpu-layers-draft"),
    ("contextsize", "--ctx-size"),
    ("gpulayers", "--gpu-layers"),
    ("tensor_split", "--tensor-split"),
    ("maingpu", "--main-gpu"),
    ("moecpu", "--n-cpu-moe"),
    ("overridetensors", "--override-tensor"),
    ("overridekv", "--override-kv"),
    ("threads", "--threads"),
    ("blasthreads", "--threads-batch"),
    ("batchsize", "--ubatch-size"),
    ("blasbatchsize", "--ubatch-size"),
    ("password", "--api-key"),
];

/// Keys that are switched on, and the arguments that do the same.
const SWITCHES: [(&str, &[&str]); 8] = [
    ("flashattention", &["--flash-attn", "on"]),
    ("usemmap", &["--mmap"]),
    ("nommap", &["--no-mmap"]),
    ("usemlock", &["--mlock"]),
    ("jinja", &["--jinja"]),
    ("useswa", &[]),
    ("noshift", &["--no-context-shift"]),
    ("usecpu", &["--gpu-layers", "0"]),
];

/// How keys and values are kept, by the number of `quantkv`.
const QUANTIZED: [&str; 3] = ["f16", "q8_0", "q4_0"];

/// What says nothing of a server of llamactl's, as the file has it in any case.
const OF_KOBOLDCPP: &str = "it is for KoboldCpp's own parts, or llama-server has no such option";
const ADDRESS: &str = "llamactl model set NAME port=auto gives the model a port";

fn object(text: &str) -> Option<Map<String, Value>> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let object = text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()?;
    // Every one has both, with a value or without.
    let is_one = |object: &Map<String, Value>| {
        ["model_param", "contextsize"].iter().all(|key| object.contains_key(*key))
    };
    Some(object).filter(is_one)
}

/// Whether a text is such a file.
pub(in crate::transfer) fn is_one(text: &str) -> bool {
    object(text).is_some()
}

/// The arguments of a llama-server that does the same.
///
/// # Errors
/// `Kind::Unreadable` where it names no model: KoboldCpp asks for one then.
pub(super) fn arguments(text: &str, left_out: &mut Omissions) -> Result<Vec<Expanded>, Failure> {
    let mut words: Vec<String> = Vec::new();
    for (key, value) in object(text).unwrap_or_default() {
        if is_usual(&value) {
            continue;
        }
        let switch = SWITCHES.iter().find(|(it, _)| *it == key);
        let option = OPTIONS.iter().find(|(it, _)| *it == key);
        match (key.as_str(), option, switch) {
            (_, Some((_, flag)), _) => words.extend([(*flag).to_owned(), text_of(&value)]),
            (_, _, Some((_, arguments))) => {
                words.extend(arguments.iter().map(|&it| it.to_owned()));
            }
            ("quantkv", ..) => {
                let kind = value.as_u64().and_then(|it| usize::try_from(it).ok());
                match kind.and_then(|it| QUANTIZED.get(it)) {
                    Some(kind) => words.extend(
                        ["--cache-type-k", kind, "--cache-type-v", kind].map(str::to_owned),
                    ),
                    None => left_out.add(key, OF_KOBOLDCPP),
                }
            }
            // Scale and base, 0 for the model's own.
            ("ropeconfig", ..) => {
                let numbers = value.as_array().into_iter().flatten().filter_map(Value::as_f64);
                for (flag, number) in ["--rope-freq-scale", "--rope-freq-base"].iter().zip(numbers)
                {
                    if number > 0.0 {
                        words.extend([(*flag).to_owned(), number.to_string()]);
                    }
                }
            }
            // The file, and how much of it.
            ("lora", ..) => {
                let file = value.get(0).unwrap_or(&value);
                words.extend(["--lora".to_owned(), text_of(file)]);
            }
            ("port" | "port_param" | "host", ..) => left_out.add(key, ADDRESS),
            _ => left_out.add(key, OF_KOBOLDCPP),
        }
    }
    if !words.iter().any(|word| word == "--model") {
        let hint = Hint::run("register one", ["llamactl", "model", "add", "FILE"]);
        return Err(unreadable("this file of KoboldCpp's names no model", None).hint(hint));
    }
    Ok(words.into_iter().map(|text| Expanded { text, unknown: None }).collect())
}

/// Whether a value is one that KoboldCpp writes where nobody set one.
fn is_usual(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64().is_some_and(|it| it <= 0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_usual),
        Value::Object(object) => object.is_empty(),
        Value::Bool(true) => false,
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_taken_and_what_nobody_set_is_passed_over() {
        let text = r#"{"model": null, "model_param": "C:\\m\\x.gguf", "port": 5001, "port_param": 5001,
            "host": "", "launch": true, "threads": 7, "contextsize": 16384, "gpulayers": 99,
            "usecublas": ["normal", "0", "mmq"], "usevulkan": null, "blasbatchsize": 512, "nommap": false,
            "usemlock": true, "lora": ["a.gguf", "1.0"], "ropeconfig": [0.0, 10000.0], "tensor_split": [3, 1],
            "flashattention": true, "quantkv": 1, "mmproj": "", "draftmodel": null, "draftamount": 0,
            "sdmodel": "", "sdthreads": 7, "multiuser": 1, "password": "s3cret"}"#;
        assert!(is_one(text));
        let mut left_out = Omissions::default();
        let words = arguments(text, &mut left_out).unwrap();
        let words: Vec<&str> = words.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(
            words.join(" "),
            "--ubatch-size 512 --ctx-size 16384 --flash-attn on --gpu-layers 99 --lora a.gguf \
             --model C:\\m\\x.gguf --api-key s3cret --cache-type-k q8_0 --cache-type-v q8_0 \
             --rope-freq-base 10000 --tensor-split 3,1 --threads 7 --mlock"
        );
        let left: Vec<&str> = left_out.list().iter().map(|it| it.what.as_str()).collect();
        assert_eq!(left, ["launch", "multiuser", "port", "port_param", "sdthreads", "usecublas"]);
        let nameless = r#"{"model_param": "", "contextsize": 4096}"#;
        assert!(arguments(nameless, &mut left_out).is_err());
        for other in ["{}", r#"{"contextsize": 1}"#, r#"{"model_param": "x""#, "[]", ""] {
            assert!(!is_one(other), "{other}");
        }
    }
}
