//! The JSON files beside the old dashboard's database. Pure.

use super::router::{ADDRESS, put};
use super::schema::add_defaults;
use crate::transfer::spec::{Given, ImportSpec, ModelSpec, SettingsSpec};
use llamactl_protocol::name;
use llamactl_protocol::options::Settings;
use serde_json::Value;

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// `llama-server-config.json`
    Server,
    /// `app-config.json`
    App,
    /// `model-templates.json`
    Templates,
}

const OF_APP: &[&str] = &["maxConcurrentModels", "logLevel", "autoUpdate", "notificationsEnabled"];
const OF_SERVER: &[&str] = &["basePath", "serverPath", "ctx_size", "gpu_layers", "batch_size"];

/// The server's settings, with the defaults the dashboard gave them.
const SERVER: &[(&str, &str, i64)] = &[
    ("models", "ctx_size", 8192),
    ("models", "batch_size", 512),
    ("models", "threads", -1),
    ("gpu", "gpu_layers", -1),
];

/// llama-server's own templates in b10434, as far as the dashboard could name them.
const BUILT_IN: &[&str] = &[
    "bailing",
    "chatglm3",
    "chatglm4",
    "chatml",
    "command-r",
    "deepseek",
    "deepseek2",
    "deepseek3",
    "exaone3",
    "falcon3",
    "gemma",
    "gigachat",
    "glmedge",
    "gpt-oss",
    "granite",
    "grok-2",
    "kimi-k2",
    "llama2",
    "llama3",
    "llama4",
    "megrez",
    "minicpm",
    "mistral-v1",
    "mistral-v3",
    "mistral-v7",
    "monarch",
    "openchat",
    "orion",
    "phi3",
    "phi4",
    "rwkv-world",
    "smolvlm",
    "vicuna",
    "vicuna-orca",
    "yandex",
    "zephyr",
];

/// Templates the dashboard called otherwise.
const RENAMED: &[(&str, &str)] = &[("llama-2", "llama2"), ("llama-3", "llama3")];

/// Which of the files an object is.
pub(super) fn kind_of(value: &Value) -> Option<FileKind> {
    let has = |names: &[&str]| names.iter().any(|name| value.get(name).is_some());
    if has(&["model_templates"]) {
        Some(FileKind::Templates)
    } else if has(OF_APP) {
        Some(FileKind::App)
    } else if has(OF_SERVER) {
        Some(FileKind::Server)
    } else {
        None
    }
}

/// Reads one of the files into a spec.
pub(super) fn read(kind: FileKind, value: &Value, spec: &mut ImportSpec) {
    match kind {
        FileKind::Server => server(value, spec),
        FileKind::App => app(value, spec),
        FileKind::Templates => templates(value, spec),
    }
}

const SERVER_FILE: &str = "llama-server-config.json";

fn server(value: &Value, spec: &mut ImportSpec) {
    let mut settings = Settings::new();
    for (field, value) in value.as_object().into_iter().flatten() {
        let what = format!("{SERVER_FILE}: {field}");
        if let Some((table, column, default)) = SERVER.iter().find(|(_, name, _)| name == field) {
            if value.as_i64() != Some(*default) {
                put(SERVER_FILE, table, column, value, &mut settings, &mut spec.left_out);
            }
            continue;
        }
        match field.as_str() {
            "host" | "port" => spec.left_out.add(what, ADDRESS),
            "basePath" => {
                spec.left_out.add(what, "llamactl model scan DIR looks through a directory");
            }
            "serverPath" => {
                spec.left_out.add(what, "llamactl runtime add PATH adds a llama-server");
            }
            _ => spec.left_out.add(what, "llamactl has no place for it"),
        }
    }
    add_defaults(spec, settings);
}

fn app(value: &Value, spec: &mut ImportSpec) {
    for (field, _) in value.as_object().into_iter().flatten() {
        let reason = match field.as_str() {
            "maxConcurrentModels" => "a model runs from llamactl start until llamactl stop",
            "logLevel" => "the daemon logs what happens; verbosity sets how much llama-server logs",
            "autoUpdate" => "llamactl changes no program by itself",
            "notificationsEnabled" => "llamactl events --follow tells what happens",
            _ => "llamactl has no place for it",
        };
        spec.left_out.add(format!("app-config.json: {field}"), reason);
    }
}

fn templates(value: &Value, spec: &mut ImportSpec) {
    if value.get("default_model").is_some_and(Value::is_string) {
        let reason = "llamactl start NAME names the model";
        spec.left_out.add("model-templates.json: default_model", reason);
    }
    let templates = value.get("model_templates").and_then(Value::as_object);
    for (model, template) in templates.into_iter().flatten() {
        let what = format!("model-templates.json: {model}");
        let Some(template) = template.as_str().filter(|text| !text.trim().is_empty()) else {
            spec.left_out.add(what, "its template is no text");
            continue;
        };
        let renamed = RENAMED.iter().find(|(old, _)| *old == template).map(|(_, new)| *new);
        let template = renamed.unwrap_or(template);
        let is_template = template.contains("{{") || template.contains("{%");
        if !is_template && !BUILT_IN.contains(&template) {
            let reason = format!(
                "llama-server has no template called {template:?}; chat-template-file takes a file"
            );
            spec.left_out.add(what, reason);
            continue;
        }
        let given = Given { value: Value::from(template), at: None };
        let name = name::from_text(model).unwrap_or_else(|| model.clone());
        if let Some(there) = spec.models.iter_mut().find(|there| there.name == name) {
            let settings = there.settings.get_or_insert_with(SettingsSpec::default);
            settings.given.insert("chat-template".to_owned(), given);
        } else {
            // A model of the registry: without a file it can be no new one.
            spec.models.push(ModelSpec {
                name,
                settings: Some(SettingsSpec {
                    given: [("chat-template".to_owned(), given)].into(),
                    exact: false,
                }),
                apart: true,
                ..ModelSpec::default()
            });
        }
    }
}
