//! The daemon's own configuration file.
//!
//! ```text
//!   --config, $LLAMACTL_CONFIG ─▶ that file, which must be there
//!   else ~/.config/llamactl/llamactld.toml, in system mode /etc/llamactl/llamactld.toml
//!     ─▶ parse: key by key, each refusal with its line ─▶ Config
//! ```
//!
//! What belongs to a model is a setting of that model; here stands only what concerns the daemon as
//! a whole. A mistake keeps the daemon from starting: going on without what somebody wrote would
//! be doing something else than they asked for.

use llamactl_protocol::daemon::{ConfigReport, OnDaemonExit, Strays};
use llamactl_protocol::options::nearest;
use llamactl_protocol::place::{CONFIG_VARIABLE, SYSTEM_CONFIG};
use llamactl_protocol::{Failure, Kind, WirePath};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The largest file that is read: one of this size is a mistake.
const MAX_BYTES: u64 = 1 << 20;

const KEYS: &[&str] = &["max_running", "max_loading", "on_daemon_exit", "strays"];

/// What the daemon was configured to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from; `None` where there is none and the defaults hold.
    pub path: Option<PathBuf>,
    /// At most this many servers run at a time; `None` is no limit.
    pub max_running: Option<u32>,
    /// At most this many servers load at a time.
    pub max_loading: u32,
    /// What becomes of the servers when the daemon ends unasked.
    pub on_daemon_exit: OnDaemonExit,
    /// What becomes of servers of ours that no record tells of.
    pub strays: Strays,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            path: None,
            max_running: None,
            max_loading: 2,
            on_daemon_exit: OnDaemonExit::Keep,
            strays: Strays::Adopt,
        }
    }
}

impl Config {
    /// Whether servers outlive a daemon that ends unasked.
    #[must_use]
    pub fn keeps_servers(&self) -> bool {
        self.on_daemon_exit == OnDaemonExit::Keep
    }

