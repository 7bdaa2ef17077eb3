//! Waiting for servers: follow a server's state until it is what was wanted or cannot be.
//!
//! ```text
//!   request accepted ─▶ server.follow: the state now, then each change ─▶ verdict
//!                                  ╰─▶ one line of progress on a terminal
//! ```
//!
//! The stream begins with the state now, so nothing between the answer and the first item is
//! lost, and several servers can be waited for one after the other. Ctrl-C and a deadline end the
//! waiting, never what is waited for.

mod verdict;

pub(crate) use verdict::{Goal, Request, Verdict, verdict};

use crate::connection::Daemon;
use crate::exit::Quit;
use crate::follow::{conclude, gone};
use crate::output::Output;
use crate::output::units;
use llamactl_protocol::server::{Server, ServerFollow, State};
use llamactl_protocol::stream::Item;
use llamactl_protocol::{Failure, Kind};
use serde_json::json;
use std::pin::pin;
use std::time::Duration;
use tokio::signal::ctrl_c;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How often the seconds on the progress line move.
const TICK: Duration = Duration::from_millis(250);
/// A deadline nobody reaches.
const NEVER: Duration = Duration::from_secs(100 * 366 * 86_400);

/// When waiting ends whatever happens.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    given: Option<Duration>,
    at: Instant,
}

impl Deadline {
    /// `given` from now; absent: never.
    pub(crate) fn after(given: Option<Duration>) -> Self {
        Deadline { given, at: Instant::now() + given.unwrap_or(NEVER) }
    }
}

/// Waits until the model's server is as wanted.
///
/// # Errors
/// Why it will not be; [`Kind::TimedOut`] and [`Kind::Interrupted`] when the waiting ended first.
pub(crate) async fn until(
    output: &Output,
    daemon: &Daemon,
    model: &str,
    goal: Goal,
    request: Option<&Request>,
    deadline: Deadline,
) -> Result<Server, Quit> {
    let result = wait(output, daemon, model, goal, request, deadline).await;
    output.progress("");
    result
}

async fn wait(
    output: &Output,
    daemon: &Daemon,
    model: &str,
    goal: Goal,
    request: Option<&Request>,
    deadline: Deadline,
) -> Result<Server, Quit> {
    let began = Instant::now();
    let mut interrupt = pin!(ctrl_c());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let params = ServerFollow { model: Some(model.to_owned()) };
    let mut follow = tokio::select! {
        follow = daemon.follow(&params) => follow?,
        _ = &mut interrupt => return Err(abandoned(model, None, goal, Kind::Interrupted, deadline)),
    };
    let mut latest: Option<Server> = None;
    loop {
        let item = tokio::select! {
            biased;
            item = follow.next() => item?,
            _ = &mut interrupt => {
                return Err(abandoned(model, latest.as_ref(), goal, Kind::Interrupted, deadline));
            }
            // Even with no time left the state now is looked at.
            () = sleep_until(deadline.at), if latest.is_some() => {
                return Err(abandoned(model, latest.as_ref(), goal, Kind::TimedOut, deadline));
            }
            _ = ticks.tick(), if output.shows_progress() => {
                if let Some(server) = &latest {
                    output.progress(&progress(server, began.elapsed()));
                }
                continue;
            }
        };
        match item {
            None => return Err(gone().into()),
            Some(Item::Snapshot { data: server, .. } | Item::Change { data: server, .. }) => {
                match verdict(goal, &server, request) {
                    Verdict::Reached => return Ok(server),
                    Verdict::Lost(failure) => return Err(Quit::Failure(failure)),
                    Verdict::Pending => latest = Some(server),
                }
            }
            Some(Item::Missed { .. }) => {}
            Some(Item::End { data, .. }) => {
                conclude(data)?;
                return Err(gone().into());
            }
        }
    }
}

/// The waiting ended; what was waited for goes on.
fn abandoned(
    model: &str,
    latest: Option<&Server>,
    goal: Goal,
    kind: Kind,
    deadline: Deadline,
) -> Quit {
    let name = latest.map_or(model, |server| server.model.as_str());
    let state = latest.map_or_else(|| "on its way".to_owned(), doing);
    let goal = match goal {
        Goal::Ready => "ready",
        Goal::Stopped => "stopped",
        Goal::Failed => "failed",
    };
    let failure = match (kind, deadline.given) {
        (Kind::TimedOut, Some(Duration::ZERO)) => {
            Failure::new(kind, format!("{name} is not {goal}: it is {state}"))
        }
        (Kind::TimedOut, given) => {
            let after = units::duration(
                u64::try_from(given.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
            );
            Failure::new(
                kind,
                format!("{name} is not {goal} after {after}: it is {state}, and goes on"),
            )
            .hint(format!("llamactl wait {name} waits further"))
        }
        _ => Failure::new(kind, format!("stopped waiting for {name}: it is {state}, and goes on"))
            .hint(format!("llamactl wait {name} waits further")),
    };
    failure.details(json!({ "model": name, "state": latest.map(|server| server.state) })).into()
}

/// What a server is doing, in words.
fn doing(server: &Server) -> String {
    match (server.state, server.progress_ratio) {
        (State::Loading, Some(ratio)) => format!("loading ({})", units::percent(ratio)),
        (state, _) => state.as_str().to_owned(),
    }
}

fn progress(server: &Server, waited: Duration) -> String {
    let stage = server.stage.as_deref().map(|stage| format!(" {stage}")).unwrap_or_default();
    let ratio = server
        .progress_ratio
        .map(|ratio| format!(" {}", units::percent(ratio)))
        .unwrap_or_default();
    format!("{}: {}{stage}{ratio}, {} s", server.model, server.state.as_str(), waited.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::server;

    #[test]
    fn progress_says_how_far() {
        let mut server = server("m", State::Loading);
        server.stage = Some("text_model".into());
        server.progress_ratio = Some(0.42);
        assert_eq!(
            progress(&server, Duration::from_millis(3200)),
            "m: loading text_model 42 %, 3 s"
        );
    }

    #[test]
    fn a_wait_that_ended_says_that_the_load_did_not() {
        let told = |kind, given: Option<Duration>| {
            let server = server("m", State::Loading);
            let quit = abandoned("m", Some(&server), Goal::Ready, kind, Deadline::after(given));
            let Quit::Failure(failure) = quit else { panic!() };
            (failure.message, failure.kind.exit_status())
        };
        assert_eq!(
            told(Kind::TimedOut, Some(Duration::from_secs(5))),
            ("m is not ready after 5.0 s: it is loading, and goes on".to_owned(), 7)
        );
        assert_eq!(
            told(Kind::TimedOut, Some(Duration::ZERO)),
            ("m is not ready: it is loading".to_owned(), 7)
        );
        assert_eq!(
            told(Kind::Interrupted, None),
            ("stopped waiting for m: it is loading, and goes on".to_owned(), 130)
        );
    }
}
