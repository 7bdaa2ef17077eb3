//! The task that owns one server's life.
//!
//! ```text
//!   commands ─────╮
//!   orders ───────┤                        ╭▶ registry, arbiter, process, timer, jobs
//!   the process ──┼─▶ Event ─▶ happen ─────┤      (hands.rs, jobs.rs)
//!   jobs ─────────┤         drive, perform ╰▶ status, published by `watch`
//!   timer ────────╯
//! ```
//!
//! It decides nothing: it turns what happens into events and lends the executor its hands. Only this
//! task makes or signals the process.

mod hands;
mod jobs;

pub use hands::Accepted;

use super::Context;
use super::core::driver::{Beginning, Checked, Event, RequestId, State};
use super::core::execute::happen;
use super::core::machine::RunId;
use super::observe::Observation;
use super::plan::Kept;
use crate::arbiter::Orders;
use crate::failpoint;
use hands::{Done, Live, Replies, TaskHands};
use llamactl_protocol::model::Model;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::Server;
use llamactl_protocol::{Actor, Failure};
use std::future::pending;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Where an answer is waited for.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// Something a server's task is asked to do, or told.
#[derive(Debug)]
pub(super) enum Command {
    /// Run, with these settings over the model's own.
    Start { overrides: Settings, by: Actor, planned: Planned, reply: Reply<Accepted> },
    /// Stop and run again.
    Restart { overrides: Settings, by: Actor, planned: Planned, reply: Reply<Accepted> },
    /// Stop.
    Stop { by: Actor, reply: Reply<Accepted> },
    /// What the driver says a run's process holds on GPUs.
    GpuMemory { run: RunId, bytes: Option<u64> },
    /// Take the model out of the registry, if it has no process, and end.
    Remove { by: Actor, reply: Reply<Arc<Model>> },
    /// The daemon stops: stop the process, leave what is desired as it is. Answered when the stop
    /// has begun.
    Shutdown { by: Actor, reply: oneshot::Sender<()> },
    /// The records were changed beside it: begin anew. Answered when that is done.
    Recover { reply: oneshot::Sender<()> },
}

/// Whether a start is possible; `None` where nobody had to look.
pub(super) type Planned = Option<Result<(), Failure>>;

/// The task's own state.
pub(super) struct ServerTask {
    state: State,
    hands: TaskHands,
    commands: mpsc::Receiver<Command>,
    orders: watch::Receiver<Orders>,
    /// The model and the defaults as they were changed since it began.
    model: watch::Receiver<Arc<Model>>,
    defaults: watch::Receiver<Arc<Settings>>,
    results: mpsc::UnboundedReceiver<Done>,
    /// Told once the task has looked whether a process is there.
    recovered: watch::Sender<bool>,
}

impl ServerTask {
    /// Prepares the task of a model's server; `published` is what everybody watches. `state` is
    /// what is shown until it has looked.
    pub(super) fn new(
        context: Arc<Context>,
        state: State,
        published: watch::Sender<Server>,
        commands: mpsc::Receiver<Command>,
        model: watch::Receiver<Arc<Model>>,
        kept: Arc<Kept>,
        recovered: watch::Sender<bool>,
    ) -> ServerTask {
        let (jobs, results) = mpsc::unbounded_channel();
        let orders = context.arbiter.orders(state.model.id);
        let defaults = context.defaults.subscribe();
        let hands = TaskHands::new(context, state.model.id, published, kept, jobs);
        ServerTask { state, hands, commands, orders, model, defaults, results, recovered }
    }

