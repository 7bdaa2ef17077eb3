//! What the last version of the old dashboard kept: a model's parameters as JSON, and the settings
//! of the router for all models. Pure.

use super::by_name;
use super::database::Row;
use super::schema::{facts_of_file, is_something};
use super::table::{Translation, translate};
use crate::transfer::omissions::{Omissions, sentence};
use llamactl_protocol::options::Settings;
use llamactl_protocol::options::command_line::collect;
use serde_json::Value;

/// A model's columns that are settings, with the defaults its schema gave them.
const MODEL: &[(&str, i64)] = &[("ctx_size", 4096), ("batch_size", 512), ("threads", 4)];

/// What became of a field of the router's settings.
enum Field {
    /// This column of the dashboard's first version, unless it has this value.
    Column(&'static str, &'static str, f64),
    /// Nothing: why. Not said when the value is this one.
    Gone(&'static str, &'static str),
}

const ROUTER: &[(&str, Field)] = &[
    ("ctxSize", Field::Column("models", "ctx_size", 4096.0)),
    ("batchSize", Field::Column("models", "batch_size", 512.0)),
    ("threads", Field::Column("models", "threads", 4.0)),
    ("parallelSlots", Field::Column("models", "n_parallel", 1.0)),
    ("gpuLayers", Field::Column("gpu", "gpu_layers", 0.0)),
    ("temperature", Field::Column("sampling", "temperature", 0.7)),
    ("repeatPenalty", Field::Column("sampling", "repeat_penalty", 1.1)),
    ("modelsPath", Field::Gone("", "llamactl model scan DIR looks through a directory")),
    ("serverPath", Field::Gone("", "llamactl runtime add PATH adds a llama-server")),
    ("host", Field::Gone("0.0.0.0", ADDRESS)),
    ("port", Field::Gone("8080", ADDRESS)),
    ("maxModelsLoaded", Field::Gone("4", "a model runs from llamactl start until llamactl stop")),
    ("metricsEnabled", Field::Gone("true", "llamactl always reads llama-server's metrics")),
    (
        "autoStartOnLaunch",
        Field::Gone("false", "what was running is started again with the daemon"),
    ),
];

pub(super) const ADDRESS: &str =
    "each model listens on a socket of its own; port=auto gives it a TCP port, host an address";

/// The settings a row of the last version's models holds.
pub(super) fn model_settings(
    name: &str,
    row: &Row,
    settings: &mut Settings,
    left_out: &mut Omissions,
) {
    for (column, default) in MODEL {
        let Some(value) = row.get(*column).filter(|value| value.as_i64() != Some(*default)) else {
            continue;
        };
        put(name, "models", column, value, settings, left_out);
    }
    facts_of_file(row, left_out);
    if let Some(text) = row.get("parameters").and_then(Value::as_str)
        && !text.trim().is_empty()
    {
        match serde_json::from_str(text) {
            Ok(Value::Object(parameters)) => {
                for (parameter, value) in parameters {
                    match by_name(&parameter, &value) {
                        Ok((key, value)) => collect(settings, key, value),
                        Err(failure) => {
                            let what = format!("{name}: models.parameters: {parameter}");
                            left_out.add(what, sentence(&failure));
                        }
                    }
                }
            }
            _ => left_out.add(format!("{name}: models.parameters"), "it is no JSON object"),
        }
    }
}

/// The settings for all models in rows of names and JSON values; one row may hold them all.
pub(super) fn defaults(
    table: &str,
    rows: &[Row],
    settings: &mut Settings,
    left_out: &mut Omissions,
) {
    for row in rows {
        let Some(key) = row.get("key").and_then(Value::as_str) else { continue };
        let stored = row.get("value").cloned().unwrap_or_default();
        // A value is JSON, or a text that is none.
        let value = stored.as_str().and_then(|text| serde_json::from_str(text).ok());
        let value: Value = value.unwrap_or(stored);
        if table == "logging_config" {
            left_out.add(format!("{table}.{key}"), "llamactl keeps its logs by rules of its own");
            continue;
        }
        match value {
            Value::Object(fields) => {
                for (field, value) in &fields {
                    one(table, field, value, settings, left_out);
                }
            }
            value => one(table, key, &value, settings, left_out),
        }
    }
}

fn one(table: &str, field: &str, value: &Value, settings: &mut Settings, left_out: &mut Omissions) {
    let known = ROUTER.iter().find(|(name, _)| *name == field).map(|(_, field)| field);
    match known {
        Some(Field::Column(group, column, default)) if value.as_f64() != Some(*default) => {
            put("all models", group, column, value, settings, left_out);
        }
        Some(Field::Gone(default, reason))
            if llamactl_protocol::options::text(value) != *default =>
        {
            left_out.add(format!("{table}.{field}"), *reason);
        }
        None if is_something(value) => {
            left_out.add(format!("{table}.{field}"), "llamactl has no place for it");
        }
        _ => {}
    }
}

/// Puts the value of a column of the first version among settings.
pub(super) fn put(
    whose: &str,
    table: &str,
    column: &str,
    value: &Value,
    settings: &mut Settings,
    left_out: &mut Omissions,
) {
    match translate(table, column, value) {
        Translation::Setting { key, value } => collect(settings, key.to_owned(), value),
        Translation::Refused(failure) => left_out.refused(format!("{whose}: {column}"), &failure),
        Translation::Gone { reason } => left_out.add(format!("{whose}: {column}"), reason),
        _ => {}
    }
}
