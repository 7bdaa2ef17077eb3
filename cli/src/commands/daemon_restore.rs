//! `llamactl daemon restore`

use crate::args::more;
use crate::complete::{directories, files};
use crate::connection::{Autostart, Reach, ask_program};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::time::now_ms;
use crate::output::units;
use crate::remote::path_typed;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use llamactl_protocol::daemon::DaemonRestore;
use llamactl_protocol::{Failure, Kind};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::PathBuf;

/// Go back to a copy of the registry
///
/// To the newest good one where none is named. No daemon may run: its servers can run on (daemon
/// stop --keep-servers), and the next daemon takes over those that the copy knows. What lay in the
/// registry's place is kept beside it. With --running nothing is gone back to: a daemon whose file
/// was replaced puts what it has open back.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon restore",
    "llamactl daemon restore ~/.local/state/llamactl/copies/registry-2026-11-28.db",
    "llamactl daemon restore --running";
    "0 done, 1 no good copy, 4 a daemon runs, 5 nothing to put back, 6 daemon unreachable"
))]
pub(crate) struct Restore {
    /// The copy
    #[arg(value_name = "FILE", value_parser = OsStringValueParser::new().try_map(path_typed), add = files())]
    file: Option<PathBuf>,
    /// Let the daemon that runs put back what it has open
    #[arg(long, conflicts_with_all = ["file", "state_dir", "system"])]
    running: bool,
    /// The state directory, where it is not the user's own
    #[arg(long, value_name = "DIR", add = directories())]
    state_dir: Option<PathBuf>,
    /// That of the machine's daemon
    #[arg(long, conflicts_with = "state_dir")]
    system: bool,
}

/// What llamactld says became of it.
#[derive(Debug, Deserialize, Serialize)]
struct Restored {
    from: PathBuf,
    made_at_ms: i64,
    models: u64,
    aside: Option<PathBuf>,
}

/// Puts it back.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Restore) -> Outcome {
    if args.running {
        let put_back = reach.daemon(Autostart::Never).await?.call(&DaemonRestore {}).await?;
        if output.json {
            return output.json(&put_back);
        }
        if output.quiet {
            return Ok(());
        }
        return output.told(format!(
            "the registry is back in its place; the file that lay there is {} now",
            put_back.aside
        ));
    }
    let mut arguments = vec![OsString::from("--restore")];
    if let Some(file) = args.file {
        let absolute = std::path::absolute(&file).map_err(|error| {
            Failure::new(Kind::IoFailed, format!("cannot find {}: {error}", file.display()))
        })?;
        arguments.push(absolute.into());
    }
    if let Some(dir) = args.state_dir {
        arguments.extend([OsString::from("--state-dir"), dir.into()]);
    }
    if args.system {
        arguments.push("--system".into());
    }
    let said = ask_program(arguments).await?;
    let restored: Restored = serde_json::from_str(&said).map_err(|error| {
        Failure::new(Kind::Internal, format!("llamactld said something else: {error}"))
    })?;
    if output.json {
        return output.json(&restored);
    }
    if output.quiet {
        return Ok(());
    }
    lines(&restored, now_ms()).into_iter().try_for_each(|line| output.told(line))
}

fn lines(restored: &Restored, now_ms: i64) -> Vec<String> {
    let Restored { from, made_at_ms, models, aside } = restored;
    let models = match models {
        1 => "1 model".to_owned(),
        n => format!("{n} models"),
    };
    let age = units::between(*made_at_ms, now_ms);
    let mut lines =
        vec![format!("the registry is that of {age} ago, with {models}: {}", from.display())];
    lines.extend(aside.as_ref().map(|aside| format!("what lay there is {} now", aside.display())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::{NOW_MS, assert_screen};

    #[test]
    fn what_was_gone_back_to() {
        let state = "/home/anna/.local/state/llamactl";
        let restored = Restored {
            from: format!("{state}/copies/registry-2026-11-28.db").into(),
            made_at_ms: NOW_MS - 3 * 60 * 60 * 1000,
            models: 6,
            aside: Some(format!("{state}/registry.db.aside-1764288000000").into()),
        };
        assert_screen("daemon-restore", |output| {
            lines(&restored, NOW_MS).into_iter().try_for_each(|line| output.told(line))
        });
    }
}
