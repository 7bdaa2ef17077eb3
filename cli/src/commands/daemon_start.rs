//! `llamactl daemon start`

use crate::args::more;
use crate::connection::Reach;
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::time::parse_duration;
use clap::Args;
use llamactl_protocol::Kind;
use llamactl_protocol::daemon::Hello;
use std::time::Duration;

/// Start the daemon and wait until it answers
///
/// It runs in the background and takes servers over that run already. A daemon that runs is left
/// alone.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon start";
    "0 it runs, 6 it could not be started, or one that runs does not answer"
))]
pub(crate) struct Start {
    /// Wait at most this long for its answer: 5s, 1m; absent: 15s for one that runs already
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// Starts the daemon.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Start) -> Outcome {
    let reach = reach.of_daemon_command(args.timeout, Kind::DaemonUnreachable);
    start(output, &reach).await
}

/// Starts the daemon, and says that it runs.
pub(crate) async fn start(output: &mut Output, reach: &Reach) -> Outcome {
    let (hello, started) = reach.start_daemon().await?;
    tell(output, &hello, started)
}

fn tell(output: &mut Output, hello: &Hello, started: bool) -> Outcome {
    if output.json {
        return output.json(hello);
    }
    if output.quiet {
        return Ok(());
    }
    let already = if started { "" } else { " already" };
    output
        .line(format!("the daemon runs{already} (llamactld {}, pid {})", hello.version, hello.pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn who_runs_and_since_when() {
        let hello = scene::hello();
        assert_screen("daemon-start", |output| {
            tell(output, &hello, true)?;
            tell(output, &hello, false)
        });
    }
}
