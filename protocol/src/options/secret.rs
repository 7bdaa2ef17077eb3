//! How a secret looks in JSON, so that its text is where it must be and nowhere else.
//!
//! ```text
//!   given   {"secret_text": "…"}    in a request: the daemon keeps it in a file of its own
//!   stored  {"secret_ref": "id"}    in the registry, in revisions and runs: which file
//!   shown   {"secret": "kept"}      to everybody; given back, it leaves what is stored alone
//! ```

use super::Settings;
use serde_json::{Value, json};

/// What everybody sees of a secret.
#[must_use]
pub fn shown() -> Value {
    json!({ "secret": "kept" })
}

/// Whether `value` is [`shown`]: given back, it leaves what is stored alone.
#[must_use]
pub fn is_shown(value: &Value) -> bool {
    *value == shown()
}

/// A secret as it is given.
#[must_use]
pub fn given(text: &str) -> Value {
    json!({ "secret_text": text })
}

/// The text of a secret that is being given.
#[must_use]
pub fn text_of(value: &Value) -> Option<&str> {
    only(value, "secret_text")
}

/// A secret as it is stored: the id of its file.
#[must_use]
pub fn stored(id: &str) -> Value {
    json!({ "secret_ref": id })
}

/// The id of a stored secret's file.
#[must_use]
pub fn id_of(value: &Value) -> Option<&str> {
    only(value, "secret_ref")
}

/// Whether `value` is a secret in any of its forms.
#[must_use]
pub fn is_secret(value: &Value) -> bool {
    is_shown(value) || text_of(value).is_some() || id_of(value).is_some()
}

/// Settings as everybody may see them.
#[must_use]
pub fn masked(settings: &Settings) -> Settings {
    let mut masked = settings.clone();
    mask(&mut masked);
    masked
}

/// Makes settings such as everybody may see.
pub fn mask(settings: &mut Settings) {
    for value in settings.values_mut().filter(|value| is_secret(value)) {
        *value = shown();
    }
}

fn only<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    fields.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_tells_nothing() {
        let settings = Settings::from([
            ("api-key".to_owned(), given("s3cret")),
            ("hf-token".to_owned(), stored("7")),
            ("ctx-size".to_owned(), json!(1)),
        ]);
        assert_eq!(
            json!(masked(&settings)),
            json!({ "api-key": shown(), "hf-token": shown(), "ctx-size": 1 })
        );
        assert!(is_shown(&shown()) && !is_shown(&given("kept")));
    }
}
