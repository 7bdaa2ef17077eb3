//! Reading a secret from where it is not seen: a file, stdin, or a prompt without echo.

use llamactl_protocol::{Failure, Kind};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write as _};

/// No secret is longer, in bytes.
const MAX_BYTES: u64 = 4 << 10;

/// Where a secret comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input<'a> {
    /// `@FILE`
    File(&'a str),
    /// `-`
    Stdin,
    /// `?`
    Prompt,
}

impl Input<'_> {
    /// Where a value says that the secret is; `None` when it says nothing of the sort.
    pub(crate) fn of(value: &str) -> Option<Input<'_>> {
        match value {
            "-" => Some(Input::Stdin),
            "?" => Some(Input::Prompt),
            _ => value.strip_prefix('@').filter(|path| !path.is_empty()).map(Input::File),
        }
    }
}

/// Reads a secret; its line end is not part of it.
///
/// # Errors
/// [`Kind::FileNotFound`], [`Kind::FileUnreadable`], [`Kind::Usage`] where there is no terminal to
/// ask at, [`Kind::InvalidValue`] for what is empty, too long or no text.
pub(crate) fn read_secret(key: &str, input: &Input<'_>) -> Result<String, Failure> {
    let text = match input {
        Input::File(path) => {
            let file = File::open(path).map_err(|error| unreadable(key, path, &error))?;
            whole(file).map_err(|error| unreadable(key, path, &error))?
        }
        Input::Stdin => {
            whole(io::stdin().lock()).map_err(|error| unreadable(key, "standard input", &error))?
        }
        Input::Prompt => ask(key)?,
    };
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() || text.contains(['\n', '\r', '\0']) {
        return Err(Failure::new(
            Kind::InvalidValue,
            format!("the secret for {key} must be one line that is not empty"),
        )
        .details(json!({ "key": key })));
    }
    Ok(text.to_owned())
}

fn whole(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn unreadable(key: &str, what: &str, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => Kind::FileNotFound,
        _ => Kind::FileUnreadable,
    };
    Failure::new(kind, format!("the secret for {key} cannot be read from {what}: {error}"))
        .details(json!({ "key": key }))
}

/// Asks at the terminal without showing what is typed.
fn ask(key: &str) -> Result<String, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new(
            Kind::Usage,
            format!("{key}=? asks at a terminal, and standard input is none"),
        )
        .hint(format!("use {key}=@FILE, or {key}=- to read standard input")));
    }
    let failed = |error: io::Error| unreadable(key, "the terminal", &error);
    // Asking on stderr keeps stdout for what was asked for.
    let _ = write!(io::stderr(), "{key}: ");
    let shown = tcgetattr(&stdin).map_err(|error| failed(error.into()))?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(|error| failed(error.into()))?;
    let mut line = String::new();
    let read = BufReader::new(stdin.lock().take(MAX_BYTES)).read_line(&mut line);
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &shown);
    let _ = writeln!(io::stderr());
    read.map_err(failed)?;
    restored.map_err(|error| failed(error.into()))?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_where_the_secret_is() {
        assert_eq!(Input::of("@/k"), Some(Input::File("/k")));
        assert_eq!(Input::of("-"), Some(Input::Stdin));
        assert_eq!(Input::of("?"), Some(Input::Prompt));
        for plain in ["", "@", "sk-1", "--"] {
            assert_eq!(Input::of(plain), None, "{plain:?}");
        }
    }
}
