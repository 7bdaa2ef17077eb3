//! Where events come from: the daemon's streams, and the answers to what was asked of it.
//!
//! ```text
//!   server.follow, model.follow, metrics.follow ── for as long as the screen is there ─╮
//!   log.follow ── of the model that is selected ─────────────────────────┼─▶ Event
//!   server.list, metrics.query, server.start, … ── one answer each ──────╯
//! ```
//!
//! Streams outlast the daemon (`resume.rs`); a question that meets none is told as refused.

use super::history::History;
use super::state::{Event, Verb};
use crate::connection::Daemon;
use crate::exit::Quit;
use crate::follow::{conclude, gone, missed};
use crate::pages;
use crate::resume::{Feed, News, Origin, Resumable};
use futures_util::future::{FutureExt as _, LocalBoxFuture, ready};
use futures_util::stream::{
    self, FuturesUnordered, LocalBoxStream, SelectAll, StreamExt as _, select_all,
};
use llamactl_protocol::log::{LogFollow, LogFrame};
use llamactl_protocol::metrics::{Measured, MetricsFollow};
use llamactl_protocol::model::ModelFollow;
use llamactl_protocol::server::{ServerFollow, ServerRestart, ServerStart, ServerStop, ServerWhy};
use llamactl_protocol::stream::Item;
use llamactl_protocol::{Failure, Kind, Method};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// Lines of a log to begin with.
const LOG_LINES: u32 = 300;
/// A log is opened when nobody moved on for this long.
const PAUSE: Duration = Duration::from_millis(120);

/// What comes of a source: events, or that the screen has to end.
pub(crate) type Told = Result<Vec<Event>, Quit>;

/// All sources.
pub(crate) struct Sources {
    daemon: Rc<Daemon>,
    feeds: SelectAll<LocalBoxStream<'static, Told>>,
    log: Option<(i64, LocalBoxStream<'static, Told>)>,
    answers: FuturesUnordered<LocalBoxFuture<'static, Told>>,
}

impl Sources {
    /// Opens them.
    ///
    /// # Errors
    /// The daemon's.
    pub(crate) async fn open(daemon: &Daemon, now_ms: i64) -> Result<Sources, Failure> {
        let servers = Feed::open(daemon, ServerFollow::default()).await?;
        let models = match Feed::open(daemon, ModelFollow::default()).await {
            Ok(models) => Some(models),
            // An older daemon: what is added and removed is seen by whoever opens the screen anew.
            Err(failure) if failure.kind == Kind::UnknownMethod => None,
            Err(failure) => return Err(failure),
        };
        let samples = Feed::open(daemon, MetricsFollow::default()).await?;
        // Nothing starts a daemon that went away: the screen waits for it.
        let daemon = Rc::new(Origin::of(daemon).daemon().await?);
        let lists = models.is_none();
        let models = models.into_iter().map(|models| {
            events(models, |news| match news {
                News::Item(_, item) => told(item, |news| vec![Event::Models(news)]),
                News::Away | News::Resumed { .. } => Ok(Vec::new()),
            })
        });
        let feeds = [
            events(servers, |news| match news {
                News::Item(_, item) => told(item, |server| vec![Event::Server(Box::new(server))]),
                News::Away => Ok(vec![Event::Away(true)]),
                News::Resumed { .. } => Ok(vec![Event::Away(false)]),
            }),
            events(samples, |news| match news {
                News::Item(_, item) => told(item, |measured: Measured| {
                    vec![Event::Sample(measured.into_sample().map(Box::new))]
                }),
                News::Away => Ok(vec![Event::Sample(None)]),
                News::Resumed { .. } => Ok(Vec::new()),
            }),
        ];
        let feeds = select_all(feeds.into_iter().chain(models));
        let mut sources = Sources { daemon, feeds, log: None, answers: FuturesUnordered::new() };
        sources.look(now_ms);
        if lists {
            sources.list();
        }
        Ok(sources)
    }

    /// Asks for what was measured before.
    pub(crate) fn look(&mut self, now_ms: i64) {
        let question = History::question(now_ms);
        // What cannot be had is not drawn.
        self.call(question, |past| past.map(Event::Past).into_iter().collect());
    }

    /// Asks for all servers, those that are stopped too.
    pub(crate) fn list(&mut self) {
        let daemon = Rc::clone(&self.daemon);
        self.answers.push(Box::pin(async move {
            let servers = pages::servers(&daemon, true).await;
            Ok(servers.map(|list| Event::Servers(list.servers)).into_iter().collect())
        }));
    }

