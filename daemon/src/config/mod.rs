//! The daemon's own configuration file.
//!
//! ```text
//!   --config, $LLAMACTL_CONFIG ─▶ that file, which must be there
//!   else ~/.config/llamactl/llamactld.toml, in system mode /etc/llamactl/llamactld.toml
//!     ─▶ Config, by serde ─▶ or a refusal with file, line, key and what would be right
//! ```
//!
//! What belongs to a model is a setting of that model; here stands only what concerns the daemon as
//! a whole. A mistake keeps the daemon from starting: going on without what somebody wrote would
//! be doing something else than they asked for.

pub use llamactl_protocol::daemon::Config;

use crate::os::file;
use llamactl_protocol::daemon::ConfigReport;
use llamactl_protocol::options::nearest;
use llamactl_protocol::place::{self, CONFIG_VARIABLE, SYSTEM_CONFIG};
use llamactl_protocol::{Failure, Kind, WirePath};
use serde::Deserialize as _;
use serde_json::json;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue, Deserializer};

/// The largest file that is read: one of this size is a mistake.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the configuration: the file that was `named`, else the one at the place for this mode,
/// which need not be there.
///
/// # Errors
/// [`Kind::InvalidValue`], with file, line and key: the file is not what it should be, or one that
/// was named is not there.
pub fn load(named: Option<&Path>, system: bool) -> Result<ConfigReport, Failure> {
    let usual = if named.is_some() { None } else { usual_path(system) };
    let Some(path) = named.map(Path::to_owned).or_else(|| usual.clone()) else {
        return Ok(ConfigReport::default());
    };
    let path = std::path::absolute(&path).map_err(|error| unreadable(&path, &error))?;
    match read(&path) {
        Ok(text) => {
            let config = parse(&path, &text)?;
            Ok(ConfigReport { path: Some(WirePath(path)), config })
        }
        Err(error) if usual.is_some() && is_absence(&error) => Ok(ConfigReport::default()),
        Err(error) => Err(unreadable(&path, &error)),
    }
}

/// As a file that says the same.
#[must_use]
pub fn text(report: &ConfigReport) -> String {
    let mut text = match &report.path {
        Some(path) => format!("# {path}\n"),
        None => "# there is no file: the defaults hold\n".to_owned(),
    };
    for (key, value) in report.config.entries() {
        text += &match value.is_null() {
            true => format!("# {key} = {}\n", left_out(&key).0),
            false => format!("{key} = {value}\n"),
        };
    }
    text
}

/// What it means that a key is left out which has no value then, and what one may write.
fn left_out(key: &str) -> (&'static str, &'static str) {
    match key {
        "metrics.listen" => ("nowhere", "write metrics.listen = \"127.0.0.1:9750\""),
        "metrics.listen_group" => ("no group", "write the name of a group, in quotes"),
        _ => ("no limit", "leave it out for no limit"),
    }
}

