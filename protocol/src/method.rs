//! A method and a stream, as types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What a caller must be allowed to do.
///
/// The daemon's owner and root are `Admin`; in system mode, members of the socket's group are
/// `Operate`. The order is the order of power.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Looks at things and changes nothing.
    Observe,
    /// Starts and stops what is already set up.
    Operate,
    /// Names paths, executables, arguments or environment.
    Admin,
}

impl Access {
    /// The word used on the wire and in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Access::Observe => "observe",
            Access::Operate => "operate",
            Access::Admin => "admin",
        }
    }
}

/// How long an answer can become. Room for it is taken before the call is carried out, so that no
/// user's answers together cost more than a bounded amount of memory, read or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// At most 16 KiB: facts of a fixed number.
    Small,
    /// 256 KiB in all but rare cases: a page of a list, or one model with its settings.
    Page,
    /// Up to the longest message.
    Whole,
}

/// A method of the daemon. The implementing type is its parameter object.
///
/// Calls whose access is above [`Access::Observe`] change state: one connection's run in the
/// order they were sent, and a later read on that connection sees them.
pub trait Method: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The name on the wire, `noun.verb`.
    const NAME: &'static str;
    /// Who may call it.
    const ACCESS: Access;
    /// How long its answer can become.
    const ANSWER: Answer = Answer::Page;
    /// What it answers when it succeeds; a failure is a [`Failure`](crate::Failure).
    type Output: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
}

/// A stream of the daemon. The implementing type is its parameter object.
pub trait Subscription: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The method that opens the stream, `noun.follow`.
    const NAME: &'static str;
    /// The method that closes it, `noun.unfollow`.
    const UNSUBSCRIBE: &'static str;
    /// The method name of its notifications, `noun.item`.
    const NOTIFICATION: &'static str;
    /// Who may open it.
    const ACCESS: Access;
    /// The `data` of its snapshot and change items.
    type Item: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
}

/// Implements [`Method`] for a parameter type.
macro_rules! method {
    ($params:ty, $name:literal, $access:ident -> $output:ty $(, $answer:ident)?) => {
        impl $crate::Method for $params {
            const NAME: &'static str = $name;
            const ACCESS: $crate::Access = $crate::Access::$access;
            $(const ANSWER: $crate::method::Answer = $crate::method::Answer::$answer;)?
            type Output = $output;
        }
    };
}

/// Implements [`Subscription`] for a parameter type; the noun gives all three names.
macro_rules! subscription {
    ($params:ty, $noun:literal, $access:ident => $item:ty) => {
        impl $crate::Subscription for $params {
            const NAME: &'static str = concat!($noun, ".follow");
            const UNSUBSCRIBE: &'static str = concat!($noun, ".unfollow");
            const NOTIFICATION: &'static str = concat!($noun, ".item");
            const ACCESS: $crate::Access = $crate::Access::$access;
            type Item = $item;
        }
    };
}

pub(crate) use {method, subscription};
