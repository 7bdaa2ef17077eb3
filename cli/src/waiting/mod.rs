//! Waiting for servers: follow the states of all of them until each is what was wanted or cannot be.
//!
//! ```text
//!   requests accepted ─▶ server.follow of each: the state now, then each change ─▶ verdict ─▶ told
//!                                  │      idle: metrics.follow, the first sample asked since
//!                                  ╰─▶ a line of progress for each that is still on its way
//! ```
//!
//! A stream begins with the state now, so nothing between the answer and the first item is lost; and
//! so it does with the next daemon, so a wait outlasts the daemon. Ctrl-C and a deadline end the
//! waiting, never what is waited for.

mod progress;
mod verdict;

#[cfg(test)]
pub(crate) use verdict::failed;
pub(crate) use verdict::{Goal, Request, Verdict, is_idle, verdict};

use crate::connection::Daemon;
use crate::exit::{Outcome, Quit};
use crate::follow::{conclude, gone};
use crate::output::Output;
use crate::output::time::now_ms;
use crate::output::units;
use crate::resume::{Feed, News};
use crate::view::state_text_at;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use llamactl_protocol::metrics::{Measured, MetricsFollow, Sample};
use llamactl_protocol::server::{Accepted, Server, ServerFollow, State};
use llamactl_protocol::stream::Item;
use llamactl_protocol::{Failure, Hint, Kind};
use progress::Progress;
use serde_json::json;
use std::collections::VecDeque;
use std::future::pending;
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

/// A server that is waited for.
pub(crate) struct Wanted {
    /// The model, by any of its names.
    pub(crate) model: String,
    /// What is to become of it.
    pub(crate) goal: Goal,
    /// The request whose outcome is waited for.
    pub(crate) request: Option<Request>,
}

impl Wanted {
    /// What a request that the daemon took on was for.
    pub(crate) fn by(accepted: &Accepted, goal: Goal) -> Self {
        let model = accepted.server.model.clone();
        Wanted { model, goal, request: Some(Request::of(accepted)) }
    }
}

/// So many servers are followed at once; a daemon bounds the connections of a user.
const AT_ONCE: usize = 12;

/// Waits until each of these is as wanted or cannot be, and hands that over with its place in the
/// list, in the order in which it happens.
///
/// # Errors
/// Those of `each`; of what ends the waiting for all, like Ctrl-C, each is told too.
pub(crate) async fn until_all(
    output: &mut Output,
    daemon: &Daemon,
    wanted: &[Wanted],
    deadline: Deadline,
    mut each: impl AsyncFnMut(&mut Output, usize, Result<Server, Quit>) -> Outcome,
) -> Outcome {
    let result = wait(output, daemon, wanted, deadline, &mut each).await;
    output.progress(&[]);
    result
}

/// Waits until one is as wanted.
///
/// # Errors
/// Why it will not be; [`Kind::TimedOut`] and [`Kind::Interrupted`] when the waiting ended first.
pub(crate) async fn until(
    output: &mut Output,
    daemon: &Daemon,
    wanted: Wanted,
    deadline: Deadline,
) -> Result<Server, Quit> {
    let mut result = None;
    until_all(output, daemon, &[wanted], deadline, async |_, _, became| {
        result = Some(became);
        Ok(())
    })
    .await?;
    result.unwrap_or_else(|| Err(gone().into()))
}

/// What is known of one that is waited for.
struct Waiting<'a> {
    wanted: &'a Wanted,
    latest: Option<Server>,
    is_over: bool,
}

