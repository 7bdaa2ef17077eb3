//! The rows of the old dashboard's database as models. Pure.

use super::database::{Dump, Row};
use super::router;
use super::table::{Translation, translate};
use crate::transfer::names::Names;
use crate::transfer::omissions::Omissions;
use crate::transfer::position::unreadable;
use crate::transfer::spec::{ImportSpec, ModelSpec, SettingsSpec};
use llamactl_protocol::options::Settings;
use llamactl_protocol::options::command_line::collect;
use llamactl_protocol::{Failure, WirePath, name};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A model's settings lay in a table for each group.
const CONFIGS: &[&str] = &[
    "model_sampling_config",
    "model_memory_config",
    "model_gpu_config",
    "model_advanced_config",
    "model_lora_config",
    "model_multimodal_config",
];

/// Columns that only hold the tables together.
const BOOKKEEPING: &[&str] = &["id", "model_id", "created_at", "updated_at"];

/// What a file says of itself is read from the file.
const FACTS: &[&str] = &[
    "file_size_bytes",
    "file_size",
    "params",
    "quantization",
    "embedding_size",
    "block_count",
    "head_count",
    "head_count_kv",
    "ffn_dim",
    "file_type",
];

/// Reads the tables into a spec. Relative paths are taken from `base`.
pub(super) fn read(dump: &Dump, base: &Path, spec: &mut ImportSpec) -> Result<(), Failure> {
    let Some(rows) = dump.tables.get("models") else {
        return Err(unreadable("the database has no table of models", None)
            .hint("the old dashboard kept its models in data/llama-dashboard.db"));
    };
    // The last version had other columns, and ids that are texts.
    let is_last =
        rows.iter().any(|row| row.contains_key("parameters") || row.contains_key("favorite"))
            || dump.tables.contains_key("server_config")
                && !dump.tables.contains_key("model_gpu_config");
    let mut configs = BTreeMap::new();
    for table in CONFIGS {
        let rows = dump.tables.get(*table).map_or(&[][..], Vec::as_slice);
        configs.insert(*table, newest(table, rows, &mut spec.left_out));
    }
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_key(|row| (number(row, "created_at"), number(row, "id")));
    let mut names = Names::default();
    spec.models.iter().for_each(|model| names.take(&model.name));
    let mut ids = BTreeSet::new();
    for row in rows {
        ids.insert(id_of(row, "id"));
        let Some(mut model) = model(row, base, is_last, &mut names, spec) else { continue };
        let mut settings = Settings::new();
        if is_last {
            router::model_settings(&model.name, row, &mut settings, &mut spec.left_out);
        } else {
            columns("models", &model.name, row, &mut settings, &mut spec.left_out);
        }
        for (table, rows) in &configs {
            if let Some(row) = rows.get(&id_of(row, "id")) {
                columns(table, &model.name, row, &mut settings, &mut spec.left_out);
            }
        }
        model.settings = Some(SettingsSpec::merged(settings));
        spec.models.push(model);
    }
    for (table, rows) in &configs {
        let orphans = rows.keys().filter(|id| !ids.contains(*id)).count();
        spec.left_out.add_many(*table, "they belong to no model", as_count(orphans));
    }
    let mut defaults = Settings::new();
    let of_server = dump.tables.get("model_server_config").map_or(&[][..], Vec::as_slice);
    if let Some(row) = newest_of_all("model_server_config", of_server, &mut spec.left_out) {
        columns("server", "all models", row, &mut defaults, &mut spec.left_out);
    }
    for table in ["server_config", "router_config", "logging_config"] {
        let rows = dump.tables.get(table).map_or(&[][..], Vec::as_slice);
        router::defaults(table, rows, &mut defaults, &mut spec.left_out);
    }
    add_defaults(spec, defaults);
    for (table, count) in &dump.others {
        spec.left_out.add_many(format!("rows of {table}"), reason_of(table), *count);
    }
    for (table, why) in &dump.broken {
        spec.left_out.add(format!("the table {table}"), why.clone());
    }
    Ok(())
}

/// Puts settings for all models beside those that another file gave.
pub(super) fn add_defaults(spec: &mut ImportSpec, defaults: Settings) {
    if defaults.is_empty() {
        return;
    }
    let more = SettingsSpec::merged(defaults);
    match &mut spec.defaults {
        Some(there) => there.given.extend(more.given),
        none => *none = Some(more),
    }
}

fn reason_of(table: &str) -> &'static str {
    match table {
        "metrics_history" | "metrics" => "llamactl measures by itself: llamactl metrics shows it",
        "logs" => "llamactl keeps logs of its own: llamactl logs NAME shows them",
        "model_fit_params" => "llama-server fits a model to the memory by itself (fit)",
        "metadata" => "the old dashboard's own bookkeeping",
        _ => "llamactl has no place for it",
    }
}

