//! Why something could not be done: a stable kind, a sentence, a hint, and the evidence.
//!
//! Scripts match `kind`; people read `message` and `hint`. A kind is never renamed and its code
//! and exit status never change.

use crate::hint::{Hint, Hints};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// A refusal or a fault, as it crosses the wire and as it is printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What sort of failure: the word scripts match.
    pub kind: Kind,
    /// One sentence: what failed and why.
    pub message: String,
    /// What to do about it.
    #[serde(flatten)]
    pub hints: Hints,
    /// The evidence, by kind: log lines, the value refused, what is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

impl Failure {
    /// A failure without hint or details.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Failure { kind, message: message.into(), hints: Hints::default(), details: None }
    }

    /// The same with a hint behind those it has. A text alone is a cure that is no command.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        self.hints.0.push(hint.into());
        self
    }

    /// The same of this model, which its hints name.
    #[must_use]
    pub fn of_model(self, name: &str) -> Self {
        Failure { hints: self.hints.of_model(name), ..self }
    }

    /// The same with evidence.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident $name:literal $code:literal $exit:literal,)*) => {
        /// The sorts of failure. Each has a name, a JSON-RPC error code and a CLI exit status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $variant,)*
            /// A kind that only a newer daemon knows.
            Unknown,
        }

        impl Kind {
            /// Every kind this version knows.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)*];

            /// The stable name, as in `data.kind`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* Kind::Unknown => "unknown" }
            }

            /// The JSON-RPC error code: the standard ones for the wire, ours from 1000 on.
            #[must_use]
            pub fn code(self) -> i32 {
                match self { $(Kind::$variant => $code,)* Kind::Unknown => 1000 }
            }

            /// The exit status of `llamactl` for this kind.
            #[must_use]
            pub fn exit_status(self) -> u8 {
                match self { $(Kind::$variant => $exit,)* Kind::Unknown => 1 }
            }

            /// The kind of this name; [`Kind::Unknown`] when this version has no such kind.
            #[must_use]
            pub fn from_name(name: &str) -> Kind {
                match name { $($name => Kind::$variant,)* _ => Kind::Unknown }
            }
        }
    };
}

