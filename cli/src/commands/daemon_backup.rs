//! `llamactl daemon backup`

use crate::args::more;
use crate::complete::files;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::units;
use crate::remote;
use clap::Args;
use llamactl_protocol::WirePath;
use llamactl_protocol::daemon::DaemonBackup;
use std::path::PathBuf;

/// Copy the registry to a file
///
/// Models, settings, runtimes, what is wanted of servers, history and events; not the files of
/// models, nor secrets, which are in files of their own in the state directory. The copy is looked
/// through before it gets its name. The daemon keeps one a day by itself.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon backup registry-before.db";
    "0 done, 1 the copy could not be made, 5 there is such a file already, 6 daemon unreachable"
))]
pub(crate) struct Backup {
    /// The file to make; the daemon's user writes it
    #[arg(value_name = "FILE", add = files())]
    file: PathBuf,
}

/// Makes a copy.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Backup) -> Outcome {
    let path = remote::path_meant(&args.file)?;
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let made = daemon.call(&DaemonBackup { path: WirePath(path) }).await?;
    if output.json {
        return output.json(&made);
    }
    if output.quiet {
        return Ok(());
    }
    output.line(format!(
        "{} is a copy of the registry ({})",
        made.path,
        units::bytes(made.size_bytes)
    ))
}
