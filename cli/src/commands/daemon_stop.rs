//! `llamactl daemon stop`

use crate::args::more;
use crate::connection::{Daemon, Reach};
use crate::exit::{Outcome, Quit};
use crate::output::Output;
use crate::output::time::parse_duration;
use crate::systemd::{self, Manager, SOCKET_UNIT, UNIT};
use clap::Args;
use llamactl_protocol::daemon::{DaemonStop, Hello, StopBegun};
use llamactl_protocol::{Failure, Hint, Kind};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::signal::ctrl_c;
use tokio::time::{Instant, sleep, timeout_at};

/// How long the daemon may take to answer that it will end.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// How long the daemon and its servers may take to end.
const LIMIT: Duration = Duration::from_secs(180);

/// Stop the daemon and its servers
///
/// Servers that were stopped so stay stopped until someone starts them. Until `daemon start`,
/// commands that only look or stop do not start a daemon.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon stop",
    "llamactl daemon stop --keep-servers";
    "0 stopped, also if none ran, 7 it has not answered or not ended in time"
))]
pub(crate) struct Stop {
    /// Leave the servers running; the next daemon takes them over
    #[arg(long)]
    keep_servers: bool,
    /// Wait at most this long: 30s, 5m; absent: 15s for its answer, 3m for the end
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// What a unit's ExecStop= runs: leaves the servers running where systemd restarts this unit
    #[arg(long, value_name = "UNIT", hide = true, conflicts_with = "keep_servers")]
    for_unit: Option<String>,
}

/// Stops the daemon.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Stop) -> Outcome {
    let reach = reach.of_daemon_command(args.timeout, Kind::TimedOut);
    let limit = args.timeout.unwrap_or(LIMIT);
    if let Some(unit) = &args.for_unit {
        return stop_for_unit(output, &reach, unit, limit).await;
    }
    stop_socket_unit(output, &reach).await?;
    let begun = match reach.running().await? {
        Some((daemon, hello)) => {
            Some(stop(output, daemon, &hello, args.keep_servers, limit).await?)
        }
        None => None,
    };
    tell(output, args.keep_servers, begun.as_ref())
}

/// Stops the daemon of a unit as that unit is stopped. What this leaves systemd sends TERM to next, which
/// stops servers: so a daemon that is to be restarted and cannot be asked is killed, for that leaves them.
async fn stop_for_unit(output: &mut Output, reach: &Reach, unit: &str, limit: Duration) -> Outcome {
    // It has ended by itself. To ask at a socket of systemd's would start another.
    let Ok(main_pid) = std::env::var("MAINPID") else { return Ok(()) };
    let keep_servers = systemd::is_restarted(unit, Manager::of_this_unit()).await;
    let stopped = match reach.of_unit()?.running().await {
        Ok(Some((daemon, hello))) => {
            stop(output, daemon, &hello, keep_servers, limit).await.map(Some)
        }
        Ok(None) => Ok(None),
        Err(failure) => Err(failure.into()),
    };
    match (stopped, main_pid.parse().ok().and_then(Pid::from_raw)) {
        (Ok(Some(begun)), _) => tell(output, keep_servers, Some(&begun)),
        (_, Some(pid)) if keep_servers => {
            output.note(format!("{unit} does not answer and is killed, so that its servers stay"));
            kill_process(pid, Signal::KILL).map_err(|error| {
                let why = format!("the daemon (pid {pid}) cannot be killed: {error}");
                Failure::new(Kind::IoFailed, why).into()
            })
        }
        (stopped, _) => stopped.map(drop),
    }
}

/// Stops the socket that systemd listens on for the machine's daemon, if that is the one to be stopped:
/// whoever asks there next would start it again.
async fn stop_socket_unit(output: &Output, reach: &Reach) -> Result<(), Failure> {
    if !systemd::listens().await || !reach.is_for_the_machines().await? {
        return Ok(());
    }
    let stopped = Manager::System.systemctl(["stop", SOCKET_UNIT], ANSWER_LIMIT).await;
    stopped.map_err(|why| {
        let argv = ["systemctl", "stop", SOCKET_UNIT, UNIT];
        let message = format!("{SOCKET_UNIT} would start the daemon again, and stays: {why}");
        Failure::new(Kind::NotAllowed, message).hint(Hint::run("stop both, as root", argv))
    })?;
    if output.for_people() {
        output.note(format!("stopped {SOCKET_UNIT} first, which would start the daemon again"));
    }
    Ok(())
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
    output.progress(&[match begun.servers {
        0 => "waiting for the daemon to end".to_owned(),
        1 => "stopping its server, then the daemon".to_owned(),
        n => format!("stopping its {n} servers, then the daemon"),
    }]);
    let end = async {
        match process {
            Some(process) => ended(process).await,
            None => closed(&daemon).await,
        }
    };
    let in_time = tokio::select! {
        ended = timeout_at(deadline, end) => ended.is_ok(),
        _ = ctrl_c() => {
            output.progress(&[]);
            let failure = Failure::new(Kind::Interrupted, "stopped waiting; the daemon goes on stopping");
            return Err(failure.into());
        }
    };
    output.progress(&[]);
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
