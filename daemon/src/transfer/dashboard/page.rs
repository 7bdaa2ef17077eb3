//! The old dashboard's fields for people who read: a page.

use super::table::{Becomes, Field, Reading, TABLES};
use llamactl_protocol::options::document::{code, row};
use llamactl_protocol::options::look_up;

const INTRODUCTION: &str = "\
# The old dashboard's fields

<!-- Written from daemon/src/transfer/dashboard/table.rs; change that, not this page. -->

What its tables held and what that is now, for `llamactl model import`. A value that is the
schema's default was nobody's choice and is not carried over: many of those defaults switch off
what llama-server does by itself.

| Table | Field | Schema's default | Now |
|---|---|---|---|
";

/// The page, as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (table, fields) in TABLES {
        for field in *fields {
            let name = match field.later {
                "" => code(field.name),
                later => format!("{} {}", code(field.name), code(later)),
            };
            let default = Some(field.default).filter(|default| !default.is_empty());
            row(&mut page, &[table, &name, &default.map(code).unwrap_or_default(), &now(field)]);
        }
    }
    page
}

/// What a field is now, as a cell of the page.
fn now(field: &Field) -> String {
    match field.becomes {
        Becomes::Setting(key) => match field.reading {
            Reading::Plain => code(key),
            Reading::Inverted => format!("{}, on for off", code(key)),
            Reading::MinusOneIsUnset => format!("{}; -1 is unset", code(key)),
            Reading::OnIs(value) => code(&format!("{key}={value}")),
        },
        Becomes::Own("name") => "the model's name".to_owned(),
        Becomes::Own(key) => code(key),
        Becomes::Refused(key) => {
            let why = look_up(key, None).map_or("", |setting| setting.refused);
            format!("gone: {why}")
        }
        Becomes::Gone(why) => format!("gone: {why}"),
    }
}