    /// Looks after the server until the model is removed or the daemon leaves.
    pub(super) async fn run(mut self, replace: bool) {
        let abandon = self.hands.context.abandon.clone();
        if !self.begin(replace).await {
            return;
        }
        let _ = self.recovered.send(true);
        while !self.hands.retired {
            let event = tokio::select! {
                () = abandon.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(command) => match self.event_of(command) {
                        Ok(event) => event,
                        Err(Recover(reply)) => {
                            if !self.begin(false).await {
                                return;
                            }
                            let _ = reply.send(());
                            continue;
                        }
                    },
                    None => return,
                },
                changed = self.orders.changed() => match changed {
                    Ok(()) => Event::Orders(self.orders.borrow_and_update().clone()),
                    Err(_) => return,
                },
                Ok(()) = self.model.changed() => {
                    Event::Model(Arc::clone(&self.model.borrow_and_update()))
                }
                Ok(()) = self.defaults.changed() => {
                    Event::Defaults(Arc::clone(&self.defaults.borrow_and_update()))
                }
                Some(Done { event, ready }) = self.results.recv() => {
                    self.hands.take_ready(ready);
                    event
                }
                sign = sign_of(self.hands.live.as_mut()) => sign,
                () = timeout(self.hands.timer) => {
                    self.hands.timer = None;
                    Event::Timer
                }
            };
            let was_prepared = matches!(event, Event::Prepared(_));
            happen(&mut self.state, &mut self.hands, event).await;
            if was_prepared {
                // What came of it is a process, or it was overtaken.
                self.hands.take_ready(None);
            }
        }
    }

    /// Goes on where the last daemon was cut off. False when the model is gone.
    async fn begin(&mut self, replace: bool) -> bool {
        failpoint::hit("begin");
        let context = Arc::clone(&self.hands.context);
        let model_id = self.state.model.id;
        let (written, last) = match context.written(model_id).await {
            Ok(Some(written)) => written,
            Ok(None) => return false,
            Err(failure) => {
                // Shown as it was when the task was made; what is asked of it is told why not.
                tracing::error!(model_id, %failure, "a server's records cannot be read");
                return true;
            }
        };
        let process = match &last {
            Some(run) if run.ended_at_ms.is_none() => context.find(run).await,
            _ => None,
        };
        let beginning = Beginning {
            found: process.as_ref().and_then(|process| u32::try_from(process.id().pid).ok()),
            booted_at_ms: Context::booted_at_ms(&written),
            replace,
            written,
        };
        self.hands.found = process.zip(last);
        happen(&mut self.state, &mut self.hands, Event::Begin(Box::new(beginning))).await;
        true
    }

    fn event_of(&mut self, command: Command) -> Result<Event, Recover> {
        failpoint::hit("command");
        let hands = &mut self.hands;
        Ok(match command {
            Command::Start { overrides, by, planned, reply } => {
                let (request, checked) = start(hands, planned, reply);
                Event::Start { request, overrides, by, checked }
            }
            Command::Restart { overrides, by, planned, reply } => {
                let (request, checked) = start(hands, planned, reply);
                Event::Restart { request, overrides, by, checked }
            }
            Command::Stop { by, reply } => {
                Event::Stop { request: hands.expect(Replies::Accepted(reply)), by }
            }
            Command::GpuMemory { run, bytes } => Event::GpuMemory { run, bytes },
            Command::Remove { by, reply } => {
                Event::Remove { request: hands.expect(Replies::Removed(reply)), by }
            }
            Command::Shutdown { by, reply } => {
                Event::Shutdown { request: hands.expect(Replies::Begun(reply)), by }
            }
            Command::Recover { reply } => return Err(Recover(reply)),
        })
    }
}

/// What is no event: the task is to begin anew, and to answer then.
struct Recover(oneshot::Sender<()>);

fn start(hands: &mut TaskHands, planned: Planned, reply: Reply<Accepted>) -> (RequestId, Checked) {
    let request = hands.expect(Replies::Accepted(reply));
    let checked = match planned {
        None => Checked::NotNeeded,
        Some(Ok(())) => Checked::Fits,
        Some(Err(failure)) => Checked::Unfit(failure),
    };
    (request, checked)
}

/// Something that came from the process.
async fn sign_of(live: Option<&mut Live>) -> Event {
    let Some(live) = live else { return pending().await };
    tokio::select! {
        // An end is an end: what was seen before it no longer matters.
        biased;
        () = live.process.exited() => Event::Exited,
        seen = live.observers.seen.recv() => match seen {
            Some(seen) => event_of(seen),
            None => pending().await,
        },
    }
}

fn event_of(seen: Observation) -> Event {
    match seen {
        Observation::Health(seen) => Event::Health(seen),
        Observation::Looked { seen, look, process_state } => {
            Event::Looked { seen, look, process_state }
        }
        Observation::Announced => Event::Announced,
        Observation::Moved => Event::Moved,
        Observation::Busy(busy) => Event::Busy(busy),
        Observation::Progress { stage, ratio } => Event::Progress { stage, ratio },
        Observation::InForce(in_force) => Event::InForce(in_force),
    }
}

async fn timeout(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}