/// Where the file lies when none is named. `None` where nothing says where the user's home is.
fn usual_path(system: bool) -> Option<PathBuf> {
    if system {
        return Some(PathBuf::from(SYSTEM_CONFIG));
    }
    place::config_dir().map(|dir| dir.join("llamactld.toml"))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read(path: &Path) -> io::Result<String> {
    String::from_utf8(file::read(path, MAX_BYTES)?).map_err(io::Error::other)
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

/// The configuration that the text of a file says; `path` names the file in what is refused.
///
/// # Errors
/// [`Kind::InvalidValue`], with file, line and key.
pub fn parse(path: &Path, text: &str) -> Result<Config, Failure> {
    let refuse = |span: Option<Range<usize>>, why: &str| {
        let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Failure::new(Kind::InvalidValue, format!("{}:{line}: {why}", path.display()))
    };
    let table = DeTable::parse(text).map_err(|error| {
        let message = error.message().trim().replace('\n', ", ");
        refuse(error.span(), &format!("this is not TOML: {message}"))
            .hint("texts stand in quotes, and each key on a line of its own: key = value")
    })?;
    Config::deserialize(Deserializer::from(table.clone())).map_err(|error| {
        let span = error.span().unwrap_or_default();
        let Some((key, is_value)) = key_at(table.get_ref(), span.start) else {
            return refuse(error.span(), error.message());
        };
        let entries = Config::default().entries();
        let keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        if !is_value {
            let known = nearest(&key, &keys);
            let failure = refuse(error.span(), &format!("there is no key {key}"))
                .details(json!({ "key": key, "nearest": known }));
            return match known {
                Some(known) => failure.hint(format!("did you mean {known}?")),
                None => failure.hint(format!("the keys are {}", keys.join(", "))),
            };
        }
        let said = text.get(span).unwrap_or_default();
        let why = sentence(&key, said, error.message());
        let default = entries.iter().find(|(known, _)| *known == key).map(|(_, default)| default);
        let hint = match default.filter(|default| !default.is_null()) {
            Some(default) => format!("write {key} = {default}"),
            None => left_out(&key).1.to_owned(),
        };
        refuse(error.span(), &why).hint(hint).details(json!({ "key": key }))
    })
}

/// The key, with its tables, that stands at a place of the text, and whether its value does.
fn key_at(table: &DeTable<'_>, at: usize) -> Option<(String, bool)> {
    table.iter().find_map(|(name, value)| {
        let key = name.get_ref().to_string();
        if name.span().contains(&at) {
            return Some((key, false));
        }
        let in_table = match value.get_ref() {
            DeValue::Table(table) => key_at(table, at),
            _ => None,
        };
        match in_table {
            Some((inner, is_value)) => Some((format!("{key}.{inner}"), is_value)),
            None => value.span().contains(&at).then_some((key, true)),
        }
    })
}

/// What is wrong with a value, from serde's "invalid type: boolean `true`, expected `a` or `b`".
fn sentence(key: &str, said: &str, message: &str) -> String {
    match message.split_once(", expected ") {
        Some((_, expected)) => {
            let expected = expected.trim_start_matches("one of ").replace('`', "\"");
            let expected = expected.replace("a nonzero u32", "a whole number from 1 on");
            format!("{key} is {expected}")
        }
        None if message.starts_with("is ") => format!("{key} {message}"),
        None => format!("{key} cannot be {said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::daemon::{OnDaemonExit, Strays};
    use std::num::NonZeroU32;

    fn parsed(text: &str) -> Result<Config, Failure> {
        parse(Path::new("/etc/x.toml"), text)
    }

    fn shown(config: &Config) -> String {
        text(&ConfigReport { path: None, config: config.clone() })
    }

    #[test]
    fn every_key_is_read_and_what_is_shown_reads_the_same() {
        let config = parsed(
            "max_running = 3\nmax_loading = 1\non_daemon_exit = 'stop'\nstrays = \"stop\"\n\
             [metrics]\nhistory_bytes = 1000000\nlisten = 'localhost:9750'\nlisten_group = 'x'\n",
        );
        let config = config.unwrap();
        assert_eq!((config.max_running, config.max_loading.get()), (NonZeroU32::new(3), 1));
        assert_eq!((config.on_daemon_exit, config.strays), (OnDaemonExit::Stop, Strays::Stop));
        assert_eq!(config.metrics.history_bytes.get(), 1_000_000);
        assert_eq!(config.metrics.listen.as_ref().unwrap().to_string(), "127.0.0.1:9750");
        assert_eq!(config.metrics.listen_group.as_deref(), Some("x"));
        assert_eq!(parsed(&shown(&config)).unwrap(), config);
        let defaults = parsed("# nothing\n").unwrap();
        assert_eq!(defaults, Config::default());
        assert_eq!(parsed(&shown(&defaults)).unwrap(), defaults);
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
            (
                "[metrics]\nlisten = '0.0.0.0:9750'",
                ":2: metrics.listen is an address that only this machine has: anybody who reaches \
                 0.0.0.0:9750 could read it",
                "write metrics.listen = \"127.0.0.1:9750\"",
            ),
            ("metrics.listen = '[::]:1'", "metrics.listen is an address that only", "127.0.0.1"),
            ("metrics.listen = 'm.sock'", "or the whole path of a socket", "127.0.0.1"),
            ("metrics.listen = '127.0.0.1'", "with a port", "127.0.0.1"),
            ("metrics.listen = '127.0.0.1:0'", "with a port", "127.0.0.1"),
            ("metrics.listen = 9750", "metrics.listen is a string", "127.0.0.1"),
            ("on_daemon_exit = true", "on_daemon_exit cannot be true", "= \"keep\""),
            ("max_running = 1\nmax_running = 2", ":2: this is not TOML", "key = value"),
            ("max_running", "this is not TOML", "key = value"),
        ] {
            let failure = parsed(text).unwrap_err();
            assert_eq!(failure.kind, Kind::InvalidValue);
            assert!(failure.message.contains(message), "{text}: {failure}");
            assert!(failure.hints.lines().any(|line| line.contains(hint)), "{failure:?}");
        }
    }

    #[test]
    fn what_was_named_must_be_there_and_be_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let absent = load(Some(&dir.path().join("none.toml")), false).unwrap_err();
        assert!(absent.message.contains("it is not there"), "{absent}");
        let directory = load(Some(dir.path()), false).unwrap_err();
        assert!(directory.message.contains("not a file"), "{directory}");
    }
}
