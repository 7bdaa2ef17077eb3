//! The catalogue for people and programs that read: a page, a JSON schema, help in a terminal.

use super::{Group, Item, POLICY, Setting, VARIABLE_PREFIX, Values, Words, catalogue, rules};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// How wide help in a terminal is, in characters.
const WIDTH: usize = 78;

const INTRODUCTION: &str = "\
# Settings

<!-- Written from the catalogue in protocol/src/options; change that, not this page. -->

A model's settings are given as `key=value`:

```sh
llamactl model set NAME ctx-size=8192 gpu-layers=all
llamactl model unset NAME gpu-layers
llamactl defaults set threads=8          # for every model that does not say otherwise
llamactl help settings KEY               # one of them, in the terminal
```

A key is llama-server's own long flag without its dashes. Its other flags, its variable and what
[the old dashboard](old-dashboard.md) called it are accepted too. What nobody set is not passed on, so llama-server's
defaults hold: they are what its version b10434 says.

A build may lack an option, a name or a choice of those here; llamactl reads the build's own
`--help` and refuses what it lacks when it is set. A build may also know more than is here: an
option its help names can be set like any other.

[`options.schema.json`](options.schema.json) describes the same for programs.
";

/// The page of all settings, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for group in Group::ALL.iter().copied() {
        let _ = write!(page, "\n## {}\n\n{}.\n\n", group.as_str(), capitalised(group.about()));
        page.push_str(
            "| Setting | Also | Takes | Default | What it does |\n|---|---|---|---|---|\n",
        );
        for setting in settable(group) {
            let mut help = setting.help.to_owned();
            if !setting.builds.is_empty() {
                let _ = write!(help, ". Builds: {}", setting.builds);
            }
            let also: Vec<String> = also(setting).iter().map(|name| code(name)).collect();
            let default = Some(setting.default).filter(|default| !default.is_empty());
            row(
                &mut page,
                &[
                    &code(setting.key),
                    &also.join(" "),
                    &takes(setting),
                    &default.map(code).unwrap_or_default(),
                    &help,
                ],
            );
        }
    }
    page.push_str(
        "\n## What cannot be set\n\nThese options of llama-server are llamactl's own business, or \
         make no sense in a server that\nis to keep running.\n\n| Option | Also | Instead \
         |\n|---|---|---|\n",
    );
    for setting in catalogue().filter(|setting| !setting.refused.is_empty()) {
        let also: Vec<String> = also(setting).iter().map(|name| code(name)).collect();
        let builds = Some(setting.builds).filter(|builds| !builds.is_empty());
        let instead = match builds {
            Some(builds) => format!("{} ({builds})", setting.refused),
            None => setting.refused.to_owned(),
        };
        row(&mut page, &[&code(setting.key), &also.join(" "), &instead]);
    }
    page
}

/// The settings of a group that can be set, in the order they are shown.
fn settable(group: Group) -> impl Iterator<Item = &'static Setting<'static>> {
    let variables = Some(&super::catalogue::VARIABLE).filter(|_| group == Group::Llamactl);
    catalogue()
        .filter(move |setting| setting.group == group && setting.refused.is_empty())
        .chain(variables)
}

/// Its other names as they are typed: flags with their dashes, the variable, old names.
fn also(setting: &Setting<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    names.extend(setting.long.iter().map(|name| format!("--{name}")));
    names.extend(setting.short.iter().map(|name| format!("-{name}")));
    names.extend(setting.negations.iter().map(str::to_owned));
    names.extend(Some(setting.variable.to_owned()).filter(|name| !name.is_empty()));
    names.extend(setting.old_names.iter().map(|name| (*name).to_owned()));
    names
}

/// What it takes, with the unit.
fn takes(setting: &Setting<'_>) -> String {
    let allowed = setting.allowed();
    match (setting.unit, allowed.split_once(", or ")) {
        ("", _) => allowed,
        (unit, Some((number, words))) => format!("{number} ({unit}), or {words}"),
        (unit, None) => format!("{allowed} ({unit})"),
    }
}

