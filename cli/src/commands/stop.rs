//! `llamactl stop NAME…`

use super::start::Patience;
use crate::args::more;
use crate::complete::running_models;
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::{Outcome, Quit, Tally};
use crate::output::Output;
use crate::output::units;
use crate::pages;
use crate::waiting::{Deadline, Goal, Wanted, until_all};
use clap::Args;
use llamactl_protocol::Failure;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::daemon::DaemonStatus;
use llamactl_protocol::server::{Accepted, Server, ServerStop, State};
use llamactl_protocol::warning::WarningCode;
use serde::Serialize;

/// Stop servers and wait until they are stopped
///
/// Requests at work are given a moment to end (drain-timeout); how many were cut is said, and so is
/// a server that had to be killed. Stopping one that is stopped is done already. With -q the names of those that were running are
/// printed, so that `llamactl start` can bring them back. A stop that could not be written down, because
/// the disk is full, is carried out and said (`durable` in --json).
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl stop qwen3",
    "llamactl stop --all -q > was; xargs -r llamactl start < was",
    "llamactl stop qwen3 --no-wait";
    "0 stopped, 3 no such model, 6 daemon unreachable, 7 timed out, 8 it does not end, 130 interrupted"
))]
pub(crate) struct Stop {
    /// Models, by name or alias
    #[arg(required_unless_present = "all", value_name = "NAME", add = running_models())]
    names: Vec<String>,
    /// All that run
    #[arg(long, conflicts_with = "names")]
    all: bool,
    #[command(flatten)]
    patience: Patience,
}

/// Asks for every stop first and waits then, so that servers end side by side.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Stop) -> Outcome {
    let deadline = args.patience.deadline();
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let names = if args.all { running(&daemon).await? } else { args.names };
    if names.is_empty() {
        output.note("no server is running");
    }
    let mut tally = Tally::default();
    let mut accepted = Vec::new();
    for model in names {
        let answer = daemon.call(&ServerStop { model: model.into() }).await.map_err(Quit::from);
        accepted.extend(tally.take(output, answer)?);
    }
    let is_unrecorded = |accepted: &&Accepted| !accepted.durable;
    let unrecorded: Vec<String> =
        accepted.iter().filter(is_unrecorded).map(|it| it.server.model.clone()).collect();
    bring_down(output, &daemon, accepted, &args.patience, deadline, &mut tally).await?;
    if !unrecorded.is_empty() && !output.json {
        // Why, the daemon knows.
        let report = daemon.call(&DaemonStatus {}).await.ok();
        let codes = report.iter().flat_map(|report| &report.warnings).map(|it| &it.code);
        let is_full = codes.into_iter().any(|code| *code == WarningCode::DiskFull);
        unrecorded.iter().for_each(|model| output.warning(not_recorded(model, is_full)));
    }
    tally.end()
}

/// Waits for stops that were accepted and says what became of each as it comes.
async fn bring_down(
    output: &mut Output,
    daemon: &Daemon,
    accepted: Vec<Accepted>,
    patience: &Patience,
    deadline: Deadline,
    tally: &mut Tally,
) -> Outcome {
    if !patience.waits() {
        return accepted.iter().try_for_each(|it| down(output, it, &it.server, "stopping"));
    }
    let is_done = |accepted: &Accepted| accepted.server.state.is_settled_down();
    let (done, begun): (Vec<_>, Vec<_>) = accepted.into_iter().partition(is_done);
    done.iter().try_for_each(|it| down(output, it, &it.server, "stopped"))?;
    let wanted: Vec<Wanted> = begun.iter().map(|it| Wanted::by(it, Goal::Stopped)).collect();
    until_all(output, daemon, &wanted, deadline, async |output, place, result| {
        let Some(accepted) = begun.get(place) else { return Ok(()) };
        match tally.take_at(output, place + 1, result)? {
            Some(server) => down(output, accepted, &server, "stopped"),
            None => Ok(()),
        }
    })
    .await
}

/// That a stop would be undone.
fn not_recorded(model: &str, disk_is_full: bool) -> String {
    let why = if disk_is_full { "the disk is full and " } else { "" };
    format!("{model}: {why}this stop is not recorded: a restart of the daemon would start it again")
}

/// The models whose servers run or are about to.
pub(crate) async fn running(daemon: &Daemon) -> Result<Vec<String>, Failure> {
    let servers = pages::servers(daemon, false).await?.servers;
    Ok(servers
        .into_iter()
        .filter(|server| !server.state.is_settled_down())
        .map(|server| server.model)
        .collect())
}

