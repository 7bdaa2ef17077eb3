//! `llamactl daemon stop`

use crate::args::more;
use crate::connection::{Daemon, Reach};
use crate::exit::{Outcome, Quit};
use crate::output::Output;
use crate::output::time::parse_duration;
use clap::Args;
use llamactl_protocol::daemon::{DaemonStop, StopBegun};
use llamactl_protocol::{Failure, Hint, Kind};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::signal::ctrl_c;
use tokio::time::{sleep, timeout};

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
    "0 stopped, also if none ran  7 it has not ended in time"
))]
pub(crate) struct Stop {
    /// Leave the servers running; the next daemon takes them over
    #[arg(long)]
    keep_servers: bool,
    /// Wait at most this long for the end: 30s, 5m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// Stops the daemon.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Stop) -> Outcome {
    let daemon = match reach.running().await? {
        Some(daemon) => daemon,
        None if output.json => return output.json(&serde_json::json!({ "stopped": false })),
        None if output.quiet => return Ok(()),
        None => return output.line("the daemon is stopped already"),
    };
    let begun = stop(output, daemon, args.keep_servers, args.timeout.unwrap_or(LIMIT)).await?;
    if output.json {
        return output.json(&begun);
    }
    if output.quiet {
        return Ok(());
    }
    match (args.keep_servers, begun.servers) {
        (true, _) => output.line("the daemon is stopped; its servers run on"),
        (false, 0) => output.line("the daemon is stopped"),
        (false, 1) => output.line("the daemon and its server are stopped"),
        (false, n) => output.line(format!("the daemon and its {n} servers are stopped")),
    }
}

/// Stops this daemon and waits until its process is gone.
pub(crate) async fn stop(
    output: &Output,
    daemon: Daemon,
    keep_servers: bool,
    limit: Duration,
) -> Result<StopBegun, Quit> {
    let hello = daemon.hello().await?;
    // Opened while it certainly runs: the number cannot have become another process's.
    let process = handle(hello.pid);
    let begun = daemon.call(&DaemonStop { keep_servers }).await?;
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
        ended = timeout(limit, end) => ended.is_ok(),
        _ = ctrl_c() => {
            output.progress("");
            let failure = Failure::new(Kind::Interrupted, "stopped waiting; the daemon goes on stopping");
            return Err(failure.into());
        }
    };
    output.progress("");
    if in_time {
        return Ok(begun);
    }
    let failure = Failure::new(
        Kind::TimedOut,
        format!(
            "the daemon (pid {}) has not ended after {} s, and goes on stopping",
            hello.pid,
            limit.as_secs()
        ),
    );
    Err(failure
        .hint(Hint::run("see whether it still answers", ["llamactl", "daemon", "status"]))
        .into())
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
    while daemon.another().await.is_ok() {
        sleep(Duration::from_millis(50)).await;
    }
}