/// Adds a row of a Markdown table to a page.
pub fn row(page: &mut String, cells: &[&str]) {
    for cell in cells {
        let _ = write!(page, "| {} ", cell.replace('|', "\\|"));
    }
    page.push_str("|\n");
}

/// A text as Markdown shows code.
#[must_use]
pub fn code(text: &str) -> String {
    format!("`{text}`")
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    // llamactl is written small also where a sentence begins.
    if text.starts_with("llama") {
        text.to_owned()
    } else {
        first.into_iter().chain(letters).collect()
    }
}

/// The JSON schema of settings as the daemon stores and shows them.
#[must_use]
pub fn schema() -> Value {
    let properties: Map<String, Value> =
        catalogue().map(|setting| (setting.key.to_owned(), property(setting))).collect();
    let variable = format!("^{}[A-Za-z_][A-Za-z0-9_]*$", VARIABLE_PREFIX.replace('.', "\\."));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of a model, or defaults for all models",
        "description": "Values as they are stored and shown. Where a setting is given, a text is \
                        read as its kind, so that \"8192\" and 8192 are the same. An option or a \
                        choice that is not here may be known to a build, and can be set with it.",
        "type": "object",
        "properties": properties,
        "patternProperties": { variable: property(&super::catalogue::VARIABLE) },
        "additionalProperties": true,
        "$defs": { "path": path(), "secret": secret(), },
    })
}

/// The schema of one setting.
fn property(setting: &Setting<'_>) -> Value {
    let mut schema = match &setting.values {
        Values::Integer { min, max, words } => integer(*min, *max, *words),
        Values::Real { min, max } => real(*min, *max),
        Values::Switch => json!({ "type": "boolean" }),
        Values::Choice(words) => one_of(*words),
        Values::List { of, .. } => {
            json!({ "type": "array", "items": item(of), "minItems": 1 })
        }
        Values::Pair => {
            let number = integer(0, i64::from(i32::MAX), super::NO_WORDS);
            json!({ "type": "array", "items": number, "minItems": 2, "maxItems": 2 })
        }
        Values::CpuRange => json!({ "type": "string", "pattern": "^[0-9]+-[0-9]+$" }),
        Values::CpuMask => json!({ "type": "string", "pattern": "^(0x)?[0-9A-Fa-f]+$" }),
        Values::File | Values::Directory => json!({ "$ref": "#/$defs/path" }),
        Values::Json { .. } => {
            json!({ "type": "string", "contentMediaType": "application/json" })
        }
        Values::Text | Values::Host | Values::Runtime => json!({ "type": "string" }),
        Values::Secret if setting.key == rules::API_KEY => {
            json!({ "anyOf": [{ "$ref": "#/$defs/secret" }, { "const": "generate" }] })
        }
        Values::Secret => json!({ "$ref": "#/$defs/secret" }),
        Values::Variable => {
            json!({ "anyOf": [{ "type": "string" }, { "$ref": "#/$defs/secret" }] })
        }
        Values::Arguments => json!({ "type": "array", "items": { "type": "string" } }),
    };
    let mut description = capitalised(setting.help);
    if !setting.refused.is_empty() {
        description = format!("Cannot be set: {}", setting.refused);
        // What only today's builds refuse may be set with another.
        if setting.builds.is_empty() {
            schema = json!({ "not": {} });
        }
    }
    for (name, text) in [
        ("Unit", setting.unit),
        ("llama-server's default", setting.default),
        ("Builds", setting.builds),
    ] {
        if !text.is_empty() {
            let _ = write!(description, ". {name}: {text}");
        }
    }
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("description".to_owned(), json!(description));
    }
    schema
}

