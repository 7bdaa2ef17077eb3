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
    let mut page = format!(
        "# llamactld.toml\n\n\
         <!-- Written from protocol/src/daemon.rs and configuration.rs; change those, not this page. -->\n\n\
         {}\n\n\
         | key | takes | default | what it is | a change holds |\n|---|---|---|---|---|\n",
        opening()
    );
    for Key { name, takes, default, says, holds } in keys() {
        let _ = writeln!(page, "| `{name}` | {takes} | {default} | {says} | {holds} |");
    }
    format!("{page}\n{CLOSING}\n")
}

/// What stands before the keys, in paragraphs.
fn opening() -> String {
    format!(
        "What concerns the daemon as a whole. What belongs to a model is a setting: `llamactl help settings`.\n\n\
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
         `systemctl restart llamactl`, or `llamactl daemon stop --keep-servers` and start it as wanted."
    )
}

/// What stands behind them.
const CLOSING: &str =
    "A key with a dot stands in a table: `metrics.listen` is `listen` below the line `[metrics]`.";

/// A key, in Markdown.
struct Key {
    name: String,
    takes: String,
    default: String,
    says: String,
    holds: &'static str,
}

fn keys() -> Vec<Key> {
    let schema = schema_for!(Config);
    let defaults = Config::default().entries();
    let default_of = |name: &str| defaults.iter().find(|(key, _)| key == name).map(|(_, it)| it);
    let mut keys = Vec::new();
    collect(schema.as_value(), schema.as_value(), "", &mut keys);
    let key = |(name, key): (String, &Value)| Key {
        takes: takes(schema.as_value(), &name, key),
        default: match default_of(&name) {
            None | Some(Value::Null) => "left out".to_owned(),
            Some(value) => format!("`{value}`"),
        },
        says: text(key, "description").replace('\n', " ").replace("`None`", "Left out"),
        holds: HOLDS.iter().find(|(key, _)| *key == name).map_or("", |(_, holds)| *holds),
        name,
    };
    keys.into_iter().map(key).collect()
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
    use roff::{Inline, Roff, bold, roman};

    /// Markdown of one line: what stands between backticks is bold.
    fn inline(text: &str) -> Vec<Inline> {
        let pieces = text.split('`').enumerate();
        pieces.map(|(at, piece)| if at % 2 == 1 { bold(piece) } else { roman(piece) }).collect()
    }

    /// The same as the page, for `man 5 llamactld.toml`. `packaging/build` names a directory for it.
    #[test]
    fn the_configuration_has_a_manual_page() {
        let program = concat!("llamactl ", env!("CARGO_PKG_VERSION"));
        let mut page = Roff::new();
        page.control("TH", ["llamactld.toml", "5", "", program]).control("SH", ["NAME"]);
        page.text([roman("llamactld.toml - configuration of the llamactl daemon")]);
        page.control("SH", ["DESCRIPTION"]);
        for paragraph in opening().split("\n\n") {
            page.control("PP", []);
            match paragraph.strip_prefix("```sh\n").and_then(|it| it.strip_suffix("\n```")) {
                None => page.text(inline(paragraph)),
                Some(code) => {
                    page.control("nf", []);
                    code.lines().for_each(|line| _ = page.text([roman(line)]));
                    page.control("fi", [])
                }
            };
        }
        page.control("SH", ["KEYS"]).text(inline(CLOSING));
        for Key { name, takes, default, says, holds } in keys() {
            page.control("TP", []).text([bold(name)]);
            page.text(inline(&format!(
                "{says} Takes {takes}. Default: {default}. A change holds {holds}."
            )));
        }
        page.control("SH", ["SEE ALSO"]);
        page.text([roman(
            "llamactld(8), llamactl-daemon-check-config(1), llamactl-daemon-restart(1)",
        )]);
        let page = page.to_roff();
        assert_eq!(page.matches("\n.TP").count(), HOLDS.len());
        assert!(!page.contains('`') && page.contains("\\fBmax_loading\\fR"), "{page}");
        if let Some(dir) = std::env::var_os("LLAMACTL_MAN_DIR") {
            std::fs::write(std::path::Path::new(&dir).join("llamactld.toml.5"), page).unwrap();
        }
    }

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
