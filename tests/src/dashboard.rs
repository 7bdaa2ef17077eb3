//! Databases of the old dashboard, in the three schemas it had.

use llamactld::transfer::dashboard::table::{Field, TABLES};
use rusqlite::Connection;
use std::fs;
use std::path::{Path, PathBuf};

/// Which version of the dashboard wrote a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// A table for each group of settings, any number of rows for a model.
    First,
    /// The same with some columns renamed and one row for a model.
    Second,
    /// One table of models with few columns, and the settings of a router.
    Third,
}

/// Makes `DIR/data/llama-dashboard.db` in a schema and fills it with these statements; its path.
///
/// # Panics
/// When SQLite refuses.
pub fn database(dir: &Path, schema: Schema, statements: &str) -> PathBuf {
    fs::create_dir_all(dir.join("data")).unwrap();
    let path = dir.join("data/llama-dashboard.db");
    let connection = Connection::open(&path).unwrap();
    let tables = match schema {
        Schema::Third => third(),
        first_or_second => grouped(first_or_second),
    };
    for text in [tables.as_str(), statements] {
        connection.execute_batch(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    }
    path
}

fn grouped(schema: Schema) -> String {
    let mut sql = "CREATE TABLE metrics_history (id INTEGER PRIMARY KEY, timestamp INTEGER,
                       cpu_usage REAL DEFAULT 0, created_at INTEGER);
                   CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL,
                       updated_at INTEGER);
                   INSERT INTO metadata VALUES ('db_version', '2.0', 0);"
        .to_owned();
    for (group, fields) in TABLES {
        let is_group = !["models", "server"].contains(group);
        let table =
            if *group == "models" { "models".to_owned() } else { format!("model_{group}_config") };
        let mut columns = vec!["id INTEGER PRIMARY KEY AUTOINCREMENT".to_owned()];
        if is_group {
            let unique = if schema == Schema::Second { " UNIQUE" } else { "" };
            let refers = "REFERENCES models (id) ON DELETE CASCADE";
            columns.push(format!("model_id INTEGER NOT NULL{unique} {refers}"));
        }
        columns.extend(fields.iter().map(|field| column(field, schema)));
        if *group == "models" && schema == Schema::Second {
            let more =
                ["file_size_bytes", "fit_params_available DEFAULT 0", "last_fit_params_check"];
            columns.extend(more.map(str::to_owned));
        }
        columns.extend(["created_at INTEGER", "updated_at INTEGER"].map(str::to_owned));
        sql.push_str(&format!("CREATE TABLE {table} ({});\n", columns.join(", ")));
    }
    if schema == Schema::Second {
        sql.push_str(
            "CREATE TABLE model_fit_params (id INTEGER PRIMARY KEY, model_id INTEGER UNIQUE,
                 recommended_ctx_size INTEGER);",
        );
    }
    sql
}

fn column(field: &Field, schema: Schema) -> String {
    let is_second = schema == Schema::Second && !field.later.is_empty();
    let name = if is_second { field.later } else { field.name };
    if field.default.is_empty() {
        return format!("\"{name}\"");
    }
    format!("\"{name}\" DEFAULT {}", field.default.replace('"', "'"))
}

fn third() -> String {
    "CREATE TABLE models (id TEXT PRIMARY KEY, name TEXT, type TEXT DEFAULT 'llama',
         status TEXT DEFAULT 'idle', parameters TEXT DEFAULT '{}', model_path TEXT,
         file_size INTEGER DEFAULT 0, params TEXT, quantization TEXT, ctx_size INTEGER DEFAULT 4096,
         embedding_size INTEGER DEFAULT 0, block_count INTEGER DEFAULT 0,
         head_count INTEGER DEFAULT 0, head_count_kv INTEGER DEFAULT 0, ffn_dim INTEGER DEFAULT 0,
         file_type INTEGER DEFAULT 0, batch_size INTEGER DEFAULT 512, threads INTEGER DEFAULT 4,
         favorite INTEGER DEFAULT 0, created_at INTEGER, updated_at INTEGER);
     CREATE TABLE metrics (id INTEGER PRIMARY KEY, cpu_usage REAL, timestamp INTEGER);
     CREATE TABLE logs (id TEXT PRIMARY KEY, level TEXT, message TEXT, source TEXT, timestamp INTEGER);
     CREATE TABLE server_config (key TEXT PRIMARY KEY, value TEXT);
     CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT);
     CREATE TABLE router_config (key TEXT PRIMARY KEY, value TEXT, updated_at INTEGER);
     CREATE TABLE logging_config (key TEXT PRIMARY KEY, value TEXT, updated_at INTEGER);"
        .to_owned()
}