/// A server that was stopped, as a script reads it.
#[derive(Serialize)]
struct Down<'a> {
    #[serde(flatten)]
    server: &'a Server,
    /// Whether the stop is on disk.
    durable: bool,
}

fn down(output: &mut Output, accepted: &Accepted, server: &Server, word: &str) -> Outcome {
    if output.json {
        output.json(&Down { server, durable: accepted.durable })
    } else if output.quiet {
        output.names(accepted.changed.then_some(&server.model))
    } else if !accepted.changed && accepted.server.state.is_settled_down() {
        output.told(format!("{} is stopped", server.model))
    } else {
        let is_down = server.state == State::Stopped;
        let how = server.cause.as_ref().filter(|_| is_down).and_then(how);
        let asked_at_ms = server.desired.as_ref().map(|desired| desired.at_ms);
        let took = asked_at_ms.filter(|at| is_down && *at <= server.since_ms);
        let took = took.map(|at| units::between(at, server.since_ms));
        output.told(stopped_line(&server.model, word, took, how))
    }
}

/// The line that says a server was stopped, in brackets how long that took, and what.
pub(crate) fn stopped_line(
    model: &str,
    word: &str,
    took: Option<String>,
    how: Option<&str>,
) -> String {
    let how = how.map(str::to_owned);
    let said: Vec<String> = [took, how].into_iter().flatten().collect();
    let said = if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) };
    format!("{model} {word}{said}")
}

/// What a stop took and what it cut, from the cause `stopped as asked: …`; earlier daemons end it
/// with ` (who)`. `None` where the server ended when asked and nothing was cut.
pub(crate) fn how(cause: &Cause) -> Option<&str> {
    if cause.code != CauseCode::Requested {
        return None;
    }
    let (_, how) = cause.message.split_once(": ")?;
    let how = how.split(" (").next().unwrap_or(how).trim_end_matches('.');
    match how.strip_prefix(PLAINLY) {
        Some("") => None,
        Some(cut) => Some(cut.strip_prefix("; ").unwrap_or(how)),
        None => Some(how),
    }
}

/// A stop that took no more than asking for it.
const PLAINLY: &str = "it ended when asked";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;
    use crate::view::tests::server;

    #[test]
    fn what_a_stop_took_is_said_where_it_took_something() {
        let mut cause = server("m", State::Stopped).cause.unwrap();
        let mut said = |message: &str| {
            cause.message = format!("stopped as asked: {message} (server.stop by uid 0, pid 7)");
            stopped_line("m", "stopped", Some("0.8s".into()), how(&cause))
        };
        assert_eq!(said("it ended when asked"), "m stopped (0.8s)");
        assert_eq!(
            said("it ended when asked; 2 requests were cut"),
            "m stopped (0.8s; 2 requests were cut)"
        );
        assert_eq!(
            said("it did not end when asked and was killed; one request was cut"),
            "m stopped (0.8s; it did not end when asked and was killed; one request was cut)"
        );
        assert_eq!(
            said("it ended when asked a second time"),
            "m stopped (0.8s; it ended when asked a second time)"
        );
        cause.message = "stopped as asked".into();
        assert_eq!(how(&cause), None);
        cause.code = CauseCode::Killed;
        cause.message = "ended: killed".into();
        assert_eq!(how(&cause), None);
    }

    #[test]
    fn what_becomes_of_a_stop() {
        let stopped = server_that_took("it ended when asked");
        let killed = server_that_took("it did not end when asked and was killed");
        assert_screen("stop", |output| {
            let running = scene::accepted(scene::server("qwen3-8b", State::Stopping), true);
            down(output, &running, &stopped, "stopped")?;
            down(output, &running, &scene::server("qwen3-8b", State::Stopped), "stopped")?;
            down(output, &running, &killed, "stopped")?;
            down(output, &running, &running.server, "stopping")?;
            down(output, &scene::accepted(stopped.clone(), false), &stopped, "stopped")
        });
    }

    fn server_that_took(how: &str) -> Server {
        let mut server = scene::server("qwen3-8b", State::Stopped);
        let cause = server.cause.take().unwrap();
        server.cause = Some(Cause { message: format!("stopped as asked: {how}"), ..cause });
        server
    }
}
