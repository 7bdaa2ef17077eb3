//! Files that tell how containers and llama-swap run llama-servers, and pieces of them: each such server
//! as the line of a shell that would run it. Pure.
//!
//! ```text
//!   services: NAME: image, command, environment, volumes ─▶ docker run -e … -v … IMAGE COMMAND
//!   containers: - image, command, args, env              ─▶ docker run -e … IMAGE COMMAND ARGS
//!   models: NAME: cmd, env                               ─▶ A=1 llama-server … --alias NAME
//!   ENV A=1, ENTRYPOINT […], CMD […]                     ─▶ docker run -e A=1 IMAGE …
//! ```

use crate::transfer::omissions::Omissions;
use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// How deep a file may be nested.
const MAX_DEPTH: usize = 32;
/// The most values that are taken, those that aliases repeat among them.
const MAX_VALUES: usize = 100_000;

/// Keys by which such a file is known, each at the beginning of a line.
const KEYS: [&str; 7] =
    ["services:", "containers:", "cmd:", "command:", "args:", "entrypoint:", "environment:"];

/// Whether a text is such a file, or a piece of one.
pub(in crate::transfer) fn is_one(text: &str) -> bool {
    let starts = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ");
        KEYS.iter().any(|key| line.starts_with(key))
    };
    text.lines().any(starts) || exec_form(text.trim()).is_some() || is_dockerfile(text)
}

/// The lines of a shell that run what the text says; `None` where it is no such text.
pub(super) fn lines(text: &str, left_out: &mut Omissions) -> Option<Vec<String>> {
    if !is_one(text) {
        return None;
    }
    if is_dockerfile(text) {
        return Some(vec![dockerfile(text, left_out)]);
    }
    let value = parse(text)?;
    let mut lines = Vec::new();
    walk(&value, None, &macros(&value), &mut lines, left_out);
    (!lines.is_empty()).then_some(lines)
}

/// `["llama-server", "-m", …]`.
fn exec_form(text: &str) -> Option<Vec<String>> {
    text.starts_with("[\"").then(|| serde_json::from_str(text).ok()).flatten()
}

fn is_dockerfile(text: &str) -> bool {
    text.lines().any(|line| ["ENTRYPOINT ", "CMD "].iter().any(|word| line.starts_with(word)))
}

fn dockerfile(text: &str, left_out: &mut Omissions) -> String {
    let (mut options, mut program, mut arguments) = (String::new(), String::new(), String::new());
    for line in text.replace("\\\n", " ").lines() {
        let Some((word, rest)) = line.trim().split_once(' ') else { continue };
        let said = || match exec_form(rest.trim()) {
            Some(words) => words.iter().map(|word| format!(" {}", quoted(word))).collect(),
            None => format!(" {rest}"),
        };
        match word {
            "ENTRYPOINT" => program = said(),
            "CMD" => arguments = said(),
            "ENV" => {
                let pair = match rest.contains('=') {
                    true => rest.to_owned(),
                    false => quoted(&rest.replacen(' ', "=", 1)),
                };
                options.push_str(&format!(" -e {pair}"));
            }
            "FROM" | "#" => {}
            _ => left_out.add(format!("{word} …"), FOR_THE_CONTAINER),
        }
    }
    format!("docker run{options} image{program}{arguments}")
}

const FOR_THE_CONTAINER: &str = "it is for the container; llamactl runs llama-server without one";

/// What stands for `${NAME}` in a file of llama-swap's.
fn macros(value: &Value) -> Vec<(String, String)> {
    let texts = value.get("macros").and_then(Value::as_object).into_iter().flatten();
    texts.filter_map(|(name, it)| Some((format!("${{{name}}}"), it.as_str()?.to_owned()))).collect()
}

