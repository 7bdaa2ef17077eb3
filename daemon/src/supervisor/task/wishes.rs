//! What a server's task is asked to do, and how it answers.

use super::{ServerTask, new_run_id};
use crate::clock::now_ms;
use crate::failpoint;
use crate::store::registry::StoreError;
use crate::supervisor::core::machine::{Effect, Event, Phase, RunId};
use llamactl_protocol::model::Model;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::{Desired, DesiredState, Server};
use llamactl_protocol::{Actor, Failure, Hint, Kind};
use serde_json::json;
use tokio::sync::oneshot;

type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// Something a server's task is asked to do.
#[derive(Debug)]
pub(in crate::supervisor) enum Command {
    /// Run, with these settings over the model's own.
    Start { overrides: Settings, by: Actor, reply: Reply<Answer> },
    /// Stop.
    Stop { by: Actor, reply: Reply<Answer> },
    /// Stop and run again, with these settings over the model's own.
    Restart { overrides: Settings, by: Actor, reply: Reply<Answer> },
    /// The model was changed.
    Model(Box<Model>),
    /// The defaults for all models were changed.
    Defaults(Settings),
    /// What the driver says a run's process holds on GPUs.
    GpuMemory { run_id: RunId, bytes: Option<u64> },
    /// Take the model out of the registry, if it has no process, and end.
    Remove { by: Actor, reply: Reply<Model> },
    /// The daemon stops: stop the process, leave the wish as it is. Answered when the stop has
    /// begun.
    Shutdown { by: Actor, reply: oneshot::Sender<()> },
}

/// What came of a wish.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The run that carries it out.
    pub run_id: Option<RunId>,
    /// Whether anything is done because of it.
    pub changed: bool,
    /// Whether the wish is on disk.
    pub durable: bool,
    /// The server as it is now.
    pub server: Server,
}

impl ServerTask {
    pub(super) async fn obey(&mut self, command: Command) {
        failpoint::hit("command");
        match command {
            Command::Start { overrides, by, reply } => {
                let event = Event::Start(new_run_id());
                let outcome = self.wish(DesiredState::Running, overrides, by, event).await;
                self.answer(outcome, reply).await;
            }
            Command::Restart { overrides, by, reply } => {
                let event = Event::Restart(new_run_id());
                let outcome = self.wish(DesiredState::Running, overrides, by, event).await;
                self.answer(outcome, reply).await;
            }
            Command::Stop { by, reply } => {
                let outcome =
                    self.wish(DesiredState::Stopped, Settings::new(), by, Event::Stop).await;
                self.answer(outcome, reply).await;
            }
            Command::Model(model) => {
                // Two changes at once may tell of themselves in the wrong order.
                if model.revision >= self.model.revision {
                    self.model = *model;
                    if !self.life.phase.rests() {
                        self.context.admission().take(self.model.id, &self.model.name);
                    }
                    self.publish();
                }
            }
            Command::Defaults(defaults) => {
                self.defaults = defaults;
                self.publish();
            }
            Command::GpuMemory { run_id, bytes } => self.weigh(&run_id, bytes).await,
            Command::Remove { by, reply } => {
                let removed = if self.life.phase.rests() {
                    let removed = self.context.registry.remove_model(self.model.id, by).await;
                    removed.map_err(Failure::from)
                } else {
                    Err(self.is_running())
                };
                self.retired = removed.is_ok();
                let _ = reply.send(removed);
            }
            Command::Shutdown { by, reply } => {
                self.by = by;
                self.happen(Event::Shutdown.into()).await;
                let _ = reply.send(());
            }
        }
    }

    /// Whether the run that is there, or will be, has these settings over the model's own: a start
    /// that asks for none takes any.
    fn runs_with(&self, overrides: &Settings) -> bool {
        overrides.is_empty() || self.overrides == *overrides
    }

    fn runs_otherwise(&self) -> Failure {
        let name = &self.model.name;
        Failure::new(Kind::ModelRunning, format!("{name} runs already, with other settings")).hint(
            Hint::run("start it anew with these", ["llamactl", "restart", name, "--set", "…"]),
        )
    }

    fn is_running(&self) -> Failure {
        let state = self.life.phase.state().as_str();
        Failure::new(Kind::ModelRunning, format!("the server of {} is {state}", self.model.name))
            .hint(Hint::run("stop it first", ["llamactl", "stop", &self.model.name]))
    }

