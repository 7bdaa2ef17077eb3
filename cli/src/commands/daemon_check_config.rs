//! `llamactl daemon check-config`

use crate::args::more;
use crate::complete::files;
use crate::connection::{Reach, ask_program};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::daemon::ConfigReport;
use llamactl_protocol::{Failure, Kind};
use std::ffi::OsString;
use std::path::PathBuf;

/// Check the daemon's configuration file
///
/// Says what would hold for a daemon that is started now, or what is wrong. Nothing is started or
/// changed; a running daemon goes on with what it read: `llamactl daemon restart` reads it again.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon check-config",
    "llamactl daemon check-config --config new.toml && cp new.toml ~/.config/llamactl/llamactld.toml";
    "0 in order, or no file, 5 something in it is wrong, 6 llamactld was not found"
))]
pub(crate) struct CheckConfig {
    /// Check this file instead of the daemon's own
    #[arg(long, value_name = "FILE", add = files())]
    config: Option<PathBuf>,
    /// Check the file of the machine's daemon, /etc/llamactl/llamactld.toml
    #[arg(long, conflicts_with = "config")]
    system: bool,
}

/// Checks the file.
pub(crate) async fn run(output: &mut Output, _: &Reach, args: CheckConfig) -> Outcome {
    let mut arguments = vec![OsString::from("--check-config")];
    if let Some(config) = args.config {
        arguments.extend([OsString::from("--config"), config.into()]);
    }
    if args.system {
        arguments.push("--system".into());
    }
    if output.json {
        arguments.push("--json".into());
    }
    let said = ask_program(arguments).await?;
    show(output, &said)
}

fn show(output: &mut Output, said: &str) -> Outcome {
    if output.json {
        let report: ConfigReport = serde_json::from_str(said).map_err(|error| {
            Failure::new(Kind::Internal, format!("llamactld said something else: {error}"))
        })?;
        return output.json(&report);
    }
    if output.quiet {
        return Ok(());
    }
    output.lines(said.lines())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn what_holds_or_what_is_wrong() {
        let said = "/home/anna/.config/llamactl/llamactld.toml is in order\nmax_loading = 2\n";
        let wrong =
            Failure::new(Kind::InvalidValue, "llamactld.toml:2: there is no key max_runing")
                .hint("did you mean max_running?");
        assert_screen("daemon-check-config", |output| {
            show(output, said)?;
            scene::told(output, wrong.clone())
        });
    }
}
