//! Words that programs match: a closed list each, open to what newer versions add.

/// Makes an enum of stable words, each with its name on the wire and what it means. A word this
/// version does not know is kept as it came, in `Other`.
macro_rules! words {
    (
        $(#[$doc:meta])* $type:ident, $schema:literal:
        $($variant:ident $name:literal $says:literal,)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $type {
            $(#[doc = $says] $variant,)*
            /// A word of another version, as it came.
            Other(String),
        }

        impl $type {
            /// Every word this version knows, with its name and what it says.
            pub const ALL: &'static [($type, &'static str, &'static str)] =
                &[$(($type::$variant, $name, $says),)*];

            /// The word on the wire, in databases and on screens.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $($type::$variant => $name,)*
                    $type::Other(name) => name,
                }
            }
        }

        impl From<&str> for $type {
            fn from(name: &str) -> $type {
                match name {
                    $($name => $type::$variant,)*
                    _ => $type::Other(name.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Ok($type::from(name.as_ref()))
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $schema.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let names: Vec<&str> = $type::ALL.iter().map(|(_, name, _)| *name).collect();
                schemars::json_schema!({
                    "type": "string",
                    "description": "A stable word. Newer daemons may send others.",
                    "examples": names,
                })
            }
        }
    };
}

pub(crate) use words;
