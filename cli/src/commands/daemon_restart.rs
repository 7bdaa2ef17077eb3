//! `llamactl daemon restart`

use super::{daemon_start, daemon_stop};
use crate::args::more;
use crate::connection::{Daemon, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::time::parse_duration;
use clap::Args;
use llamactl_protocol::Hint;
use llamactl_protocol::client::CallError;
use llamactl_protocol::daemon::{DaemonRestart, DaemonStatus, Hello, RestartBegun};
use llamactl_protocol::{Failure, Kind, WirePath, place};
use std::time::Duration;
use tokio::signal::ctrl_c;
use tokio::time::{Instant, sleep};

/// How long the change may take, half of which the new program may take to be tried out. No server
/// is stopped for it.
const LIMIT: Duration = Duration::from_secs(60);
/// How often the daemon is asked whether it is the new one.
const PAUSE: Duration = Duration::from_millis(20);

/// Restart or upgrade the daemon; servers keep running
///
/// The daemon executes the llamactld that is where it was started from, with the configuration of
/// now: that is an upgrade without an interruption. It keeps its process id and its socket, and takes
/// its servers over. A program that does not work, or a configuration with a mistake, is refused and
/// the daemon goes on. Starts a daemon where none runs.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon restart";
    "0 the new daemon runs, 1 its program does not work, 5 its configuration is wrong  \
     6 it could not be started, 7 it does not answer, or the change took too long"
))]
pub(crate) struct Restart {
    /// Wait at most this long: 5s, 1m; absent: 15s for a first answer, 1m for the change
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// What a unit's ExecReload= runs: starts no daemon, and restarts none but that unit's
    #[arg(long, value_name = "UNIT", hide = true)]
    for_unit: Option<String>,
}

/// Restarts the daemon.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Restart) -> Outcome {
    let mut reach = reach.of_daemon_command(args.timeout, Kind::TimedOut);
    if args.for_unit.is_some() {
        reach = reach.of_unit()?;
    }
    let reach = &reach;
    let limit = args.timeout.unwrap_or(LIMIT);
    let deadline = Instant::now() + limit;
    let Some((daemon, hello)) = reach.running().await? else {
        if let Some(unit) = args.for_unit {
            let why = format!("no daemon of {unit} answers");
            return Err(Failure::new(Kind::DaemonUnreachable, why).into());
        }
        return daemon_start::start(output, reach).await;
    };
    let begun = match daemon.call_within(&DaemonRestart {}, LIMIT).await {
        Ok(begun) => begun,
        Err(failure) if failure.kind == Kind::UnknownMethod => {
            return replace_old(output, reach, daemon, &hello, limit).await;
        }
        Err(failure) => return Err(failure.into()),
    };
    output.progress(&["waiting for the new daemon".to_owned()]);
    let done = tokio::select! {
        done = replaced(&daemon, &begun, deadline) => done,
        _ = ctrl_c() => Err(Failure::new(
            Kind::Interrupted,
            "stopped waiting; the daemon is being replaced all the same",
        )),
    };
    output.progress(&[]);
    let (daemon, hello) = done?;
    if output.json {
        return output.json(&hello);
    }
    if output.quiet {
        return Ok(());
    }
    let servers = daemon.call_within(&DaemonStatus {}, LIMIT).await?.servers_active;
    took_over(output, &hello, servers, begun.registry_copy.as_ref())
}

fn took_over(
    output: &mut Output,
    hello: &Hello,
    servers: u64,
    registry_copy: Option<&WirePath>,
) -> Outcome {
    let servers = match servers {
        0 => String::new(),
        1 => "; its server runs on".to_owned(),
        n => format!("; its {n} servers run on"),
    };
    output.told(format!("llamactld {} took over (pid {}){servers}", hello.version, hello.pid))?;
    match registry_copy {
        Some(copy) => output.told(format!("the registry was upgraded; as it was it is at {copy}")),
        None => Ok(()),
    }
}

/// Waits until another life of the daemon answers than the one that goes. Connections made in
/// between wait in the socket's queue and are answered by the new one.
async fn replaced(
    old: &Daemon,
    begun: &RestartBegun,
    deadline: Instant,
) -> Result<(Daemon, Hello), Failure> {
    loop {
        match old.hello_anew(LIMIT).await {
            Ok((daemon, hello)) if hello.started_at_ms != begun.started_at_ms => {
                return Ok((daemon, hello));
            }
            Err(CallError::Refused(failure))
                if matches!(failure.kind, Kind::TimedOut | Kind::DaemonUnreachable) =>
            {
                return Err(failure);
            }
            // The old one, or it closed the connection while it went.
            _ if Instant::now() < deadline => sleep(PAUSE).await,
            _ => {
                let why = "no new daemon answered in time";
                return Err(Failure::new(Kind::TimedOut, why).hint(Hint::run(
                    "the servers are not affected; see what it does",
                    ["llamactl", "daemon", "logs"],
                )));
            }
        }
    }
}

/// Replaces a daemon that is too old to do it itself: it ends, and another is started.
async fn replace_old(
    output: &mut Output,
    reach: &Reach,
    daemon: Daemon,
    hello: &Hello,
    limit: Duration,
) -> Outcome {
    if daemon.place().socket() == place::system_socket() {
        let why = "this daemon is too old to be replaced while it runs";
        return Err(Failure::new(Kind::Usage, why)
            .hint(Hint::run("restart its unit", ["systemctl", "restart", "llamactl"]))
            .into());
    }
    daemon_stop::stop(output, daemon, hello, true, limit).await?;
    daemon_start::start(output, reach).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn the_new_daemon_took_over() {
        let hello = scene::hello();
        let copy = WirePath::from("/s/registry.db.before-4");
        assert_screen("daemon-restart", |output| {
            took_over(output, &hello, 0, None)?;
            took_over(output, &hello, 1, None)?;
            took_over(output, &hello, 3, Some(&copy))
        });
    }
}
