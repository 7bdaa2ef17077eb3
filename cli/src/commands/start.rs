//! `llamactl start NAME…`

use super::stop;
use crate::args::more;
use crate::complete::{assignments, model_names};
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::{Outcome, Quit, Tally};
use crate::output::Output;
use crate::output::time::parse_duration;
use crate::settings;
use crate::view::{port_hint, ready_already_line, ready_line, state_text};
use crate::waiting::{Deadline, Goal, Wanted, until_all};
use clap::Args;
use llamactl_protocol::Hint;
use llamactl_protocol::cause::Cause;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::event::EventList;
use llamactl_protocol::prose::listed;
use llamactl_protocol::server::{Accepted, Server, ServerStart, State};
use llamactl_protocol::warning::{Level, Warning};
use std::ffi::OsString;
use std::time::Duration;

/// Start servers and wait until they are ready
///
/// Each is ready when it answers requests; its endpoint is printed then. Starting one that runs
/// is done already. Ctrl-C and --timeout end the waiting, not the loading.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl start qwen3",
    "llamactl start qwen3 && curl http://127.0.0.1:8101/v1/models",
    "llamactl start a b --timeout 5m",
    "llamactl start qwen3 --set ctx-size=32768",
    "llamactl start qwen3 --no-wait";
    "0 ready, 3 no such model, 4 as many run as may, 6 daemon unreachable, 7 timed out, 8 a server failed, 130 interrupted"
))]
pub(crate) struct Start {
    /// Models, by name or alias
    #[arg(required = true, value_name = "NAME", add = model_names())]
    names: Vec<String>,
    /// A setting for this run only, over the model's own; may be repeated
    #[arg(long, value_name = "KEY=VALUE", add = assignments())]
    set: Vec<OsString>,
    #[command(flatten)]
    patience: Patience,
}

/// Whether and how long to wait.
#[derive(Args, Debug)]
pub(crate) struct Patience {
    /// Return when the request is accepted
    #[arg(long, conflicts_with_all = ["wait", "timeout"])]
    no_wait: bool,
    /// Wait until it is done (the default)
    #[arg(long)]
    wait: bool,
    /// Wait at most this long: 30s, 5m, 1h30m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl Patience {
    /// Whether to wait.
    pub(crate) fn waits(&self) -> bool {
        !self.no_wait
    }

    /// Until when, from now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout)
    }
}

/// Asks for every start first and waits then, so that models load side by side.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Start) -> Outcome {
    let deadline = args.patience.deadline();
    let set = settings::parse(&args.set)?;
    let daemon = reach.daemon(Autostart::Always).await?;
    let mut tally = Tally::default();
    let mut accepted = Vec::new();
    for model in args.names {
        let start = ServerStart { model: model.into(), set: set.clone().into() };
        let answer = daemon.call(&start).await.map_err(Quit::from);
        accepted.extend(tally.take(output, answer)?);
    }
    bring_up(output, &daemon, accepted, &args.patience, deadline, None, &mut tally).await?;
    tally.end()
}

/// Waits for starts that were accepted and says what became of each as it comes; of those that were
/// stopped for it since the event `stopped_after`, also what that took.
pub(crate) async fn bring_up(
    output: &mut Output,
    daemon: &Daemon,
    accepted: Vec<Accepted>,
    patience: &Patience,
    deadline: Deadline,
    stopped_after: Option<i64>,
    tally: &mut Tally,
) -> Outcome {
    if !patience.waits() {
        return accepted.iter().try_for_each(|accepted| under_way(output, accepted));
    }
    let is_done = |accepted: &Accepted| !accepted.changed && is_up(accepted.server.state);
    let (done, begun): (Vec<_>, Vec<_>) = accepted.into_iter().partition(is_done);
    done.iter().try_for_each(|accepted| up(output, &accepted.server, false, true))?;
    let wanted: Vec<Wanted> = begun.iter().map(|it| Wanted::by(it, Goal::Ready)).collect();
    until_all(output, daemon, &wanted, deadline, async |output, place, result| {
        let Some(accepted) = begun.get(place) else { return Ok(()) };
        if let Some(after) = stopped_after.filter(|_| output.for_people()) {
            let model = &accepted.server.model;
            told_stop(output, model, stop_since(daemon, model, after).await.as_ref())?;
        }
        match tally.take_at(output, place + 1, result)? {
            Some(server) => up(output, &server, accepted.changed, false),
            None => Ok(()),
        }
    })
    .await
}

