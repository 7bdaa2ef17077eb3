//! Where a connection broke, in words.
//!
//! ```text
//!   ssh here ─▶ name ─▶ network ─▶ host key ─▶ login ─▶ shell there ─▶ llamactl there ─▶ its daemon
//! ```

use super::Host;
use super::ssh::MAX_SKIPPED;
use llamactl_protocol::{Failure, Hint, Kind};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// So many lines of what was printed are shown.
const SHOWN: usize = 10;

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// No word of ours arrived.
    Nothing,
    /// The other side printed too much before a word of ours.
    TooMuch,
    /// Nothing happened for too long.
    Slow,
    /// The other side has no llamactl.
    Absent,
    /// It has one, which began to run.
    Found,
}

/// The part of the way that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Hop {
    Name,
    Network,
    HostKey,
    Login,
    Shell,
    Llamactl,
}

/// Whether trying again later would be in vain: somebody must do something first.
pub(crate) fn is_lasting(failure: &Failure) -> bool {
    let hop = failure.details.as_ref().and_then(|details| details.get("hop"));
    let hop = hop.and_then(|hop| Hop::deserialize(hop).ok());
    matches!(hop, Some(Hop::HostKey | Hop::Login | Hop::Llamactl))
}

/// An ssh that ended before llamactl there had said that all is well.
pub(super) struct Ended<'a> {
    pub(super) came: Came,
    /// The exit status of ssh; `None` where a signal ended it.
    pub(super) status: Option<i32>,
    /// What the other side printed before a word of ours.
    pub(super) printed: &'a str,
    /// What stands on stderr, ssh's own words and the other side's.
    pub(super) said: &'a str,
}

impl Ended<'_> {
    /// What to tell.
    pub(super) fn failure(&self, host: &Host) -> Failure {
        let name = &host.name;
        let (hop, message, hint) = match self.came {
            Came::Nothing if self.status.is_none_or(|status| status == 255) => self.of_ssh(host),
            Came::Nothing => (
                Hop::Shell,
                format!("the shell on {name} ended with {} before it ran anything", self.code()),
                by_hand(host),
            ),
            Came::TooMuch => (
                Hop::Shell,
                format!(
                    "the shell on {name} printed more than {} KiB and did not come to llamactl",
                    MAX_SKIPPED >> 10
                ),
                Hint::to(
                    "what its start files print belongs behind a question whether a terminal is there",
                ),
            ),
            Came::Slow => (
                Hop::Shell,
                format!("the shell on {name} has not come to llamactl in two minutes"),
                by_hand(host),
            ),
            Came::Absent => (Hop::Llamactl, self.absent(host), {
                let key = "name its place in llamactl.toml: llamactl = \"/path/to/llamactl\"";
                Hint::to(format!("install it there, or {key}"))
            }),
            Came::Found => self.of_llamactl(host),
        };
        let lines = self.printed.lines().chain(self.said.lines()).map(str::trim_end);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("llamactl-there: "));
        let evidence: Vec<&str> = lines.take(SHOWN).collect();
        Failure::new(Kind::DaemonUnreachable, message)
            .hint(hint)
            .details(json!({ "host": name, "hop": hop, "evidence": evidence }))
    }

    fn code(&self) -> String {
        self.status.map_or_else(|| "a signal".to_owned(), |status| format!("status {status}"))
    }

    /// ssh itself failed, as its last words say; or a far shell was killed, of which it says nothing.
    fn of_ssh(&self, host: &Host) -> (Hop, String, Hint) {
        let (name, machine) = (&host.name, &host.machine);
        let words = self.said.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let words = words.unwrap_or_default();
        let has = |text: &str| self.said.contains(text);
        if has("Could not resolve hostname") {
            let hint = Hint::to("see how it is written, or give it a name in ~/.ssh/config");
            (Hop::Name, format!("there is no machine called {machine}"), hint)
        } else if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            let hint = Hint::run("if it was set up anew", ["ssh-keygen", "-R", machine.as_str()]);
            let why = "shows another key than the one that ssh knows: it may be another machine";
            (Hop::HostKey, format!("{name} {why}"), hint)
        } else if has("Host key verification failed") {
            let hint = Hint::run("look at its key and accept it", host.shell(&[]));
            (Hop::HostKey, format!("ssh does not know the key of {name} yet"), hint)
        } else if has("Permission denied") {
            (Hop::Login, format!("{name} does not let you in: {words}"), by_hand(host))
        } else if has("Connection refused") {
            let hint = Hint::to("see that sshd runs there, and at which port");
            (Hop::Network, format!("nobody takes ssh connections at {machine}"), hint)
        } else if words.is_empty() {
            let why = "was ended, or the connection to it, before it came to llamactl";
            (Hop::Shell, format!("the shell on {name} {why}"), by_hand(host))
        } else {
            (Hop::Network, format!("{name} cannot be reached: {words}"), by_hand(host))
        }
    }

    fn absent(&self, host: &Host) -> String {
        match &host.llamactl {
            Some(path) => format!("there is no llamactl at {} on {}", path.display(), host.name),
            None => format!(
                "there is no llamactl on {}: neither in the PATH of its shell nor in ~/.local/bin",
                host.name
            ),
        }
    }

    /// llamactl there ran and did not say what one of today says.
    fn of_llamactl(&self, host: &Host) -> (Hop, String, Hint) {
        let name = &host.name;
        match self.status {
            Some(2) => (
                Hop::Llamactl,
                format!("llamactl on {name} is of a version that cannot be asked from elsewhere"),
                Hint::to("install there the version that is here"),
            ),
            None | Some(255) => (
                Hop::Shell,
                format!("llamactl on {name} was ended, or the connection to it"),
                by_hand(host),
            ),
            Some(_) => (
                Hop::Llamactl,
                format!("llamactl on {name} ended with {}", self.code()),
                by_hand(host),
            ),
        }
    }
}

