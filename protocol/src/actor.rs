//! Who did something, or asked for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who did something, or asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// Somebody, through a client.
    Client {
        /// The user's name, or `uid N` where it has none.
        user: String,
        /// The command that asked, as it was typed (`llamactl start qwen3`), where the client says;
        /// else the method that was called.
        command: Option<String>,
    },
    /// The boot: the model is set to start with the machine.
    Boot,
    /// llamactld itself, by a rule: the restart policy, a limit, the end of a hang.
    Policy,
    /// The process itself: nobody asked.
    Process,
    /// Somebody who sent the daemon a signal; the system does not tell who.
    Signal {
        /// Its name: `SIGTERM`.
        signal: String,
    },
}

impl Actor {
    /// Who it is, without what was typed.
    #[must_use]
    pub fn user(&self) -> String {
        match self {
            Actor::Client { user, .. } => user.clone(),
            by => by.to_string(),
        }
    }

    /// As it is kept in a database: a word, or a client as JSON.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Actor::Client { .. } => serde_json::to_string(self).unwrap_or_default(),
            Actor::Boot => "boot".to_owned(),
            Actor::Policy => "policy".to_owned(),
            Actor::Process => "process".to_owned(),
            Actor::Signal { signal } => signal.clone(),
        }
    }

    /// Reads what [`Actor::to_text`] wrote, and what earlier versions wrote: a word, or a method
    /// and a peer (`server.start by uid 0, pid 12`).
    #[must_use]
    pub fn from_text(text: &str) -> Actor {
        match text {
            "boot" => return Actor::Boot,
            "policy" => return Actor::Policy,
            "process" => return Actor::Process,
            signal if signal.starts_with("SIG") => {
                return Actor::Signal { signal: signal.to_owned() };
            }
            _ => {}
        }
        if let Ok(actor) = serde_json::from_str(text) {
            return actor;
        }
        let (command, peer) = match text.split_once(" by ") {
            Some((command, peer)) => (Some(command.to_owned()), peer),
            None => (None, text),
        };
        let user = peer.split(", pid ").next().unwrap_or(peer);
        Actor::Client { user: user.to_owned(), command }
    }
}

impl fmt::Display for Actor {
    /// As people read it: `anna (llamactl start qwen3)`, `llamactld`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Client { user, command: Some(command) } => write!(f, "{user} ({command})"),
            Actor::Client { user, command: None } => f.write_str(user),
            Actor::Boot => f.write_str("the boot"),
            Actor::Policy => f.write_str("llamactld"),
            Actor::Process => f.write_str("the process"),
            Actor::Signal { signal } => f.write_str(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_so_is_what_earlier_versions_wrote() {
        let anna =
            Actor::Client { user: "anna".into(), command: Some("llamactl start \"a\"".into()) };
        let signal = Actor::Signal { signal: "SIGTERM".into() };
        for actor in [anna, Actor::Boot, Actor::Policy, Actor::Process, signal] {
            assert_eq!(Actor::from_text(&actor.to_text()), actor);
        }
        let old = Actor::from_text("server.start by uid 0, pid 12");
        let command = Some("server.start".to_owned());
        assert_eq!(old, Actor::Client { user: "uid 0".into(), command });
        assert_eq!(
            Actor::from_text("signal"),
            Actor::Client { user: "signal".into(), command: None }
        );
    }
}