    /// Asks for a start, a stop, a restart.
    pub(crate) fn ask(&mut self, verb: Verb, model: String) {
        let name = model.clone().into();
        let done = move |answer: Result<_, Failure>| {
            vec![Event::Done(verb, model, answer.map(Box::new).map_err(Box::new))]
        };
        match verb {
            Verb::Start => self.call(ServerStart { model: name, ..ServerStart::default() }, done),
            Verb::Stop => self.call(ServerStop { model: name }, done),
            Verb::Restart => {
                self.call(ServerRestart { model: name, ..ServerRestart::default() }, done);
            }
        }
    }

    /// Asks why a server is as it is.
    pub(crate) fn why(&mut self, model: String) {
        self.call(ServerWhy { model: model.clone().into() }, |answer| {
            vec![Event::Why(model, answer.map(Box::new).map_err(Box::new))]
        });
    }

    fn call<M: Method + 'static>(
        &mut self,
        params: M,
        event: impl FnOnce(Result<M::Output, Failure>) -> Vec<Event> + 'static,
    ) {
        let daemon = Rc::clone(&self.daemon);
        self.answers.push(Box::pin(async move { Ok(event(daemon.call(&params).await)) }));
    }

    /// Reads the log of this model, and no other.
    pub(crate) fn follow_log(&mut self, wanted: Option<(i64, &str)>) {
        let now = self.log.as_ref().map(|(model_id, _)| *model_id);
        if now == wanted.map(|(model_id, _)| model_id) {
            return;
        }
        self.log = wanted.map(|(model_id, _)| {
            let daemon = Rc::clone(&self.daemon);
            let follow = LogFollow {
                // A name may be given to another model in this moment, an id never.
                model: model_id.to_string().into(),
                lines: Some(LOG_LINES),
                ..LogFollow::default()
            };
            let opened = async move {
                sleep(PAUSE).await;
                Feed::open(&daemon, follow).await
            };
            let log = opened.map(move |feed| match feed {
                Ok(feed) => {
                    feed.into_stream().map(move |news| Ok(of_log(model_id, news))).left_stream()
                }
                Err(failure) => {
                    let over = Event::LogOver(model_id, Box::new(failure));
                    stream::once(ready(Ok(vec![over]))).right_stream()
                }
            });
            // One that is over is asked no more.
            (model_id, log.flatten_stream().fuse().boxed_local())
        });
    }

    /// Reads the log anew.
    pub(crate) fn forget_log(&mut self) {
        self.log = None;
    }

    /// What comes next.
    pub(crate) async fn next(&mut self) -> Told {
        loop {
            let log = async {
                match &mut self.log {
                    Some((_, log)) => log.next().await,
                    None => None,
                }
            };
            tokio::select! {
                Some(told) = self.feeds.next() => return told,
                Some(told) = self.answers.next() => return told,
                Some(told) = log => return told,
                // Nothing more comes by itself.
                else => std::future::pending::<()>().await,
            }
        }
    }
}

/// A stream's news as events.
fn events<S: Resumable + 'static>(
    feed: Feed<S>,
    event: impl Fn(News<S::Item>) -> Told + 'static,
) -> LocalBoxStream<'static, Told> {
    feed.into_stream().map(move |news| event(news?)).boxed_local()
}

fn told<T>(item: Item<T>, event: impl FnOnce(T) -> Vec<Event>) -> Told {
    match item {
        Item::Snapshot { data, .. } | Item::Change { data, .. } => Ok(event(data)),
        Item::Missed { .. } => Ok(Vec::new()),
        Item::End { data, .. } => {
            conclude(data)?;
            Err(gone().into())
        }
    }
}

fn of_log(model_id: i64, news: Result<News<LogFrame>, Failure>) -> Vec<Event> {
    match news {
        Ok(News::Item(_, Item::Snapshot { data, .. } | Item::Change { data, .. })) => {
            vec![Event::Log(model_id, data)]
        }
        Ok(News::Item(_, Item::Missed { data, .. })) => {
            vec![Event::LogSaid(model_id, missed(data))]
        }
        Ok(News::Item(_, Item::End { .. }) | News::Away | News::Resumed { .. }) => Vec::new(),
        Err(failure) => vec![Event::LogOver(model_id, Box::new(failure))],
    }
}
