//! Following a stream across the end of the daemon.
//!
//! ```text
//!   Feed ── next ──▶ item
//!    ▲                │ the daemon ended
//!    ╰── connect again, `after` the last cursor seen
//! ```
//!
//! Where a stream has cursors they stay valid across daemons, so nothing is shown twice and nothing
//! is left out; where it has none, what lies between is told as a gap. A daemon that was stopped on purpose has left a mark: nobody waits for that one.

use crate::connection::{
    AtOnce, Autostart, Daemon, Place, Reach, Silence, Stream, Told, stopped_mark,
};
use crate::exit::Quit;
use crate::follow::conclude;
use crate::output::Output;
use crate::remote;
use futures_util::stream::{LocalBoxStream, unfold};
use llamactl_protocol::client::{Follow, versions_differ};
use llamactl_protocol::event::EventFollow;
use llamactl_protocol::log::LogFollow;
use llamactl_protocol::metrics::MetricsFollow;
use llamactl_protocol::model::ModelFollow;
use llamactl_protocol::server::ServerFollow;
use llamactl_protocol::stream::{EndReason, Item};
use llamactl_protocol::{Failure, Hint, Kind, Subscription};
use serde_json::value::RawValue;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// How long to wait before the first look for a new daemon, and at most before a later one.
const PACE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));
/// The same where each look is a login on another machine.
const PACE_THERE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// A stream that a later daemon can go on with.
pub(crate) trait Resumable: Subscription + Clone {
    /// Asks for what is behind this cursor.
    fn go_on_behind(&mut self, cursor: &str);
}

impl Resumable for EventFollow {
    fn go_on_behind(&mut self, cursor: &str) {
        self.after = cursor.parse().ok().or(self.after);
    }
}

/// The states of servers have no history: a new daemon tells how they are now.
impl Resumable for ServerFollow {
    fn go_on_behind(&mut self, _: &str) {}
}

impl Resumable for ModelFollow {
    fn go_on_behind(&mut self, cursor: &str) {
        self.after = Some(cursor.to_owned().into());
    }
}

impl Resumable for LogFollow {
    fn go_on_behind(&mut self, cursor: &str) {
        self.after = Some(cursor.into());
        self.lines = None;
    }
}

impl Resumable for MetricsFollow {
    /// Columns have a history; whole samples have none: what no daemon measured cannot be had.
    fn go_on_behind(&mut self, cursor: &str) {
        if !self.is_of_samples() {
            self.after = Some(cursor.to_owned().into());
        }
    }
}

/// Where the daemon is that is followed: a new one is waited for there and nowhere else.
#[derive(Clone)]
pub(crate) struct Origin {
    reach: Reach,
    place: Place,
}

impl Origin {
    /// Where this daemon is.
    pub(crate) fn of(daemon: &Daemon) -> Self {
        let place = daemon.place();
        let host = match &place {
            Place::Here(_) => None,
            Place::There(host, _) => Some(Rc::clone(host)),
        };
        let silence = Silence::usual(Told::Nobody);
        let socket = Some(place.socket().to_owned());
        Origin {
            reach: Reach { host, socket, no_autostart: true, silence, at_once: AtOnce::default() },
            place,
        }
    }

    /// The daemon that is there now. Nothing starts one, and nobody is told of waiting.
    ///
    /// # Errors
    /// That there is none.
    pub(crate) async fn daemon(&self) -> Result<Daemon, Failure> {
        self.reach.daemon(Autostart::Never).await
    }

    /// How soon, and at most how late, to look for it again.
    fn pace(&self) -> (Duration, Duration) {
        match self.place {
            Place::Here(_) => PACE,
            Place::There(..) => PACE_THERE,
        }
    }

    /// Whether the daemon that could not be reached, as this failure says, was stopped on purpose.
    fn was_stopped(&self, unreached: &Failure) -> bool {
        match &self.place {
            Place::Here(socket) => stopped_mark(socket).exists(),
            Place::There(..) => remote::was_stopped(unreached),
        }
    }
}

/// What comes of a stream that outlasts its daemon.
pub(crate) enum News<T> {
    /// An item: as it came, and read.
    Item(Box<RawValue>, Item<T>),
    /// The daemon went away, and none has taken its place yet.
    Away,
    /// A daemon took its place.
    Resumed {
        /// [`News::Away`] was said before.
        was_away: bool,
    },
}