async fn wait(
    output: &mut Output,
    daemon: &Daemon,
    wanted: &[Wanted],
    deadline: Deadline,
    each: &mut impl AsyncFnMut(&mut Output, usize, Result<Server, Quit>) -> Outcome,
) -> Outcome {
    let mut interrupt = pin!(ctrl_c());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Who only asks is told what is known; who waits, what is so from now on.
    let asked_ms = if deadline.given == Some(Duration::ZERO) { 0 } else { now_ms() };
    let waiting = |wanted| Waiting { wanted, latest: None, is_over: false };
    let mut all: Vec<Waiting<'_>> = wanted.iter().map(waiting).collect();
    let mut to_open: VecDeque<usize> = (0..all.len()).collect();
    let mut states = FuturesUnordered::new();
    let mut samples = match wanted.iter().any(|wanted| wanted.goal == Goal::Idle) {
        true => Some(Feed::open(daemon, MetricsFollow::default()).await?),
        false => None,
    };
    let mut sample: Option<Sample> = None;
    let mut progress = Progress::new();
    let mut first_told = None;
    loop {
        while states.len() < AT_ONCE
            && let Some(place) = to_open.pop_front()
            && let Some(one) = all.get_mut(place)
        {
            let params = ServerFollow { model: Some(one.wanted.model.as_str().into()) };
            let opened = tokio::select! {
                opened = Feed::open(daemon, params) => opened,
                _ = &mut interrupt => {
                    return give_up(output, &mut all, Kind::Interrupted, deadline, each).await;
                }
            };
            match opened {
                Ok(feed) => states.push(next_of(place, feed)),
                Err(failure) => {
                    one.is_over = true;
                    each(output, place, Err(failure.into())).await?;
                }
            }
        }
        if all.iter().all(|one| one.is_over) {
            return Ok(());
        }
        let unopened = to_open.front().copied().unwrap_or(all.len());
        let mut opened = all.iter().take(unopened).filter(|one| !one.is_over);
        let known =
            opened.all(|one| one.latest.is_some()) && (samples.is_none() || sample.is_some());
        let mut changed = None;
        tokio::select! {
            biased;
            Some((place, feed, news)) = states.next(), if !states.is_empty() => {
                let Some(one) = all.get_mut(place) else { continue };
                let result = match news {
                    Ok(News::Item(_, item)) => data_of(item),
                    // All of them lose the same daemon: it is said once.
                    Ok(other) => {
                        if *first_told.get_or_insert(place) == place {
                            other.told(output);
                        }
                        Ok(None)
                    }
                    Err(failure) => Err(failure.into()),
                };
                match result {
                    Ok(data) => one.latest = data.or(one.latest.take()),
                    Err(quit) => {
                        one.is_over = true;
                        first_told = first_told.filter(|told| *told != place);
                        each(output, place, Err(quit)).await?;
                        continue;
                    }
                }
                changed = Some((place, feed));
            }
            news = next_sample(samples.as_mut()) => {
                if let News::Item(_, item) = news? {
                    sample = data_of(item)?.and_then(Measured::into_sample).or(sample);
                }
            }
            _ = &mut interrupt => {
                return give_up(output, &mut all, Kind::Interrupted, deadline, each).await;
            }
            // Even with no time left the state now is looked at.
            () = sleep_until(deadline.at), if known => {
                return give_up(output, &mut all, Kind::TimedOut, deadline, each).await;
            }
            _ = ticks.tick(), if output.for_people() => {
                let on_their_way = all.iter().filter(|one| !one.is_over);
                let shown = on_their_way.filter_map(|one| Some((one.latest.as_ref()?, one.wanted.goal)));
                progress.tell(output, &shown.collect::<Vec<_>>(), now_ms());
                continue;
            }
        }
        for (place, one) in all.iter_mut().enumerate().filter(|(_, one)| !one.is_over) {
            let Some(result) = judged(one, sample.as_ref(), asked_ms) else { continue };
            one.is_over = true;
            first_told = first_told.filter(|told| *told != place);
            each(output, place, result).await?;
        }
        if let Some((place, feed)) = changed
            && all.get(place).is_some_and(|one| !one.is_over)
        {
            states.push(next_of(place, feed));
        }
    }
}

/// What has become of one, if that is decided.
fn judged(
    one: &Waiting<'_>,
    sample: Option<&Sample>,
    asked_ms: i64,
) -> Option<Result<Server, Quit>> {
    let (server, goal) = (one.latest.as_ref()?, one.wanted.goal);
    match verdict(goal, server, one.wanted.request.as_ref()) {
        Verdict::Lost(failure) => Some(Err(Quit::Failure(failure))),
        Verdict::Pending => None,
        // Asleep, nothing is at work, and asking would wake nobody.
        Verdict::Reached if goal == Goal::Idle && server.state != State::Sleeping => {
            let idle = sample.and_then(|sample| is_idle(server, sample, asked_ms));
            (idle == Some(true)).then(|| Ok(server.clone()))
        }
        Verdict::Reached => Some(Ok(server.clone())),
    }
}

/// Tells of each that is still waited for that the waiting ended.
async fn give_up(
    output: &mut Output,
    all: &mut [Waiting<'_>],
    kind: Kind,
    deadline: Deadline,
    each: &mut impl AsyncFnMut(&mut Output, usize, Result<Server, Quit>) -> Outcome,
) -> Outcome {
    output.progress(&[]);
    for (place, one) in all.iter().enumerate().filter(|(_, one)| !one.is_over) {
        let Wanted { model, goal, .. } = one.wanted;
        let quit = abandoned(model, one.latest.as_ref(), *goal, kind, deadline);
        each(output, place, Err(quit)).await?;
    }
    Ok(())
}

/// What comes next of one, with the stream it comes from.
async fn next_of(
    place: usize,
    mut feed: Feed<ServerFollow>,
) -> (usize, Feed<ServerFollow>, Result<News<Server>, Failure>) {
    let news = feed.next().await;
    (place, feed, news)
}

/// The next item of a stream that may not have been asked for.
async fn next_sample(samples: Option<&mut Feed<MetricsFollow>>) -> Result<News<Measured>, Failure> {
    match samples {
        Some(samples) => samples.next().await,
        None => pending().await,
    }
}

/// What an item says, if anything.
///
/// # Errors
/// That nothing more will come.
fn data_of<T>(item: Item<T>) -> Result<Option<T>, Quit> {
    match item {
        Item::Snapshot { data, .. } | Item::Change { data, .. } => Ok(Some(data)),
        Item::Missed { .. } => Ok(None),
        Item::End { data, .. } => {
            conclude(data)?;
            Err(gone().into())
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
    let mut further = vec!["llamactl", "wait", name];
    if goal != Goal::Ready {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::exit::Tally;
    use crate::output::screen::assert_screen;
    use crate::view::tests::server;

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
            ("m is not ready after 5.0s: it is loading, and goes on".to_owned(), 7)
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