fn integer(min: i64, max: i64, words: Words<'_>) -> Value {
    let mut number = json!({ "type": "integer" });
    if min != i64::MIN {
        number["minimum"] = json!(min);
    }
    if max != i64::MAX {
        number["maximum"] = json!(max);
    }
    // A word that is a number is stored as one.
    let words: Vec<Value> = words
        .iter()
        .map(|word| word.parse::<i64>().map_or_else(|_| json!(word), |number| json!(number)))
        .collect();
    if words.is_empty() { number } else { json!({ "anyOf": [number, { "enum": words }] }) }
}

fn real(min: f64, max: f64) -> Value {
    let mut number = json!({ "type": "number" });
    if min.is_finite() {
        number["minimum"] = json!(min);
    }
    if max.is_finite() {
        number["maximum"] = json!(max);
    }
    number
}

fn one_of(words: Words<'_>) -> Value {
    json!({ "type": "string", "enum": words.iter().collect::<Vec<_>>() })
}

fn item(item: &Item<'_>) -> Value {
    match item {
        Item::Integer { min, max } => integer(*min, *max, super::NO_WORDS),
        Item::Real { min, max } => real(*min, *max),
        Item::Word(words) => one_of(*words),
        Item::File => json!({ "$ref": "#/$defs/path" }),
        Item::ScaledFile => json!({ "type": "string", "pattern": "^/.*:[^:]+$" }),
        Item::Metadata => json!({ "type": "string", "pattern": "^[^=]+=(int|float|bool|str):" }),
        Item::Tensors => json!({ "type": "string", "pattern": "^[^=]+=." }),
        Item::Bias => json!({ "type": "string", "pattern": "^[0-9]+[+-]([0-9]|inf$)" }),
        Item::Device => json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:-]+$" }),
        Item::Address => json!({ "type": "string", "pattern": "^.+:[0-9]+$" }),
        Item::Text => json!({ "type": "string", "minLength": 1 }),
    }
}

fn path() -> Value {
    json!({
        "description": "An absolute path; one that is not UTF-8 as its bytes in base64.",
        "anyOf": [
            { "type": "string", "pattern": "^/" },
            {
                "type": "object",
                "properties": { "bytes": { "type": "string", "contentEncoding": "base64" } },
                "required": ["bytes"],
                "additionalProperties": false
            }
        ]
    })
}

fn secret() -> Value {
    json!({
        "description": "Given as secret_text, shown as secret; what is shown, given back, \
                        changes nothing.",
        "type": "object",
        "properties": {
            "secret_text": { "type": "string" },
            "secret_ref": { "type": "string" },
            "secret": { "const": "kept" }
        },
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": false
    })
}

/// The keys of all settings by group, for a terminal.
#[must_use]
pub fn help_list() -> String {
    let mut text = String::new();
    for group in Group::ALL.iter().copied() {
        text.push_str(&keys_of(group));
        text.push('\n');
    }
    text.push_str("llamactl help settings KEY explains one of them.\n");
    text
}

fn keys_of(group: Group) -> String {
    let keys: Vec<&str> = settable(group).map(|setting| setting.key).collect();
    format!("{}: {}\n{}", group.as_str(), group.about(), wrapped(&keys.join("  "), "  ", "  "))
}

/// The settings of one group, each with what it does, for a terminal.
#[must_use]
pub fn help_group(group: Group) -> String {
    let widest = settable(group).map(|setting| setting.key.len()).max().unwrap_or(0);
    let lines =
        settable(group).map(|setting| format!("{:<widest$}  {}\n", setting.key, setting.help));
    format!("{}: {}\n{}", group.as_str(), group.about(), lines.collect::<String>())
}

/// One setting, for a terminal.
#[must_use]
pub fn help_of(setting: &Setting<'_>) -> String {
    let mut text = if setting.inferred {
        format!("{}, which only the build's own help knows\n", setting.key)
    } else {
        format!("{} ({})\n", setting.key, setting.group.as_str())
    };
    let mut line = |name: &str, told: &str| {
        if !told.is_empty() {
            text.push_str(&wrapped(told, &format!("  {name:<15}"), &" ".repeat(17)));
        }
    };
    if setting.refused.is_empty() {
        line("Does", setting.help);
        line("Takes", &takes(setting));
        line("Default", setting.default);
        if !setting.example.is_empty() {
            line("Example", &format!("{}={}", setting.key, setting.example));
        }
        let is_policy = POLICY.contains(&setting.key);
        line("Applies", if is_policy { "at once" } else { "at the next start" });
    } else {
        line("Cannot be set", setting.refused);
    }
    line("Also", &also(setting).join("  "));
    line("Builds", setting.builds);
    text
}