kinds! {
    // The wire. Codes below zero are JSON-RPC's and jsonrpsee's own.
    /// The line is not JSON.
    ParseError "parse_error" -32700 1,
    /// The JSON is not a request.
    InvalidRequest "invalid_request" -32600 1,
    /// This daemon has no such method.
    UnknownMethod "unknown_method" -32601 1,
    /// The parameters do not fit the method.
    InvalidParams "invalid_params" -32602 5,
    /// A fault inside the daemon.
    Internal "internal" -32603 1,
    /// One connection has as many streams as it may.
    TooManySubscriptions "too_many_subscriptions" -32006 1,
    /// A line is longer than a message may be.
    MessageTooLarge "message_too_large" -32007 1,
    /// An answer would be longer than a message may be.
    AnswerTooLarge "answer_too_large" -32008 1,
    /// The daemon has as many connections as it takes, in all or from one user.
    TooManyConnections "too_many_connections" -32009 1,
    /// A batch holds more calls than it may.
    BatchTooLong "batch_too_long" -32010 1,
    /// The JSON is nested deeper than it may be.
    TooDeep "too_deep" 1900 1,
    /// A message holds more JSON values than it may.
    TooManyValues "too_many_values" 1905 1,
    /// A line was begun and not finished in time.
    MessageTimeout "message_timeout" 1901 1,
    /// Nothing was sent for so long that the connection was closed.
    IdleTimeout "idle_timeout" 1902 1,
    /// The socket's permissions let this user in, the daemon does not.
    PeerRefused "peer_refused" 1903 1,
    /// The caller may not use this method.
    NotAllowed "not_allowed" 1904 1,

    // Things that are not there.
    /// No model has this name or alias.
    ModelNotFound "model_not_found" 1001 3,
    /// No such run, or its logs are gone.
    RunNotFound "run_not_found" 1002 3,
    /// The model has no such revision.
    RevisionNotFound "revision_not_found" 1005 3,
    /// The model's server asks for no key.
    KeyNotSet "key_not_set" 1006 3,
    /// The file does not exist.
    FileNotFound "file_not_found" 1003 3,
    /// No llama-server was found on this machine, or no runtime has this name.
    RuntimeNotFound "runtime_not_found" 1004 3,

    // Things in the way.
    /// The name is another model's, or another model's alias.
    NameTaken "name_taken" 1010 4,
    /// The model's server is running.
    ModelRunning "model_running" 1011 4,
    /// Somebody else changed the model first.
    RevisionConflict "revision_conflict" 1012 4,
    /// Another request overtook this one.
    Superseded "superseded" 1013 4,
    /// Another daemon holds the socket.
    AlreadyRunning "already_running" 1014 4,
    /// Models, the defaults or llamactl itself use the runtime.
    RuntimeInUse "runtime_in_use" 1015 4,
    /// As many servers run as the daemon was told to allow.
    TooManyRunning "too_many_running" 1016 4,

    // Values that cannot be.
    /// Not a model name.
    InvalidName "invalid_name" 1020 5,
    /// There is no setting of this name.
    UnknownOption "unknown_option" 1021 5,
    /// The setting does not take this value.
    InvalidValue "invalid_value" 1022 5,
    /// The setting is there and cannot be set by hand.
    OptionRefused "option_refused" 1023 5,
    /// The text could not be read as what it should be: TOML, INI, a command line.
    Unreadable "unreadable" 1024 5,
    /// The executable is no llama-server, or others could replace it.
    RuntimeRefused "runtime_refused" 1025 5,
    /// The path is a directory, a device, a pipe or a socket.
    NotAFile "not_a_file" 1030 5,
    /// The file may not be read.
    FileUnreadable "file_unreadable" 1031 5,
    /// The file is not GGUF.
    NotGguf "not_gguf" 1032 5,
    /// The file is a GGUF version this program does not read.
    GgufVersion "gguf_version" 1033 5,
    /// The file ends before its contents do.
    GgufTruncated "gguf_truncated" 1034 5,
    /// The file's header contradicts itself or the file's size.
    GgufInvalid "gguf_invalid" 1035 5,
    /// Parts of a split model are missing.
    SplitIncomplete "split_incomplete" 1036 5,
    /// A GGUF file that is not a language model: an adapter, a projector, a vocabulary.
    NotAModel "not_a_model" 1037 5,

    // Servers.
    /// The llama-server could not start, or ended by itself.
    ServerFailed "server_failed" 1040 8,
    /// The model has no server that answers now.
    NotRunning "not_running" 1041 8,

    // The machine.
    /// The disk is full: the change was not made.
    DiskFull "disk_full" 1050 1,
    /// The database could not be read or written.
    StoreFailed "store_failed" 1051 1,
    /// A file could not be read or written.
    IoFailed "io_failed" 1052 1,
    /// The registry's file was deleted while the daemon ran, and cannot be put back yet.
    RegistryGone "registry_gone" 1053 1,
    /// Another file was put into the place of the registry while the daemon ran.
    RegistryReplaced "registry_replaced" 1054 1,
    /// Another program holds the registry locked.
    RegistryBusy "registry_busy" 1055 1,
    /// The registry, or the disk it lies on, may only be read, or fails.
    RegistryUnwritable "registry_unwritable" 1056 1,

    // The daemon and the client.
    /// The daemon is stopping.
    Stopping "stopping" 1060 6,
    /// No daemon answers.
    DaemonUnreachable "daemon_unreachable" 1061 6,
    /// The time given ran out.
    TimedOut "timed_out" 1062 7,
    /// The command was used wrongly.
    Usage "usage" 1063 2,
    /// The person pressed Ctrl-C.
    Interrupted "interrupted" 1064 130,
}

impl Kind {
    /// The kind for a bare JSON-RPC error code, as other servers and old daemons send it.
    #[must_use]
    pub fn from_code(code: i32) -> Kind {
        Kind::ALL.iter().copied().find(|kind| kind.code() == code).unwrap_or(Kind::Unknown)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Kind::from_name(&Cow::<'de, str>::deserialize(deserializer)?))
    }
}

impl JsonSchema for Kind {
    fn schema_name() -> Cow<'static, str> {
        "FailureKind".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        schemars::json_schema!({
            "type": "string",
            "description": "What sort of failure. Newer daemons may send others.",
            "examples": names,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_codes_are_unique_and_lead_back() {
        let names: HashSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        let codes: HashSet<_> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!((names.len(), codes.len()), (Kind::ALL.len(), Kind::ALL.len()));
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), kind);
            assert_eq!(Kind::from_code(kind.code()), kind);
        }
    }

    #[test]
    fn a_newer_daemons_kind_is_still_readable() {
        let failure: Failure =
            serde_json::from_str(r#"{"kind":"gpu_on_fire","message":"m","smoke":true}"#).unwrap();
        assert_eq!((failure.kind, failure.hints), (Kind::Unknown, Hints::default()));
    }
}
