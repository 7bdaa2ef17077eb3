//! Ollama's Modelfile, as the arguments of a llama-server that does the same. Pure.
//!
//! ```text
//!   FROM ./x.gguf            ─▶ --model           ADAPTER ./a.gguf ─▶ --lora
//!   PARAMETER num_ctx 8192   ─▶ --ctx-size 8192   TEMPLATE, SYSTEM, MESSAGE, … ─▶ left out
//! ```

use super::shell::Expanded;
use crate::transfer::omissions::Omissions;
use crate::transfer::position::unreadable;
use llamactl_protocol::{Failure, Hint};
use std::path::Path;

/// What a line may begin with, and why it is left out; without a reason it is taken.
const INSTRUCTIONS: [(&str, Option<&str>); 10] = [
    ("FROM", None),
    ("PARAMETER", None),
    ("ADAPTER", None),
    (
        "TEMPLATE",
        Some(
            "it is written for Ollama; llama-server takes the template in the model's file, or one in \
             Jinja: chat-template-file",
        ),
    ),
    ("SYSTEM", Some(OF_REQUESTS)),
    ("MESSAGE", Some(OF_REQUESTS)),
    ("LICENSE", Some("it says nothing of how the model runs")),
    ("RENDERER", Some(OF_OLLAMA)),
    ("PARSER", Some(OF_OLLAMA)),
    ("REQUIRES", Some(OF_OLLAMA)),
];
const OF_REQUESTS: &str =
    "llama-server takes it with each request: say it there, or llamactl run --system";
const OF_OLLAMA: &str = "it is for Ollama's own programs";

/// Parameters and the options that mean the same.
const PARAMETERS: [(&str, &str); 22] = [
    ("num_ctx", "--ctx-size"),
    ("num_batch", "--batch-size"),
    ("num_gpu", "--gpu-layers"),
    ("num_thread", "--threads"),
    ("num_predict", "--predict"),
    ("num_keep", "--keep"),
    ("main_gpu", "--main-gpu"),
    ("seed", "--seed"),
    ("temperature", "--temp"),
    ("top_k", "--top-k"),
    ("top_p", "--top-p"),
    ("min_p", "--min-p"),
    ("typical_p", "--typical-p"),
    ("repeat_last_n", "--repeat-last-n"),
    ("repeat_penalty", "--repeat-penalty"),
    ("presence_penalty", "--presence-penalty"),
    ("frequency_penalty", "--frequency-penalty"),
    ("mirostat", "--mirostat"),
    ("mirostat_tau", "--mirostat-ent"),
    ("mirostat_eta", "--mirostat-lr"),
    ("rope_frequency_base", "--rope-freq-base"),
    ("rope_frequency_scale", "--rope-freq-scale"),
];

/// Whether a text is a Modelfile.
pub(in crate::transfer) fn is_one(text: &str) -> bool {
    instructions(text).is_some_and(|all| all.iter().any(|(name, _)| *name == "FROM"))
}

/// The arguments of a llama-server that does the same.
///
/// # Errors
/// `Kind::Unreadable` where it is made from a model that only Ollama has.
pub(super) fn arguments(
    text: &str,
    home: Option<&Path>,
    left_out: &mut Omissions,
) -> Result<Vec<Expanded>, Failure> {
    let mut words: Vec<String> = Vec::new();
    let mut has_model = false;
    for (name, value) in instructions(text).unwrap_or_default() {
        match name {
            // One that sees has its projector in a second one.
            "FROM" if has_model => words.extend(["--mmproj".to_owned(), path(&value, home)]),
            "FROM" if is_path(&value) => {
                has_model = true;
                words.extend(["--model".to_owned(), path(&value, home)]);
            }
            "FROM" => {
                let message = format!("the Modelfile is made from {value}, a model of Ollama's");
                return Err(unreadable(message, None).hint(Hint::run(
                    "register the models that Ollama has here",
                    ["llamactl", "model", "scan", "--add"],
                )));
            }
            "ADAPTER" => words.extend(["--lora".to_owned(), path(&value, home)]),
            "PARAMETER" => parameter(&value, &mut words, left_out),
            _ => {
                let reason = INSTRUCTIONS.iter().find(|(it, _)| *it == name).and_then(|it| it.1);
                left_out.add(name, reason.unwrap_or_default());
            }
        }
    }
    // What `ollama show --modelfile` prints says in a comment what the model is called.
    let named = text.lines().find_map(|line| line.strip_prefix("# FROM "));
    words.extend(named.into_iter().flat_map(|name| ["--alias".to_owned(), name.trim().to_owned()]));
    Ok(words.into_iter().map(|text| Expanded { text, unknown: None }).collect())
}

