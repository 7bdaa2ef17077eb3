//! `llamactl daemon start`

use crate::args::more;
use crate::connection::Reach;
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;

/// Start the daemon and wait until it answers
///
/// It runs in the background and takes servers over that run already. A daemon that runs is left
/// alone.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon start";
    "0 it runs  6 it could not be started"
))]
pub(crate) struct Start {}

/// Starts the daemon.
pub(crate) async fn run(output: &mut Output, reach: &Reach) -> Outcome {
    let (daemon, started) = reach.start_daemon().await?;
    let hello = daemon.hello().await?;
    if output.json {
        return output.json(&hello);
    }
    if output.quiet {
        return Ok(());
    }
    let already = if started { "" } else { " already" };
    output
        .line(format!("the daemon runs{already} (llamactld {}, pid {})", hello.version, hello.pid))
}
