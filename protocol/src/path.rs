//! File names on the wire.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The most bytes the kernel takes in one argument of a program, and far more than in a path.
const MAX_BYTES: usize = 128 << 10;

/// A path: a string where it is UTF-8, else `{"bytes": base64}`. No byte is lost either way.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WirePath(pub PathBuf);

impl WirePath {
    /// The path as the standard library takes it.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The path's bytes, as the operating system has them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_os_str().as_bytes()
    }

    /// The path of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        WirePath(PathBuf::from(OsString::from_vec(bytes)))
    }
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for WirePath {
    fn from(path: &T) -> Self {
        WirePath(PathBuf::from(path))
    }
}

impl From<PathBuf> for WirePath {
    fn from(path: PathBuf) -> Self {
        WirePath(path)
    }
}

impl fmt::Debug for WirePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// For messages: bytes that are not UTF-8 are shown as `�`.
impl fmt::Display for WirePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Serialize for WirePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => {
                Encoded { bytes: STANDARD.encode(self.as_bytes()).into() }.serialize(serializer)
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded<'a> {
    bytes: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a path: a string, or {\"bytes\": base64}")]
enum Form<'a> {
    Text(String),
    Bytes(#[serde(borrow)] Encoded<'a>),
}

impl<'de> Deserialize<'de> for WirePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = match Form::deserialize(deserializer)? {
            Form::Text(text) => text.into_bytes(),
            Form::Bytes(encoded) => {
                STANDARD.decode(encoded.bytes.as_bytes()).map_err(D::Error::custom)?
            }
        };
        if bytes.len() > MAX_BYTES {
            return Err(D::Error::custom(format!("a path has more than {MAX_BYTES} bytes")));
        }
        if bytes.contains(&0) {
            return Err(D::Error::custom("a path cannot hold a NUL byte"));
        }
        Ok(WirePath::from_bytes(bytes))
    }
}

impl JsonSchema for WirePath {
    fn schema_name() -> Cow<'static, str> {
        "Path".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A path: a string where it is UTF-8, else its bytes in base64.",
            "anyOf": [
                { "type": "string", "maxLength": MAX_BYTES },
                { "type": "object", "required": ["bytes"], "additionalProperties": false,
                  "properties": { "bytes": {
                      "type": "string", "contentEncoding": "base64",
                      "maxLength": MAX_BYTES.div_ceil(3) * 4,
                  } } },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_comes_back_byte_for_byte(bytes in proptest::collection::vec(1u8..=255, 0..64)) {
            let path = WirePath::from_bytes(bytes.clone());
            let text = serde_json::to_string(&path).unwrap();
            let back: WirePath = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back.as_bytes(), &bytes[..]);
        }
    }

    #[test]
    fn a_nul_byte_is_refused() {
        assert!(serde_json::from_str::<WirePath>("\"a\\u0000b\"").is_err());
    }
}