/// Looks for what runs llama-servers; `name` is the key that the value stands behind.
fn walk(
    value: &Value,
    name: Option<&str>,
    macros: &[(String, String)],
    lines: &mut Vec<String>,
    left_out: &mut Omissions,
) {
    let Value::Object(fields) = value else {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        match items.iter().map(Value::as_str).collect::<Option<Vec<_>>>() {
            // A bare list of words, with nothing around it.
            Some(words) if name.is_none() && !words.is_empty() => {
                lines.push(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
            }
            _ => items.iter().for_each(|it| walk(it, None, macros, lines, left_out)),
        }
        return;
    };
    if let Some(command) = fields.get("cmd").and_then(Value::as_str) {
        let command =
            macros.iter().fold(command.to_owned(), |it, (name, text)| it.replace(name, text));
        let variables: String = variables(fields).map(|pair| format!("{pair} ")).collect();
        let names = name.into_iter().chain(texts(fields.get("aliases")));
        let names = names.collect::<Vec<_>>().join(",");
        let alias =
            if names.is_empty() { String::new() } else { format!("\n--alias {}", quoted(&names)) };
        lines.push(format!("{variables}{}{alias}", command.trim_end()));
        return;
    }
    let runs = ["command", "args", "entrypoint"].iter().any(|key| fields.contains_key(*key));
    if runs || fields.contains_key("image") {
        let line = container(fields, name, left_out);
        if ["llama", "LLAMA_ARG_", "-m", "gguf"].iter().any(|sign| line.contains(sign)) {
            lines.push(line);
        } else {
            let what = name.map_or("a container".to_owned(), |name| format!("the service {name}"));
            left_out.add(what, "it runs no llama-server");
        }
        return;
    }
    for (key, inner) in fields {
        walk(inner, Some(key), macros, lines, left_out);
    }
}

fn container(fields: &Map<String, Value>, name: Option<&str>, left_out: &mut Omissions) -> String {
    // A command alone is no container's.
    let is_container =
        ["image", "volumes", "environment", "env"].iter().any(|key| fields.contains_key(*key));
    let mut line = if is_container { "docker run" } else { "" }.to_owned();
    for pair in variables(fields) {
        line.push_str(&format!(" -e {pair}"));
    }
    for volume in fields.get("volumes").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| volume.get(key).and_then(Value::as_str);
        let pair = match (volume.as_str(), text("source"), text("target")) {
            (Some(pair), ..) => pair.to_owned(),
            (None, Some(source), Some(target)) => format!("{source}:{target}"),
            _ => continue,
        };
        let pair = pair.strip_prefix("~/").map_or(pair.clone(), |rest| format!("$HOME/{rest}"));
        line.push_str(&format!(" -v {}", quoted(&pair)));
    }
    if is_container {
        line.push_str(" image");
    }
    for key in ["entrypoint", "command", "args"] {
        match fields.get(key) {
            Some(Value::String(text)) => line.push_str(&format!(" {}", text.trim_end())),
            other => texts(other).for_each(|word| line.push_str(&format!(" {}", quoted(word)))),
        }
    }
    const TAKEN: [&str; 9] = [
        "entrypoint",
        "command",
        "args",
        "environment",
        "env",
        "volumes",
        "image",
        "name",
        "container_name",
    ];
    for key in fields.keys().filter(|key| !TAKEN.contains(&key.as_str())) {
        let what = name.map_or_else(|| key.clone(), |name| format!("{name}: {key}"));
        left_out.add(what, FOR_THE_CONTAINER);
    }
    line
}

/// The variables of a service, of a model or of a container, each as `NAME=value`, quoted.
fn variables(fields: &Map<String, Value>) -> impl Iterator<Item = String> {
    let given = fields.get("environment").or_else(|| fields.get("env"));
    let pairs: Vec<(String, String)> = match given {
        Some(Value::Object(pairs)) => {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            pairs.iter().map(|(name, value)| (name.clone(), text(value))).collect()
        }
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(|item| match item {
                Value::String(pair) => {
                    pair.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()))
                }
                item => {
                    let text = |key: &str| Some(item.get(key)?.as_str()?.to_owned());
                    Some((text("name")?, text("value")?))
                }
            })
            .collect(),
        _ => vec![],
    };
    pairs.into_iter().map(|(name, value)| format!("{name}={}", quoted(&value)))
}

fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// A word in quotes in which variables are still put in, as these files have it.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('`', "\\`");
    format!("\"{escaped}\"")
}

/// A list or a mapping that is not at its end.
struct Open {
    value: Value,
    key: Option<String>,
    anchor: usize,
}

/// The first document of a text, every scalar a text; `None` for what is no YAML, or too much.
fn parse(text: &str) -> Option<Value> {
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Value> = HashMap::new();
    let mut left = MAX_VALUES;
    for event in Parser::new_from_str(text) {
        let (value, anchor) = match event.ok()?.0 {
            Event::Scalar(text, _, anchor, _) => (Value::String(text.into_owned()), anchor),
            Event::Alias(anchor) => (anchors.get(&anchor)?.clone(), 0),
            Event::SequenceStart(anchor, _) => {
                open.push(Open { value: Value::Array(vec![]), key: None, anchor });
                (open.len() <= MAX_DEPTH).then_some(())?;
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open { value: Value::Object(Map::new()), key: None, anchor });
                (open.len() <= MAX_DEPTH).then_some(())?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let ended = open.pop()?;
                (ended.value, ended.anchor)
            }
            _ => continue,
        };
        left = left.checked_sub(count(&value))?;
        if anchor > 0 {
            anchors.insert(anchor, value.clone());
        }
        let Some(around) = open.last_mut() else { return Some(value) };
        match (&mut around.value, around.key.take()) {
            (Value::Array(items), _) => items.push(value),
            (Value::Object(_), None) => around.key = Some(value.as_str()?.to_owned()),
            // What an alias brings gives way to what is said here.
            (Value::Object(fields), Some(key)) if key == "<<" => {
                for (key, value) in value.as_object().cloned().unwrap_or_default() {
                    fields.entry(key).or_insert(value);
                }
            }
            (Value::Object(fields), Some(key)) => {
                fields.insert(key, value);
            }
            _ => return None,
        }
    }
    None
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}