    /// A start needs a place among those that run, if their number is bounded.
    fn reserve(&self) -> Result<(), Failure> {
        let taken = self.context.admission().reserve(self.model.id, &self.model.name);
        taken.map_err(|running| {
            let (count, names) = (running.len(), running.join(", "));
            let message = match count {
                0 => "the daemon is told to run no server".to_owned(),
                1 => format!("{names} runs, and max_running allows one"),
                _ => format!("{names} run, and max_running allows {count}"),
            };
            Failure::new(Kind::TooManyRunning, message)
                .hint("stop one of them, or raise max_running in the daemon's configuration")
                .details(json!({ "running": running }))
        })
    }

    /// Stores a wish and takes the step it leads to; the effects are the caller's to carry out
    /// after it has answered.
    async fn wish(
        &mut self,
        state: DesiredState,
        overrides: Settings,
        by: Actor,
        event: Event,
    ) -> Result<(Answer, Phase, Vec<Effect>), Failure> {
        let renews = matches!(event, Event::Restart(_));
        let starts = renews || matches!(event, Event::Start(_));
        let stopping = || Failure::new(Kind::Stopping, "the daemon is stopping");
        // A failure that policy is about to try again is started at once when somebody asks.
        let will_make_one = renews
            || self.life.phase.wanted_run().is_none()
            || matches!(self.life.phase, Phase::Backoff { .. });
        if starts {
            if self.context.stopping.is_cancelled() {
                return Err(stopping());
            }
            // What cannot be started at all is refused before anything is written. A server that
            // runs already needs no plan.
            if will_make_one {
                let plan = self.context.plan(&self.model, overrides.clone()).await?;
                self.context.key_of(plan.layers.effective()).await?;
                self.reserve()?;
            } else if !self.runs_with(&overrides) {
                return Err(self.runs_otherwise());
            }
        }
        let kept = if starts && !will_make_one { self.overrides.clone() } else { overrides };
        // The process that is there is not what is wanted, though a daemon after us finds it. Where
        // there is none, the one to come fulfils the wish.
        let phase = &self.life.phase;
        let renew = starts && phase.run().is_some() && (renews || phase.rung().is_some());
        let (durable, desired) = self.store_wish(state, by.clone(), renew, kept.clone()).await?;
        if starts && self.context.stopping.is_cancelled() {
            self.release_if_at_rest();
            return Err(stopping());
        }
        self.server.desired = Some(desired);
        self.overrides = kept;
        let before = self.life.phase.clone();
        let by_before = std::mem::replace(&mut self.by, by);
        let effects = self.step(event);
        let changed = before != self.life.phase;
        if !changed {
            self.by = by_before;
        }
        self.publish();
        let run_id = match state {
            DesiredState::Stopped => self.life.phase.run().cloned(),
            DesiredState::Running => self.life.phase.wanted_run().cloned(),
        };
        let answer = Answer { run_id, changed, durable, server: self.server.clone() };
        Ok((answer, before, effects))
    }

    async fn store_wish(
        &self,
        state: DesiredState,
        by: Actor,
        renew: bool,
        overrides: Settings,
    ) -> Result<(bool, Desired), Failure> {
        let registry = &self.context.registry;
        match registry.put_desired(self.model.id, state, by.clone(), renew, overrides).await {
            Ok(desired) => Ok((true, desired)),
            // A stop goes on although it cannot be written: a full disk must not keep a server
            // running that somebody wants gone.
            Err(error)
                if state == DesiredState::Stopped
                    && !matches!(error, StoreError::ModelNotFound(_)) =>
            {
                tracing::error!(model = self.model.name, %error, "a stop could not be written");
                Ok((false, Desired { state, by, at_ms: now_ms() }))
            }
            Err(error) => {
                self.release_if_at_rest();
                Err(error.into())
            }
        }
    }

    fn release_if_at_rest(&self) {
        if self.life.phase.rests() {
            self.context.admission().release(self.model.id);
            self.context.places.send_modify(|count| *count += 1);
        }
    }

    async fn answer(
        &mut self,
        outcome: Result<(Answer, Phase, Vec<Effect>), Failure>,
        reply: Reply<Answer>,
    ) {
        match outcome {
            Ok((answer, before, effects)) => {
                // The caller may have gone; what it wished for is stored and done all the same.
                let _ = reply.send(Ok(answer));
                let follows = self.carry_out(effects).await;
                self.tell_of_change(&before).await;
                if let Some(follows) = follows {
                    self.happen(follows).await;
                }
            }
            Err(failure) => {
                let _ = reply.send(Err(failure));
            }
        }
    }
}
