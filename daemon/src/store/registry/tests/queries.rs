//! Every statement of the registry is put before SQLite's planner: none walks through a table that
//! grows.

use super::*;
use regex::Regex;

/// Tables that grow with use; models and their settings are among them, at some thousands of rows.
const GROWS: [&str; 6] =
    ["runs", "events", "model_revisions", "default_revisions", "model_settings", "model_names"];

/// Statements that are to read all there is: what they are for, and how they begin.
const READS_ALL: [(&str, &str); 7] = [
    (
        "which secrets are used, at the start and when a model goes",
        "SELECT value FROM model_settings",
    ),
    ("the same", "SELECT settings FROM model_revisions"),
    ("the same", "SELECT settings FROM default_revisions"),
    ("an export", "SELECT model_id FROM model_names WHERE is_alias = 0 ORDER BY name"),
    ("who uses which runtime", "SELECT own.name, model_settings.key, model_settings.value"),
    ("who uses a runtime that is to go", "SELECT own.name FROM model_settings"),
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
