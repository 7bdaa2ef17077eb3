//! Another machine: its daemon, asked from here through the system's ssh.
//!
//! ```text
//!   --host, $LLAMACTL_HOST ─▶ Host ─▶ ssh ──────────────────▶ sh ─▶ llamactl connect --stdio ─▶ daemon
//!    (a name, or ssh://…)              one process for each connection        ╰─ --server ─▶ llama-server
//! ```
//!
//! Each connection that a command would make to a socket here is a channel of ssh there, so that the
//! far daemon sees its own user and its rules hold. Several channels share what ssh calls a master.
//! [`sides`] says for each command on which machine its files are.

mod config;
mod elsewhere;
mod hops;
mod host;
mod sides;
mod ssh;

use elsewhere::carry_out;
pub(crate) use hops::is_lasting;
pub(crate) use host::Host;
pub(crate) use sides::{ASKS, HERE, LOOKS, REFUSED, SETTINGS, Side, WHOLE, table};
pub(crate) use ssh::{Greeting, open, was_stopped};

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use llamactl_protocol::{Failure, Hint, Kind, place};

/// The machine that the command line names. Paths and hints are read and told all over the program,
/// and depend on nothing else of it.
static NAMED: OnceLock<Host> = OnceLock::new();

/// Says once which machine the command is for.
pub(crate) fn name(host: Host) {
    // A second one cannot be: main says it.
    let _ = NAMED.set(host);
}

/// The machine that the command is for, if it is another one.
pub(crate) fn named() -> Option<&'static Host> {
    NAMED.get()
}

/// The same hint for whoever typed this command here: its command is about the machine that was named.
pub(crate) fn hint(hint: Hint) -> Hint {
    match named() {
        Some(host) => Hint { argv: host.command(&hint.argv), ..hint },
        None => hint,
    }
}

/// The words in which this command line names a machine, before anything is known to be right: what a
/// shell that completes the line has.
pub(crate) fn typed() -> Option<OsString> {
    let mut words = std::env::args_os().skip(1);
    let mut typed = None;
    while let Some(word) = words.next() {
        if word == "--host" {
            typed = words.next();
        } else if let Some(value) = word.to_str().and_then(|word| word.strip_prefix("--host=")) {
            typed = Some(value.into());
        }
    }
    typed.or_else(|| std::env::var_os(place::HOST_VARIABLE)).filter(|host| !host.is_empty())
}

/// A path as whoever typed it meant it: from the working directory; on another machine, where nobody
/// has one, only whole.
///
/// # Errors
/// [`Kind::InvalidValue`] for a path of another machine that is not absolute; [`Kind::IoFailed`] when
/// the working directory is gone.
pub(crate) fn path_meant(typed: &Path) -> Result<PathBuf, Failure> {
    match named() {
        Some(host) => whole(typed, host),
        None => std::path::absolute(typed).map_err(|error| {
            let why = format!("the path {} cannot be made absolute: {error}", typed.display());
            Failure::new(Kind::IoFailed, why)
        }),
    }
}

fn whole(typed: &Path, host: &Host) -> Result<PathBuf, Failure> {
    if typed.is_absolute() {
        return Ok(typed.to_owned());
    }
    Err(Failure::new(Kind::InvalidValue, not_whole(typed, &host.name)))
}

fn not_whole(typed: &Path, host: &str) -> String {
    format!(
        "{} is not a whole path: a path on {host} begins with a slash, because this machine's \
         directories are not there",
        typed.display()
    )
}

/// Whether there is such a file, which is then meant and no setting: on another machine nobody looks.
pub(crate) fn is_file_here(path: &Path) -> bool {
    named().is_none() && path.exists()
}

/// What another machine's command is to be given as a path: see [`path_meant`]. For what is carried out
/// there as it was typed here.
///
/// # Errors
/// A path that is not absolute, in words.
pub(crate) fn path_typed(word: OsString) -> Result<PathBuf, String> {
    let path = PathBuf::from(word);
    match typed() {
        Some(host) if !path.is_absolute() => Err(not_whole(&path, &host.display().to_string())),
        _ => Ok(path),
    }
}

/// The directory from which relative paths in a text are meant; none where they are another machine's.
///
/// # Errors
/// [`Kind::IoFailed`] when the working directory is gone.
pub(crate) fn base() -> Result<Option<llamactl_protocol::WirePath>, Failure> {
    match named() {
        Some(_) => Ok(None),
        None => crate::settings::here().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_another_machine_is_whole() {
        let host = Host::parse("ssh://box").unwrap();
        assert_eq!(whole(Path::new("/m/x.gguf"), &host).unwrap(), Path::new("/m/x.gguf"));
        for part in ["x.gguf", "./x", "~/x", ""] {
            let refused = whole(Path::new(part), &host).unwrap_err();
            assert!(refused.message.contains("ssh://box begins with a slash"), "{refused}");
        }
    }
}
