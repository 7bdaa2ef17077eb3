//! Which machine, and how ssh is told.
//!
//! ```text
//!   ssh://[user@]machine[:port][/socket]      a port and a path as in any address; a password never
//!   name                                      from the hosts of llamactl.toml
//! ```

use super::config;
use llamactl_protocol::{Failure, Kind};
use std::path::PathBuf;

/// Another machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// What it was called; messages and hints say it again.
    pub(crate) name: String,
    /// It was named by the environment, so that a command need not name it.
    pub(crate) is_given: bool,
    /// The machine's name for ssh.
    pub(super) machine: String,
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
    /// The socket of the daemon there; absent: the one that a command there would find.
    pub(crate) socket: Option<PathBuf>,
    /// Where llamactl is there; absent: in its PATH, or else in `~/.local/bin`.
    pub(super) llamactl: Option<PathBuf>,
    /// Whether connections share what the user's own configuration of ssh says, instead of ours.
    pub(super) shares_own: bool,
    /// Whether only a connection will do that is there already.
    pub(super) is_hurried: bool,
}

impl Host {
    /// The machine of this name or address; `is_given`: by the environment.
    ///
    /// # Errors
    /// [`Kind::InvalidValue`]: no such name, or no address; what is wrong with the configuration.
    pub(crate) fn of(typed: &str, is_given: bool) -> Result<Host, Failure> {
        let config = config::read()?;
        let (address, named) = match typed.contains("://") {
            true => (typed, None),
            false => {
                let named = config.host(typed)?;
                (named.address.as_str(), Some(named))
            }
        };
        let host = Host::parse(address).map_err(|why| no_address(address, &why))?;
        let of_all = &config.ssh;
        let llamactl = named.and_then(|named| named.llamactl.clone());
        let share = named.and_then(|named| named.share_connections).or(of_all.share_connections);
        Ok(Host {
            name: typed.to_owned(),
            is_given,
            llamactl: llamactl.or_else(|| of_all.llamactl.clone()),
            shares_own: share == Some(false),
            ..host
        })
    }

    /// The same where nobody waits for more than a connection that is there already.
    pub(crate) fn hurried(self) -> Host {
        Host { is_hurried: true, ..self }
    }

    /// What an address says; or what is wrong with it.
    pub(crate) fn parse(address: &str) -> Result<Host, String> {
        let rest = address.strip_prefix("ssh://").ok_or("only ssh:// is known here")?;
        if rest.contains(['?', '#']) {
            return Err("it has a query or a fragment, which mean nothing here".to_owned());
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, String::new()),
        };
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err("it has a password; keys, an agent or the question at the terminal are \
                        safer"
                .to_owned());
        }
        let (machine, port) = match place.strip_prefix('[') {
            Some(bracketed) => {
                let (machine, port) = bracketed.split_once(']').ok_or("a ] is missing")?;
                (machine, port.strip_prefix(':').or(port.is_empty().then_some("")))
            }
            None => match place.split_once(':') {
                Some((machine, port)) => (machine, Some(port)),
                None => (place, Some("")),
            },
        };
        let port = match port.ok_or("what stands behind the ] is no port")? {
            "" if place.ends_with(':') => return Err("the port is missing".to_owned()),
            "" => None,
            port => match port.parse() {
                Ok(port @ 1..) => Some(port),
                _ => return Err(format!("{port} is no port")),
            },
        };
        // ssh would take a word that begins with a dash for an option, and a shell that it runs for a
        // proxy anything but a name for a command.
        let is_plain = |word: &str| {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-:%@+".contains(letter);
            !word.is_empty() && !word.starts_with('-') && word.chars().all(plain)
        };
        if !is_plain(machine) {
            return Err(format!("{machine:?} is no name of a machine"));
        }
        if user.is_some_and(|user| !is_plain(user)) {
            return Err("the user's name is none".to_owned());
        }
        if path.contains('\0') {
            return Err("its path is none".to_owned());
        }
        Ok(Host {
            name: address.to_owned(),
            machine: machine.to_owned(),
            user: user.map(str::to_owned),
            port,
            socket: (path.len() > 1).then(|| path.into()),
            ..Host::default()
        })
    }

    /// What a person types to get a shell there, and behind it a command to run in it.
    pub(crate) fn shell(&self, command: &[String]) -> Vec<String> {
        let mut words = vec!["ssh".to_owned(), "-t".to_owned()];
        words.extend(self.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        words.push(match &self.user {
            Some(user) => format!("{user}@{}", self.machine),
            None => self.machine.clone(),
        });
        words.extend(command.iter().cloned());
        words
    }

    /// A command as it is typed here to be about that machine.
    pub(crate) fn command(&self, argv: &[String]) -> Vec<String> {
        match argv.split_first() {
            Some((program, _)) if program == "llamactl" && self.is_given => argv.to_vec(),
            Some((program, rest)) if program == "llamactl" => {
                let host = ["--host".to_owned(), self.name.clone()];
                let is_said = rest.iter().any(|word| word.starts_with("--host"));
                let host = host.into_iter().filter(|_| !is_said);
                [program.clone()].into_iter().chain(host).chain(rest.iter().cloned()).collect()
            }
            // It is about the way there.
            Some((program, _)) if program.starts_with("ssh") => argv.to_vec(),
            Some(_) => self.shell(argv),
            None => vec![],
        }
    }
}

