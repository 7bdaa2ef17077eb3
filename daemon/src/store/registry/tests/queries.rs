//! Every statement of the registry is put before SQLite's planner: none walks through a table that
//! grows. Where the plan does not tell, its steps are counted.

use super::*;
use regex::Regex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Tables that grow with use; models and their settings are among them, at some thousands of rows.
const GROWS: [&str; 6] =
    ["runs", "events", "model_revisions", "default_revisions", "model_settings", "model_names"];

/// Statements that are to read all there is: what they are for, and how they begin.
const READS_ALL: [(&str, &str); 11] = [
    (
        "which secrets are used, at the start and when a model goes",
        "SELECT value FROM model_settings",
    ),
    ("the same", "SELECT settings FROM model_revisions"),
    ("the same", "SELECT settings FROM default_revisions"),
    ("whether there is any model: one step", "SELECT EXISTS (SELECT 1 FROM model_names)"),
    ("how many models there are", "SELECT count(*) FROM model_names"),
    (
        "what a name that there is not may have meant",
        "SELECT name FROM model_names WHERE length(name)",
    ),
    ("an export", "SELECT model_id FROM model_names WHERE is_alias = 0 ORDER BY name"),
    ("who uses which runtime", "SELECT own.name, model_settings.key, model_settings.value"),
    ("who uses a runtime that is to go", "SELECT own.name FROM model_settings"),
    ("secrets in clear, once in a registry's life", "SELECT id, environment FROM runs"),
    ("a scan for new models", "SELECT own.name, models.path FROM models"),
];

/// An index that holds only the few runs without an end.
const OPEN_RUNS: &str = "USING INDEX runs_open";

/// The SQL texts in the sources of this folder.
fn statements() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/registry");
    let sql = Regex::new(r#""((?:SELECT|INSERT|UPDATE|DELETE|WITH)\s[^"]*)""#).unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let source = std::fs::read_to_string(&path).unwrap();
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        found.extend(sql.captures_iter(source).map(|sql| (file.clone(), sql[1].to_owned())));
        // What is put together from parts escapes this test.
        assert!(!source.contains("(&format!("), "a statement of {file} is not written down whole");
    }
    found
}

#[test]
fn no_statement_walks_through_a_table_that_grows() {
    let dir = tempfile::tempdir().unwrap();
    drop(Registry::open(dir.path()).unwrap());
    let database = Connection::open(REGISTRY.path(dir.path())).unwrap();
    let statements = statements();
    assert!(statements.len() > 60, "{} statements were found", statements.len());
    let scan = Regex::new(r"^SCAN (\w+)").unwrap();
    let mut walks = Vec::new();
    let mut excused = BTreeSet::new();
    for (file, sql) in statements {
        let mut plan = database.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let mut rows = plan.raw_query();
        while let Some(row) = rows.next().unwrap() {
            let step: String = row.get(3).unwrap();
            let Some(table) = scan.captures(&step).map(|scan| scan[1].to_owned()) else { continue };
            // An alias is told by the statement.
            let named = Regex::new(&format!(r"(\w+) AS {table}\b")).unwrap();
            let table = named.captures(&sql).map_or(table, |named| named[1].to_owned());
            if !GROWS.contains(&table.as_str()) || step.ends_with(OPEN_RUNS) {
                continue;
            }
            match READS_ALL.iter().find(|(_, begins)| sql.starts_with(begins)) {
                Some((_, begins)) => drop(excused.insert(*begins)),
                None => walks.push(format!("{file}: {step}\n    {sql}")),
            }
        }
    }
    assert!(walks.is_empty(), "{}", walks.join("\n"));
    let unneeded: Vec<_> =
        READS_ALL.iter().filter(|(_, begins)| !excused.contains(begins)).collect();
    assert!(unneeded.is_empty(), "excused for nothing: {unneeded:?}");
}

/// How much work a read is, in hundreds of steps of SQLite's machine.
fn steps<T>(connection: &mut Connection, read: impl FnOnce(&Connection) -> Result<T>) -> usize {
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&steps);
    let count = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        false
    };
    connection.progress_handler(100, Some(count)).unwrap();
    read(connection).unwrap();
    steps.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_long_history_makes_no_read_of_its_end_longer() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let model = registry.add_model(new_model("m"), Actor::Policy).await.unwrap().id;
    let history = format!(
        "INSERT INTO runtimes (id, path, inode, size_bytes, mtime_ns, reports_progress, flags,
                               found_at_ms) VALUES (1, x'61', 1, 1, 1, 0, '[]', 1);
         WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
         INSERT INTO runs (id, model_id, model, revision, settings, runtime_id, argv, environment,
                           endpoint, wanted_by, started_at_ms)
         SELECT format('%08d', n), {model}, 'm', 1, '{{}}', 1, '[]', '{{}}',
                '{{\"url\":null,\"socket\":\"/s\"}}', 'boot', n FROM n;
         WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
         INSERT INTO events (at_ms, kind, by, message)
         SELECT 9000000000000 + n, 'daemon.started', 'boot', 'x' FROM n;"
    );
    registry.write(move |tx| Ok(tx.execute_batch(&history)?)).await.unwrap();

    let reader = &mut Connection::open(REGISTRY.path(dir.path())).unwrap();
    assert!(steps(reader, runs::last_endpoints) < 10);
    assert!(steps(reader, |connection| runs::last(connection, model)) < 10);
    let since = |since_ms| EventFilter { since_ms, limit: 5_000, ..EventFilter::default() };
    let recent = since(Some(9_000_000_004_990));
    assert!(steps(reader, |connection| events::list(connection, &recent)) < 20);
    // What is counted does grow with what is read.
    assert!(steps(reader, |connection| events::list(connection, &since(Some(0)))) > 100);
    let all_runs = "SELECT model_id, endpoint, max(started_at_ms) FROM runs
                    WHERE model_id IN (SELECT id FROM models) GROUP BY model_id";
    assert!(steps(reader, |it| Ok(it.query_row(all_runs, [], |_| Ok(()))?)) > 100);
}
