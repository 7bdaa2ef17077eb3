//! `llamactl daemon restart`

use super::{daemon_start, daemon_stop};
use crate::args::more;
use crate::connection::{Daemon, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::Hint;
use llamactl_protocol::daemon::{DaemonHello, DaemonRestart, DaemonStatus, Hello, RestartBegun};
use llamactl_protocol::{Failure, Kind, WirePath, place};
use std::time::Duration;
use tokio::signal::ctrl_c;
use tokio::time::{Instant, sleep};

/// How long the change may take. No server is stopped for it.
const LIMIT: Duration = Duration::from_secs(30);
/// How often the daemon is asked whether it is the new one.
const PAUSE: Duration = Duration::from_millis(20);

/// Replace the daemon by its program of now; the servers run on
///
/// The daemon executes the llamactld that lies where it was started from, with the configuration of
/// now: that is an upgrade without an interruption. It keeps its process id and its socket, and takes
/// its servers over. A program that does not work, or a configuration with a mistake, is refused and
/// the daemon goes on. Starts a daemon where none runs.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon restart";
    "0 the new daemon runs  1 its program does not work  5 its configuration is wrong  \
     6 it could not be started  7 the change took too long"
))]
pub(crate) struct Restart {}

/// Restarts the daemon.
pub(crate) async fn run(output: &mut Output, reach: &Reach) -> Outcome {
    let Some(daemon) = reach.running().await? else {
        return daemon_start::run(output, reach).await;
    };
    daemon.quietly();
    let begun = match daemon.call(&DaemonRestart {}).await {
        Ok(begun) => begun,
        Err(failure) if failure.kind == Kind::UnknownMethod => {
            return replace_old(output, reach, daemon).await;
        }
        Err(failure) => return Err(failure.into()),
    };
    output.progress("waiting for the new daemon");
    let done = tokio::select! {
        done = replaced(&daemon, &begun) => done,
        _ = ctrl_c() => Err(Failure::new(
            Kind::Interrupted,
            "stopped waiting; the daemon is being replaced all the same",
        )),
    };
    output.progress("");
    let daemon = done?;
    let hello = daemon.hello().await?;
    if output.json {
        return output.json(&hello);
    }
    if output.quiet {
        return Ok(());
    }
    let servers = daemon.call(&DaemonStatus {}).await?.servers_active;
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
    output.line(format!("llamactld {} took over (pid {}){servers}", hello.version, hello.pid))?;
    match registry_copy {
        Some(copy) => {
            output.line(format!("the registry was upgraded; as it was it lies at {copy}"))
        }
        None => Ok(()),
    }
}

/// Waits until another life of the daemon answers than the one that goes. Connections made in
/// between wait in the socket's queue and are answered by the new one.
async fn replaced(old: &Daemon, begun: &RestartBegun) -> Result<Daemon, Failure> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let daemon = old.again().await?;
        match daemon.call(&DaemonHello::default()).await {
            Ok(hello) if hello.started_at_ms != begun.started_at_ms => return Ok(daemon),
            // The old one, or it closed the connection while it went.
            _ if Instant::now() < deadline => sleep(PAUSE).await,
            _ => {
                let why = format!("no new daemon answered within {} s", LIMIT.as_secs());
                return Err(Failure::new(Kind::TimedOut, why).hint(Hint::run(
                    "the servers are not affected; see what it does",
                    ["llamactl", "daemon", "logs"],
                )));
            }
        }
    }
}

/// Replaces a daemon that is too old to do it itself: it ends, and another is started.
async fn replace_old(output: &mut Output, reach: &Reach, daemon: Daemon) -> Outcome {
    if daemon.socket == place::system_socket() {
        let why = "this daemon is too old to be replaced while it runs";
        return Err(Failure::new(Kind::Usage, why)
            .hint(Hint::run("restart its unit", ["systemctl", "restart", "llamactld"]))
            .into());
    }
    daemon_stop::stop(output, daemon, true, LIMIT).await?;
    daemon_start::run(output, reach).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::Access;

    #[test]
    fn the_new_daemon_took_over() {
        let hello = Hello {
            version: "0.2.0".into(),
            protocol: 1,
            pid: 700,
            uid: 1000,
            started_at_ms: 0,
            state_dir: "/s".into(),
            registry_id: "r".into(),
            access: Access::Admin,
            capabilities: vec![],
        };
        let copy = WirePath::from("/s/registry.db.before-4");
        assert_screen("daemon-restart", |output| {
            took_over(output, &hello, 0, None)?;
            took_over(output, &hello, 1, None)?;
            took_over(output, &hello, 3, Some(&copy))
        });
    }
}