/// Says what is wrong with an address, and not what may be a password in it.
fn no_address(address: &str, why: &str) -> Failure {
    let shown = match address.rsplit_once('@') {
        Some((_, rest)) => format!("ssh://…@{rest}"),
        None => address.to_owned(),
    };
    let message = format!("{shown} is no address of a machine: {why}");
    Failure::new(Kind::InvalidValue, message)
        .hint("an address is written ssh://user@machine:port; user and port can be left out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_parts() {
        let host = Host::parse("ssh://ana@box.lan:2222/run/llamactl/llamactld.sock").unwrap();
        assert_eq!((host.user.as_deref(), host.machine.as_str()), (Some("ana"), "box.lan"));
        assert_eq!(host.port, Some(2222));
        assert_eq!(host.socket, Some("/run/llamactl/llamactld.sock".into()));
        for bare in ["ssh://box", "ssh://box/"] {
            let host = Host::parse(bare).unwrap();
            assert_eq!((host.machine.as_str(), host.user, host.socket), ("box", None, None));
        }
        let six = Host::parse("ssh://[fe80::1%eth0]:22").unwrap();
        assert_eq!((six.machine.as_str(), six.port), ("fe80::1%eth0", Some(22)));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (address, why) in [
            ("tcp://box:1", "only ssh"),
            ("ssh://ana:hunter2@box", "password"),
            ("ssh://box?x=1", "query"),
            ("ssh://box#x", "fragment"),
            ("ssh://-oProxyCommand=x", "no name of a machine"),
            ("ssh://ana@-x", "no name of a machine"),
            ("ssh://-l@box", "user's name"),
            ("ssh://", "no name of a machine"),
            ("ssh:///run/x.sock", "no name of a machine"),
            ("ssh://b$(x)", "no name of a machine"),
            ("ssh://box:0", "no port"),
            ("ssh://box:", "port is missing"),
            ("ssh://box:ssh", "no port"),
            ("ssh://[::1", "] is missing"),
            ("ssh://[::1]x", "behind the ]"),
        ] {
            let refused = Host::parse(address).unwrap_err();
            assert!(refused.contains(why), "{address}: {refused}");
            let told = no_address(address, &refused).message;
            assert!(!told.contains("hunter2") && told.contains(why), "{told}");
        }
    }

    #[test]
    fn a_command_is_typed_for_that_machine() {
        let typed = |name: &str, is_given, argv: &[&str]| {
            let host = Host { is_given, ..Host::parse(name).unwrap() };
            host.command(&argv.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).join(" ")
        };
        let ps = &["llamactl", "ps"];
        assert_eq!(typed("ssh://box", false, ps), "llamactl --host ssh://box ps");
        assert_eq!(typed("ssh://box", true, ps), "llamactl ps");
        let again = &["llamactl", "--host", "box", "ps"];
        assert_eq!(typed("ssh://box", false, again), "llamactl --host box ps");
        let stopped = &["systemctl", "start", "llamactl"];
        assert_eq!(
            typed("ssh://ana@box:22/x", true, stopped),
            "ssh -t -p 22 ana@box systemctl start llamactl"
        );
    }
}