    /// Reads the configuration: the file that was `named`, else the one at the place for this mode,
    /// which need not be there.
    ///
    /// # Errors
    /// [`Kind::InvalidValue`], with file, line and key: the file is not what it should be, or one
    /// that was named is not there.
    pub fn load(named: Option<&Path>, system: bool) -> Result<Config, Failure> {
        let usual = if named.is_some() { None } else { usual_path(system) };
        let Some(path) = named.map(Path::to_owned).or_else(|| usual.clone()) else {
            return Ok(Config::default());
        };
        let path = std::path::absolute(&path).map_err(|error| unreadable(&path, &error))?;
        match read(&path) {
            Ok(text) => parse(&path, &text),
            Err(error) if usual.is_some() && is_absence(&error) => Ok(Config::default()),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// As it is told on the wire.
    #[must_use]
    pub fn report(&self) -> ConfigReport {
        ConfigReport {
            path: self.path.clone().map(WirePath),
            max_running: self.max_running,
            max_loading: self.max_loading,
            on_daemon_exit: self.on_daemon_exit,
            strays: self.strays,
        }
    }

    /// As a file that says the same.
    #[must_use]
    pub fn text(&self) -> String {
        let from = match &self.path {
            Some(path) => format!("# {}", path.display()),
            None => "# there is no file: the defaults hold".to_owned(),
        };
        let max_running = self.max_running.map_or_else(
            || "# max_running = no limit".to_owned(),
            |n| format!("max_running = {n}"),
        );
        format!(
            "{from}\n{max_running}\nmax_loading = {}\non_daemon_exit = \"{}\"\nstrays = \"{}\"\n",
            self.max_loading, self.on_daemon_exit, self.strays
        )
    }
}

/// Where the file lies when none is named. `None` where nothing says where the user's home is.
fn usual_path(system: bool) -> Option<PathBuf> {
    if system {
        return Some(PathBuf::from(SYSTEM_CONFIG));
    }
    directories::ProjectDirs::from("", "", "llamactl")
        .map(|dirs| dirs.config_dir().join("llamactld.toml"))
        .filter(|path| path.is_absolute())
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read(path: &Path) -> io::Result<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // A pipe in its place must not hold the start up.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let mut text = String::new();
    if file.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let why = match is_absence(error) {
        true => "it is not there".to_owned(),
        false => error.to_string(),
    };
    Failure::new(
        Kind::InvalidValue,
        format!("the configuration {} cannot be read: {why}", path.display()),
    )
    .hint(format!("--config and {CONFIG_VARIABLE} name it; without them a missing one is no fault"))
}

/// The configuration that the text of a file says.
fn parse(path: &Path, text: &str) -> Result<Config, Failure> {
    let source = Source { path, text };
    let table = DeTable::parse(text).map_err(|error| {
        let message = error.message().trim().replace('\n', ", ");
        source
            .refuse(error.span(), format!("this is not TOML: {message}"))
            .hint("texts stand in quotes, and each key on a line of its own: key = value")
    })?;
    let mut config = Config { path: Some(path.to_owned()), ..Config::default() };
    for (key, value) in table.get_ref() {
        match key.get_ref().as_ref() {
            "max_running" => config.max_running = Some(source.count("max_running", value)?),
            "max_loading" => config.max_loading = source.count("max_loading", value)?,
            "on_daemon_exit" => {
                let choices = [("keep", OnDaemonExit::Keep), ("stop", OnDaemonExit::Stop)];
                config.on_daemon_exit = source.choice("on_daemon_exit", value, &choices)?;
            }
            "strays" => {
                let choices = [("adopt", Strays::Adopt), ("stop", Strays::Stop)];
                config.strays = source.choice("strays", value, &choices)?;
            }
            unknown => {
                let known = nearest(unknown, KEYS);
                let failure = source
                    .refuse(Some(key.span()), format!("there is no key {unknown}"))
                    .details(json!({ "key": unknown, "nearest": known }));
                return Err(match known {
                    Some(known) => failure.hint(format!("did you mean {known}?")),
                    None => failure.hint(format!("the keys are {}", KEYS.join(", "))),
                });
            }
        }
    }
    Ok(config)
}

/// A file's text, and where in it something is wrong.
struct Source<'t> {
    path: &'t Path,
    text: &'t str,
}

impl Source<'_> {
    fn refuse(&self, span: Option<Range<usize>>, why: impl std::fmt::Display) -> Failure {
        let before = span.and_then(|span| self.text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Failure::new(Kind::InvalidValue, format!("{}:{line}: {why}", self.path.display()))
    }

    /// A whole number of at least 1.
    fn count(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<u32, Failure> {
        let number = match value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        number.filter(|number| *number > 0).ok_or_else(|| {
            let hint = match key {
                "max_running" => "leave it out for no limit",
                _ => "max_loading = 2",
            };
            let why = format!("{key} is a whole number from 1 on");
            self.refuse(Some(value.span()), why).hint(hint).details(json!({ "key": key }))
        })
    }

    fn choice<T: Copy>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        choices: &[(&str, T)],
    ) -> Result<T, Failure> {
        let said = match value.get_ref() {
            DeValue::String(text) => Some(text.as_ref()),
            _ => None,
        };
        let found = choices.iter().find(|(name, _)| Some(*name) == said);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<String> =
                choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let names = names.join(" or ");
            self.refuse(Some(value.span()), format!("{key} is {names}"))
                .hint(format!("write {key} = {names}"))
                .details(json!({ "key": key }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Config, Failure> {
        parse(Path::new("/etc/x.toml"), text)
    }

    #[test]
    fn every_key_is_read_and_what_is_shown_reads_the_same() {
        let config = parsed(
            "max_running = 3\nmax_loading = 1\non_daemon_exit = 'stop'\nstrays = \"stop\"\n",
        );
        let config = config.unwrap();
        assert_eq!((config.max_running, config.max_loading), (Some(3), 1));
        assert_eq!((config.on_daemon_exit, config.strays), (OnDaemonExit::Stop, Strays::Stop));
        assert_eq!(parsed(&config.text()).unwrap(), config);
        let defaults = parsed("# nothing\n").unwrap();
        assert_eq!(Config { path: None, ..defaults.clone() }, Config::default());
        assert_eq!(parsed(&defaults.text()).unwrap(), defaults);
    }

    #[test]
    fn a_refusal_names_file_line_and_key() {
        for (text, message, hint) in [
            ("\nmax_runing = 3", "/etc/x.toml:2: there is no key max_runing", "max_running"),
            ("zzz = 1", "/etc/x.toml:1: there is no key zzz", "the keys are"),
            ("max_loading = 0", "/etc/x.toml:1: max_loading is a whole number from 1 on", "= 2"),
            ("max_loading = -1", ":1: max_loading is a whole", "= 2"),
            ("max_running = 'none'", ":1: max_running is a whole", "leave it out"),
            ("max_running = 5000000000", ":1: max_running is a whole", "leave it out"),
            ("# x\n\nstrays = 'kill'", ":3: strays is \"adopt\" or \"stop\"", "strays ="),
            ("on_daemon_exit = true", "on_daemon_exit is \"keep\" or \"stop\"", "write"),
            ("max_running = 1\nmax_running = 2", ":2: this is not TOML", "key = value"),
            ("max_running", "this is not TOML", "key = value"),
        ] {
            let failure = parsed(text).unwrap_err();
            assert_eq!(failure.kind, Kind::InvalidValue);
            assert!(failure.message.contains(message), "{text}: {failure}");
            assert!(failure.hint.as_deref().unwrap_or_default().contains(hint), "{failure:?}");
        }
    }

    #[test]
    fn what_was_named_must_be_there_and_be_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let absent = Config::load(Some(&dir.path().join("none.toml")), false).unwrap_err();
        assert!(absent.message.contains("it is not there"), "{absent}");
        let directory = Config::load(Some(dir.path()), false).unwrap_err();
        assert!(directory.message.contains("not a plain file"), "{directory}");
    }
}
