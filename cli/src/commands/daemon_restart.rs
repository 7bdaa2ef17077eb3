//! `llamactl daemon restart`

use super::{daemon_start, daemon_stop};
use crate::args::more;
use crate::connection::Reach;
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::{Failure, Kind, place};
use std::time::Duration;

/// How long the old daemon may take to end. It stops no server.
const LIMIT: Duration = Duration::from_secs(30);

/// Replace the daemon by a new one; the servers run on
///
/// The new daemon takes the running servers over. Starts a daemon where none runs.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon restart";
    "0 the new daemon runs  6 it could not be started  7 the old one has not ended in time"
))]
pub(crate) struct Restart {}

/// Restarts the daemon.
pub(crate) async fn run(output: &mut Output, reach: &Reach) -> Outcome {
    if let Some(daemon) = reach.running().await? {
        if daemon.socket == place::system_socket() {
            let why = "this is the machine's own daemon, which llamactl cannot start again";
            return Err(Failure::new(Kind::Usage, why).hint("systemctl restart llamactld").into());
        }
        daemon.quietly();
        daemon_stop::stop(output, daemon, true, LIMIT).await?;
    }
    daemon_start::run(output, reach).await
}