/// The same connection without us.
fn by_hand(host: &Host) -> Hint {
    Hint::run("see what ssh says by itself", host.shell(&["true".to_owned()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of an ssh that ended so, and whether that lasts.
    fn told(came: Came, status: i32, printed: &str, said: &str) -> (String, bool) {
        let host = Host::parse("ssh://ana@box:22").unwrap();
        let failure = Ended { came, status: Some(status), printed, said }.failure(&host);
        assert_eq!(failure.kind, Kind::DaemonUnreachable);
        assert!(!failure.hints.0.is_empty(), "{failure}");
        (failure.message.clone(), is_lasting(&failure))
    }

    #[test]
    fn which_part_of_the_way_failed() {
        // The words are those of OpenSSH 9.2.
        for (came, status, said, told_as, lasts) in [
            (
                Came::Nothing,
                255,
                "ssh: Could not resolve hostname box: Name or service not known",
                "no machine called box",
                false,
            ),
            (
                Came::Nothing,
                255,
                "ssh: connect to host box port 22: Connection refused",
                "nobody takes ssh connections",
                false,
            ),
            (
                Came::Nothing,
                255,
                "ssh: connect to host box port 22: Connection timed out",
                "cannot be reached: ssh: connect",
                false,
            ),
            (
                Came::Nothing,
                255,
                "No ED25519 host key is known for box and you have requested strict checking.\nHost key verification failed.",
                "does not know the key",
                true,
            ),
            (
                Came::Nothing,
                255,
                "@  WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\nHost key verification failed.",
                "another key",
                true,
            ),
            (
                Came::Nothing,
                255,
                "ana@box: Permission denied (publickey).",
                "does not let you in: ana@box: Permission denied (publickey).",
                true,
            ),
            (Came::Nothing, 255, "", "the shell on ssh://ana@box:22 was ended", false),
            (
                Came::Nothing,
                1,
                "This account is currently not available.",
                "ended with status 1 before it ran",
                false,
            ),
            (Came::TooMuch, 255, "", "more than 64 KiB", false),
            (
                Came::Absent,
                127,
                "\nllamactl-there: none\n",
                "no llamactl on ssh://ana@box:22",
                true,
            ),
            (
                Came::Found,
                2,
                "error: unrecognized subcommand 'connect'",
                "cannot be asked from elsewhere",
                true,
            ),
            (Came::Found, 255, "", "was ended, or the connection", false),
            (Came::Found, 101, "thread panicked", "ended with status 101", true),
        ] {
            let (message, is_lasting) = told(came, status, "", said);
            assert!(message.contains(told_as), "{said}: {message}");
            assert_eq!(is_lasting, lasts, "{message}");
        }
    }

    #[test]
    fn what_was_printed_is_shown() {
        let host = Host::parse("ssh://box").unwrap();
        let ended = Ended {
            came: Came::Nothing,
            status: Some(1),
            printed: "Welcome\n",
            said: "\nllamactl-there: found\nno\n",
        };
        let details = ended.failure(&host).details.unwrap();
        assert_eq!(details["evidence"], json!(["Welcome", "no"]));
        assert_eq!(details["hop"], "shell");
    }
}