/// Text in lines of at most [`WIDTH`] characters; a word that is longer has a line of its own.
fn wrapped(text: &str, first: &str, rest: &str) -> String {
    let mut lines = String::new();
    let mut line = first.to_owned();
    let mut is_bare = true;
    // Two spaces set names apart, and are kept between them.
    let gap = if text.contains("  ") { "  " } else { " " };
    for word in text.split(gap) {
        if !is_bare && line.chars().count() + gap.len() + word.chars().count() > WIDTH {
            lines.push_str(line.trim_end());
            lines.push('\n');
            rest.clone_into(&mut line);
            is_bare = true;
        }
        if !is_bare {
            line.push_str(gap);
        }
        line.push_str(word);
        is_bare = false;
    }
    lines.push_str(line.trim_end());
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{find, look_up};

    #[test]
    fn every_setting_is_in_every_document() {
        let (page, schema, list) = (markdown(), schema(), help_list());
        for setting in catalogue() {
            assert!(page.contains(&format!("| `{}` |", setting.key)), "{}", setting.key);
            assert!(schema["properties"][setting.key]["description"].is_string());
            let keys = list.lines().filter(|line| line.starts_with("  "));
            let listed = keys.flat_map(str::split_whitespace).any(|word| word == setting.key);
            assert_eq!(listed, setting.refused.is_empty(), "{}", setting.key);
        }
    }

    #[test]
    fn a_table_has_as_many_cells_in_every_row() {
        let mut columns = 0;
        for line in markdown().lines() {
            let cells = line.replace("\\|", "").matches('|').count();
            if line.starts_with('|') && columns > 0 {
                assert_eq!(cells, columns, "{line}");
            }
            columns = cells;
        }
    }

    #[test]
    fn help_fits_the_terminal() {
        let all = catalogue().map(help_of).collect::<String>() + &help_list();
        for line in all.lines() {
            // A label and one long word cannot be broken.
            let is_one_word = line.split_whitespace().count() <= 2;
            assert!(line.chars().count() <= WIDTH || is_one_word, "{line}");
        }
    }

    #[test]
    fn help_of_one_setting_says_what_there_is_to_say() {
        assert_eq!(
            help_of(&find("ctx-size", None).unwrap()),
            "ctx-size (memory)\n\
             \x20 Does           Context size, which the slots share; 0 takes the model's own\n\
             \x20 Takes          a whole number from 0 to 16777216 (tokens)\n\
             \x20 Default        0\n\
             \x20 Example        ctx-size=4096\n\
             \x20 Applies        at the next start\n\
             \x20 Also           -c  LLAMA_ARG_CTX_SIZE  num_ctx\n"
        );
        let refused = help_of(&look_up("models-dir", None).unwrap());
        assert!(refused.contains("Cannot be set") && refused.contains("adds one"), "{refused}");
        assert!(!refused.contains("Takes"));
    }

    #[test]
    fn the_schema_holds_what_the_catalogue_checks() {
        let schema = schema();
        let property = |key: &str| &schema["properties"][key];
        assert_eq!(property("ctx-size")["maximum"], json!(1 << 24));
        assert_eq!(property("parallel")["anyOf"][1]["enum"], json!([-1]));
        assert_eq!(property("gpu-layers")["anyOf"][1]["enum"], json!(["auto", "all"]));
        assert_eq!(property("flash-attn")["enum"], json!(["on", "off", "auto"]));
        assert_eq!(property("models-dir")["not"], json!({}));
        assert_eq!(property("mmap")["type"], json!("boolean"));
    }
}
