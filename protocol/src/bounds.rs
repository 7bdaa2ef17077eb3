//! How much a client may say: texts, lists and settings that are refused while they are read.
//!
//! ```text
//!   line ─▶ serde ─▶ Bounded<String, N>, Bounded<Vec<T>, N>, Bounded<Settings, N>
//!                        ╰─ longer: an error before the rest is looked at
//! ```
//!
//! Every text, list and map that a method takes is one of these or has a bound of its own, so that
//! what a call can cost is known before its handler runs; a test of the OpenRPC document finds one
//! that is not. A client is not held to it: its words are judged where they arrive.

use crate::options::Settings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

/// Something that has at most `MAX` bytes, items or entries when it comes over the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Bounded<T, const MAX: usize>(pub T);

/// A short text: what a label, a cursor or an id of a run may be.
pub type Short = Bounded<String, 256>;

/// A name, an alias or an id, of a model or a runtime, as a client refers to it.
pub type Name = Bounded<String, { crate::name::MAX_BYTES }>;

/// A setting's key, under any of its names.
pub type SettingKey = Bounded<String, 64>;

/// A list of a client's.
pub type List<T> = Bounded<Vec<T>, 1000>;

/// The most settings a model, the defaults or a run may have.
pub const MAX_SETTINGS: usize = 1000;

/// The most aliases a model may have.
pub const MAX_ALIASES: usize = 64;

/// Settings as a client gives them, by [`SettingKey`].
pub type GivenSettings = Bounded<Settings, MAX_SETTINGS>;

/// Aliases as a client gives them.
pub type Aliases = Bounded<Vec<Name>, MAX_ALIASES>;

/// The most characters of a value that a message repeats.
const EXCERPT_CHARACTERS: usize = 80;

/// The start of what somebody said, short enough for a message.
#[must_use]
pub fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(EXCERPT_CHARACTERS) {
        None => Cow::Borrowed(text),
        Some((at, _)) => Cow::Owned(format!("{}…", text.get(..at).unwrap_or_default())),
    }
}

impl<const MAX: usize> Deref for Bounded<String, MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<T, const MAX: usize> Deref for Bounded<Vec<T>, MAX> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<const MAX: usize> Deref for Bounded<Settings, MAX> {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.0
    }
}

impl<T, const MAX: usize> From<T> for Bounded<T, MAX> {
    fn from(whole: T) -> Self {
        Bounded(whole)
    }
}

impl<const MAX: usize> From<&str> for Bounded<String, MAX> {
    fn from(text: &str) -> Self {
        Bounded(text.to_owned())
    }
}

impl<T, I: Into<T>, const MAX: usize> FromIterator<I> for Bounded<Vec<T>, MAX> {
    fn from_iter<It: IntoIterator<Item = I>>(items: It) -> Self {
        Bounded(items.into_iter().map(Into::into).collect())
    }
}

impl<const EACH: usize, const MAX: usize> From<Vec<String>>
    for Bounded<Vec<Bounded<String, EACH>>, MAX>
{
    fn from(texts: Vec<String>) -> Self {
        texts.into_iter().collect()
    }
}

impl<const EACH: usize, const MAX: usize> From<Bounded<Vec<Bounded<String, EACH>>, MAX>>
    for Vec<String>
{
    fn from(texts: Bounded<Vec<Bounded<String, EACH>>, MAX>) -> Self {
        texts.0.into_iter().map(|text| text.0).collect()
    }
}

impl<const MAX: usize> From<Bounded<String, MAX>> for String {
    fn from(text: Bounded<String, MAX>) -> Self {
        text.0
    }
}

impl<const MAX: usize> fmt::Display for Bounded<String, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Bounded<String, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<const MAX: usize>;

        impl<const MAX: usize> Visitor<'_> for Text<MAX> {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a text of at most {MAX} bytes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
                if text.len() > MAX {
                    let (start, bytes) = (excerpt(text), text.len());
                    return Err(E::custom(format!(
                        "{start:?} has {bytes} bytes; {MAX} are allowed"
                    )));
                }
                Ok(text.to_owned())
            }
        }

        deserializer.deserialize_str(Text::<MAX>).map(Bounded)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<Vec<T>, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    if items.len() == MAX {
                        return Err(A::Error::custom(format!("a list has more than {MAX} items")));
                    }
                    items.push(item);
                }
                Ok(items)
            }
        }

        deserializer.deserialize_seq(Items::<T, MAX>(PhantomData)).map(Bounded)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Bounded<Settings, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<const MAX: usize>;

        impl<'de, const MAX: usize> Visitor<'de> for Entries<MAX> {
            type Value = Settings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an object of at most {MAX} settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
                let mut settings = Settings::new();
                while let Some((key, value)) = map.next_entry::<SettingKey, Value>()? {
                    if settings.len() == MAX {
                        return Err(A::Error::custom(format!(
                            "more than {MAX} settings are given"
                        )));
                    }
                    settings.insert(key.0, value);
                }
                Ok(settings)
            }
        }

        deserializer.deserialize_map(Entries::<MAX>).map(Bounded)
    }
}

impl<const MAX: usize> JsonSchema for Bounded<String, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("TextOf{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": MAX })
    }
}

impl<T: JsonSchema, const MAX: usize> JsonSchema for Bounded<Vec<T>, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{MAX}Of{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array", "maxItems": MAX, "items": generator.subschema_for::<T>(),
        })
    }
}

impl<const MAX: usize> JsonSchema for Bounded<Settings, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("SettingsOf{MAX}").into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object", "maxProperties": MAX, "additionalProperties": true,
            "propertyNames": generator.subschema_for::<SettingKey>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::json;

    fn read<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
        serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_too_long_is_refused_while_it_is_read() {
        assert_eq!(read::<Name>(&json!("a".repeat(128))).unwrap().len(), 128);
        let refused = read::<Name>(&json!("é".repeat(500_000))).unwrap_err();
        assert!(refused.contains("has 1000000 bytes; 128 are allowed"), "{refused}");
        assert!(refused.len() < 300, "{refused}");

        assert_eq!(read::<Bounded<Vec<u64>, 2>>(&json!([1, 2])).unwrap().0, [1, 2]);
        let refused = read::<Bounded<Vec<u64>, 2>>(&json!([1, 2, 3])).unwrap_err();
        assert!(refused.contains("more than 2 items"), "{refused}");
        // The rest is not even looked at.
        assert!(read::<Bounded<Vec<u64>, 2>>(&json!([1, 2, 3, "x"])).unwrap_err().contains("more"));

        assert_eq!(read::<GivenSettings>(&json!({ "temp": 1 })).unwrap().0["temp"], 1);
        let many: Settings = (0..1001).map(|n| (format!("env.V{n}"), json!("1"))).collect();
        assert!(read::<GivenSettings>(&json!(many)).unwrap_err().contains("more than 1000"));
        let long = read::<GivenSettings>(&json!({ "k".repeat(65): 1 })).unwrap_err();
        assert!(long.contains("has 65 bytes; 64 are allowed"), "{long}");
    }

    #[test]
    fn a_message_repeats_the_start_of_a_long_text() {
        assert_eq!(excerpt("short"), "short");
        assert_eq!(excerpt(&"ä".repeat(80)), "ä".repeat(80));
        assert_eq!(excerpt(&"ä".repeat(81)), format!("{}…", "ä".repeat(80)));
    }
}
