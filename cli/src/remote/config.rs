//! The command's own configuration: machines by name, and how ssh is used.
//!
//! ```toml
//!   [hosts.box]                              # llamactl --host box …
//!   address = "ssh://ana@box.lan:2222"
//!   llamactl = "/opt/llamactl/bin/llamactl"  # where it is there
//!
//!   [ssh]
//!   share_connections = false                # as ~/.ssh/config says, and not our way
//! ```

use llamactl_protocol::{Failure, Hint, Kind, place};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The file's name, beside the daemon's.
const FILE: &str = "llamactl.toml";
/// No such file is longer, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ClientConfig {
    hosts: BTreeMap<String, NamedHost>,
    pub(super) ssh: Ssh,
}

/// What holds for every machine that says nothing else.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ssh {
    pub(super) llamactl: Option<PathBuf>,
    pub(super) share_connections: Option<bool>,
}

/// A machine with a name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedHost {
    pub(super) address: String,
    pub(super) llamactl: Option<PathBuf>,
    pub(super) share_connections: Option<bool>,
}

impl ClientConfig {
    /// The machine of this name.
    ///
    /// # Errors
    /// [`Kind::InvalidValue`]: there is none.
    pub(super) fn host(&self, name: &str) -> Result<&NamedHost, Failure> {
        self.hosts.get(name).ok_or_else(|| {
            let path = path().unwrap_or_else(|| FILE.into());
            let known: Vec<&str> = self.hosts.keys().map(String::as_str).collect();
            let failure = Failure::new(
                Kind::InvalidValue,
                format!("no machine is called {name} in {}", path.display()),
            );
            let failure = match known.is_empty() {
                true => failure,
                false => failure.hint(format!("it knows {}", known.join(", "))),
            };
            let argv = ["llamactl".to_owned(), "--host".to_owned(), format!("ssh://{name}")];
            failure.hint(Hint::run(
                "reach one that ssh knows",
                argv.into_iter().chain(["ps".to_owned()]),
            ))
        })
    }
}

fn path() -> Option<PathBuf> {
    Some(place::config_dir()?.join(FILE))
}

/// Reads the file, which need not be there.
///
/// # Errors
/// [`Kind::InvalidValue`]: it cannot be read, or says something else.
pub(super) fn read() -> Result<ClientConfig, Failure> {
    let Some(path) = path() else { return Ok(ClientConfig::default()) };
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => parse(&path, &text),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(ClientConfig::default())
        }
        Err(error) => Err(refused(&path, &error.to_string())),
    }
}

fn parse(path: &Path, text: &str) -> Result<ClientConfig, Failure> {
    let config: ClientConfig = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
        let line = line.unwrap_or_default();
        refused(path, &format!("{line}{}", error.message()))
    })?;
    let programs = config.hosts.values().map(|host| &host.llamactl).chain([&config.ssh.llamactl]);
    if let Some(program) = programs.flatten().find(|program| !program.is_absolute()) {
        return Err(refused(path, &format!("llamactl = {program:?} is not a whole path")));
    }
    Ok(config)
}

fn refused(path: &Path, why: &str) -> Failure {
    Failure::new(Kind::InvalidValue, format!("{} cannot be used: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<ClientConfig, Failure> {
        parse(Path::new("/c/llamactl.toml"), text)
    }

    #[test]
    fn machines_have_names() {
        let config = parsed(
            "[ssh]\nshare_connections = false\n[hosts.box]\naddress = \"ssh://box\"\nllamactl = \"/x\"\n",
        );
        let config = config.unwrap();
        assert_eq!(config.host("box").unwrap().address, "ssh://box");
        assert_eq!(config.ssh.share_connections, Some(false));
        let unknown = config.host("bax").unwrap_err();
        assert_eq!(unknown.hints.0[0].text, "it knows box");
        assert_eq!(unknown.hints.0[1].argv, ["llamactl", "--host", "ssh://bax", "ps"]);
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let wrong = parsed("[hosts.box]\naddress = \"ssh://box\"\nlamactl = \"/x\"\n").unwrap_err();
        assert!(
            wrong.message.contains("/c/llamactl.toml") && wrong.message.contains("line 3"),
            "{wrong}"
        );
        let part = parsed("[ssh]\nllamactl = \"bin/x\"\n").unwrap_err();
        assert!(part.message.contains("not a whole path"), "{part}");
    }
}
