//! The page of `llamactld.toml`, from the type that reads it.

use crate::daemon::Config;
use crate::place::{CONFIG_VARIABLE, SYSTEM_CONFIG};
use schemars::schema_for;
use serde_json::Value;
use std::fmt::Write as _;

/// When a key that was changed holds, beside what every key needs; each key stands here.
const HOLDS: &[(&str, &str)] = &[
    ("max_running", "for the next start; servers that run stay, also above it"),
    ("max_loading", "for the next load"),
    ("on_daemon_exit", "for servers that are started from then on; restart those that run"),
    ("strays", "at once: they are looked for again"),
    ("metrics.history_bytes", "at once; what is too much is taken away little by little"),
    ("metrics.listen", "at once; a scrape in that moment may be refused"),
    ("metrics.listen_group", "at once"),
];

/// The page that tells every key.
#[must_use]
pub fn markdown() -> String {
    let schema = schema_for!(Config);
    let defaults = Config::default().entries();
    let default_of = |name: &str| defaults.iter().find(|(key, _)| key == name).map(|(_, it)| it);
    let mut keys = Vec::new();
    collect(schema.as_value(), schema.as_value(), "", &mut keys);
    let mut page = format!(
        "# llamactld.toml\n\n\
         <!-- Written from protocol/src/daemon.rs and configuration.rs; change those, not this page. -->\n\n\
         What concerns the daemon as a whole. What belongs to a model is a setting: `llamactl help settings`.\n\n\
         The daemon reads the file that `--config` or the variable `{CONFIG_VARIABLE}` names, which must be \
         there then; else `~/.config/llamactl/llamactld.toml`, and in system mode `{SYSTEM_CONFIG}`, which \
         need not. No other variable says anything of a key. A key that is left out has its default. One \
         mistake keeps a daemon from starting, and a running one from reading the file anew; it is said \
         with file and line.\n\n\
         ```sh\n\
         llamactl daemon check-config     # what the file comes to, or what is wrong with it\n\
         llamactl daemon restart          # lets the daemon go by it; servers run on, no answer is cut\n\
         llamactl daemon status           # what it goes by\n\
         llamactl doctor                  # says when the file was changed and the daemon goes by the old one\n\
         ```\n\n\
         SIGHUP, and `systemctl reload llamactl` for a unit, do what `daemon restart` does. Where the file is \
         wrong the daemon goes on with what it read before: `daemon restart` says why and ends with 5, after \
         SIGHUP it stands in the log. (In the foreground at a terminal SIGHUP means that the terminal was \
         closed, and stops the daemon.) What stands on the daemon's command line, `--system`, `--group`, \
         `--state-dir`, `--socket`, `--config` and `--log-level`, is not read anew: change the unit and run \
         `systemctl restart llamactl`, or `llamactl daemon stop --keep-servers` and start it as wanted.\n\n\
         | key | takes | default | what it is | a change holds |\n|---|---|---|---|---|\n"
    );
    for (name, key) in keys {
        let says = text(key, "description").replace('\n', " ").replace("`None`", "Left out");
        let default = match default_of(&name) {
            None | Some(Value::Null) => "left out".to_owned(),
            Some(value) => format!("`{value}`"),
        };
        let holds = HOLDS.iter().find(|(key, _)| *key == name).map_or("", |(_, holds)| *holds);
        let takes = takes(schema.as_value(), &name, key);
        let _ = writeln!(page, "| `{name}` | {takes} | {default} | {says} | {holds} |");
    }
    page += "\nA key with a dot stands in a table: `metrics.listen` is `listen` below the line `[metrics]`.\n";
    page
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Each key with its schema; one that is a table is what is in it.
fn collect<'a>(
    root: &'a Value,
    table: &'a Value,
    prefix: &str,
    keys: &mut Vec<(String, &'a Value)>,
) {
    for (name, key) in table.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let name = format!("{prefix}{name}");
        match definition(root, key) {
            Some(table) if table.get("properties").is_some() => {
                collect(root, table, &format!("{name}."), keys);
            }
            _ => keys.push((name, key)),
        }
    }
}

/// What a schema refers to.
fn definition<'a>(root: &'a Value, schema: &Value) -> Option<&'a Value> {
    let name = text(schema, "$ref").rsplit('/').next()?;
    root.get("$defs")?.get(name)
}

/// What may stand behind a key.
fn takes(root: &Value, name: &str, key: &Value) -> String {
    let choices = definition(root, key).and_then(|it| it.get("oneOf")).and_then(Value::as_array);
    if let Some(choices) = choices {
        let choice = |it: &Value| {
            let says = text(it, "description").trim_end_matches('.').to_lowercase();
            format!("`\"{}\"`: {says}", text(it, "const"))
        };
        return choices.iter().map(choice).collect::<Vec<_>>().join("; ");
    }
    match name {
        "metrics.listen" => {
            "an address of this machine with its port, `\"127.0.0.1:9750\"`, or the path of a socket, \
             `\"/run/llamactl/metrics.sock\"`"
                .to_owned()
        }
        _ if key.get("minimum").is_some() => {
            let unit = if name.ends_with("_bytes") { ", in bytes" } else { "" };
            format!("a whole number from {} on{unit}", key["minimum"])
        }
        _ => "a text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_line_with_all_that_it_needs() {
        let page = markdown();
        let entries = Config::default().entries();
        assert_eq!(entries.len() + 2, HOLDS.len(), "what has no value is left out of the entries");
        for (key, holds) in HOLDS {
            let line = page.lines().find(|line| line.starts_with(&format!("| `{key}` | ")));
            let line = line.unwrap_or_else(|| panic!("{key} is not told"));
            assert!(line.contains(holds) && !line.contains("|  |"), "{line}");
        }
        assert_eq!(page.matches("\n| `").count(), HOLDS.len());
    }
}