/// Why a model's server last stopped, since this event. What cannot be had is left out: what became
/// of the start is told in any case.
async fn stop_since(daemon: &Daemon, model: &str, after: i64) -> Option<Cause> {
    let stops = EventList {
        after: Some(after),
        model: Some(model.into()),
        kinds: vec![EventKind::ServerStopped.to_string()].into(),
        ..EventList::default()
    };
    let page = daemon.call(&stops).await.ok()?;
    cause_of(page.items.last()?.details.as_ref()?)
}

/// Says what it took to stop the run before, where that was more than asking.
pub(super) fn told_stop(output: &mut Output, model: &str, cause: Option<&Cause>) -> Outcome {
    match cause.and_then(stop::how) {
        Some(how) => output.told(stop::stopped_line(model, "stopped", None, Some(how))),
        None => Ok(()),
    }
}

/// The cause in an event's details; an older daemon's details are the cause itself.
fn cause_of(details: &serde_json::Value) -> Option<Cause> {
    serde_json::from_value(details.get("cause").unwrap_or(details).clone()).ok()
}

/// Whether it answers requests; asleep it wakes for them.
fn is_up(state: State) -> bool {
    matches!(state, State::Ready | State::Sleeping)
}

fn under_way(output: &mut Output, accepted: &Accepted) -> Outcome {
    let server = &accepted.server;
    if output.json {
        output.json(server)
    } else if output.quiet {
        output.names(accepted.changed.then_some(&server.model))
    } else if is_up(server.state) {
        output.told(ready_already_line(server))
    } else if server.state == State::Queued {
        output.told(format!("{} {}", server.model, state_text(server)))
    } else {
        output.told(format!("{} starting", server.model))
    }
}

pub(super) fn up(output: &mut Output, server: &Server, changed: bool, already: bool) -> Outcome {
    if output.json {
        return output.json(server);
    }
    if output.quiet {
        return output.names(changed.then_some(&server.model));
    }
    output.told(if already { ready_already_line(server) } else { ready_line(server) })?;
    let is_warning = |remark: &&Warning| remark.level == Level::Warning;
    output.remarks(Some(&server.model), server.warnings.iter().filter(is_warning));
    if already && !server.pending.is_empty() {
        let (name, keys) = (&server.model, listed(&server.pending));
        let were = if server.pending.len() == 1 { "was" } else { "were" };
        output.note(format!("{name}: {keys} {were} changed after it started"));
        output.hint(&Hint::run("apply them", ["llamactl", "restart", name]));
    } else if let Some(hint) = port_hint(server) {
        output.hint(&hint);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_screen};
    use crate::waiting::failed;
    use llamactl_protocol::{Failure, Kind};
    use serde_json::json;

    #[test]
    fn what_becomes_of_a_start() {
        let server = scene::server("qwen3-8b", State::Ready);
        assert_screen("start", |output| {
            up(output, &server, true, false)?;
            up(output, &server, false, true)?;
            up(output, &scene::remarkable(), false, true)?;
            up(output, &scene::remarkable(), true, false)?;
            up(output, &scene::without_port(), true, false)
        });
    }

    #[test]
    fn what_is_said_without_waiting() {
        let states = [State::Ready, State::Queued, State::Starting];
        assert_screen("start-no-wait", |output| {
            states.iter().try_for_each(|&state| {
                under_way(output, &scene::accepted(scene::server("qwen3-8b", state), true))
            })
        });
    }

    #[test]
    fn why_it_is_not_ready() {
        let states = [State::Failed, State::Backoff, State::Stuck, State::Stopped];
        assert_screen("start-failed", |output| {
            let mut tally = Tally::default();
            for state in states {
                let failure = failed(&scene::server("qwen3-8b", state), NOW_MS);
                tally.take(output, Err::<(), _>(failure.into()))?;
            }
            tally.end()
        });
    }

    #[test]
    fn requests_that_are_refused() {
        let refused = [
            Failure::new(Kind::ModelNotFound, "there is no model named qwen")
                .hint(Hint::run("see which there are", ["llamactl", "model", "list"])),
            Failure::new(Kind::TooManyRunning, "2 servers run, and no more may (max_running)")
                .hint(Hint::run("stop one", ["llamactl", "stop", "gemma"]))
                .details(json!({ "running": ["gemma", "phi-4"] })),
            Failure::new(Kind::DaemonUnreachable, "the daemon was stopped")
                .hint(Hint::run("start it", ["llamactl", "daemon", "start"])),
        ];
        for failure in refused {
            let name = format!("start-{}", failure.kind.name().replace('_', "-"));
            assert_screen(&name, |output| scene::told(output, failure.clone()));
        }
    }
}
