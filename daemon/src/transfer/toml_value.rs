//! JSON values as TOML and back, without loss. Pure.
//!
//! TOML knows no null and its numbers are those of a setting. An object is one of the few a
//! setting's value can be: a path that is not UTF-8, or a secret.

use super::position::{At, unreadable};
use llamactl_protocol::Failure;
use serde_json::{Number, Value};
use std::fmt::Write as _;
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeValue};

/// A value as it stands behind `key = `.
#[must_use]
pub fn write(value: &Value) -> String {
    match value {
        // A setting is never null; an empty text is the nearest TOML has.
        Value::Null => "\"\"".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => string(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(write).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{} = {}", key(name), write(value)))
                .collect();
            if fields.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", fields.join(", ")) }
        }
    }
}

/// A key, quoted where it must be.
#[must_use]
pub fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A text: on lines of its own where it has several.
fn string(text: &str) -> String {
    if !text.contains('\n') {
        return quoted(text);
    }
    let mut written = "\"\"\"\n".to_owned();
    escape(text, true, &mut written);
    written.push_str("\"\"\"");
    written
}

fn quoted(text: &str) -> String {
    let mut written = "\"".to_owned();
    escape(text, false, &mut written);
    written.push('"');
    written
}

fn escape(text: &str, lines: bool, written: &mut String) {
    for character in text.chars() {
        match character {
            '\n' if lines => written.push('\n'),
            '\n' => written.push_str("\\n"),
            '\t' if lines => written.push('\t'),
            '\t' => written.push_str("\\t"),
            '\\' => written.push_str("\\\\"),
            '"' => written.push_str("\\\""),
            control if control.is_control() => {
                // Writing to a String does not fail.
                let _ = write!(written, "\\u{:04X}", u32::from(control));
            }
            other => written.push(other),
        }
    }
}

/// A value as it was read.
///
/// # Errors
/// `Kind::Unreadable` for what no setting can be: a date, a number that is not finite or too long.
pub fn read(text: &str, value: &Spanned<DeValue<'_>>) -> Result<Value, Failure> {
    // Counting lines takes its time, so they are counted for a refusal only.
    let at = || Some(At::of_byte(text, value.span().start));
    let read = match value.get_ref() {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(on) => Value::from(*on),
        DeValue::Integer(number) => Value::from(
            integer(number)
                .ok_or_else(|| unreadable("the number is too long: at most 64 bits", at()))?,
        ),
        DeValue::Float(number) => float(number)
            .map(Value::Number)
            .ok_or_else(|| unreadable("the number is not finite", at()))?,
        DeValue::Datetime(date) => {
            return Err(unreadable(format!("{date} is a date: put it in quotes"), at()));
        }
        DeValue::Array(items) => {
            items.iter().map(|item| read(text, item)).collect::<Result<Value, _>>()?
        }
        DeValue::Table(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| Ok((name.get_ref().clone().into_owned(), read(text, value)?)));
            Value::Object(fields.collect::<Result<_, Failure>>()?)
        }
    };
    Ok(read)
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn float(number: &DeFloat<'_>) -> Option<Number> {
    Number::from_f64(number.as_str().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use toml::de::DeTable;

    fn back(text: &str) -> Result<Value, Failure> {
        let line = format!("x = {text}\n");
        let table = DeTable::parse(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let (_, value) = table.get_ref().iter().next().unwrap();
        read(&line, value)
    }

    #[test]
    fn texts_of_several_lines_stay_readable() {
        let grammar = "root ::= \"a\\n\"\n  | 'b'\n";
        assert!(write(&json!(grammar)).contains("\n  | 'b'\n"));
        assert_eq!(back(&write(&json!(grammar))).unwrap(), json!(grammar));
    }

    #[test]
    fn what_no_setting_can_be_is_refused() {
        for bad in ["1979-05-27", "inf", "nan", "99999999999999999999"] {
            assert!(back(bad).is_err(), "{bad}");
        }
        assert_eq!(back("0x1F").unwrap(), json!(31));
        assert_eq!(back("1_000").unwrap(), json!(1000));
    }

    fn value() -> impl Strategy<Value = Value> {
        let finite = any::<f64>().prop_filter("finite", |number| number.is_finite());
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            finite.prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[a-z\"'\\\\\r\n\t #=]{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..3)
                    .prop_map(|fields| json!(fields)),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value in value()) {
            prop_assert_eq!(back(&write(&value)).unwrap(), value);
        }

        #[test]
        fn every_key_comes_back(name in any::<String>()) {
            let line = format!("{} = 1\n", key(&name));
            let table = DeTable::parse(&line).unwrap();
            let (read, _) = table.get_ref().iter().next().unwrap();
            prop_assert_eq!(read.get_ref().as_ref(), name.as_str());
        }
    }
}