/// A row's model, without its settings; `None` when it cannot be one.
fn model(
    row: &Row,
    base: &Path,
    is_last: bool,
    names: &mut Names,
    spec: &mut ImportSpec,
) -> Option<ModelSpec> {
    let text = |column: &str| {
        let text = row.get(column).and_then(Value::as_str).map(str::trim);
        text.filter(|text| !text.is_empty())
    };
    let shown =
        text("name").or_else(|| text("model_path")).unwrap_or("(without a name)").to_owned();
    let Some(path) = text("model_path").filter(|path| !path.contains('\0')) else {
        let from = ["hf_repo", "model_url", "docker_repo"].iter().find_map(|column| text(column));
        let reason = match from {
            Some(from) => format!(
                "it was fetched from {from}, and llamactl downloads nothing: fetch the file, then \
                 llamactl model add FILE"
            ),
            None => "it names no file".to_owned(),
        };
        spec.left_out.add(format!("the model {shown}"), reason);
        return None;
    };
    let path = base.join(path);
    let stem = crate::gguf::split::stem(&path);
    let wanted = text("name").and_then(name::from_text).or_else(|| name::from_text(&stem));
    let Some(wanted) = wanted else {
        spec.left_out.add(format!("the model {shown}"), "no name can be made of its name");
        return None;
    };
    let name = names.take_free(&wanted, |_| true);
    if text("name").is_some_and(|text| text != name) {
        spec.notes.push(format!("the model {shown:?} is called {name}"));
    }
    if is_last && row.get("favorite").and_then(Value::as_i64).is_some_and(|it| it != 0) {
        spec.left_out.add("models.favorite", "llamactl has no favourites; an alias can be short");
    }
    let path = Some(WirePath(path));
    Some(ModelSpec { name, path, apart: true, ..ModelSpec::default() })
}

/// The columns of a row as settings.
fn columns(table: &str, whose: &str, row: &Row, settings: &mut Settings, left_out: &mut Omissions) {
    for (column, value) in row {
        if BOOKKEEPING.contains(&column.as_str()) {
            continue;
        }
        match translate(table, column, value) {
            Translation::Setting { key, value } => collect(settings, key.to_owned(), value),
            // Taken already, or nobody's choice.
            Translation::Path(_) | Translation::Name(_) | Translation::Default => {}
            Translation::Gone { reason } => left_out.add(format!("{table}.{column}"), reason),
            Translation::Refused(failure) => {
                left_out.refused(format!("{whose}: {table}.{column}"), &failure);
            }
            Translation::Unknown if FACTS.contains(&column.as_str()) => {
                if is_something(value) {
                    left_out.add(format!("{table}.{column}"), OF_THE_FILE);
                }
            }
            Translation::Unknown => {
                if is_something(value) && !column.starts_with("fit_params") {
                    let reason = match column.as_str() {
                        "last_fit_params_check" => reason_of("model_fit_params"),
                        _ => reason_of(""),
                    };
                    left_out.add(format!("{table}.{column}"), reason);
                }
            }
        }
    }
}

const OF_THE_FILE: &str = "llamactl reads it from the model's file";

/// Facts about a file that a row of the last version held.
pub(super) fn facts_of_file(row: &Row, left_out: &mut Omissions) {
    for column in FACTS.iter().filter(|column| row.get(**column).is_some_and(is_something)) {
        left_out.add(format!("models.{column}"), OF_THE_FILE);
    }
}

pub(super) fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.trim().is_empty(),
        _ => true,
    }
}

/// The newest row of each model: a second save was added behind the first, and never read.
fn newest<'d>(table: &str, rows: &'d [Row], left_out: &mut Omissions) -> BTreeMap<String, &'d Row> {
    let mut of_model: BTreeMap<String, &Row> = BTreeMap::new();
    let mut older = 0;
    for row in rows {
        let id = id_of(row, "model_id");
        match of_model.get(&id) {
            Some(there) => {
                older += 1;
                if age(row) >= age(there) {
                    of_model.insert(id, row);
                }
            }
            None => {
                of_model.insert(id, row);
            }
        }
    }
    left_out.add_many(format!("rows of {table}"), "a later one of the same model counts", older);
    of_model
}

fn newest_of_all<'d>(table: &str, rows: &'d [Row], left_out: &mut Omissions) -> Option<&'d Row> {
    let older = as_count(rows.len().saturating_sub(1));
    left_out.add_many(format!("rows of {table}"), "a later one counts", older);
    rows.iter().max_by_key(|row| age(row))
}

fn age(row: &Row) -> (i64, i64) {
    (number(row, "updated_at").max(number(row, "created_at")), number(row, "id"))
}

fn number(row: &Row, column: &str) -> i64 {
    row.get(column).and_then(Value::as_i64).unwrap_or(0)
}

/// An id as text: the last version's were texts.
fn id_of(row: &Row, column: &str) -> String {
    match row.get(column) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn as_count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