/// `num_ctx 8192`
fn parameter(said: &str, words: &mut Vec<String>, left_out: &mut Omissions) {
    let (key, value) = said.split_once(char::is_whitespace).unwrap_or((said, ""));
    let value = value.trim().trim_matches('"');
    let flag = PARAMETERS.iter().find(|(it, _)| *it == key).map(|(_, flag)| *flag);
    match (key, value, flag) {
        (_, _, Some(flag)) => words.extend([flag, value].map(str::to_owned)),
        ("use_mmap", "true", _) => words.push("--mmap".to_owned()),
        ("use_mmap", "false", _) => words.push("--no-mmap".to_owned()),
        ("use_mlock", "true", _) => words.push("--mlock".to_owned()),
        ("stop", ..) => left_out.add("PARAMETER stop", OF_REQUESTS),
        _ => left_out.add(format!("PARAMETER {key}"), "llama-server has no such option"),
    }
}

fn is_path(value: &str) -> bool {
    value.starts_with(['/', '.', '~']) || value.contains('\\') || value.ends_with(".gguf")
}

fn path(value: &str, home: Option<&Path>) -> String {
    match (value.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => home.join(below).to_string_lossy().into_owned(),
        _ => value.to_owned(),
    }
}

/// Each instruction with what it says; `None` where something else stands at its place.
fn instructions(text: &str) -> Option<Vec<(&'static str, String)>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    loop {
        rest = rest.trim_start();
        let line = rest.lines().next().unwrap_or_default();
        if line.starts_with('#') {
            rest = rest.get(line.len()..)?;
            continue;
        }
        let Some((word, said)) = line.split_once(char::is_whitespace) else {
            return rest.is_empty().then_some(found);
        };
        let is_it = |(name, _): &&(&'static str, _)| name.eq_ignore_ascii_case(word);
        let (name, _) = INSTRUCTIONS.iter().find(is_it)?;
        rest = rest.get(word.len()..)?.trim_start_matches([' ', '\t']);
        // A text between quotes goes over lines.
        let quote = ["\"\"\"", "\""].into_iter().find(|quote| rest.starts_with(quote));
        let (value, behind) = match quote {
            Some(quote) => rest.get(quote.len()..)?.split_once(quote)?,
            None => (said.trim(), rest.get(rest.find('\n').unwrap_or(rest.len())..)?),
        };
        found.push((*name, value.to_owned()));
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, Omissions), Failure> {
        let mut left_out = Omissions::default();
        let words = arguments(text, Some(Path::new("/home/me")), &mut left_out)?;
        let words: Vec<String> = words.into_iter().map(|it| it.text).collect();
        Ok((words.join(" "), left_out))
    }

    #[test]
    fn what_has_a_meaning_here_is_taken_and_the_rest_has_its_reason() {
        let text = "# Modelfile generated by \"ollama show\"\n# FROM qwen3:8b\n\n\
            FROM /usr/share/ollama/blobs/sha256-ab\nFROM ~/m/mmproj.gguf\n\
            TEMPLATE \"\"\"{{ if .System }}FROM x\nPARAMETER y 1{{ end }}\"\"\"\n\
            SYSTEM \"You are\nbrief.\"\nadapter ./a.gguf\n\
            PARAMETER num_ctx 8192\nparameter temperature 0.6\n\
            PARAMETER stop \"<|im_end|>\"\nPARAMETER stop </s>\n\
            PARAMETER use_mmap false\nPARAMETER low_vram true\nLICENSE MIT\n";
        assert!(is_one(text));
        let (words, left_out) = read(text).unwrap();
        assert_eq!(
            words,
            "--model /usr/share/ollama/blobs/sha256-ab --mmproj /home/me/m/mmproj.gguf --lora ./a.gguf \
             --ctx-size 8192 --temp 0.6 --no-mmap --alias qwen3:8b"
        );
        let left: Vec<_> = left_out.list().iter().map(|it| (it.what.as_str(), it.count)).collect();
        assert_eq!(
            left,
            [
                ("TEMPLATE", 1),
                ("SYSTEM", 1),
                ("PARAMETER stop", 2),
                ("PARAMETER low_vram", 1),
                ("LICENSE", 1)
            ]
        );
        assert!(left_out.list().iter().all(|it| !it.reason.is_empty()));
    }

    #[test]
    fn one_made_from_a_model_of_ollamas_says_how_to_have_that() {
        let failure = read("FROM llama3.2\nPARAMETER num_ctx 4096\n").unwrap_err();
        assert!(failure.message.contains("made from llama3.2"), "{failure}");
        assert_eq!(failure.hints.0[0].argv, ["llamactl", "model", "scan", "--add"]);
    }

    #[test]
    fn what_is_none_is_not_taken_for_one() {
        for text in [
            "FROM debian\nRUN apt-get update\nCMD [\"llama-server\"]\n",
            "PARAMETER num_ctx 1\n",
            "FROM \"x",
            "FROM",
            "",
            "llama-server -m x.gguf",
        ] {
            assert!(!is_one(text), "{text}");
        }
    }
}
