//! `llamactl daemon stop`

use crate::args::more;
use crate::connection::{Daemon, Reach};
use crate::exit::{Outcome, Quit};
use crate::output::Output;
use crate::output::time::parse_duration;
use clap::Args;
use llamactl_protocol::daemon::{DaemonStop, Hello, StopBegun};
use llamactl_protocol::{Failure, Hint, Kind};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::signal::ctrl_c;
use tokio::time::{Instant, sleep, timeout_at};

/// How long the daemon may take to answer that it will end.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// How long the daemon and its servers may take to end.
const LIMIT: Duration = Duration::from_secs(180);

/// Stop the daemon and, unless told otherwise, its servers
///
/// Servers that were stopped so stay stopped until someone starts them. Until `daemon start`,
/// commands that only look or stop do not start a daemon.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon stop",
    "llamactl daemon stop --keep-servers";
    "0 stopped, also if none ran  7 it has not answered or not ended in time"
))]
pub(crate) struct Stop {
    /// Leave the servers running; the next daemon takes them over
    #[arg(long)]
    keep_servers: bool,
    /// Wait at most this long: 30s, 5m; absent: 15s for its answer, 3m for the end
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// Stops the daemon.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Stop) -> Outcome {
    let reach = reach.of_daemon_command(args.timeout, Kind::TimedOut);
    let limit = args.timeout.unwrap_or(LIMIT);
    let begun = match reach.running().await? {
        Some((daemon, hello)) => {
            Some(stop(output, daemon, &hello, args.keep_servers, limit).await?)
        }
        None => None,
    };
    tell(output, args.keep_servers, begun.as_ref())
}

/// Says what became of the daemon; `begun` is absent where none ran.
fn tell(output: &mut Output, keep_servers: bool, begun: Option<&StopBegun>) -> Outcome {
    if output.json {
        return match begun {
            Some(begun) => output.json(begun),
            None => output.json(&serde_json::json!({ "stopped": false })),
        };
    }
    if output.quiet {
        return Ok(());
    }
    match (begun.map(|begun| begun.servers), keep_servers) {
        (None, _) => output.line("the daemon is stopped already"),
        (_, true) => output.line("the daemon is stopped; its servers run on"),
        (Some(0), false) => output.line("the daemon is stopped"),
        (Some(1), false) => output.line("the daemon and its server are stopped"),
        (Some(n), false) => output.line(format!("the daemon and its {n} servers are stopped")),
    }
}

/// Stops this daemon and waits until its process is gone.
pub(crate) async fn stop(
    output: &Output,
    daemon: Daemon,
    hello: &Hello,
    keep_servers: bool,
    limit: Duration,
) -> Result<StopBegun, Quit> {
    let deadline = Instant::now() + limit;
    // Opened while it certainly runs: the number cannot have become another process's.
    let process = handle(hello.pid);
    let begun = daemon.call_within(&DaemonStop { keep_servers }, ANSWER_LIMIT).await?;
    output.progress(&match begun.servers {
        0 => "waiting for the daemon to end".to_owned(),
        1 => "stopping its server, then the daemon".to_owned(),
        n => format!("stopping its {n} servers, then the daemon"),
    });
    let end = async {
        match process {
            Some(process) => ended(process).await,
            None => closed(&daemon).await,
        }
    };
    let in_time = tokio::select! {
        ended = timeout_at(deadline, end) => ended.is_ok(),
        _ = ctrl_c() => {
            output.progress("");
            let failure = Failure::new(Kind::Interrupted, "stopped waiting; the daemon goes on stopping");
            return Err(failure.into());
        }
    };
    output.progress("");
    if in_time { Ok(begun) } else { Err(not_ended(hello.pid, limit).into()) }
}

fn not_ended(pid: u32, limit: Duration) -> Failure {
    let limit = limit.as_secs();
    let message =
        format!("the daemon (pid {pid}) has not ended after {limit} s, and goes on stopping");
    Failure::new(Kind::TimedOut, message)
        .hint(Hint::run("see whether it still answers", ["llamactl", "daemon", "status"]))
}

/// A handle on a process that stays the same process.
fn handle(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Until the process has ended.
async fn ended(process: OwnedFd) {
    // The thread ends with the process or with this one, whichever is first.
    let _ = tokio::task::spawn_blocking(move || {
        let mut watched = [PollFd::new(&process, PollFlags::IN)];
        while let Err(Errno::INTR) = poll(&mut watched, None) {}
    })
    .await;
}

/// Until nobody listens, where the process cannot be watched (it is in another pid namespace).
async fn closed(daemon: &Daemon) {
    while daemon.hello_anew(ANSWER_LIMIT).await.is_ok() {
        sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn what_ended_and_what_did_not() {
        let begun = |servers| StopBegun { pid: 700, servers };
        assert_screen("daemon-stop", |output| {
            for servers in [0, 1, 3] {
                tell(output, false, Some(&begun(servers)))?;
            }
            tell(output, true, Some(&begun(3)))?;
            tell(output, false, None)?;
            scene::told(output, not_ended(700, LIMIT))
        });
    }
}