impl<T> News<T> {
    /// Says where the daemon is; the item, if it is one.
    pub(crate) fn told(self, output: &Output) -> Option<(Box<RawValue>, Item<T>)> {
        match self {
            News::Item(raw, item) => return Some((raw, item)),
            News::Away => output.note("the daemon went away; waiting for the next one"),
            News::Resumed { was_away: true } => output.note("a daemon answers again"),
            News::Resumed { was_away: false } => {}
        }
        None
    }
}

/// A stream being followed.
pub(crate) struct Feed<S: Subscription> {
    /// `None` while there is no daemon.
    stream: Option<Follow<S, Stream>>,
    origin: Origin,
    /// What to ask a new daemon for.
    params: S,
    /// How the last stream ended, if the daemon said so.
    end: Option<Failure>,
    wait: Duration,
    is_away: bool,
}

impl<S: Resumable> Feed<S> {
    /// Begins to follow.
    ///
    /// # Errors
    /// The daemon's.
    pub(crate) async fn open(daemon: &Daemon, params: S) -> Result<Self, Failure> {
        let stream = Some(daemon.follow(&params).await?);
        let origin = Origin::of(daemon);
        let wait = origin.pace().0;
        Ok(Feed { stream, origin, params, end: None, wait, is_away: false })
    }

    /// What would be asked for to go on from here.
    pub(crate) fn into_params(self) -> S {
        self.params
    }

    /// What comes next. Items end with [`Item::End`].
    ///
    /// # Errors
    /// The stream's failure; [`Kind::Stopping`] where the daemon was stopped on purpose; a new
    /// daemon's refusal.
    pub(crate) async fn next(&mut self) -> Result<News<S::Item>, Failure> {
        loop {
            if let Some(stream) = &mut self.stream {
                match stream.next_raw().await {
                    Ok(Some(raw)) => {
                        let item: Item<S::Item> =
                            serde_json::from_str(raw.get()).map_err(|_| unreadable::<S>())?;
                        if let Some(cursor) = item.cursor() {
                            self.params.go_on_behind(cursor);
                        }
                        // Not the end of what is followed here.
                        match item {
                            Item::End { data, .. } if data.reason == EndReason::DaemonStopping => {
                                self.end = conclude(data).err().and_then(|quit| match quit {
                                    Quit::Failure(failure) => Some(*failure),
                                    _ => None,
                                });
                            }
                            item => return Ok(News::Item(raw, item)),
                        }
                    }
                    Ok(None) => {}
                    Err(failure) if is_absence(&failure) => {}
                    Err(failure) => return Err(failure),
                }
                self.stream = None;
            }
            let attempt = async {
                let daemon = self.origin.daemon().await?;
                daemon.follow(&self.params).await
            };
            let unreached = match attempt.await {
                Ok(stream) => {
                    (self.stream, self.wait) = (Some(stream), self.origin.pace().0);
                    let was_away = std::mem::take(&mut self.is_away);
                    return Ok(News::Resumed { was_away });
                }
                Err(failure) => failure,
            };
            if !is_absence(&unreached) || remote::is_lasting(&unreached) {
                return Err(unreached);
            }
            if self.origin.was_stopped(&unreached) {
                let stopped = Failure::new(Kind::Stopping, "the daemon was stopped")
                    .hint(Hint::run("start it", ["llamactl", "daemon", "start"]));
                return Err(self.end.take().unwrap_or(stopped));
            }
            if !std::mem::replace(&mut self.is_away, true) {
                return Ok(News::Away);
            }
            sleep(self.wait).await;
            self.wait = (self.wait * 2).min(self.origin.pace().1);
        }
    }

    /// The same as a stream, up to its end or failure.
    pub(crate) fn into_stream(self) -> LocalBoxStream<'static, Result<News<S::Item>, Failure>> {
        Box::pin(unfold(Some(self), |feed| async {
            let mut feed = feed?;
            let news = feed.next().await;
            let is_over = matches!(news, Err(_) | Ok(News::Item(_, Item::End { .. })));
            Some((news, (!is_over).then_some(feed)))
        }))
    }
}

/// Whether the failure says no more than that there is no daemon now.
fn is_absence(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::DaemonUnreachable | Kind::Stopping | Kind::TooManyConnections)
}

fn unreadable<S: Subscription>() -> Failure {
    Failure::new(Kind::Internal, format!("an item of {} could not be read", S::NAME))
        .hint(versions_differ())
}
