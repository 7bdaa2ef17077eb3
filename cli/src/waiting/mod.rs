//! Waiting for servers: follow a server's state until it is what was wanted or cannot be.
//!
//! ```text
//!   request accepted ─▶ server.follow: the state now, then each change ─▶ verdict
//!                                  │      idle: metrics.follow, the first sample asked since
//!                                  ╰─▶ one line of progress on a terminal
//! ```
//!
//! The stream begins with the state now, so nothing between the answer and the first item is
//! lost, and several servers can be waited for one after the other. Ctrl-C and a deadline end the
//! waiting, never what is waited for.

mod verdict;

#[cfg(test)]
pub(crate) use verdict::failed;
pub(crate) use verdict::{Goal, Request, Verdict, is_idle, verdict};

use crate::connection::Daemon;
use crate::exit::Quit;
use crate::follow::{conclude, gone};
use crate::output::Output;
use crate::output::time::now_ms;
use crate::output::units;
use crate::view::state_text_at;
use llamactl_protocol::client::Follow;
use llamactl_protocol::metrics::{Measured, MetricsFollow, Sample};
use llamactl_protocol::server::{Server, ServerFollow, State};
use llamactl_protocol::stream::Item;
use llamactl_protocol::{Failure, Hint, Kind, Subscription};
use serde_json::json;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;
use tokio::net::UnixStream;
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
    let params = ServerFollow { model: Some(model.into()) };
    // Who only asks is told what is known; who waits, what is so from now on.
    let asked_ms = if deadline.given == Some(Duration::ZERO) { 0 } else { now_ms() };
    let open = async {
        let states = daemon.follow(&params).await?;
        let samples = match goal {
            Goal::Idle => Some(daemon.follow(&MetricsFollow::default()).await?),
            _ => None,
        };
        Ok::<_, Failure>((states, samples))
    };
    let (mut states, mut samples) = tokio::select! {
        opened = open => opened?,
        _ = &mut interrupt => return Err(abandoned(model, None, goal, Kind::Interrupted, deadline)),
    };
    let mut latest: Option<Server> = None;
    let mut sample: Option<Sample> = None;
    loop {
        let known = latest.is_some() && (samples.is_none() || sample.is_some());
        let news = tokio::select! {
            biased;
            item = states.next() => News::State(Box::new(item?)),
            item = next_of(samples.as_mut()) => News::Sample(item?),
            _ = &mut interrupt => {
                return Err(abandoned(model, latest.as_ref(), goal, Kind::Interrupted, deadline));
            }
            // Even with no time left the state now is looked at.
            () = sleep_until(deadline.at), if known => {
                return Err(abandoned(model, latest.as_ref(), goal, Kind::TimedOut, deadline));
            }
            _ = ticks.tick(), if output.shows_progress() => {
                if let Some(server) = &latest {
                    output.progress(&progress(server, goal, began.elapsed()));
                }
                continue;
            }
        };
        match news {
            News::State(item) => latest = data_of(*item)?.or(latest),
            News::Sample(item) => {
                sample = data_of(item)?.and_then(Measured::into_sample).or(sample);
            }
        }
        let Some(server) = &latest else { continue };
        match verdict(goal, server, request) {
            Verdict::Lost(failure) => return Err(Quit::Failure(failure)),
            Verdict::Pending => {}
            // Asleep, nothing is at work, and asking would wake nobody.
            Verdict::Reached if goal == Goal::Idle && server.state != State::Sleeping => {
                let idle = sample.as_ref().and_then(|sample| is_idle(server, sample, asked_ms));
                if idle == Some(true) {
                    return Ok(server.clone());
                }
            }
            Verdict::Reached => return Ok(server.clone()),
        }
    }
}

/// Something that came while waiting.
enum News {
    State(Box<Option<Item<Server>>>),
    Sample(Option<Item<Measured>>),
}

/// The next item of a stream that may not have been asked for.
async fn next_of<S: Subscription>(
    stream: Option<&mut Follow<S, UnixStream>>,
) -> Result<Option<Item<S::Item>>, Failure> {
    match stream {
        Some(stream) => stream.next().await,
        None => pending().await,
    }
}

/// What an item says, if anything.
///
/// # Errors
/// That nothing more will come.
fn data_of<T>(item: Option<Item<T>>) -> Result<Option<T>, Quit> {
    match item {
        Some(Item::Snapshot { data, .. } | Item::Change { data, .. }) => Ok(Some(data)),
        Some(Item::Missed { .. }) => Ok(None),
        Some(Item::End { data, .. }) => {
            conclude(data)?;
            Err(gone().into())
        }
        None => Err(gone().into()),
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
    let mut further = vec!["llamactl", "wait", name];
    if kind == Kind::TimedOut && goal != Goal::Ready {
        further.extend(["--for", goal.as_str()]);
    }
    let further = Hint::run("wait on", further);
    let goal = goal.as_str();
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
            .hint(further)
        }
        _ => Failure::new(kind, format!("stopped waiting for {name}: it is {state}, and goes on"))
            .hint(further),
    };
    failure.details(json!({ "model": name, "state": latest.map(|server| server.state) })).into()
}

/// What a server is doing, in words.
fn doing(server: &Server) -> String {
    state_text_at(server, now_ms())
}

fn progress(server: &Server, goal: Goal, waited: Duration) -> String {
    let stage = server.stage.as_deref().map(|stage| format!(", {stage}")).unwrap_or_default();
    let yet = match (goal, server.state) {
        (Goal::Idle, State::Ready) => ", not known to be idle",
        _ => "",
    };
    format!("{}: {}{stage}{yet}, {} s", server.model, doing(server), waited.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::exit::Tally;
    use crate::output::screen::assert_screen;
    use crate::view::tests::server;
    use llamactl_protocol::server::{Queue, QueueReason};

    #[test]
    fn progress_says_how_far() {
        let mut server = server("m", State::Loading);
        server.stage = Some("text_model".into());
        server.progress_ratio = Some(0.42);
        assert_eq!(
            progress(&server, Goal::Ready, Duration::from_millis(3200)),
            "m: loading 42 %, text_model, 3 s"
        );
        let mut server = super::tests::server("m", State::Queued);
        server.queue = Some(Queue { reason: QueueReason::Loads, position: 2 });
        assert_eq!(progress(&server, Goal::Ready, Duration::from_secs(1)), "m: queued 2nd, 1 s");
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

    #[test]
    fn what_a_person_is_told_who_waited_in_vain() {
        let server = scene::server("qwen3-8b", State::Loading);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let vain = |goal, kind, given| {
            abandoned("qwen3-8b", Some(&server), goal, kind, Deadline::after(given))
        };
        assert_screen("wait-in-vain", |output| {
            let mut tally = Tally::default();
            for quit in [
                vain(Goal::Ready, Kind::TimedOut, seconds(5)),
                vain(Goal::Idle, Kind::TimedOut, seconds(300)),
                vain(Goal::Ready, Kind::TimedOut, seconds(0)),
            ] {
                tally.take(output, Err::<(), _>(quit))?;
            }
            tally.take(output, Err::<(), _>(vain(Goal::Ready, Kind::Interrupted, None))).map(|_| ())
        });
    }
}
