//! Following events across the end of the daemon.
//!
//! ```text
//!   Feed ── print ──▶ stdout
//!    ▲                  │ the daemon ended
//!    ╰── resume ────────╯ connect again, `after` the last cursor seen
//! ```
//!
//! The stream's cursor stays valid across daemons, so nothing is shown twice and nothing is left
//! out. A daemon that was stopped on purpose has left a mark: nobody waits for that one.

use crate::connection::{Autostart, Daemon, Reach, Silence, Told};
use crate::exit::{Outcome, Quit};
use crate::follow::{Halt, conclude, missed, unless_halted};
use crate::output::Output;
use llamactl_protocol::client::{Follow, versions_differ};
use llamactl_protocol::event::{Event, EventFollow, EventList};
use llamactl_protocol::stream::{EndReason, Item};
use llamactl_protocol::{Failure, Hint, Kind};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::sleep;

/// How long to wait before the first look for a new daemon, and at most before a later one.
const PACE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// Where the daemon is that is followed: a new one is waited for there and nowhere else.
pub(crate) struct Origin {
    reach: Reach,
    /// Lies beside the socket of a daemon that was stopped on purpose.
    stopped: PathBuf,
}

impl Origin {
    /// Where this daemon is.
    pub(crate) fn of(daemon: &Daemon) -> Self {
        let socket = daemon.socket();
        Origin {
            stopped: socket.with_file_name("stopped"),
            reach: Reach {
                socket: Some(socket),
                no_autostart: true,
                silence: Silence::usual(Told::Nobody),
            },
        }
    }
}

/// Events being followed.
pub(crate) struct Feed {
    stream: Follow<EventFollow, UnixStream>,
    /// What to ask a new daemon for.
    params: EventFollow,
    /// How the last stream ended, if the daemon said so.
    end: Option<Failure>,
}

impl Feed {
    /// Begins to follow.
    ///
    /// # Errors
    /// The daemon's.
    pub(crate) async fn open(daemon: Daemon, mut params: EventFollow) -> Result<Feed, Failure> {
        if params.after.is_none() && params.since_ms.is_none() {
            // So that there is a cursor before the first event comes. The last event there is
            // stands first, as the state now.
            let last = EventList { limit: Some(1), after: Some(i64::MAX), ..EventList::default() };
            params.after = Some((daemon.call(&last).await?.last - 1).max(0));
        }
        let stream = daemon.follow(&params).await?;
        Ok(Feed { stream, params, end: None })
    }

    /// Prints what comes until the daemon ends: as JSON, one item per line, or each event by
    /// `print`.
    ///
    /// # Errors
    /// The stream's failure, or how to end when nobody wants more.
    pub(crate) async fn print(
        &mut self,
        output: &mut Output,
        mut halt: impl Future<Output = Halt> + Unpin,
        mut print: impl FnMut(&mut Output, Event) -> Outcome,
    ) -> Outcome {
        loop {
            let Some(raw) = unless_halted(output, self.stream.next_raw(), &mut halt).await?? else {
                return output.flush();
            };
            let item: Item<Event> = serde_json::from_str(raw.get()).map_err(|_| unreadable())?;
            if let Some(cursor) = item.cursor().and_then(|cursor| cursor.parse().ok()) {
                self.params.after = Some(cursor);
            }
            match item {
                // Not the end of what is followed here.
                Item::End { data, .. } if data.reason == EndReason::DaemonStopping => {
                    self.end = conclude(data).err().and_then(|quit| match quit {
                        Quit::Failure(failure) => Some(*failure),
                        _ => None,
                    });
                    return output.flush();
                }
                Item::End { data, .. } => {
                    if output.json {
                        output.json(&raw)?;
                    }
                    return conclude(data);
                }
                _ if output.json => output.json_unflushed(&raw)?,
                Item::Snapshot { data, .. } | Item::Change { data, .. } => print(output, data)?,
                Item::Missed { data, .. } => output.aside(missed(data)),
            }
        }
    }

    /// Waits for a daemon at the same place and goes on behind the last event seen.
    ///
    /// # Errors
    /// [`Kind::Stopping`] where the daemon was stopped on purpose; the new daemon's refusal; how
    /// to end when nobody wants more.
    pub(crate) async fn resume(
        self,
        output: &mut Output,
        origin: &Origin,
        mut halt: impl Future<Output = Halt> + Unpin,
    ) -> Result<Feed, Quit> {
        let (params, end) = (self.params, self.end);
        drop(self.stream);
        let mut wait = PACE.0;
        let mut told = false;
        loop {
            let attempt = async {
                let daemon = origin.reach.daemon(Autostart::Never).await?;
                Feed::open(daemon, params.clone()).await
            };
            match unless_halted(output, attempt, &mut halt).await? {
                Ok(feed) => {
                    if told {
                        output.note("a daemon answers again");
                    }
                    return Ok(feed);
                }
                Err(failure) if !is_absence(&failure) => return Err(failure.into()),
                Err(_) => {}
            }
            if origin.stopped.exists() {
                let stopped = Failure::new(Kind::Stopping, "the daemon was stopped")
                    .hint(Hint::run("start it", ["llamactl", "daemon", "start"]));
                return Err(end.unwrap_or(stopped).into());
            }
            if !std::mem::replace(&mut told, true) {
                output.note("the daemon went away; waiting for the next one");
            }
            unless_halted(output, sleep(wait), &mut halt).await?;
            wait = (wait * 2).min(PACE.1);
        }
    }
}

/// Whether the failure says no more than that there is no daemon now.
fn is_absence(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::DaemonUnreachable | Kind::Stopping | Kind::TooManyConnections)
}

fn unreadable() -> Failure {
    Failure::new(Kind::Internal, "an event could not be read").hint(versions_differ())
}
